"""The landing zone holds what the demo promises: real photos, their edits, and files that are odd in known ways."""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import landing
from spark_apps.media import fitting, imaging
from spark_apps.media.camera_raw import Wanted

LIMIT = 100_000_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("landing")
    landing.prepare(root)
    return root


def day_files(root: Path, day: str) -> dict[str, bytes]:
    folder = root / day
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@functools.cache
def refusal(content: bytes) -> str | None:
    try:
        imaging.decode(content, fitting.Preprocessing(), LIMIT)
    except imaging.BadImage as bad:
        return bad.code
    return None


def opened(root: Path, day: int, name: str) -> Image.Image:
    return Image.open(root / landing.DAYS[day] / name)


def test_each_of_three_days_has_about_forty_files(root: Path) -> None:
    assert [35 <= len(day_files(root, day)) <= 45 for day in landing.DAYS] == [True, True, True]


def test_every_photo_is_there_every_day(root: Path) -> None:
    for day in landing.DAYS:
        names = day_files(root, day)
        for photo in landing.PHOTOS:
            assert any(name.startswith(photo.split(".")[0]) for name in names), f"{photo} on {day}"


def test_exactly_the_broken_files_are_broken_and_each_in_its_way(root: Path) -> None:
    refused = [
        {name: code for name, content in day_files(root, day).items() if (code := refusal(content))}
        for day in landing.DAYS
    ]
    assert refused == [
        {"empty.jpg": "empty", "notes.jpg": "not_an_image", "upload interrupted.jpg": "truncated"},
        {"bomb.png": "too_many_pixels", "half of moon.jpg": "truncated"},
        {"empty again.png": "empty", "readme.png": "not_an_image"},
    ]


def test_no_day_fails_for_its_broken_files(root: Path) -> None:
    for day in landing.DAYS:
        contents = list(day_files(root, day).values())
        assert sum(refusal(content) is not None for content in contents) / len(contents) <= 0.1


def test_the_bomb_is_tiny_and_would_be_huge(root: Path) -> None:
    assert (root / landing.DAYS[1] / "bomb.png").stat().st_size < 100_000
    small = Image.open(io.BytesIO(landing.flat_png(300, 200)))
    small.load()  # the same recipe, small enough to be decoded: a valid picture, not a broken one
    assert (small.size, small.getextrema()) == ((300, 200), (255, 255))


def test_odd_files_are_what_their_names_say(root: Path) -> None:
    assert opened(root, 0, "Motorrad für den Druck (CMYK).jpg").mode == "CMYK"
    assert opened(root, 1, "camera 16 bit.png").mode == "I;16"
    assert opened(root, 1, "café.gif").mode == "P"
    assert opened(root, 1, "замедленно.gif").n_frames == 3
    assert opened(root, 2, "motorcycle in motion.webp").n_frames == 3
    assert opened(root, 2, "cut out.png").getchannel("A").getextrema()[0] == 0
    assert opened(root, 2, "猫.webp").format == "WEBP"


@pytest.mark.parametrize(
    ("day", "name", "photo"),
    [
        (0, "phone/IMG_0001.jpg", "chelsea.png"),
        (1, "phone/IMG_0002.jpg", "rocket.jpg"),
        (2, "phone/IMG_0003.jpg", "astronaut.png"),
    ],
)
def test_turned_photos_are_stored_turned_and_their_tag_turns_them_upright(
    root: Path, day: int, name: str, photo: str
) -> None:
    content = (root / landing.DAYS[day] / name).read_bytes()
    original = np.asarray(landing.photo(photo), dtype=int)
    upright = np.asarray(imaging.upright_rgb(content, LIMIT), dtype=int)
    stored = np.asarray(opened(root, day, name).convert("RGB"), dtype=int)
    assert upright.shape == original.shape
    assert np.abs(upright - original).mean() < 5
    assert stored.shape != original.shape or np.abs(stored - original).mean() > 20


def test_each_day_has_a_photo_of_a_phone_as_heic(root: Path) -> None:
    for day, name, photo in (
        (0, "IMG_1001", "coffee.png"),
        (1, "IMG_1002", "chelsea.png"),
        (2, "IMG_1003", "rocket.jpg"),
    ):
        content = (root / landing.DAYS[day] / "phone" / f"{name}.HEIC").read_bytes()
        assert imaging.inspect(content, LIMIT).format == "HEIF"
        original = np.asarray(landing.photo(photo), dtype=int)
        assert np.abs(np.asarray(imaging.upright_rgb(content, LIMIT), dtype=int) - original).mean() < 5


