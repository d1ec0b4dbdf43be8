"""What this machine can run: devices and number formats, and the refusal of what it cannot."""

from __future__ import annotations

import glob
import importlib.util
import os
from pathlib import Path

from spark_apps.contract import PRECISIONS, BadSetting

FORCE_BF16 = "IMAGE_FEATURES_FORCE_BF16"
"""Environment variable; 1 runs bf16 where the processor lacks it: correct or silently fp32, and slow."""


def choose(engine: str, device: str) -> tuple[str, str]:
    """The engine and device that `auto` stands for here. Engine openvino means a CPU, so it decides the device.

    Raises:
        BadSetting: the engine asked for is not installed.
    """
    if device == "auto":
        device = "cuda" if engine != "openvino" and has_cuda() else "cpu"
    if engine == "auto":
        engine = "openvino" if device == "cpu" and _installed("openvino") else "torch"
    if not _installed(engine):
        raise BadSetting(
            "engine_missing", f"Engine {engine} is not installed.", f"Run `pip install {engine}`, or use engine auto."
        )
    return engine, device


def require_decoding(decode: str) -> None:
    """Refuses what `--decode` asks for where its package is not installed. Raises BadSetting."""
    if decode == "fast" and not _installed("cykooz_resizer"):
        raise BadSetting(
            "resizer_missing",
            "Decode fast needs the package cykooz-resizer, which is not installed.",
            "Run `pip install cykooz-resizer`, or use decode exact.",
        )


def require(engine: str, device: str, precision: str) -> None:
    """Refuses what this machine cannot run.

    Raises:
        BadSetting: no CUDA device, no such one, or a number format without support in hardware.
    """
    if device.startswith("cuda"):
        _require_cuda(device)
    if not PRECISIONS[precision].cpu_flags or os.environ.get(FORCE_BF16) == "1":
        return
    if device.startswith("cuda"):
        import torch

        lacking = "" if torch.cuda.is_bf16_supported(including_emulation=False) else torch.cuda.get_device_name(device)
    else:
        lacking = "" if has_bf16(Path("/proc/cpuinfo")) else "This machine's processor"
    if lacking:
        raise BadSetting(
            "no_bf16",
            f"{lacking} has no bf16 arithmetic; emulating it with engine {engine} would be slower than fp32.",
            f"Use precision fp32, or set {FORCE_BF16}=1 to force it.",
        )


def has_cuda() -> bool:
    """Whether torch sees a GPU. Loads torch only where the kernel shows one (its import takes seconds)."""
    if os.name == "posix" and not any(map(glob.glob, ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd"))):
        return False
    if not _installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def has_bf16(cpuinfo: Path) -> bool:
    """Whether the processor multiplies bf16 in hardware, by the flags that Linux lists."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return bool(flags.intersection(PRECISIONS["bf16"].cpu_flags))


def _require_cuda(device: str) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index < count:
        return
    built = "" if torch.version.cuda else " (this build of torch has no CUDA)"
    raise BadSetting(
        "no_cuda",
        f"Device {device} was asked for, but torch sees {count} CUDA devices here{built}.",
        "Use device auto or cpu, or run where a GPU, its driver and a CUDA build of torch are installed.",
    )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
