"""Whatever stands in a document of the store, a page answers: never a failure, never a file from outside the store.

Each field of each document that the pages read is replaced by values of other types, sizes and intentions.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from tests.airflow.web import API, Run, published
from tests.shelf import Shelf

DAY = "2026-11-20"
SECRET = "the secret beside the store"
MUTANTS: dict[str, Any] = {
    "null": None,
    "truth": True,
    "number": 7,
    "negative": -1,
    "fraction": 0.5,
    "text": "text",
    "empty": "",
    "list": [],
    "objects in a list": [{}, None, 3],
    "object": {},
    "nested": {"a": {"b": [[{"c": {}}]]}},
    "not a number": float("nan"),
    "infinite": float("inf"),
    "huge": 10**30,
    "beyond a float": 10**400,
    "beyond digits": "1" * 5000,
    "path": "../../secret.parquet",
    "path in disguise": "data/../../../secret.parquet",
    "absolute path": "/etc/passwd",
    "uri": "file:///etc/passwd",
    "markup": "<script>alert(1)</script>",
    "half a character": "\ud800",
    "zero byte": "a\0b",
}


def fields(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a document, itself included."""
    yield above
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inside:
        yield from fields(value, (*above, key))


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(document)
    at = changed
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return changed


@pytest.fixture(autouse=True)
def no_runs(airflow_app: Any) -> None:
    """Airflow's database without the runs of other tests."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The store that is configured."""
    return Shelf(str(tmp_path / "store"))


@pytest.fixture
def whole(shelf: Shelf) -> Run:
    """A run that published, with everything in its documents that the pages read; and a file beside the store."""
    run = published(shelf)
    (staged,) = shelf.quarantine(DAY, run.key, ["file:///photos/day/empty.jpg"])
    outside = Path(shelf.store).parent / "secret.parquet"
    rows = pq.read_table(Path(shelf.store, "quarantine", staged.path), partitioning=None)
    uris = pa.array([SECRET] * len(rows), rows.schema.field("uri").type)
    pq.write_table(rows.set_column(rows.schema.get_field_index("uri"), "uri", uris), outside)
    run.finishes("ingest", staged={"quarantine": [staged]}, outcome={"bytes": 3})
    ingested = json.loads((run.folder / "ingest.json").read_text())
    return run.finishes(
        "extract", staged={"quarantine": [staged]}, outcome={"ingested": ingested, "ingest_attempt": "0123456789ab"}
    )


@pytest.fixture
def ask(clients: Callable[[str], TestClient]) -> Callable[[str], Any]:
    """The answer to a viewer; nothing that was kept from before counts."""
    viewer = clients("viewer")

    def ask(path: str) -> Any:
        from image_features.web import overview, photos, quarantine, run_documents, store_state

        store_state._published.forget()
        for kept in (
            *(run_documents._summaries, overview._outcomes, overview._standing_rows),
            *(photos._indexes, quarantine._quarantines),
        ):
            kept._values.clear()  # type: ignore[attr-defined]
        return viewer.get(f"{API}/{path}")

    return ask


def routes(run: Run) -> list[str]:
    here = f"runs/{quote(run.run_id)}"
    return ["overview", here, f"{here}/quarantine", f"{here}/photos", f"partitions/{DAY}/photos"]


def check(answer: Any, what: str) -> None:
    assert answer.status_code in (200, 404, 503), (what, answer.status_code, answer.text)
    assert answer.status_code != 503 or answer.json()["code"] == "damaged", (what, answer.text)
    json.loads(answer.text, parse_constant=pytest.fail)
    assert SECRET not in answer.text and "root:" not in answer.text, what


READERS = {  # which of `routes` read the document at all
    **{"ingest": (1, 2, 4), "extract": (1, 2), "validate": (1,), "report": (0, 1)},
}


@pytest.mark.parametrize("name", READERS)
def test_no_field_of_a_document_makes_a_page_fail(name: str, whole: Run, ask: Callable[[str], Any]) -> None:
    path = whole.folder / f"{name}.json"
    document, names = json.loads(path.read_text()), list(MUTANTS)
    for number, place in enumerate(fields(document)):
        mutant = names[number % len(names)]  # each with each would take minutes
        path.write_text(json.dumps(replaced(document, place, MUTANTS[mutant])))
        for reader in READERS[name]:
            check(ask(routes(whole)[reader]), f"{name} {place} {mutant} {routes(whole)[reader]}")


