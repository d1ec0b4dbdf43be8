"""What a model is called and when two are the same: specs, fingerprints, keys, and the choice of engine and device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_apps.contract import (
    BACKBONES,
    MODEL_SOURCES,
    PRECISIONS,
    BadSetting,
    ExtractSettings,
    ModelInfo,
    ModelSettings,
    model_source,
)
from spark_apps.model import Calibration, Preset, backbones, load, machine, prepare, sources
from spark_apps.model.spec import fingerprint
from spark_apps.vectorizer import ImageVectorizer

IDENTITY: dict[str, Any] = {
    "weights_sha256": "ab" * 32,
    "backbone": "resnet50",
    "variant": "",
    "preprocessing": Preset().to_json(),
    "precision": "fp32",
    "engine": "torch",
}


def refused(call: Any, *args: Any, **kwargs: Any) -> BadSetting:
    with pytest.raises(BadSetting) as caught:
        call(*args, **kwargs)
    return caught.value


def test_model_settings_follow_the_commands_settings_and_defaults() -> None:
    settings = ExtractSettings(store="/s", partition="p", run_id="r")
    assert (
        ModelSettings.of(settings)
        == ModelSettings()
        == ModelSettings("resnet50", "DEFAULT", "", "auto", "fp32", "auto")
    )
    settings = ExtractSettings(
        store="/s", partition="p", run_id="r", model="resnet18", weights="random:1", weights_sha256="0" * 64,
        engine="torch", precision="bf16", device="cuda",
    )  # fmt: skip
    assert ModelSettings.of(settings) == ModelSettings("resnet18", "random:1", "0" * 64, "torch", "bf16", "cuda")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"model": "vgg99"}, "bad_model"),
        ({"model": "timm:a/b"}, "bad_model"),
        ({"model": "keras:resnet50"}, "bad_model"),
        ({"engine": "tpu"}, "bad_engine"),
        ({"precision": "fp8"}, "bad_precision"),
        ({"device": "mps"}, "bad_device"),
        ({"weights": ""}, "bad_weights"),
        ({"weights_sha256": "abc"}, "bad_weights_sha256"),
        ({"engine": "openvino", "device": "cuda"}, "contradiction"),
        ({"model": "resnet18", "weights": "keras-v1"}, "contradiction"),
    ],
)
def test_model_settings_refuse_what_the_command_refuses(values: dict[str, str], code: str) -> None:
    assert refused(ModelSettings, **values).code == code
    assert refused(ExtractSettings, store="/s", partition="p", run_id="r", **values).code == code


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("resnet5O", "Did you mean resnet50?"),
        ("ResNet50", "Did you mean resnet50?"),
        ("openclip:ViT-B-32", "Did you mean open_clip:ViT-B-32?"),
        ("timm/resnet18", "Did you mean timm:resnet18?"),
        ("/models/mine.pth", "give the file as the weights"),
        ("dinov2", "python -m spark_apps.models lists the names"),
    ],
)
def test_a_misspelt_model_is_answered_with_what_may_be_meant_and_how_models_are_named(model: str, says: str) -> None:
    hint = refused(ModelSettings, model=model).hint
    assert says in hint
    assert all(source.form in hint for source in MODEL_SOURCES.values())


def test_a_source_is_a_line_of_the_contract_and_a_module() -> None:
    """Each does what `Source` asks for, and its own examples are names of it."""
    for name, about in MODEL_SOURCES.items():
        functions = vars(sources.source(name))
        assert {"names", "knows", "resolve", "skeleton", "reference"} <= functions.keys()
        assert all(model_source(example) == name for example in about.examples)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ["auto", "torch", "openvino"])
@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_a_precision_runs_on_the_engines_and_devices_of_the_table(precision: str, engine: str, device: str) -> None:
    about = PRECISIONS[precision]
    runs = engine in ("auto", *about.engines) and device in ("auto", *about.devices)
    if runs and (engine, device) != ("openvino", "cuda"):
        ModelSettings(precision=precision, engine=engine, device=device)
    else:
        assert refused(ModelSettings, precision=precision, engine=engine, device=device).code == "contradiction"


def test_the_vectorizer_takes_the_same_settings_and_no_others() -> None:
    assert refused(ImageVectorizer, weights="random:0", precision="int4").code == "bad_precision"
    assert refused(ImageVectorizer, weights="random:0", layer="layer9").code == "bad_layer"
    with pytest.raises(TypeError, match="presicion"):
        ImageVectorizer(weights="random:0", presicion="bf16")  # type: ignore[call-arg]


def test_fingerprint_is_stable_across_versions_of_this_code() -> None:
    # Published vectors carry it: this value may only change together with the vectors.
    assert fingerprint(**IDENTITY) == "b3da2413fc7da7a2"
    assert fingerprint(**{**IDENTITY, "weights_sha256": "AB" * 32}) == fingerprint(**IDENTITY)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "cd" * 32},
        {"backbone": "resnet101"},
        {"variant": "stride-in-conv1"},
        {"preprocessing": Preset(resize=232).to_json()},
        {"preprocessing": Preset(crop=256).to_json()},
        {"preprocessing": Preset(mean=(0.5, 0.5, 0.5)).to_json()},
        {"preprocessing": Preset(std=(0.5, 0.5, 0.5)).to_json()},
        {"precision": "bf16"},
    ],
)
def test_fingerprint_changes_with_whatever_changes_the_vectors(change: dict[str, Any]) -> None:
    assert fingerprint(**{**IDENTITY, **change}) != fingerprint(**IDENTITY)


def test_engine_counts_where_it_changes_the_numbers_and_only_there() -> None:
    def of(**change: str) -> str:
        return fingerprint(**{**IDENTITY, **change})

    assert of(engine="torch") == of(engine="openvino")
    assert of(engine="torch", precision="bf16") != of(engine="openvino", precision="bf16")


def test_preset_survives_json() -> None:
    preset = Preset(232, 224, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert Preset.from_json(preset.to_json()) == preset


@pytest.mark.parametrize("name", BACKBONES)
def test_catalogue_names_torchvisions_models_and_their_heads(name: str) -> None:
    entry = backbones.get(name)
    model = backbones.build(entry, 7)
    assert model.get_submodule(entry.family.head).weight.shape[0] == 7
    assert all(parameter.is_meta for parameter in model.parameters())


def test_unknown_backbone_is_refused_with_the_list() -> None:
    assert "resnet50" in refused(backbones.get, "vgg99").hint


# --- engine, device, precision ----------------------------------------------------------------------------------------


def test_auto_takes_openvino_on_a_cpu_and_torch_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_cuda", lambda: False)
    assert machine.choose("auto", "auto") == ("openvino", "cpu")
    assert machine.choose("torch", "auto") == ("torch", "cpu")
    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    assert machine.choose("auto", "auto") == ("torch", "cuda")
    assert machine.choose("auto", "cpu") == ("openvino", "cpu")
    assert machine.choose("openvino", "auto") == ("openvino", "cpu")


def test_auto_takes_torch_where_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_installed", lambda package: package != "openvino")
    assert machine.choose("auto", "cpu") == ("torch", "cpu")
    error = refused(machine.choose, "openvino", "auto")
    assert (error.code, "pip install openvino" in error.hint) == ("engine_missing", True)


def test_missing_gpu_is_refused_on_the_driver_and_in_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    error = refused(prepare, ModelSettings(weights="random:0", device="cuda"))
    assert (error.code, "0 CUDA devices" in error.message) == ("no_cuda", True)
    info = ModelInfo(key="k", fingerprint="f", engine="torch", device="cuda:1")
    assert refused(load, info, tmp_path, 1).code == "no_cuda"


def test_driver_without_a_gpu_can_prepare_for_workers_that_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path))
    artifact = prepare(ModelSettings(model="resnet18", weights="random:0", device="cuda"), here=False)
    assert (artifact.info.engine, artifact.info.device) == ("torch", "cuda")


def test_bf16_is_refused_without_hardware_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.FORCE_BF16, raising=False)
    monkeypatch.setattr(machine, "has_bf16", lambda cpuinfo: False)
    error = refused(machine.require, "openvino", "cpu", "bf16")
    assert error.code == "no_bf16"
    assert machine.FORCE_BF16 in error.hint
    monkeypatch.setenv(machine.FORCE_BF16, "1")
    machine.require("openvino", "cpu", "bf16")
    monkeypatch.delenv(machine.FORCE_BF16)
    monkeypatch.setattr(machine, "has_bf16", lambda cpuinfo: True)
    machine.require("openvino", "cpu", "bf16")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni", True),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx512f avx512_vnni", False),
        ("model name\t: amx_bf16", False),
    ],
)
def test_bf16_is_read_from_the_processors_flags(tmp_path: Path, line: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert machine.has_bf16(tmp_path / "cpuinfo") is expected
    assert machine.has_bf16(tmp_path / "missing") is False


@pytest.mark.parametrize("photos", [None, 3])
def test_int8_without_enough_photos_says_what_to_do(photos: int | None) -> None:
    few = photos and Calibration("few", lambda preprocessing: np.zeros((photos, 224, 224, 3), np.uint8))
    error = refused(prepare, ModelSettings("resnet18", "random:0", precision="int8"), calibration=few)
    assert error.code == "no_calibration"
    assert "at least 16" in error.message
    assert "fp32" in error.hint


def test_a_scaled_decode_and_a_calibration_are_part_of_the_identity() -> None:
    scaled = Preset().to_json() | {"decode": "scaled"}
    identities = {
        fingerprint(**IDENTITY),
        fingerprint(**{**IDENTITY, "preprocessing": scaled}),
        fingerprint(**{**IDENTITY, "precision": "int8"}),
        fingerprint(**{**IDENTITY, "precision": "int8"}, calibration="some photos"),
        fingerprint(**{**IDENTITY, "precision": "int8"}, calibration="some photos", recipe=2),
    }
    assert len(identities) == 5
    assert fingerprint(**IDENTITY, calibration="some photos") == fingerprint(**IDENTITY)  # fp32 needs none
