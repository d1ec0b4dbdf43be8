"""docs/settings.md says what the code says."""

from __future__ import annotations

import dataclasses

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
