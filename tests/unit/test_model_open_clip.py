"""Models of open_clip: both towers against open_clip itself, the tokenizers, and the pages' child that reads words.

The architectures are small ones of the tests' own, with random weights. `make test-all` takes more of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_features.web.children import Child
from image_features.web.refusals import Refused
from PIL import Image

from spark_apps.contract import BadSetting, IndexSettings, ModelInfo, ModelSettings
from spark_apps.extractors import kept_models
from spark_apps.index import index
from spark_apps.media import fitting
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import ModelArtifact, prepare, words
from spark_apps.model.reference import reference
from spark_apps.model.sources import open_clip as source
from spark_apps.model.sources import two_towers
from spark_apps.model.torchvision_import import torchvision
from spark_apps.search import embedding
from spark_apps.search.__main__ import main as search
from spark_apps.search.reading import open_index
from spark_apps.spark.jobs import Timings
from tests import model_numbers, small_onnx
from tests.model_numbers import assert_close, refused
from tests.shelf import Shelf
from tests.small_open_clip import CONFIG, NAME, TEXT

torchvision()
open_clip: Any = __import__("open_clip")

ENGINES = ("torch", "openvino")
COCA = {**TEXT, "context_length": 76}
CONFIGS: dict[str, dict[str, Any]] = {
    NAME: CONFIG,
    "tests-siglip": {
        "embed_dim": 32,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"},
        "text_cfg": {**TEXT, "context_length": 16, "vocab_size": 300, "no_causal_mask": True, "proj_bias": True,
                     "pool_type": "last", "tokenizer_kwargs": {"clean": "canonicalize"}},
    },
    "tests-resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tests-coca": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "attentional_pool": True,
                       "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {**COCA, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**COCA, "attn_pooler_heads": 4},
    },
}  # fmt: skip
TEXTS = (
    "a red bicycle",
    "Hello, WORLD!!  it's 2026 &amp;amp; we'll see;\n\tdon't",
    "ünïcödé naïve ﬁne 日本語 😀👍🏽 Ωμέγα кот",
    "<start_of_text> a <end_of_text> of 1234,5 %",
    "so many words " * 40,
    "___ ... !!! ***",
    "",
)


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("IMAGE_FEATURES_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module", autouse=True)
def architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Known to open_clip, each by its name; that of SigLIP has a tokenizer of Hugging Face's, on this disk."""
    folder = tmp_path_factory.mktemp("architectures")
    CONFIGS["tests-siglip"]["text_cfg"]["hf_tokenizer_name"] = str(sentence_pieces(folder / "tokenizer"))
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def sentence_pieces(folder: Path) -> Path:
    """A tokenizer as SigLIP's: unigrams, an end and padding, in the form in which the hub has them."""
    tokenizers: Any = __import__("tokenizers")
    transformers: Any = __import__("transformers")
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    made.train_from_iterator([*TEXTS, (Path(__file__).read_text())], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return model_numbers.photos("astronaut.png", "coffee.png")


def spec(name: str, weights: str = "random:0", **options: str) -> ModelSettings:
    return ModelSettings(f"open_clip:{name}", weights, **options)


def run(artifact: ModelArtifact, photos: list[Image.Image]) -> np.ndarray:
    return model_numbers.run(artifact, photos).features


def plain(name: str) -> tuple[Any, Any]:
    """open_clip's own model, with the weights of seed 0, and its transform; without our loading."""
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.load_state_dict(source.resolve(spec(name)).load().state_dict())
    return model.eval(), transform


def opened(artifact: ModelArtifact) -> words.Words:
    assert artifact.folder
    return words.opened(artifact.info, artifact.folder, 1)


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "tests-vit",
        "tests-siglip",
        pytest.param("tests-resnet", marks=pytest.mark.slow_models),
        pytest.param("tests-coca", marks=pytest.mark.slow_models),
    ],
)
def test_both_towers_equal_open_clips(name: str, photos: list[Image.Image]) -> None:
    model, transform = plain(name)
    with torch.inference_mode():
        expected = np.stack([model.encode_image(transform(p)[None], normalize=False)[0].numpy() for p in photos])
    assert np.linalg.norm(expected[0] - expected[1]) > 0.01 * np.linalg.norm(expected[0])
    for engine in ENGINES:
        artifact = prepare(spec(name, engine=engine))
        assert_close(run(artifact, photos), expected)
        assert (artifact.info.dim, artifact.info.classes) == (32, 0)
    assert_close(reference(artifact.info.settings())(photos[0])[None], expected[:1])
    tokenizer, side = open_clip.get_tokenizer(name), opened(artifact)
    np.testing.assert_array_equal(side.tokens(TEXTS), tokenizer(list(TEXTS)).numpy())
    with torch.inference_mode():
        texts = model.encode_text(tokenizer(list(TEXTS)), normalize=False).numpy()
    assert_close(side.vectors(TEXTS), texts)


