"""What an extract task does: reads staged files, decodes them, runs the extractor, and writes staged features.

Decoding, inference and the next read overlap where a task has more than one core.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, extractors, storage
from spark_apps.contract import BadFile, ExtractSettings, ModelInfo
from spark_apps.extractors import Extractor, Facts, Label
from spark_apps.media import guard
from spark_apps.model import worker
from spark_apps.pipeline import plan, resume
from spark_apps.pipeline.records import TaskRecord
from spark_apps.spark import progress
from spark_apps.tables import contents, data_files, schemas, staging

Item = TypeVar("Item")
Result = TypeVar("Result")

READ_ROWS = 8
READ_BYTES = 2 * 2**20
"""Of a column of a row group, read at a time: as Python objects, and from the store."""
DECODED_AHEAD = 8
"""Files for each decoding thread that are decoded before the model asks for them."""


@dataclass(frozen=True)
class TaskPlan:
    """What every task of a run needs to know. `folder`: where it stages, relative to a table; `within`: as in ingest's
    settings, of files that are read at their source again."""

    settings: ExtractSettings
    info: ModelInfo
    folder: str
    notes: str
    max_pixels: int
    within: str = ""


@dataclass(frozen=True)
class TaskSlot:
    """What a share of the work runs with.

    `folder`: of the model's files. `cores`: to run the model and to decode on. `careful`: decode in a guarded child
    process. `device`: the GPU that Spark gave the task, where the model is for one.
    """

    folder: Path | None
    cores: int
    careful: bool
    number: int
    device: str | None = None


def slot_of_task() -> TaskSlot:
    """That of the Spark task that calls."""
    from pyspark import SparkFiles, TaskContext

    context = TaskContext.get()
    assert context is not None
    again = context.attemptNumber() > 0  # an earlier attempt died, perhaps of one of its files
    gpu = context.resources().get("gpu")
    device = f"cuda:{gpu.addresses[0]}" if gpu else None
    return TaskSlot(Path(SparkFiles.getRootDirectory()), context.cpus(), again, context.partitionId(), device)


def compute_units(
    units: Iterator[plan.ComputeUnit], shared: TaskPlan, slot: TaskSlot | None = None
) -> Iterator[TaskRecord]:
    """The work of one task: reads, decodes and infers the files of its units; yields what it staged."""
    slot = slot or slot_of_task()
    loads = worker.loads
    extractor = extractors.opened(shared.info, shared.max_pixels, slot.folder, slot.cores, slot.device)
    ticker = progress.Ticker(shared.notes, slot.number)
    careful = partial(preparation, shared.info, shared.max_pixels)
    with Outbox(shared, extractor) as outbox, guard.Guard(careful) as child:
        decode = child.decode if slot.careful else guard.watched(extractor.prepare_with_facts)
        found = unique_files(units, shared.settings.store, shared.within)
        decoded = one_by_one(decode, found) if slot.careful or slot.cores == 1 else pooled(decode, found, slot.cores)
        with closing(decoded):
            for file, item in decoded:
                outbox.add(file, item)
                ticker.note(outbox.computed, outbox.refused)
        outbox.flush()
        ticker.note(outbox.computed, outbox.refused, last=True)
    record = replace(outbox.record(), loads=worker.loads - loads)
    yield resume.keep(shared.settings, "extract", shared.folder, record)


def preparation(info: ModelInfo, max_pixels: int) -> guard.Decode:
    """How the extractor of `info` prepares a file, for a process that runs no model."""
    return extractors.opened(info, max_pixels).prepare_with_facts


def copy_units(units: Iterator[plan.CopyUnit], shared: TaskPlan) -> Iterator[TaskRecord]:
    """The work of one task: writes known vectors again, as rows of this run; yields what it staged."""
    settings = shared.settings
    with (
        storage.reaching("store", settings.store),
        staging.StagedWriter(settings.store, schemas.FEATURES, shared.folder) as features,
    ):
        for row in plan.copies(units, settings.store):
            features.add({**row, "run_id": settings.run_id}, 4 * len(row["features"]))
    yield resume.keep(settings, "extract", shared.folder, TaskRecord({"features": features.files}))


@dataclass(frozen=True)
class UniqueFile:
    """One distinct content of a work unit, a photo or whatever the extractor takes, and the uris of all files of it.

    A `BadFile` instead of its bytes tells why they cannot be had.
    """

    image_id: str
    content: bytes | BadFile
    uris: list[str]
    size_bytes: int = 0


Decoded = Generator[tuple[UniqueFile, Any]]
"""Each file with what the extractor takes of it and its facts, or a `BadFile`."""


def unique_files(units: Iterator[plan.ComputeUnit], store_uri: str, within: str = "") -> Iterator[UniqueFile]:
    """The files of `units` that are to be computed. Few of them are in memory: a row group is read as it is used, and
    what comes next is read meanwhile. `within`: as in `contents.of`."""
    filesystem, root = storage.filesystem(schemas.IMAGES.uri(store_uri))

    def read() -> Iterator[list[UniqueFile]]:
        for unit in units:
            first, to_compute, further = 0, unit.to_compute(), unit.further_uris()
            with data_files.whole(contract.join(schemas.IMAGES.uri(store_uri), unit.path)):
                parquet = pq.ParquetFile(f"{root}/{unit.path}", filesystem=filesystem, buffer_size=READ_BYTES)
                for batch in parquet.iter_batches(READ_ROWS, [unit.row_group], contents.COLUMNS):
                    wanted = [row for row in range(batch.num_rows) if to_compute[first + row]]
                    all_wanted = len(wanted) == batch.num_rows  # as nearly always, and then nothing has to be copied
                    rows = (batch if all_wanted else batch.take(pa.array(wanted, pa.int64()))).to_pylist()
                    yield list(_files(rows, [further.get(first + row, []) for row in wanted], within))
                    first += batch.num_rows

    reading = read()

    def read_on(_: None) -> list[UniqueFile] | None:
        with storage.reaching("store", store_uri):
            return next(reading, None)

    with ThreadPoolExecutor(1) as pool:
        for _, found in _ahead(pool, read_on, repeat(None), 1):
            if found is None:
                return
            yield from found


def _files(rows: list[dict[str, Any]], twins: list[list[str]], within: str) -> Iterator[UniqueFile]:
    """A file for each row. Where a source no longer has what ingest read, one of the row's twins may still have it."""
    for row, others, content in zip(rows, twins, contents.of(rows, within), strict=True):
        uris = [row["uri"], *others]
        while isinstance(content, BadFile) and len(uris) > 1:
            yield UniqueFile(row["image_id"], content, uris[:1], row["size_bytes"])
            uris = uris[1:]
            (content,) = contents.of([{**row, "uri": uris[0]}], within)
        yield UniqueFile(row["image_id"], content, uris, row["size_bytes"])


