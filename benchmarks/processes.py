"""One system in a fresh process: started, watched for memory, and ended with everything it started."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks import places
from benchmarks.protocol import Job, Result

TIMEOUT_S = 3600.0
EVERY_S = 2.0
"""Between two looks at the memory; a look costs some milliseconds of one core."""
WORKERS = ("pyspark/daemon", "pyspark.daemon", "ray::MapWorker", "ray::_MapWorker", "spawn_main", "udf_worker")
"""What stands in the command line of a process that computes features."""


class Failed(Exception):
    """A system ended without a result; the message ends with its last words."""


def run(system: str, job: Job, timeout: float = TIMEOUT_S) -> Result:
    """Runs `benchmarks.systems.<system>` on `job`.

    Raises:
        Failed: it died, or took longer than `timeout` seconds.
    """
    out = Path(job.out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [sys.executable, "-m", f"benchmarks.systems.{system}"]
    for name, value in dataclasses.asdict(job).items():
        command += ["--" + name.replace("_", "-"), str(value)]
    with (out / "log").open("wb") as log:
        child = subprocess.Popen(
            command, cwd=places.ROOT, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    memory = Memory(child.pid)
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"it took longer than {timeout:g} s") from None
    finally:
        memory.stop()
        child.kill()  # a no-op for one that has ended
        child.wait()
        end(memory.seen)
    kept = out / "result.json"
    if child.returncode or not kept.exists():
        raise Failed(f"exit status {child.returncode}: {last_words(out / 'log')}")
    result = Result(**json.loads(kept.read_text()))
    result.worker_rss_mb, result.tree_pss_mb = memory.worker_mb, memory.tree_mb
    return result


def environment() -> dict[str, str]:
    """For every measured process: our modules and the hook on the path, no progress bars, no reports home."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(places.ROOT), str(places.HOOKS)]),
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DAFT_ANALYTICS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
    }


def last_words(log: Path) -> str:
    """The last line with letters in it."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line[:300] for line in reversed(lines) if any(map(str.isalpha, line))), "it said nothing")


class Memory:
    """Looks at a process and all below it every `EVERY_S` seconds; MB are 1e6 bytes.

    `worker_mb`: peak resident memory of the largest worker process. `tree_mb`: peak of the sum of the proportional set
    sizes, which counts shared pages once.
    """

    def __init__(self, pid: int) -> None:
        self.worker_mb: float | None = None
        self.tree_mb: float | None = None
        self.seen: set[int] = set()
        self._root = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            with suppress(psutil.Error):
                root = psutil.Process(self._root)
                self._look([root, *root.children(recursive=True)])

    def _look(self, processes: Iterable[psutil.Process]) -> None:
        total = 0
        workers = []
        for process in processes:
            with suppress(psutil.Error):
                self.seen.add(process.pid)
                total += process.memory_full_info().pss
                if is_worker(process):
                    workers.append(process.memory_info().rss)
        self.tree_mb = round(max(self.tree_mb or 0, total / 1e6), 1)
        if workers:
            self.worker_mb = round(max(self.worker_mb or 0, max(workers) / 1e6), 1)


def is_worker(process: psutil.Process) -> bool:
    """Whether it computes features. Spark's workers are forks of a daemon with the same command line; it does not."""
    line = " ".join(process.cmdline())
    if "daemon" in line:
        parent = process.parent()
        return any(name in line for name in WORKERS) and parent is not None and "daemon" in " ".join(parent.cmdline())
    return any(name in line for name in WORKERS)


def end(pids: Iterable[int]) -> None:
    """Ends what is left of these processes, and waits for it: some outlive a parent that was killed."""
    ended = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if str(places.HOOKS) in process.environ().get("PYTHONPATH", ""):  # a number may belong to another by now
                process.kill()
                ended.append(process)
    psutil.wait_procs(ended, timeout=10)
