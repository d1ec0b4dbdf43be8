"""What systems without plain Spark share: a first execution over the photos, then a long one. From inside it the steady
state of Ray Data and Daft is taken (see `benchmarks.ticks`)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType

from benchmarks import ticks
from benchmarks.protocol import Job, Pass


class Long:
    """The inputs of the executions, and their measures. A context manager: removes the repeated photos at the end."""

    def __init__(self, job: Job) -> None:
        self._job, self._repeated = job, Path(job.out, "repeated")

    def __enter__(self) -> Long:
        shutil.rmtree(self._repeated, ignore_errors=True)
        self._repeated.mkdir(parents=True)
        for turn in range(self._job.passes + 1):
            for file in self._job.parquet:
                os.link(file, self._repeated / f"{turn:02}-{Path(file).name}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        shutil.rmtree(self._repeated)

    def execution(self, out: Path) -> tuple[Path, list[str]]:
        """The folder of the workers' ticks, and the files to read."""
        shutil.rmtree(out, ignore_errors=True)
        folder = Path(self._job.out, f"ticks-{out.name}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder, self.files(out)

    def files(self, out: Path) -> list[str]:
        """The Parquet files to read: once the photos, or all repetitions."""
        return self._job.parquet if out.name == "first" else sorted(map(str, self._repeated.iterdir()))

    def measured(self, out: Path) -> Pass:
        """What the ticks of the execution say."""
        workers = ticks.read(Path(self._job.out, f"ticks-{out.name}"))
        if out.name == "first":
            return Pass(detail={"workers": len(workers)})
        seconds, images = ticks.steady(workers)
        return Pass(seconds=seconds, images=images, detail={"workers": len(workers), "images": images})
