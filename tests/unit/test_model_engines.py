"""Engines: their numbers against torchvision's own model and transforms, their processes, their memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from spark_apps.contract import BACKBONES, BadSetting, ModelInfo, ModelSettings
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import Calibration, adopt, backbones, engines, labels, load, prepare, uncalibrated, worker
from spark_apps.model.network import Network
from spark_apps.model.random_weights import random_state_dict
from spark_apps.model.reference import reference
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision

ENGINES = ("torch", "openvino")
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "retina.jpg")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("IMAGE_FEATURES_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    folder = Path(skimage.data.__file__).parent
    return [Image.open(folder / name).convert("RGB") for name in PHOTOS]


@pytest.fixture(scope="module")
def pixels(photos: list[Image.Image]) -> np.ndarray:
    transforms = torchvision().transforms
    cut = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    return np.stack([np.asarray(cut(photo)) for photo in photos])


def plain_torchvision(backbone: str, seed: int, photos: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits, from torchvision's model and transforms alone."""
    import torch

    model = torchvision().models.get_model(backbone, weights=None)
    model.load_state_dict(random_state_dict(backbones.get(backbone), seed))
    model.eval()
    seen = []
    model.avgpool.register_forward_hook(lambda module, inputs, output: seen.append(output.flatten(1)))
    transform = torchvision().models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        logits = model(torch.stack([transform(photo) for photo in photos]))
    return seen[0].numpy(), logits.numpy()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_fp32_features_and_logits_equal_torchvisions(
    engine: str, backbone: str, photos: list[Image.Image], pixels: np.ndarray
) -> None:
    features, logits = plain_torchvision(backbone, 0, photos)
    artifact = prepare(ModelSettings(model=backbone, weights="random:0", engine=engine))
    outputs = load(artifact.info, artifact.files[0].parent, threads=1).run(pixels)
    assert outputs.features.dtype == outputs.logits.dtype == np.float32
    assert outputs.features.shape == (len(photos), artifact.info.dim) == features.shape
    assert abs(outputs.features - features).max() <= 1e-4
    assert abs(outputs.logits - logits).max() <= 1e-4


def test_reference_equals_torchvisions_model_and_transforms(photos: list[Image.Image]) -> None:
    features, _ = plain_torchvision("resnet18", 0, photos)
    by_spec = reference(ModelSettings(model="resnet18", weights="random:0"))
    by_info = reference(prepare(ModelSettings(model="resnet18", weights="random:0")).info.settings())
    for photo, expected in zip(photos, features, strict=True):
        np.testing.assert_allclose(by_spec(photo), expected, atol=1e-5)
        np.testing.assert_array_equal(by_info(photo), by_spec(photo))


