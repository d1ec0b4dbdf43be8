"""A store that tests fill without Spark and without a model: staged rows, published as the three jobs do it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spark_apps import contract
from spark_apps.contract import BadFile, StagedFile
from spark_apps.tables import commits, schemas, staging

Run = str | contract.RunKey
"""A run id of the command line, or a run of a Dag."""
MODEL, FINGERPRINT = "resnet18-random_0-fp32", "fingerprint-1"


def image_id(name: str) -> str:
    """The sha256 of the content that `Shelf` gives the image `name`."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True)
class Shelf:
    """Stages rows in a store and publishes them, as the three jobs do. The content of the image `x` is b"x"."""

    store: str

    def images(self, partition: str, run: Run, files: Mapping[str, str], **writer: Any) -> list[StagedFile]:
        """Stages `files`, uri → image."""
        return self._stage(
            schemas.IMAGES,
            partition,
            run,
            [{"uri": uri, "image_id": image_id(name), "content": name.encode()} for uri, name in files.items()],
            **writer,
        )

    def features(
        self,
        partition: str,
        run: Run,
        files: Mapping[str, str],
        vectors: Mapping[str, Sequence[float]] | None = None,
        fingerprint: str = FINGERPRINT,
        dark: Collection[str] = (),
        **writer: Any,
    ) -> list[StagedFile]:
        """Stages a vector for each of `files`, uri → image; `vectors` by uri, made up where there is none.

        The photos are good ones, but for those of the uris `dark`.
        """
        return self._stage(
            schemas.FEATURES,
            partition,
            run,
            [
                {
                    "uri": uri,
                    "image_id": image_id(name),
                    "features": (vectors or {}).get(uri, vector(name)),
                    "model_fingerprint": fingerprint,
                    **{"sharpness": 500.0, "brightness": 9.0 if uri in dark else 90.0, "contrast": 50.0},
                }
                for uri, name in files.items()
            ],
            **writer,
        )

    def quarantine(self, partition: str, run: Run, uris: Iterable[str]) -> list[StagedFile]:
        """Stages a row for each of `uris`."""
        bad = BadFile("empty", "The file has no bytes.")
        rows = [staging.quarantine_row({"uri": uri, "image_id": None}, "ingest", bad, 0) for uri in uris]
        return self._stage(schemas.QUARANTINE, partition, run, rows)

    def publication(
        self,
        partition: str,
        run: Run,
        files: Mapping[str, str],
        *,
        model: str = MODEL,
        quarantined: Iterable[str] = (),
        **features: Any,
    ) -> commits.Replacement:
        """A run that has staged `files`, uri → image, and can be committed."""
        staged = {
            "images": self.images(partition, run, files),
            "quarantine": self.quarantine(partition, run, quarantined),
            "features": self.features(partition, run, files, **features),
        }
        return commits.Replacement(
            self.store, partition, model, contract.run_key(run).run_id, staged, {"featured": str(len(files))}
        )

    def publish(self, partition: str, run: Run, files: Mapping[str, str], **options: Any) -> dict[str, int]:
        """Stages and commits a run; the versions of the tables."""
        return self.publication(partition, run, files, **options).commit()

    def _stage(
        self, table: schemas.Table, partition: str, run: Run, rows: list[dict[str, Any]], **writer: Any
    ) -> list[StagedFile]:
        key = contract.run_key(run)
        settings = contract.ValidateSettings(store=self.store, partition=partition, **dataclasses.asdict(key))
        with staging.StagedWriter(self.store, table, staging.folder(settings), **writer) as target:
            for row in rows:
                target.add({**row, "run_id": key.run_id}, 100)
        return target.files


def vector(name: str) -> list[float]:
    """A made-up vector of the image `name`, four numbers long."""
    return [float(byte) for byte in hashlib.sha256(name.encode()).digest()[:4]]