@pytest.mark.parametrize(
    ("day", "name", "photo"),
    [(1, "IMG_2002 (Display P3).jpg", "coffee.png"), (2, "IMG_2003 (Display P3).HEIC", "astronaut.png")],
)
def test_photos_in_display_p3_show_the_same_and_say_when_and_with_what(
    root: Path, day: int, name: str, photo: str
) -> None:
    content = (root / landing.DAYS[day] / "phone" / name).read_bytes()
    info = imaging.inspect(content, LIMIT)
    assert (info.taken_at, info.taken_offset_minutes) == ("2026-01-06T08:30:00", 60)
    assert (info.camera_make, info.camera_model) == ("Example", "Phone 3")
    original = np.asarray(landing.photo(photo), dtype=int)
    seen, stored = (
        np.abs(np.asarray(imaging.upright_rgb(content, LIMIT, colors=colors), dtype=int) - original).mean()
        for colors in ("srgb", "stored")
    )
    assert seen < 0.8 * stored


def test_the_last_day_has_a_jpeg_xl(root: Path) -> None:
    content = (root / landing.DAYS[2] / "rocket.jxl").read_bytes()
    assert imaging.inspect(content, LIMIT).format == "JXL"
    original = np.asarray(landing.photo("rocket.jpg"), dtype=int)
    assert np.abs(np.asarray(imaging.upright_rgb(content, LIMIT), dtype=int) - original).mean() < 5


def test_the_last_day_has_a_raw_photo(root: Path) -> None:
    content = (root / landing.DAYS[2] / "camera" / "IMG_3003.DNG").read_bytes()
    info = imaging.inspect(content, LIMIT)
    assert (info.format, info.taken_at, info.camera_model) == ("RAW", "2026-01-07T11:00:00", "Camera 1")
    original = landing.photo("coffee.png")
    for wanted in (Wanted(), Wanted(developed=True)):
        seen = imaging.upright_rgb(content, LIMIT, of_raw=wanted)
        assert np.abs(np.asarray(seen, dtype=int) - np.asarray(original.resize(seen.size), dtype=int)).mean() < 5


def test_duplicates_have_the_same_bytes_within_a_day_and_across_days(root: Path) -> None:
    first, second, third = (
        {name: hashlib.sha256(content).hexdigest() for name, content in day_files(root, day).items()}
        for day in landing.DAYS
    )
    assert first["copy of coffee.jpg"] == first["coffee.jpg"] == third["coffee of the day before yesterday.jpg"]
    assert second["phone/astronaut again.jpg"] == second["astronaut mirrored.jpg"]


def test_the_same_call_makes_the_same_bytes_elsewhere(root: Path, tmp_path: Path) -> None:
    landing.prepare(tmp_path)
    for day in landing.DAYS:
        assert day_files(tmp_path, day) == day_files(root, day)


def test_a_second_call_touches_nothing_and_brings_back_what_is_missing(root: Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    before = {path: path.stat().st_mtime_ns for path in files}
    removed, own = root / landing.DAYS[0] / "coffee.jpg", root / landing.DAYS[0] / "my own.jpg"
    content = removed.read_bytes()
    removed.unlink()
    own.write_bytes(b"mine")
    landing.prepare(root)
    assert removed.read_bytes() == content
    assert own.read_bytes() == b"mine"
    own.unlink()
    assert {path: path.stat().st_mtime_ns for path in files if path != removed} == {
        path: time for path, time in before.items() if path != removed
    }


def test_after_a_change_of_the_recipes_only_wrong_files_are_written_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = root / landing.DAYS[0] / "brick.jpg", root / landing.DAYS[0] / "camera.jpg"
    before, content = right.stat().st_mtime_ns, wrong.read_bytes()
    wrong.write_bytes(b"of an older edition")
    monkeypatch.setattr(landing, "_edition", lambda: "another")
    landing.prepare(root)
    assert right.stat().st_mtime_ns == before
    assert wrong.read_bytes() == content
