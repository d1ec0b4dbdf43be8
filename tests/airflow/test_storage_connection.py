"""A connection of type aws is read as the amazon provider reads it, roles are taken on by its hook, and what cannot be
is refused in a sentence."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from image_features import google_connection, renewal, storage_connection
from image_features.storage_connection import Access

from spark_apps.contract import BadSetting, access
from spark_apps.storage import filesystems
from tests.airflow.test_operators import FakeSpark, context, operator, spark  # noqa: F401  # the fixture
from tests.s3 import s3_server

KEYS = {"AWS_ACCESS_KEY_ID": "key-id", "AWS_SECRET_ACCESS_KEY": "very-private"}
LOGIN = {"login": "key-id", "password": "very-private"}
IN_EXTRA = {"aws_access_key_id": "key-id", "aws_secret_access_key": "very-private"}
ROLE = "arn:aws:iam::123456789012:role/photos"


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the AWS command line with a profile that has keys and one that takes on a role."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text("[night]\naws_access_key_id = key-id\naws_secret_access_key = very-private\n")
    config.write_text(
        "[profile night]\nregion = eu-west-1\n"
        f"[profile role]\nrole_arn = {ROLE}\nsource_profile = night\nregion = eu-west-1\n"
    )
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
        (LOGIN, {"role_arn": ROLE, "assume_role_method": "by_asking"}, "the unknown assume_role_method 'by_asking'"),
        ({}, {"profile_name": "unheard-of"}, "the profile unheard-of, which has no keys"),
        ({}, {"verify": False}, "switches the check of certificates off"),
        ({}, {"session_kwargs": "night"}, "is not a JSON object"),
        ({"conn_type": "gcpssh"}, {}, "is of type gcpssh, which stores are not reached by"),
        ({"conn_type": "wasb"}, {}, "names no storage account"),
        ({"conn_type": "adls", **LOGIN}, {"tenant_id": "t"}, "names no storage account"),
        ({"conn_type": "wasb", "host": "photos"}, {"tenant_id": "t"}, "a tenant_id without login and password"),
        (
            {"conn_type": "wasb", "login": "photos"},
            {"client_secret_auth_config": {"a": 1}},
            "client_secret_auth_config",
        ),
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


# --- Azure ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "extra", "expected"),
    [
        ({"login": "photos", "password": "k"}, {}, {"ACCOUNT_NAME": "photos", "ACCOUNT_KEY": "k"}),
        ({"login": "photos"}, {"shared_access_key": "k"}, {"ACCOUNT_NAME": "photos", "ACCOUNT_KEY": "k"}),
        ({"login": "photos"}, {"extra__wasb__sas_token": "sv=1"}, {"ACCOUNT_NAME": "photos", "SAS_TOKEN": "sv=1"}),
        (
            {},
            {"sas_token": "https://photos.blob.core.windows.net/?sv=1&sig=2"},
            {"ACCOUNT_NAME": "photos", "SAS_TOKEN": "sv=1&sig=2"},
        ),
        (
            {"host": "https://photos.blob.core.windows.net/", "login": "id", "password": "s"},
            {"tenant_id": "t"},
            {"ACCOUNT_NAME": "photos", "CLIENT_ID": "id", "CLIENT_SECRET": "s", "TENANT_ID": "t"},
        ),
        ({"conn_type": "adls", "host": "photos", "password": "k"}, {}, {"ACCOUNT_NAME": "photos", "ACCOUNT_KEY": "k"}),
        ({"host": "photos"}, {"managed_identity_client_id": "m"}, {"ACCOUNT_NAME": "photos", "CLIENT_ID": "m"}),
        ({"host": "photos"}, {}, {"ACCOUNT_NAME": "photos"}),
        (
            {},
            {"connection_string": "AccountName=photos;AccountKey=a==;BlobEndpoint=http://127.0.0.1:1/photos"},
            {"ACCOUNT_NAME": "photos", "ACCOUNT_KEY": "a==", "ENDPOINT": "http://127.0.0.1:1/photos"},
        ),
    ],
)
def test_what_a_connection_to_azure_stands_for(
    connection: dict[str, str], extra: dict[str, Any], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read(monkeypatch, extra, **{"conn_type": "wasb", **connection})
    assert found == {f"AZURE_STORAGE_{name}": value for name, value in expected.items()}
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "theirs")
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", "of-the-environment")
    with filesystems.reached_with(found):
        azure, container, _ = filesystems.Azure.of("az://container/x", filesystems.variables())
        assert (azure.account, container) == ("photos", "container")
        has_own = len(expected.keys() - {"ACCOUNT_NAME", "ENDPOINT"}) > 0
        assert (azure.key == "of-the-environment") is not has_own, "one identity whole, or the other"


# --- Google -----------------------------------------------------------------------------------------------------------

ROBOT = {"client_email": "photos@project.iam.gserviceaccount.com", "private_key": "very-private", "private_key_id": "1"}
GOOGLE = {"conn_type": "google_cloud_platform"}


@pytest.mark.parametrize("how", ["keyfile_dict", "text", "old name", "key_path"])
def test_the_key_of_a_connection_to_google(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": "service_account", **ROBOT}))
    extras: dict[str, dict[str, Any]] = {
        "keyfile_dict": {"keyfile_dict": ROBOT, "project": "p"},
        "text": {"keyfile_dict": json.dumps(ROBOT)},
        "old name": {"extra__google_cloud_platform__keyfile_dict": json.dumps(ROBOT)},
        "key_path": {"key_path": str(file), "num_retries": 5},
    }
    found = read(monkeypatch, extras[how], **GOOGLE)
    assert found.keys() == {access.GOOGLE_KEY}
    assert json.loads(found[access.GOOGLE_KEY]) == {"type": "service_account", **ROBOT}


def test_without_a_key_a_connection_to_google_means_the_machine_s_account(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, {"project": "p"}, **GOOGLE) == {}
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/machine.json")
    with filesystems.reached_with({}):
        assert filesystems.variables()["GOOGLE_APPLICATION_CREDENTIALS"] == "/etc/machine.json"
    with filesystems.reached_with({access.GOOGLE_KEY: "{}"}):
        assert "GOOGLE_APPLICATION_CREDENTIALS" not in filesystems.variables(), "one identity whole, or the other"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"keyfile_dict": "very-private {"}, "a key that is no JSON"),
        ({"keyfile_dict": {**ROBOT, "type": "authorized_user"}}, "not that of a service account"),
        ({"keyfile_dict": "[1]"}, "not that of a service account"),
        ({"keyfile_dict": {**ROBOT, "private_key": ""}}, "a key without private_key"),
        ({"keyfile_dict": ROBOT, "key_path": "/x"}, "both keyfile_dict and key_path"),
        ({"key_path": "/no/such/key.json"}, "the key /no/such/key.json, which cannot be read: No such file"),
        *[({name: "x"}, f"asks for {name}") for name in google_connection.REFUSED],
    ],
)
def test_what_is_refused_of_a_connection_to_google(
    extra: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSetting, match=words) as caught:
        read(monkeypatch, extra, **GOOGLE)
    assert caught.value.hint and "very-private" not in str(caught.value)


def test_google_s_key_reaches_the_job_s_environment_and_nothing_else(
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps({**GOOGLE, "extra": {"keyfile_dict": ROBOT}}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/machine.json")
    spark.succeeds("ingest")
    operator("ingest", storage_conn_id="storage").execute(context())
    arguments, environment = spark.called
    assert json.loads(environment[access.GOOGLE_KEY])["private_key"] == "very-private"
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment, "the machine's own is not used beside it"
    assert not any("very-private" in argument for argument in arguments)
    monkeypatch.delenv("AIRFLOW_CONN_STORAGE")
    assert not any("very-private" in value for value in os.environ.values())
    assert os.environ["GOOGLE_APPLICATION_CREDENTIALS"] == "/etc/machine.json"
    filesystems.use({})


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of S3 and of STS, which gives the keys of roles."""
    with s3_server() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", found)
        yield found


