"""Models in files, ONNX and OpenVINO's IR: their numbers against onnxruntime, their photos, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_apps.contract import BadSetting, ExtractSettings, ModelInfo, ModelSettings, parse
from spark_apps.media import fitting
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import Calibration, ModelArtifact, prepare
from spark_apps.model.reference import reference
from spark_apps.model.sources import onnx as source
from tests import model_numbers
from tests.model_numbers import assert_close, refused
from tests.small_onnx import UINT8, made, saved

onnx: Any = __import__("onnx")
runtime: Any = __import__("onnxruntime")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("IMAGE_FEATURES_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return model_numbers.photos("astronaut.png", "coffee.png", "chelsea.png")


def run(artifact: ModelArtifact, photos: list[Image.Image], streams: int = 1) -> np.ndarray:
    return model_numbers.run(artifact, photos, streams).features


def expected(path: str, photos: list[Image.Image], size: tuple[int, int], output: str = "features") -> np.ndarray:
    """What onnxruntime gives of photos squashed to height and width and normalised as ImageNet's, by numpy alone."""
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for photo in photos:
        pixels = np.asarray(photo.resize(size[::-1], Image.Resampling.BILINEAR), np.float32) / 255
        values = ((pixels - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
        found.append(session.run([output], {"photo": values})[0].reshape(-1))
    return np.stack(found)


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shape": (1, 3, 64, 48)},
        {"shape": (1, 3, 64, 48), "frozen": True},
        {"shape": (4, 3, 64, 48)},
        {"shape": ("n", 3, "h", "w")},
        {"ends": ("pooled",)},
    ],
    ids=["any number", "one opened up", "one alone", "four at once", "any size", "flattened"],
)
def test_vectors_equal_onnxruntimes(options: dict[str, Any], tmp_path: Path, photos: list[Image.Image]) -> None:
    path = saved(tmp_path / "m.onnx", **options)
    fixed = options.get("shape", ("n",))[0]
    artifact = prepare(ModelSettings(path, crop="64x48"))
    found = run(artifact, photos)
    if fixed == 4:  # onnxruntime takes four, too
        plain = saved(tmp_path / "plain.onnx")
        wanted = expected(plain, photos, (64, 48))
    else:
        wanted = expected(path, photos, (64, 48), options.get("ends", ("features",))[0])
    assert_close(found, wanted)
    assert_close(run(artifact, photos[:1]), wanted[:1])
    assert run(artifact, photos * 3).shape == (9, 16)
    assert_close(run(artifact, photos * 3, streams=2), np.concatenate([wanted] * 3))
    assert (artifact.info.dim, artifact.info.classes, artifact.info.engine) == (16, 0, "openvino")
    again = reference(artifact.info.settings())
    assert_close(np.stack([again(photo) for photo in photos]), wanted)


