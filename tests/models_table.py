"""The table of docs/models.md, from the catalogue: `python -m tests.models_table` prints it."""

from __future__ import annotations

from spark_apps.model import backbones
from spark_apps.model.backbones import FAMILIES
from spark_apps.model.network import width


def table() -> str:
    """One row for each backbone. Lengths are found by tracing shapes; nothing is computed."""
    rows = ["| family | `--model` | vector | photo: short side → square | resampling |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        for backbone in backbones.CATALOGUE.values():
            if backbone.family is family:
                preset = backbone.preset
                dim = width(backbone, preset)
                rows.append(
                    f"| {family.title} | `{backbone.name}` | {dim} | {preset.resize} → {preset.crop} | "
                    f"{preset.interpolation} |"
                )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
