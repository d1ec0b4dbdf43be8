"""The newest vector of each file name, across all partitions of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from spark_apps import contract, storage
from spark_apps.catalog.tables import columns as columns_of
from spark_apps.catalog.tables import published, rows_of, table


def latest(store: str, model: str, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
    """One row for each uri: that of the newest partition which has it, newest partition first.

    Columns as in the table `features`, by default all. Read batch by batch, of one version of the table; what is kept
    in memory is the names that have been seen.

    Raises:
        Unreachable: there is no such table, or the store cannot be read, also while the batches are read.
    """
    delta = table(store, "features")
    if delta is None:
        raise contract.Unreachable(
            "store_empty", f"The store {store} has no table features yet.", "Run the pipeline first."
        )
    whole = columns_of(delta)
    wanted = list(columns or whole.names)
    schema = pa.schema([whole.field(name) for name in wanted])

    def batches() -> Iterator[pa.RecordBatch]:
        seen: set[str] = set()
        for item in published(delta, model):
            keys = {"partition": item.partition, "model": model}
            with storage.reaching("store", store):
                for batch in rows_of(store, "features", delta, keys, [*dict.fromkeys(["uri", *wanted])], 4096):
                    uris = batch["uri"].to_pylist()
                    fresh = batch.filter(pa.array([uri not in seen for uri in uris], pa.bool_()))
                    seen.update(uris)
                    if fresh.num_rows:
                        yield fresh.select(wanted).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
