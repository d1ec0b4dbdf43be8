"""Files on a disk and on an object store are read and written alike, whole or not at all; failures say what to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import deltalake.exceptions
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from spark_apps import catalog, storage
from spark_apps.contract import BadSetting, IngestSettings, JobError, QualityFailed, Unreachable
from spark_apps.ingest import list_source
from spark_apps.storage import listing, reading
from tests import listed
from tests.s3 import witness
from tests.shelf import MODEL, Shelf


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """A bucket on a stand-in for S3, reached as a job would: by the standard environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        filesystem, _ = storage.filesystem("s3://photos")
        fs.S3FileSystem(endpoint_override=f"http://{host}:{port}", allow_bucket_creation=True).create_dir("photos")
        assert isinstance(filesystem, fs.S3FileSystem)
        yield "s3://photos"
    server.stop()


@pytest.fixture(params=["disk", "disk uri", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that need not exist yet, by path and by URI."""
    if request.param == "object store":
        return f"{request.getfixturevalue('object_store')}/{tmp_path.name}"
    folder = tmp_path / "ä folder"
    return folder.as_uri() if request.param == "disk uri" else str(folder)


def test_what_is_written_can_be_read_replaced_and_deleted(place: str) -> None:
    uri = f"{place}/deep/er/file.json"
    assert storage.read_json(uri) is None
    storage.write_json(uri, {"ä": [1, None]})
    storage.write_json(uri, {"b": 2})
    assert storage.read_json(uri) == {"b": 2}
    storage.write_bytes(uri, b"\0\xff")
    assert storage.read_bytes(uri) == b"\0\xff"
    storage.delete(uri)
    storage.delete(uri)
    assert storage.read_json(uri) is None
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(uri)


def test_a_name_that_ends_in_gz_is_not_unpacked(place: str) -> None:
    storage.write_bytes(f"{place}/a.gz", b"as it is")
    assert storage.read_bytes(f"{place}/a.gz") == b"as it is"


def test_a_half_written_file_is_an_error(place: str) -> None:
    storage.write_bytes(f"{place}/half.json", b'{"a": ')
    with pytest.raises(ValueError, match="Expecting value"):
        storage.read_json(f"{place}/half.json")


def test_numbers_that_json_does_not_know_are_refused_and_leave_the_old_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "file.json")
    storage.write_json(uri, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(uri, {"a": float("nan")})
    assert storage.read_json(uri) == {"a": 1}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "file.json")
    storage.write_bytes(uri, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_bytes(uri, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    assert storage.read_bytes(uri) == b"old"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(2, "No such file"), "source_missing"),
        (PermissionError(13, "Permission denied"), "source_denied"),
        (OSError(28, "No space left on device"), "source_unreachable"),
        (pa.ArrowInvalid("Parquet magic bytes not found"), "source_unreachable"),
        (deltalake.exceptions.CommitFailedError("refused"), "source_unreachable"),
    ],
)
def test_failures_to_reach_something_name_it_and_say_what_to_do(error: Exception, code: str) -> None:
    with pytest.raises(Unreachable) as caught, storage.reaching("source", "s3://bucket/photos"):
        raise error
    assert caught.value.code == code
    assert "s3://bucket/photos" in caught.value.message
    assert caught.value.hint
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [QualityFailed("x", "Bad."), KeyError("a bug")])
def test_other_failures_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, storage.reaching("source", "/x"):
        raise error
    assert caught.value is error
    assert not isinstance(error, Unreachable) and isinstance(error, JobError | KeyError)


def test_a_source_on_an_object_store_is_listed_and_read(object_store: str) -> None:
    source = f"{object_store}/the day"
    for name in ("b.jpg", "x/my ä photo.jpg", "_DSC1.jpg", "100%.jpg", "%2E.jpg"):
        storage.write_bytes(f"{source}/{name}", name.encode())
    for name in (".hidden.jpg", "x/.trash/c.jpg", "_SUCCESS", "note.txt"):
        storage.write_bytes(f"{source}/{name}", b"no")
    storage.write_bytes(f"{object_store}/the day after/d.jpg", b"no")
    rows = listed.table(source, "*.jpg").to_pylist()
    names = [row["uri"].removeprefix(f"{source}/") for row in rows]
    assert names == sorted(["%2E.jpg", "100%.jpg", "_DSC1.jpg", "b.jpg", "x/my ä photo.jpg"])
    files = [(row["uri"], row["size_bytes"]) for row in rows]
    assert list(reading.read_files(files, 2**20)) == [name.encode() for name in names]
    gone, changed = reading.read_files([(f"{source}/gone.jpg", 3), (f"{source}/b.jpg", 3)], 2**20)
    assert [getattr(outcome, "code", outcome) for outcome in (gone, changed)] == ["unreadable", "changed"]


def test_a_missing_source_on_an_object_store_cannot_be_reached(object_store: str) -> None:
    for source in (f"{object_store}/nowhere", "s3://no-such-bucket/day"):
        with pytest.raises(Unreachable):
            listed.table(source, "*")


def test_a_missing_prefix_and_a_missing_bucket_are_told_apart(object_store: str) -> None:
    for source, code in ((f"{object_store}/nowhere", "source_missing"), ("s3://no-such-bucket/day", "bucket_missing")):
        with pytest.raises(Unreachable) as missing:
            listed.table(source, "*")
        assert missing.value.code == code
        settings = IngestSettings(store="/store", partition="d1", run_id="r", source=source, on_empty="skip")
        if code == "source_missing":
            assert list_source(settings).files == 0
        else:
            with pytest.raises(Unreachable):
                list_source(settings)


def test_one_object_that_cannot_be_read_is_a_row_and_no_more(object_store: str) -> None:
    """An empty part in the key, `.` and `..`, which Arrow cannot open, and an archived object."""
    client = boto3.client("s3", region_name="us-east-1")
    odd = ("day//b.jpg", "day/x//c.jpg", "day/./d.jpg", "day/../e.jpg", "day/glacier.jpg")
    for key in ("day/a.jpg", *odd):
        kept = {"StorageClass": "GLACIER"} if "glacier" in key else {}
        client.put_object(Bucket="photos", Key=key, Body=b"photo", **kept)
    rows = listed.table(f"{object_store}/day", "*").to_pylist()
    assert {row["uri"] for row in rows} == {f"{object_store}/{key}" for key in ("day/a.jpg", *odd)}
    outcomes = dict(
        zip(
            [row["uri"] for row in rows],
            reading.read_files([(row["uri"], row["size_bytes"]) for row in rows], 2**20),
            strict=True,
        )
    )
    assert outcomes.pop(f"{object_store}/day/a.jpg") == b"photo"
    assert [getattr(outcome, "code", outcome) for outcome in outcomes.values()] == ["unreadable"] * len(odd)


@pytest.mark.parametrize("most", [0, 2, 100])
def test_a_source_is_listed_alike_folder_by_folder_and_as_a_whole(
    object_store: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FOLDERS", most)
    client = boto3.client("s3", region_name="us-east-1")
    names = ("b.jpg", "cam-2/z.jpg", "cam-2/deep/a.jpg", "cam-2.jpg", "cam-1/ü #%20.jpg", "cam-1//c.jpg", "Z/a.jpg")
    for name in (
        *names,
        "old/images/_delta_log/0.json",
        "old/runs/report.jpg",
        "table/_delta_log/0.json",
        "table/x.jpg",
    ):
        client.put_object(Bucket="photos", Key=f"cameras/{name}", Body=b"photo")
    rows = listed.table(f"{object_store}/cameras", "*").to_pylist()
    assert [row["uri"] for row in rows] == sorted(f"{object_store}/cameras/{name}" for name in names)
    assert {row["size_bytes"] for row in rows} == {5}


def test_folder_markers_and_our_own_store_are_not_listed_on_an_object_store(object_store: str) -> None:
    client = boto3.client("s3", region_name="us-east-1")
    empty = ("marked/sub", "marked/sub/", "marked/other_$folder$", "marked/marker/")
    for key in (
        *empty,
        "marked/sub/a.jpg",
        "marked/store/images/b.parquet",
        "marked/store2/c.jpg",
        "marked/@eaDir/d.jpg",
    ):
        client.put_object(Bucket="photos", Key=key, Body=b"" if key in empty else b"photo")
    rows = listed.table(f"{object_store}/marked", "*", store=f"{object_store}/marked/store").to_pylist()
    assert [row["uri"] for row in rows] == [f"{object_store}/marked/store2/c.jpg", f"{object_store}/marked/sub/a.jpg"]


def test_a_store_on_an_object_store_is_published_and_read(object_store: str) -> None:
    shelf = Shelf(f"{object_store}/a store")
    shelf.publish("d1", "old", {"u1": "a"}, quarantined=["q"])
    shelf.publish("d2", "old", {"u1": "a"})
    publication = shelf.publication("d1", "new", {"u1": "a", "u2": "b"})
    assert publication.commit() == publication.commit()
    assert {item.partition: (item.rows, item.run_id) for item in catalog.partitions(shelf.store)} == {
        "d1": (2, "new"),
        "d2": (1, "old"),
    }
    assert catalog.vectors(shelf.store, "d1", MODEL)["uri"].to_pylist() == ["u1", "u2"]
    assert catalog.quarantine(shelf.store, "d1").num_rows == 0


def test_a_source_below_the_folder_of_the_store_is_listed(object_store: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{object_store}/whole/landing/a.jpg", b"photo")
    storage.write_bytes(str(tmp_path / "landing" / "a.jpg"), b"photo")
    for place in (f"{object_store}/whole", str(tmp_path)):
        for store in (place, f"{place}/landing", object_store):
            assert listed.table(f"{place}/landing", "*", "", store).num_rows == 1, (place, store)


class FussyStore(BaseHTTPRequestHandler):
    """Answers about every object, but gives an error, `<status>-<code>` in its name, where one is read.

    Whoever asks for the bucket `strangers` is one, and refused.
    """

    protocol_version = "HTTP/1.1"
    SIZE = 100_000

    def do_HEAD(self) -> None:
        self.send_response(403 if self.path.strip("/") == "strangers" else 200)
        self.send_header("Content-Length", str(self.SIZE))
        self.send_header("Last-Modified", "Wed, 12 Oct 2022 17:50:00 GMT")
        self.end_headers()

    def do_GET(self) -> None:
        status, _, code = self.path.split("?")[0].rpartition("/")[2].partition("-")
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        body = bytes(self.SIZE) if status == "200" else body
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def fussy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FussyStore)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "whose"),
    [
        ("403-AccessDenied", "the object's"),
        ("403-InvalidObjectState", "the object's"),
        ("404-NoSuchKey", "the object's"),
        ("400-KMS.DisabledException", "the object's"),
        ("500-InternalError", "the object's"),
        ("503-SlowDown", "the source's"),
        ("429-TooManyRequests", "the source's"),
        ("strangers/403-InvalidAccessKeyId", "the source's"),
        ("strangers/400-ExpiredToken", "the source's"),
    ],
)
def test_an_answer_of_the_store_is_told_of_the_object_or_of_the_source_and_never_of_our_store(
    object_store: str, fussy: str, monkeypatch: pytest.MonkeyPatch, answer: str, whose: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", fussy)
    uri = f"s3://{answer}" if "/" in answer else f"s3://photos/{answer}"
    files = [(uri, FussyStore.SIZE), ("s3://photos/200-fine", FussyStore.SIZE)]
    with storage.reaching("store", "/our/store"):
        if whose == "the source's":
            with pytest.raises(Unreachable, match=f"The source {uri} cannot be used"):
                list(reading.read_files(files, 2**20))
            return
        refused, fine = reading.read_files(files, 2**20)
    assert getattr(refused, "code", refused) == "unreadable"
    assert fine == bytes(FussyStore.SIZE)


def test_files_that_are_read_ahead_are_read_with_what_their_reader_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that read ahead take the connection of their caller along."""
    with witness() as server:
        environment = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
        for name, value in {**environment, "AWS_ACCESS_KEY_ID": "environment"}.items():
            monkeypatch.setenv(name, value)
        for name in ("a", "b", "c"):
            storage.write_bytes(f"s3://photos/{name}", b"photo")
        server.asked.clear()
        with catalog.reached_with({**environment, "AWS_ACCESS_KEY_ID": "connection"}):
            assert list(reading.read_files([(f"s3://photos/{name}", 5) for name in "abc"], 9)) == [b"photo"] * 3
        assert server.keys == {"connection"}


def test_a_key_with_dots_between_its_slashes_never_gives_the_bytes_of_another(object_store: str) -> None:
    storage.write_bytes(f"{object_store}/dots/other.jpg", b"other")
    for name in ("x/../other.jpg", "./other.jpg"):
        (outcome,) = reading.read_files([(f"{object_store}/dots/{name}", 5)], 2**20)
        assert getattr(outcome, "code", outcome) == "unreadable"


def test_a_marker_alone_is_an_empty_folder_and_an_object_is_none(object_store: str) -> None:
    client = boto3.client("s3", region_name="us-east-1")
    client.put_object(Bucket="photos", Key="only a marker/", Body=b"")
    client.put_object(Bucket="photos", Key="one.jpg", Body=b"photo")
    assert listed.table(f"{object_store}/only a marker", "*").num_rows == 0
    with pytest.raises(Unreachable) as caught:
        listed.table(f"{object_store}/one.jpg", "*")
    assert caught.value.code == "source_no_folder"


def test_other_stores_below_the_source_are_not_listed(place: str) -> None:
    for name in ("a.jpg", "old/images/_delta_log/0.json", "old/runs/d1/ingest.json", "old/images/data/b.parquet"):
        storage.write_bytes(f"{place}/{name}", b"photo")
    storage.write_bytes(f"{place}/table/_delta_log/0.json", b"{}")
    storage.write_bytes(f"{place}/table/c.parquet", b"x")
    storage.write_bytes(f"{place}/older/d.jpg", b"photo")
    uris = listed.table(place, "*")["uri"].to_pylist()
    assert [uri.rpartition("/")[2] for uri in uris] == ["a.jpg", "d.jpg"]


def test_each_way_to_write_the_uri_of_a_file_means_it(tmp_path: Path) -> None:
    path = tmp_path / "my photos" / "a.jpg"
    storage.write_bytes(str(path), b"photo")
    escaped = path.as_uri().removeprefix("file://")
    for uri in ("file:", "file://", "FILE://", "File:", "file://localhost", "file://LOCALHOST"):
        assert storage.is_local(uri + escaped)
        assert storage.read_bytes(uri + escaped) == b"photo"
    for uri in ("file:a.jpg", "file://another-host/a.jpg"):
        with pytest.raises(BadSetting):
            storage.read_bytes(uri)
