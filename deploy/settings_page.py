"""Writes docs/settings.md from the code: the options of [image_features] and the settings of the commands.

python -m deploy.settings_page
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "plugins"))

from image_features.options import OPTIONS, TYPES, Option  # noqa: E402

from spark_apps import contract  # noqa: E402

PAGE = REPOSITORY / "docs" / "settings.md"
HEAD = """\
# Settings

<!-- Made by `make docs` from plugins/image_features/options.py and spark_apps/contract: change it there. -->

Two places: Airflow's section `[image_features]`, for the operator of an Airflow, and the arguments of the commands,
which the trigger form of the Dag shows as fields. A value that one refuses is refused by all.

## Options of `[image_features]`

In `airflow.cfg`, or as `AIRFLOW__IMAGE_FEATURES__<NAME>`, in every component of Airflow. An option that is not set, or
empty, has its default. Where the package is installed, `airflow config list --section image_features --defaults` shows
them too. An option that does not exist is a warning in the log of the Dag, with the nearest name.

### Places, connections and pages
"""
PROPOSALS = """
### What the trigger forms propose

Whoever triggers a run may change these in its form. `retention_hours` and `content_days` are for the Dag of the
maintenance, the others are settings of the commands below.
"""
COMMANDS = """
## Settings of the commands

For example `python -m spark_apps.ingest`, or `spark-submit spark_apps/ingest.py`. The operators take the same values
from the form. Bounds are inclusive. A boolean is a flag without a value.
"""
MANY = 12
"""So many choices and more are not listed in a cell."""


def page() -> str:
    """The whole document."""
    own = [option for option in OPTIONS.values() if not option.field]
    proposed = [option for option in OPTIONS.values() if option.field]
    parts = [HEAD, _options(own), PROPOSALS, _options(proposed), COMMANDS]
    for command, settings in contract.COMMANDS.items():
        parts += [f"### {command}\n\n{inspect.getdoc(settings)}", _settings(settings)]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _options(options: Iterable[Option]) -> str:
    rows = []
    for option in options:
        field = f" In the form: {option.field}." if option.field else ""
        example = f" Example: `{option.example}`." if option.example else ""
        since = "" if option.version_added == "0.1.0" else f" Since {option.version_added}."
        kind = _type(option.kind, option.choices, option.minimum, option.maximum)
        rows.append(
            (f"`{option.name}`", kind, _code(option.default), _prose(option.description + field) + example + since)
        )
    return _table(("option", "type", "default", "what"), rows)


def _settings(settings: type[contract.StoreSettings]) -> str:
    rows = []
    for spec in dataclasses.fields(settings):
        about: Mapping[str, Any] = contract.describe(settings, spec.name)
        required = spec.default is dataclasses.MISSING
        kind = _type(about["type"], about["choices"] or (), about["minimum"], about["maximum"])
        default = "must be given" if required else _code(about["default"])
        rows.append((f"`--{spec.name.replace('_', '-')}`", kind, default, _prose(about["help"])))
    return _table(("setting", "type", "default", "what"), rows)


def _type(kind: type, choices: Iterable[str], minimum: float | None, maximum: float | None) -> str:
    choices = tuple(choices)
    if len(choices) >= MANY:
        return f"one of {len(choices)} names: [models.md](models.md)"
    if choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in choices)
    if minimum is None:
        return TYPES[kind]
    return f"{TYPES[kind]}, " + (f"at least {minimum:,}" if maximum is None else f"{minimum:,} to {maximum:,}")


def _prose(text: str) -> str:
    return re.sub(r"[*_<]", r"\\\g<0>", text)


def _code(default: Any) -> str:
    if default is None or default == "":
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(REPOSITORY)} written.")
