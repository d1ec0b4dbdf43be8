"""A table of Postgres with the extension pgvector, written through ADBC; each partition in one transaction.

What a sync remembers lies in the table `image_features_sync` beside it. Needs `adbc-driver-postgresql`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pyarrow as pa

from spark_apps.contract import BadSetting, JobError
from spark_apps.sinks.sink import PAYLOAD, VECTOR, unreachable

MARKS, TABLE = "image_features_sync", "image_features"
PART = r"[a-z_][a-z0-9_]{0,62}"


class PgvectorSink:
    """A table, `name` or `schema.name`, which is made when there is something to put in; and the connection of ADBC."""

    def __init__(self, connection: Any, table: str = TABLE) -> None:
        if not re.fullmatch(rf"({PART}\.)?{PART}", table):
            raise BadSetting(
                "bad_to", f"{table!r} is not a name of a table.", "Use small letters, digits and _: cars or art.cars."
            )
        self._connection, self._table = connection, table
        self._marks = f"{table.rpartition('.')[0]}.{MARKS}".lstrip(".")

    @classmethod
    def at(cls, uri: str) -> PgvectorSink:
        """`postgresql://host:5432/database?table=cars`, otherwise as libpq takes it: what the URI does not say,
        password and all, is in PGHOST, PGUSER, PGPASSWORD and the like, or in ~/.pgpass.

        Raises:
            BadSetting: the driver is not installed, or the table's name is none.
            JobError: another sync writes to the table.
            Unreachable: there is no such server, or it refuses.
        """
        try:
            from adbc_driver_postgresql import dbapi
        except ImportError as error:
            message = "The package adbc-driver-postgresql is not installed here."
            raise BadSetting("no_pgvector", message, "pip install 'image-features[pgvector]'.") from error
        parts = urlsplit(uri)
        options = parse_qsl(parts.query)
        table = dict(options).get("table", TABLE)
        rest = urlencode([(name, value) for name, value in options if name != "table"])
        with _reaching(table):
            connection = dbapi.connect(urlunsplit(parts._replace(query=rest)))
        try:
            sink = cls(connection, table)
            sink.lock()
        except BaseException:
            connection.close()
            raise
        return sink

    def lock(self) -> None:
        """Lets no other sync write to the table, as long as the connection is there. Raises JobError."""
        if not self._rows("SELECT pg_try_advisory_lock(hashtext($1))", f"{MARKS} {self._table}")[0][0]:
            raise JobError(
                "overtaken", f"Another sync writes to the table {self._table}.", "Let it end, and run this again."
            )

    def mark(self) -> str:
        """See `Sink`."""
        if not self._exists(self._marks):
            return ""
        found = self._rows(f"SELECT mark FROM {self._marks} WHERE place = $1", self._table)  # noqa: S608  our own names
        return str(found[0][0]) if found else ""

    def remember(self, mark: str) -> None:
        """See `Sink`."""
        with self._transaction() as cursor:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {self._marks} (place text PRIMARY KEY, mark text NOT NULL)")
            cursor.execute(
                f"INSERT INTO {self._marks} VALUES ($1, $2) "  # noqa: S608
                "ON CONFLICT (place) DO UPDATE SET mark = excluded.mark",
                (self._table, mark),
            )

    def apply(self, partition: str, rows: pa.RecordBatchReader, gone: Collection[str] | None) -> None:
        """See `Sink`."""
        dim = rows.schema.field(VECTOR).type.list_size
        there = self._exists(self._table)
        if not there and not dim:
            return
        names = ", ".join([*PAYLOAD.names, VECTOR])
        values = ", ".join(f"{name} = excluded.{name}" for name in (*PAYLOAD.names[2:], VECTOR))
        with self._transaction() as cursor:
            if not there:
                self._create(cursor, dim)
            if dim:
                cursor.adbc_ingest("image_features_rows", rows, mode="create", temporary=True)
                cursor.execute(
                    f"INSERT INTO {self._table} ({names}) "  # noqa: S608
                    f"SELECT {', '.join(PAYLOAD.names)}, {VECTOR}::vector({dim}) FROM image_features_rows "
                    f"ON CONFLICT (partition, uri) DO UPDATE SET {values}"
                )
            if gone is None:
                others = "NOT EXISTS (SELECT FROM image_features_rows AS new WHERE new.uri = old.uri)"
                cursor.execute(
                    f"DELETE FROM {self._table} AS old WHERE partition = $1{f' AND {others}' if dim else ''}",  # noqa: S608
                    (partition,),
                )
            elif gone:
                uris = pa.table({"uri": pa.array(gone, pa.string())})
                cursor.adbc_ingest("image_features_gone", uris, mode="create", temporary=True)
                cursor.execute(
                    f"DELETE FROM {self._table} AS old USING image_features_gone AS gone "  # noqa: S608
                    "WHERE old.partition = $1 AND old.uri = gone.uri",
                    (partition,),
                )
            cursor.execute("DROP TABLE IF EXISTS image_features_rows, image_features_gone")

    def counts(self) -> dict[str, int]:
        """See `Sink`. Raises BadSetting: the table is somebody else's."""
        if not self._exists(self._table):
            return {}
        columns = self._rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0", self._table
        )
        if not {*PAYLOAD.names, VECTOR} <= {name for (name,) in columns}:
            raise BadSetting(
                "sink_not_ours", f"The table {self._table} has other columns.", "Give one that is not there yet."
            )
        return dict(self._rows(f"SELECT partition, count(*) FROM {self._table} GROUP BY partition"))  # noqa: S608

    def close(self) -> None:
        """See `Sink`."""
        self._connection.close()

    def _create(self, cursor: Any, dim: int) -> None:
        cursor.execute("SELECT 1 FROM pg_type WHERE typname = 'vector'")
        if not cursor.fetchall():
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        columns = ", ".join(f"{field.name} {'real' if field.name == 'score' else 'text'}" for field in PAYLOAD)
        cursor.execute(
            f"CREATE TABLE {self._table} ({columns}, {VECTOR} vector({dim}) NOT NULL, PRIMARY KEY (partition, uri))"
        )
        cursor.execute(f"CREATE INDEX ON {self._table} (image_id)")

    def _exists(self, table: str) -> bool:
        return self._rows("SELECT to_regclass($1) IS NOT NULL", table)[0][0] is True

    def _rows(self, statement: str, *parameters: str) -> list[Any]:
        with self._transaction() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with _reaching(self._table):
            try:
                with self._connection.cursor() as cursor:
                    yield cursor
                self._connection.commit()
            except BaseException:
                self._connection.rollback()
                raise


@contextmanager
def _reaching(table: str) -> Iterator[None]:
    from adbc_driver_manager import Error

    try:
        yield
    except Error as error:
        raise unreachable(f"The table {table} of Postgres", error) from error
