"""What validate measures of a run's files: a record of each, and records put together in the order of the files.

The same on the driver and in Spark tasks, to the last digit of a report: nothing depends on where a file was read.
Names stay where they are read; of a row come back keys of eight bytes, and names only of those that break a rule.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_apps import contract, storage
from spark_apps.contract import Staged, photo_quality
from spark_apps.pipeline import drift, keys, samples
from spark_apps.pipeline.keys import Keys
from spark_apps.pipeline.samples import Sample
from spark_apps.spark import progress
from spark_apps.spark.spreading import Spread
from spark_apps.tables import data_files, schemas

QUALITY = ("sharpness", "brightness", "contrast")
LISTING, QUARANTINE, FEATURES = "listing", schemas.QUARANTINE.name, schemas.FEATURES.name
OFFENDERS = 10
"""Offending uris that a check names."""
SKETCHED = 2**17
"""Images that the sketch of a day is made of at most, drawn by lot: a quantile of so many is right within 0.3 % of the
day, 19 times in 20 (binomial)."""
PORTION_ROWS = 5_000_000
"""Rows whose records come back to the driver at a time: Spark's JVM there holds them, some 30 bytes for each."""


@dataclass(frozen=True)
class Unit:
    """A file to read: its table, or the listing, and its path, relative to the table, or URI. `number`: among all."""

    kind: str
    path: str
    rows: int = 0
    number: int = 0


@dataclass(frozen=True)
class Found:
    """Rows that break a rule: how many, and the first `OFFENDERS` of their uris in the order of the alphabet."""

    count: int = 0
    first: tuple[str, ...] = ()

    @classmethod
    def of(cls, uris: Sequence[str]) -> Found:
        return cls(len(uris), tuple(sorted(set(uris))[:OFFENDERS]))

    def __add__(self, other: Found) -> Found:
        return Found(self.count + other.count, Found.of(self.first + other.first).first)


@dataclass(frozen=True)
class Drawn:
    """The rows with the smallest lots, `size` at most: (lot, uri), ascending."""

    size: int = 0
    rows: tuple[tuple[int, str], ...] = ()

    def __add__(self, other: Drawn) -> Drawn:
        size = max(self.size, other.size)
        return Drawn(size, tuple(sorted(self.rows + other.rows)[:size]))


_NO_KEYS: Any = partial(np.zeros, 0, np.uint64)
_NO_NORMS: Any = partial(np.zeros, 0, np.float32)
_NO_SLICES: Any = partial(np.zeros, (0, drift.DIRECTIONS + 1), np.float32)


@dataclass(frozen=True)
class Measured:
    """What was found in some files of a run: in one, or in all.

    `listed`, `quarantined`, `featured`: the keys of the uris. `images`, `vectors`: keys of image_id and vector, and
    `norms`, by row of features. `codes`, `fingerprints`: rows by error code, by model fingerprint. `refused`: the rows
    of quarantine. `looks`: photos that were measured, and how many of them are `photo_quality.POOR` in which way;
    `poor`: those that are. `drawn`: rows of features to be computed again. `sketched`, `slices`: keys of images drawn
    for the sketch, and `drift.slices` of each, `sample`: vectors for a second opinion; of broken ones there are none.
    """

    listed: Keys = field(default_factory=_NO_KEYS)
    quarantined: Keys = field(default_factory=_NO_KEYS)
    featured: Keys = field(default_factory=_NO_KEYS)
    images: Keys = field(default_factory=_NO_KEYS)
    vectors: Keys = field(default_factory=_NO_KEYS)
    norms: NDArray[np.float32] = field(default_factory=_NO_NORMS)
    sketched: Keys = field(default_factory=_NO_KEYS)
    slices: NDArray[np.float32] = field(default_factory=_NO_SLICES)
    codes: Counter[str] = field(default_factory=Counter)
    fingerprints: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)
    refused: Found = Found()
    poor: Found = Found()
    wrong_length: Found = Found()
    not_finite: Found = Found()
    constant: Found = Found()
    drawn: Drawn = Drawn()
    sample: Sample = field(default_factory=Sample)

    def sketch(self) -> drift.Sketch | None:
        """That of the day. None without a sound vector."""
        _, values = self.by_image()
        return drift.sketch(values) if len(values) else None

    def by_image(self) -> tuple[Keys, NDArray[np.float32]]:
        """`sketched` and `slices` of the day: each image once, by key."""
        images, first = np.unique(self.sketched, return_index=True)
        return images, self.slices[first]


@dataclass(frozen=True)
class Asked:
    """What tasks need to know. `dim`: of a sound vector; `run_id`, `recheck`: by which lot how many rows are drawn to
    be computed again; `images`: about how many distinct ones there are; `notes`: where progress is noted, or empty;
    `partition`: by which lot a sample is drawn."""

    store: str
    dim: int
    run_id: str = ""
    recheck: int = 0
    images: int = 0
    notes: str = ""
    partition: str = ""


def units(staged: Staged, listing: Iterable[str] = ()) -> list[Unit]:
    """The files of a run that are measured: `listing` by their URIs."""
    found = [Unit(LISTING, uri) for uri in listing]
    found += [Unit(kind, file.path, file.rows) for kind in (QUARANTINE, FEATURES) for file in staged.get(kind, [])]
    return [Unit(unit.kind, unit.path, unit.rows, number) for number, unit in enumerate(found)]


