"""The Airflow connection to Azure's storage, as environment variables that reach it and come from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from spark_apps.contract import BadSetting, access

TYPES = ("wasb", "adls")
"""Types of Airflow's microsoft.azure provider: Blob Storage, and Data Lake Storage Gen2."""
NAMES: Mapping[str, str] = {part: names[0] for part, names in access.AZURE.items()}
AZURES_OWN = (".core.windows.net",)
HINT = "Name the account: as host (an account's name or URL), or in a connection string."


def variables(conn_id: str, connection: Any) -> dict[str, str]:
    """The AZURE_STORAGE_* variables that the connection stands for, as the provider's hooks read it.

    A connection string; else of the account a service principal (`tenant_id`, with its id and secret as login and
    password), a shared key, or a SAS token; without any, what the machine offers, or its managed identity
    `managed_identity_client_id`.

    Raises:
        BadSetting: it names no account, half a principal, or another cloud to sign on to.
    """
    kind, extra = str(connection.conn_type), dict(connection.extra_dejson)

    def field(name: str) -> str:
        return str(extra.get(name) or extra.get(f"extra__{kind}__{name}") or "")

    if extra.get("client_secret_auth_config"):
        raise _bad(conn_id, "has a client_secret_auth_config, which Arrow and delta-rs do not know", "Leave it out.")
    if field("connection_string"):
        return _checked(conn_id, _of_string(field("connection_string")))
    login, password = connection.login or "", connection.password or ""
    tenant, sas = field("tenant_id"), field("sas_token")
    is_principal = bool(tenant) or (kind == "adls" and not connection.host)
    found = _of_place(connection.host or ("" if is_principal else login))
    if tenant:
        if not (login and password):
            raise _bad(conn_id, "has a tenant_id without login and password", "They are the client's id and secret.")
        found |= {"client": login, "secret": password, "tenant": tenant}
    elif key := field("shared_access_key"):
        found["key"] = key
    elif sas.startswith("https"):
        place, _, found["sas"] = sas.partition("?")
        found |= _of_place(place)
    elif sas:
        found["sas"] = sas
    elif key := password or field("account_key"):
        found["key"] = key
    elif client := field("managed_identity_client_id"):
        found["client"] = client
    return _checked(conn_id, found)


def _of_string(text: str) -> dict[str, str]:
    """The parts of a connection string (`AccountName=…;AccountKey=…`)."""
    said = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    endpoint = said.get("BlobEndpoint", "")
    found = _of_place(endpoint) if endpoint else {}
    known = {"account": "AccountName", "key": "AccountKey", "sas": "SharedAccessSignature"}
    return {**found, **{part: said[name] for part, name in known.items() if said.get(name)}}


def _of_place(place: str) -> dict[str, str]:
    """The account, by its name or URL; of a URL that is not Azure's own, the endpoint too."""
    if not place:
        return {}
    parts = urlsplit(place if "://" in place else f"https://{place}")
    host = parts.hostname or ""
    if "." not in host or host.endswith(AZURES_OWN):
        return {"account": host.split(".")[0]}
    account = parts.path.strip("/").split("/")[0] or host.split(".")[0]
    return {"account": account, "endpoint": place.rstrip("/")}


def _checked(conn_id: str, found: Mapping[str, str]) -> dict[str, str]:
    if not found.get("account"):
        raise _bad(conn_id, "names no storage account", HINT)
    return {NAMES[part]: value for part, value in found.items() if value}


def _bad(conn_id: str, what: str, hint: str) -> BadSetting:
    return BadSetting("bad_connection", f"The storage connection {conn_id!r} {what}.", hint)
