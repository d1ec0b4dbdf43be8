"""Every backbone by name: its numbers against torchvision's own model, its preset, its layers, its old files.

A sample, the smallest of each family, is computed in every run; `make test-all` computes all names.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from spark_apps.contract import BACKBONES, BadSetting, ExtractSettings, ModelInfo, ModelSettings
from spark_apps.media import fitting
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import (
    Calibration,
    Preset,
    backbones,
    engines,
    labels,
    load,
    prepare,
    sources,
    state_dicts,
    uncalibrated,
)
from spark_apps.model import weights as weights_module
from spark_apps.model.network import Network, width
from spark_apps.model.random_weights import random_state_dict
from spark_apps.model.reference import reference
from spark_apps.model.torchvision_import import torchvision
from spark_apps.model.weights import resolve
from tests.models_table import table

ENGINES = ("torch", "openvino")
REPOSITORY = Path(__file__).resolve().parents[2]
PHOTOS = ("astronaut.png", "coffee.png")

LAYERS = {
    "resnet18": "layer3",
    "efficientnet_b0": "features.4",
    "efficientnet_v2_s": "features.6",
    "convnext_tiny": "features.5",
    "mobilenet_v2": "features.14",
    "mobilenet_v3_small": "features.12",
    "regnet_y_400mf": "trunk_output.block3",
    "vit_b_32": "encoder.layers.encoder_layer_5",
    "swin_t": "features.5",
    "swin_v2_t": "features.3",
    "maxvit_t": "blocks.1",
    "densenet121": "features.denseblock3",
    "googlenet": "inception4e",
    "inception_v3": "Mixed_6e",
    "mnasnet0_5": "layers.12",
    "shufflenet_v2_x0_5": "stage3",
    "alexnet": "classifier.2",
    "squeezenet1_1": "features.7",
    "vgg11_bn": "features.14",
}
"""The smallest backbone of each family, two where a family changed, and an earlier layer of it."""

QUICK = {
    *("resnet18", "efficientnet_b0", "convnext_tiny", "mobilenet_v3_small", "regnet_y_400mf"),
    *("vit_b_32", "swin_t", "densenet121", "squeezenet1_1"),
}
"""Those that every run of the tests computes; the others take their turn in `make test-all`."""

OTHER_TASKS = {
    "detection": "boxes, not classes",
    "optical_flow": "takes two photos",
    "quantization": "the same models again, already quantised; precision int8 makes such a model of any weights",
    "segmentation": "a class for each pixel",
    "video": "takes clips",
}
"""Why models of torchvision's other modules are no backbones here."""


def by_name(names: list[str]) -> list[Any]:
    """Parameters: the quick ones as they are, every other name as a slow test."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow_models) for name in names]


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    folder = Path(skimage.data.__file__).parent
    return [Image.open(folder / name).convert("RGB") for name in PHOTOS]


def own_entry(name: str) -> Any:
    """torchvision's first weights of that name whose photos have the size that the model is built for by default."""
    entries = torchvision().models.get_model_weights(name)
    return next(entry for entry in entries if "E2E" not in entry.name)  # SWAG's end-to-end ones are of larger photos


