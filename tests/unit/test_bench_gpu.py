"""The benchmark for GPUs where there is none: it says so, and what needs no GPU runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch


def gpu(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *options]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do() -> None:
    done = gpu()
    assert done.returncode == 2
    assert "torch sees no CUDA device here" in done.stderr and "--device cpu" in done.stderr


@pytest.mark.slow_models
def test_what_needs_no_gpu_runs_and_stays_close_to_fp32() -> None:
    done = gpu("--device", "cpu", "--batch", "2", "--photos", "4", "--seconds", "0.01", "--cores", "1")
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines() if line}
    assert {"engine, fp16, as it stands", "whole way, decoded on the host"} <= lines.keys(), done.stdout
    for precision in ("bf16", "fp16"):
        assert float(lines[f"engine, {precision}, as it stands"].split()[-1]) > 0.999
