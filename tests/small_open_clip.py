"""A small architecture for open_clip, so that tests have a model with two towers without any weights of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

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


def cosines(model: str, words: str, features: np.ndarray) -> np.ndarray:
    """The cosine of each row of features [n, dim] to the words, by the text tower and tokenizer of open_clip itself.

    `model`: as `--model`, with the weights of seed 0.
    """
    import torch

    from spark_apps.contract import ModelSettings
    from spark_apps.model.sources import open_clip as source
    from spark_apps.model.sources import package

    open_clip, name = package("open_clip", "open_clip"), model.removeprefix("open_clip:")
    towers = open_clip.create_model(name)
    towers.load_state_dict(source.resolve(ModelSettings(model, "random:0")).load().state_dict())
    with torch.inference_mode():
        text = towers.eval().encode_text(open_clip.get_tokenizer(name)([words]), normalize=True)[0].numpy()
    found: np.ndarray = features @ text / np.linalg.norm(features, axis=1)
    return found
