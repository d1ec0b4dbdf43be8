"""The documents hold together: links lead somewhere, and the README's numbers are those of the benchmarks."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.install import test_airflow, test_spark

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_to_what_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), f"{page.name} leads to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} leads to {target}"


def test_each_page_can_be_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", (REPOSITORY / "README.md").read_text()))
    assert {page.name for page in PAGES if page.parent.name == "docs"} <= linked


def test_the_readmes_numbers_are_those_of_the_benchmarks() -> None:
    """Each row of its table is in a table of docs/benchmarks.md, which has one for each kind of processor, without the
    columns it leaves out."""

    def rows(page: str) -> list[dict[str, str]]:
        text = (REPOSITORY / page).read_text()
        found = []
        for table in re.findall(r"^\| system \|.*\n(?:\|.*\n)+", text, re.MULTILINE):
            head, _, *body = ([cell.strip() for cell in line.strip("|\n ").split("|")] for line in table.splitlines())
            found += [dict(zip(head, cells, strict=False)) for cells in body]
        return found

    shown, measured = rows("README.md"), rows("docs/benchmarks.md")
    assert len(shown) >= 5
    for row in shown:
        assert any(row.items() <= other.items() for other in measured), row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_the_targets_of_make_are_there(page: Path) -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    listed = subprocess.run(["make", "-s", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_files_and_tests_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    folders = "spark_apps|plugins|tests|docs|deploy|benchmarks|dags|demo"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
        assert (REPOSITORY / name).exists(), f"{page.name} names {name}"
    for name in re.findall(r"`(test_\w+)`", text):
        found = subprocess.run(["git", "grep", "-q", f"def {name}(", "tests"], cwd=REPOSITORY, check=False)
        assert found.returncode == 0, f"{page.name} names {name}"
    for module in re.findall(r"python -m ((?:spark_apps|benchmarks|demo)(?:\.\w+)*)", text):
        place = REPOSITORY / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), f"{page.name} names {module}"


def test_the_versions_of_the_readme_are_those_that_are_tried() -> None:
    """`make test-versions` runs a day on each."""
    rows = dict(
        re.findall(r"^\| (Airflow|Spark) \| ([\d., ]+) \|", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    )
    minors = {name: {".".join(version.split(".")[:2]) for version in row.split(", ")} for name, row in rows.items()}
    (of_spark,) = (mark for mark in test_spark.test_the_jobs.pytestmark if mark.name == "parametrize")
    assert minors == {
        "Airflow": set(test_airflow.AIRFLOWS),
        "Spark": {case.values[0] for case in of_spark.args[1]},
    }


def test_the_extras_of_the_install_page_are_those_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    text = (REPOSITORY / "docs" / "install.md").read_text()
    table = re.search(r"^\| extra \|.*\n(?:\|.*\n)+", text, re.MULTILINE)
    assert table
    first = " ".join(line.split("|")[1] for line in table[0].splitlines()[2:])
    assert set(re.findall(r"`(\w+)`", first)) == set(project["optional-dependencies"])
    wheels = set(re.findall(r"image_features-([\d.]+)-py3", text))
    assert wheels == {project["version"]}
