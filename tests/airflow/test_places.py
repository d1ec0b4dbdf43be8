"""Promises: whoever triggers a Dag reads only where Airflow's administrator lets them; nothing starts elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_features import form, places

from spark_apps import contract
from spark_apps.pipeline import landing

DAY = "2026-11-22"


def ingest(source: str) -> contract.IngestSettings:
    job = contract.IngestSettings(store="/store", partition=DAY, run_id="r", source=source)
    confined = form.confined(job)
    assert isinstance(confined, contract.IngestSettings)
    return confined


@pytest.mark.parametrize("source", ["/photos/{partition}", "/photos/x", "file:///photos/a%20b", "FILE:///photos/a"])
def test_the_configured_source_is_allowed(source: str) -> None:
    places.check("source", source.replace("{partition}", DAY), [places.above_partition("/photos/{partition}", DAY)])


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
        places.check("source", source, ["/photos"])
    assert refused.value.code == "source_not_allowed"


@pytest.mark.parametrize("source", ["s3://bucket/day/x", "S3://bucket/day", "s3a://bucket/day/", "s3://BUCKET/day"])
def test_the_same_bucket_and_folder_is_allowed(source: str) -> None:
    places.check("source", source, ["s3://bucket/day"])


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
        places.check("source", source, ["s3://bucket/day"])


@pytest.mark.parametrize(
    "weights", ["http://169.254.169.254/latest", "/etc/passwd", "s3://b/w.pth", "w.pth", "file:///etc/passwd", "./w"]
)
def test_weights_at_a_place_are_refused_unless_it_is_allowed(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = contract.ExtractSettings(store="/store", partition=DAY, run_id="r", weights=weights)
    with pytest.raises(contract.BadSetting, match="weights_locations"):
        form.confined(job)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", f"/models, {weights}")
    assert form.confined(job) == job


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V2", "keras-v1", "random:0"])
def test_named_weights_are_allowed(weights: str) -> None:
    form.confined(contract.ExtractSettings(store="/store", partition=DAY, run_id="r", weights=weights))


def test_an_extractor_that_nobody_offered_is_refused() -> None:
    job = contract.ExtractSettings(store="/store", partition=DAY, run_id="r", extractor="os:getcwd")
    with pytest.raises(contract.BadSetting, match="extractors"):
        form.confined(job)


def test_a_source_that_is_a_whole_machine_allows_one_partition() -> None:
    assert places.above_partition("/{partition}", DAY) == f"/{DAY}"
    assert places.above_partition("s3://{partition}/x", DAY) == f"s3://{DAY}/x"


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
    rows = landing.list_files(job.source, job.pattern, within=job.within).to_pylist()
    sizes = {Path(row["uri"]).name: row["size_bytes"] for row in rows}
    assert sizes == {"one": 3, "inside": 4, "file": landing.NOT_A_FILE, "folder": landing.NOT_A_FILE}
    free = landing.list_files(job.source, job.pattern).to_pylist()
    assert {Path(row["uri"]).name for row in free} == {"one", "inside", "file", "password"}
