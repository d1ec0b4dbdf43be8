"""Undo: puts back what was published of a partition before the current run, in one new commit per table.

Nothing is computed or copied: the files of the former run are named again. With --list it only shows what was
published. A second undo goes one run further back; --to-version goes anywhere, forward too.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from deltalake.exceptions import DeltaError

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting, ExitCode, JobError, NothingToDo, UndoSettings
from spark_apps.erasure import data
from spark_apps.erasure.heeding import heeding
from spark_apps.spark import jobs
from spark_apps.tables import commits, data_files, schemas, tombstones


def undo(settings: UndoSettings) -> str:
    """Puts a former publication of (partition, model) back and says so in a sentence.

    Raises:
        BadSetting: there is no such publication, or its files are gone.
        NothingToDo: it is what is published.
        JobError: another run published the partition at the same moment.
        Unreachable: the store cannot be used.
    """
    published = _published(settings)
    current, target = published[0], _target(settings, published)
    ends = _ends(settings)
    former = _publication(settings, ends, target, current)
    with storage.reaching("store", settings.store):
        if gone := _gone(former):
            raise _vacuumed(target, gone)
        _refuse_erased(former)
        former.commit()
        if gone := _gone(former):  # a maintenance that had judged them before they were named again
            _publication(settings, ends, current, current).commit()
            raise _vacuumed(target, gone)
        shown = _published(settings)[0]
    if shown.run_id != target.run_id or shown.origin != target.origin:
        raise JobError(
            "overtaken",
            f"Run {shown.run_id} published {settings.partition} at the same moment, and stands.",
            "Look at --list, and undo again if that run is to go too.",
        )
    return (
        f"{settings.partition} of {settings.model} is run {target.run_id} again ({shown.rows:,} rows), as version "
        f"{shown.version}. To take this back: --to-version {current.origin}."
    )


def listing(settings: UndoSettings) -> str:
    """A table of what was published of (partition, model), newest first, and which of it can be put back."""
    published, ends = _published(settings), _ends(settings)
    rows = [("version", "published (UTC)", "run", "rows", "state")]
    for item in published:
        state = "can be put back"
        if item is published[0]:
            state = "published now"
        else:
            try:
                if gone := _gone(_publication(settings, ends, item, published[0])):
                    state = f"gone: maintenance has removed {sum(map(len, gone.values()))} files"
            except BadSetting as error:
                state = f"gone: {error.message}"
        if item.restored is not None:
            state += f", an undo back to {item.restored}"
        if warnings := item.facts.get("warnings"):
            state += f", with warnings ({warnings})"
        rows.append((str(item.version), f"{item.at:%Y-%m-%d %H:%M:%S}", item.run_id, f"{item.rows:,}", state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _published(settings: UndoSettings) -> list[catalog.Publication]:
    found = catalog.publications(settings.store, settings.partition, settings.model)
    if found:
        return found
    known = sorted({item.model for item in catalog.partitions(settings.store) if item.partition == settings.partition})
    raise BadSetting(
        "never_published",
        f"The store {settings.store} has no publication of {settings.partition} under the model {settings.model}.",
        f"Published under {settings.partition}: {', '.join(known) or 'nothing'}.",
    )


def _target(settings: UndoSettings, published: list[catalog.Publication]) -> catalog.Publication:
    current = published[0]
    if settings.to_version:
        chosen = [item for item in published if item.version == settings.to_version]
        if not chosen:
            raise BadSetting(
                "unknown_version",
                f"Version {settings.to_version} published nothing of {settings.partition} under {settings.model}.",
                "Take one that --list shows.",
            )
        if chosen[0].origin == current.origin:
            raise NothingToDo("nothing_to_undo", f"Version {settings.to_version} is what is published already.")
        return chosen[0]
    earlier = [item for item in published if item.restored is None and item.version < current.origin]
    if not earlier:
        raise BadSetting(
            "nothing_to_undo",
            f"There is nothing to go back to: run {current.run_id} is the first that the log knows to have published "
            f"{settings.partition} under {settings.model}.",
            "Run the partition again to replace it.",
        )
    return earlier[0]


def _ends(settings: UndoSettings) -> dict[str, dict[int, int]]:
    """For each table: ticket of a publication → the last version that shows it."""
    return {
        name: {
            item.ticket: item.until
            for item in catalog.publications(settings.store, settings.partition, settings.model, name)
        }
        for name in schemas.TABLES
    }


def _publication(
    settings: UndoSettings, ends: dict[str, dict[int, int]], item: catalog.Publication, current: catalog.Publication
) -> commits.Replacement:
    """The publication that shows `item` again: the files of all tables in the last version that showed it."""
    staged: contract.Staged = {}
    everything = {"partition": settings.partition, "model": settings.model}
    for table in schemas.TABLES.values():
        if item.ticket not in ends[table.name]:
            raise _forgotten(item)
        try:
            delta = catalog.table(settings.store, table.name, ends[table.name][item.ticket])
        except contract.Unreachable as error:
            if isinstance(error.__cause__, DeltaError):
                raise _forgotten(item) from error
            raise
        if delta is None:
            raise _forgotten(item)
        files = data_files.published(delta, {key: everything[key] for key in table.keys})
        with storage.reaching("store", settings.store):
            staged[table.name] = data_files.without_erased(settings.store, table, files)
    facts = {**item.facts, "restored": str(item.origin), "replaced_run_id": current.run_id}
    return commits.Replacement(settings.store, settings.partition, settings.model, item.run_id, staged, facts)


def _gone(publication: commits.Replacement) -> dict[str, list[str]]:
    """The files of a publication that are no longer there, by table."""
    with storage.reaching("store", publication.store):
        found = {
            name: data_files.missing(publication.store, schemas.TABLES[name], [file.path for file in files])
            for name, files in publication.staged.items()
        }
    return {name: paths for name, paths in found.items() if paths}


def _refuse_erased(former: commits.Replacement) -> None:
    """Raises JobError: files of a publication still hold photos that were erased."""
    stones = tombstones.read(former.store)
    files = [data.Lying(schemas.TABLES[name], file.path) for name, staged in former.staged.items() for file in staged]
    if stones and data.look(former.store, files, stones).hit:
        raise JobError(
            "erasure_unfinished",
            f"Run {former.run_id} had published photos that were erased since, and are not removed everywhere yet.",
            "Run spark_apps.erase --store alone, which finishes that, and undo again.",
        )


def _vacuumed(item: catalog.Publication, gone: dict[str, list[str]]) -> BadSetting:
    files = " and ".join(f"{len(paths):,} {name}" for name, paths in gone.items())
    return BadSetting(
        "version_vacuumed",
        f"Version {item.version} (run {item.run_id}) cannot be put back: maintenance has removed {files} files of it.",
        "Take another version that --list shows, or run the partition again. What is published stays.",
    )


def _forgotten(item: catalog.Publication) -> BadSetting:
    return BadSetting(
        "version_forgotten",
        f"Version {item.version} (run {item.run_id}) cannot be put back: the log no longer lists its files.",
        "Take another version that --list shows, or run the partition again. What is published stays.",
    )


def put_back(settings: UndoSettings, timings: jobs.Timings) -> contract.Manifest:
    """`undo` as a job. The manifest says what readers see now, as that of the run did which had published it.

    Raises:
        JobError: as `undo`.
    """
    print(undo(settings))
    shown = _published(settings)[0]
    (standing,) = (
        item for item in catalog.partitions(settings.store, settings.model) if item.partition == settings.partition
    )
    report = catalog.document_in(settings.store, settings.partition, standing.folder, "report.json") or {}
    changed = catalog.changes_of(settings.store, settings.partition, settings.model, shown.version)
    warned = contract.warned(report.get("checks", []))
    return timings.manifest(
        "undo",
        settings,
        counts={**report.get("counts", {}), "featured": standing.rows},
        model=contract.ModelInfo.from_record({"fingerprint": "", **report.get("model", {}), "key": settings.model}),
        outcome={
            "verdict": contract.WITH_WARNINGS if warned else contract.PUBLISHED,
            "warnings": warned,
            "table_versions": {schemas.FEATURES.name: shown.version},
            "report": contract.join(settings.store, "runs", settings.partition, standing.folder, "report.json"),
            "drift": report.get("drift", {}).get("value"),
            "run_id": standing.run_id,
            **({"changes": changed.to_record()} if changed else {}),
        },
    )


def main() -> int:
    if "--list" not in sys.argv[1:]:
        return jobs.run("undo", UndoSettings, heeding(put_back), __doc__)
    try:
        print(listing(contract.parse(UndoSettings, sys.argv[1:], "spark_apps.undo", (__doc__ or "").split("\n")[0])))
    except JobError as error:
        print(f"undo failed: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


if __name__ == "__main__":
    from spark_apps.undo import main as entry

    sys.exit(entry())
