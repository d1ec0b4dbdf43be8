"""A small architecture for open_clip, so that tests have a model with two towers without any weights of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "tests-vit"
TEXT: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": TEXT,
}


def register(folder: Path) -> str:
    """Makes the architecture known to open_clip in this process; what `--model` takes."""
    from spark_apps.model.sources import package

    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    package("open_clip", "open_clip").add_model_config(folder)
    return f"open_clip:{NAME}"
