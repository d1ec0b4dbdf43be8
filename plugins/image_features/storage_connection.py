"""The Airflow connection to object storage, as environment variables that reach it and come from it alone: S3 here,
Azure and Google in modules of their own."""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from image_features import azure_connection, connections, google_connection
from spark_apps.contract import BadSetting

NOT_OURS = "Leave it out: Arrow and delta-rs know no settings of botocore."
REFUSED: Mapping[str, str] = {"config_kwargs": NOT_OURS, "botocore_kwargs": NOT_OURS}
"""What a connection of type aws may say and these jobs cannot do, and what to do instead."""
ROLES = ("role_arn", "assume_role_method", "assume_role_kwargs")
"""What a connection says that takes on a role: with its keys, by a web identity or by SAML."""
METHODS = ("assume_role", "assume_role_with_saml", "assume_role_with_web_identity")
ELSEWHERE = (*azure_connection.TYPES, *google_connection.TYPES)
OTHER_TYPES = ("google", "gcp", "azure", "hdfs", "webhdfs")
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Access:
    """What a connection stands for. `renewed`, of a role: gives the variables with the keys that hold now; botocore
    takes on the role again some minutes before they expire."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    renewed: Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)


def variables(conn_id: str) -> dict[str, str]:
    """The standard variables that the connection stands for now. Raises as `access`."""
    return dict(access(conn_id).variables)


def access(conn_id: str) -> Access:
    """What the connection stands for; nothing for an empty `conn_id`. Of `ELSEWHERE`: see `azure_connection` and
    `google_connection`.

    As the amazon provider reads it: keys from login and password, from extra, or from a profile; without any, what the
    machine offers (environment, instance profile, web identity) at the connection's region and endpoint. Whoever takes
    on a role, by the connection or by a profile, does so by the provider's own hook.

    Raises:
        BadSetting: there is no such connection, it is of another type, it asks for something in `REFUSED`, or for
            a role where the amazon provider is not installed, or the role is denied.
    """
    if not conn_id:
        return Access()
    hint = f"Create it under Admin → Connections (type aws, {', '.join(ELSEWHERE)}), or clear storage_conn_id."
    connection = connections.get(conn_id, f"storage connection {conn_id!r}", hint)
    if connection.conn_type in azure_connection.TYPES:
        return Access(azure_connection.variables(conn_id, connection))
    if connection.conn_type in google_connection.TYPES:
        return Access(google_connection.variables(conn_id, connection))
    if any(name in (connection.conn_type or "").lower() for name in OTHER_TYPES):
        raise _bad(
            conn_id,
            f"is of type {connection.conn_type}, which stores are not reached by",
            f"Take one of type aws, {', '.join(ELSEWHERE)}, or clear storage_conn_id and put the credentials into the "
            "environment of Airflow.",
        )
    extra: dict[str, Any] = connection.extra_dejson
    session: dict[str, Any] = _mapping(conn_id, extra, "session_kwargs")
    for name, hint in REFUSED.items():
        if extra.get(name):
            raise _bad(conn_id, f"asks for {name}, which these jobs cannot do", hint)
    profile = str(extra.get("profile_name") or session.get("profile_name") or "")
    login = (connection.login, connection.password, extra.get("aws_session_token"))
    places = [login, *(tuple(place.get(name.lower()) for name in NAMES) for place in (extra, session))]
    places = [place for place in places if place[0] or place[1]]
    key, secret, token = places[0] if places else (None, None, None)
    if bool(key) != bool(secret):
        half = "secret access key" if key else "access key id"
        raise _bad(conn_id, f"has no {half}", "The key id is its login and the secret its password; or leave both out.")
    kept = _profile(conn_id, profile) if profile and not places else {}
    takes_on = next((name for name in ROLES if extra.get(name)), "")
    if kept and not (kept.get("aws_access_key_id") and kept.get("aws_secret_access_key")):
        takes_on = takes_on or f"the profile {profile}"
    elif kept:
        key, secret, token = (kept.get(name.lower()) for name in NAMES)
    services = _mapping(conn_id, extra, "service_config")
    found = {
        "AWS_REGION": extra.get("region_name") or session.get("region_name") or kept.get("region"),
        "AWS_ENDPOINT_URL": _mapping(conn_id, services, "s3").get("endpoint_url") or extra.get("endpoint_url"),
        "AWS_CA_BUNDLE": _bundle(conn_id, extra),
    }
    if takes_on:
        method = str(extra.get("assume_role_method") or METHODS[0])
        return _of_a_role(conn_id, connection.get_uri(), takes_on, method, _said(found))
    return Access(_said({**dict(zip(NAMES, (key, secret, token), strict=True)), **found}))


def _said(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in found.items() if value}


def _of_a_role(conn_id: str, uri: str, what: str, method: str, beside: Mapping[str, str]) -> Access:
    """The temporary keys of a role, by the hook of the amazon provider, which knows every way to one."""
    if method not in METHODS:
        raise _bad(conn_id, f"has the unknown assume_role_method {method!r}", f"Write one of {', '.join(METHODS)}.")
    if not _has_provider():
        raise _bad(
            conn_id,
            f"asks for {what}, which only Airflow's amazon provider can do, and it is not installed",
            "Install apache-airflow-providers-amazon beside Airflow, give the role to the machines of Airflow and "
            "Spark, or put keys into the connection.",
        )

    def now() -> Mapping[str, str]:
        keys = credentials.get_frozen_credentials()
        return _said({**dict(zip(NAMES, (keys.access_key, keys.secret_key, keys.token), strict=True)), **beside})

    try:
        credentials = _credentials(conn_id, hashlib.sha256(uri.encode()).hexdigest())
        return Access(now(), now)
    except Exception as error:  # of botocore, of a SAML or Google client: each has its own
        words = " ".join(str(error).split()).rstrip(".")
        message = f"asks for {what}, and that failed: {type(error).__name__}: {words}"
        raise _bad(conn_id, message, "Correct the role, and who may take it on.") from None


def _has_provider() -> bool:
    try:
        return importlib.util.find_spec("airflow.providers.amazon.aws.hooks.base_aws") is not None
    except ModuleNotFoundError:  # of a package on the way to it
        return False


@lru_cache(maxsize=16)
def _credentials(conn_id: str, version: str) -> Any:
    """botocore's credentials of the role, which take it on again when they are about to expire: asked for once, as
    triggers and pages read connections again and again. `version`: another one when the connection has changed."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    found = AwsBaseHook(aws_conn_id=conn_id, client_type="s3").get_session().get_credentials()
    if found is None:
        raise ValueError("it gives no keys")
    return found


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
    """What the files of the AWS command line say of a profile. Arrow and delta-rs can be told no profile, and what is
    in the environment is for the whole process. Raises BadSetting: it is in neither."""
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
    if not found:
        raise _bad(
            conn_id,
            f"names the profile {name}, which has no keys in {credentials} or {config}",
            "Put aws_access_key_id and aws_secret_access_key there, or the role that it takes on.",
        )
    return found


def _bad(conn_id: str, what: str, hint: str) -> BadSetting:
    return BadSetting("bad_connection", f"The storage connection {conn_id!r} {what}.", hint)
