"""What object stores are reached with: environment variables, and a connection's beside them, never mixed."""

from __future__ import annotations

from collections.abc import Mapping

S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
S3_IDENTITY = (
    *(*S3_KEYS, "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
)
"""The variables of an AWS identity. They are valid only together: a token belongs to its keys."""
AZURE: Mapping[str, tuple[str, ...]] = {
    "account": ("AZURE_STORAGE_ACCOUNT_NAME",),
    "key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"),
    "sas": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
    "client": ("AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID"),
    "secret": ("AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
    "tenant": ("AZURE_STORAGE_TENANT_ID", "AZURE_TENANT_ID"),
    "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""What a storage account is reached with, each by the first of its names that is set."""
GOOGLE_KEY = "GOOGLE_SERVICE_ACCOUNT_KEY"
"""The variable with the key of a service account, as JSON, by the name that delta-rs gives it."""
GOOGLE_KEY_PARTS = ("client_email", "private_key", "private_key_id")
GOOGLE_DEFAULT = "GOOGLE_APPLICATION_CREDENTIALS"
"""The variable that names a file with a key, on this machine."""
GOOGLE_IDENTITY = (GOOGLE_KEY, "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", GOOGLE_DEFAULT)
RENEWED = "IMAGE_FEATURES_CREDENTIALS"
"""The variable that names a file with the newest variables of a connection, as a JSON object, where its keys expire and
somebody on this machine renews them. Other machines keep the keys that the job began with."""
STORAGE_VARIABLES = (
    *(*S3_KEYS, "AWS_REGION", "AWS_DEFAULT_REGION", *S3_ENDPOINTS),
    *(*(names[0] for names in AZURE.values()), GOOGLE_KEY, "STORAGE_EMULATOR_HOST"),
)
"""The variables for reaching stores that also hold on other machines: none of them names a local file."""


def merged(environment: Mapping[str, str], connection: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the variables of a connection in it.

    A connection with keys brings all of its identity and its endpoint along: nothing of the environment's is left. One
    without keys keeps the environment's identity; its endpoint alone, if it has one, replaces every other. The same
    holds for Azure, where endpoints belong to an account, and a managed identity is one, too; and for Google's keys.
    """
    dropped: set[str] = set()
    if AZURE["account"][0] in connection:
        dropped.update(AZURE["account"], AZURE["endpoint"])
        if any(name in connection for part in ("key", "sas", "client") for name in AZURE[part]):
            dropped.update(name for names in AZURE.values() for name in names)
    if GOOGLE_KEY in connection:
        dropped.update(GOOGLE_IDENTITY)
    if "AWS_ACCESS_KEY_ID" in connection:
        dropped.update(S3_IDENTITY, S3_ENDPOINTS)
    if any(name in connection for name in S3_ENDPOINTS):
        dropped.update(S3_ENDPOINTS)
    return {**{name: value for name, value in environment.items() if name not in dropped}, **connection}


def for_workers(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that a worker gets from its driver; with the driver's keys, nothing of the worker's own is left."""
    sent = {name: variables[name] for name in STORAGE_VARIABLES if variables.get(name)}
    if "AWS_ACCESS_KEY_ID" in sent:
        sent = {**dict.fromkeys(("AWS_SESSION_TOKEN", *S3_ENDPOINTS), ""), **sent}
    if any(variables.get(name) for secret in ("key", "sas", "secret") for name in AZURE[secret]):
        sent |= {name: variables.get(name, "") for names in AZURE.values() for name in names}
    if GOOGLE_KEY in sent:
        sent |= dict.fromkeys(GOOGLE_IDENTITY, "") | {GOOGLE_KEY: sent[GOOGLE_KEY]}
    return sent
