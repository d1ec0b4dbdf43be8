"""The systems that are measured, one module each; `ENTRIES` says with which engine and precision."""

from __future__ import annotations

from dataclasses import dataclass

from spark_apps import contract


@dataclass(frozen=True)
class Entry:
    """One line of the report. `eager` is torch as its documentation shows; other engines are ours."""

    system: str
    engine: str = "eager"
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.system} {self.engine} {self.precision}"


TITLES = {
    "broadcast_udf": "broadcast UDF",
    "predict_batch_udf": "predict_batch_udf",
    "pandas_iterator": "pandas UDF with iterator",
    "ray_data": "Ray Data",
    "daft_cls": "Daft",
    "ours": "ours",
    "no_spark": "ceiling: decode and engine, no Spark",
    "bare_engine": "ceiling: engine on pixels",
}
PRECISIONS = tuple(contract.PRECISIONS)

OUR_ENGINE = ("ray_data", "daft_cls", "ours", "no_spark", "bare_engine")

OTHER_ENGINES = {"onnxruntime": ("fp32", "int8"), "torch.compile": ("fp32", "bf16")}
"""Of others, on pixels, each with the precisions that it has; see `other_engines`."""

ENTRIES = (
    *(Entry(system) for system in ("broadcast_udf", "predict_batch_udf", "pandas_iterator", "ray_data", "daft_cls")),
    Entry("ours", "torch", "fp32"),
    *(Entry(system, "openvino", precision) for precision in PRECISIONS for system in OUR_ENGINE),
    *(Entry("bare_engine", engine, precision) for engine, has in OTHER_ENGINES.items() for precision in has),
)
"""In the order in which they are measured: what is compared closely stands together."""
