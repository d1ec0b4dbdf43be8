"""Photos in, published features out: what a run leaves in the store, and what a second run does with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from spark_apps import catalog, storage
from spark_apps.contract import BadSetting, ExtractSettings, ModelSettings, NothingToDo, QualityFailed, Unreachable
from spark_apps.extract import extract
from spark_apps.model.reference import reference
from spark_apps.spark.jobs import Timings
from tests.spark.conftest import BAD, DUPLICATES, GOOD, MODEL, WEIGHTS, Pipeline

KEY = "resnet18-random_0-fp32"


def rows(store: Path, partition: str = "d1") -> dict[str, dict[str, object]]:
    table = catalog.vectors(str(store), partition, KEY)
    return {row["uri"]: row for row in table.to_pylist()}


def test_every_listed_file_is_featured_or_quarantined(pipeline: Pipeline, tmp_path: Path) -> None:
    manifests = pipeline()
    counts = manifests["validate"].counts
    assert counts["listed"] == GOOD + sum(BAD.values()) == counts["featured"] + counts["quarantined"]
    assert (counts["accepted"], counts["duplicates"], counts["computed"]) == (GOOD + 1, DUPLICATES, GOOD - DUPLICATES)
    assert manifests["validate"].quarantined == BAD
    store = tmp_path / "store"
    featured = rows(store)
    refused = catalog.quarantine(str(store), "d1").to_pylist()
    listed = {path.as_uri() for path in (tmp_path / "landing" / "d1").iterdir()}
    assert featured.keys() | {row["uri"] for row in refused} == listed
    assert {row["error_code"]: row["stage"] for row in refused} == {
        "truncated": "extract",
        "empty": "ingest",
        "not_an_image": "ingest",
    }
    assert {len(row["features"]) for row in featured.values()} == {512}
    assert {row["run_id"] for row in [*featured.values(), *refused]} == {"run 1"}
    assert {row["model_fingerprint"] for row in featured.values()} == {manifests["extract"].model.fingerprint}


def test_features_equal_those_of_plain_torchvision(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline()
    features_of = reference(ModelSettings(MODEL, WEIGHTS))
    for uri, row in rows(tmp_path / "store").items():
        path = storage.filesystem(uri)[1]
        with Image.open(path) as photo:
            expected = features_of(ImageOps.exif_transpose(photo).convert("RGB"))
        assert np.abs(expected - np.array(row["features"])).max() <= 1e-4, uri


def test_copies_of_a_file_share_a_vector_and_a_computation(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline()
    by_name = {uri.rsplit("/", 1)[-1]: row for uri, row in rows(tmp_path / "store").items()}
    assert by_name["coffee.jpg"]["features"] == by_name["coffee%20again.jpg"]["features"]
    assert by_name["coffee.jpg"]["features"] != by_name["chelsea.jpg"]["features"]


def test_each_worker_opens_the_model_once(pipeline: Pipeline) -> None:
    from spark_apps.spark.contexts import context, parallelism

    first = pipeline(run_id="first", recompute=True)["extract"]
    second = pipeline(run_id="second", recompute=True)["extract"]
    workers = parallelism(context("test"))
    assert first.outcome["model_loads"] + second.outcome["model_loads"] <= workers
    assert second.counts["computed"] == first.counts["computed"] > workers


def test_a_second_run_computes_nothing_and_publishes_the_same_rows(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline(run_id="first")
    before = rows(tmp_path / "store")
    counts = pipeline(run_id="second")["validate"].counts
    assert (counts["computed"], counts["reused"]) == (0, GOOD - DUPLICATES)
    after = rows(tmp_path / "store")
    assert {uri: row["features"] for uri, row in after.items()} == {uri: row["features"] for uri, row in before.items()}
    assert {row["run_id"] for row in after.values()} == {"second"}


def test_a_late_file_is_picked_up_and_only_it_is_computed(pipeline: Pipeline, landing: Path, tmp_path: Path) -> None:
    pipeline(run_id="first")
    Image.new("RGB", (300, 200), "orange").save(landing / "d1" / "late.png")
    counts = pipeline(run_id="second")["validate"].counts
    assert counts["computed"] == 1
    assert any(uri.endswith("late.png") for uri in rows(tmp_path / "store"))


def test_a_photo_seen_the_day_before_is_not_computed_again(pipeline: Pipeline, landing: Path) -> None:
    pipeline()
    shutil.copytree(landing / "d1", landing / "d2")
    assert pipeline("d2")["extract"].counts["computed"] == 0
    assert pipeline("d2", lookback=0, run_id="other")["extract"].counts["reused"] == GOOD - DUPLICATES  # its own day
    shutil.copytree(landing / "d1", landing / "d0")
    assert pipeline("d0")["extract"].counts["reused"] == 0  # later days are not looked at


def damaged(file: Path, where: str) -> bytes:
    """What is in a Parquet file, without its end or with zeros in a column."""
    content, group = bytearray(file.read_bytes()), pq.ParquetFile(file).metadata.row_group(0)
    column = {"names": "image_id", "vectors": "features.list.element"}.get(where)
    if column is None:
        return bytes(content[:-20])
    columns = {chunk.path_in_schema: chunk for chunk in map(group.column, range(group.num_columns))}
    begin = columns[column].data_page_offset
    content[begin : begin + 16] = bytes(16)
    return bytes(content)


@pytest.mark.parametrize("where", ["end", "names", "vectors"])
def test_photos_whose_known_vectors_are_damaged_are_computed_anew(
    where: str, pipeline: Pipeline, landing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline()
    shutil.copytree(landing / "d1", landing / "d2")
    known = list((tmp_path / "store" / "features" / "data" / "d1").rglob("*.parquet"))
    vectors = {uri.rsplit("/", 1)[-1]: row["features"] for uri, row in rows(tmp_path / "store").items()}
    for file in known:
        file.write_bytes(damaged(file, where))
    counts = pipeline("d2")["validate"].counts
    assert (counts["computed"], counts["reused"], counts["featured"]) == (GOOD - DUPLICATES, 0, GOOD)
    told = [line for line in capsys.readouterr().err.splitlines() if "is damaged" in line]
    for file in known:
        (line,) = (line for line in told if f"{file} is damaged" in line)
        assert "again with --recompute" in line and "computed anew" in line
    again = {uri.rsplit("/", 1)[-1]: row["features"] for uri, row in rows(tmp_path / "store", "d2").items()}
    assert again == vectors


def test_a_damaged_file_of_the_day_itself_ends_extract(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline(upto="ingest")
    staged = next((tmp_path / "store" / "images" / "data" / "d1").rglob("*.parquet"))
    staged.write_bytes(damaged(staged, "end"))
    settings = ExtractSettings(
        store=str(tmp_path / "store"), partition="d1", run_id="run 1", model=MODEL, weights=WEIGHTS
    )
    with pytest.raises(BadSetting, match=f"{staged} is damaged: .*from ingest on"):
        extract(settings, Timings())


def test_recompute_computes_all(pipeline: Pipeline) -> None:
    pipeline(run_id="first")
    assert pipeline(run_id="second", recompute=True, upto="extract")["extract"].counts["reused"] == 0


def test_a_failed_check_publishes_nothing_and_names_the_files(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline(run_id="good")
    before = catalog.table(str(tmp_path / "store"), "features").version()
    with pytest.raises(QualityFailed, match=r"failed_fraction failed: 0\.3 \(limit 0\.01\)") as failure:
        pipeline(run_id="strict", max_failed_fraction=0.01)
    assert "empty.jpg" in str(failure.value)
    assert catalog.table(str(tmp_path / "store"), "features").version() == before
    assert {row["run_id"] for row in rows(tmp_path / "store").values()} == {"good"}
    assert catalog.report(str(tmp_path / "store"), "d1", "strict")["verdict"] == "rejected"


def test_a_day_of_broken_files_only_is_refused(pipeline: Pipeline, landing: Path, tmp_path: Path) -> None:
    (landing / "d3").mkdir()
    (landing / "d3" / "a.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(QualityFailed, match="some_features"):
        pipeline("d3", max_failed_fraction=1)
    assert catalog.partitions(str(tmp_path / "store")) == []


def test_no_publish_checks_and_leaves_the_tables_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    assert pipeline(no_publish=True)["validate"].outcome["verdict"] == "checked"
    assert catalog.partitions(str(tmp_path / "store")) == []


def test_a_wrong_vector_is_found_by_the_independent_recomputation(pipeline: Pipeline, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    manifest = pipeline(upto="extract")["extract"]
    for file in manifest.staged["features"]:
        path = tmp_path / "store" / "features" / file.path
        table = pq.read_table(path)
        reversed_ = [vector[::-1] for vector in table["features"].to_pylist()]
        table = table.set_column(2, "features", pa.array(reversed_, pa.list_(pa.float32())))
        pq.write_table(table, path)
    from spark_apps.contract import ValidateSettings
    from spark_apps.spark.jobs import Timings
    from spark_apps.validate import validate

    settings = ValidateSettings(
        store=str(tmp_path / "store"), partition="d1", run_id="run 1", max_failed_fraction=0.5, recheck=2
    )
    with pytest.raises(QualityFailed, match="recomputation"):
        validate(settings, Timings())


def retagged(photo: Image.Image, path: Path, tag: int) -> None:
    """The same pixels in other bytes: without loss, with an EXIF description of its own."""
    exif = Image.Exif()
    exif[0x010E] = f"copy {tag}"
    photo.save(path, exif=exif)


def test_an_honest_day_of_black_frames_and_one_of_retagged_copies_are_published(
    pipeline: Pipeline, landing: Path, tmp_path: Path
) -> None:
    dark, copies = landing / "dark", landing / "copies"
    dark.mkdir()
    copies.mkdir()
    for number in range(7):
        retagged(Image.new("RGB", (320, 240)), dark / f"black {number}.png", number)
    for number, name in enumerate(("coffee.jpg", "chelsea.jpg", "astronaut.jpg", "cmyk.jpg", "grey image.png")):
        shutil.copy(landing / "d1" / name, dark / name)
        with Image.open(landing / "d1" / name) as photo:
            for copy in range(2):
                retagged(photo.convert("RGB"), copies / f"{number} {copy}.png", copy)
    for partition, count in (("dark", 12), ("copies", 10)):
        pipeline(partition)
        report = catalog.report(str(tmp_path / "store"), partition, "run 1")
        assert report is not None
        (check,) = [check for check in report["checks"] if check["name"] == "identical_vectors"]
        assert (check["passed"], check["value"], report["counts"]["computed"]) == (True, 0, count)
        assert "by a look at" in check["message"], "so many share a vector that their pixels were looked at"


def test_one_vector_for_different_photos_is_found_and_its_level_is_a_choice(pipeline: Pipeline, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from spark_apps.contract import ValidateSettings
    from spark_apps.spark.jobs import Timings
    from spark_apps.validate import validate

    store = tmp_path / "store"
    manifest = pipeline(upto="extract")["extract"]
    for file in manifest.staged["features"]:
        path = store / "features" / file.path
        table = pq.read_table(path)
        same = pa.array([[float(at) for at in range(512)]] * len(table), pa.list_(pa.float32()))
        pq.write_table(table.set_column(table.schema.get_field_index("features"), "features", same), path)
    common = {"store": str(store), "partition": "d1", "run_id": "run 1", "max_failed_fraction": 0.5}
    with pytest.raises(QualityFailed, match=r"identical_vectors failed: 1 \(limit 0\.5\).*by a look at 6"):
        validate(ValidateSettings(**common, check_levels="recomputation=off"), Timings())
    schema = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text())
    levels = "recomputation=off,identical_vectors=warning,drift=off"
    outcome = validate(ValidateSettings(**common, check_levels=levels), Timings()).outcome
    assert (outcome["verdict"], outcome["warnings"], outcome["off"]) == (
        "published_with_warnings",
        ["failed_fraction", "identical_vectors"],
        ["recomputation", "drift"],
    )
    report = catalog.report(str(store), "d1", "run 1")
    assert report is not None
    jsonschema.validate(report, schema)
    assert report["recomputed"] == [], "what is off is not run"
    assert [(check["passed"], check["severity"]) for check in report["checks"] if check["name"] == "drift"] == [
        (None, "off")
    ]


def test_a_day_without_any_vector_can_be_published_where_that_is_chosen(
    pipeline: Pipeline, landing: Path, tmp_path: Path
) -> None:
    (landing / "d3").mkdir()
    (landing / "d3" / "a.jpg").write_bytes(b"\xff\xd8\xff broken")
    pipeline("d3", max_failed_fraction=1, check_levels="some_features=off")
    assert len(catalog.quarantine(str(tmp_path / "store"), "d3")) == 1


def test_an_empty_day_fails_or_is_skipped_as_asked(pipeline: Pipeline, landing: Path) -> None:
    (landing / "d4").mkdir()
    with pytest.raises(BadSetting, match="no files"):
        pipeline("d4")
    with pytest.raises(NothingToDo):
        pipeline("d4", on_empty="skip")


def test_a_missing_source_is_unreachable(pipeline: Pipeline) -> None:
    with pytest.raises(Unreachable, match="does not exist"):
        pipeline("d5")


def test_days_and_models_live_side_by_side(pipeline: Pipeline, landing: Path, tmp_path: Path) -> None:
    shutil.copytree(landing / "d1", landing / "d2")
    pipeline("d1")
    pipeline("d2")
    pipeline("d1", run_id="other model", weights="random:1")
    found = {(item.partition, item.model): item.rows for item in catalog.partitions(str(tmp_path / "store"))}
    assert found == {("d2", KEY): 7, ("d1", KEY): 7, ("d1", "resnet18-random_1-fp32"): 7}


def test_the_report_keeps_to_its_schema(pipeline: Pipeline, landing: Path, tmp_path: Path) -> None:
    schema = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text())
    shutil.copytree(landing / "d1", landing / "d2")
    pipeline("d1")
    pipeline("d2", warn_failed_fraction=1)
    with pytest.raises(QualityFailed):
        pipeline("d2", run_id="strict", max_failed_fraction=0)
    told = {day: catalog.publications(str(tmp_path / "store"), day, KEY)[0].facts for day in ("d1", "d2")}
    assert (told["d1"]["verdict"], told["d1"]["warnings"]) == ("published_with_warnings", "failed_fraction")
    assert (told["d2"]["verdict"], "warnings" in told["d2"]) == ("published", False)
    for partition, run_id, verdict in (
        ("d1", "run 1", "published_with_warnings"),
        ("d2", "run 1", "published"),
        ("d2", "strict", "rejected"),
    ):
        report = catalog.report(str(tmp_path / "store"), partition, run_id)
        assert report is not None
        jsonschema.validate(report, schema)
        assert report["verdict"] == verdict
    assert report["drift"]["by_partition"] == {"d1": 0.0}
    assert report["rows_before"] == {"d1": GOOD}
