"""docs/settings.md says what the code says."""

from __future__ import annotations

import dataclasses
import re
import subprocess

from image_features.options import OPTIONS

from deploy import settings_page
from spark_apps import contract


def test_the_page_is_what_the_code_makes_of_it() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), "Run: make docs"


def test_every_option_and_every_setting_has_a_row() -> None:
    options, commands = settings_page.page().split("## Settings of the commands")
    rows = [line.split(" | ")[0] for line in options.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(f"| `{name}`" for name in OPTIONS)
    sections = commands.split("\n### ")[1:]
    assert [section.split("\n")[0] for section in sections] == list(contract.COMMANDS)
    for section, settings in zip(sections, contract.COMMANDS.values(), strict=True):
        rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
        assert rows == [f"| `--{field.name.replace('_', '-')}`" for field in dataclasses.fields(settings)]
        assert all(line.count("| ") == 4 for line in section.splitlines() if line.startswith("| "))


def test_no_file_names_an_option_that_is_not_there() -> None:
    """Docs, messages, compose file, demo and tests: by variable, or after the name of the section."""
    named = r"AIRFLOW__IMAGE_FEATURES__[A-Z_]+[A-Z]|`\[image_features\] [a-z_]+`|\[image_features\] [a-z]+_[a-z_]+"
    found = subprocess.run(["git", "grep", "-hoE", named], cwd=settings_page.REPOSITORY, capture_output=True, text=True)
    words = {re.split(r"__|\] ", line)[-1].strip("`").lower() for line in found.stdout.splitlines()}
    assert {"store", "storage_conn_id", "web_cache_mb"} <= words
    assert words <= set(OPTIONS)
