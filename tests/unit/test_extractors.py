"""Extractors: what is built in gives the vectors it declares; what a user's does wrong is told or quarantined."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from spark_apps import extractors
from spark_apps.contract import BadFile, BadSetting, ExtractSettings, IngestSettings, Manifest
from spark_apps.extractors import Extractor

INGESTED = Manifest(
    stage="ingest",
    run_id="r",
    partition="d",
    started_at="",
    finished_at="",
    counts={},
    seconds={},
    settings={},
    versions={},
    code_hash="",
)


def loaded(name: str, tmp_path: Path) -> Extractor:
    """As a worker gets it."""
    settings = ExtractSettings(store=str(tmp_path / "store"), partition="d", run_id="r", extractor=name)
    return extractors.opened(extractors.prepare(settings, INGESTED, here=True).info, 10**8)


def refusal(extractor: Extractor, content: bytes) -> str:
    with pytest.raises(BadFile) as caught:
        extractor.prepare(content)
    return caught.value.code


def cosines(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(units @ units.T)


# --- built in ---------------------------------------------------------------------------------------------------------


def test_texts_that_mean_the_same_are_nearer_than_others(tmp_path: Path) -> None:
    text = loaded("text", tmp_path)
    words = [
        "Wie hoch ist der Berg?",
        "A cat sleeps on the warm mat.",
        "A kitten is lying on a rug.",
        "The central bank raised interest rates.",
    ]
    contents = [line.encode() for line in words]
    vectors = text.extract([text.prepare(content) for content in contents])
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 256))
    near = cosines(vectors)
    assert near[1, 2] > 0.3 > near[1, 3]
    for content, vector in zip(contents, vectors, strict=True):
        assert np.allclose(text.reference(content), vector, atol=1e-6)


def test_a_long_text_beside_a_short_one_changes_neither(tmp_path: Path) -> None:
    text = loaded("text", tmp_path)
    items = [text.prepare(b"word " * 100_000), text.prepare(b"short")]
    assert len(items[0]) == 32_768
    both = text.extract(items)
    alone = np.concatenate([text.extract([item]) for item in items])
    assert np.allclose(both, alone, atol=1e-6)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    text = loaded("text", tmp_path)
    for content in (b"\xff\xfe\x00", "Größe".encode("latin-1"), b"a\0b", b" ... \n"):
        assert refusal(text, content) == "not_text"
    assert text.prepare("\ufeffwith a mark".encode()) == "with a mark"


def sound(samples: NDArray[Any], rate: int, kind: str = "WAV") -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, rate, format=kind)
    return target.getvalue()


def tone(hertz: float, rate: int, seconds: float = 1.0) -> NDArray[np.float64]:
    return np.asarray(0.3 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate))


def test_a_sound_is_the_same_whatever_its_rate_channels_and_format(tmp_path: Path) -> None:
    audio = loaded("audio", tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    contents = [
        sound(tone(440, 16_000), 16_000),
        sound(tone(440, 44_100), 44_100),
        sound(np.stack([tone(440, 48_000)] * 2, axis=1), 48_000, "FLAC"),
        sound(noise, 16_000),
        sound(tone(3000, 16_000), 16_000),
    ]
    vectors = audio.extract([audio.prepare(content) for content in contents])
    assert (vectors.dtype, vectors.shape) == (np.float32, (5, 256))
    near = cosines(vectors - vectors.mean(axis=0))
    assert near[0, 1] > 0.9 < near[0, 2]
    assert near[0, 3] < 0.5 > near[0, 4]
    for content, vector in zip(contents, vectors, strict=True):
        assert np.allclose(audio.reference(content), vector, atol=0.02), "decibels, by torch and by numpy"


def test_the_band_of_a_tone_is_the_loudest(tmp_path: Path) -> None:
    audio = loaded("audio", tmp_path)
    for hertz in (300, 1000, 5000):
        mean = audio.extract([audio.prepare(sound(tone(hertz, 16_000), 16_000))])[0][:64]
        mel = 2595 * np.log10(1 + hertz / 700) / (2595 * np.log10(1 + 8000 / 700))
        assert abs(int(mean.argmax()) - (mel * 65 - 1)) < 1.01


def test_short_silent_and_long_sounds_are_taken(tmp_path: Path) -> None:
    audio = loaded("audio", tmp_path)
    for samples in (np.zeros(8), np.zeros(16_000), tone(440, 8_000, seconds=301)):
        prepared = audio.prepare(sound(samples, 8_000))
        assert len(prepared) <= 300 * 16_000
        assert np.isfinite(audio.extract([prepared])).all()


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    audio = loaded("audio", tmp_path)
    whole = sound(tone(440, 16_000), 16_000)
    assert [refusal(audio, content) for content in (b"hello", b"RIFF" + b"x" * 40)] == ["not_audio"] * 2
    assert refusal(audio, whole[:44]) == "truncated"
    broken = np.zeros(800, np.float32)
    broken[3] = np.nan
    target = io.BytesIO()
    soundfile.write(target, broken, 16_000, format="WAV", subtype="FLOAT")
    assert refusal(audio, target.getvalue()) == "corrupt"


def test_the_built_in_ones_load_only_what_they_need() -> None:
    code = "import sys; from spark_apps.extractors.text import Text; Text(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "False\n", done.stderr


# --- a user's own -----------------------------------------------------------------------------------------------------

OWN = """
import numpy as np
from spark_apps.extractors import BadFile, Extractor

