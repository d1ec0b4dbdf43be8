"""The three jobs as functions of this process: faster than commands, and stopped or disturbed between two steps."""

from __future__ import annotations

from typing import Any

from spark_apps import catalog
from spark_apps.contract import ExtractSettings, IngestSettings, Manifest, ValidateSettings
from spark_apps.extract import extract
from spark_apps.ingest import ingest
from spark_apps.spark.jobs import Timings, write_manifest
from spark_apps.validate import validate
from tests.faults.day import PARTITION, Day
from tests.faults.reader import MODEL

Rows = dict[str, dict[str, Any]]


class InThisProcess:
    """One store, one day, and the stages of any run on it."""

    def __init__(self, day: Day, store: str) -> None:
        self.day, self.store = day, store

    def ingest(self, run_id: str, *, keep: bool = True) -> Manifest:
        """`keep`: leave the manifest, as a job does that lives long enough."""
        settings = IngestSettings(source=self.day.source, **self.common(run_id))
        return self._kept(settings, ingest(settings, Timings()), keep)

    def extract(self, run_id: str) -> Manifest:
        settings = ExtractSettings(model="resnet18", weights="random:0", **self.common(run_id))
        return self._kept(settings, extract(settings, Timings()))

    def validate(self, run_id: str, recheck: int = 1) -> Manifest:
        settings = ValidateSettings(max_failed_fraction=0.9, max_drift=1, recheck=recheck, **self.common(run_id))
        return self._kept(settings, validate(settings, Timings()))

    def published(self) -> tuple[Rows, Rows, Rows]:
        """images, features and quarantine, by file name."""
        tables = (
            catalog.images(self.store, PARTITION),
            catalog.vectors(self.store, PARTITION, MODEL),
            catalog.quarantine(self.store, PARTITION),
        )
        images, features, quarantine = ({name(row): row for row in table.to_pylist()} for table in tables)
        return images, features, quarantine

    def common(self, run_id: str) -> dict[str, str]:
        """The settings that every stage of a run has."""
        return {"store": self.store, "partition": PARTITION, "run_id": run_id}

    def _kept(self, settings: Any, manifest: Manifest, keep: bool = True) -> Manifest:
        if keep:
            write_manifest(settings, manifest)
        return manifest


def name(row: dict[str, Any]) -> str:
    return str(row["uri"].rsplit("/", 1)[-1])
