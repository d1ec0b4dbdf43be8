"""Where a URI leads: the Arrow filesystem, the path within it, the way back to a URI, and what delta-rs needs there.

Arrow and delta-rs are told the same of credentials, endpoint, proxy and certificates: left to themselves, each reads
other variables.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import BadSetting, access, plain_scheme
from spark_apps.storage.google import Google

CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S = 10, 60
CLOUDS = ("AWS_", "AZURE_", "GOOGLE_")
AZURE = ("abfs", "abfss", "az")
RENAMED = {"s3n": "s3", "wasb": "abfs", "wasbs": "abfss", "adl": "abfss", "azure": "az", "gcs": "gs"}
"""What Hadoop and others call, or called, a kind of store → its name here."""

_connection: dict[str, str] = {}
_here: ContextVar[Mapping[str, str] | None] = ContextVar("_here", default=None)


def use(connection: Mapping[str, str]) -> None:
    """From now on this process reaches stores with these variables, before those of its environment, which stays as it
    is: nothing else in the process, and none of its children, gets to see them."""
    _connection.clear()
    _connection.update({name: value for name, value in connection.items() if value})


@contextmanager
def reached_with(connection: Mapping[str, str]) -> Iterator[None]:
    """Inside, this thread alone reaches stores with these variables, in the place of what `use` was given."""
    token = _here.set({name: value for name, value in connection.items() if value})
    try:
        yield
    finally:
        _here.reset(token)


def variables() -> dict[str, str]:
    """What stores are reached with: the environment, with the keys that were renewed since this process began, and what
    `reached_with`, or else `use`, was given."""
    here = _here.get()
    environment = access.merged(os.environ, _renewed())
    return access.merged(environment, _connection if here is None else here)


def _renewed() -> dict[str, str]:
    """The variables in the file that `access.RENEWED` names; none where it is not on this machine."""
    if not (path := os.environ.get(access.RENEWED)):
        return {}
    try:
        return dict(json.loads(Path(path).read_text()))
    except (OSError, ValueError):
        return {}


@dataclass(frozen=True)
class Location:
    """A place on a filesystem. `path` is Arrow's; `root` and `strip` lead back: a URI is `root` and a path without
    `strip` at its beginning."""

    filesystem: fs.FileSystem
    path: str
    root: str = ""
    strip: str = ""

    def uri(self, path: str) -> str:
        """The URI of a path of this filesystem, below `path`: letter for letter what was put before it."""
        return self.root + path.removeprefix(self.strip)


def locate(uri: str) -> Location:
    """Where a plain path or a URI (file, s3, gs, abfs, abfss, az, hdfs) leads. In all but `file` nothing is decoded: a
    blank, `#` or `%20` in a name stands for itself.

    Raises:
        BadSetting: the URI, or what the environment says of the store, cannot be used.
    """
    uri = plain_scheme(uri)
    if uri.startswith("file:") and not uri.startswith("file:///"):
        raise BadSetting("bad_location", f"{uri!r} is not a file on this machine.", "Write file:///folder/file.")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Location(_local(), uri)
    if scheme == "file":
        return Location(_local(), os.fsdecode(unquote_to_bytes(rest)))
    if scheme in ("s3", "s3a"):
        return Location(_s3(S3.of(variables())), rest, f"{scheme}://")
    if scheme in ("gs", "gcs"):
        return Location(_google(Google.of(variables())), rest, f"{scheme}://")
    if scheme in AZURE:
        azure, container, path = Azure.of(uri, variables())
        if "@" not in rest.split("/")[0]:
            return Location(_azure(azure), rest, f"{scheme}://")
        authority = rest.split("/")[0]
        inside = f"{container}/{path}".rstrip("/") if path else container
        return Location(_azure(azure), inside, f"{scheme}://{authority}", container)
    authority, slash, path = rest.partition("/")
    if scheme in ("hdfs", "viewfs"):
        return Location(_hadoop(f"{scheme}://{authority}/"), f"{slash}{path}" or "/", f"{scheme}://{authority}")
    try:
        filesystem, inside = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        hint = f"Write {RENAMED[scheme]}://…" if scheme in RENAMED else "Write a path, or a URI of docs/stores.md."
        raise BadSetting("bad_location", f"{scheme}:// of {uri} is no kind of store that is known.", hint) from error
    return Location(filesystem, inside, f"{scheme}://")


def delta_options(uri: str) -> dict[str, str]:
    """What delta-rs needs to open a table at `uri`, so that it reaches the store as Arrow does. Raises BadSetting."""
    for name in [name for name, value in os.environ.items() if name.startswith(CLOUDS) and not value]:
        del os.environ[name]  # delta-rs takes an empty variable for a value: it would send an empty token or key
    scheme = plain_scheme(uri).partition("://")[0]
    timeouts = {"timeout": f"{REQUEST_TIMEOUT_S}s", "connect_timeout": f"{CONNECT_TIMEOUT_S}s"}
    if scheme in ("s3", "s3a"):
        return timeouts | S3.of(variables()).delta_options()
    if scheme == "gs":
        return timeouts | Google.of(variables()).delta_options()
    if scheme in AZURE:
        return timeouts | Azure.of(uri, variables())[0].delta_options()
    return {}


def proxy(uri: str) -> str:
    """The proxy between here and an S3 store, without a password; empty where there is none."""
    if not uri.startswith(("s3://", "s3a://")):
        return ""
    found = urlsplit(S3.of(variables()).proxy)
    return f"{found.scheme}://{found.hostname}:{found.port}" if found.hostname else ""


# --- Amazon S3 and what speaks its language ---------------------------------------------------------------------------


@dataclass(frozen=True)
class S3:
    """How S3 is reached. Without keys by what the machine offers: a profile, a web identity, an instance's role."""

    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    region: str = ""
    endpoint: str = ""
    certificates: str = ""
    proxy: str = field(default="", repr=False)

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> S3:
        """As these variables say. Raises BadSetting."""
        endpoint = next((variables[name] for name in access.S3_ENDPOINTS if variables.get(name)), "")
        region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or ""
        if not endpoint and any(os.environ.get(name) for name in access.S3_ENDPOINTS):
            region = region or "us-east-1"  # said aloud, or delta-rs would take the endpoint from the environment
            endpoint = _amazon(region)
        key, secret, token = (variables.get(name, "") for name in access.S3_KEYS)
        if not (key and secret):
            key = secret = token = ""
        return cls(
            key,
            secret,
            token,
            region=region or ("us-east-1" if endpoint else ""),
            endpoint=endpoint,
            certificates=variables.get("AWS_CA_BUNDLE", ""),
            proxy=_proxy(endpoint or _amazon(region)),
        )

    def filesystem(self) -> fs.S3FileSystem:
        """Arrow's way there. Raises BadSetting."""
        given: dict[str, Any] = {
            "access_key": self.key,
            "secret_key": self.secret,
            "session_token": self.token,
            "region": self.region,
            "endpoint_override": self.endpoint,
            "proxy_options": self.proxy,
            "tls_ca_file_path": self.certificates and _certificates(self.certificates) and self.certificates,
        }
        given = {name: value for name, value in given.items() if value}
        limits = {"connect_timeout": CONNECT_TIMEOUT_S, "request_timeout": REQUEST_TIMEOUT_S}
        # Delayed: a small file is one request then, where it would be the three of one that is written in parts.
        return fs.S3FileSystem(allow_delayed_open=True, **limits, **given)

    def delta_options(self) -> dict[str, str]:
        """delta-rs' way there: every option that it would else take from the environment. Raises BadSetting."""
        options: dict[str, str] = {"AWS_REGION": self.region} if self.region else {}
        if self.endpoint:
            options |= dict.fromkeys(access.S3_ENDPOINTS, self.endpoint)
        if self.endpoint.startswith("http://"):
            options["allow_http"] = "true"
        if self.key:
            options |= {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
            if self.token or os.environ.get("AWS_SESSION_TOKEN"):
                options["AWS_SESSION_TOKEN"] = self.token  # an empty one keeps it from the environment's
        elif self.endpoint:
            options["AWS_FORCE_CREDENTIAL_LOAD"] = "true"  # at an endpoint it looks for no profile unless told to
        if self.proxy:
            options["proxy_url"] = self.proxy
        elif self.certificates or getproxies_environment():
            # A proxy for no host: it keeps delta-rs from the environment's, and certificates are taken with one only.
            host = urlsplit(self.endpoint or _amazon(self.region)).hostname or ""
            options |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": host}
        if self.certificates:
            options["proxy_ca_certificate"] = _certificates(self.certificates)
        return options


def _amazon(region: str) -> str:
    region = region or "us-east-1"
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _proxy(url: str) -> str:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY mean for a URL. Raises BadSetting."""
    proxies = getproxies_environment()
    parts = urlsplit(url)
    found = str(proxies.get(parts.scheme) or proxies.get("all") or "")
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not found or proxy_bypass_environment(f"{host}:{port}", proxies) or _in_network(host, proxies.get("no", "")):
        return ""
    found = found if "://" in found else f"http://{found}"
    if not found.startswith(("http://", "https://")):
        message = f"The proxy {urlsplit(found).scheme}://… for {host} is neither an http nor an https proxy."
        raise BadSetting("bad_proxy", message, f"Set {parts.scheme.upper()}_PROXY to one, or NO_PROXY to {host}.")
    parts = urlsplit(found)
    if parts.port is None:
        found = found.replace(parts.netloc, f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}", 1)
    return found.rstrip("/")


def _in_network(host: str, excluded: str) -> bool:
    """Whether an address lies in one of the networks (10.0.0.0/8) of NO_PROXY, which Python does not look for."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in filter(lambda entry: "/" in entry, excluded.split(",")):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def _certificates(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        message = f"The certificates that AWS_CA_BUNDLE names, {path}, cannot be read: {error.strerror}."
        raise BadSetting("bad_ca_bundle", message, "Set it to a file with certificates in PEM format.") from None


# --- Azure ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Azure:
    """How a storage account is reached; without key, token or client by what the machine offers."""

    account: str
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)
    client: str = ""
    secret: str = field(default="", repr=False)
    tenant: str = ""
    endpoint: str = ""

    @classmethod
    def of(cls, uri: str, variables: Mapping[str, str]) -> tuple[Azure, str, str]:
        """The account, the container and the path of `abfss://container@account.dfs.core.windows.net/path`, or of
        `az://container/path` with the account in AZURE_STORAGE_ACCOUNT_NAME. Raises BadSetting."""
        authority, _, path = uri.partition("://")[2].partition("/")
        container, at, host = authority.rpartition("@")
        known = re.fullmatch(r"([a-z0-9]{3,24})\.(dfs|blob)\.core\.windows\.net", host) if at else None
        account = (known[1] if known else "") if at else variables.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        if not account:
            said = f"{host} is not an account of Azure's public cloud" if at else "no account is named"
            hint = "Write abfss://container@account.dfs.core.windows.net/folder, or set AZURE_STORAGE_ACCOUNT_NAME."
            raise BadSetting("bad_azure_location", f"{uri} cannot be used: {said}.", hint)

        given = {
            part: next((variables[name] for name in names if variables.get(name)), "")
            for part, names in access.AZURE.items()
        }
        found = cls(**{**given, "account": account})
        return found, container if at else authority, path

    def filesystem(self) -> fs.FileSystem:
        """Arrow's way there."""
        given: dict[str, Any] = self._identity()
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            own = parts.netloc.startswith(f"{self.account}.")  # as Azure's are; Arrow puts the account before them
            for service, other in (("blob", "dfs"), ("dfs", "blob")):
                host = parts.netloc.removeprefix(self.account).replace(f".{other}.", f".{service}.", 1)
                given[f"{service}_storage_authority"] = host if own else parts.netloc
                given[f"{service}_storage_scheme"] = parts.scheme
        return fs.AzureFileSystem(account_name=self.account, **given)

    def delta_options(self) -> dict[str, str]:
        """delta-rs' way there."""
        options = {f"azure_storage_{name}": value for name, value in self._identity().items()}
        options["azure_storage_account_name"] = self.account
        if self.endpoint:
            options["azure_storage_endpoint"] = self.endpoint
        if self.endpoint.startswith("http://"):
            options["allow_http"] = "true"
        address, slash, account = self.endpoint.rstrip("/").rpartition("/")
        if slash and account == self.account:
            # An emulator: Azurite lists a log from its beginning, whatever it is asked for, and delta-rs copes with
            # that where it is told. Then it takes the address from this variable, and by no other way.
            os.environ["AZURITE_BLOB_STORAGE_URL"] = address
            options["azure_storage_use_emulator"] = "true"
        return options

    def _identity(self) -> dict[str, str]:
        """The first of key, token and client that is there, by Arrow's names."""
        if self.key:
            return {"account_key": self.key}
        if self.sas:
            return {"sas_token": f"?{self.sas.removeprefix('?')}"}  # Arrow appends it to the account's address
        if self.client and self.secret:
            return {"client_id": self.client, "client_secret": self.secret, "tenant_id": self.tenant}
        return {"client_id": self.client} if self.client else {}


# --- filesystems, made once -------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _local() -> fs.LocalFileSystem:
    return fs.LocalFileSystem()


@lru_cache(maxsize=8)
def _s3(s3: S3) -> fs.S3FileSystem:
    return s3.filesystem()


@lru_cache(maxsize=4)
def _google(google: Google) -> fs.FileSystem:
    return google.filesystem(REQUEST_TIMEOUT_S)


@lru_cache(maxsize=4)
def _azure(azure: Azure) -> fs.FileSystem:
    return azure.filesystem()


@lru_cache(maxsize=4)
def _hadoop(root: str) -> fs.FileSystem:
    try:
        filesystem: fs.FileSystem = fs.FileSystem.from_uri(root)[0]
    except OSError as error:
        if not re.search("load lib(hdfs|jvm)", str(error)):
            raise
        message = f"{root} is reached through Hadoop's library libhdfs and a JVM, and one of them cannot be loaded."
        hint = "Install Hadoop's client, and set HADOOP_HOME, JAVA_HOME and CLASSPATH (hadoop classpath --glob)."
        raise BadSetting("no_libhdfs", message, hint) from error
    return filesystem
