"""Source and store on S3, through Arrow and delta-rs alone: a real S3 API server on loopback, no Hadoop jar."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from spark_apps import catalog
from spark_apps.contract import IngestSettings, Unreachable
from spark_apps.tables import commits, schemas, staging
from tests.s3 import s3_server
from tests.spark.conftest import BAD, GOOD, fill

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "planted-secret-0123456789"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="photos")
        yield "s3://photos"


def run(stage: str, uri: str, partition: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    common = ["--store", f"{uri}/store", "--partition", partition, "--run-id", "run+1"]
    return subprocess.run(
        [sys.executable, "-m", f"spark_apps.{stage}", *common, *arguments],
        cwd=REPOSITORY,
        env=os.environ.copy(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def upload(folder: Path, prefix: str) -> None:
    client = boto3.client("s3", region_name="us-east-1")
    for path in folder.iterdir():
        client.put_object(Bucket="photos", Key=f"{prefix}/{path.name}", Body=path.read_bytes())


@pytest.mark.parametrize("content", ["keep", "reference"])
def test_a_day_from_s3_to_s3_and_again(bucket: str, tmp_path: Path, content: str) -> None:
    upload(fill(tmp_path / "d1"), "landing/d1")
    client = boto3.client("s3", region_name="us-east-1")
    client.put_object(Bucket="photos", Key="landing/d1/archived.jpg", Body=b"photo" * 999, StorageClass="GLACIER")
    client.put_object(Bucket="photos", Key="landing/d1/x//empty part.jpg", Body=b"photo" * 999)
    client.put_object(Bucket="photos", Key="landing/d1/Thumbs.db", Body=b"debris")
    outcomes = [
        run("ingest", bucket, "d1", "--source", f"{bucket}/landing/{{partition}}", "--content", content),
        run("extract", bucket, "d1", "--model", "resnet18", "--weights", "random:0"),
        run("validate", bucket, "d1", "--max-failed-fraction", "0.5", "--recheck", "2"),
        run("extract", bucket, "d1", "--model", "resnet18", "--weights", "random:0"),
    ]
    for outcome in outcomes:
        assert outcome.returncode == 0, outcome.stderr[-3000:]
        assert SECRET not in outcome.stdout + outcome.stderr
    [published] = catalog.partitions(f"{bucket}/store")
    assert (published.rows, published.run_id) == (GOOD, "run+1")
    vectors = catalog.vectors(f"{bucket}/store", "d1", "resnet18-random_0-fp32").to_pylist()
    assert {row["uri"] for row in vectors} >= {f"{bucket}/landing/d1/coffee again.jpg"}
    images = catalog.images(f"{bucket}/store", "d1", ["content"])["content"]
    assert images.null_count == (len(images) if content == "reference" else 0)
    refused = {row["uri"]: row["error_code"] for row in catalog.quarantine(f"{bucket}/store", "d1").to_pylist()}
    unreadable = {f"{bucket}/landing/d1/{name}" for name in ("archived.jpg", "x//empty part.jpg")}
    assert unreadable == {uri for uri, code in refused.items() if code == "unreadable"}
    assert len(refused) == sum(BAD.values()) + len(unreadable)
    extracted = catalog.manifest(f"{bucket}/store", "d1", "run+1", "extract")
    assert extracted is not None
    assert extracted.counts["computed"] == 0  # the last of the four reused what the third published


def test_only_one_of_many_writers_wins_each_version(bucket: str) -> None:
    """Conditional puts: rows of two runs never stand side by side, and all tables agree on the run."""

    def publish(name: str) -> None:
        settings = IngestSettings(store=f"{bucket}/store", partition="d1", run_id=name, source=bucket + "/landing")
        rows = {
            "images": {"uri": name, "image_id": name, "content": b"x", "run_id": name},
            "quarantine": {"uri": name + " bad", "run_id": name},
            "features": {"uri": name, "image_id": name, "features": [1.0], "run_id": name},
        }
        staged = {}
        for table, row in rows.items():
            with staging.StagedWriter(settings.store, schemas.TABLES[table], staging.folder(settings)) as writer:
                writer.add(row, 1)
            staged[table] = writer.files
        commits.Replacement(settings.store, "d1", "model", name, staged, {}).commit()

    writers = [threading.Thread(target=publish, args=(f"run {index}",)) for index in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seen = [
        catalog.images(f"{bucket}/store", "d1")["run_id"].to_pylist(),
        catalog.quarantine(f"{bucket}/store", "d1")["run_id"].to_pylist(),
        catalog.vectors(f"{bucket}/store", "d1", "model")["run_id"].to_pylist(),
    ]
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 1


def test_a_missing_bucket_and_a_dead_endpoint_are_unreachable(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run("ingest", bucket, "d1", "--source", "s3://no-such-bucket/landing")
    assert outcome.returncode == 4
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        catalog.partitions(f"{bucket}/store")


def test_no_hadoop_s3_jar_is_on_the_class_path() -> None:
    import pyspark

    assert not list((Path(pyspark.__file__).parent / "jars").glob("*hadoop-aws*"))
