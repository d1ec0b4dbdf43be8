"""The search index holds exactly what is published, whatever happened to either, and finds what numpy finds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_apps import catalog, contract, extractors, model
from spark_apps.contract import BadSetting, IndexSettings, JobError, MaintainSettings, NothingToDo, UndoSettings
from spark_apps.extractors import kept_models
from spark_apps.index import index
from spark_apps.maintain import maintain
from spark_apps.search import datasets, open_index, writing
from spark_apps.search.__main__ import main as search_command
from spark_apps.spark import packages
from spark_apps.spark.jobs import Timings
from spark_apps.undo import undo
from tests.s3 import s3_server
from tests.shelf import MODEL, Shelf, image_id

REPOSITORY = Path(__file__).resolve().parents[2]


def run(shelf: Shelf, **options: Any) -> Any:
    return index(IndexSettings(store=shelf.store, model=MODEL, **options), Timings())


def files(shelf: Shelf) -> set[tuple[str, str, str]]:
    """What the index finds when it is asked for more than there is."""
    found = open_index(shelf.store, MODEL).nearest([1.0, 1.0, 1.0, 1.0], k=1000)
    return {(one.partition, one.uri, one.image_id) for one in found}


def published(shelf: Shelf) -> set[tuple[str, str, str]]:
    return {
        (item.partition, row["uri"], row["image_id"])
        for item in catalog.partitions(shelf.store, MODEL)
        for row in catalog.vectors(shelf.store, item.partition, MODEL, ["uri", "image_id"]).to_pylist()
    }


def version(shelf: Shelf) -> int:
    dataset = datasets.opened(shelf.store, MODEL)
    assert dataset is not None
    return int(dataset.version)


@pytest.fixture
def two_days(shelf: Shelf) -> Shelf:
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    shelf.publish("d2", "r2", {"u1": "a", "u3": "c"})
    return shelf


def test_what_is_published_is_found_and_a_second_run_changes_nothing(two_days: Shelf) -> None:
    done = run(two_days)
    assert done.counts["brought"] == 4 and done.counts["differing"] == 0
    assert files(two_days) == published(two_days)
    before = version(two_days)
    again = run(two_days)
    assert again.counts["brought"] == again.counts["removed"] == 0
    assert version(two_days) == before


def test_a_replaced_partition_is_replaced_in_one_version(two_days: Shelf) -> None:
    run(two_days)
    before = version(two_days)
    two_days.publish("d1", "r3", {"u9": "z"})
    assert open_index(two_days.store, MODEL).behind() == {"d1": 2}
    run(two_days)
    assert version(two_days) == before + 1
    assert files(two_days) == published(two_days)
    assert open_index(two_days.store, MODEL).behind() == {}


def test_an_undo_is_followed_and_files_that_were_merged_are_not_written_again(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", {f"u{n}": f"n{n}" for n in range(12)}, row_group_bytes=1)
    shelf.publish("d1", "r2", {"u1": "other"})
    run(shelf)
    undo(UndoSettings(store=shelf.store, partition="d1", model=MODEL))
    run(shelf)
    assert files(shelf) == published(shelf) and len(files(shelf)) == 12


def test_a_partition_that_is_merged_stays_what_it_was(shelf: Shelf) -> None:
    staged = shelf.publication("d1", "r1", {"u0": "n0"})
    for number in range(1, 8):
        staged.staged["features"].extend(shelf.features("d1", "r1", {f"u{number}": f"n{number}"}))
        staged.staged["images"].extend(shelf.images("d1", "r1", {f"u{number}": f"n{number}"}))
    staged.commit()
    (before,) = catalog.partitions(shelf.store)
    run(shelf)
    maintain(MaintainSettings(store=shelf.store), Timings(), datetime.now(UTC) + timedelta(hours=1))
    (merged,) = catalog.partitions(shelf.store)
    assert merged.modified_ms > before.modified_ms and merged.contents == before.contents
    assert run(shelf).counts["brought"] == 0


def test_what_is_no_longer_published_at_all_goes(two_days: Shelf) -> None:
    run(two_days)
    delta = catalog.table(two_days.store, "features")
    assert delta is not None
    delta.delete("partition = 'd1'")
    assert run(two_days).counts["removed"] == 2
    assert files(two_days) == published(two_days) == {("d2", "u1", image_id("a")), ("d2", "u3", image_id("c"))}
    delta.update_incremental()
    delta.delete()
    assert run(two_days).counts["removed"] == 2
    assert files(two_days) == set()
    assert run(two_days, rebuild=True).counts["differing"] == 0
    two_days.publish("d3", "r4", {"u1": "a"})
    run(two_days)
    assert files(two_days) == published(two_days)


def test_the_check_counts_rows_that_differ_and_changes_nothing(two_days: Shelf) -> None:
    assert run(two_days, check=True).counts["differing"] == 4
    run(two_days)
    assert run(two_days, check=True).counts["differing"] == 0
    before = version(two_days)
    dataset = datasets.opened(two_days.store, MODEL)
    assert dataset is not None
    dataset.delete("uri = 'u2'")  # behind our back
    assert run(two_days, check=True).counts["differing"] == 1
    assert version(two_days) == before + 1
    assert run(two_days).counts["brought"] == 2
    assert run(two_days, check=True).counts["differing"] == 0


def test_rebuild_makes_it_again_from_nothing_and_from_ruins(two_days: Shelf) -> None:
    run(two_days)
    run(two_days, rebuild=True)
    assert files(two_days) == published(two_days)
    folder = Path(two_days.store, "search", f"{MODEL}.lance")
    for manifest in (folder / "_versions").iterdir():
        manifest.write_bytes(b"damaged")
    with pytest.raises(JobError):
        run(two_days)
    run(two_days, rebuild=True)
    assert files(two_days) == published(two_days)
    shutil.rmtree(folder)
    run(two_days, rebuild=True)
    assert files(two_days) == published(two_days)


def test_fragments_that_were_merged_across_partitions_give_up_the_rows_of_one(two_days: Shelf) -> None:
    run(two_days)
    dataset = datasets.opened(two_days.store, MODEL)
    assert dataset is not None
    dataset.optimize.compact_files()
    assert len(dataset.get_fragments()) == 1
    two_days.publish("d1", "r3", {"u9": "z"})
    run(two_days)
    assert files(two_days) == published(two_days)


def test_runs_at_one_moment_lose_nothing_and_bring_nothing_twice(shelf: Shelf) -> None:
    for day in range(6):
        shelf.publish(f"d{day}", "r1", {f"u{n}": f"{day}-{n}" for n in range(3)})
    errors: list[BaseException] = []

    def one() -> None:
        try:
            run(shelf)
        except BaseException as error:
            errors.append(error)

    for _ in range(2):  # the second time, partitions are replaced
        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert files(shelf) == published(shelf)
        assert open_index(shelf.store, MODEL).rows == 18
        for day in range(6):
            shelf.publish(f"d{day}", "r2", {f"v{n}": f"{day}-{n}" for n in range(3)})


def test_a_publication_that_comes_while_rows_are_written_wins(two_days: Shelf) -> None:
    run(two_days)
    two_days.publish("d1", "r3", {"u9": "z"})
    published_meanwhile: list[bool] = []

    def spread(rows: int) -> writing.Spread:
        def write(units: list[writing.Unit], work: Any) -> Iterable[str]:
            found = list(work(iter(units)))
            if not published_meanwhile:
                published_meanwhile.append(True)
                two_days.publish("d1", "r4", {"u8": "y"})
            return found

        return write

    writing.reconcile(two_days.store, MODEL, spread, print)
    assert published_meanwhile
    assert files(two_days) == published(two_days)


def test_vectors_without_a_direction_are_held_and_never_found(shelf: Shelf) -> None:
    vectors = {"zero": [0.0] * 4, "not a number": [float("nan")] * 4, "good": [3.0, 0.0, 0.0, 4.0]}
    shelf.publish("d1", "r1", dict.fromkeys(vectors, "x") | {"good": "y"}, vectors=vectors)
    assert run(shelf).counts["differing"] == 0
    opened = open_index(shelf.store, MODEL)
    (found,) = opened.nearest([3.0, 0.0, 0.0, 4.0])
    assert (found.uri, round(found.similarity, 6)) == ("good", 1.0)
    assert opened.rows == 3 and opened.vector(image_id("x")) is None
    kept = opened.vector(image_id("y"))
    assert kept is not None and kept.tolist() == pytest.approx([0.6, 0, 0, 0.8])


def test_rows_are_written_by_a_process_that_knows_nothing_but_what_a_worker_is_sent(
    two_days: Shelf, tmp_path: Path
) -> None:
    from pyspark import cloudpickle

    code = packages.code(tmp_path)
    worker = (
        "import json, pickle, sys\nsys.path.insert(0, sys.argv[1])\n"
        "units, work = pickle.load(sys.stdin.buffer)\nimport spark_apps\n"
        "assert spark_apps.__file__.startswith(sys.argv[1]) and 'pyspark' not in sys.modules\n"
        "print(json.dumps(list(work(iter(units)))))"
    )

    def elsewhere(units: list[writing.Unit], work: Any) -> Iterable[str]:
        sent = cloudpickle.dumps((units, work))
        done = subprocess.run(
            [sys.executable, "-c", worker, str(code)], input=sent, cwd="/", capture_output=True, check=True
        )
        found: list[str] = json.loads(done.stdout)
        return found

    writing.reconcile(two_days.store, MODEL, lambda rows: elsewhere, print)
    assert files(two_days) == published(two_days) and writing.audit(two_days.store, MODEL) == {}


def test_a_photo_is_found_by_its_bytes(shelf: Shelf, photos: dict[str, Path]) -> None:
    artifact = model.prepare(contract.ModelSettings(model="resnet18", weights="random:0", engine="openvino"))
    kept_models.keep(shelf.store, artifact)
    extractor = extractors.opened(artifact.info, 10**7, artifact.folder)
    names = ("coffee.png", "chelsea.png", "rocket.jpg")
    vectors = {name: extractor.extract([extractor.prepare(photos[name].read_bytes())])[0].tolist() for name in names}
    options = {"vectors": vectors, "fingerprint": artifact.fingerprint}
    shelf.publish("d1", "r1", {name: name for name in names}, model=artifact.key, **options)
    index(IndexSettings(store=shelf.store, model=artifact.key), Timings())
    opened = open_index(shelf.store, artifact.key)
    found = opened.nearest(photos["chelsea.png"].read_bytes())
    assert (found[0].uri, len(found)) == ("chelsea.png", 3)
    assert found[0].similarity == pytest.approx(1, abs=1e-4) and found[1].similarity < 0.9999
    with pytest.raises(contract.BadFile):
        opened.nearest(b"no photo")


DIM, ROWS = 64, 600


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shelf, dict[tuple[str, str], np.ndarray]]:
    """Eight days of vectors, of which half are in an index for approximate search and half came after it."""
    shelf = Shelf(str(tmp_path_factory.mktemp("many") / "store"))
    random = np.random.default_rng(0)
    vectors: dict[tuple[str, str], np.ndarray] = {}
    for half in range(2):
        for day in range(4 * half, 4 * half + 4):
            of_day = {f"u{n}": random.normal(size=DIM).astype(np.float32) for n in range(ROWS // 4)}
            shelf.publish(f"d{day}", "r", {uri: f"{day} {uri}" for uri in of_day}, vectors=of_day)
            vectors |= {(f"d{day}", uri): vector / np.linalg.norm(vector) for uri, vector in of_day.items()}
        run(shelf, ann_rows=256)
    return shelf, vectors


def test_an_index_is_built_of_the_rows_that_have_a_vector_and_goes_with_the_last(shelf: Shelf) -> None:
    random = np.random.default_rng(0)
    names = [f"u{number}" for number in range(300)]

    def publish(day: str, good: int) -> str:
        vectors = {name: random.normal(size=DIM) if at < good else [0.0] * DIM for at, name in enumerate(names)}
        shelf.publish(day, f"r{random.integers(2**31)}", {name: f"{day} {name}" for name in names}, vectors=vectors)
        made: str = run(shelf, ann_rows=256).outcome["index"]
        return made

    assert publish("d1", 0) == ""
    assert publish("d1", 2) == "built"
    assert publish("d2", 0) == "" and len(open_index(shelf.store, MODEL).nearest([1.0] * DIM)) == 2
    publish("d1", 0)
    assert open_index(shelf.store, MODEL).nearest([1.0] * DIM) == []


def brute_force(vectors: dict[tuple[str, str], np.ndarray], query: np.ndarray, k: int) -> dict[tuple[str, str], float]:
    cosines = {place: float(vector @ query / np.linalg.norm(query)) for place, vector in vectors.items()}
    return dict(sorted(cosines.items(), key=lambda item: -item[1])[:k])


def test_the_index_and_the_rows_that_are_not_in_it_are_searched_as_one(many: Any) -> None:
    shelf, vectors = many
    dataset = datasets.opened(shelf.store, MODEL)
    state = dataset.stats.index_stats("vector_idx")
    assert state["num_indexed_rows"] == ROWS and state["num_unindexed_rows"] == ROWS
    opened, right = open_index(shelf.store, MODEL), 0
    for query in np.random.default_rng(1).normal(size=(10, DIM)):
        everything = brute_force(vectors, query, 2 * ROWS)
        found, compared = opened.search(query, 10)
        assert not compared.exact and compared.rows == 2 * ROWS
        similar = [one.similarity for one in found]
        assert similar == pytest.approx([everything[one.partition, one.uri] for one in found], abs=1e-5)
        assert similar == sorted(similar, reverse=True)
        right += len({(one.partition, one.uri) for one in found} & set(list(everything)[:10]))
    assert right >= 80  # of 100: codes of one bit say little of 64 numbers without any pattern


def test_a_span_of_partitions_is_compared_one_by_one(many: Any) -> None:
    shelf, vectors = many
    opened = open_index(shelf.store, MODEL)
    query = np.random.default_rng(2).normal(size=DIM)
    span = {place: vector for place, vector in vectors.items() if "d3" <= place[0] <= "d5"}
    wanted = brute_force(span, query, 20)
    found = opened.nearest(query, 20, ("d3", "d5"))
    assert {(one.partition, one.uri): pytest.approx(one.similarity, abs=1e-5) for one in found} == wanted
    limit = sorted(wanted.values())[10]
    assert len(opened.nearest(query, 20, ("d3", "d5"), min_similarity=limit)) in (9, 10)
    assert opened.nearest(query, 20, ("e", "f")) == []


@pytest.mark.parametrize("query", [[1.0], [0.0] * DIM, [float("nan")] * DIM, [[1.0] * DIM]])
def test_a_query_that_has_no_neighbours_is_refused(many: Any, query: Any) -> None:
    with pytest.raises(BadSetting):
        open_index(many[0].store, MODEL).nearest(query)


def test_a_reader_keeps_what_it_has_opened_until_it_refreshes(two_days: Shelf) -> None:
    run(two_days)
    opened = open_index(two_days.store, MODEL)
    two_days.publish("d1", "r3", {"u9": "z"})
    run(two_days)
    assert {one.uri for one in opened.nearest([1.0] * 4)} == {"u1", "u2", "u3"}
    opened.refresh()
    assert {one.uri for one in opened.nearest([1.0] * 4)} == {"u1", "u3", "u9"}


def test_without_an_index_it_is_said_how_to_make_one(two_days: Shelf) -> None:
    with pytest.raises(BadSetting) as refused:
        open_index(two_days.store, MODEL)
    assert "spark_apps.index" in refused.value.hint
    with pytest.raises(BadSetting):
        open_index(two_days.store, "../features")


def test_a_model_that_nobody_published_is_named_with_those_that_are(shelf: Shelf) -> None:
    with pytest.raises(NothingToDo, match=r"correct --store"):
        run(shelf)
    shelf.publish("d1", "r1", {"u1": "a"})
    for options in ({}, {"check": True}, {"rebuild": True}):
        with pytest.raises(NothingToDo, match=f"under other in .*Published are: {MODEL}"):
            index(IndexSettings(store=shelf.store, model="other", **options), Timings())
    with pytest.raises(BadSetting, match=f"under other in .*Published are: {MODEL}"):
        open_index(shelf.store, "other")


def test_a_relative_store_means_the_working_folder_as_for_the_jobs(
    two_days: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run(two_days)
    store = Path(two_days.store)
    monkeypatch.chdir(store.parent)
    assert search_command(["--store", store.name, "--model", MODEL, "--image-id", image_id("a")]) == 0
    assert image_id("a")[:12] in capsys.readouterr().out


def test_a_span_that_ends_before_it_begins_is_refused(two_days: Shelf, capsys: Any) -> None:
    run(two_days)
    asked = ["--store", two_days.store, "--model", MODEL, "--image-id", image_id("a"), "--from", "d2", "--to", "d1"]
    assert search_command(asked) == 2
    assert "d1 comes before d2. Give the earlier partition first." in capsys.readouterr().err


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120, cwd=REPOSITORY
    )


def test_the_commands_build_and_search(two_days: Shelf) -> None:
    place = ["--store", two_days.store, "--model", MODEL]
    built = command("spark_apps.index", *place)
    assert built.returncode == 0, built.stderr
    found = command("spark_apps.search", *place, "--image-id", image_id("a"), "-k", "2", "--json")
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)
    assert {(row["partition"], row["uri"]) for row in rows} == {("d1", "u1"), ("d2", "u1")}


def test_the_command_says_what_it_compared_and_what_is_wrong(two_days: Shelf, capsys: Any) -> None:
    run(two_days)
    capsys.readouterr()
    place = ["--store", two_days.store, "--model", MODEL]
    assert search_command([*place, "--image-id", image_id("a"), "--from", "d2"]) == 0
    said = capsys.readouterr()
    assert "d2" in said.out and "d1" not in said.out and not said.err
    assert search_command([*place, "--image-id", image_id("nowhere")]) == 2
    two_days.publish("d1", "r3", {"u9": "z"})
    assert search_command([*place, "--image-id", image_id("a"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) and "2 rows" in said.err


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on a server of S3's API that the environment leads to."""
    from urllib.request import Request, urlopen

    with s3_server() as endpoint:
        with urlopen(Request(f"{endpoint}/store", method="PUT")):
            pass
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield "s3://store/features"


def test_the_same_on_s3(bucket: str) -> None:
    shelf = Shelf(bucket)
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    run(shelf)
    assert files(shelf) == published(shelf)
    shelf.publish("d1", "r2", {"u3": "c"})
    threads = [threading.Thread(target=run, args=(shelf,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(shelf) == published(shelf)
    assert run(shelf, check=True).counts["differing"] == 0
    run(shelf, rebuild=True)
    assert files(shelf) == published(shelf)
