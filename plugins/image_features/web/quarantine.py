"""The quarantined files of a run, in pages, with the reason of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from image_features.web import run_documents, store_state
from image_features.web.answers import QuarantinedFile, QuarantinePage
from image_features.web.caches import Sized
from image_features.web.run_lookup import Run, located
from image_features.web.stores import Place
from image_features.wording import name_of, redacted
from spark_apps import catalog, contract

FILES_PER_PAGE = 25
NO_HINT = "No advice for this code; a newer version may have some."

_quarantines: Sized[tuple[Place, str, str], pa.Table] = Sized(64 * 2**20, lambda table: table.nbytes)


def page(dag_id: str, dag_run_id: str, part: str | None, number: int) -> QuarantinePage:
    """A page of what the run quarantined. Raises Refused."""
    run = located(dag_id, dag_run_id, part)
    with store_state.reading(run.place):
        staged = [
            file.path
            for manifest in _quarantining(run)
            if manifest
            for file in catalog.with_lists(manifest, run.place.store).staged.get("quarantine", [])
        ]
        key = run.place, run.partition, hashlib.sha256("\n".join(sorted(staged)).encode()).hexdigest()
        rows = _quarantines.get(key, lambda: _set_aside(run, staged))
        pages = max(1, -(-rows.num_rows // FILES_PER_PAGE))
        chosen = rows.slice((min(number, pages) - 1) * FILES_PER_PAGE, FILES_PER_PAGE).to_pylist()
        return QuarantinePage(
            partition=run.partition,
            page=min(number, pages),
            pages=pages,
            total=rows.num_rows,
            files=[_file(row, run.source) for row in chosen],
        )


def _quarantining(run: Run) -> list[contract.Manifest | None]:
    """The manifests that name the files with this run's quarantine: that of extract, and of the ingest it went by."""
    ingest, extract = run.manifests["ingest"], run.manifests["extract"]
    if extract and not (ingest and ingest.attempt == extract.outcome.get("ingest_attempt")):
        ingest = _ingest_of(run, extract) or ingest
    return [ingest, extract]


def _ingest_of(run: Run, extract: contract.Manifest) -> contract.Manifest | None:
    """None as well where the documents are damaged."""
    try:
        job = contract.Settings(
            store=run.place.store,
            partition=run.partition,
            run_id=extract.run_id,
            dag_id=extract.dag_id or "",
            map_index=extract.map_index,
            branch=extract.branch,
        )
        return run_documents.checked(catalog.ingest_of(job, extract))
    except (TypeError, ValueError, contract.BadSetting):
        return None


def _set_aside(run: Run, staged: list[str]) -> pa.Table:
    """The rows of the staged files; of the table where maintenance has merged those of a published run."""
    if not staged:
        return pa.table({name: pa.array([], pa.string()) for name in ("error_code", "uri")})
    rows = catalog.staged_rows(run.place.store, "quarantine", staged)
    if rows is None:
        rows = catalog.quarantine(run.place.store, run.partition)
        told = run.folder.told_dag()
        ours = all(
            run.attempt.owns(folder, dag_id=told)
            for folder in catalog.folders(run.place.store, "quarantine", run.partition)
        )
        rows = rows.filter(pc.equal(rows["run_id"], run.attempt.dag_run_id)) if ours else rows.slice(0, 0)
    return rows.sort_by([("error_code", "ascending"), ("uri", "ascending")])


def _file(row: Mapping[str, Any], source: str | None) -> QuarantinedFile:
    code = row["error_code"]
    return QuarantinedFile(
        name=name_of(row["uri"], source),
        image_id=row["image_id"],
        stage=row["stage"],
        code=code,
        message=redacted(row["error_message"] or ""),
        hint=contract.QUARANTINE_CODES.get(code, NO_HINT),
        size_bytes=row["size_bytes"],
        thumbnail=row["stage"] == "extract" and row["image_id"] is not None,
    )