def plain_torchvision(name: str, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """torchvision's own classifier with these weights, built without our code."""
    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # a RegNet computes its widths with tensors
        model = torchvision().models.get_model(name, weights=None, **options)
    if options:
        model.transform_input = True  # as torchvision sets it when it loads its own weights
    model.to_empty(device="cpu").eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            value.copy_(state[key])
    return model


def averaged(name: str, values: torch.Tensor) -> np.ndarray:
    """Features [n, c], as the documentation says: by the family's name, not by our table."""
    if name.startswith("vit") and values.ndim == 3:
        values = values[:, 1:].mean(1)
    elif values.ndim == 4:
        values = values.mean((1, 2) if name.startswith("swin") else (2, 3))
    return values.numpy()


def needs_memory(name: str) -> None:
    """Skips where the weights would not fit several times over: drawn, in the model, exported, and in the engine."""
    wanted = 8 * 4 * own_entry(name).meta["num_params"]
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    if available < wanted:
        pytest.skip(f"{name} needs {wanted / 2**30:.0f} GiB of memory, {available / 2**30:.0f} are free")


def run(spec: ModelSettings, photos: list[Image.Image]) -> tuple[ModelInfo, np.ndarray, np.ndarray]:
    """`info`, features and logits of an engine; the photos are prepared as extract does it."""
    artifact = prepare(spec)
    preprocessing = Preprocessing.of(artifact.info.preprocessing)
    pixels = np.stack([np.asarray(fitting.fit(photo, preprocessing)) for photo in photos])
    outputs = load(artifact.info, artifact.files[0].parent, threads=1).run(pixels)
    for file in artifact.files:  # all names together would fill the disk
        file.unlink()
    return artifact.info, outputs.features, outputs.logits


def classified(name: str, photos: list[Image.Image], dtype: torch.dtype = torch.float32) -> list[np.ndarray]:
    """Features and logits by torchvision's model and transforms alone."""
    model = plain_torchvision(name, random_state_dict(backbones.get(name), 0)).to(dtype)
    transform = own_entry(name).transforms()
    if backbones.get(name).family.title == "ResNet":
        transform = torchvision().models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    seen: list[np.ndarray] = []
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    last = head[-1] if head else model.classifier[1]  # a SqueezeNet has no linear layer
    last.register_forward_pre_hook(lambda module, inputs: seen.append(averaged(name, inputs[0])))
    with torch.inference_mode():
        logits = np.concatenate([model(transform(photo)[None].to(dtype)).numpy() for photo in photos])
    return [np.concatenate(seen), logits]


def assert_close(found: np.ndarray, expected: np.ndarray, exact: Callable[[], np.ndarray] | None = None) -> None:
    """`exact` gives what `expected` is in double precision. Some deep networks are ill-conditioned with random weights:
    there torchvision itself is more than the limit away from that, and others may be ten times as far."""
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    limit = 1e-4 * abs(expected).max()
    if exact is not None and abs(found - expected).max() > limit:
        limit = 10 * abs(expected - exact()).max()
    assert abs(found - expected).max() <= limit


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", by_name(list(BACKBONES)))
def test_engines_and_reference_equal_torchvisions_model_and_transforms(name: str, photos: list[Image.Image]) -> None:
    needs_memory(name)
    features, logits = classified(name, photos)
    exact = cache(lambda: classified(name, photos, torch.float64))
    assert 0.01 < features.std() < 100  # neither dead nor exploded
    apart = np.linalg.norm(features[:, None] - features[None], axis=2)[np.triu_indices(len(photos), 1)]
    assert apart.min() > 0.01 * np.linalg.norm(features, axis=1).max()  # two orders above the agreement asked for

    for engine in ENGINES:
        info, *outputs = run(ModelSettings(name, "random:0", engine=engine), photos)
        assert_close(outputs[0], features, lambda: exact()[0])
        assert_close(outputs[1], logits, lambda: exact()[1])
        assert (info.dim, info.classes) == (features.shape[1], 1000)
    assert_close(reference(info.settings())(photos[0])[None], features[:1], lambda: exact()[0][:1])


@pytest.mark.parametrize("name", by_name(list(LAYERS)))
def test_an_earlier_layer_is_that_of_torchvisions_model(name: str, photos: list[Image.Image]) -> None:
    layer = LAYERS[name]
    model = plain_torchvision(name, random_state_dict(backbones.get(name), 0))
    transform = backbones.get(name).preset
    seen: list[np.ndarray] = []
    model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: seen.append(averaged(name, output.clone()))
    )
    normalise = torchvision().transforms.Normalize(transform.mean, transform.std)
    with torch.inference_mode():
        for photo in photos:
            pixels = np.asarray(fitting.fit(photo, preprocessing_of(transform)))
            model(normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255)[None])
    features = np.concatenate(seen)
    assert features.ndim == 2

    for engine in ENGINES:
        info, *outputs = run(ModelSettings(name, "random:0", engine=engine, layer=layer), photos)
        assert_close(outputs[0], features)
        assert outputs[1].shape == (len(photos), 0)
        assert (info.layer, info.dim, info.classes, info.categories) == (layer, features.shape[1], 0, None)
        assert labels(info.categories, outputs[1]) == [(None, None)] * len(photos)
        assert info.key == f"{name}-random_0-fp32-{layer}".lower()
    assert_close(reference(info.settings())(photos[0])[None], features[:1])


def preprocessing_of(preset: Preset) -> Preprocessing:
    return Preprocessing.of(preset.to_json())