FORGED = [
    ("extract", ("staged", "quarantine", 0, "path")),
    ("ingest", ("settings", "source")),
    ("extract", ("outcome", "ingested", "staged")),
    ("extract", ("outcome", "ingest_attempt")),
    ("report", ("drift", "value")),
    ("report", ("norms", "quantiles", "0.5")),
]


@pytest.mark.parametrize(("name", "place"), FORGED, ids=lambda value: str(value))
def test_fields_that_lead_somewhere_are_tried_with_everything(
    name: str, place: tuple[Any, ...], whole: Run, ask: Callable[[str], Any]
) -> None:
    path = whole.folder / f"{name}.json"
    document = json.loads(path.read_text())
    for mutant, value in MUTANTS.items():
        path.write_text(json.dumps(replaced(document, place, value)))
        for reader in READERS[name]:
            check(ask(routes(whole)[reader]), f"{name} {place} {mutant} {routes(whole)[reader]}")
    assert ask("overview").json()["store"]["code"] == "ok", "an odd document spoils only its own row"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\ufeff{}", "1e999", '{"at": 1e999}', "\0"])
def test_a_document_that_is_none_is_a_state(text: str, whole: Run, ask: Callable[[str], Any]) -> None:
    for name in ("ingest", "extract", "validate", "report", "error", "progress"):
        (whole.folder / f"{name}.json").write_text(text)
        for route in routes(whole):
            check(ask(route), f"{name} {text[:20]} {route}")


def test_no_field_of_an_error_or_a_progress_note_makes_a_page_fail(
    whole: Run, shelf: Shelf, ask: Callable[[str], Any]
) -> None:
    failed = Run(shelf.store, "2026-11-21", state="failed", began=datetime.now(UTC)).enter()
    failed.leaves("error.json", {"stage": "extract", "code": "c", "message": "m", "hint": "h", "at": failed.at(1)})
    running = Run(shelf.store, "2026-11-22", state="running", began=datetime.now(UTC)).enter().finishes("ingest")
    rates = {"images_per_second": 1.0, "eta_s": 2.0, "at": running.at(1)}
    running.leaves("progress.json", {"stage": "extract", "total": 3, "done": 1, "failed": 0, **rates})
    for run, name in ((failed, "error.json"), (running, "progress.json")):
        document = json.loads((run.folder / name).read_text())
        for place in fields(document):
            for mutant, value in list(MUTANTS.items())[:: 1 if not place else 3]:
                (run.folder / name).write_text(json.dumps(replaced(document, place, value)))
                check(ask(routes(run)[1]), f"{name} {place} {mutant}")
        overview = ask("overview")
        check(overview, name)
        assert overview.json()["store"]["code"] == "ok"


def test_staged_rows_and_vectors_of_other_types_are_no_failure(
    whole: Run, shelf: Shelf, ask: Callable[[str], Any]
) -> None:
    (staged,) = json.loads((whole.folder / "ingest.json").read_text())["staged"]["quarantine"]
    path = Path(shelf.store, "quarantine", staged["path"])
    rows = pq.read_table(path, partitioning=None)
    for column in rows.column_names:
        at = rows.schema.get_field_index(column)
        for odd in ([None], [[1]], [float("nan")], [b"\xff\xfe"], ["<script>"], [{"a": 1}]):
            pq.write_table(rows.set_column(at, column, pa.array(odd * len(rows))), path)
            check(ask(routes(whole)[2]), f"{column} {odd}")
        pq.write_table(rows.drop_columns([column]), path)
        check(ask(routes(whole)[2]), f"without {column}")
    for file in Path(shelf.store, "features", "data").rglob("*.parquet"):
        features = pq.read_table(file, partitioning=None)
        scores = pa.array([float("nan")] * len(features), pa.float32())
        at = features.schema.get_field_index("top1_score")
        pq.write_table(features.set_column(at, features.schema.field(at), scores), file)
    answer = ask(routes(whole)[4])
    check(answer, "a score that is no number")
    assert [photo["score"] for photo in answer.json()["photos"]] == [None, None]
