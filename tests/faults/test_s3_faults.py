"""An S3 that is busy, drops connections, loses answers or stalls: a stage copes, or ends in exit code 4 and no harm."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from spark_apps import catalog, contract, storage
from spark_apps.contract import STAGES, ExitCode, Unreachable
from spark_apps.ingest import ingest
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.storage import filesystems
from spark_apps.tables import commits, schemas, staging
from tests.faults.day import PARTITION, Day, Truth
from tests.faults.in_process import InThisProcess
from tests.faults.jobs import Job
from tests.faults.proxy import FAULTS, FaultyProxy
from tests.faults.reader import Reader

BUCKET = "photos"
STORE = f"s3://{BUCKET}/store"
TRIES = 6


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A healthy proxy in front of an S3 server with an empty bucket; the environment points to it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    client(f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    with FaultyProxy(host, port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
        proxy.faults = {}
    server.stop()


def client(endpoint: str):  # type: ignore[no-untyped-def]
    return boto3.client("s3", region_name="us-east-1", endpoint_url=endpoint)


def upload(day: Day, proxy: FaultyProxy) -> Truth:
    """Makes the bucket's day equal to the folder; what a run must publish then, by the uris of the bucket."""
    s3, prefix = client(proxy.url), f"landing/{PARTITION}/"
    old = {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])}
    for path in day.folder.iterdir():
        s3.put_object(Bucket=BUCKET, Key=prefix + path.name, Body=path.read_bytes())
        old.discard(prefix + path.name)
    for key in old:
        s3.delete_object(Bucket=BUCKET, Key=key)
    names = {path.as_uri(): f"s3://{BUCKET}/{prefix}{path.name}" for path in day.folder.iterdir()}
    truth = day.truth()
    parts = (truth.featured, truth.quarantined, truth.images)
    return Truth(*({names[uri]: value for uri, value in part.items()} for part in parts))


def attempts(stage: str, run_id: str, logs: Path, healed: Callable[[], None] = lambda: None) -> list[int]:
    """Exit codes of the attempts at a stage, up to the one that succeeded; `healed` is called after a failure."""
    codes: list[int] = []
    while len(codes) < TRIES:
        job = Job(stage, run_id, STORE, logs=logs, source=f"s3://{BUCKET}/landing/{{partition}}")
        codes.append(job.wait())
        job.gone()
        if codes[-1] == ExitCode.DONE:
            return codes
        assert codes[-1] == ExitCode.UNREACHABLE, f"{stage} ended with {codes[-1]}:\n{job.last_words}"
        assert "Traceback" not in job.log.splitlines()[-1]
        healed()
    raise AssertionError(f"{stage} did not succeed in {TRIES} tries: {codes}\n{job.last_words}")


# --- the clients, one call at a time ----------------------------------------------------------------------------------


def calls() -> dict[str, Callable[[], object]]:
    """One call of each kind that the jobs make."""
    return {
        "read": lambda: storage.read_bytes(f"s3://{BUCKET}/there.json"),
        "write": lambda: storage.write_bytes(f"s3://{BUCKET}/new.json", b"{}"),
        "list": lambda: catalog.runs(STORE, PARTITION),
        "open": lambda: catalog.table(STORE, "images"),
        "commit": lambda: publish("run"),
    }


def publish(run_id: str) -> None:
    """Stages one row for each table, and publishes them."""
    settings = contract.IngestSettings(store=STORE, partition=PARTITION, run_id=run_id, source=f"s3://{BUCKET}/x")
    rows = {"images": {"content": b"x"}, "quarantine": {}, "features": {"features": [1.0]}}
    staged = {}
    for name, row in rows.items():
        with staging.StagedWriter(STORE, schemas.TABLES[name], staging.folder(settings)) as writer:
            writer.add({"uri": "u", "image_id": "i", "run_id": run_id, **row}, 1)
        staged[name] = writer.files
    commits.Replacement(STORE, PARTITION, "model", run_id, staged, {}).commit()


QUICK = ("cut", "stall")


