"""The Airflow connection to Google's storage, as an environment variable that reaches it and comes from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spark_apps.contract import BadSetting, access

TYPES = ("google_cloud_platform",)
"""Of Airflow's google provider, which need not be installed: nothing of it is used."""
GIVE_A_KEY = (
    "Put the key of a service account into keyfile_dict or key_path, or leave both out and give the account to the "
    "machines of Airflow and Spark."
)
REFUSED = ("impersonation_chain", "key_secret_name", "credential_config_file", "idp_issuer_url", "is_anonymous")
"""Ways to sign on that end in a token. delta-rs takes a key, and no token."""


def variables(conn_id: str, connection: Any) -> dict[str, str]:
    """GOOGLE_SERVICE_ACCOUNT_KEY, where the connection has a key; {} where the machine's account is meant (application
    default credentials).

    As the google provider reads it: `keyfile_dict`, or the JSON file `key_path` of the machine that reads this. Arrow
    and delta-rs sign with the key themselves, for as long as they need to.

    Raises:
        BadSetting: it has two keys, one that is none, or asks for something in `REFUSED`.
    """
    extra = dict(connection.extra_dejson)

    def said(name: str) -> Any:
        return extra.get(name) or extra.get(f"extra__google_cloud_platform__{name}") or ""

    for name in REFUSED:
        if said(name):
            raise _bad(conn_id, f"asks for {name}, which Arrow and delta-rs cannot both do", GIVE_A_KEY)
    given, path = said("keyfile_dict"), str(said("key_path"))
    if given and path:
        raise _bad(conn_id, "has both keyfile_dict and key_path", "Leave one of them out.")
    if path:
        try:
            given = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", "") or "it is no text"
            message = f"names the key {path}, which cannot be read: {why}"
            raise _bad(conn_id, message, "Put it there on each machine of Airflow, readable by its user.") from None
    return {access.GOOGLE_KEY: _key(conn_id, given)} if given else {}


def _key(conn_id: str, given: Any) -> str:
    """The key as one line of JSON."""
    try:
        found = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        raise _bad(conn_id, "has a key that is no JSON", GIVE_A_KEY) from None
    if not isinstance(found, Mapping) or found.get("type", "service_account") != "service_account":
        raise _bad(conn_id, "has a key that is not that of a service account", GIVE_A_KEY)
    if missing := [name for name in access.GOOGLE_KEY_PARTS if not found.get(name)]:
        raise _bad(conn_id, f"has a key without {' and '.join(missing)}", GIVE_A_KEY)
    pem = str(found["private_key"]).replace("\\n", "\n")  # of a key that somebody has escaped twice
    return json.dumps({"type": "service_account", **found, "private_key": pem})


def _bad(conn_id: str, what: str, hint: str) -> BadSetting:
    return BadSetting("bad_connection", f"The storage connection {conn_id!r} {what}.", hint)