def test_random_weights_give_features_that_tell_photos_apart(photos: list[Image.Image]) -> None:
    features, _ = plain_torchvision("resnet50", 0, photos)
    assert 0.1 < features.std() < 10
    assert (features > 0).mean() > 0.25
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)[np.triu_indices(len(photos), 1)]
    assert distances.min() > 1  # four orders above the agreement between engines that the tests above ask for


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if backbones.get(name).family.title == "ResNet"])
def test_every_resnet_gives_the_same_folded_as_torchvision_plain(backbone: str) -> None:
    import torch

    entry, preset = backbones.get(backbone), Preset(crop=64)
    state = random_state_dict(entry, 1)
    plain, taken = backbones.build(entry, 1000), backbones.build(entry, 1000)
    plain.load_state_dict(state, assign=True)
    taken.load_state_dict(state, assign=True)
    network = Network(entry, taken, preset)
    assert not [name for name, _ in network.named_parameters() if ".bn" in name or "downsample.1" in name]
    photo = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8))
    normalise = torchvision().transforms.Normalize(preset.mean, preset.std)
    with torch.inference_mode():
        features, logits = network(photo)
        expected = plain(normalise(photo.permute(0, 3, 1, 2) / 255))
    assert features.shape == (1, plain.fc.in_features)
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_do_not_depend_on_their_batch(engine: str, pixels: np.ndarray) -> None:
    artifact = prepare(ModelSettings(model="resnet18", weights="random:0", engine=engine))
    loaded = load(artifact.info, artifact.files[0].parent, threads=1)
    whole = loaded.run(pixels).features
    np.testing.assert_allclose(
        np.concatenate([loaded.run(pixels[:1]).features, loaded.run(pixels[1:]).features]), whole, atol=1e-5
    )
    assert loaded.run(pixels[:0]).features.shape == (0, 512)
    assert loaded.run(pixels[:0]).logits.shape == (0, 1000)
    again = loaded.run(pixels[:2]).features
    loaded.run(pixels[2:4])
    np.testing.assert_allclose(again, whole[:2], atol=1e-5)  # results are not views of a buffer that the next run fills
    divided = load(artifact.info, artifact.files[0].parent, threads=2, streams=2)
    for count in (0, 1, 2, len(pixels)):
        np.testing.assert_allclose(divided.run(pixels[:count]).features, whole[:count], atol=1e-5)
        np.testing.assert_allclose(divided.run(pixels[:count]).logits, loaded.run(pixels[:count]).logits, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_may_be_read_only_or_strided_but_not_misshapen(engine: str, pixels: np.ndarray) -> None:
    artifact = prepare(ModelSettings(model="resnet18", weights="random:0", engine=engine))
    loaded = load(artifact.info, artifact.files[0].parent, threads=1)
    expected = loaded.run(pixels[::2].copy()).features
    frozen = pixels.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(loaded.run(frozen[::2]).features, expected, atol=1e-5)
    np.testing.assert_allclose(
        loaded.run(np.frombuffer(pixels[::2].tobytes(), np.uint8).reshape(-1, 224, 224, 3)).features,
        expected,
        atol=1e-5,
    )
    for wrong in (pixels.astype(np.float32), pixels[0], pixels[:, :200], pixels.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match="not uint8"):
            loaded.run(wrong)


@pytest.mark.parametrize("engine", ENGINES)
def test_forced_bf16_stays_close_to_fp32(engine: str, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_FORCE_BF16", "1")
    full, half = (
        prepare(ModelSettings(model="resnet18", weights="random:0", engine=engine, precision=precision))
        for precision in ("fp32", "bf16")
    )
    a, b = (load(one.info, one.files[0].parent, threads=1).run(pixels[:2]).features for one in (full, half))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999
    assert b.dtype == np.float32
    assert full.fingerprint != half.fingerprint


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """72 squares cut from real photos, uint8 [72, 224, 224, 3]."""
    folder = Path(skimage.data.__file__).parent
    found = []
    for name in PHOTOS:
        photo = Image.open(folder / name).convert("RGB").resize((448, 448))
        cut = [photo.crop((x, y, x + 224, y + 224)) for x in (0, 112, 224) for y in (0, 112, 224)]
        found += [*cut, *(piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for piece in cut[:3])]
    return np.stack([np.asarray(piece) for piece in found])


def test_int8_is_calibrated_once_and_stays_close_to_fp32(crops: np.ndarray, pixels: np.ndarray) -> None:
    asked = []

    def decode(preprocessing: Preprocessing) -> np.ndarray:
        asked.append(preprocessing)
        return crops

    spec = ModelSettings("resnet18", "random:0", precision="int8")
    full = prepare(ModelSettings("resnet18", "random:0", engine="openvino"))
    small = prepare(spec, calibration=Calibration("those", decode))
    assert prepare(spec, calibration=Calibration("those", decode)) == small
    assert asked == [Preprocessing()]
    a, b = (load(one.info, one.files[0].parent, threads=1).run(pixels).features for one in (full, small))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0.99 <= cosine.min() < 1
    assert small.info.calibration["photos"] + small.info.calibration["held_out"] == len(crops)
    noted = small.info.calibration
    assert 0.99 <= noted["cosine_min"] <= noted["cosine_q01"] <= noted["cosine_q05"] <= noted["cosine_median"] < 1
    assert noted["below"] == 0
    assert sum(path.stat().st_size for path in small.files) < 0.3 * sum(path.stat().st_size for path in full.files)
    assert small.key == "resnet18-random_0-int8"
    assert small.fingerprint not in (full.fingerprint, uncalibrated(spec))

    kept = {path.name: path.read_bytes() for path in small.files}
    adopted = adopt(small.info, kept.__getitem__)
    assert (adopted.info, adopted.fingerprint) == (small.info, small.fingerprint)
    again = load(adopted.info, adopted.files[0].parent, threads=1).run(pixels).features
    np.testing.assert_allclose(again, b, atol=1e-5)


def test_int8_is_judged_by_its_tail_on_photos_it_has_not_seen(crops: np.ndarray) -> None:
    """One in five of those held out is black and white noise, unlike all it is calibrated on. No median shows it."""
    some_noise = crops.copy()
    hard = some_noise[: len(crops) // 3 : 5]
    hard[:] = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), hard.shape)
    spec = ModelSettings("resnet18", "random:0", precision="int8")
    with pytest.raises(BadSetting) as caught:
        prepare(spec, calibration=Calibration("some noise", lambda preprocessing: some_noise))
    assert caught.value.code == "int8_too_coarse"
    assert "5 % quantile" in caught.value.message
    median = re.search(r"median ([\d.]+)", caught.value.message)
    assert median and float(median[1]) > engines.MIN_INT8_COSINE


def test_a_model_that_was_damaged_in_the_store_is_refused() -> None:
    made = prepare(ModelSettings("resnet18", "random:0", engine="openvino"))
    with pytest.raises(BadSetting) as caught:
        adopt(made.info, lambda name: b"other bytes")
    assert caught.value.code == "model_damaged"


def test_label_is_the_most_likely_category_with_its_probability() -> None:
    logits = np.array([[0.0, np.log(3.0), 0.0], [1000.0, 0.0, 0.0]], np.float32)
    names = labels(["cat", "dog", "cup"], logits)
    assert [name for name, _ in names] == ["dog", "cat"]
    assert [score for _, score in names] == pytest.approx([0.6, 1.0])
    assert labels(None, logits) == [(None, None), (None, None)]
    json.dumps(names)


# --- artefacts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_artefact_says_all_about_itself_in_json(engine: str) -> None:
    artifact = prepare(ModelSettings(model="resnet18", weights="random:0", engine=engine, device="cpu"))
    info = ModelInfo.from_record(json.loads(json.dumps(artifact.info.to_record())))
    assert info == artifact.info
    assert info.preprocessing == {
        "resize": 256, "crop": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]
    }  # fmt: skip
    assert (info.backbone, info.weights, info.engine, info.precision) == (
        "resnet18",
        "random:0",
        engine,
        "fp32",
    )
    assert (info.layer, info.device, info.dim, info.categories) == ("avgpool", "cpu", 512, None)
    assert (info.key, info.fingerprint) == (artifact.key, artifact.fingerprint)
    assert artifact.key == "resnet18-random_0-fp32"
    assert [path.name for path in artifact.files] == list(info.files)
    assert all(path.is_file() and artifact.fingerprint in path.name for path in artifact.files)


