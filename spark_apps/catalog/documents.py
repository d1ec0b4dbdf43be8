"""Reading what the runs have left in a store as documents: manifests, reports, errors, kept models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.storage import folders
from spark_apps.tables import staged_lists


def model_folder(store: str, fingerprint: str, keep: Path, text: bool = False) -> Path | None:
    """A folder of this machine with the kept model and its `model.json`; None when it was not kept.

    `keep`: where its files are copied to when the store is on another machine: those that make vectors of photos, or
    with `text` those that make them of words.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", fingerprint):
        return None
    uri = contract.join(store, "models", fingerprint)
    with storage.reaching("store", store):
        record = storage.read_json(contract.join(uri, "model.json"))
        if record is None:
            return None
        if storage.is_local(uri):
            return Path(storage.filesystem(uri)[1])
        info = contract.ModelInfo.from_record(record)
        for name in [*(info.text_files if text else info.files), "model.json"]:
            if (
                name in ("", ".", "..") or Path(name).name != name
            ):  # whoever wrote the document may mean another's files
                raise ValueError(f"{name!r} is not a file of the model {fingerprint}")
            (keep / name).write_bytes(storage.read_bytes(contract.join(uri, name)))
    return keep


def runs(store: str, partition: str) -> list[str]:
    """The folder names of the runs of one partition, as `contract.RunKey.folder` has them."""
    folder = contract.join(store, "runs", contract.check_partition(partition))
    with storage.reaching("store", store):
        filesystem, path = storage.filesystem(folder)
        found = folders.inside(filesystem, path)
    return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)


def manifest(store: str, partition: str, run: str | contract.RunKey, stage: str) -> contract.Manifest | None:
    """What `stage` of a run left behind; None while it has not finished. `run`: as in `document`."""
    record = document(store, partition, run, f"{stage}.json")
    return None if record is None else staged_lists.with_lists(contract.Manifest.from_record(record), store)


def stage_of(job: contract.Settings, stage: str, attempt: str = "") -> contract.Manifest | None:
    """The manifest of an earlier stage of the run of `job`, of one attempt or the last; None without one.

    It lies with the job, or where its branch or mapping began. A run of a Dag that was begun before Dags were told
    apart lies under its run id alone; what a command line has left there is not of the Dag.
    """
    name = f"{stage}_{attempt}" if attempt else stage
    for run in job.run.sources(stage):
        if found := manifest(job.store, job.partition, run, name):
            return found
    if not job.dag_id or job.branch:
        return None
    record = document_in(job.store, job.partition, contract.path_safe(job.run_id), f"{name}.json")
    found = None if record is None else staged_lists.with_lists(contract.Manifest.from_record(record), job.store)
    return found if found and found.dag_id is None else None


def ingest_of(job: contract.Settings, extracted: contract.Manifest) -> contract.Manifest | None:
    """The manifest of ingest that an extract went by: the last attempt at ingest may have been another.

    Raises ValueError or TypeError when what extract says of it is damaged.
    """
    if "ingested" in extracted.outcome:  # version 0.1 kept the whole of it
        return contract.Manifest.from_record(extracted.outcome["ingested"])
    attempt = extracted.outcome.get("ingest_attempt", "")
    if not re.fullmatch(r"[0-9a-f]*", attempt):
        raise ValueError(f"{attempt!r} is not an attempt at ingest")
    return stage_of(job, "ingest", attempt)


def error(store: str, partition: str, run: str | contract.RunKey) -> dict[str, Any] | None:
    """The `error.json` of a run: stage, code, message, hint, exit_code, at; None when it has not failed."""
    record: dict[str, Any] | None = document(store, partition, run, "error.json")
    return record


def report(store: str, partition: str, run: str | contract.RunKey) -> dict[str, Any] | None:
    """The quality report of a run; None while there is none."""
    record: dict[str, Any] | None = document(store, partition, run, "report.json")
    return record


def document(store: str, partition: str, run: str | contract.RunKey, name: str) -> Any | None:
    """A JSON file of a run's folder; None when there is none. Raises ValueError when it is half-written.

    `run` is a `contract.RunKey`, or a run id: then the run of that id from the command line, else the one Dag's that
    has such a run.

    Raises:
        BadSetting: several Dags have a run of that id.
    """
    found = document_in(store, partition, contract.run_key(run).folder, name)
    if found is not None or not isinstance(run, str):
        return found
    end = "." + contract.RunKey(run, "any").folder.split(".")[1]
    of_dags = [folder for folder in runs(store, partition) if folder.count(".") == 1 and folder.endswith(end)]
    if len(of_dags) > 1:
        raise contract.BadSetting(
            "ambiguous_run",
            f"{len(of_dags)} Dags have a run {run} for partition {partition}.",
            "Say which with contract.RunKey(run_id, dag_id).",
        )
    return document_in(store, partition, of_dags[0], name) if of_dags else None


def document_in(store: str, partition: str, folder: str, name: str) -> Any | None:
    """The same by the name of the folder, as `runs` and `Partition.folder` have it."""
    with storage.reaching("store", store):
        return storage.read_json(contract.join(store, "runs", contract.check_partition(partition), folder, name))


def left_by(job: contract.JobSettings, name: str) -> Any | None:
    """A JSON file that a job left in its folder; None when there is none. Raises ValueError when it is half-written."""
    return left_in(job.store, job.folder, name)


def left_in(store: str, folder: str, name: str) -> Any | None:
    """The same by the folder's place in the store, as `contract.run_folder` gives it."""
    with storage.reaching("store", store):
        return storage.read_json(contract.join(folder, name))