def measure(spread: Spread, files: Sequence[Unit], asked: Asked) -> Measured:
    """Reads the files, one row group in memory at a time, and puts together what was found.

    Raises:
        BadSetting: a file is damaged.
        Unreachable: one is missing, or the store fails.
    """
    work = partial(measure_units, asked=asked)
    return merged([record for portion in _portions(files) for record in spread(portion, work)])


def measure_units(files: Iterator[Unit], asked: Asked) -> Iterator[Measured]:
    """The work of one task: a record of each file."""
    for unit in files:
        columns, look = LOOKS[unit.kind]
        with storage.reaching("store", asked.store):
            measured = merged([look(rows, asked) for _, rows in row_groups(asked.store, unit, columns)])
        if asked.notes:
            progress.Ticker(asked.notes, unit.number).note(len(measured.featured), 0, last=True)
        yield measured


def merged(records: Sequence[Measured]) -> Measured:
    """All of it together, in this order."""
    if not records:
        return Measured()
    together: dict[str, Any] = {}
    for name in (item.name for item in fields(Measured)):
        values = [getattr(record, name) for record in records]
        together[name] = np.concatenate(values) if isinstance(values[0], np.ndarray) else reduce(operator.add, values)
    return Measured(**together)


def row_groups(store: str, unit: Unit, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """The row groups of a file, by number. Raises OSError when it is missing, and as `data_files.whole`."""
    uri = unit.path if unit.kind == LISTING else contract.join(schemas.TABLES[unit.kind].uri(store), unit.path)
    filesystem, path = storage.filesystem(uri)
    with data_files.whole(uri), pq.ParquetFile(path, filesystem=filesystem) as parquet:
        for group in range(parquet.num_row_groups):
            yield group, parquet.read_row_group(group, columns=list(columns))


def _listing(rows: pa.Table, _: Asked) -> Measured:
    return Measured(listed=keys.of(rows["uri"].to_pylist()))


def _quarantine(rows: pa.Table, _: Asked) -> Measured:
    uris, codes = rows["uri"].to_pylist(), rows["error_code"].to_pylist()
    told = Found.of([uri for uri, code in zip(uris, codes, strict=True) if code != "erased"])
    return Measured(quarantined=keys.of(uris), codes=Counter(codes), refused=Found(len(uris), told.first))


def _features(rows: pa.Table, asked: Asked) -> Measured:
    uris, images = rows["uri"].to_pylist(), keys.of(rows["image_id"].to_pylist())
    vectors, right = samples.sound(rows["features"].combine_chunks(), asked.dim)
    wide = vectors.astype(np.float64)
    norms = drift.norms(wide)
    finite = np.isfinite(norms)
    constant = (vectors == vectors[:, :1]).all(axis=1)
    last = keys.LARGEST * SKETCHED // max(SKETCHED, asked.images)
    chosen = np.flatnonzero(right & finite & (images <= np.uint64(last)))
    chosen = chosen[np.sort(np.unique(images[chosen], return_index=True)[1])]

    def where(those: NDArray[np.bool_]) -> Found:
        return Found.of([uris[row] for row in np.flatnonzero(those)])

    poor = _poor(rows)
    return Measured(
        featured=keys.of(uris),
        images=images,
        vectors=keys.of(vectors),
        norms=drift.single(np.where(finite, norms, 0)),
        sketched=images[chosen],
        slices=drift.slices(wide if len(chosen) == len(wide) else wide[chosen]),
        fingerprints=Counter(rows["model_fingerprint"].to_pylist()),
        looks=Counter({name: int(those.sum()) for name, those in poor.items()}),
        poor=where(np.logical_or.reduce([poor[name] for name in photo_quality.POOR])),
        wrong_length=where(~right),
        not_finite=where(right & ~finite),
        constant=where(right & finite & constant),
        drawn=_drawn(uris, images, asked),
        sample=samples.drawn(vectors, images, right & finite, asked.partition, asked.images),
    )


LOOKS = {
    LISTING: (("uri",), _listing),
    QUARANTINE: (("uri", "error_code"), _quarantine),
    FEATURES: (("uri", "image_id", "features", "model_fingerprint", *QUALITY), _features),
}
"""The columns that are read of a file, and what is measured of a row group."""


def _poor(rows: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Which photos were measured, and which of them are poor in which way; none where a file lacks the columns."""
    if not set(QUALITY) <= set(rows.column_names):
        return dict.fromkeys(("measured", *photo_quality.POOR), np.zeros(rows.num_rows, np.bool_))
    sharpness, brightness, contrast = (rows[name].to_numpy() for name in QUALITY)  # null is NaN, which is below nothing
    blank = contrast < photo_quality.BLANK
    blurred = (sharpness < photo_quality.BLURRED) & ~blank
    dark = brightness < photo_quality.DARK
    return {"measured": ~np.isnan(contrast), "blank": blank, "dark": dark, "blurred": blurred}


def _drawn(uris: Sequence[str], images: Keys, asked: Asked) -> Drawn:
    size = min(asked.recheck, len(uris))
    if not size:
        return Drawn(asked.recheck)
    lots = keys.lots(images, asked.run_id)
    last = np.partition(lots, size - 1)[size - 1]
    rows = sorted((int(lots[row]), uris[int(row)]) for row in np.flatnonzero(lots <= last))
    return Drawn(asked.recheck, tuple(rows[:size]))


def _portions(files: Sequence[Unit]) -> Iterator[list[Unit]]:
    portion: list[Unit] = []
    rows = 0
    for unit in files:
        if portion and rows + unit.rows > PORTION_ROWS:
            yield portion
            portion, rows = [], 0
        portion.append(unit)
        rows += unit.rows
    if portion:
        yield portion
