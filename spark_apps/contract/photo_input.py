"""The settings that say how photos become the input of a model whose file does not say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spark_apps.contract.errors import BadSetting

FIELDS = ("resize", "crop", "mean", "std", "interpolation", "layout")
INTERPOLATIONS = ("auto", "bilinear", "bicubic", "lanczos", "box")
LAYOUTS = ("auto", "NCHW", "NHWC")


def resize(text: str) -> tuple[int, ...]:
    """Pixels: of the short side, or height and width as 256x128; nothing of an empty text. Raises BadSetting."""
    return _sides("resize", text)


def crop(text: str) -> tuple[int, ...]:
    """Height and width of what is cut out, of one number or two; nothing of an empty text. Raises BadSetting."""
    found = _sides("crop", text)
    return found * 2 if len(found) == 1 else found


def mean(text: str) -> tuple[float, ...]:
    """Of red, green and blue, from one number or three; nothing of an empty text. Raises BadSetting."""
    return _numbers("mean", text)


def std(text: str) -> tuple[float, ...]:
    """The same, all above 0. Raises BadSetting."""
    found = _numbers("std", text)
    if any(value <= 0 for value in found):
        raise BadSetting("bad_std", f"std {text!r} is not above 0.", "Write one such as 0.229,0.224,0.225.")
    return found


def written(preprocessing: Mapping[str, Any]) -> dict[str, str]:
    """The settings that ask for the preprocessing of a `ModelInfo` again."""
    resized, cut = (
        list(one) if isinstance(one, list | tuple) else [one] for one in map(preprocessing.get, ("resize", "crop"))
    )
    if preprocessing.get("fit") == "squash" and len(resized) == 1:
        resized = resized * 2
    return {
        "resize": "x".join(map(str, resized)),
        "crop": "x".join(map(str, cut)),
        "mean": ",".join(map(str, preprocessing["mean"])),
        "std": ",".join(map(str, preprocessing["std"])),
        "interpolation": preprocessing.get("interpolation", "bilinear"),
        "layout": preprocessing.get("layout", "auto"),
    }


def _sides(name: str, text: str) -> tuple[int, ...]:
    if not text:
        return ()
    if not re.fullmatch(r"[1-9]\d{0,3}([x,] ?[1-9]\d{0,3})?", text):
        raise BadSetting(
            f"bad_{name}",
            f"{name} {text!r} is neither one side in pixels nor two.",
            "Write 224, or height and width: 256x128.",
        )
    return tuple(map(int, re.findall(r"\d+", text)))


def _numbers(name: str, text: str) -> tuple[float, ...]:
    if not text:
        return ()
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 3) or not all(abs(value) < 1e6 for value in found):
        raise BadSetting(
            f"bad_{name}",
            f"{name} {text!r} is neither one number nor three.",
            "Write red, green and blue, for pixels from 0 to 1: 0.485,0.456,0.406.",
        )
    return found * 3 if len(found) == 1 else found
