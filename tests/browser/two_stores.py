"""Runs of three Dags in two stores, written into a real Airflow's database and the stores as the tasks leave them.

    python -m tests.browser.two_stores <store of the north> <store of the south>

in the environment of that Airflow: its home and its database.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image
from skimage import data

from spark_apps import contract
from spark_apps.contract import BadSetting, StagedFile
from spark_apps.tables import schemas
from tests.airflow.web import Run, report
from tests.shelf import MODEL, Shelf, image_id

DAYS = ("2026-11-18", "2026-11-19", "2026-11-20")
PHOTOS = {"north": ("astronaut", "chelsea", "coffee", "rocket"), "south": ("camera", "coins", "moon", "page", "brick")}
DAGS = {"north": "image_features", "south": "south_cameras"}
BOTH, BOTH_RUN = "both_cameras", "scheduled__2026-11-20T00:00:00+00:00"
OTHER_MODEL = "convnext_tiny-default-fp32"


class PhotoShelf(Shelf):
    """A store with real photos."""

    def images(self, partition: str, run: Any, files: Mapping[str, str], **writer: Any) -> list[StagedFile]:
        """Stages `files`, uri → name of a photo."""
        rows = [{"uri": uri, "image_id": image_id(name), "content": _jpeg(name)} for uri, name in files.items()]
        return self._stage(schemas.IMAGES, partition, run, rows, **writer)


def _jpeg(name: str) -> bytes:
    target = io.BytesIO()
    Image.fromarray(getattr(data, name)()).convert("RGB").resize((300, 300)).save(target, "JPEG")
    return target.getvalue()


def _publish(run: Run, names: tuple[str, ...], model: str = MODEL) -> None:
    """What a run leaves that published these photos."""
    files = {f"file:///photos/day/{name}.jpg": name for name in names}
    PhotoShelf(run.store).publish(run.partition, run.key, files, model=model)
    counts = {"listed": len(names) + 1, "featured": len(names), "quarantined": 1, "computed": len(names), "reused": 0}
    moved = [{"image_id": image_id(names[0]), "uri": next(iter(files)), "moved": 0.25}]
    drift = {**report(run, "published")["drift"], "moved": moved}
    run.reports(model={"key": model, "fingerprint": "fingerprint-1"}, counts=counts, drift=drift)


def main(north: str, south: str) -> None:
    """Fills both stores and the database."""
    stores = {"north": north, "south": south}
    began = datetime.now(UTC) - timedelta(minutes=30)
    for name, store in stores.items():
        for day in DAYS:
            run = Run(store, day, f"scheduled__{day}T00:00:00+00:00", dag_id=DAGS[name], began=began)
            _publish(run, PHOTOS[name])
            run.ended = datetime.now(UTC)
            run.enter()
            for stage in contract.STAGES:
                run.tells(stage, stage, model=MODEL if stage == "extract" else "")
    for index, (name, store) in enumerate(stores.items()):
        state = "failed"
        part = Run(store, DAYS[-1], BOTH_RUN, state, began, dag_id=BOTH, map_index=index)
        if name == "north":
            _publish(part, PHOTOS[name], OTHER_MODEL)
            part.ended = datetime.now(UTC)
            part.enter()
        else:
            part.finishes("ingest").fails("extract", BadSetting("bad_layer", "resnet18 has no layer layer9."))
        for stage in ("ingest", "extract"):
            part.tells(stage, stage, model=OTHER_MODEL if stage == "extract" else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
