"""What the demo's runs brought: read back from the store, checked against the landing folder, shown as a table."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow.compute as pc

from spark_apps import catalog, contract


@dataclass(frozen=True)
class DayResult:
    """One published day. `seconds`: wall time of each stage; `images_per_second`: photos per second of `extract`."""

    partition: str
    listed: int
    featured: int
    quarantined: dict[str, int]
    reused: int
    seconds: dict[str, float]
    images_per_second: float
    weights: str
    model_fingerprint: str
    model: str

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "partition"}


class NotAccountedFor(Exception):
    """A day was not published whole; the message says what is wrong with it."""


def read(store: str, partition: str, run_id: str, landing: Path) -> DayResult:
    """The result of one day.

    Raises:
        NotAccountedFor: a stage did not finish, another run is published, or the files in `landing` and the published
            rows (features and quarantine together) are not the same, each exactly once.
    """
    manifests = {stage: catalog.manifest(store, partition, run_id, stage) for stage in contract.STAGES}
    ingest, extract, validate = (manifests[stage] for stage in contract.STAGES)
    if ingest is None or extract is None or validate is None or extract.model is None:
        absent = [stage for stage, manifest in manifests.items() if manifest is None]
        raise NotAccountedFor(f"{partition}: no manifest of {', '.join(absent) or 'a model'}.")
    model = extract.model.key
    published = [entry.run_id for entry in catalog.partitions(store, model) if entry.partition == partition]
    if published != [run_id]:
        raise NotAccountedFor(f"{partition}: published is run {published or 'none'}, not {run_id}.")
    featured = catalog.vectors(store, partition, model, ["uri"])["uri"].to_pylist()
    refused = catalog.quarantine(store, partition).to_pylist()
    account(partition, landing, featured, [row["uri"] for row in refused])
    codes = sorted(row["error_code"] for row in refused)
    seconds = {stage: manifest.seconds["total"] for stage, manifest in manifests.items() if manifest}
    return DayResult(
        partition=partition,
        listed=ingest.counts["listed"],
        featured=len(featured),
        quarantined={code: codes.count(code) for code in dict.fromkeys(codes)},
        reused=extract.counts.get("reused", 0),
        seconds=seconds,
        images_per_second=round(len(featured) / seconds["extract"], 1),
        weights=extract.model.weights,
        model_fingerprint=extract.model.fingerprint,
        model=model,
    )


def account(partition: str, landing: Path, featured: list[str], refused: list[str]) -> None:
    """Compares the uris of the published rows with the files that really lie in `landing`.

    Raises:
        NotAccountedFor: a file is missing, appears twice, or was never there.
    """
    files = {str(path) for path in landing.rglob("*") if path.is_file() and not path.name.startswith(".")}
    rows = sorted(unquote(urlsplit(uri).path) for uri in featured + refused)
    lost, invented = files - set(rows), set(rows) - files
    doubled = {path for path, following in itertools.pairwise(rows) if path == following}
    for problem, paths in (("neither featured nor quarantined", lost), ("not there", invented), ("doubled", doubled)):
        if paths:
            names = ", ".join(sorted(Path(path).name for path in paths)[:5])
            raise NotAccountedFor(f"{partition}: {len(paths)} of {len(files)} files {problem}: {names}.")


def summarise(results: list[DayResult], path: Path) -> None:
    """Writes the results as JSON, keyed by partition."""
    path.write_text(json.dumps({result.partition: result.to_json() for result in results}, indent=1) + "\n")


def duplicates(store: str, model: str) -> str:
    """What the days' last look at duplicates has found."""
    rows = catalog.dataset(store, "duplicates", {"model": model}).to_table(columns=["model", "keeper"])
    keepers = rows.filter(pc.equal(rows["model"], model))["keeper"].to_pylist()
    groups, files = sum(keepers), len(keepers)
    return (
        f"{files} files show {groups} pictures, so {files - groups} could be spared; "
        "the page Duplicates of `make up` shows them side by side"
    )


def table(results: list[DayResult]) -> str:
    """The results as aligned text, one line per day."""
    head = ["day", "listed", "featured", "reused", "images/s", *(f"{stage} s" for stage in contract.STAGES)]
    lines: list[list[str]] = []
    for result in results:
        numbers = [str(result.listed), str(result.featured), str(result.reused), f"{result.images_per_second:.1f}"]
        times = [f"{result.seconds[stage]:.1f}" for stage in contract.STAGES]
        reasons = ", ".join(f"{count} {code}" for code, count in result.quarantined.items())
        total = sum(result.quarantined.values())
        lines.append([result.partition, *numbers, *times, f"{total}: {reasons}" if total else "0"])
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def row(cells: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=False))
        )

    rows = [f"{row(line)}  {line[-1]}" for line in lines]
    title = f"{row(head)}  quarantined"
    return "\n".join([title, "─" * max(map(len, [title, *rows])), *rows])
