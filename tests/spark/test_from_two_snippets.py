"""docs/from-two-snippets.md: its code runs as one script, fails where it says so, and prints what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage

from tests.conftest import REPOSITORY

DOC = REPOSITORY / "docs" / "from-two-snippets.md"
FAILS = "# fails"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """torchvision's wheel does not import beside a CPU build of torch, in workers either: every Python of this test
    opens the project's door to it at its start."""
    door = "from spark_apps.model.torchvision_import import torchvision\ntorchvision()\n"
    (tmp_path / "sitecustomize.py").write_text(door)
    variables = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)]),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONWARNINGS": "ignore",
    }
    return {**os.environ, **variables}


def blocks() -> list[tuple[str, str]]:
    """Language and text of every block that names its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)


def without_download(source: str) -> str:
    """The same with random weights."""
    return source.replace('resnet50(weights="DEFAULT")', "resnet50(weights=None)").replace(
        'ImageVectorizer(weights="DEFAULT")', 'ImageVectorizer(weights="random:0")'
    )


def flat(text: str) -> str:
    return " ".join(text.split())


def test_every_block_does_what_the_page_says(tmp_path: Path, environment: dict[str, str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(Path(skimage.__file__).parent / "data" / name, photos)
    sources = [without_download(text) for language, text in blocks() if language == "python"]
    assert len(sources) == 9
    (tmp_path / "blocks.json").write_text(json.dumps(sources))
    script = [sys.executable, str(Path(__file__).with_name("run_snippets.py")), "blocks.json", str(photos)]
    run = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == len(sources), run.stderr[-3000:]

    answer = {"printed": "", "failure": None}
    remaining = iter(answers)
    for language, text in blocks():
        if language == "python":
            answer = next(remaining)
            assert (answer["failure"] is not None) == (FAILS in text), (text, answer["failure"], run.stderr[-3000:])
        elif language == "text":
            assert flat(text) in flat(answer["failure"] or answer["printed"]), text


def test_the_command_says_what_the_page_says(tmp_path: Path, environment: dict[str, str]) -> None:
    files = [text for language, text in blocks() if language == "python" and text.startswith("# first.py")]
    (tmp_path / "first.py").write_text(without_download(files[0]))
    commands = [text for language, text in blocks() if language == "console"]
    assert len(commands) == 1
    command, said = commands[0].split("\n", 1)
    assert command.startswith("$ python ")
    run = subprocess.run(
        [sys.executable, *command.split()[2:]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, said), run.stderr[-3000:]