@pytest.mark.slow_models
@pytest.mark.parametrize("name", ["ViT-S-32-alt", "RN50", "MobileCLIP2-S0", "PE-Core-T-16-384"])
def test_architectures_of_open_clip_equal_it(name: str, photos: list[Image.Image]) -> None:
    model, transform = plain(name)
    artifact = prepare(spec(name))
    with torch.inference_mode():
        expected = np.stack([model.encode_image(transform(p)[None], normalize=False)[0].numpy() for p in photos])
        tokens = open_clip.get_tokenizer(name)(list(TEXTS))
        texts = model.encode_text(tokens, normalize=False).numpy()
    assert_close(run(artifact, photos), expected)
    assert_close(opened(artifact).vectors(TEXTS), texts)


def test_tokens_are_open_clips_whatever_is_written() -> None:
    tokenizer = open_clip.get_tokenizer("tests-vit")
    document, side = two_towers._described(tokenizer)
    ours = words.Words(side, document, None)
    random = np.random.default_rng(0)
    ranges = (range(32, 0x345), range(0x370, 0x400), range(0x1F300, 0x1F400), range(0x4E00, 0x4E80))
    letters = [chr(code) for codes in ranges for code in codes]
    some = ["".join(random.choice(letters, random.integers(1, 60))) for _ in range(300)]
    np.testing.assert_array_equal(ours.tokens(some), tokenizer(some).numpy())


def test_a_template_is_open_clips_zero_shot_classifier() -> None:
    model, _ = plain("tests-vit")
    side, tokenizer = opened(prepare(spec("tests-vit"))), open_clip.get_tokenizer("tests-vit")
    for name, templates in (
        ("simple", open_clip.SIMPLE_IMAGENET_TEMPLATES),
        ("openai", open_clip.OPENAI_IMAGENET_TEMPLATES),
    ):
        expected = open_clip.build_zero_shot_classifier(model, tokenizer, ["red bicycle"], templates, device="cpu")
        assert_close(side.vector("red bicycle", name), expected[:, 0].detach().numpy())
    assert refused(side.vector, "x", "other").code == "bad_template"
    assert refused(side.vector, " ").code == "empty_text"


def test_photos_are_prepared_as_open_clip_says() -> None:
    known = source.Known("x", "", {
        "size": [48, 64], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic", "mode": "RGB",
        "resize_mode": "shortest", "fill_color": 7,
    }, {})  # fmt: skip
    noise = np.random.default_rng(7).integers(0, 256, (75, 100, 3), np.uint8)
    transform = open_clip.transform
    for mode in ("shortest", "longest", "squash"):
        for size in ([48, 64], 56):
            for shape in ((100, 75), (75, 130), (40, 40)):
                photo = Image.fromarray(noise).resize(shape)
                known.preprocess.update({"resize_mode": mode, "size": size})  # type: ignore[attr-defined]
                preset = known.preset
                found = np.asarray(fitting.fit(photo, Preprocessing.of(preset.to_json()))) / 255
                cfg = transform.PreprocessCfg(**known.preprocess)
                expected = transform.image_transform_v2(cfg, is_train=False)(photo).permute(1, 2, 0).numpy()
                np.testing.assert_allclose((found - preset.mean) / preset.std, expected, atol=1e-5)


