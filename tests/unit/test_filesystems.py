"""Arrow and delta-rs reach a store alike: with one identity, through one proxy, with one set of certificates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from spark_apps import catalog, storage
from spark_apps.contract import BadSetting, Unreachable, access
from spark_apps.storage import filesystems
from tests import listed
from tests.s3 import Witness, certificates, http_proxy, witness
from tests.shelf import MODEL, Shelf

OWN = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret", "AWS_REGION": "us-east-1"}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that says nothing of any store."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_")) or name.lower().endswith("_proxy") or name == "STORAGE_EMULATOR_HOST":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def server() -> Iterator[Witness]:
    with witness() as found:
        yield found


def use_the_store() -> None:
    """Writes and reads with Arrow, publishes with delta-rs, and reads that by both."""
    storage.write_json("s3://photos/a.json", {"a": 1})
    assert storage.read_json("s3://photos/a.json") == {"a": 1}
    shelf = Shelf("s3://photos/store")
    shelf.publish("d1", "run", {"u1": "a"})
    assert catalog.vectors(shelf.store, "d1", MODEL)["uri"].to_pylist() == ["u1"]


# --- one identity -----------------------------------------------------------------------------------------------------


def test_keys_of_a_connection_leave_nothing_of_the_environment_s(
    server: Witness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("[inherited]\naws_access_key_id = inherited\naws_secret_access_key = x\n")
    inherited = {
        **{"AWS_ACCESS_KEY_ID": "inherited", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "inherited-token"},
        **{"AWS_ENDPOINT_URL_S3": NOWHERE, "AWS_ENDPOINT_URL": NOWHERE, "AWS_PROFILE": "inherited"},
    }
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    catalog.use_storage({**OWN, "AWS_ENDPOINT_URL": server.endpoint})
    use_the_store()
    assert (server.keys, server.tokens) == ({"own"}, set())
    assert dict(os.environ) == before


def test_a_token_of_the_connection_goes_with_its_keys(server: Witness) -> None:
    catalog.use_storage({**OWN, "AWS_SESSION_TOKEN": "own-token", "AWS_ENDPOINT_URL": server.endpoint})
    use_the_store()
    assert (server.keys, server.tokens) == ({"own"}, {"own-token"})


def test_keys_without_an_endpoint_do_not_go_to_the_inherited_one(
    server: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)  # so that nobody else is asked either
    catalog.use_storage(OWN)
    for reach in (
        lambda: storage.read_json("s3://photos/a.json"),
        lambda: catalog.table("s3://photos/store", "images"),
    ):
        with pytest.raises((OSError, Unreachable), match=r"amazonaws|over proxy"):
            reach()
    assert server.asked == []


def test_a_connection_without_keys_takes_the_environment_s_whole_identity(
    server: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**OWN, "AWS_SESSION_TOKEN": "its-token", "AWS_ENDPOINT_URL_S3": NOWHERE}.items():
        monkeypatch.setenv(name, value)
    catalog.use_storage({"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": "eu-central-1"})
    use_the_store()
    assert (server.keys, server.tokens) == ({"own"}, {"its-token"})


def test_a_profile_of_the_environment_works_at_an_endpoint(
    server: Witness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("[night]\naws_access_key_id = by-profile\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_PROFILE", "night")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    use_the_store()
    assert server.keys == {"by-profile"}


@pytest.mark.parametrize("inherited", [True, False])
def test_an_empty_token_is_none(inherited: bool, server: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files hand on what is not set; delta-rs by itself would send it."""
    given = {**OWN, "AWS_ENDPOINT_URL": server.endpoint, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": ""}
    if inherited:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
    else:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "")
        catalog.use_storage(given)
    use_the_store()
    assert set(server.asked) == {("own", None)}


