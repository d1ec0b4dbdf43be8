"""deploy/install.sh, which fills the image: more packages of one's own beside ours, at our versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def wheel(folder: Path, name: str, version: str, requires: str = "", **files: str) -> None:
    """A wheel that pip takes; `files` lie in the package, with __ for a slash in their names."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
        for path, content in files.items():
            archive.writestr(f"{name}/{path.replace('__', '/')}", content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build folder as the Dockerfile makes it, with packages of a few bytes."""
    folder = tmp_path / "build"
    (folder / "deploy").mkdir(parents=True)
    (folder / "wheels").mkdir()
    shutil.copy(REPOSITORY / "deploy" / "install.sh", folder / "deploy")
    (folder / "requirements.in").write_text("torch\n# Demo and tests\nabsent\n")
    (folder / "requirements.txt").write_text("torch==1.0\nshared==1.0\n")
    (folder / "deploy" / "requirements.txt").write_text("")
    wheel(folder / "wheels", "torch", "1.0", bin__torch_shm_manager="", include__x="")
    for version in ("1.0", "2.0"):
        wheel(folder / "wheels", "shared", version)
    wheel(folder / "wheels", "extra", "1.0", requires="shared")
    wheel(folder / "wheels", "picky", "1.0", requires="shared>=2")
    wheel(folder / "wheels", "picky", "0.9")
    return folder


def install(build: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    command = ["bash", str(build / "deploy" / "install.sh"), str(build / "venv"), str(build / "wheels"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def versions(build: Path) -> dict[str, str]:
    found = (
        path.name.removesuffix(".dist-info").split("-") for path in build.glob("venv/lib/*/site-packages/*.dist-info")
    )
    return {name: version for name, version in found if name not in ("pip", "setuptools")}


pytestmark = pytest.mark.skipif(shutil.which("python3.11") is None, reason="the image's Python is not here")


def test_without_more_packages_ours_alone_are_there(build: Path) -> None:
    done = install(build, "")  # what the Dockerfile passes on by default
    assert done.returncode == 0, done.stderr
    assert versions(build) == {"torch": "1.0"}


def test_more_packages_are_installed_and_our_versions_stay(build: Path) -> None:
    done = install(build, "extra picky<1")
    assert done.returncode == 0, done.stderr
    assert versions(build) == {"torch": "1.0", "extra": "1.0", "picky": "0.9", "shared": "1.0"}


def test_a_package_that_does_not_go_with_ours_ends_the_build_and_is_named(build: Path) -> None:
    done = install(build, "picky==1.0")
    assert done.returncode != 0
    assert "Cannot install picky==1.0" in done.stderr
