"""Every listed file is in exactly one of features and quarantine, once: told by keys; only offenders are looked up by
name, in a second reading of the columns that hold names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from spark_apps import storage
from spark_apps.pipeline import keys
from spark_apps.pipeline.keys import Keys
from spark_apps.pipeline.measure import FEATURES, LISTING, QUARANTINE, Found, Measured, Unit, row_groups
from spark_apps.spark.spreading import Spread

LOST, DOUBLED, STRANGERS, ALIKE = "lost", "doubled", "strangers", "alike"
SOUGHT = {LOST: (LISTING,), DOUBLED: (FEATURES, QUARANTINE), STRANGERS: (FEATURES, QUARANTINE), ALIKE: (FEATURES,)}
"""What is looked up, and in which files; `ALIKE` by image_id, the others by uri."""


@dataclass(frozen=True)
class Reconciled:
    """`listed`: distinct files. `lost`: listed, and in neither table. `doubled`: in both, or twice in one. `strangers`:
    in one, and never listed. `alike`: files of the images that were asked for."""

    listed: int
    lost: Found
    doubled: Found
    strangers: Found
    alike: Found


def reconcile(spread: Spread, store: str, files: Sequence[Unit], measured: Measured, alike: Keys) -> Reconciled:
    """Compares the listing with what became of it; `alike`: keys of images whose files are to be named, ascending.

    Raises Unreachable.
    """
    listed, done = np.unique(measured.listed), np.sort(np.concatenate([measured.featured, measured.quarantined]))
    sought = {
        LOST: listed[~keys.within(listed, done)],
        DOUBLED: keys.repeated(done),
        STRANGERS: np.unique(done[~keys.within(done, listed)]),
        ALIKE: alike,
    }
    there = [unit for unit in files if any(len(sought[name]) and unit.kind in SOUGHT[name] for name in SOUGHT)]
    named = dict.fromkeys(SOUGHT, Found())
    for record in spread(there, partial(_names, store=store, sought=sought)) if there else []:
        named = {name: named[name] + record.get(name, Found()) for name in named}
    return Reconciled(len(listed), **{name: Found(len(sought[name]), found.first) for name, found in named.items()})


def _names(files: Iterator[Unit], store: str, sought: Mapping[str, Keys]) -> Iterator[dict[str, Found]]:
    """The work of one task: for each file, the first names of what is sought there."""
    for unit in files:
        names = [name for name in SOUGHT if unit.kind in SOUGHT[name] and len(sought[name])]
        columns = ["uri", "image_id"] if ALIKE in names else ["uri"]
        found = dict.fromkeys(names, Found())
        with storage.reaching("store", store):
            for _, rows in row_groups(store, unit, columns):
                by = {column: keys.of(rows[column].to_pylist()) for column in columns}
                for name in names:
                    those = keys.within(by["image_id" if name == ALIKE else "uri"], sought[name])
                    found[name] += Found.of(rows["uri"].filter(pa.array(those)).to_pylist())
        yield found
