"""What every system is asked (`Job`) and answers (`Result`), and how one runs in a process of its own (`serve`).

A system is a context manager: entered with a job, it gives a function that turns all photos into feature rows, once.
It is called several times within the one session: the first call is the first run, the later ones find warm workers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spark_apps import contract

MARK = "BENCH_FIRST_ROW"
"""Environment variable: the file that gets the moment of the first feature row of a run."""


class NotPossible(Exception):
    """A system cannot run here, or not with these settings; the message is the reason that the report gives."""


@dataclass(frozen=True)
class Job:
    """One system's task.

    `photos`: folder of a set. `engine`: eager (torch as its documentation shows), openvino or torch (ours).
    `model`: for eager the file of the pickled module, else the folder of an artefact with its `model.json`.
    `passes`: warm passes after the first. `out`: folder for the features, and `result.json`. The rest is for
    ours: `store` holds the staged partition of the set's name, `warm_up` is another partition for the first pass.
    """

    photos: str
    model: str
    out: str
    engine: str = "eager"
    precision: str = "fp32"
    weights: str = "keras-v1"
    cores: int = 2
    batch_size: int = 16
    passes: int = 2
    decode: str = "exact"
    resources: str = "auto"
    store: str = ""
    warm_up: str = ""

    @property
    def parquet(self) -> list[str]:
        """The photos as Parquet files."""
        return sorted(str(path) for path in Path(self.photos, "parquet").glob("*.parquet"))

    def artifact(self) -> contract.ModelInfo:
        """`info` of our engine's artefact."""
        return contract.ModelInfo.from_record(json.loads(Path(self.model, "model.json").read_text()))


@dataclass
class Pass:
    """One turn over all photos. `seconds`: set by systems whose own clock says more than ours. `images`, `files`:
    rows and Parquet files (uri, features) it made; by default all photos, in the folder it was given."""

    seconds: float | None = None
    images: int | None = None
    files: list[str] | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass
class Result:
    """What one process measured.

    Seconds from the start of the process to the first feature row and to all rows; images/s of every warm pass.
    `worker_rss_mb`: the largest worker process, `tree_pss_mb`: all processes together, each at its peak.
    `cosine`: the smallest to the reference over its photos.
    """

    system: str
    engine: str
    precision: str
    cores: int
    images: int = 0
    first_row_seconds: float | None = None
    first_run_seconds: float | None = None
    rates: list[float] = field(default_factory=list)
    worker_rss_mb: float | None = None
    tree_pss_mb: float | None = None
    cosine: float | None = None
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


OnePass = Callable[[Path], Pass]
System = Callable[[Job], AbstractContextManager[OnePass]]


def first_row() -> None:
    """Notes that feature rows are there now; only the first call of a run leaves its mark, the others cost nothing."""
    path = os.environ.pop(MARK, None)
    if path is None:
        return
    try:
        with open(path, "x") as file:
            file.write(repr(time.time()))
    except FileExistsError:
        return


def parse(description: str | None, argv: list[str] | None = None) -> Job:
    """The job of a system's own command line; every field is an option."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    for spec in dataclasses.fields(Job):
        required = spec.default is dataclasses.MISSING
        kind = int if spec.type == "int" else str
        flag = "--" + spec.name.replace("_", "-")
        parser.add_argument(flag, type=kind, required=required, default=None if required else spec.default)
    return Job(**vars(parser.parse_args(argv)))


def serve(name: str, system: System, doc: str | None, warm_calls: int | None = None) -> int:
    """The whole process of a system: runs its job, checks the vectors, leaves `result.json`.

    `warm_calls`: for systems that do all warm passes of the job in fewer calls.
    """
    import psutil

    job = parse(doc)
    begun = psutil.Process().create_time()
    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    mark = out / "first-row"
    mark.unlink(missing_ok=True)
    os.environ[MARK] = str(mark)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    result = Result(name, job.engine, job.precision, job.cores)
    try:
        with system(job) as one_pass:
            done = one_pass(out / "first")
            result.first_run_seconds = round(time.time() - begun, 3)
            for number in range(job.passes if warm_calls is None else warm_calls):
                begin = time.perf_counter()
                done = one_pass(out / f"warm-{number}")
                seconds = done.seconds or time.perf_counter() - begin
                result.images = done.images or _count(job)
                result.rates.append(round(result.images / seconds, 2))
                result.detail.setdefault("passes", []).append({"seconds": round(seconds, 3), **done.detail})
            result.cosine = check(job, done.files or [str(path) for path in (out / f"warm-{number}").glob("*.parquet")])
    except NotPossible as reason:
        result.reason = str(reason)
    if mark.exists():
        result.first_row_seconds = round(float(mark.read_text()) - begun, 3)
    (out / "result.json").write_text(json.dumps(dataclasses.asdict(result), indent=1))
    return 0


def check(job: Job, files: list[str]) -> float | None:
    """The smallest cosine between the vectors in `files` and the reference's, over the reference's photos; None for a
    set without a reference.

    Raises:
        ValueError: a photo has no features.
    """
    import numpy as np
    import pyarrow.parquet as pq

    kept = Path(job.photos, "reference.npz")
    reference = np.load(kept) if kept.exists() else None
    found: dict[str, Any] = {}
    names = set()
    for file in files:
        rows = pq.ParquetFile(file).read(columns=["uri", "features"])
        for uri, vector in zip(rows["uri"].to_pylist(), rows["features"], strict=True):
            name = uri.rsplit("/", 1)[-1]
            names.add(name)
            if reference is not None and name in reference.files:
                found[name] = np.asarray(vector.as_py(), np.float64)
    if len(names) != _count(job):
        raise ValueError(f"{len(names)} photos have features, not {_count(job)}")
    if reference is None:
        return None
    return round(min(cosine(reference[name], found[name]) for name in reference.files), 6)


def cosine(one: Any, other: Any) -> float:
    """Of two vectors, in double precision."""
    import numpy as np

    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _count(job: Job) -> int:
    import pyarrow.parquet as pq

    if job.parquet:
        return sum(pq.read_metadata(file).num_rows for file in job.parquet)
    return sum(1 for _ in Path(job.photos, "jpeg").iterdir())
