"""What a run has staged becomes what readers see: one commit a table, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spark_apps import catalog, contract, storage
from spark_apps.contract import Manifest, ModelInfo, Settings, Staged
from spark_apps.spark import jobs
from spark_apps.tables import commits, data_files, staging


@dataclass(frozen=True)
class StagedRun:
    """The stages of a run that have staged what is published together."""

    settings: Settings
    ingested: Manifest
    extracted: Manifest

    @classmethod
    def of(cls, settings: Settings) -> StagedRun:
        """Raises BadSetting, for the first stage that has not finished."""
        jobs.read_manifest(settings, "ingest")
        extracted = jobs.read_manifest(settings, "extract")
        ingested = catalog.ingest_of(settings, extracted)
        assert ingested is not None, "its attempt is named by what came after it"
        return cls(settings, ingested, extracted)

    @property
    def model(self) -> ModelInfo:
        assert self.extracted.model is not None
        return self.extracted.model

    @property
    def files(self) -> Staged:
        """By table."""
        return {
            "images": self.ingested.staged["images"],
            "quarantine": self.ingested.staged["quarantine"] + self.extracted.staged["quarantine"],
            "features": self.extracted.staged["features"],
        }

    @property
    def contents(self) -> dict[str, str]:
        """By table, what is the same just when the files are."""
        return {name: data_files.contents(file.path for file in files) for name, files in self.files.items() if files}

    def standing(self) -> str:
        """The folder of the run whose vectors readers see; empty where there are none. Raises Unreachable."""
        published = catalog.partitions(self.settings.store, self.model.key)
        return next((item.folder for item in published if item.partition == self.settings.partition), "")

    def publish(
        self, counts: Mapping[str, int], warned: Sequence[str], since: int | None = None, **more: str
    ) -> dict[str, int]:
        """Puts the files in the place of what is published; the versions of the tables. `since`: as `Replacement` has
        it; `more`: for the commits.

        Raises:
            BadSetting: the files are no longer there.
            JobError: another run has published since, or so many write to the tables that no commit got through.
        """
        settings = self.settings
        with storage.reaching("store", settings.store):
            for done in (self.ingested, self.extracted):  # one that was killed at its very end may have left it
                staging.settle(_folder(settings, done), done.stage)
            return commits.Replacement(
                store=settings.store,
                partition=settings.partition,
                model=self.model.key,
                run_id=settings.run_id,
                staged=self.files,
                metadata={
                    **({"dag_id": settings.dag_id} if settings.dag_id else {}),
                    "partition": settings.partition,
                    "model": self.model.key,
                    "model_fingerprint": self.model.fingerprint,
                    **{name: str(count) for name, count in counts.items()},
                    "verdict": contract.WITH_WARNINGS if warned else contract.PUBLISHED,
                    **({"warnings": ",".join(warned)} if warned else {}),
                    **more,
                },
                since=since,
            ).commit()

    def verdict(self, warned: Sequence[str]) -> str:
        """What became of the publication: a run that drew its ticket later may have replaced it at once."""
        if self.standing() != self.settings.run.folder:
            return "superseded"
        return contract.WITH_WARNINGS if warned else contract.PUBLISHED


def _folder(settings: Settings, done: Manifest) -> str:
    """The folder of the run that left a manifest: an ingest may serve several branches."""
    run = contract.RunKey(done.run_id, done.dag_id or "", done.map_index, done.branch)
    return contract.run_folder(settings.store, settings.partition, run)
