"""Other vector stores hold what is published after every sync, whatever was published, undone or killed in between."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from spark_apps import catalog, contract
from spark_apps import sync as command
from spark_apps.contract import (
    BadSetting,
    EraseSettings,
    JobError,
    MaintainSettings,
    NothingToDo,
    SyncSettings,
    UndoSettings,
)
from spark_apps.erase import erase
from spark_apps.maintain import maintain
from spark_apps.sinks import Sink, open_sink, sync
from spark_apps.sinks.parquet import FILE, ParquetSink
from spark_apps.sinks.qdrant import QdrantSink
from spark_apps.spark.jobs import Timings
from spark_apps.tables import schemas
from spark_apps.undo import put_back
from spark_apps.upkeep import compaction
from tests.postgres import postgres
from tests.s3 import s3_server
from tests.shelf import MODEL, Shelf, image_id

REPOSITORY = Path(__file__).resolve().parents[2]
OTHER_MODEL = "resnet50-random_0-fp32"
Rows = dict[tuple[str, str], tuple[str, list[float]]]
"""(partition, uri) → (image_id, vector)."""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(params=["parquet", "qdrant", "pgvector", "own"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, Callable[[], Rows]]]:
    """A sink, and what a reader of the place finds who knows nothing of us."""
    made = {"parquet": in_parquet, "qdrant": in_qdrant, "own": in_duckdb}
    if request.param == "pgvector":
        found = in_postgres(request.getfixturevalue("database"), f"t{abs(hash(str(tmp_path)))}")
    else:
        found = made[request.param](tmp_path)
    with closing(found[0]):
        yield found


def in_parquet(folder: Path) -> tuple[Sink, Callable[[], Rows]]:
    where = folder / "vectors"

    def held() -> Rows:
        files = [str(path) for path in where.rglob("*.parquet")]
        rows = ds.dataset(
            files, partitioning=ds.partitioning(flavor="hive", schema=pa.schema([("partition", pa.string())]))
        )
        return as_rows(rows.to_table().to_pylist()) if files else {}

    return open_sink(str(where)), held


def in_qdrant(folder: Path) -> tuple[Sink, Callable[[], Rows]]:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(folder / "qdrant"))

    def held() -> Rows:
        if not client.collection_exists("cars"):
            return {}
        points, more = client.scroll("cars", limit=1000, with_vectors=True)
        assert more is None
        return as_rows([{**point.payload, "vector": point.vector} for point in points])

    return QdrantSink(client, "cars"), held


def in_postgres(uri: str, table: str) -> tuple[Sink, Callable[[], Rows]]:
    from adbc_driver_postgresql import dbapi

    def held() -> Rows:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass($1) IS NULL", (table,))
            if cursor.fetchone() == (True,):
                return {}
            cursor.execute(f"SELECT partition, uri, image_id, vector::real[] AS vector FROM {table}")  # noqa: S608
            return as_rows(cursor.fetch_arrow_table().to_pylist())

    return open_sink(f"{uri}&table={table}"), held


def in_duckdb(folder: Path) -> tuple[Sink, Callable[[], Rows]]:
    """The example of docs/consumers.md."""
    (folder / "duck_sink.py").write_text(example())
    sink: Any = open_sink(str(folder / "vectors.duckdb"), f"{folder / 'duck_sink.py'}:DuckSink")

    def held() -> Rows:
        if not sink.there():
            return {}
        names = ["partition", "uri", "image_id", "vector"]
        rows = sink.db.execute(f"select {', '.join(names)} from vectors").fetchall()  # noqa: S608
        return as_rows([dict(zip(names, row, strict=True)) for row in rows])

    return sink, held


def example() -> str:
    (found,) = re.findall(
        r"```python\n(# duck_sink.py\n.*?)```", (REPOSITORY / "docs/consumers.md").read_text(), re.DOTALL
    )
    return str(found)


def as_rows(rows: list[dict[str, Any]]) -> Rows:
    """Vectors as directions: a store that compares by cosine may keep them so."""
    found = {(row["partition"], row["uri"]): (row["image_id"], direction(row["vector"])) for row in rows}
    assert len(found) == len(rows)
    return found


def direction(vector: list[float]) -> list[float]:
    length = sum(number**2 for number in vector) ** 0.5
    return [round(number / length, 5) for number in vector]


def published(shelf: Shelf) -> Rows:
    rows = catalog.dataset(shelf.store, "features").to_table().to_pylist()
    return as_rows([{**row, "vector": row["features"]} for row in rows if row["model"] == MODEL])


def something_happens(shelf: Shelf, lot: random.Random, number: int) -> None:
    """A partition is published, or put back, or files are merged."""
    day = f"d{lot.randint(1, 3)}"
    before = catalog.publications(shelf.store, day, MODEL)
    action = lot.choice(["publish", "publish", "other model", "undo", "merge"]) if number else "publish"
    if action == "undo" and len({item.origin for item in before}) > 1:
        other = lot.choice([item for item in before if item.origin != before[0].origin])
        put_back(UndoSettings(store=shelf.store, partition=day, model=MODEL, to_version=other.version), Timings())
    elif action == "merge" and before:
        compaction.compact(shelf.store, schemas.FEATURES)
    else:
        files = {f"u'{name}": str(lot.randint(0, 5)) for name in lot.sample(range(8), lot.randint(1, 8))}
        shelf.publish(day, f"r{number}", files, model=OTHER_MODEL if action == "other model" else MODEL)


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
def test_after_each_sync_the_place_holds_what_is_published(
    shelf: Shelf, place: tuple[Sink, Callable[[], Rows]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FEWEST_FILES", 2)
    sink, held = place
    lot = random.Random(3)
    for number in range(10):
        for step in range(lot.randint(1, 3)):
            something_happens(shelf, lot, 10 * number + step)
        if not catalog.partitions(shelf.store, MODEL):
            continue
        done = sync(shelf.store, MODEL, sink)
        assert done.full == (number == 0) and not done.differing
        assert held() == published(shelf) and done.rows == len(published(shelf))
    again = sync(shelf.store, MODEL, sink)
    assert (again.upserted, again.deleted, again.version) == (0, 0, done.version)
    delta = catalog.table(shelf.store, "features")
    assert delta is not None
    delta.delete("partition = 'd1'")
    sync(shelf.store, MODEL, sink)
    assert held() == published(shelf) and not any(day == "d1" for day, _ in held())
    full = sync(shelf.store, MODEL, sink, full=True)
    assert full.full and held() == published(shelf) and full.upserted == len(held())


class Killed(BaseException):
    """A process ends here."""


class Mortal:
    """A sink whose process is killed at its `fatal`-th call, before or after that has done anything."""

    def __init__(self, sink: Sink, fatal: int, after: bool) -> None:
        self._sink, self._left, self._after = sink, fatal, after

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            found = getattr(self._sink, name)(*arguments)
            if self._left == 0:
                raise Killed
            return found

        return call


@pytest.mark.parametrize(("after", "full"), [(True, False), (False, True)])
def test_killed_at_any_call_it_goes_on_and_leaves_no_ghosts(
    shelf: Shelf, tmp_path: Path, after: bool, full: bool
) -> None:
    """Between the kill and the next sync, what had been put in is taken back: no comparison of versions names it."""
    sink, held = in_parquet(tmp_path)
    shelf.publish("d1", "r0", {"u1": "a", "u2": "b"})
    shelf.publish("d2", "r0", {"u1": "a"})
    sync(shelf.store, MODEL, sink)
    fatal, survived = 0, False
    while not survived:
        fatal += 1
        shelf.publish("d1", f"r{fatal}", {"u2": f"b{fatal}", f"new{fatal}": "n"})
        shelf.publish("d2", f"r{fatal}", {"u1": "a", f"more{fatal}": "m"})
        try:
            sync(shelf.store, MODEL, Mortal(sink, fatal, after), full)
            survived = True
        except Killed:
            shelf.publish("d1", f"s{fatal}", {"u2": f"b{fatal}", "u3": "c"})
            shelf.publish("d3" if fatal % 2 else "d2", f"s{fatal}", {"u1": "a"})
            sync(shelf.store, MODEL, sink, full and fatal % 2 == 0)
        assert held() == published(shelf), f"killed at call {fatal}"
    assert fatal > 6


def test_a_killed_full_sync_does_not_begin_again(shelf: Shelf, tmp_path: Path) -> None:
    sink, held = in_parquet(tmp_path)
    for day in range(5):
        shelf.publish(f"d{day}", "r", {"u": str(day)})
    with pytest.raises(Killed):
        sync(shelf.store, MODEL, Mortal(sink, 12, True))
    there = len(held())
    assert 0 < there < 5
    done = sync(shelf.store, MODEL, sink, full=True)
    assert done.full and done.upserted == 5 - there and held() == published(shelf)


def test_what_can_no_longer_be_compared_is_put_in_as_a_whole(shelf: Shelf, tmp_path: Path) -> None:
    sink, held = in_parquet(tmp_path)
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    sync(shelf.store, MODEL, sink)
    shelf.publish("d1", "r2", {"u1": "z"})
    with pytest.raises(Killed):
        sync(shelf.store, MODEL, Mortal(sink, 3, True))  # r2 is begun
    shelf.publish("d1", "r3", {"u3": "c"})
    maintain(MaintainSettings(store=shelf.store, retention_hours=1), Timings(), datetime.now(UTC) + timedelta(hours=50))
    lines: list[str] = []
    done = sync(shelf.store, MODEL, sink, tell=lines.append)
    assert done.full and held() == published(shelf)
    assert "All rows are compared instead." in lines[0]


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
def test_the_next_sync_takes_erased_photos_out(
    shelf: Shelf, place: tuple[Sink, Callable[[], Rows]], tmp_path: Path
) -> None:
    sink, held = place
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    shelf.publish("d2", "r1", {"u1": "a"})
    shelf.publish("d3", "r1", {"u3": "c"})
    sync(shelf.store, MODEL, sink)
    assert {*held()} == {("d1", "u1"), ("d1", "u2"), ("d2", "u1"), ("d3", "u3")}
    listed = tmp_path / "photos.txt"
    listed.write_text(f"{image_id('a')}\n")
    erase(EraseSettings(store=shelf.store, list=str(listed), reason="asked for", requested_by="somebody"), Timings())
    done = sync(shelf.store, MODEL, sink)
    assert not done.differing
    assert {*held()} == {("d1", "u2"), ("d3", "u3")} and held() == published(shelf)


def test_rows_that_others_took_away_are_told_and_brought_back_by_full(shelf: Shelf, tmp_path: Path) -> None:
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    shelf.publish("d2", "r1", {"u1": "a"})
    where = tmp_path / "vectors"
    settings = {"store": shelf.store, "model": MODEL, "to": str(where)}
    assert command.sync(SyncSettings(**settings), Timings()).counts["rows"] == 3
    (where / "partition=d1" / FILE).unlink()
    with pytest.raises(JobError, match=r"d1: 0 instead of 2\. .*--full") as caught:
        command.sync(SyncSettings(**settings), Timings())
    assert caught.value.code == "sink_differs"
    again = command.sync(SyncSettings(**settings, full=True), Timings())
    assert again.counts == {"upserted": 3, "deleted": 0, "rows": 3, "differing": 0}


def test_what_is_not_ours_is_left_alone(shelf: Shelf, place: tuple[Sink, Callable[[], Rows]], tmp_path: Path) -> None:
    sink, held = place
    shelf.publish("d1", "r1", {"u1": "a"})
    with pytest.raises(NothingToDo, match="Nothing is published under other"):
        sync(shelf.store, "other", sink)
    sync(shelf.store, MODEL, sink)
    before = held()
    shelf.publish("d1", "r1", {"u1": "a"}, model=OTHER_MODEL)
    with pytest.raises(BadSetting, match=f"holds the vectors of {MODEL}"):
        sync(shelf.store, OTHER_MODEL, sink, full=True)
    other = Shelf(str(tmp_path / "other"))
    other.publish("d9", "r1", {"u9": "z"})
    with pytest.raises(BadSetting, match="of another store"):
        sync(other.store, MODEL, sink)
    assert held() == before
    sync(other.store, MODEL, sink, full=True)
    assert held() == published(other)
    sink.remember("")
    with pytest.raises(BadSetting, match="no sync has put there"):
        sync(shelf.store, MODEL, sink)
    sink.remember("something else's")
    with pytest.raises(BadSetting, match="from something else"):
        sync(shelf.store, MODEL, sink)
    assert held() == published(other)


def test_of_two_syncs_at_once_one_gives_up(shelf: Shelf, tmp_path: Path) -> None:
    sink, held = in_parquet(tmp_path)
    for day in range(4):
        shelf.publish(f"d{day}", "r1", {"u1": "a"})

    class Overtaken(ParquetSink):
        def apply(self, partition: str, rows: pa.RecordBatchReader, gone: Collection[str] | None) -> None:
            super().apply(partition, rows, gone)
            if partition == "d1":
                sync(shelf.store, MODEL, sink)

    with pytest.raises(JobError, match="Another sync writes to the same place"):
        sync(shelf.store, MODEL, Overtaken(str(tmp_path / "vectors")))
    assert held() == published(shelf) and not sync(shelf.store, MODEL, sink).differing


def test_a_table_of_postgres_has_one_writer_and_is_nobody_elses(shelf: Shelf, database: str) -> None:
    first, _ = in_postgres(database, "one_writer")
    with closing(first), pytest.raises(JobError, match="Another sync writes to the table one_writer"):
        in_postgres(database, "one_writer")
    again, _ = in_postgres(database, "one_writer")
    again.close()
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE theirs (partition text)")
        connection.commit()
    shelf.publish("d1", "r1", {"u1": "a"})
    sink, _ = in_postgres(database, "theirs")
    with closing(sink), pytest.raises(BadSetting, match="theirs has other columns"):
        sync(shelf.store, MODEL, sink)


def test_the_index_that_the_page_names_is_one_that_pgvector_takes(shelf: Shelf, database: str) -> None:
    from adbc_driver_postgresql import dbapi

    shelf.publish("d1", "r1", {f"u{number}": str(number) for number in range(20)})
    sink, _ = in_postgres(database, "image_features")
    with closing(sink):
        sync(shelf.store, MODEL, sink)
    (statements,) = re.findall(r"```sql\n(.*?)```", (REPOSITORY / "docs/consumers.md").read_text(), re.DOTALL)
    index, query = (part.replace("2048", "4") for part in statements.strip().split(";")[:2])
    with dbapi.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(index)
        connection.commit()
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})  # which takes no EXPLAIN
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN {query.replace('$1', repr('[1,2,3,4]'))}")
        assert "Index Scan using image_features_" in str(cursor.fetchall())
        cursor.execute(query, ("[1,2,3,4]",))
        found = cursor.fetchall()
        assert len(found) == 10 and found == sorted(found, key=lambda row: -row[-1])


def test_parquet_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as endpoint:
        with urlopen(Request(f"{endpoint}/sinks", method="PUT")):
            pass
        for name, value in {
            "ACCESS_KEY_ID": "id",
            "SECRET_ACCESS_KEY": "s",
            "ENDPOINT_URL": endpoint,
            "REGION": "r",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        shelf = Shelf("s3://sinks/store")
        shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
        sink = open_sink("s3://sinks/export/")
        sync(shelf.store, MODEL, sink)
        shelf.publish("d1", "r2", {"u2": "c", "u3": "d"})
        assert sync(shelf.store, MODEL, sink).rows == 2
        assert sink.counts() == {"d1": 2}


# --- the command ------------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sync", *arguments])
    return command.main()


def test_the_command_leaves_a_manifest_for_each_place(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.publish("d1", "r1", {"u1": "a"})
    common = ["--store", shelf.store, "--model", MODEL, "--run-id", "n"]
    for name in ("a", "b"):
        assert run(monkeypatch, *common, "--to", str(tmp_path / name)) == 0
    left = [json.loads(path.read_text()) for path in Path(shelf.store, "sync").rglob("sync.json")]
    assert [found["counts"]["rows"] for found in left] == [1, 1]
    assert {found["outcome"]["to"] for found in left} == {str(tmp_path / name) for name in ("a", "b")}
    assert "1 upserted, 0 deleted, 1 rows, 0 differing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("postgresql://me:very-private@host/db", "secret_in_to"),
        ("qdrant://host/cars?api-key=very-private", "secret_in_to"),
        ("qdrant://host:6333", "bad_to"),
        ("qdrant://host/a/b", "bad_to"),
        ("qdrant://[", "bad_to"),
    ],
)
def test_a_wrong_place_is_refused_and_a_secret_not_repeated(
    shelf: Shelf, to: str, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.publish("d1", "r1", {"u1": "a"})
    with pytest.raises(BadSetting) as caught:
        command.sync(SyncSettings(store=shelf.store, model=MODEL, to=to), Timings())
    assert caught.value.code == code
    assert run(monkeypatch, "--store", shelf.store, "--model", MODEL, "--to", to) == 2
    said = capsys.readouterr().err + "".join(path.read_text() for path in Path(shelf.store).rglob("error.json"))
    assert "very-private" not in said + str(caught.value)


@pytest.mark.parametrize("below", ["", "/", "/features", "/exports/one"])
def test_a_place_within_the_store_is_refused_before_anything_is_written(
    shelf: Shelf, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.publish("d1", "r1", {"u1": "a"})
    store = Path(shelf.store)
    monkeypatch.chdir(store.parent)
    before = sorted(store.rglob("*"))
    for to in (shelf.store + below, store.name + below, f"file://{shelf.store}{below}"):
        with closing(open_sink(to)) as sink, pytest.raises(BadSetting) as caught:
            sync(shelf.store, MODEL, sink)
        assert caught.value.code == "sink_in_store"
    assert sorted(store.rglob("*")) == before
    with closing(open_sink(f"{shelf.store}-export")) as sink:  # only its name begins like the store's
        assert sync(shelf.store, MODEL, sink).rows == 1


@pytest.mark.parametrize(
    ("to", "package"), [("qdrant://h/c", "qdrant_client"), ("postgres://h/d", "adbc_driver_postgresql")]
)
def test_a_missing_package_is_named(to: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadSetting, match="pip install 'image-features"):
        open_sink(to)


def test_a_place_that_is_not_there_is_unreachable_in_plain_words(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", {"u1": "a"})
    for to in ("qdrant://127.0.0.1:9/cars", "postgresql://nobody@127.0.0.1:9/db?table=cars"):
        words = r"cars of .* cannot be used.*Check that it runs"
        with pytest.raises(contract.Unreachable, match=words), closing(open_sink(to)) as sink:
            sync(shelf.store, MODEL, sink)


@pytest.mark.parametrize("kind", ["nowhere:Sink", "spark_apps.sinks:Nothing", "/no/such/file.py:Sink", "nonsense"])
def test_a_sink_that_cannot_be_loaded_is_refused(kind: str) -> None:
    with pytest.raises(BadSetting, match=f"The sink {kind} cannot be loaded"):
        open_sink("x", kind)


def test_the_host_and_the_key_of_qdrant_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import qdrant_client

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(qdrant_client, "QdrantClient", lambda **options: asked.append(options))
    monkeypatch.setenv("QDRANT_URL", "https://cloud:6333")
    monkeypatch.setenv("QDRANT_API_KEY", "k")
    for to in ("qdrant:///cars", "qdrants://host:1/cars"):
        open_sink(to)
    assert [(one["url"], one["api_key"]) for one in asked] == [("https://cloud:6333", "k"), ("https://host:1", "k")]


def test_the_example_is_short() -> None:
    assert len(example().strip().splitlines()) <= 40
