"""The Python API takes every setting of a model by name, and tells what it runs."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest

from spark_apps import vectorizer
from spark_apps.contract import ModelSettings
from spark_apps.vectorizer import ImageVectorizer

ASKED = ModelSettings(
    model="resnet18",
    weights="random:0",
    weights_sha256="a" * 64,
    engine="torch",
    precision="bf16",
    device="cpu",
    decode="scaled",
    layer="layer3",
    weights_within="/weights",
    color="srgb",
    raw="developed",
)
IN_A_FILE = ModelSettings(
    model="/models/photo.onnx",
    resize="240",
    crop="224",
    mean="0.5",
    std="0.25",
    interpolation="bicubic",
    layout="NHWC",
)
"""With the settings that only such a model has; it has no weights of its own."""


class Asked(Exception):
    """Carries what a model was asked for."""


def test_every_setting_of_a_model_is_a_keyword_with_its_default() -> None:
    taken = inspect.signature(ImageVectorizer).parameters
    for field in dataclasses.fields(ModelSettings):
        default = None if field.name == "weights" else field.default  # then the environment is asked first
        assert taken[field.name].default == default
    with pytest.raises(TypeError, match="batchsize"):
        ImageVectorizer(batchsize=3)  # type: ignore[call-arg]


def test_every_setting_reaches_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(spec: ModelSettings, calibration: object) -> None:
        raise Asked(spec)

    both = (ASKED, IN_A_FILE)
    for field in dataclasses.fields(ModelSettings):
        assert any(getattr(settings, field.name) != field.default for settings in both), field.name
    monkeypatch.setattr(vectorizer, "prepare", prepare)
    for settings in both:
        with pytest.raises(Asked) as asked:
            ImageVectorizer(**dataclasses.asdict(settings))
        assert asked.value.args == (settings,)


def test_info_tells_by_name_what_model_json_does() -> None:
    info = ImageVectorizer("resnet18", "random:0").info
    assert (info["key"], info["dim"], info["weights"]) == ("resnet18-random_0-fp32", 512, "random:0")
    assert info.get("nothing") is None
    assert json.loads(json.dumps(info)) == info
