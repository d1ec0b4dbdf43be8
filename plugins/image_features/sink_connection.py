"""The Airflow connection to another vector store, as the environment variables that its clients read."""

from __future__ import annotations

from typing import Any

from image_features import connections

OF_POSTGRES = ("sslmode", "sslrootcert", "sslcert", "sslkey", "options", "connect_timeout")
"""What the extra of a connection of type postgres may say, by its name in libpq."""


def variables(conn_id: str) -> dict[str, str]:
    """The variables that the connection stands for; {} for an empty `conn_id`.

    Of type postgres, PGHOST, PGPASSWORD and the like; of type qdrant, QDRANT_URL and QDRANT_API_KEY, as the provider
    reads it: the key is its password. Of any other, for a sink of one's own, IMAGE_FEATURES_SINK_URI, as Airflow
    writes it.

    Raises:
        BadSetting: there is no such connection.
    """
    if not conn_id:
        return {}
    hint = "Create it under Admin → Connections, or clear sink_conn_id."
    connection = connections.get(conn_id, f"connection {conn_id!r} to the vector store", hint)
    if connection.conn_type in ("postgres", "postgresql"):
        found = _postgres(connection)
    elif connection.conn_type == "qdrant":
        found = {"QDRANT_URL": _url(connection), "QDRANT_API_KEY": connection.password}
    else:
        found = {"IMAGE_FEATURES_SINK_URI": connection.get_uri()}
    return {name: str(value) for name, value in found.items() if value}


def _postgres(connection: Any) -> dict[str, Any]:
    extra = connection.extra_dejson
    return {
        "PGHOST": connection.host,
        "PGPORT": connection.port,
        "PGUSER": connection.login,
        "PGPASSWORD": connection.password,
        "PGDATABASE": connection.schema,
        **{f"PG{name.upper()}": extra.get(name) for name in OF_POSTGRES},
    }


def _url(connection: Any) -> str:
    extra = connection.extra_dejson
    if extra.get("url"):
        return str(extra["url"])
    scheme = "https" if extra.get("https") else "http"
    return f"{scheme}://{connection.host}:{connection.port or 6333}" if connection.host else ""