@pytest.mark.parametrize("engine", ENGINES)
def test_artefact_is_made_once_and_again_when_damaged(engine: str) -> None:
    spec = ModelSettings(model="resnet18", weights="random:0", engine=engine)
    first = prepare(spec)
    written = [path.stat().st_mtime_ns for path in first.files]
    assert prepare(spec) == first
    assert [path.stat().st_mtime_ns for path in first.files] == written
    content = first.files[0].read_bytes()
    first.files[0].write_bytes(content[:1000] + b"\0" * 100 + content[1100:])
    assert prepare(spec).files == first.files
    assert [path.stat().st_mtime_ns for path in first.files] != written
    first.files[0].unlink()
    assert prepare(spec).files == first.files
    assert all(path.is_file() for path in first.files)


def test_failed_export_leaves_nothing_behind(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spark_apps.model import engine_torch

    def fails(model: object, precision: str, stem: Path) -> tuple[int, int]:
        stem.with_suffix(".pt").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(engine_torch, "export", fails)
    before = sorted(cache_folder.rglob("*"))
    with pytest.raises(OSError, match="No space"):
        prepare(ModelSettings(model="resnet18", weights="random:77", engine="torch"))
    assert sorted(cache_folder.rglob("*")) == before


def test_unwritable_cache_is_refused_with_the_variable_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BadSetting, match="IMAGE_FEATURES_CACHE") as caught:
        prepare(ModelSettings(model="resnet18", weights="random:0"))
    assert caught.value.code == "cache_unwritable"


