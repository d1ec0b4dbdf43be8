"""Virtual environments as a user would make them: the built wheel and the packages of the registry, no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

OURS = (
    "torch",
    "torchvision",
    "openvino",
    "nncf",
    "deltalake",
    "pyarrow",
    "numpy",
    "pandas",
    "pi-heif",
    "pillow",
    "psutil",
    "puremagic",
)
"""What the wheel asks for, beside Airflow and Spark: as new as it likes, however old the Airflow."""
PROVIDER = ("apache-airflow-providers-apache-spark", "apache-airflow-providers-common-compat", "pyspark-client")
LATER = "2100-01-01"


@dataclass(frozen=True)
class Environment:
    """A virtual environment in `folder`."""

    folder: Path

    def run(self, *command: str, cwd: Path, timeout: float = 300, **variables: str) -> str:
        """What the command prints, standard error included. Fails with that where the command fails."""
        foreign = ("AIRFLOW", "PYTHONPATH", "PYSPARK", "SPARK_", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = os.pathsep.join([str(self.folder / "bin"), inherited["PATH"]])
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**inherited, "PATH": path, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    @property
    def packages(self) -> Path:
        """Where the wheel is unpacked."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"


def build_wheel(folder: Path) -> Path:
    """The project's wheel, built into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=REPOSITORY, check=True
    )
    [wheel] = folder.glob("*.whl")
    return wheel


@contextmanager
def made(folder: Path, wheel: Path, extra: str, *pins: str, as_of: str | None = None) -> Iterator[Environment]:
    """A new environment with `wheel[extra]` and `pins`, some GB that go in the end, whatever has happened.

    Its packages were there on the day `as_of`. An Airflow that is not the newest needs the packages of its time, which
    its constraints would name: with a later pydantic, for example, Airflow 3.2 does not start.
    """
    try:
        yield _make(folder, wheel, extra, *pins, as_of=as_of)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def of_others(folder: Path, *packages: str) -> Iterator[Environment]:
    """A new environment with `packages` and nothing of ours. It goes in the end."""
    try:
        _uv("venv", "--quiet", "--python", sys.executable, folder)
        _uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", *packages)
        yield Environment(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path, wheel: Path, extra: str, *pins: str, as_of: str | None) -> Environment:
    _uv("venv", "--quiet", "--python", sys.executable, folder)
    dates: list[str] = []
    if as_of:
        dates = ["--exclude-newer", as_of]
        for package in (*OURS, *PROVIDER, "pyspark", "image-features"):
            dates += ["--exclude-newer-package", f"{package}={LATER}"]
    wanted = f"image-features[{extra}] @ {wheel.as_uri()}"
    _uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", *dates, wanted, *pins)
    return Environment(folder)


def _uv(*arguments: str | Path) -> None:
    done = subprocess.run([REPOSITORY / "deploy" / "uv.sh", *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
