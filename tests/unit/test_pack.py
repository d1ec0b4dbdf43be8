"""What a cluster is sent is complete, is named by what is in it, and runs where nothing of it is known."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from spark_apps.contract import BadSetting
from spark_apps.spark import packages

REPOSITORY = Path(__file__).resolve().parents[2]
BARE = [sys.executable, "-I"]
"""Python that sees neither the folder it is started in nor PYTHONPATH."""


def test_the_code_is_complete_and_runs_from_the_zip(tmp_path: Path) -> None:
    archive = packages.code(tmp_path)
    names = set(zipfile.ZipFile(archive).namelist())
    assert {"spark_apps/__init__.py", "spark_apps/contract/__init__.py", "spark_apps/model/engines.py"} <= names
    assert all(name.endswith(".py") for name in names)
    done = run_from(archive, "import spark_apps.media.imaging as module; print(module.__file__)", tmp_path)
    assert done == f"{archive}/spark_apps/media/imaging.py"


def test_the_same_code_has_the_same_name_and_bytes_wherever_it_lies(tmp_path: Path) -> None:
    archive = packages.code(tmp_path)
    (tmp_path / "again").mkdir()
    pack = f"print(packages.code(Path({str(tmp_path / 'again')!r})))"
    code = f"from pathlib import Path; from spark_apps.spark import packages; {pack}"
    again = Path(run_from(archive, code, tmp_path))
    assert again.name == archive.name == packages.code_name()
    assert again.read_bytes() == archive.read_bytes()


def run_from(archive: Path, code: str, folder: Path) -> str:
    command = [*BARE, "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {code}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_has_its_packages_and_what_they_require(tmp_path: Path) -> None:
    packages.environment(tmp_path / "environment.tar.gz", ["jsonschema"])
    with tarfile.open(tmp_path / "environment.tar.gz") as archive:
        assert {(member.uid, member.gid, member.uname) for member in archive} == {(0, 0, "")}
        archive.extractall(tmp_path / "node", filter="data")
    code = "import sys, jsonschema, referencing\nprint(jsonschema.__file__, sys.version_info[:2], sys.path, sep='\\n')"
    done = subprocess.run(
        ["node/bin/python", "-c", code], cwd=tmp_path, env=BARE_ENVIRONMENT, capture_output=True, text=True, check=True
    )
    place, version, path = done.stdout.splitlines()
    assert place == f"{tmp_path}/node/packages/jsonschema/__init__.py"
    assert version == str(sys.version_info[:2])
    assert sys.prefix not in path and str(REPOSITORY) not in path, "it sees nothing of the Python that packed it"


def test_a_worker_s_environment_has_the_decoders_that_are_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name for name, _ in packages.environment_files(packages.worker())}
    assert any(name.startswith("packages/pi_heif/") for name in found)
    monkeypatch.setattr(packages, "DECODER_PACKAGES", ("no-such-decoder",))
    assert packages.worker() == [*packages.WORKER, "cykooz-resizer"]


BARE_ENVIRONMENT = {"PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("name", "names", "words"),
    [
        ("environment.tar", ["pytest"], r"is not a \.tar\.gz"),
        ("environment.tar.gz", ["no-such-package"], "is not installed in"),
    ],
)
def test_what_cannot_be_packed_is_refused(name: str, names: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=words):
        packages.environment(tmp_path / name, names)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_why_it_failed_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spark_apps.pack", str(tmp_path / "environment.tgz"), "no-such-package"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-package is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == []
