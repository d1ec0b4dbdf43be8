"""What a day in an object store costs: requests and bytes of each stage, with copies of the files and without.

    python -m benchmarks.requests --files 10000 --report var/bench/requests.json

A server of S3's API on loopback (moto) holds the files and the store, and counts. Files of 3 kB, each another one; the
extractor only looks at their length, because what is counted does not depend on it. Requests of the tables' logs and of
the run's documents are among those of the store.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import boto3
import numpy as np
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import ClosingIterator

from benchmarks.places import ROOT

FILE_BYTES = 3_000
BUCKET, SOURCE, STORE = "photos", "landing", "store"
STAGES = ("ingest", "extract", "validate")
KINDS = ("list", "head", "get", "put", "delete")
EXTRACTOR = """
import numpy as np
from spark_apps.extractors import Extractor

class Lengths(Extractor):
    name, dim = "lengths", 64

    def extract(self, items):
        return np.array([np.frombuffer(item[:64], np.uint8) for item in items], np.float32)
"""


@dataclass
class Tally:
    """Requests by (place, kind), and bytes by (place, "read" or "written"). Place: source or store."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def record(self, files: int) -> dict[str, dict[str, float]]:
        """For each file."""
        found: dict[str, dict[str, float]] = {}
        for counts in (self.requests, self.bytes):
            for (place, kind), count in sorted(counts.items()):
                found.setdefault(place, {})[kind] = round(count / files, 4)
        return found


class Counting:
    """The server, which notes each request before it answers."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path, asked = environ["PATH_INFO"], parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        prefix = asked.get("prefix", [path.removeprefix(f"/{BUCKET}/")])[0]
        place = "source" if prefix.startswith(SOURCE) else "store"
        sent = environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH") or environ.get("CONTENT_LENGTH") or 0
        tally = self.tally
        answer = list(self._application(environ, start))
        with self._lock:
            tally.requests[place, kind(environ["REQUEST_METHOD"], asked)] += 1
            if environ["REQUEST_METHOD"] in ("PUT", "POST"):
                tally.bytes[place, "written"] += int(sent)
            if environ["REQUEST_METHOD"] == "GET":
                tally.bytes[place, "read"] += sum(map(len, answer))
        return ClosingIterator(answer)


def kind(method: str, asked: dict[str, list[str]]) -> str:
    """A request as Amazon bills it; the three of a file that is written in parts are three puts."""
    if method == "GET":
        return "list" if "list-type" in asked else "get"
    return {"HEAD": "head", "DELETE": "delete"}.get(method, "delete" if "delete" in asked else "put")


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def server() -> Iterator[tuple[str, Counting]]:
    """Its address."""
    counting = Counting()
    serving = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}", counting
    finally:
        serving.shutdown()
        thread.join()


def day(content: str, files: int, folder: Path) -> dict[str, Tally]:
    """One day of `files`, ingested with `--content`; what each stage asked for."""
    module = folder / "lengths.py"
    module.write_text(EXTRACTOR)
    with server() as (endpoint, counting):
        access = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "a secret",
            "AWS_REGION": "us-east-1",
        }
        keys = {"aws_access_key_id": "somebody", "aws_secret_access_key": "a secret"}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        with urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")):  # servers of a process share all
            pass
        client.create_bucket(Bucket=BUCKET)
        chance = np.random.default_rng(0)
        for number in range(files):
            client.put_object(Bucket=BUCKET, Key=f"{SOURCE}/{number:06}", Body=chance.bytes(FILE_BYTES))
        common = ["--store", f"s3://{BUCKET}/{STORE}", "--partition", "d1", "--run-id", "r"]
        own = {
            "ingest": ["--source", f"s3://{BUCKET}/{SOURCE}", "--content", content],
            "extract": [],
            "validate": ["--max-drift", "1"],
        }
        found = {}
        for stage in STAGES:
            chosen = [] if stage == "validate" else ["--extractor", f"{module}:Lengths"]
            counting.tally = Tally()
            command = [sys.executable, "-m", f"spark_apps.{stage}", *common, *own[stage], *chosen]
            subprocess.run(command, cwd=ROOT, env={**os.environ, **access}, check=True, stdout=subprocess.DEVNULL)
            found[stage] = counting.tally
        return found


def table(found: dict[str, dict[str, Tally]], files: int) -> str:
    """A row for each stage, way and place: requests and bytes for each file."""
    lines = [
        f"| content | stage | place | {' | '.join(KINDS)} | bytes read | bytes written |",
        "|---" * (len(KINDS) + 5) + "|",
    ]
    for content, stages in found.items():
        for stage, tally in stages.items():
            for place in ("source", "store"):
                counts = [f"{tally.requests[place, name] / files:.4g}" for name in KINDS]
                sizes = [f"{tally.bytes[place, name] / files:,.0f}" for name in ("read", "written")]
                lines.append(f"| {content} | {stage} | {place} | {' | '.join([*counts, *sizes])} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--report", type=Path, help="where the numbers go as JSON")
    options = parser.parse_args()
    found = {}
    for content in ("keep", "reference"):
        with tempfile.TemporaryDirectory() as folder:
            found[content] = day(content, options.files, Path(folder))
    print(f"{options.files:,} files of {FILE_BYTES:,} bytes; for each file:\n\n{table(found, options.files)}")
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        record = {
            content: {stage: tally.record(options.files) for stage, tally in stages.items()}
            for content, stages in found.items()
        }
        options.report.write_text(json.dumps({"files": options.files, "for_each": record}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