class Letters(Extractor):
    name = "letters"
    dim = 3

    def prepare(self, content):
        if content == b"bad":
            raise BadFile("corrupt", "bad")
        if content == b"odd":
            raise KeyError("odd")
        return content

    def extract(self, items):
        if b"d" in items:
            raise ValueError("no d")
        return np.array([[item.count(letter) for letter in (b"a", b"b", b"c")] for item in items], np.float32)
"""


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A module with a name of its own: Python keeps what it has imported."""
    path = tmp_path / f"own_{re.sub('[^a-z]', '_', request.node.name.lower())}.py"
    path.write_text(OWN)
    return path


def test_what_fails_on_one_file_sets_aside_that_file(own: Path, tmp_path: Path) -> None:
    letters = loaded(f"{own}:Letters", tmp_path)
    assert [refusal(letters, content) for content in (b"bad", b"odd")] == ["corrupt", "extractor_failed"]
    vectors, labels = letters.label([b"aab", b"d", b"c"])
    assert labels == [(None, None)] * 3
    assert [getattr(vector, "code", None) for vector in vectors] == [None, "extractor_failed", None]
    assert [list(vectors[0]), list(vectors[2])] == [[2, 1, 0], [0, 0, 1]]
    assert str(vectors[1]) == "ValueError: no d"


def test_an_array_of_the_wrong_shape_ends_the_job(own: Path, tmp_path: Path) -> None:
    own.write_text(OWN.replace("dim = 3", "dim = 4"))
    letters = loaded(f"{own}:Letters", tmp_path)
    with pytest.raises(BadSetting, match=r"shape \(1, 3\) for 1 files"):
        letters.label([b"abc"])


def test_the_source_counts_unless_a_fingerprint_is_declared(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # compiled bytecode is taken for that of a source of the same size and second
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def identity(source: str) -> str:
        own.write_text(source)
        sys.modules.pop(own.stem, None)
        settings = ExtractSettings(store=str(tmp_path / "s"), partition="d", run_id="r", extractor=f"{own}:Letters")
        return extractors.prepare(settings, INGESTED, here=True).fingerprint

    declared = OWN.replace("dim = 3", 'dim = 3\n    fingerprint = "1"')
    assert identity(OWN) == identity(OWN) != identity(OWN + "# changed\n")
    assert identity(declared) == identity(declared + "# changed\n")
    assert identity(declared) != identity(declared.replace('"1"', '"2"'))


def test_a_file_is_shipped_alone_and_a_package_whole(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sources(name: str) -> list[Path]:
        settings = ExtractSettings(store=str(tmp_path / "store"), partition="d", run_id="r", extractor=name)
        return list(extractors.prepare(settings, INGESTED, here=True).sources)

    assert [path.name for path in sources(f"{own}:Letters")] == [own.name]
    assert sources("text") == []
    package = tmp_path / "elsewhere" / "mine_packed"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "deep.py").write_text(OWN)
    monkeypatch.syspath_prepend(package.parent)
    (archive,) = sources("mine_packed.deep:Letters")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from mine_packed.deep import Letters; print(Letters().dim)"
    command = [sys.executable, "-c", code, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "3\n", done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("import numpy", "import no_such_package, numpy"), "No module named 'no_such_package'"),
        (("class Letters(Extractor)", "class Letters"), "which is not an Extractor"),
        (('name = "letters"', 'name = "two words"'), "the name 'two words'"),
        (("dim = 3", "dim = 0"), "the dim 0"),
        (("dim = 3", ""), "the dim None"),
    ],
)
def test_what_cannot_run_is_refused_on_the_driver(
    own: Path, tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    own.write_text(OWN.replace(*change))
    with pytest.raises(BadSetting, match=re.escape(words)):
        loaded(f"{own}:Letters", tmp_path)


def test_a_name_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    for name, words in (("no.such:Thing", "No module named"), ("/no/such.py:Thing", "cannot be read")):
        with pytest.raises(BadSetting, match=words):
            loaded(name, tmp_path)
    for name in ("video", "a-b:C", "module", "../x.py:C"):
        for kind in (ExtractSettings, IngestSettings):
            more = {"source": "/photos"} if kind is IngestSettings else {}
            with pytest.raises(BadSetting, match="is not a valid extractor"):
                kind(store="/s", partition="d", run_id="r", extractor=name, **more)


@pytest.mark.parametrize("room", ["spark_apps.media", "spark_apps"], ids=["as it stands", "as for 0.1.0"])
def test_the_example_of_the_documentation_works(tmp_path: Path, photos: dict[str, Path], room: str) -> None:
    text = Path(__file__).parents[2].joinpath("docs", "extractors.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert example.count("\n") < 40
    path = tmp_path / "colours_of_the_docs.py"
    assert "from spark_apps.media import imaging" in example
    path.write_text(example.replace("from spark_apps.media import", f"from {room} import"))
    colours = loaded(f"{path}:Colours", tmp_path)
    contents = [photo.read_bytes() for photo in list(photos.values())[:5]]
    vectors = colours.extract([colours.prepare(content) for content in contents])
    assert vectors.shape == (5, 64)
    assert np.allclose(vectors.sum(axis=1), 1)
    assert len(np.unique(vectors, axis=0)) == 5
    assert refusal(colours, b"no photo") == "not_an_image"


def test_vectors_of_the_constant_length_one_make_a_histogram(tmp_path: Path) -> None:
    from spark_apps.validate import _norms

    norms: Sequence[float] = np.float32([1, 0.99999994, 1])  # type: ignore[assignment]
    assert sum(_norms(norms)["histogram"]["counts"]) == 3
