"""Every file of a source is listed once, whatever its name, and reading one never raises or hangs."""

from __future__ import annotations

import errno
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spark_apps import storage
from spark_apps.contract import BadFile, Unreachable
from spark_apps.pipeline import landing
from spark_apps.storage import reading
from spark_apps.storage.listing import NOT_A_FILE
from tests import listed

PLENTY = 2**20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "the photos %20 #1"
    folder.mkdir()
    return folder


def put(folder: Path, name: str | bytes, content: bytes = b"photo") -> bytes:
    """Writes a file below `folder`; returns its full name as the disk has it."""
    path = os.path.join(os.fsencode(folder), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def names(folder: Path, pattern: str = "*") -> list[str]:
    uris = listed.table(str(folder), pattern)["uri"].to_pylist()
    return [os.path.relpath(storage.filesystem(uri)[1], folder) for uri in uris]


def read(uri: str, size: int, max_bytes: int = PLENTY) -> bytes | BadFile:
    (outcome,) = reading.read_files([(uri, size)], max_bytes)
    return outcome


def code(outcome: bytes | BadFile) -> str | None:
    return outcome.code if isinstance(outcome, BadFile) else None


# --- listing ----------------------------------------------------------------------------------------------------------


def test_files_are_listed_from_all_folders_with_size_and_time(source: Path) -> None:
    put(source, "b.jpg", b"12345")
    put(source, "deep/er/a.png", b"")
    os.utime(source / "b.jpg", (1_000_000_000, 1_000_000_000))
    listing = listed.table(str(source), "*")
    assert listing.schema == landing.LISTING
    rows = listing.to_pylist()
    assert [row["uri"] for row in rows] == sorted((source / name).as_uri() for name in ("b.jpg", "deep/er/a.png"))
    assert (rows[0]["size_bytes"], rows[0]["modified_at"]) == (5, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC))
    assert rows[1]["size_bytes"] == 0


def test_hidden_files_folders_and_the_success_marker_are_not_listed(source: Path) -> None:
    for name in (".DS_Store", "._IMG_1.jpg", ".trash/a.jpg", "x/.thumbs/b.jpg", "_SUCCESS", "x/_SUCCESS"):
        put(source, name)
    for name in ("_DSC1.jpg", "%2Ehidden.jpg", "a.b.jpg", "_SUCCESS.jpg", "_x/c.jpg"):
        put(source, name)
    assert names(source) == sorted(["_DSC1.jpg", "%2Ehidden.jpg", "a.b.jpg", "_SUCCESS.jpg", "_x/c.jpg"], key=ord_uri)


def ord_uri(name: str) -> str:
    return name.replace("%", "%25")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["IMG 1.JPG", "deep/my photo.jpg", "été.jpg", "note.txt"]),
        ("*.jpg", ["deep/my photo.jpg", "été.jpg"]),
        ("*.[jJ][pP][gG]", ["IMG 1.JPG", "deep/my photo.jpg", "été.jpg"]),
        ("my photo.*", ["deep/my photo.jpg"]),
        ("é?é.jpg", ["été.jpg"]),
        ("* *", ["IMG 1.JPG", "deep/my photo.jpg"]),
        ("deep/*", []),
        ("*%20*", []),
        ("", []),
    ],
)
def test_the_pattern_is_held_against_the_name_as_a_person_knows_it(
    source: Path, pattern: str, expected: list[str]
) -> None:
    for name in ("IMG 1.JPG", "deep/my photo.jpg", "été.jpg", "note.txt"):
        put(source, name)
    assert sorted(names(source, pattern)) == sorted(expected)


@pytest.mark.parametrize(
    "name",
    [
        "with blank.jpg",
        "ünïcödé 猫 🐈.jpg",
        "100%.jpg",
        "%41.jpg",
        "a#b?c&d=e+f;g.jpg",
        "line\nbreak.jpg",
        "'quotes\" and \\ backslash.jpg",
        b"caf\xe9 latin-1.jpg",
        b"\xff\xfe.jpg",
        "archive.gz",
        "e\u0301.jpg",
    ],
)
def test_any_name_can_be_listed_and_read_back(source: Path, name: str | bytes) -> None:
    path = put(source, name, b"the bytes of this file")
    (row,) = listed.table(str(source), "*").to_pylist()
    assert row["uri"].isascii() and row["uri"].startswith("file:///")
    assert os.fsencode(storage.filesystem(row["uri"])[1]) == path
    assert read(row["uri"], row["size_bytes"]) == b"the bytes of this file"


