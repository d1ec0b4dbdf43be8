"""The Airflow connection to object storage, as environment variables that reach S3 and come from it alone."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook

from spark_apps.contract import BadSetting

ELSEWHERE = "Give the role to the machines of Airflow and Spark, or put keys into the connection."
REFUSED: Mapping[str, str] = {
    "role_arn": ELSEWHERE,
    "assume_role_method": ELSEWHERE,
    "assume_role_kwargs": ELSEWHERE,
    "assume_role_with_saml": ELSEWHERE,
    "assume_role_with_web_identity": ELSEWHERE,
    "config_kwargs": "Leave it out: Arrow and delta-rs know no settings of botocore.",
    "botocore_kwargs": "Leave it out: Arrow and delta-rs know no settings of botocore.",
}
"""What a connection of type aws may say and these jobs cannot do, and what to do instead."""
OTHER_TYPES = ("google", "gcp", "wasb", "azure", "adls", "hdfs", "webhdfs")


def variables(conn_id: str) -> dict[str, str]:
    """The standard AWS_* variables that the connection stands for; {} for an empty `conn_id`.

    As the amazon provider reads it: keys from login and password, from extra, or from a profile; without any, what the
    machine offers (environment, instance profile, web identity) at the connection's region and endpoint.

    Raises:
        BadSetting: there is no such connection, it is not an S3 connection, or it asks for something in `REFUSED`.
    """
    if not conn_id:
        return {}
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise BadSetting(
            "no_connection",
            f"The storage connection {conn_id!r} does not exist, or it cannot be parsed.",
            "Create it under Admin → Connections (type aws), or clear storage_conn_id to use the environment.",
        ) from None
    if any(name in (connection.conn_type or "").lower() for name in OTHER_TYPES):
        raise _bad(
            conn_id,
            f"is of type {connection.conn_type}, and only S3 is reached by a connection",
            "Clear storage_conn_id and put the credentials into the environment of Airflow.",
        )
    extra: dict[str, Any] = connection.extra_dejson
    session: dict[str, Any] = _mapping(conn_id, extra, "session_kwargs")
    for name, hint in REFUSED.items():
        if extra.get(name):
            raise _bad(conn_id, f"asks for {name}, which these jobs cannot do", hint)
    profile = str(extra.get("profile_name") or session.get("profile_name") or "")
    kept: Mapping[str, Any] = {}
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    login = dict(zip(names, (connection.login, connection.password, extra.get(names[2])), strict=True))
    places = [place for place in (login, extra, session) if place.get(names[0]) or place.get(names[1])]
    if not places and profile:
        kept = _profile(conn_id, profile)
        places = [kept]
    key, secret, token = map(places[0].get, names) if places else (None, None, None)
    if bool(key) != bool(secret):
        half = "secret access key" if key else "access key id"
        raise _bad(conn_id, f"has no {half}", "The key id is its login and the secret its password; or leave both out.")
    services = _mapping(conn_id, extra, "service_config")
    found = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_SESSION_TOKEN": token,
        "AWS_REGION": extra.get("region_name") or session.get("region_name") or kept.get("region"),
        "AWS_ENDPOINT_URL": _mapping(conn_id, services, "s3").get("endpoint_url") or extra.get("endpoint_url"),
        "AWS_CA_BUNDLE": _bundle(conn_id, extra),
    }
    return {name: str(value) for name, value in found.items() if value}


def _mapping(conn_id: str, extra: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = extra.get(name) or {}
    if not isinstance(found, dict):
        raise _bad(conn_id, f"has a {name} that is not a JSON object", "Write it as the amazon provider describes it.")
    return found


def _bundle(conn_id: str, extra: Mapping[str, Any]) -> str | None:
    verify = extra.get("verify")
    if verify is False or (isinstance(verify, str) and verify.lower() in ("false", "0", "no")):
        raise _bad(
            conn_id,
            "switches the check of certificates off",
            "Put the path of the store's certificate into verify, or into the variable AWS_CA_BUNDLE.",
        )
    return verify if isinstance(verify, str) and verify.lower() not in ("true", "1", "yes", "") else None


def _profile(conn_id: str, name: str) -> dict[str, str]:
    """The keys of a profile in the files of the AWS command line. Arrow and delta-rs can be told no profile, and what
    is in the environment is for the whole process."""
    credentials = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    config = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    found: dict[str, str] = {}
    for path, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            raise _bad(conn_id, f"names the profile {name}, but {path} cannot be parsed", "Repair the file.") from None
        if parser.has_section(section):
            found |= dict(parser.items(section))
    if not (found.get("aws_access_key_id") and found.get("aws_secret_access_key")):
        raise _bad(
            conn_id,
            f"names the profile {name}, which has no keys in {credentials} or {config}",
            "Put aws_access_key_id and aws_secret_access_key there; a profile that takes on a role is not supported.",
        )
    return found


def _bad(conn_id: str, what: str, hint: str) -> BadSetting:
    return BadSetting("bad_connection", f"The storage connection {conn_id!r} {what}.", hint)
