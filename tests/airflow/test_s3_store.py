"""The Dag with source and store on S3, reached by a role that the keys of an Airflow connection take on: those stay
there, and the role's stay in the jobs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from PIL import Image
from skimage import data

from demo.airflow_server import AirflowServer
from spark_apps import catalog
from tests.s3 import s3_server

pytestmark = pytest.mark.timeout(600)

KEY, SECRET = "somebody", "planted-secret-0123456789"


@pytest.fixture
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


def test_a_run_on_s3_publishes_and_keeps_its_secret(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket="photos")
    for name in ("coffee", "chelsea", "rocket"):
        content = io.BytesIO()
        Image.fromarray(getattr(data, name)()).save(content, "JPEG")
        client.put_object(Bucket="photos", Key=f"landing/d1/{name}.jpg", Body=content.getvalue())
    client.put_object(Bucket="photos", Key="landing/d1/empty.jpg", Body=b"")
    connection = {
        "conn_type": "aws",
        "login": KEY,
        "password": SECRET,
        "extra": {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "role_arn": "arn:aws:iam::123456789012:role/photos",
            "service_config": {"sts": {"endpoint_url": endpoint}},
        },
    }
    settings = {
        "STORAGE_CONN_ID": "photo_store",
        "MODEL": "resnet18",
        "WEIGHTS": "random:0",
        "MAX_FAILED_FRACTION": "0.3",
        "RECHECK": "0",
    }
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    env["AIRFLOW_CONN_PHOTO_STORE"] = json.dumps(connection)
    server = AirflowServer(
        tmp_path / "home", store="s3://photos/store", source="s3://photos/landing/{partition}", env=env
    )
    with server:
        run_id = server.trigger({"partition": "d1"})
        outcome = server.wait([run_id], timeout=300)[run_id]
        logs = {task: server.task_log(run_id, task) for task in ("ingest", "extract", "validate")}
        assert outcome["state"] == "success", "\n".join(logs.values())[-3000:]
        instances = server.api("GET", f"/api/v2/dags/image_features/dagRuns/{run_id}/taskInstances")
    assert SECRET not in json.dumps(logs)
    assert SECRET not in json.dumps(instances)
    assert "ASIA" not in json.dumps([logs, instances]), "as the keys of a role begin"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    [published] = catalog.partitions("s3://photos/store")
    assert (published.partition, published.rows, published.run_id) == ("d1", 3, run_id)
    assert catalog.quarantine("s3://photos/store", "d1")["error_code"].to_pylist() == ["empty"]