def one_by_one(decode: guard.Attempt, found: Iterator[UniqueFile]) -> Decoded:
    """Decodes in the caller's thread."""
    for file in found:
        yield file, _decoded(decode, file)


def pooled(decode: guard.Attempt, found: Iterator[UniqueFile], threads: int) -> Decoded:
    """The same in `threads` threads, a few files ahead, so that they decode while the caller runs the model."""
    with ThreadPoolExecutor(threads, "decode") as pool:
        yield from _ahead(pool, partial(_decoded, decode), found, DECODED_AHEAD * threads)


def _decoded(decode: guard.Attempt, file: UniqueFile) -> Any:
    return file.content if isinstance(file.content, BadFile) else decode(file.content)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `work` gives for it, in order; up to `window` of the following are under way meanwhile."""
    remaining = iter(items)
    under_way: deque[tuple[Item, Future[Result]]] = deque()

    def submit(count: int) -> None:
        under_way.extend((item, pool.submit(work, item)) for item in islice(remaining, count))

    submit(window)
    try:
        while under_way:
            item, future = under_way.popleft()
            result = future.result()
            submit(1)
            yield item, result
    finally:
        for _, future in under_way:
            future.cancel()


class Outbox:
    """What one task hands over: rows of features and of quarantine, in staged files.

    `computed`: distinct files that have a vector; `refused`: those that gave none.
    """

    def __init__(self, shared: TaskPlan, extractor: Extractor) -> None:
        self._extractor, self._fingerprint = extractor, shared.info.fingerprint
        self._run_id, self._store = shared.settings.run_id, shared.settings.store
        self._batch_size = shared.settings.batch_size
        self._features = staging.StagedWriter(self._store, schemas.FEATURES, shared.folder)
        self._quarantine = staging.StagedWriter(self._store, schemas.QUARANTINE, shared.folder)
        self._batch: list[tuple[UniqueFile, Any, Facts]] = []
        self._codes: Counter[str] = Counter()
        self.computed = self.refused = 0

    def add(self, file: UniqueFile, prepared: tuple[Any, Facts] | BadFile) -> None:
        """Takes what the extractor takes of a file, or the `BadFile` that tells why there is none."""
        if isinstance(prepared, BadFile):
            self._refuse(file, prepared)
            return
        self._batch.append((file, *prepared))
        if len(self._batch) == self._batch_size:
            self.flush()

    def flush(self) -> None:
        """Runs the extractor on what is waiting, and writes a row for every file."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        vectors, labels = self._extractor.label([item for _, item, _ in batch])
        for (file, _, facts), vector, label in zip(batch, vectors, labels, strict=True):
            if isinstance(vector, BadFile):
                self._refuse(file, vector)
            else:
                self._accept(file, vector, label, facts)

    def _accept(self, file: UniqueFile, vector: np.ndarray, label: Label, facts: Facts) -> None:
        self.computed += 1
        with storage.reaching("store", self._store):
            for uri in file.uris:
                row = {
                    "uri": uri,
                    "image_id": file.image_id,
                    "features": vector,
                    "model_fingerprint": self._fingerprint,
                    "top1_label": label[0],
                    "top1_score": label[1],
                    "run_id": self._run_id,
                    **facts,
                }
                self._features.add(row, vector.nbytes)

    def _refuse(self, file: UniqueFile, bad: BadFile) -> None:
        self.refused += 1
        for uri in file.uris:
            common = {"uri": uri, "image_id": file.image_id, "run_id": self._run_id}
            self._codes[bad.code] += 1
            with storage.reaching("store", self._store):
                self._quarantine.add(staging.quarantine_row(common, "extract", bad, file.size_bytes), 512)

    def record(self) -> TaskRecord:
        """The files this task staged and its counts; complete once the outbox is closed."""
        staged = {"features": self._features.files, "quarantine": self._quarantine.files}
        return TaskRecord(staged, dict(self._codes), self.computed)

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *failure: Any) -> None:
        writers = (self._features, self._quarantine)
        with storage.reaching("store", self._store):
            try:
                for writer in writers:
                    writer.__exit__(*failure)
            except BaseException:  # the files of one without those of the other are of no use
                for writer in writers:
                    writer.discard()
                raise
