"""A process counts the cores that it may use, not those that the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spark_apps.contract import BadSetting
from spark_apps.host import cores
from spark_apps.spark.resources import task_settings
from tests.by_hand import REPOSITORY

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
ASK = """
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
from spark_apps.spark.resources import task_settings
print(task_settings("wide", False, {"spark.master": "local[*]"}.get))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="binds a process to one core")
def test_a_process_bound_to_one_core_has_one() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'spark.task.cpus': '1'}"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, HERE, id="no control groups"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1, id="a container of version 2"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 1, id="a group above"
        ),
        pytest.param({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, HERE, id="unlimited"),
        pytest.param({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "odd"}, HERE, id="unreadable"),
        pytest.param(
            {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "6400000 100000\n"},
            HERE,
            id="more than there are",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "90000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1,
            id="a container of version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            HERE,
            id="version 1, unlimited",
        ),
    ],
)
def test_a_quota_of_the_control_group_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert cores.available(write(tmp_path, files)) == expected


def test_a_part_of_a_core_is_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"})
    assert cores.available(root) == 3, "as the JVM counts for local[*]"


def test_a_wide_task_has_what_the_process_may_use() -> None:
    assert task_settings("wide", False, {"spark.master": "local[*,4]"}.get) == {
        "spark.task.cpus": str(cores.available())
    }


@pytest.mark.parametrize(("value", "expected"), [("2,1", 2), (" 3 ", 3), ("1", 1), ("", 5)])
def test_threads_are_the_first_number(monkeypatch: pytest.MonkeyPatch, value: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cores.threads(5) == expected


@pytest.mark.parametrize("value", ["many", "0", "-2", "1.5", ",2"])
def test_no_number_of_threads_is_a_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(BadSetting, match="OMP_NUM_THREADS"):
        cores.threads(5)