@pytest.mark.parametrize("kind", ["role", "web identity", "profile"])
def test_a_role_is_taken_on_and_opens_the_store(
    kind: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("a-web-identity")
    known: dict[str, Any] = {
        "region_name": "eu-west-1",
        "service_config": {"sts": {"endpoint_url": endpoint}, "s3": {"endpoint_url": endpoint}},
    }
    by_file = {
        "assume_role_method": "assume_role_with_web_identity",
        "assume_role_with_web_identity_federation": "file",
        "assume_role_with_web_identity_token_file": str(token),
    }
    extra, login = {
        "role": ({"role_arn": ROLE, "assume_role_kwargs": {"ExternalId": "ours"}}, LOGIN),
        "web identity": ({"role_arn": ROLE, **by_file}, {}),
        "profile": ({"profile_name": "role"}, {}),
    }[kind]
    found = read(monkeypatch, {**known, **extra}, **login)
    assert found.keys() == {*storage_connection.NAMES, "AWS_REGION", "AWS_ENDPOINT_URL"}
    assert found["AWS_ACCESS_KEY_ID"].startswith("ASIA"), "a key of the role, not that of the login"
    assert "very-private" not in found.values()
    assert storage_connection.variables("storage") == found, "one taking on of the role is enough"
    boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b").create_bucket(
        Bucket="photos", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    with filesystems.reached_with(found):
        place = filesystems.locate("s3://photos/x")
        with place.filesystem.open_output_stream(place.path) as sink:
            sink.write(b"photo")
        assert filesystems.delta_options("s3://photos")["AWS_SESSION_TOKEN"] == found["AWS_SESSION_TOKEN"]


def test_a_role_that_is_denied_is_told_without_the_keys(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = {
        "region_name": "eu-west-1",
        "role_arn": ROLE,
        "service_config": {"sts": {"endpoint_url": "http://127.0.0.1:9"}},
    }
    with pytest.raises(BadSetting, match="asks for role_arn, and that failed: EndpointConnectionError") as caught:
        read(monkeypatch, dead, **LOGIN)
    assert "very-private" not in str(caught.value)


def test_without_the_provider_a_role_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *at: None if "amazon" in name else found(name, *at))
    with pytest.raises(BadSetting, match="Install apache-airflow-providers-amazon"):
        read(monkeypatch, {"role_arn": ROLE}, **LOGIN)


def test_keys_that_expire_are_renewed_for_the_job_and_for_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "EVERY_S", 0.02)
    given = {"AWS_ACCESS_KEY_ID": "ASIA1", "AWS_SECRET_ACCESS_KEY": "planted-1", "AWS_SESSION_TOKEN": "t1"}
    answers: Iterator[Any] = iter([given, OSError("STS is away"), {**given, "AWS_SESSION_TOKEN": "t2"}])
    known: list[Mapping[str, str]] = []

    def renewed() -> Mapping[str, str]:
        found = next(answers, known[-1] if known else given)
        if isinstance(found, Exception):
            raise found
        return dict(found)

    with renewal.renewing(Access(given, renewed), tmp_path, known.append) as variables:
        assert variables.keys() == {access.RENEWED}
        file = Path(variables[access.RENEWED])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for name, value in {**given, **variables}.items():
            monkeypatch.setenv(name, value)  # as the job has them
        deadline = time.monotonic() + 10
        while not known and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [one["AWS_SESSION_TOKEN"] for one in known] == ["t2"]
        assert filesystems.S3.of(filesystems.variables()).token == "t2"
        assert filesystems.delta_options("s3://photos")["AWS_SESSION_TOKEN"] == "t2"
    file.unlink()  # as on another machine: what the job was given stays
    assert filesystems.S3.of(filesystems.variables()).token == "t1"


def test_the_keys_of_a_role_reach_the_job_s_environment_and_nothing_else(
    endpoint: str,
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = {"sts": {"endpoint_url": endpoint}}
    extra = {"role_arn": ROLE, "region_name": "eu-west-1", "service_config": services}
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps({"conn_type": "aws", "extra": extra, **LOGIN}))
    spark.succeeds("ingest")
    operator("ingest", storage_conn_id="storage").execute(context())
    arguments, environment = spark.called
    keys = {environment[name] for name in storage_connection.NAMES}
    assert len(keys) == 3 and environment["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    file = environment[access.RENEWED]
    assert not any(key in argument for argument in arguments for key in {*keys, file, "very-private"})
    assert not keys & set(os.environ.values())
    assert not Path(file).exists(), "it is gone when the job has ended"
    assert "very-private" not in environment.values(), "what takes the role on is not the job's"
    filesystems.use({})
