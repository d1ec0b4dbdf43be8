"""Fifty photos are forgotten in a store such as a month leaves: three models, an index, a rejected, an approved and an
undone run. Then all that comes after goes on as ever, and they stay away."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spark_apps import approve, catalog, contract, duplicates, erase, extract, index, ingest, maintain, undo, validate
from spark_apps.contract import ExitCode
from spark_apps.search import open_index

pytestmark = [pytest.mark.slow_faults, pytest.mark.timeout(3600)]

DAYS = [f"2026-10-{day:02}" for day in range(1, 31)]
REJECTED, UNDONE, APPROVED, MOVED = DAYS[3], DAYS[8], DAYS[12], DAYS[20]
MODELS = ("one", "two", "three")
PHOTOS, DIM, WANTED = 12, 8, 50
EXTRACTOR = """
import hashlib
import numpy as np
from spark_apps.extractors import Extractor

class Bytes(Extractor):
    dim = {dim}

    def extract(self, items):
        seeds = [int.from_bytes(hashlib.sha256(b"{name}" + item).digest()[:8], "big") for item in items]
        return np.stack([np.random.default_rng(seed).normal(size=self.dim) for seed in seeds]).astype(np.float32)

class {name}(Bytes):
    name = "{name}"
"""


class Month:
    """A store, its source, and the jobs on both, as their commands, but in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.landing, self._patch = str(folder / "store"), folder / "landing", monkeypatch
        self.extractors = {}
        for name in MODELS:
            module = folder / f"{name}.py"
            module.write_text(EXTRACTOR.format(name=name, dim=DIM))
            self.extractors[name] = f"{module}:{name}"

    def job(self, command: ModuleType, settings: contract.JobSettings, expected: ExitCode = ExitCode.DONE) -> None:
        self._patch.setattr(sys, "argv", ["job", *contract.to_args(settings)])
        assert command.main() == expected, f"{command.__name__} {settings}"

    def lands(self, day: str, name: str, seed: int) -> Path:
        """A photo that is like no other."""
        (self.landing / day).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        place = self.landing / day / f"{name} ü.png"
        Image.fromarray(pixels).save(place)
        return place

    def run(self, day: str, run_id: str, expected: ExitCode = ExitCode.DONE, **limits: Any) -> None:
        """The stages of a day; `expected` of each validate."""
        known = {"store": self.store, "partition": day, "run_id": run_id, "dag_id": "month"}
        limits = {"max_failed_fraction": 0.9, "max_drift": 1, "recheck": 1, **limits}
        for name in MODELS:
            given = {"extractor": self.extractors[name], "branch": name, **known}
            self.job(ingest, contract.IngestSettings(source=str(self.landing / "{partition}"), **given))
            self.job(extract, contract.ExtractSettings(**given))
            self.job(validate, contract.ValidateSettings(**limits, branch=name, **known), expected)

    def follow(self) -> None:
        """What readers search, and the groups of duplicates."""
        for name in MODELS:
            given = {"store": self.store, "model": name, "run_id": "follow"}
            self.job(index, contract.IndexSettings(ann_rows=256, **given))
            self.job(duplicates, contract.DuplicatesSettings(**given))

    def erase(self, expected: ExitCode = ExitCode.DONE, **options: Any) -> None:
        self.job(erase, contract.EraseSettings(store=self.store, reason="asked for", **options), expected)

    def shown(self) -> dict[tuple[str, str], set[str]]:
        """(partition, model) → the images that readers see."""
        return {
            (item.partition, item.model): {
                *catalog.vectors(self.store, item.partition, item.model)["image_id"].to_pylist()
            }
            for item in catalog.partitions(self.store)
        }

    def places_with(self, needles: set[bytes]) -> dict[str, bytes]:
        """Files in which one of them is: by their bytes, and, of Parquet files, by what is read from them."""
        found = {}
        for path in (one for one in Path(self.store).rglob("*") if one.is_file()):
            content = path.read_bytes()
            if path.suffix == ".parquet":
                table = pq.read_table(path, partitioning=None)
                text = table.drop_columns([name for name in ("content", "features") if name in table.column_names])
                content += repr(text.to_pylist()).encode()
                if "content" in table.column_names:
                    hashes = [hashlib.sha256(one or b"").hexdigest() for one in table["content"].to_pylist()]
                    content += " ".join(hashes).encode()
            if hit := next((one for one in needles if one in content), None):
                found[str(path.relative_to(self.store))] = hit
        return found


def ids(paths: list[Path]) -> set[str]:
    return {hashlib.sha256(content).hexdigest() for path in paths if (content := path.read_bytes())}