def test_names_that_differ_only_in_their_bytes_stay_apart(source: Path) -> None:
    put(source, "é.jpg".encode(), b"1")
    put(source, "é.jpg".encode("latin-1"), b"2")
    rows = listed.table(str(source), "*.jpg").to_pylist()
    assert {read(row["uri"], row["size_bytes"]) for row in rows} == {b"1", b"2"}


def test_what_is_no_regular_file_is_listed_and_never_waits(source: Path) -> None:
    (source / "dangling.jpg").symlink_to(source / "nowhere")
    (source / "loop.jpg").symlink_to(source / "loop.jpg")
    os.mkfifo(source / "pipe.jpg")
    rows = listed.table(str(source), "*").to_pylist()
    assert [row["size_bytes"] for row in rows] == [NOT_A_FILE] * 3
    assert [code(read(row["uri"], row["size_bytes"])) for row in rows] == ["unreadable"] * 3


def test_a_link_to_a_file_counts_as_the_file(source: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere.jpg", b"linked")
    (source / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (row,) = listed.table(str(source), "*").to_pylist()
    assert read(row["uri"], row["size_bytes"]) == b"linked"


def test_an_empty_source_is_an_empty_table(source: Path) -> None:
    listing = listed.table(str(source), "*")
    assert (listing.num_rows, listing.schema) == (0, landing.LISTING)


def test_a_source_may_be_a_file_uri(source: Path) -> None:
    put(source, "a.jpg")
    assert listed.table(source.as_uri(), "*").equals(listed.table(str(source), "*"))


def test_a_missing_source_cannot_be_reached(source: Path) -> None:
    put(source, "a.jpg")
    places = {"nowhere": "source_missing", "a.jpg": "source_no_folder", "a.jpg/below": "source_missing"}
    for name, code in places.items():
        with pytest.raises(Unreachable) as caught:
            listed.table(str(source / name), "*")
        assert caught.value.code == code
        assert str(source / name) in caught.value.message


# --- reading ----------------------------------------------------------------------------------------------------------


def test_contents_come_in_the_order_asked_for(source: Path) -> None:
    files = []
    for index in range(3 * reading.READ_AHEAD + 1):
        content = f"photo {index}".encode()
        put(source, f"{index}.jpg", content)
        files.append(((source / f"{index}.jpg").as_uri(), len(content)))
    contents = list(reading.read_files(files, PLENTY))
    assert contents == [f"photo {index}".encode() for index in range(len(files))]


def test_a_bad_file_does_not_disturb_its_neighbours(source: Path) -> None:
    put(source, "a.jpg", b"a")
    put(source, "c.jpg", b"c")
    uris = [(source / name).as_uri() for name in ("a.jpg", "b.jpg", "c.jpg")]
    first, second, third = reading.read_files([(uri, 1) for uri in uris], PLENTY)
    assert (first, code(second), third) == (b"a", "unreadable", b"c")


def test_a_file_that_vanished_is_unreadable(source: Path) -> None:
    assert code(read((source / "gone.jpg").as_uri(), 5)) == "unreadable"
    assert code(read((source / "gone" / "with its folder.jpg").as_uri(), 5)) == "unreadable"


@pytest.mark.parametrize("now", [b"longer than before", b"short", b""])
def test_a_file_that_changed_is_not_taken(source: Path, now: bytes) -> None:
    put(source, "a.jpg", now)
    assert code(read((source / "a.jpg").as_uri(), len(b"as listed"))) == "changed"


def test_an_empty_file_is_told_by_its_size(source: Path) -> None:
    put(source, "a.jpg", b"")
    assert code(read((source / "a.jpg").as_uri(), 0)) == "empty"


def test_a_file_over_the_limit_is_not_even_opened(source: Path) -> None:
    os.mkfifo(source / "huge.jpg")  # opening it for reading would wait for a writer for ever
    assert code(read((source / "huge.jpg").as_uri(), 101, max_bytes=100)) == "too_large"


def test_a_file_of_just_the_limit_is_read(source: Path) -> None:
    put(source, "a.jpg", bytes(100))
    assert read((source / "a.jpg").as_uri(), 100, max_bytes=100) == bytes(100)


def test_linked_folders_are_listed_once_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.jpg").write_bytes(b"x")
    (tmp_path / "source" / "deep").mkdir(parents=True)
    (tmp_path / "source" / "own.jpg").write_bytes(b"x")
    (tmp_path / "source" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source" / "deep" / "circle").symlink_to(tmp_path / "source")
    uris = listed.table(str(tmp_path / "source"), "*")["uri"].to_pylist()
    assert [uri.rsplit("/", 2)[-2:] for uri in uris] == [["link", "linked.jpg"], ["source", "own.jpg"]]


def test_a_folder_keeps_its_own_name_where_a_link_to_it_comes_first(source: Path) -> None:
    put(source, "real/deep/a.jpg")
    (source / "a link").symlink_to(source / "real")
    (source / "another").symlink_to(source / "real" / "deep")
    (source / "real" / "up").symlink_to(source)
    assert names(source) == ["real/deep/a.jpg"]


# --- what is not listed -----------------------------------------------------------------------------------------------

DEBRIS = (
    *(
        "Thumbs.db",
        "THUMBS.DB",
        "ehthumbs.db",
        "desktop.ini",
        "Desktop.ini",
        "Icon\r",
        ".DS_Store",
        "._a.jpg",
        "~$a.jpg",
    ),
    *("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "x/@eaDir/b.jpg", "#recycle/c.jpg", "@Recycle/c.jpg", "lost+found/d.jpg"),
    *("__MACOSX/._a.jpg", "__MACOSX/a.jpg", "$RECYCLE.BIN/e.jpg", "System Volume Information/f.jpg", ".Trashes/g.jpg"),
    *(".Spotlight-V100/h.jpg", ".AppleDouble/i.jpg", "_temporary/0/j.jpg", "_delta_log/k.json", "_SUCCESS"),
    *("sub_$folder$", "x/sub_$folder$", "_committed_12", "_started_12"),
)
PHOTOS = (
    "a.jpg",
    "thumbs.jpg",
    "my @eaDir.jpg",
    "lost+found.jpg",
    "x/found/b.jpg",
    "_temporary.jpg",
    "desktop.ini.jpg",
)


def test_what_systems_leave_behind_is_not_listed(source: Path) -> None:
    for name in (*DEBRIS, *PHOTOS):
        put(source, name)
    assert sorted(names(source)) == sorted(PHOTOS)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("", ["a.jpg", "a.tmp", "drafts/b.jpg", "x/drafts/c.jpg", "x/raw/d.jpg"]),
        ("*.tmp", ["a.jpg", "drafts/b.jpg", "x/drafts/c.jpg", "x/raw/d.jpg"]),
        ("drafts", ["a.jpg", "a.tmp", "x/raw/d.jpg"]),
        ("drafts/", ["a.jpg", "a.tmp", "x/raw/d.jpg"]),
        ("x/drafts", ["a.jpg", "a.tmp", "drafts/b.jpg", "x/raw/d.jpg"]),
        ("/x/*", ["a.jpg", "a.tmp", "drafts/b.jpg"]),
        (" *.tmp , raw ,, ", ["a.jpg", "drafts/b.jpg", "x/drafts/c.jpg"]),
        ("[ab].*", ["x/drafts/c.jpg", "x/raw/d.jpg"]),
    ],
)
def test_exclude_leaves_out_files_and_folders(source: Path, exclude: str, left: list[str]) -> None:
    for name in ("a.jpg", "a.tmp", "drafts/b.jpg", "x/drafts/c.jpg", "x/raw/d.jpg"):
        put(source, name)
    uris = listed.table(str(source), "*", exclude)["uri"].to_pylist()
    assert [os.path.relpath(storage.filesystem(uri)[1], source) for uri in uris] == left


@pytest.mark.parametrize("as_uri", [True, False])
def test_our_own_store_below_the_source_is_not_listed(source: Path, as_uri: bool) -> None:
    put(source, "a.jpg")
    put(source, "features/images/data/b.parquet")
    place = source / "features"
    uris = listed.table(str(source), "*", store=place.as_uri() if as_uri else str(place))["uri"].to_pylist()
    assert uris == [(source / "a.jpg").as_uri()]


# --- one file, or all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-(2**40), -1, 2**33, 2**38, 2**60])
def test_a_photo_from_an_impossible_moment_is_taken(source: Path, seconds: int) -> None:
    put(source, "a.jpg")
    try:
        os.utime(source / "a.jpg", (0, seconds))
    except OverflowError:
        pytest.skip("this system does not keep such a time")
    (row,) = listed.table(str(source), "*").to_pylist()
    assert read(row["uri"], row["size_bytes"]) == b"photo"


@pytest.mark.parametrize(("number", "whose"), [(errno.EIO, "the file's"), (errno.ESTALE, "the disk's")])
def test_an_error_is_told_of_the_file_or_of_the_disk(
    source: Path, monkeypatch: pytest.MonkeyPatch, number: int, whose: str
) -> None:
    put(source, "a.jpg")

    def failing(uri: str, size: int, within: str) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(reading, "_content", failing)
    uri = (source / "a.jpg").as_uri()
    if whose == "the file's":
        outcome = read(uri, 5)
        assert code(outcome) == "unreadable" and os.strerror(number) in str(outcome)
        return
    with pytest.raises(Unreachable, match="The source file://"):
        read(uri, 5)


def test_reading_ahead_is_bounded_by_bytes_and_by_files() -> None:
    large = reading.READ_AHEAD_BYTES * 2 // 3
    sizes = [1] * 20 + [large, large, 5, NOT_A_FILE, 0, 2**40]
    windows = list(reading._windows([(str(size), size) for size in sizes], 2**30))
    assert [size for window in windows for _, size in window] == sizes
    for window in windows:
        read = sum(size for _, size in window if 0 < size <= 2**30)
        assert len(window) <= reading.READ_AHEAD and (read <= reading.READ_AHEAD_BYTES or len(window) == 1)
    assert len(windows) == 4


def test_a_closed_folder_is_one_row_and_a_vanished_one_none(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "closed/b.jpg", "gone/c.jpg"):
        put(source, name)
    errors = {"closed": PermissionError(13, "Permission denied"), "gone": FileNotFoundError(2, "No such file")}
    scandir = os.scandir

    def guarded(folder: Path) -> object:  # the superuser may read every folder
        if error := errors.get(Path(folder).name):
            raise error
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    rows = listed.table(str(source), "*").to_pylist()
    assert {row["uri"]: row["size_bytes"] for row in rows} == {
        (source / "a.jpg").as_uri(): 5,
        (source / "closed").as_uri(): NOT_A_FILE,
    }
    assert code(read((source / "closed").as_uri(), NOT_A_FILE)) == "unreadable"


def test_a_file_that_became_a_pipe_is_not_waited_for(source: Path) -> None:
    os.mkfifo(source / "a.jpg")
    assert code(read((source / "a.jpg").as_uri(), 5)) == "unreadable"


def test_sockets_devices_and_links_to_them_are_rows(source: Path) -> None:
    (source / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(source)  # the name of a socket is short
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(here)
        rows = listed.table(str(source), "*").to_pylist()
        assert [row["size_bytes"] for row in rows] == [NOT_A_FILE] * 2
        assert [code(read(row["uri"], row["size_bytes"])) for row in rows] == ["unreadable"] * 2


def test_a_folder_deeper_than_the_system_takes_is_a_row(source: Path) -> None:
    put(source, "a.jpg")
    here = os.open(source, os.O_RDONLY)
    for _ in range(20):  # of 250 letters each: more than the 4,096 that a path may have
        os.mkdir("x" * 250, dir_fd=here)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    rows = listed.table(str(source), "*").to_pylist()
    assert sorted(row["size_bytes"] for row in rows) == [NOT_A_FILE, 5]
    deep = next(row for row in rows if row["size_bytes"] == NOT_A_FILE)
    assert code(read(deep["uri"], NOT_A_FILE)) == "unreadable"


def test_a_link_into_our_own_store_shows_nothing_of_it(source: Path, tmp_path: Path) -> None:
    put(source, "a.jpg")
    put(tmp_path, "store/runs/d1/report.json")
    (source / "link").symlink_to(tmp_path / "store" / "runs")
    uris = listed.table(str(source), "*", store=str(tmp_path / "store"))["uri"].to_pylist()
    assert uris == [(source / "a.jpg").as_uri()]