# --- processes --------------------------------------------------------------------------------------------------------

WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from spark_apps.contract import ModelInfo
from spark_apps.model import worker
info, folder = ModelInfo.from_record(json.loads(sys.argv[1])), Path(sys.argv[2])
engines = {id(worker.engine(info, folder, 1)) for _ in range(3)}
worker.engine(info, folder, 1).run(np.zeros((2, 224, 224, 3), np.uint8))
mapped, name = {}, ""
for line in open("/proc/self/smaps"):
    first, *rest = line.split()
    if not first.endswith(":"):
        name = rest[-1] if len(rest) == 5 else ""
    elif info.fingerprint in name and first in ("Rss:", "Pss:", "Anonymous:"):
        mapped[first] = mapped.get(first, 0) + int(rest[0])
print(json.dumps({"loads": worker.loads, "engines": len(engines), "mapped": mapped,
                  "torch": "torch" in sys.modules, "torchvision": "torchvision" in sys.modules}), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_load_once_and_map_the_weights_instead_of_copying_them(engine: str) -> None:
    artifact = prepare(ModelSettings(model="resnet18", weights="random:0", engine=engine, device="cpu"))
    size_kb = max(path.stat().st_size for path in artifact.files) / 1024
    command = [sys.executable, "-c", WORKER, json.dumps(artifact.info.to_record()), str(artifact.files[0].parent)]
    first, second = (
        subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    try:
        reports = [json.loads(process.stdout.readline()) for process in (first, second)]
    finally:
        for process in (first, second):
            process.communicate()
    for report in reports:
        assert (report["loads"], report["engines"]) == (1, 1)
        assert report["mapped"]["Rss:"] > 0.9 * size_kb
        assert report["mapped"]["Anonymous:"] == 0  # no page was copied
        assert report["torch"] == (engine == "torch")
        assert report["torchvision"] == (engine == "torch")
    assert min(report["mapped"]["Pss:"] for report in reports) < 0.6 * size_kb  # who looked last had company


def test_worker_keeps_engines_of_different_models_threads_and_devices_apart() -> None:
    seeds = (71, 72)  # this process may have opened others already
    one, other = (prepare(ModelSettings(model="resnet18", weights=f"random:{seed}")) for seed in seeds)
    before = worker.loads
    first = worker.engine(one.info, one.files[0].parent, 1)
    assert worker.engine(one.info, one.files[0].parent, 1) is first
    assert worker.loads == before + 1
    assert worker.engine(other.info, other.files[0].parent, 1) is not first
    assert worker.engine(one.info, one.files[0].parent, 2) is not first
    assert worker.loads == before + 3


def test_nothing_is_reported_to_the_makers_of_openvino() -> None:
    """Its import sends a message by a forked process, by default and from every worker."""
    code = """
import sys
import spark_apps.model.engine_openvino, nncf, openvino.tools.ovc
print(type(openvino.tools.ovc.telemetry).__module__, "openvino_telemetry.main" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"], done.stderr


def test_who_only_prepares_photos_loads_no_engine() -> None:
    code = "import sys, spark_apps.extractors.image; print({'openvino', 'nncf', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout == "set()\n", done.stderr