def test_an_input_of_channels_last_or_of_whole_numbers_is_fed_as_it_wants(
    tmp_path: Path, photos: list[Image.Image]
) -> None:
    plain = expected(saved(tmp_path / "plain.onnx"), photos, (64, 48))
    last = prepare(ModelSettings(saved(tmp_path / "last.onnx", shape=("n", 64, 48, 3))))
    assert last.info.preprocessing["layout"] == "NHWC"
    assert_close(run(last, photos), plain)
    assert_close(reference(last.info.settings())(photos[0])[None], plain[:1])
    whole = prepare(ModelSettings(saved(tmp_path / "whole.onnx", kind=UINT8)))
    session = runtime.InferenceSession(str(tmp_path / "whole.onnx"))
    pixels = np.asarray(photos[0].resize((48, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
    assert_close(run(whole, photos[:1]), session.run(None, {"photo": pixels})[0])
    assert_close(reference(whole.info.settings())(photos[0])[None], session.run(None, {"photo": pixels})[0])


def test_of_two_towers_the_output_that_needs_the_photo_alone_is_taken_by_name(
    tmp_path: Path, photos: list[Image.Image]
) -> None:
    path = saved(tmp_path / "clip.onnx", text=True)
    error = refused(prepare, ModelSettings(path))
    assert error.code == "bad_layer"
    assert "features [n,16], text [n,16]" in error.message
    error = refused(prepare, ModelSettings(path, layer="text"))
    assert (error.code, "takes [0, 4], not photos" in error.message) == ("bad_model_file", True)
    artifact = prepare(ModelSettings(path, layer="features"))
    wanted = expected(saved(tmp_path / "plain.onnx"), photos, (64, 48))
    assert_close(run(artifact, photos), wanted)
    assert_close(reference(artifact.info.settings())(photos[0])[None], wanted[:1])
    assert artifact.info.layer == "features"


def test_an_ir_of_openvino_is_run_and_recomputed(tmp_path: Path, photos: list[Image.Image]) -> None:
    import openvino as ov

    path = saved(tmp_path / "m.onnx")
    ov.save_model(ov.convert_model(path), tmp_path / "m.xml", compress_to_fp16=False)
    artifact = prepare(ModelSettings(str(tmp_path / "m.xml")))
    wanted = expected(path, photos, (64, 48))
    assert_close(run(artifact, photos), wanted)
    assert_close(reference(artifact.info.settings())(photos[0])[None], wanted[:1])
    both = (tmp_path / "m.xml").read_bytes() + (tmp_path / "m.bin").read_bytes()
    assert artifact.info.weights_sha256 == hashlib.sha256(both).hexdigest()


def test_weights_in_a_file_beside_it_belong_to_the_model(tmp_path: Path, photos: list[Image.Image]) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(made(), path, save_as_external_data=True, location="m.onnx.data", size_threshold=10)
    artifact = prepare(ModelSettings(str(path)))
    assert_close(run(artifact, photos), expected(str(path), photos, (64, 48)))
    both = path.read_bytes() + (tmp_path / "m.onnx.data").read_bytes()
    assert artifact.info.weights_sha256 == hashlib.sha256(both).hexdigest()
    (tmp_path / "m.onnx.data").unlink()
    assert refused(prepare, ModelSettings(str(path))).code == "weights_missing"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b"])
def test_weights_elsewhere_are_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(made(), path, save_as_external_data=True, location="x" * len(name), size_threshold=10)
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))
    error = refused(prepare, ModelSettings(str(path)))
    assert (error.code, repr(name) in error.message) == ("bad_model_file", True)


@pytest.mark.slow_models
def test_int8_is_calibrated(tmp_path: Path, photos: list[Image.Image]) -> None:
    def pixels(preprocessing: Preprocessing) -> np.ndarray:
        shifted = [photo.rotate(angle) for photo in photos for angle in range(0, 360, 30)]
        return np.stack([np.asarray(fitting.fit(photo, preprocessing)) for photo in shifted])

    artifact = prepare(
        ModelSettings(saved(tmp_path / "m.onnx"), precision="int8"), calibration=Calibration("those", pixels)
    )
    assert artifact.info.calibration and artifact.info.calibration["cosine_q05"] >= 0.99


def test_int8_is_refused_where_the_batch_is_fixed(tmp_path: Path) -> None:
    four = ModelSettings(saved(tmp_path / "four.onnx", shape=(4, 3, 64, 48)), precision="int8")
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 48, 3), np.uint8)
    assert refused(prepare, four, calibration=Calibration("those", lambda preprocessing: noise)).code == "fixed_batch"


# --- photos and identity ----------------------------------------------------------------------------------------------


def test_photos_are_prepared_as_settings_say_then_the_document_then_as_is_usual(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", shape=("n", 3, "h", "w"))
    assert source.resolve(ModelSettings(path)).preset.to_json() == {
        "resize": 256, "crop": 224, "mean": list(MEAN), "std": list(STD),
    }  # fmt: skip
    document = {"resize": [80, 60], "crop": [64, 48], "mean": 0.5, "std": [0.1, 0.2, 0.3], "interpolation": "bicubic"}
    (tmp_path / "m.json").write_text(json.dumps(document))
    found = source.resolve(ModelSettings(path))
    assert found.preset.to_json() == {
        "resize": [80, 60], "crop": [64, 48], "mean": [0.5] * 3, "std": [0.1, 0.2, 0.3],
        "interpolation": "bicubic", "fit": "squash",
    }  # fmt: skip
    own = source.resolve(ModelSettings(path, resize="70", crop="56", std="1", interpolation="box"))
    assert own.preset.to_json() == {
        "resize": 70, "crop": 56, "mean": [0.5] * 3, "std": [1.0] * 3, "interpolation": "box",
    }  # fmt: skip
    assert len({found.names, own.names, source.resolve(ModelSettings(path, mean="0.4")).names}) == 3


def test_what_a_record_says_asks_for_the_same_again_whatever_the_document_says_later(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    (tmp_path / "m.json").write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "output": "features"}))
    artifact = prepare(ModelSettings(path, resize="65x49"))
    (tmp_path / "m.json").write_text(json.dumps({"mean": 0.9, "output": "other"}))
    record = ModelInfo.from_record(json.loads(json.dumps(artifact.info.to_record())))
    assert prepare(record.settings()).fingerprint == artifact.fingerprint
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (record.backbone, record.weights_sha256) == (path, sha256)
    assert artifact.key.startswith("onnx_m-")
    error = refused(prepare, ModelSettings(path, weights_sha256="0" * 64))
    assert (error.code, sha256 in error.message) == ("wrong_sha256", True)


