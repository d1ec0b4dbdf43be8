"""Index: brings what is published of a model into its search index, and takes out what is no longer published.

Safe to run at any time and again: what is published stays as it is whatever happens here. With --check it only says in
how many rows the index differs, with --rebuild it makes it anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import time
from collections.abc import Callable, Iterable, Iterator

from spark_apps import catalog
from spark_apps.contract import IndexSettings, Manifest
from spark_apps.erasure.heeding import heeding
from spark_apps.search import ann, datasets, writing
from spark_apps.search.reading import reading
from spark_apps.spark import contexts, jobs

UNITS_PER_TASK = 64


def index(settings: IndexSettings, timings: jobs.Timings) -> Manifest:
    """Brings the search index of a model up to what is published.

    The manifest's counts: rows `brought` in and `removed`, `differing` rows that are left (0, unless others publish
    meanwhile), `indexed` and `unindexed` rows of the index for approximate nearest neighbours.

    Raises:
        BadSetting: the run's extract has not finished, or Lance is not installed.
        NothingToDo: nothing of the model is published, and there is no index of it.
        JobError: others publish faster than this could bring in.
        Unreachable: the store cannot be used.
    """
    model = jobs.model_of(settings)
    datasets.lance()
    with reading(settings.store):
        if not datasets.exists(settings.store, model) and not catalog.partitions(settings.store, model):
            raise catalog.never_published(settings.store, model)
        if settings.check:
            with timings.phase("check"):
                differing = writing.audit(settings.store, model)
            for key, rows in differing.items():
                _say(f"{key}: {rows:,} rows differ")
            return _manifest(settings, timings, model, writing.Done(after=sum(differing.values())), "")
        with timings.phase("rows"):
            bring = writing.rebuild if settings.rebuild else writing.reconcile
            done = bring(settings.store, model, lambda rows: _spread(rows, settings.driver_rows), _say)
        with timings.phase("index"):
            built = _keep_up(settings, model)
        with timings.phase("tidy"):
            writing.tidy(settings.store, model)
    return _manifest(settings, timings, model, done, built)


def _keep_up(settings: IndexSettings, model: str) -> str:
    """What became of the index for approximate nearest neighbours. Without it, searches are slower and as right."""
    dataset = datasets.opened(settings.store, model)
    if dataset is None:
        return ""
    try:
        return ann.keep_up(dataset, settings.ann_rows)
    except OSError as error:
        from lance.commit import CommitConflictError

        if not isinstance(error, CommitConflictError):
            raise
        _say("Another run changed the rows meanwhile; the next run goes on with the index.")
        return "left"


def _manifest(settings: IndexSettings, timings: jobs.Timings, model: str, done: writing.Done, built: str) -> Manifest:
    dataset = datasets.opened(settings.store, model)
    now = ann.state(dataset) if dataset is not None else ann.State()
    return timings.manifest(
        "index",
        settings,
        counts={
            "brought": done.brought,
            "removed": done.removed,
            "differing": done.after,
            "indexed": now.indexed,
            "unindexed": now.unindexed,
        },
        outcome={
            "model": model,
            "index": built,
            "differed": done.before,
            "partitions": done.partitions,
            "lag_seconds": None if settings.check else _lag(settings, model),
        },
    )


def _lag(settings: IndexSettings, model: str) -> float | None:
    """Seconds from the publication of the run's partition until now; None where it is not published."""
    published = catalog.partitions(settings.store, model)
    moments = [item.modified_ms / 1000 for item in published if item.partition == settings.partition]
    return round(max(0.0, time.time() - moments[0]), 3) if moments else None


def _spread(rows: int, driver_rows: int) -> writing.Spread:
    """Rows are written by this process where they are few, else by Spark tasks."""

    def here(units: list[writing.Unit], work: Callable[[Iterator[writing.Unit]], Iterator[str]]) -> Iterable[str]:
        return list(work(iter(units)))

    def in_tasks(units: list[writing.Unit], work: Callable[[Iterator[writing.Unit]], Iterator[str]]) -> Iterable[str]:
        return contexts.spread(contexts.context("image-features index"), units, work, UNITS_PER_TASK)

    return here if rows <= driver_rows else in_tasks


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    return jobs.run("index", IndexSettings, heeding(index), __doc__)


if __name__ == "__main__":
    from spark_apps.index import main as entry

    sys.exit(entry())
