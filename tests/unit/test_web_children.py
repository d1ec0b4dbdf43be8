"""Strangers' files in a process of their own: drawn small, refused in words, and no harm when they bite."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_features.web import children
from image_features.web.children import Child
from image_features.web.refusals import Refused
from PIL import Image, ImageCms

from spark_apps import embed
from tests.shelf import Shelf

SIDE, PIXELS = 256, 4_000_000
REPOSITORY = Path(embed.__file__).parents[1]


@pytest.fixture(scope="module")
def artist() -> Iterator[Child]:
    child = Child("thumbnail", str(SIDE), str(PIXELS), seconds=20)
    yield child
    child.close()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def draw(artist: Child, content: bytes) -> Image.Image:
    said, drawn = artist.ask(content, patience=20)
    assert said == {}
    image = Image.open(io.BytesIO(drawn))
    assert image.format == "WEBP"
    return image.convert("RGB")


def code(artist: Child, content: bytes) -> str:
    with pytest.raises(Refused) as refused:
        artist.ask(content, patience=20)
    assert refused.value.status == 422
    return refused.value.code


def test_photos_of_every_kind_become_small_pictures(artist: Child, photos: dict[str, Path]) -> None:
    for name in ("coffee.png", "rocket.jpg", "camera.png", "horse.png"):
        drawn, original = draw(artist, photos[name].read_bytes()), Image.open(photos[name]).convert("RGB")
        assert max(drawn.size) == min(SIDE, max(original.size))
        small = original.resize(drawn.size, Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(drawn, np.int16) - np.asarray(small, np.int16)).mean() < 12, name


def test_a_thumbnail_carries_nothing_of_the_original(artist: Child) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encoded(Image.new("RGB", (300, 200), "red"), "JPEG", exif=exif, icc_profile=profile)
    _, drawn = artist.ask(content + b"<script>after the end</script>", patience=20)
    for secret in (b"taken at home", b"script", b"EXIF", b"ICCP"):
        assert secret not in drawn


def test_a_thumbnail_stands_upright(artist: Child) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert draw(artist, encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).size == (20, 40)


def test_a_photo_that_ends_too_early_is_drawn_as_far_as_it_goes(artist: Child, photos: dict[str, Path]) -> None:
    content = photos["rocket.jpg"].read_bytes()
    assert draw(artist, content[: len(content) // 2]).size[0] == SIDE


def bomb() -> bytes:
    """A PNG whose header announces 60,000 x 60,000 pixels."""
    content = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(content)


def test_what_is_no_picture_is_refused_in_words(artist: Child) -> None:
    assert code(artist, bomb()) in ("too_many_pixels", "corrupt")
    assert code(artist, b"\x7fELF\x02\x01\x01\0 forged.jpg") == "not_an_image"
    assert code(artist, b"%!PS-Adobe-3.0 EPSF") == "unsupported_format"
    assert code(artist, b"") == "empty"
    large = encoded(Image.new("L", (3000, 3000)), "JPEG")
    assert code(artist, large) == "too_many_pixels"


def test_markup_is_drawn_as_the_text_it_is_and_never_handed_on(artist: Child) -> None:
    markup = b"<html><body><script>forged.jpg</script></body></html>"
    assert draw(artist, markup).size == (SIDE, SIDE)
    assert markup[:20] not in artist.ask(markup, patience=20)[1]


def test_a_child_that_dies_or_hangs_is_replaced(photos: dict[str, Path]) -> None:
    content = photos["rocket.jpg"].read_bytes()
    child = Child("thumbnail", str(SIDE), str(PIXELS), seconds=20)
    try:
        draw(child, content)
        assert child._process is not None
        first = child._process
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        draw(child, content)
        assert child._process.pid != first.pid
        os.kill(child._process.pid, signal.SIGSTOP)
        child._seconds = 0.2
        assert code(child, content) == "timeout"
        child._seconds = 20
        draw(child, content)
    finally:
        child.close()


def test_a_busy_child_is_not_waited_for_without_end(artist: Child) -> None:
    with artist._lock, pytest.raises(Refused) as refused:
        artist.ask(b"x", patience=0.05)
    assert (refused.value.status, refused.value.code) == (503, "busy")


def test_a_child_has_limits_and_none_of_our_secrets(artist: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "planted")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    child = Child("thumbnail", str(SIDE), str(PIXELS), seconds=20)
    try:
        draw(child, encoded(Image.new("RGB", (10, 10)), "PNG"))
        assert child._process is not None
        folder = Path("/proc", str(child._process.pid))
        assert "planted" not in (folder / "environ").read_text()
        limits = {line[:26].strip(): line[26:].split()[0] for line in (folder / "limits").read_text().splitlines()}
        assert limits["Max address space"] == str(embed.THUMBNAIL_MEMORY_BYTES)
        assert limits["Max file size"] == limits["Max core file size"] == "0"
    finally:
        child.close()


def test_a_child_ends_with_the_process_that_asked() -> None:
    command = [sys.executable, str(children.EMBED), "thumbnail", str(SIDE), str(PIXELS)]
    done = subprocess.run(command, input=b"", stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 0


def test_an_answer_that_is_too_long_ends_the_child(artist: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "ANSWER_BYTES", 10)
    assert code(artist, encoded(Image.new("RGB", (300, 200), "red"), "PNG")) == "timeout"
    assert artist._process is None


def test_a_folder_without_a_model_is_a_sentence(shelf: Shelf) -> None:
    child = Child("model", shelf.store, str(PIXELS), seconds=20)
    with pytest.raises(Refused) as refused:
        child.ask(b"x", patience=1)
    assert (refused.value.status, refused.value.code) == (503, "no_model_artifact")
    assert shelf.store not in str(refused.value.to_json())


# --- a store that others may write to ---------------------------------------------------------------------------------

CALLED = "import pathlib; pathlib.Path({mark!r}).touch()\nclass Theirs: pass\n"
RUINED: list[Any] = [None, 7, True, "", "../../x", "os:getcwd", [], ["a"], {}, {"a": {}}, "x" * 100_000, "\u202e<b>"]


def forged(folder: Path, document: object) -> Child:
    (folder / "model.json").write_text(json.dumps(document))
    return Child("model", str(folder), str(PIXELS), seconds=60)


@pytest.mark.parametrize("extractor", ["text", "audio", "stranger:Theirs", "/stranger.py:Theirs"])
def test_code_that_a_document_names_is_not_run(extractor: str, tmp_path: Path) -> None:
    """`stranger` can be imported where the child runs, as any installed package can."""
    mark = tmp_path / "called"
    package = tmp_path / "package"
    package.mkdir()
    (package / "stranger.py").write_text(CALLED.format(mark=str(mark)))
    described = {"extractor": extractor, "import": "stranger:Theirs", "fingerprint": "00", "key": "k", "dim": 256}
    program = f"import sys; sys.path.insert(0, {str(package)!r}); from spark_apps import embed; embed.embedder({{}}, 9)"
    (tmp_path / "model.json").write_text(json.dumps(described))
    command = [sys.executable, "-c", program.format(f"__import__('pathlib').Path({str(tmp_path)!r})")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert not mark.exists()
    assert done.returncode == 0 or "is not run here" in done.stderr, done.stderr


def test_a_forged_description_of_a_model_is_refused_whatever_is_in_it(tmp_path: Path) -> None:
    """Each field in turn, of a description that would do, is made something else."""
    right = {"extractor": "text", "import": "x:y", "fingerprint": "00", "key": "wordllama_256", "dim": 256}
    documents: list[Any] = [{**right, name: value} for name in right for value in RUINED]
    documents += [{key: value for key, value in right.items() if key != name} for name in right]
    documents += RUINED
    opened = []
    for document in documents:
        (tmp_path / "model.json").write_text(json.dumps(document))
        try:
            opened.append((document, embed.embedder(tmp_path, 9)))
        except Exception as error:  # `serve` says it to the pages
            assert not isinstance(error, AssertionError)
    assert {document["extractor"] for document, _ in opened} <= {"text"}
    assert {path.name for path in tmp_path.iterdir()} == {"model.json"}


@pytest.mark.parametrize("document", [[], {"extractor": "image", "fingerprint": "../../etc/passwd"}])
def test_the_pages_say_that_such_a_model_cannot_be_used(document: object, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        forged(tmp_path, document).ask(b"x", patience=20)
    assert refused.value.code == "no_model_artifact"