def test_empty_keys_are_none(server: Witness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[night]\naws_access_key_id = by-profile\naws_secret_access_key = x\n")
    for name in access.S3_KEYS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_PROFILE", "night")
    catalog.use_storage({"AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": ""})
    use_the_store()
    assert set(server.asked) == {("by-profile", None)}


def test_a_worker_s_own_token_does_not_mix_with_its_driver_s_keys() -> None:
    worker = {"AWS_SESSION_TOKEN": "node", "AWS_ENDPOINT_URL_S3": NOWHERE} | access.for_workers(OWN)
    found = filesystems.S3.of(worker)
    assert (found.key, found.token, found.endpoint) == ("own", "", "")
    assert access.for_workers({"AWS_REGION": "eu-central-1"}) == {"AWS_REGION": "eu-central-1"}


@pytest.mark.parametrize(
    "driver",
    [
        {"AZURE_STORAGE_ACCESS_KEY": "a2V5"},
        {"AZURE_STORAGE_SAS_KEY": "sig=own"},
        {"AZURE_CLIENT_ID": "own", "AZURE_CLIENT_SECRET": "own-secret", "AZURE_TENANT_ID": "own-tenant"},
        {"AZURE_STORAGE_ACCOUNT_KEY": "a2V5", "AZURE_ENDPOINT": "http://127.0.0.1:9/own"},
    ],
)
def test_a_worker_is_to_azure_who_its_driver_is(driver: dict[str, str]) -> None:
    driver = {"AZURE_STORAGE_ACCOUNT_NAME": "own", **driver}
    node = {"AZURE_STORAGE_ACCOUNT_KEY": "bm9kZQ==", "AZURE_STORAGE_SAS_TOKEN": "sig=node", "AZURE_CLIENT_ID": "node"}
    worker = node | access.for_workers(driver)
    assert filesystems.Azure.of("az://cont/day", worker) == filesystems.Azure.of("az://cont/day", driver)
    assert "AZURE_CLIENT_ID" not in access.for_workers({"AZURE_CLIENT_ID": "the machine's"})


def test_secrets_are_not_shown() -> None:
    shown = repr(filesystems.S3.of({**OWN, "AWS_SESSION_TOKEN": "own-token"}))
    assert "own" not in shown


# --- proxies and certificates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("excluded", ["", "127.0.0.1", "127.0.0.0/8", "*"])
def test_both_go_through_the_proxy_or_neither(
    tls: bool, excluded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle, certificate = certificates(tmp_path)
    with witness(certificate if tls else None) as server, http_proxy() as (proxy, asked):
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.setenv("NO_PROXY", excluded)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        catalog.use_storage({**OWN, "AWS_ENDPOINT_URL": server.endpoint})
        storage.write_json("s3://photos/a.json", {"a": 1})
        by_arrow = len(asked)
        use_the_store()
        assert server.keys == {"own"}
        assert bool(by_arrow) == bool(asked) == (not excluded), asked
        if tls and not excluded:
            assert {line.split()[0] for line in asked} == {"CONNECT"}
    options = filesystems.delta_options("s3://photos/store")
    assert (options["proxy_url"] == proxy) == (not excluded)


def test_a_bundle_of_certificates_serves_both_without_a_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle, certificate = certificates(tmp_path)
    with witness(certificate) as server:
        catalog.use_storage({**OWN, "AWS_ENDPOINT_URL": server.endpoint, "AWS_CA_BUNDLE": str(bundle)})
        use_the_store()
        assert server.keys == {"own"}
        catalog.use_storage({**OWN, "AWS_ENDPOINT_URL": server.endpoint})
        for read in (storage.read_json, catalog.partitions):
            with pytest.raises((OSError, Unreachable)):
                read("s3://photos/store")
    catalog.use_storage({**OWN, "AWS_CA_BUNDLE": str(tmp_path / "gone.pem")})
    with pytest.raises(BadSetting, match=r"gone\.pem"):
        storage.read_json("s3://photos/a.json")


def test_a_failure_names_the_proxy_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:very-private@127.0.0.1:9")
    catalog.use_storage({**OWN, "AWS_ENDPOINT_URL": "https://127.0.0.1:10"})
    reads = (
        lambda: listed.table("s3://photos/day", "*"),
        lambda: catalog.partitions("s3://photos/store"),
        lambda: catalog.exists("s3://photos/store"),
    )
    for read in reads:
        with pytest.raises(Unreachable, match=r"through the proxy http://127\.0\.0\.1:9: ") as caught:
            read()
        assert "very-private" not in str(caught.value)
        assert "NO_PROXY" in caught.value.hint


def test_a_proxy_that_arrow_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(BadSetting, match="neither an http nor an https proxy"):
        filesystems.S3.of(OWN)


# --- there and back ---------------------------------------------------------------------------------------------------

KEYS = ("a b/ä#1?.jpg", "100%25.jpg", "x//y.jpg", "folder")


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("s3://bucket", "bucket"),
        ("s3a://bucket", "bucket"),
        ("gs://bucket", "bucket"),
        ("abfss://cont@account1.dfs.core.windows.net", "cont"),
        ("abfs://cont@account1.blob.core.windows.net", "cont"),
        ("az://cont", "cont"),
        ("hdfs://name-node:8020", ""),
        ("hdfs://cluster", ""),
    ],
)
def test_a_uri_leads_to_a_path_and_back_letter_for_letter(
    root: str, path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "_hadoop", lambda root: pa.fs.LocalFileSystem())  # HDFS needs a JVM and a server
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", NOWHERE)
    uri = f"{root}/{name}"
    place = filesystems.locate(uri)
    assert place.path == f"{path}/{name}"
    assert place.uri(place.path) == uri
    assert filesystems.locate(root).uri(f"{path}/{name}") == uri


@pytest.mark.parametrize("uri", ["az://cont/day", "abfss://cont/day", "abfss://cont@account1.example.com/day"])
def test_an_azure_location_without_its_account_is_refused(uri: str) -> None:
    with pytest.raises(BadSetting, match=r"no account is named|not an account of"):
        filesystems.locate(uri)


def test_hdfs_without_its_library_is_a_sentence() -> None:
    for _ in range(2):  # of the second attempt Arrow says something else
        try:
            storage.read_json("hdfs://127.0.0.1:9/day")
        except BadSetting as error:
            assert error.code == "no_libhdfs" and "CLASSPATH" in error.hint
            assert len(str(error)) < 400
        except OSError:
            pytest.skip("libhdfs is here")