@pytest.mark.parametrize("engine", ENGINES)
def test_no_photos_give_no_features_at_an_earlier_layer_too(engine: str) -> None:
    artifact = prepare(ModelSettings("resnet18", "random:0", engine=engine, layer="layer2"))
    outputs = load(artifact.info, artifact.files[0].parent, threads=1).run(np.empty((0, 224, 224, 3), np.uint8))
    assert (outputs.features.shape, outputs.logits.shape) == ((0, 128), (0, 0))


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_classification_model_of_torchvision_is_here_and_the_others_have_a_reason() -> None:
    models = torchvision().models
    assert sorted(BACKBONES) == models.list_models(module=models)
    others = set(models.list_models()) - set(BACKBONES)
    modules = {models.get_model_builder(name).__module__.split(".")[2] for name in others}
    assert modules == set(OTHER_TASKS)


def test_every_family_is_in_the_sample() -> None:
    assert {backbones.get(name).family.title for name in LAYERS} == {family.title for family in backbones.FAMILIES}


@pytest.mark.parametrize("name", [name for name in BACKBONES if backbones.get(name).family.title != "ResNet"])
def test_the_preset_for_weights_without_one_is_torchvisions_own(name: str) -> None:
    shown = own_entry(name).transforms()
    assert backbones.get(name).preset == Preset(
        shown.resize_size[0], shown.crop_size[0], tuple(shown.mean), tuple(shown.std), shown.interpolation.value
    )
    assert shown.antialias


def test_the_preset_of_all_resnets_is_the_one_that_published_vectors_carry() -> None:
    titles = {backbones.get(name).preset for name in BACKBONES if backbones.get(name).family.title == "ResNet"}
    assert titles == {Preset(256, 224)}


@pytest.mark.parametrize("name", by_name(list(BACKBONES)))
def test_every_layer_that_is_offered_gives_vectors(name: str) -> None:
    """Shapes alone: nothing is computed. The last layer shows that the cut is where the name says."""
    entry = backbones.get(name)
    offered = backbones.layers(entry)
    assert len(offered) >= 4
    for layer in (offered[0], offered[-1]):
        assert backbones.layer(entry, layer) == layer
        model = backbones.build(entry, 10)
        channels = Network(entry, model, entry.preset, layer=layer)
        assert channels.classes == 0
        assert 8 <= width(entry, entry.preset, layer=layer) <= 8192
    assert sum(1 for _ in channels.parameters()) <= sum(1 for _ in backbones.build(entry, 10).parameters())


def test_the_table_in_the_documentation_is_that_of_the_catalogue() -> None:
    page = (REPOSITORY / "docs" / "models.md").read_text()
    assert table() in page, f"docs/models.md should hold:\n\n{table()}"


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer", "offered"),
    [
        ("resnet50", "layer9", "layer1, layer2, layer3, layer4."),
        ("resnet50", "layer3.0", "layer1, layer2, layer3, layer4."),
        ("vgg16", "features.31", "features.0, features.1,"),
        ("vit_b_16", "encoder.layers.encoder_layer_12", "encoder.layers.encoder_layer_11."),
        ("maxvit_t", "layer3", "stem, blocks.0, blocks.1, blocks.2, blocks.3."),
    ],
)
def test_an_unknown_layer_is_refused_with_those_there_are(name: str, layer: str, offered: str) -> None:
    with pytest.raises(BadSetting) as caught:
        prepare(ModelSettings(name, "random:0", layer=layer))
    assert caught.value.code == "bad_layer"
    assert repr(layer) in caught.value.message
    assert offered in caught.value.hint


def test_a_layer_that_is_no_name_is_refused_by_the_command() -> None:
    for layer in ("../x", "layer3 ", "a..b", ".a"):
        with pytest.raises(BadSetting) as caught:
            ExtractSettings(store="/s", partition="p", run_id="r", layer=layer)
        assert caught.value.code == "bad_layer"


def identity(spec: ModelSettings) -> str:
    return engines._identity(spec, sources.resolve(spec), "torch", None)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet18", {}, "d586bfecfd16a215"),
        ("resnet18", {"decode": "scaled"}, "742b78c569db6971"),
        ("resnet18", {"precision": "bf16"}, "ffed2ea5576b3c5f"),
        ("resnet50", {}, "d77aa3bfb2c4e5d3"),
        ("resnet50", {"decode": "scaled"}, "390cf6da5f47a4b7"),
        ("resnet50", {"precision": "bf16"}, "d111ee56a69d4e14"),
    ],
)
def test_fingerprints_of_resnets_are_those_that_stores_already_hold(
    name: str, options: dict[str, str], expected: str
) -> None:
    """Written down before there were other families, layers and interpolations."""
    assert identity(ModelSettings(name, "random:0", engine="torch", **options)) == expected