@pytest.mark.parametrize(
    "fault", [fault if fault in QUICK else pytest.param(fault, marks=pytest.mark.slow_faults) for fault in FAULTS]
)
def test_a_store_that_always_fails_is_unreachable_within_bounds(
    fault: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call ends by itself; with a tenth of the time-outs here, the bound is a tenth of the real one."""
    publish("before")
    storage.write_bytes(f"s3://{BUCKET}/there.json", b"{}")
    monkeypatch.setattr(filesystems, "REQUEST_TIMEOUT_S", 1)
    monkeypatch.setattr(filesystems, "CONNECT_TIMEOUT_S", 1)
    filesystems._s3.cache_clear()
    for name, call in calls().items():
        if (fault, name) == ("cut", "write"):
            continue  # the answers to writing small files have no body that could be cut
        proxy.faults = {fault: 1.0}
        begin = time.monotonic()
        with pytest.raises(Unreachable) as caught, storage.reaching("store", STORE):
            call()
        assert time.monotonic() - begin < 60, name
        assert STORE in caught.value.message and "\x1b" not in caught.value.message
        proxy.faults = {}
        call()
    filesystems._s3.cache_clear()


@pytest.mark.slow_faults
def test_an_answer_lost_after_the_commit_was_made_does_no_harm(proxy: FaultyProxy) -> None:
    """The writer cannot know whether its commit counts, and finds out; rows are there once, whoever else publishes."""
    for trial in range(6):
        proxy.faults = {"lost": 0.3}
        writers = [threading.Thread(target=publish_until_done, args=(f"{trial} {name}",)) for name in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        proxy.faults = {}
        (image,) = catalog.images(STORE, PARTITION)["run_id"].to_pylist()
        (refused,) = catalog.quarantine(STORE, PARTITION)["run_id"].to_pylist()
        (vector,) = catalog.vectors(STORE, PARTITION, "model")["run_id"].to_pylist()
        assert image == refused == vector
    assert proxy.tally["lost"] > 10


def publish_until_done(run_id: str) -> None:
    """As a stage and its retries do; each try stages anew."""
    while True:
        try:
            with storage.reaching("store", STORE):
                publish(run_id)
                return
        except Unreachable:
            continue


# --- the jobs ---------------------------------------------------------------------------------------------------------


def test_each_stage_says_that_the_network_is_cut_and_goes_on_when_it_is_back(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends before the first answer, in this process with short time-outs; the jobs go on as commands."""
    day, reader = Day(tmp_path / "landing"), Reader(STORE)
    reader.truths["run"] = upload(day, proxy)
    monkeypatch.setattr(filesystems, "REQUEST_TIMEOUT_S", 1)
    monkeypatch.setattr(filesystems, "CONNECT_TIMEOUT_S", 1)
    filesystems._s3.cache_clear()
    jobs = InThisProcess(day, STORE)
    cut: dict[str, Callable[[], object]] = {
        "ingest": lambda: ingest(
            contract.IngestSettings(source=f"s3://{BUCKET}/landing/{{partition}}", **jobs.common("run")), Timings()
        ),
        "extract": lambda: jobs.extract("run"),
        "validate": lambda: jobs.validate("run"),
        "maintain": lambda: maintain(contract.MaintainSettings(store=STORE), Timings()),
    }
    for stage, work in cut.items():
        proxy.faults = {"reset": 1.0}
        with pytest.raises(Unreachable, match=STORE if stage != "ingest" else BUCKET):
            work()
        proxy.faults = {}
        if stage in STAGES:
            assert attempts(stage, "run", tmp_path) == [ExitCode.DONE]
        else:
            work()
    reader.settled("run")
    filesystems._s3.cache_clear()


@pytest.mark.slow_faults
@pytest.mark.timeout(3600)
def test_jobs_on_an_unreliable_store_come_through(
    proxy: FaultyProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One request in five goes wrong in some way. What a reader sees is read past the proxy's faults."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    day, reader = Day(tmp_path / "landing"), Reader(STORE)
    tally: Counter[tuple[str, int]] = Counter()
    for number in range(2):
        run_id = f"run {number}"
        day.change(chance)
        reader.truths[run_id] = upload(day, proxy)
        for stage in STAGES:
            proxy.faults = {"busy": 0.08, "reset": 0.05, "lost": 0.05, "cut": 0.02}
            before = reader.truths and number and f"run {number - 1}"
            codes = attempts(stage, run_id, tmp_path)
            proxy.faults = {}
            tally.update((stage, code) for code in codes)
            if stage != "validate" and before:
                assert reader.look() == before
        reader.settled(run_id)
    with capsys.disabled():
        print(f"\nseed {seed}; requests {dict(proxy.tally)}; exit codes {dict(tally)}")


@pytest.mark.slow_faults
@pytest.mark.timeout(3600)
def test_jobs_outlast_a_stall_in_their_midst(proxy: FaultyProxy, tmp_path: Path) -> None:
    """Nothing is answered for 40 s, less than any client waits; then all goes on."""
    day, reader = Day(tmp_path / "landing"), Reader(STORE)
    reader.truths["run"] = upload(day, proxy)
    for stage, after_s in {"ingest": 5.0, "extract": 8.0, "validate": 3.0}.items():
        begin = threading.Timer(after_s, lambda: setattr(proxy, "faults", {"stall": 1.0}))
        end = threading.Timer(after_s + 40, lambda: setattr(proxy, "faults", {}))
        begin.start()
        end.start()
        codes = attempts(stage, "run", tmp_path)
        begin.cancel()
        end.join()
        assert codes[-1] == ExitCode.DONE
    reader.settled("run")
