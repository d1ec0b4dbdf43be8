"""Promises: whoever triggers a Dag reads only where Airflow's administrator lets them; nothing starts elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from image_features import allowed_places, models, run_settings

from spark_apps import contract
from spark_apps.model import weights
from spark_apps.pipeline import intake, landing
from spark_apps.storage import reading
from spark_apps.storage.listing import NOT_A_FILE
from tests import listed

DAY = "2026-11-22"


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", "/store")


def ingest(source: str) -> contract.IngestSettings:
    job = contract.IngestSettings(store="/store", partition=DAY, run_id="r", source=source)
    confined = run_settings.confined(job)
    assert isinstance(confined, contract.IngestSettings)
    return confined


@pytest.mark.parametrize("source", ["/photos/{partition}", "/photos/x", "file:///photos/a%20b", "FILE:///photos/a"])
def test_the_configured_source_is_allowed(source: str) -> None:
    allowed_places.check(
        "source", source.replace("{partition}", DAY), [allowed_places.above_partition("/photos/{partition}", DAY)]
    )


@pytest.mark.parametrize(
    "source",
    [
        "/opt/airflow",
        "/photos2",
        "/photos-private/x",
        "file:///etc",
        "file:///photos/%2e%2e/etc",
        "file:/etc",
        "/",
        "~/x",
        "photos",
        "/photos/../etc",
        "s3://photos/x",
        "http://photos/x",
        "file://localhost/etc",
    ],
)
def test_elsewhere_on_a_disk_is_refused(source: str) -> None:
    with pytest.raises(contract.BadSetting, match="sources") as refused:
        allowed_places.check("source", source, ["/photos"])
    assert refused.value.code == "source_not_allowed"


@pytest.mark.parametrize("source", ["s3://bucket/day/x", "S3://bucket/day", "s3a://bucket/day/", "s3://BUCKET/day"])
def test_the_same_bucket_and_folder_is_allowed(source: str) -> None:
    allowed_places.check("source", source, ["s3://bucket/day"])


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/days",
        "s3://bucket2/day",
        "s3://bucket/day/../x",
        "s3://bucket/day/%2e%2e/x",
        "gs://bucket/day",
        "s3://bucket/day/%252e%252e/x",
        "s3://bucket/day/%252525252e%252525252e/x",
        "s3://bucket/day/..%2fx",
        "s3://bucket/day/\uff0e\uff0e/x",
        "s3://u:p@bucket/day",
        "s3://bucket:80/day",
        "s3://bucket/day?endpoint=x",
        "s3://bucket/day/..\\x",
        "s3://bucket/day#x",
        "s3://b\u00fccket/day",
        "s3:///bucket/day",
        "s3://bucket",
    ],
)
def test_elsewhere_in_a_store_is_refused(source: str) -> None:
    with pytest.raises(contract.BadSetting):
        allowed_places.check("source", source, ["s3://bucket/day"])


@pytest.mark.parametrize(
    "weights", ["http://169.254.169.254/latest", "/etc/passwd", "s3://b/w.pth", "w.pth", "file:///etc/passwd", "./w"]
)
def test_weights_at_a_place_are_refused_unless_it_is_allowed(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = contract.ExtractSettings(store="/store", partition=DAY, run_id="r", weights=weights)
    with pytest.raises(contract.BadSetting, match="weights_locations"):
        run_settings.confined(job)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", f"/models, {weights}")
    assert run_settings.confined(job) == dataclasses.replace(job, weights_within=f"/models\n{weights}")


@pytest.mark.parametrize("model", ["/models2/m.onnx", "s3://b/m.onnx", "m.onnx", "/models/../m.xml", "http://h/m.onnx"])
def test_a_model_at_a_place_is_refused_unless_it_is_allowed(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", "/models")
    job = contract.ExtractSettings(store="/store", partition=DAY, run_id="r", model=model)
    with pytest.raises(contract.BadSetting, match="weights_locations") as refused:
        run_settings.confined(job)
    assert refused.value.code == "model_not_allowed"
    allowed = dataclasses.replace(job, model="/models/m.onnx")
    assert run_settings.confined(allowed) == dataclasses.replace(allowed, weights_within="/models")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL", model)
    assert run_settings.confined(job) == dataclasses.replace(job, weights_within=f"/models\n{model}")


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V2", "keras-v1", "random:0"])
def test_named_weights_are_allowed(weights: str) -> None:
    run_settings.confined(contract.ExtractSettings(store="/store", partition=DAY, run_id="r", weights=weights))


def test_models_come_from_the_sources_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    job = contract.ExtractSettings(store="/store", partition=DAY, run_id="r", model="timm:resnet18")
    run_settings.confined(job)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL_SOURCES", "torchvision")
    with pytest.raises(contract.BadSetting, match="model_sources") as refused:
        run_settings.confined(job)
    assert refused.value.code == "model_not_allowed"
    with pytest.raises(contract.BadSetting, match="Models of timm"):
        run_settings.check_in_dag(contract.ExtractSettings, {"model": "timm:resnet18"})
    run_settings.check_in_dag(contract.IndexSettings, {"model": "timm_resnet18-default-fp32"})
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL_SOURCES", "torchvison")
    with pytest.raises(contract.BadSetting, match="'torchvison' is not a source"):
        run_settings.confined(job)


@pytest.mark.parametrize(
    ("model", "said"), [("timm:test_vit", ""), ("resnet50", ""), ("timm:test_vjt", "Did you mean")]
)
def test_the_first_task_asks_whether_there_is_such_a_model(model: str, said: str) -> None:
    if not said:
        models.check(model)
        return
    with pytest.raises(contract.BadSetting, match=f"has no model '{model}'.*{said}"):
        models.check(model)


def test_an_extractor_that_nobody_offered_is_refused() -> None:
    job = contract.ExtractSettings(store="/store", partition=DAY, run_id="r", extractor="os:getcwd")
    with pytest.raises(contract.BadSetting, match="extractors"):
        run_settings.confined(job)


def test_a_source_that_is_a_whole_machine_allows_one_partition() -> None:
    assert allowed_places.above_partition("/{partition}", DAY) == f"/{DAY}"
    assert allowed_places.above_partition("s3://{partition}/x", DAY) == f"s3://{DAY}/x"


def test_links_that_lead_out_are_neither_a_source_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, secret = tmp_path / "photos", tmp_path / "secret"
    (allowed / "day").mkdir(parents=True)
    secret.mkdir()
    (secret / "password").write_text("hunter2")
    (allowed / "day" / "one").write_text("one")
    (allowed / "kept").write_text("kept")
    (allowed / "day" / "inside").symlink_to(allowed / "kept")
    (allowed / "day" / "file").symlink_to(secret / "password")
    (allowed / "day" / "folder").symlink_to(secret)
    (allowed / "out").symlink_to(secret)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCE", f"{allowed}/{{partition}}")
    with pytest.raises(contract.BadSetting, match="sources"):
        ingest(str(allowed / "out"))
    job = ingest(str(allowed / "day"))
    rows = listed.table(job.source, job.pattern, within=job.within).to_pylist()
    sizes = {Path(row["uri"]).name: row["size_bytes"] for row in rows}
    assert sizes == {"one": 3, "inside": 4, "file": NOT_A_FILE, "folder": NOT_A_FILE}
    free = listed.table(job.source, job.pattern).to_pylist()
    assert {Path(row["uri"]).name for row in free} == {"one", "inside", "file", "password"}


def test_a_link_that_is_put_in_the_place_of_a_listed_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and reading, each in turn: the file, the folder around it, and the link to it."""
    allowed, secret = tmp_path / "photos", tmp_path / "secret"
    (allowed / "day" / "sub").mkdir(parents=True)
    (secret / "sub").mkdir(parents=True)
    for name in ("one", "sub/two", "kept", "three"):
        (allowed / "day" / name).write_text("photo!!")
        (secret / name).write_text("hunter2")
    (allowed / "day" / "three").unlink()
    (allowed / "day" / "three").symlink_to(allowed / "day" / "kept")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCE", f"{allowed}/{{partition}}")
    job = ingest(str(allowed / "day"))
    files = [
        (row["uri"], row["size_bytes"]) for row in listed.table(job.source, job.pattern, within=job.within).to_pylist()
    ]
    before = list(reading.read_files(files, 99, job.within))
    assert before == [b"photo!!"] * 4
    for name in ("one", "three"):
        (allowed / "day" / name).unlink()
        (allowed / "day" / name).symlink_to(secret / name)
    (allowed / "day" / "sub").rename(allowed / "moved")
    (allowed / "day" / "sub").symlink_to(secret / "sub")
    read = reading.read_files(files, 99, job.within)
    contents = {Path(uri).name: content for (uri, _), content in zip(files, read, strict=True)}
    assert contents.pop("kept") == b"photo!!"
    assert contents.keys() == {"one", "two", "three"}
    for refused in contents.values():
        assert isinstance(refused, contract.BadFile)
        assert refused.code == "unreadable" and "leads out of the folders" in refused.message
    assert b"hunter2" in list(reading.read_files(files, 99)), "without folders, links are followed"