@pytest.mark.parametrize(
    ("name", "usual", "other"), [("color", "stored", "srgb"), ("raw", "preview", "developed")], ids=["color", "raw"]
)
def test_other_colours_and_developed_photos_are_another_model(name: str, usual: str, other: str) -> None:
    plain = ModelSettings("resnet18", "random:0", engine="torch")
    assert identity(dataclasses.replace(plain, **{name: usual})) == identity(plain)
    assert identity(dataclasses.replace(plain, **{name: other})) != identity(plain)


def test_an_int8_model_of_a_resnet_is_found_where_stores_already_hold_one() -> None:
    """However it was made: a store looks for it by what all models of one spec share."""
    assert uncalibrated(ModelSettings("resnet18", "random:0", precision="int8")) == "be6809274671ebdf"


def test_the_usual_place_has_one_identity_whatever_it_is_called_and_each_layer_its_own() -> None:
    spec = ModelSettings("mobilenet_v3_small", "random:0")
    named = ModelSettings("mobilenet_v3_small", "random:0", layer="penultimate")
    assert identity(spec) == identity(named)
    assert prepare(named).key == "mobilenet_v3_small-random_0-fp32"
    earlier = [ModelSettings("mobilenet_v3_small", "random:0", layer=layer) for layer in ("features.3", "features.4")]
    assert len({identity(spec), *map(identity, earlier)}) == 3


# --- photos -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b4", "swin_v2_t", "inception_v3", "maxvit_t"])
@pytest.mark.parametrize("size", [(500, 375), (375, 501), (120, 90), (1999, 1333), (224, 224)])
def test_a_photo_is_resized_and_cut_as_by_torchvisions_own_transforms(name: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, 3), np.uint8)
    photo = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    preset, shown = backbones.get(name).preset, own_entry(name).transforms()
    found = np.asarray(fitting.fit(photo, preprocessing_of(preset))).astype(np.float64) / 255
    expected = shown(photo).permute(1, 2, 0).numpy() * np.array(shown.std) + np.array(shown.mean)
    assert abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_only_another_interpolation_than_bilinear_is_written_down(interpolation: str) -> None:
    preset = Preset(260, 256, interpolation=interpolation)
    assert Preset.from_json(preset.to_json()) == preset
    assert ("interpolation" in preset.to_json()) == (interpolation == "bicubic")
    assert preprocessing_of(preset) == Preprocessing(260, 256, False, interpolation)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_each_of_torchvisions_weights_brings_its_own_preset_and_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for entry in torchvision().models.get_model_weights(name):
        (folder / entry.url.rsplit("/", 1)[1]).touch()  # so that nothing is downloaded
        if entry.meta["categories"] is None:
            with pytest.raises(BadSetting, match="lack the classifier"):
                weights_module._ask_hub(backbones.get(name), entry.name)
            continue
        known = weights_module._ask_hub(backbones.get(name), entry.name.lower())
        shown = entry.transforms()
        assert Preset.from_json(known["preset"]) == Preset(
            shown.resize_size[0], shown.crop_size[0], tuple(shown.mean), tuple(shown.std), shown.interpolation.value
        )
        model = backbones.build(backbones.get(name), 1000, known["variant"])
        # torchvision counts what its files hold: GoogLeNet's and Inception's have side branches, used in training only.
        if not backbones.get(name).family.training_only:
            assert sum(parameter.numel() for parameter in model.parameters()) == entry.meta["num_params"]
        if name.startswith("vit"):
            assert model.image_size == shown.crop_size[0]


def old_names_of_densenet(key: str) -> str:
    for part in ("norm", "conv"):
        for number in "12":
            key = key.replace(f".{part}{number}.", f".{part}.{number}.") if ".denselayer" in key else key
    return key


def old_names_of_vit(key: str) -> str:
    return key.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.")