def needles(paths: list[Path]) -> set[bytes]:
    """All that tells of a photo: its bytes, their hash, its name as a path and as a URI, as JSON writes it too."""
    texts = {text for path in paths for text in (str(path), path.as_uri())}
    escaped = {text.encode("ascii", "backslashreplace") for text in texts}
    return (
        {path.read_bytes() or str(path).encode() for path in paths}
        | {one.encode() for one in texts | ids(paths)}
        | escaped
    )


def test_fifty_photos_are_forgotten_in_a_month_of_three_models_and_stay_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = Month(tmp_path, monkeypatch)
    store, photos = month.store, {}
    for place, day in enumerate(DAYS):
        photos[day] = [month.lands(day, f"photo {number}", 100 * place + number) for number in range(PHOTOS)]
        (month.landing / day / "broken ü.jpg").touch()
    copy = month.landing / DAYS[1] / "copy ü.png"
    copy.write_bytes(photos[DAYS[0]][3].read_bytes())
    for day in DAYS:
        month.run(day, "nightly")
    late = {}
    for place, day in enumerate((REJECTED, UNDONE, APPROVED)):
        late[day] = month.lands(day, "late", 9000 + place)
        decided = day != UNDONE
        limits = {"max_failed_fraction": 0.0} if decided else {}
        month.run(day, "second", ExitCode.QUALITY_FAILED if decided else ExitCode.DONE, **limits)
    for name in MODELS:
        month.job(undo, contract.UndoSettings(store=store, partition=UNDONE, model=name))
        known = {"store": store, "partition": APPROVED, "run_id": "second", "dag_id": "month", "branch": name}
        said = {"checks": "failed_fraction", "approved_by": "A. Person", "reason": "the disk"}
        month.job(approve, contract.ApproveSettings(**said, **known))
    month.follow()
    before = month.shown()
    assert len(before) == len(DAYS) * len(MODELS)

    # Half of them by their hash, half by their names; one lies under two names, three were never published for long.
    by_hash = [photos[day][3] for day in DAYS[:24]]
    by_name = [*(photos[day][7] for day in DAYS[:22]), *late.values(), month.landing / DAYS[5] / "broken ü.jpg"]
    wanted = [*by_hash, *by_name]
    assert len(wanted) == WANTED
    listed = tmp_path / "photos.txt"
    listed.write_text(
        "\n".join([*sorted(ids(by_hash)), *map(str, by_name[::2]), *(path.as_uri() for path in by_name[1::2])])
    )
    told = needles([*wanted, copy])
    assert {place.split("/")[0] for place in month.places_with(told)} >= {"features", "images", "quarantine", "runs"}
    month.erase(ExitCode.QUALITY_FAILED, list=str(listed), verify=True)
    month.erase(list=str(listed))
    month.erase(list=str(listed), verify=True)
    assert month.places_with(told) == {}
    gone = ids([*wanted])
    assert month.shown() == {place: images - gone for place, images in before.items()}

    month.job(maintain, contract.MaintainSettings(store=store))
    for name in MODELS:
        month.job(undo, contract.UndoSettings(store=store, partition=APPROVED, model=name))
    after = month.shown()
    assert after == {place: images - gone for place, images in before.items()}, (
        "which held the same but for the late one"
    )
    photos[MOVED][3].rename(month.landing / MOVED / "by another name.png")  # its name is new, its bytes are not
    for day in DAYS:
        month.run(day, "backfill")
    month.follow()
    backfilled = month.shown()
    assert backfilled == {place: images - gone for place, images in before.items()}
    for day in DAYS:
        codes = catalog.quarantine(store, day)["error_code"].to_pylist()
        expected = sum(path.parent.name == day for path in [*wanted, copy])
        assert codes.count("erased") == expected, day
    month.erase(list=str(listed), verify=True)
    assert month.places_with(told | {b"by another name", b"by%20another%20name"}) == {}

    for name in MODELS:
        found = open_index(store, name)
        assert found.behind() == {} and found.rows == sum(
            len(images) for (_, model), images in backfilled.items() if model == name
        )
        assert found.lookup(ids([photos[DAYS[0]][3]]).pop()) is None
        (kept,) = ids([photos[DAYS[0]][4]])
        known_vector = found.lookup(kept, DAYS[0])
        assert known_vector and found.nearest(known_vector[1], 1)[0].image_id == kept
    month.job(maintain, contract.MaintainSettings(store=store))
    month.erase(list=str(listed), verify=True)