def test_a_task_of_ingest_reads_within_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_text("photo!!")
    (tmp_path / "password").write_text("hunter2")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCE", str(tmp_path / "photos"))
    job = dataclasses.replace(ingest(str(tmp_path / "photos")), store=str(tmp_path / "store"), extractor="text")
    listing = landing.list_files(job.source, job.pattern, within=job.within)
    division = intake.divide(job, listing, [], 1)
    (tmp_path / "photos" / "one").unlink()
    (tmp_path / "photos" / "one").symlink_to(tmp_path / "password")
    for folder, settings, codes in (("a", job, {"unreadable": 1}), ("b", dataclasses.replace(job, within=""), {})):
        (record,) = intake.ingest_units(iter(division.units), settings, folder, division.row_group_bytes)
        assert record.codes == codes


@contextmanager
def redirecting(target: str) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that leads everywhere else to `target`, and the paths it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if target:
                self.send_response(302)
                self.send_header("Location", target)
            else:
                self.send_response(200)
            self.end_headers()
            self.wfile.write(b"" if target else b"no weights")

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("own_cache")
def test_weights_do_not_follow_a_redirect_to_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with redirecting("") as (inward, asked), redirecting(f"{inward}/latest/meta-data?x=1") as (allowed, _):
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", f"{allowed}/models")
        given = contract.ExtractSettings(
            store="/store", partition=DAY, run_id="r", model="resnet18", weights=f"{allowed}/models/w.pth"
        )
        job = run_settings.confined(given)
        assert isinstance(job, contract.ExtractSettings)
        with pytest.raises(contract.BadSetting, match=f"redirects to {inward}/latest") as refused:
            weights.resolve(contract.ModelSettings.of(job))
        assert (refused.value.code, asked) == ("weights_not_allowed", [])
        weights.resolve(contract.ModelSettings.of(given))
        assert asked == ["/latest/meta-data?x=1"], "from the command line, redirects are followed"
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", f"{allowed}/models, {inward}/latest")
        allowed_too = run_settings.confined(given)
        assert isinstance(allowed_too, contract.ExtractSettings)
        weights.resolve(contract.ModelSettings.of(allowed_too))
        assert len(asked) == 2


@pytest.mark.usefixtures("own_cache")
def test_weights_behind_a_link_that_was_put_there_later_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "w.pth").write_bytes(b"weights")
    (tmp_path / "password").write_bytes(b"hunter2")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", str(tmp_path / "models"))
    given = contract.ExtractSettings(
        store="/store", partition=DAY, run_id="r", model="resnet18", weights=str(tmp_path / "models" / "w.pth")
    )
    job = run_settings.confined(given)
    assert isinstance(job, contract.ExtractSettings)
    assert weights.resolve(contract.ModelSettings.of(job)).sha256 == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "models" / "w.pth").unlink()
    (tmp_path / "models" / "w.pth").symlink_to(tmp_path / "password")
    with pytest.raises(contract.BadSetting, match="a link that leads elsewhere"):
        weights.resolve(contract.ModelSettings.of(job))
