"""A connection of type aws is read as the amazon provider reads it, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from image_features import storage_connection

from spark_apps.contract import BadSetting

KEYS = {"AWS_ACCESS_KEY_ID": "key-id", "AWS_SECRET_ACCESS_KEY": "very-private"}
LOGIN = {"login": "key-id", "password": "very-private"}
IN_EXTRA = {"aws_access_key_id": "key-id", "aws_secret_access_key": "very-private"}


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the AWS command line with a profile that has keys and one that takes on a role."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text("[night]\naws_access_key_id = key-id\naws_secret_access_key = very-private\n")
    config.write_text("[profile night]\nregion = eu-west-1\n[profile role]\nrole_arn = arn:aws:iam::1:role/x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))


def read(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], **connection: Any) -> dict[str, str]:
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps({"conn_type": "aws", "extra": extra, **connection}))
    return storage_connection.variables("storage")


@pytest.mark.parametrize(
    ("login", "extra", "expected"),
    [
        (LOGIN, {}, KEYS),
        (LOGIN, {"aws_session_token": "t"}, {**KEYS, "AWS_SESSION_TOKEN": "t"}),
        (LOGIN, {"profile_name": "role"}, KEYS),
        ({}, {**IN_EXTRA, "aws_session_token": "t"}, {**KEYS, "AWS_SESSION_TOKEN": "t"}),
        ({}, {"session_kwargs": {**IN_EXTRA, "region_name": "eu-west-3"}}, {**KEYS, "AWS_REGION": "eu-west-3"}),
        ({}, {"profile_name": "night"}, {**KEYS, "AWS_REGION": "eu-west-1"}),
        ({}, {"session_kwargs": {"profile_name": "night"}, "region_name": "x"}, {**KEYS, "AWS_REGION": "x"}),
        ({}, {}, {}),
        ({}, {"aws_session_token": "t"}, {}),
        ({}, {"region_name": "eu-west-1"}, {"AWS_REGION": "eu-west-1"}),
        ({}, {"endpoint_url": "https://a"}, {"AWS_ENDPOINT_URL": "https://a"}),
        (
            {},
            {"endpoint_url": "https://a", "service_config": {"s3": {"endpoint_url": "https://s3"}}},
            {"AWS_ENDPOINT_URL": "https://s3"},
        ),
        ({}, {"service_config": {"sts": {"endpoint_url": "https://sts"}}}, {}),
        ({}, {"verify": "/etc/our.pem"}, {"AWS_CA_BUNDLE": "/etc/our.pem"}),
        ({}, {"verify": True}, {}),
    ],
)
def test_what_a_connection_stands_for(
    login: dict[str, str], extra: dict[str, Any], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(monkeypatch, extra, **login) == expected


@pytest.mark.parametrize(
    ("connection", "extra", "words"),
    [
        ({"login": "key-id"}, {}, "no secret access key"),
        ({"password": "very-private"}, {}, "no access key id"),
        ({}, {"profile_name": "role"}, "the profile role, which has no keys"),
        ({}, {"profile_name": "unheard-of"}, "the profile unheard-of, which has no keys"),
        ({}, {"verify": False}, "switches the check of certificates off"),
        ({}, {"session_kwargs": "night"}, "is not a JSON object"),
        ({"conn_type": "google_cloud_platform"}, {}, "only S3"),
        ({"conn_type": "wasb"}, {}, "only S3"),
        *[(LOGIN, {name: "x"}, f"asks for {name}") for name in storage_connection.REFUSED],
    ],
)
def test_what_is_refused(
    connection: dict[str, str], extra: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSetting, match=words) as caught:
        read(monkeypatch, extra, **connection)
    assert caught.value.hint
    assert "very-private" not in str(caught.value)