@pytest.mark.parametrize(("name", "old"), [("densenet121", old_names_of_densenet), ("vit_b_32", old_names_of_vit)])
def test_files_with_torchvisions_old_names_are_understood(name: str, old: Callable[[str], str]) -> None:
    """Its own downloads of these families are such files."""
    state = random_state_dict(backbones.get(name), 0)
    renamed = {old(key): value for key, value in state.items()}
    assert len(set(renamed) - set(state)) > 20
    model = state_dicts.fit(backbones.get(name), "", renamed, "w.pth")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "branch"), [("googlenet", "aux1.fc2.weight"), ("inception_v3", "AuxLogits.fc.weight")]
)
def test_what_only_training_uses_is_left_out(name: str, branch: str) -> None:
    state = random_state_dict(backbones.get(name), 0)
    model = state_dicts.fit(backbones.get(name), "", {**state, branch: torch.zeros(1000, 4)}, "w.pth")
    assert branch not in model.state_dict()
    assert model.transform_input


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "mnasnet0_5", "vit_b_32", "swin_t"])
def test_own_weights_of_other_classes_are_taken_and_another_familys_are_told_apart(name: str, tmp_path: Path) -> None:
    entry = backbones.get(name)
    state = random_state_dict(entry, 3)
    for part in ("weight", "bias"):
        key = f"{entry.family.head}.{part}"
        state[key] = state[key][:7]
    torch.save(OrderedDict(state), tmp_path / "own.pth")
    found = resolve(ModelSettings(name, str(tmp_path / "own.pth"), engine="torch"))
    network = Network(entry, found.model(), entry.preset)
    assert network.classes == 7
    with pytest.raises(BadSetting) as caught:
        resolve(ModelSettings("resnet18", str(tmp_path / "own.pth"))).model()
    assert caught.value.code == "weights_mismatch"
    assert f"They fit {name}:" in caught.value.hint


def test_own_weights_of_a_vit_say_for_which_photos_they_are(tmp_path: Path) -> None:
    entry = backbones.get("vit_b_32")
    state = random_state_dict(entry, 3)
    for side, variant in ((7, ""), (12, "image-size-384")):
        state["encoder.pos_embedding"] = torch.zeros(1, 1 + side * side, 768)
        torch.save(state, tmp_path / f"{side}.pth")
        found = resolve(ModelSettings("vit_b_32", str(tmp_path / f"{side}.pth")))
        assert (found.variant, found.preset.crop) == (variant, 32 * side)
        assert found.model().image_size == 32 * side
    assert found.preset == Preset(384, 384, interpolation="bicubic")


def test_a_vit_of_larger_photos_has_its_own_position_embeddings() -> None:
    entry = backbones.get("vit_b_16")
    model = backbones.build(entry, 1000, "image-size-384")
    assert tuple(model.encoder.pos_embedding.shape) == (1, 1 + 24 * 24, 768)
    assert width(entry, Preset(384, 384, interpolation="bicubic"), "image-size-384") == 768


# --- int8 -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squares(photos: list[Image.Image]) -> Callable[[Preprocessing], np.ndarray]:
    """18 squares cut from the photos, uint8 [18, crop, crop, 3]."""

    def cut(preprocessing: Preprocessing) -> np.ndarray:
        side, found = preprocessing.crop, []
        for photo in photos:
            large = photo.resize((2 * side, 2 * side))
            steps = (0, side // 2, side)
            found += [large.crop((x, y, x + side, y + side)) for x in steps for y in steps]
        return np.stack([np.asarray(piece) for piece in found])

    return cut


def test_int8_that_is_too_coarse_is_refused_and_nothing_is_kept(
    squares: Callable[[Preprocessing], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "MIN_INT8_COSINE", 1.0)
    spec = ModelSettings("squeezenet1_1", "random:0", precision="int8")
    with pytest.raises(BadSetting) as caught:
        prepare(spec, calibration=Calibration("those", squares))
    assert caught.value.code == "int8_too_coarse"
    monkeypatch.setattr(engines, "MIN_INT8_COSINE", 0.9)
    assert prepare(spec, calibration=Calibration("those", squares)).info.precision == "int8"


@pytest.mark.slow_models
@pytest.mark.parametrize("name", list(LAYERS))
def test_int8_of_every_family_is_close_to_fp32_or_refused(
    name: str, squares: Callable[[Preprocessing], np.ndarray]
) -> None:
    try:
        spec = ModelSettings(name, "random:0", precision="int8")
        made = prepare(spec, calibration=Calibration("those", squares)).info.calibration
        print(f"{name}: cosine min {made['cosine_min']}, 5 % {made['cosine_q05']}, median {made['cosine_median']}")
        assert made["cosine_q05"] >= engines.MIN_INT8_COSINE
    except BadSetting as refused:
        print(f"{name}: {refused}")
        assert refused.code == "int8_too_coarse"
