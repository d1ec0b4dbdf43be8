"""Photos that the store keeps no copy of: read at their source again, and set aside where that has changed."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from spark_apps import catalog
from spark_apps.contract import ExtractSettings, IngestSettings, ModelInfo, ValidateSettings
from spark_apps.extract import extract
from spark_apps.extractors import calibration
from spark_apps.media.fitting import Preprocessing
from spark_apps.pipeline import intake, keys, twins
from spark_apps.pipeline.landing import list_files
from spark_apps.spark import spreading
from spark_apps.spark.jobs import Timings
from spark_apps.validate import validate
from tests.spark.conftest import BAD, GOOD, Pipeline

KEY = "resnet18-random_0-fp32"


def test_the_vectors_are_those_of_a_store_with_copies(pipeline: Pipeline, tmp_path: Path) -> None:
    kept = pipeline("kept", source=str(tmp_path / "landing" / "d1"))
    manifests = pipeline("d1", content="reference", lookback=0)
    assert [manifests[stage].counts for stage in manifests] == [kept[stage].counts for stage in kept]
    images = {day: catalog.images(str(tmp_path / "store"), day).sort_by("uri") for day in ("kept", "d1")}
    assert images["kept"]["content"].null_count == 0 and images["d1"]["content"].null_count == GOOD + BAD["truncated"]
    assert images["kept"].drop_columns(["content", "partition"]) == images["d1"].drop_columns(["content", "partition"])
    vectors = {day: catalog.vectors(str(tmp_path / "store"), day, KEY, ["uri", "features"]) for day in ("kept", "d1")}
    assert vectors["kept"].sort_by("uri") == vectors["d1"].sort_by("uri")


def test_row_groups_are_as_large_as_with_copies(landing: Path, tmp_path: Path) -> None:
    """They are the units of work of extract, whatever they hold."""
    found = {}
    for content in ("keep", "reference"):
        job = IngestSettings(
            store=str(tmp_path / content), partition="d1", run_id="r", source=str(landing / "d1"), content=content
        )
        division = intake.divide(job, list_files(job.source, job.pattern), [], 1)
        work = (
            intake.ingest_units(iter([unit]), job, f"data/d1/r/{unit.row_group}", division.row_group_bytes)
            for unit in division.units
        )
        records = [record for task in work for record in task]
        files = [file for record in records for file in record.staged["images"]]
        found[content] = [file.row_groups for file in files]
        metadata = [pq.read_metadata(tmp_path / content / "images" / file.path) for file in files]
        lying = [tuple(one.row_group(n).num_rows for n in range(one.num_row_groups)) for one in metadata]
        assert lying == found[content]
    assert found["keep"] == found["reference"] and max(map(len, found["keep"])) > 1


def test_what_changes_before_extract_is_set_aside(pipeline: Pipeline, landing: Path, tmp_path: Path) -> None:
    day, secret = landing / "d1", tmp_path / "secret.jpg"
    shutil.copy(day / "astronaut.jpg", secret)
    pipeline(content="reference", within=str(landing), upto="ingest")
    first = bytearray((day / "chelsea.jpg").read_bytes())
    first[-10] ^= 1
    (day / "chelsea.jpg").write_bytes(first)  # as long as before
    (day / "coffee again.jpg").write_bytes(
        b"longer" + (day / "coffee again.jpg").read_bytes()
    )  # coffee.jpg is as it was
    (day / "cmyk.jpg").unlink()
    (day / "astronaut.jpg").unlink()
    (day / "astronaut.jpg").symlink_to(secret)  # the same bytes, and no place that may be read
    common = {"store": str(tmp_path / "store"), "partition": "d1", "run_id": "run 1"}
    manifest = extract(ExtractSettings(**common, model="resnet18", weights="random:0"), Timings())
    assert manifest.quarantined == {"changed": 2, "unreadable": 2, "truncated": BAD["truncated"]}
    assert manifest.counts["featured"] == GOOD - 4
    files = [tmp_path / "store" / "quarantine" / file.path for file in manifest.staged["quarantine"]]
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert {Path(row["uri"]).name: row["error_code"] for row in rows if row["error_code"] != "truncated"} == {
        **{"chelsea.jpg": "changed", "coffee%20again.jpg": "changed"},
        **{"cmyk.jpg": "unreadable", "astronaut.jpg": "unreadable"},
    }
    assert all(row["size_bytes"] > 0 and row["stage"] == "extract" for row in rows)


def test_a_source_that_is_gone_between_ingest_and_extract_costs_no_known_vector(
    pipeline: Pipeline, landing: Path, tmp_path: Path
) -> None:
    pipeline(content="reference")
    pipeline(run_id="run 2", content="reference", upto="ingest")
    shutil.rmtree(landing / "d1")
    common = {"store": str(tmp_path / "store"), "partition": "d1", "run_id": "run 2"}
    manifest = extract(ExtractSettings(**common, model="resnet18", weights="random:0"), Timings())
    assert (manifest.counts["featured"], manifest.counts["computed"]) == (GOOD, 0)


def test_what_changes_after_extract_does_not_hold_the_day_back(
    pipeline: Pipeline, landing: Path, tmp_path: Path
) -> None:
    pipeline(content="reference", upto="extract")
    for name in ("chelsea.jpg", "turned.jpg"):
        (landing / "d1" / name).write_bytes(b"another file")
    common = {"store": str(tmp_path / "store"), "partition": "d1", "run_id": "run 1"}
    validate(ValidateSettings(**common, max_failed_fraction=0.5, recheck=100), Timings())
    report = catalog.report(str(tmp_path / "store"), "d1", "run 1")
    assert report is not None and report["verdict"] == "published_with_warnings"
    [check] = [check for check in report["checks"] if check["name"] == "recomputation"]
    assert check["passed"] and len(report["recomputed"]) == GOOD - 2 and "2 more" in check["message"]


def test_calibration_reads_the_source(pipeline: Pipeline, landing: Path, tmp_path: Path) -> None:
    pixels = []
    for content in ("keep", "reference"):
        source = str(landing / "d1")
        ingested = pipeline(content, source=source, content=content, upto="ingest")["ingest"]
        settings = ExtractSettings(store=str(tmp_path / "store"), partition=content, run_id="run 1")
        sample = calibration.sample(settings, ingested)
        pixels.append((sample.photos, sample.pixels(Preprocessing()).tobytes()))
    assert pixels[0] == pixels[1]
    (landing / "d1" / "chelsea.jpg").unlink()
    assert len(sample.pixels(Preprocessing()).tobytes()) < len(pixels[0][1]), "without the one that is gone"


def test_twins_are_looked_at_where_they_still_are(pipeline: Pipeline, tmp_path: Path) -> None:
    """Black frames in other bytes share a vector and their pixels; one that has gone says nothing."""
    day = tmp_path / "frames"
    day.mkdir()
    ids = set()
    for number in range(3):
        target = io.BytesIO()
        Image.new("RGB", (64, 64)).save(target, "PNG", compress_level=number)
        (day / f"{number}.png").write_bytes(target.getvalue())
        ids.add(hashlib.sha256(target.getvalue()).hexdigest())
    manifests = pipeline("black", source=str(day), content="reference", upto="extract")
    info, images = manifests["extract"].model, manifests["ingest"].staged["images"]
    assert isinstance(info, ModelInfo) and len(ids) == 3

    def look() -> twins.Twins:
        sharing = twins.sharing(keys.of(sorted(ids)), keys.of(["one vector"] * 3))
        return twins.look(spreading.here, str(tmp_path / "store"), images, sharing, info, 10**6, "lot")

    assert (look().photos, look().fraction) == (3, 0)
    (day / "0.png").unlink()
    assert (look().photos, look().fraction) == (2, 0)
    for number in (1, 2):
        (day / f"{number}.png").unlink()
    assert look().fraction == 1, "nothing speaks for them"
