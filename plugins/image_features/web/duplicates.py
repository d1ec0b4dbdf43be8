"""Groups of photos that show the same picture, from the table duplicates: of one partition, or of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from image_features.web import store_state
from image_features.web.answers import DuplicateFile, DuplicateGroup, DuplicatesPage
from image_features.web.caches import Sized
from image_features.web.refusals import Refused
from image_features.web.stores import Place
from image_features.wording import name_of
from spark_apps import catalog, contract

GROUPS_PER_PAGE = 20
FILES_PER_GROUP = 24
"""Shown of one group: the one to keep, and the others in the order of their partitions."""
COLUMNS = [
    *("partition", "uri", "image_id", "group_id", "keeper", "kind"),
    *("similarity", "distance", "width", "height"),
]
ROW_BYTES = 1000
"""What a row takes in memory, about."""
Rows = list[dict[str, Any]]

_groups: Sized[tuple[Place, str, int], list[Rows]] = Sized(64 * 2**20, lambda groups: ROW_BYTES * sum(map(len, groups)))


def page(
    place: Place, partition: str | None, model: str | None, kind: str | None, similarity: float, number: int
) -> DuplicatesPage:
    """A page of the groups, those with the newest files first.

    `kind`: groups with such a file only. `similarity`: without files that are less like their twin. Raises Refused.
    """
    published = store_state.published(place)
    models = sorted({item.model for item in published.partitions})
    if model is None:
        newest = [item.model for item in published.partitions if partition in (None, item.partition)]
        model = (newest or models)[0]
    elif model not in models:
        raise Refused(404, "no_such_model", "Nothing is published under this model.", "Pick one of the models.")
    with store_state.reading(place):
        delta = catalog.table(place.store, "duplicates")
        version = None if delta is None else delta.version()
        groups = [] if version is None else _groups.get((place, model, version), lambda: _read(place, model, version))
    found = [shown for group in groups if (shown := _filtered(group, partition, kind, similarity))]
    pages = max(1, -(-len(found) // GROUPS_PER_PAGE))
    number = min(number, pages)
    return DuplicatesPage(
        looked=version is not None,
        partition=partition,
        model=model,
        models=models,
        partitions=sorted(
            {row["partition"] for group in groups for row in group}, key=contract.partitions.order, reverse=True
        ),
        page=number,
        pages=pages,
        groups_total=len(found),
        files_total=sum(map(len, found)),
        groups=[_group(rows) for rows in found[(number - 1) * GROUPS_PER_PAGE : number * GROUPS_PER_PAGE]],
    )


def _read(place: Place, model: str, version: int) -> list[Rows]:
    """The groups, each with the file to keep first; the newest first."""
    rows = catalog.dataset(place.store, "duplicates", {"model": model}, version)
    by_group: dict[str, Rows] = defaultdict(list)
    for row in rows.to_table(columns=COLUMNS, filter=pc.field("model") == model).to_pylist():
        by_group[row["group_id"]].append(row)
    for group in by_group.values():
        group.sort(key=lambda row: (not row["keeper"], contract.partitions.order(row["partition"]), row["uri"]))
    return sorted(by_group.values(), key=lambda group: (_newest(group), group[0]["group_id"]), reverse=True)


def _newest(rows: Iterable[dict[str, Any]]) -> Any:
    return max(contract.partitions.order(row["partition"]) for row in rows)


def _filtered(rows: Rows, partition: str | None, kind: str | None, similarity: float) -> Rows:
    """What is to be shown of a group; nothing where it is not asked for."""
    shown = [row for row in rows if row["keeper"] or row["similarity"] >= similarity]
    if len(shown) < 2 or (kind and all(row["kind"] != kind for row in shown)):
        return []
    return shown if partition is None or any(row["partition"] == partition for row in shown) else []


def _group(rows: Rows) -> DuplicateGroup:
    return DuplicateGroup(
        group_id=rows[0]["group_id"],
        size=len(rows),
        files=[
            DuplicateFile(
                partition=row["partition"],
                image_id=row["image_id"],
                name=name_of(row["uri"], None),
                keeper=row["keeper"],
                kind=row["kind"],
                similarity=row["similarity"],
                distance=row["distance"],
                width=row["width"],
                height=row["height"],
            )
            for row in rows[:FILES_PER_GROUP]
        ],
    )
