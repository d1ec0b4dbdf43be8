"""Days made by chance are planned as a plain account of the rules has them: in memory, and in temporary files."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from spark_apps.contract import ExtractSettings
from spark_apps.pipeline import plan, sorting
from spark_apps.pipeline.finished import Finished
from spark_apps.pipeline.plan import Plan
from spark_apps.pipeline.records import TaskRecord
from spark_apps.tables import data_files, schemas
from tests.shelf import FINGERPRINT, MODEL, Shelf, image_id

PER_GROUP = 3


@dataclass
class Made:
    """A day of `files`, uri → image; `before`: what is published, by partition; `tasks`: what each has done of it."""

    files: dict[str, str]
    before: dict[str, dict[str, str]]
    tasks: list[dict[str, str]]


def made(seed: int) -> Made:
    """Few images in many files, or many in few; tasks that count, and such that have too few, too many, or others'."""
    chance = random.Random(seed)
    images = [f"image {number}" for number in range(chance.choice((1, 5, 40, 150)))]
    files = {f"s3://b/{number:04}.jpg": chance.choice(images) for number in range(chance.choice((1, 30, 150)))}
    before = {
        day: {f"old {number}": chance.choice([*images, "gone", "other"]) for number in range(chance.randrange(1, 40))}
        for day in chance.sample(["d5", "d6", "d7", "d9"], chance.randrange(0, 4))
    }
    by_image = defaultdict(list)
    for uri, image in files.items():
        by_image[image].append(uri)
    tasks = []
    for _ in range(chance.choice((0, 0, 3, 12))):
        own = {
            uri: image for image in chance.sample(sorted(by_image), min(4, len(by_image))) for uri in by_image[image]
        }
        if chance.random() < 0.2:
            own.pop(next(iter(own)))
        if chance.random() < 0.1:
            own["s3://b/not listed.jpg"] = chance.choice(images)
        tasks.append(own or {"s3://b/not listed.jpg": "gone"})
    return Made(files, before, tasks)


@dataclass
class Expected:
    taken: list[int] = field(default_factory=list)
    computed: dict[str, list[str]] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


def expected(day: Made, nearest: list[str]) -> Expected:
    """By the rules: taken over, then copied from the nearest day that has it, then computed for its first file."""
    found = Expected()
    uris = defaultdict(list)
    for uri, image in day.files.items():
        uris[image].append(uri)
    for number, task in enumerate(day.tasks):
        own = defaultdict(list)
        for uri, image in task.items():
            own[image].append(uri)
        if found.done.isdisjoint(own) and all(sorted(uris.get(key, [])) == sorted(own[key]) for key in own):
            found.taken.append(number)
            found.done.update(own)
    for image, names in uris.items():
        if image in found.done:
            continue
        has_it = [key for key in nearest if image in day.before.get(key, {}).values()]
        if has_it:
            found.copied.update(dict.fromkeys(names, has_it[0]))
        else:
            found.computed[names[0]] = names[1:]
    return found


def planned(shelf: Shelf, day: Made) -> tuple[Plan, list[TaskRecord]]:
    settings = ExtractSettings(store=shelf.store, partition="d9", run_id="now")
    images = shelf.images("d9", "now", day.files, row_group_bytes=100 * PER_GROUP)
    finished = []
    for task in day.tasks:
        files = shelf.features("d9", "now", task)
        tables = [rows for _, rows, _ in data_files.columns(shelf.store, schemas.FEATURES, files, ("uri", "image_id"))]
        finished.append(Finished(TaskRecord({"features": files}), tables[0]))
    result = plan.plan(settings, images, MODEL, FINGERPRINT, iter(finished))
    return result, [task.record for task in finished]


@pytest.mark.parametrize("large", [False, True], ids=["in memory", "in temporary files"])
@pytest.mark.parametrize("seed", range(8))
def test_a_day_is_planned_by_the_rules(shelf: Shelf, seed: int, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(sorting, "RUN_BYTES", 500)
        monkeypatch.setattr(sorting, "BATCH_ROWS", 4)
    day = made(seed)
    for partition, files in day.before.items():
        shelf.publish(partition, "earlier", files)
    wanted = expected(day, ["d9", "d7", "d6", "d5"])
    result, records = planned(shelf, day)
    names = list(day.files)
    computed = {}
    for unit in result.compute:
        further = unit.further_uris()
        for number, uri in enumerate(names[PER_GROUP * unit.row_group : PER_GROUP * (unit.row_group + 1)]):
            if unit.to_compute()[number]:
                computed[uri] = further.pop(number, [])
        assert not further, "of rows that are not computed"
    assert computed == wanted.computed
    copied = {}
    for source in result.copy:
        for row in plan.copies([source], shelf.store):
            assert row["uri"] not in copied and row["image_id"] == image_id(day.files[row["uri"]])
            copied[row["uri"]] = source.features_path.split("/")[1]
    assert copied == wanted.copied
    assert result.taken == [records[number] for number in wanted.taken]
    images = set(day.files.values())
    assert (result.resumed, result.duplicates) == (len(wanted.done), len(day.files) - len(images))
    assert result.to_compute == len(wanted.computed)
    assert result.reused == len(images) - len(wanted.done) - len(wanted.computed)