def test_a_relative_path_of_the_command_line_is_that_of_the_callers_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    arguments = ["--store", "/s", "--partition", "p", "--run-id", "r", "--model", "lib/m.onnx", "--mean=0.5"]
    assert parse(ExtractSettings, arguments, "extract", "").model == "/usr/lib/m.onnx"
    arguments[7] = "s3://bucket/m.onnx"
    assert parse(ExtractSettings, arguments, "extract", "").model == "s3://bucket/m.onnx"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"operator": "Sharpen", "domain": "com.acme"}, "bad_model_file", "does not know: com.acme.Sharpen"),
        ({"ends": ("ids",)}, "bad_model_file", "no floating-point numbers"),
        ({"ends": ("maps",)}, "bad_model_file", "not one vector for each photo"),
        ({"ends": ("features", "pooled")}, "bad_layer", "features [n,16], pooled [n,16,1,1]"),
        ({"shape": ("n", 1, 64, 48)}, "bad_model_file", "not photos of three colours"),
    ],
)
def test_a_model_that_gives_no_vector_of_a_photo_is_refused(
    options: dict[str, Any], code: str, says: str, tmp_path: Path
) -> None:
    model = made(**options)
    if "shape" in options:  # the kernels, too, see one colour
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((16, 1, 7, 7), np.float32), "kernels"))
    onnx.save(model, tmp_path / "m.onnx")
    error = refused(prepare, ModelSettings(str(tmp_path / "m.onnx")))
    assert error.code == code
    assert says in error.message
    assert error.hint


@pytest.mark.parametrize("content", [b"", b"hello world" * 20, b"\x80\x02}q\x00.", b"<html></html>"])
@pytest.mark.parametrize("ending", ["onnx", "xml"])
def test_a_file_that_is_no_model_is_refused(content: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"m.{ending}").write_bytes(content)
    (tmp_path / "m.bin").write_bytes(b"")
    error = refused(prepare, ModelSettings(str(tmp_path / f"m.{ending}")))
    assert error.code == "bad_model_file"
    assert refused(prepare, ModelSettings(str(tmp_path / f"none.{ending}"))).code == "weights_missing"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"crop": "224"}, "bad_crop"),
        ({"resize": "60"}, "bad_resize"),
        ({"resize": "64x40"}, "bad_resize"),
        ({"layer": "other"}, "bad_layer"),
        ({"resize": "big"}, "bad_resize"),
        ({"crop": "0"}, "bad_crop"),
        ({"mean": "1,2"}, "bad_mean"),
        ({"std": "0"}, "bad_std"),
        ({"std": "nan"}, "bad_std"),
        ({"layout": "CHWN"}, "bad_layout"),
        ({"layout": "NHWC"}, "bad_model_file"),
        ({"engine": "torch"}, "contradiction"),
        ({"device": "cuda"}, "contradiction"),
        ({"weights": "keras-v1"}, "contradiction"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(settings: dict[str, str], code: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    assert refused(lambda: prepare(ModelSettings(path, **settings))).code == code


def test_models_that_say_it_themselves_take_no_settings_of_photos() -> None:
    for model in ("resnet50", "timm:resnet50"):
        error = refused(ModelSettings, model, crop="64", mean="0.5")
        assert (error.code, "crop and mean" in error.message) == ("contradiction", True)


@pytest.mark.parametrize(
    "document",
    ["[]", "{", '{"size": 3}', '{"crop": "big"}', '{"std": [0, 1, 1]}', '{"layout": "HWC"}', '{"mean": 1}x'],
)
def test_a_document_that_says_something_else_is_refused(document: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    (tmp_path / "m.json").write_text(document)
    error = refused(prepare, ModelSettings(path))
    assert (error.code, str(tmp_path / "m.json") in error.message) == ("bad_model_document", True)


def test_a_link_that_leads_out_of_the_places_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.onnx").symlink_to(saved(tmp_path / "secret.onnx"))
    spec = ModelSettings(str(tmp_path / "models" / "m.onnx"), weights_within=str(tmp_path / "models"))
    assert refused(prepare, spec).code == "weights_not_allowed"
    (tmp_path / "models" / "m.onnx").unlink()
    saved(tmp_path / "models" / "m.onnx")
    (tmp_path / "secret.json").write_text('{"mean": 0.1}')
    (tmp_path / "models" / "m.json").symlink_to(tmp_path / "secret.json")
    assert refused(prepare, spec).code == "weights_not_allowed"
    (tmp_path / "models" / "m.json").unlink()
    (tmp_path / "models" / "m.json").write_text('{"mean": 0.25}')
    for within in (tmp_path / "models", tmp_path / "models" / "m.onnx"):
        found = source.resolve(ModelSettings(str(tmp_path / "models" / "m.onnx"), weights_within=str(within)))
        assert found.preset.mean == (0.25, 0.25, 0.25)


def test_without_onnxruntime_the_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = saved(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = refused(prepare, ModelSettings(path))
    assert isinstance(error, BadSetting)
    assert (error.code, "image-features[onnx]" in error.hint) == ("package_missing", True)
