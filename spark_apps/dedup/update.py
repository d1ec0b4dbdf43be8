"""Bringing the duplicates of a model up to what is published: only what is new since the last time is compared."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from spark_apps import catalog, contract, storage
from spark_apps.catalog.tables import rows_of
from spark_apps.contract import DuplicatesSettings, JobError
from spark_apps.dedup import groups, indexed, table
from spark_apps.dedup.candidates import ROWS, Candidate, ExactSearch, Search
from spark_apps.dedup.confirm import Looks
from spark_apps.media import likeness


@dataclass(frozen=True)
class Done:
    """What an update did. `seen`: the version of the features it is right for; `rows`: partition → files that are
    published there; `touched`: partitions that changed."""

    seen: int
    rows: dict[str, int]
    members: list[groups.Member]
    compared: int
    confirmed: int
    touched: int
    rebuilt: bool


TRIES = 5
"""How often a run begins again because another one was quicker."""


def update(settings: DuplicatesSettings, say: Callable[[str], None]) -> Done:
    """Compares what was published since the last time, forms the groups again, and commits what differs.

    Files that are no longer published are in no group afterwards, and what the table says is right for one version of
    the features, whoever publishes meanwhile.

    Raises:
        NothingToDo: nothing of the model is published, and nothing was.
        JobError: others do the same so often that this could not.
        Unreachable: the store cannot be used.
    """
    for left in reversed(range(TRIES)):
        try:
            return _updated(settings, say)
        except JobError as error:
            if error.code != "overtaken" or not left:
                raise
            say("Another run was quicker; what it has found is taken over.")
    raise AssertionError("the last try returns or raises")


def _updated(settings: DuplicatesSettings, say: Callable[[str], None]) -> Done:
    store, model = settings.store, settings.model
    features = catalog.table(store, "features")
    before = table.known(store, model)
    rows = {} if features is None else {item.partition: item.rows for item in catalog.published(features, model)}
    published = [*rows]
    if features is None or not (published or before.rows):
        raise catalog.never_published(store, model)
    method = f"{likeness.EDITION},{settings.min_similarity:g},{settings.max_distance},{settings.candidates}"
    new, everything = _news(settings, before, method, features.version())
    exact = ExactSearch(store, model, features, settings.min_similarity, settings.candidates)
    search = indexed.fitting(exact, say)
    candidates = _candidates(search, new, published, everything, say)
    wanted = {one for item in candidates for one in (item.one, item.other)}
    compared = wanted.union(*new.values(), before.groups)
    files = [file for key in published for file in _files(store, model, features, key, compared)]
    looks = Looks(store, settings.max_pixels, say)
    looks.take({file.image_id: file.partition for file in files if file.image_id in wanted})
    confirmed = [*looks.confirmed(candidates, settings.max_distance)]
    pairs = [*([] if everything else before.pairs), *confirmed]
    members = groups.members(_measured(store, _with_a_twin(files, pairs), before), pairs, before.groups)
    touched = table.replace(store, model, before, members, features.version(), method)
    return Done(features.version(), rows, members, len(candidates), len(confirmed), touched, everything)


def _news(
    settings: DuplicatesSettings, before: table.Known, method: str, version: int
) -> tuple[dict[str, set[str]], bool]:
    """partition → pictures that have been published there since the last time; and whether those are all there are."""
    afresh = settings.rebuild or before.method != method or not before.seen
    try:
        found = catalog.changes(settings.store, settings.model, 0 if afresh else before.seen, version)
    except contract.BadSetting:  # the store no longer knows what was published then
        afresh, found = True, catalog.changes(settings.store, settings.model, 0, version)
    new: dict[str, set[str]] = defaultdict(set)
    for row in found.rows.to_pylist():
        if row["change"] != "removed":
            new[row["partition"]].add(row["image_id"])
    return new, afresh


def _candidates(
    search: Search, new: Mapping[str, set[str]], published: Sequence[str], everything: bool, say: Callable[[str], None]
) -> list[Candidate]:
    """Pairs to look at. `everything`: nothing has been compared yet, so that each partition need only be compared with
    those before it."""
    found: dict[tuple[str, ...], Candidate] = {}
    order = sorted(new, key=contract.partitions.order)
    for place, key in enumerate(order):
        for item in search.near(key, new[key], order[: place + 1] if everything else published):
            found[tuple(sorted((item.one, item.other)))] = item
        say(f"{key}: {len(new[key]):,} pictures compared, {len(found):,} pairs to look at so far")
    return [*found.values()]


def _files(store: str, model: str, features: DeltaTable, partition: str, image_ids: set[str]) -> Iterator[groups.File]:
    """The published files of these pictures."""
    keys, wanted = {"partition": partition, "model": model}, pa.array(image_ids, pa.string())
    with storage.reaching("store", store):
        for batch in rows_of(store, "features", features, keys, ["uri", "image_id"], ROWS):
            for row in batch.filter(pc.is_in(batch["image_id"], wanted)).to_pylist():
                yield groups.File(partition, row["uri"], row["image_id"])


def _with_a_twin(files: Sequence[groups.File], pairs: Sequence[groups.Pair]) -> list[groups.File]:
    paired = {one for pair in pairs for one in (pair.one, pair.other)}
    count = Counter(file.image_id for file in files)
    return [file for file in files if file.image_id in paired or count[file.image_id] > 1]


def _measured(store: str, files: Sequence[groups.File], before: table.Known) -> Iterator[groups.File]:
    """The files with their sizes and times, from what is known and from the table images."""
    told = {(file.partition, file.uri, file.image_id): file for file in map(table.file_of, before.rows)}
    missing: dict[str, list[groups.File]] = defaultdict(list)
    for file in files:
        if found := told.get((file.partition, file.uri, file.image_id)):
            yield found
        else:
            missing[file.partition].append(file)
    for partition, ones in missing.items():
        columns = ["uri", "width", "height", "modified_at"]
        rows = {row.pop("uri"): row for row in catalog.images(store, partition, columns).to_pylist()}
        yield from (dataclasses.replace(file, **rows.get(file.uri, {})) for file in ones)