# --- weights and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_weights_of_ones_own_are_read_whatever_the_file_is_called(form: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = source.resolve(spec("tests-vit", "random:3")).load().state_dict()
    path = tmp_path / "weights"
    save_file(state, path) if form == "safetensors" else torch.save({"state_dict": state}, path)
    found = source.resolve(spec("tests-vit", str(path)))
    read = found.load().state_dict()
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)
    assert refused(prepare, spec("tests-resnet", str(path))).code == "weights_mismatch"


def test_weights_of_ones_own_give_their_vectors(tmp_path: Path, photos: list[Image.Image]) -> None:
    model, transform = plain("tests-vit")
    torch.save(model.state_dict(), tmp_path / "weights")
    artifact = prepare(spec("tests-vit", str(tmp_path / "weights")))
    with torch.inference_mode():
        expected = model.encode_image(transform(photos[0])[None]).numpy()
    assert_close(run(artifact, photos[:1]), expected)
    assert artifact.key == f"open_clip_tests_vit-weights_{artifact.info.weights_sha256[:8]}-fp32"


def test_weights_of_a_tag_are_found_by_open_clips_own_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's client stands for the hub: no test asks it."""
    asked = []

    def download(repo_id: str, filename: str, revision: str | None) -> str:
        asked.append((repo_id, filename))
        torch.save({"not": torch.zeros(1)}, tmp_path / filename)
        return str(tmp_path / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = source.resolve(ModelSettings("open_clip:ViT-B-32/laion2b_s34b_b79k"))
    assert asked == [("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors")]
    assert found.model == "open_clip:ViT-B-32/laion2b_s34b_b79k"
    siglip = source.resolve(ModelSettings("open_clip:ViT-B-16-SigLIP/webli"))
    assert (siglip.preset.fit, siglip.preset.mean) == ("squash", (0.5, 0.5, 0.5))
    error = refused(source.resolve, ModelSettings("open_clip:ViT-B-32/openai"))
    assert "open_clip:ViT-B-32-quickgelu/openai" in error.hint


@pytest.mark.parametrize(
    ("name", "weights", "code", "says"),
    [
        ("ViT-B-33", "random:0", "bad_model", "Did you mean open_clip:ViT-B-32"),
        ("ViT-B-32/laion", "random:0", "bad_model", "python -m spark_apps.models"),
        ("tests-vit", "DEFAULT", "no_weights", "open_clip:tests-vit/PRETRAINED"),
        ("tests-vit", "IMAGENET1K_V1", "bad_weights", "open_clip:NAME/PRETRAINED"),
    ],
)
def test_what_open_clip_does_not_have_is_refused(name: str, weights: str, code: str, says: str) -> None:
    error = refused(prepare, spec(name, weights))
    assert error.code == code
    assert says in error.hint


@pytest.mark.parametrize("name", ["hf-hub:owner/model", "local-dir:/etc", "a/b/c", ""])
def test_other_places_than_open_clips_own_are_no_names(name: str) -> None:
    assert refused(spec, name).code == "bad_model"


def test_a_text_side_that_cannot_be_made_does_not_keep_the_photos_back(
    monkeypatch: pytest.MonkeyPatch, photos: list[Image.Image]
) -> None:
    def fails(name: str) -> None:
        raise OSError("The hub has no such tokenizer.")

    monkeypatch.setattr(open_clip, "get_tokenizer", fails)
    artifact = prepare(spec("tests-vit", "random:8"))
    assert run(artifact, photos).shape == (2, 32)
    assert not artifact.beside
    error = refused(words.opened, artifact.info, artifact.folder, 1)
    assert (error.code, "no such tokenizer" in error.message) == ("no_words", True)


# --- in a store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(shelf: Shelf) -> ModelArtifact:
    """The model in the store, and two photos with the vectors that it gives of them."""
    artifact = prepare(spec("tests-vit"))
    kept_models.keep(shelf.store, artifact)
    side = opened(artifact)
    vectors = {f"/photos/{name}.jpg": side.vector(text) for name, text in (("bike", "a red bicycle"), ("cat", "a cat"))}
    shelf.publish(
        "2026-11-20", "r1", {uri: uri for uri in vectors}, vectors=vectors, model=artifact.key,
        fingerprint=artifact.fingerprint,
    )  # fmt: skip
    return artifact


def test_the_store_keeps_the_text_side_beside_the_engines_files(shelf: Shelf, kept: ModelArtifact) -> None:
    folder = Path(shelf.store, "models", kept.fingerprint)
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.json", *kept.info.files, *kept.info.text_files}
    assert len(kept.info.text_files) == 4
    assert ModelInfo.from_record(json.loads((folder / "model.json").read_text())) == kept.info
    assert {file.name for file in kept.files} == set(kept.info.files), "workers get none of it"


def test_words_find_the_photo_whose_vector_is_theirs(shelf: Shelf, kept: ModelArtifact, capsys: Any) -> None:
    index(IndexSettings(store=shelf.store, model=kept.key), Timings())
    found = open_index(shelf.store, kept.key).nearest("A red  bicycle", 1)
    assert [(one.uri, round(one.similarity, 4)) for one in found] == [("/photos/bike.jpg", 1.0)]
    capsys.readouterr()
    arguments = ["--store", shelf.store, "--model", kept.key, "-k", "1", "--json"]
    assert search([*arguments, "--text", "a cat"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["uri"] == "/photos/cat.jpg"
    assert search([*arguments, "--text", "cat", "--template", "simple"]) == 0
    assert search([*arguments, "--text", " "]) == 2


def test_a_model_without_a_text_side_says_so(shelf: Shelf, tmp_path: Path) -> None:
    artifact = prepare(ModelSettings(small_onnx.saved(tmp_path / "m.onnx")))
    kept_models.keep(shelf.store, artifact)
    shelf.publish(
        "p", "r", {"/a": "a"}, vectors={"/a": [1.0] * 16}, model=artifact.key, fingerprint=artifact.fingerprint
    )
    error = refused(embedding.of_words, shelf.store, artifact.key, "a cat")
    assert (error.code, artifact.key in error.message) == ("no_words", True)


def test_the_child_of_the_pages_reads_words_without_torch(shelf: Shelf, kept: ModelArtifact) -> None:
    folder = Path(shelf.store, "models", kept.fingerprint)
    child = Child("words", str(folder), "0", seconds=20)
    try:
        said, payload = child.ask(b"a red bicycle", 20)
        assert said == {}
        np.testing.assert_allclose(np.frombuffer(payload, "<f4"), opened(kept).vector("a red bicycle"), rtol=1e-5)
        for bad in (b"\xff\xfe", b"  "):
            with pytest.raises(Refused):
                child.ask(bad, 20)
        assert child.ask(b"a cat", 20)[0] == {}, "and goes on"
    finally:
        child.close()
    script = (
        "import sys\nfrom pathlib import Path\nfrom spark_apps import embed\n"
        f"embed.reader(Path({str(folder)!r}))(b'a cat')\n"
        "print(sorted({'torch', 'open_clip', 'timm', 'transformers', 'pyspark'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_child_says_why_a_model_knows_no_words(tmp_path: Path) -> None:
    info = ModelInfo(key="k", fingerprint="ab12")
    (tmp_path / "model.json").write_text(json.dumps(info.to_record()))
    child = Child("words", str(tmp_path), "0", seconds=20)
    with pytest.raises(Refused) as caught:
        child.ask(b"a cat", 20)
    assert (caught.value.status, caught.value.code) == (422, "no_words")
    child.close()


def test_without_open_clip_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "open_clip", None)
    error = refused(prepare, spec("ViT-B-32"))
    assert isinstance(error, BadSetting)
    assert (error.code, "image-features[open_clip]" in error.hint) == ("package_missing", True)
