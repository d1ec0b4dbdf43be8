"""What a stage has read and written, for OpenLineage; nothing happens, and nothing of it is imported, where Airflow's
provider for it is missing or switched off.

The store is read when the stage has ended (`of`): the provider asks for the facets in a fork of the task's process,
and delta-rs cannot be used in a fork. Facets name no photo, as nothing can be erased from where they are kept.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from image_features import wording
from image_features.outcomes import JUDGED, Outcome
from spark_apps import contract

log = logging.getLogger(__name__)

FACET = "imageFeatures_stage"
"""The run facet of our own: what the specification has no word for."""
TABLES = ("images", "features", "quarantine")
BY_MODEL = ("features", "duplicates")
"""Tables whose rows are of a partition and a model."""
IDENTITY = (
    *("key", "fingerprint", "extractor", "import", "backbone", "variant", "weights", "weights_sha256", "layer"),
    *("precision", "engine", "device", "dim"),
)
"""What of a model's description says which it is."""
ON_DISK = ("", "file", "hdfs", "webhdfs")
"""Schemes whose names begin with a slash."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Something that was read or written. `rows`, `size_bytes`, `files`: of this run; None: not known. `version` and
    `columns` (name → type): of a table. `place`: where the files of `partition` are, if not at `uri`."""

    uri: str
    kind: str = "TABLE"
    layer: str = "delta"
    partition: str = ""
    model: str = ""
    place: str = ""
    version: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    size_bytes: int | None = None
    files: int | None = None
    checks: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Lineage:
    """What a stage has read, and what it has written."""

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()


class Reports:
    """A task that keeps its `outcome` and `lineage`, and tells OpenLineage's provider of them."""

    outcome: Outcome | None = None
    lineage: Lineage | None = None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The provider's `OperatorLineage`; None before the stage has ended."""
        return facets(self.outcome, self.lineage or Lineage()) if self.outcome else None

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """The same of a stage that has failed, with what it had read."""
        return self.get_openlineage_facets_on_complete(task_instance)


def is_wanted() -> bool:
    """Whether Airflow's provider for OpenLineage is installed, and has somewhere to send events to."""
    if importlib.util.find_spec("airflow.providers.openlineage") is None:
        return False
    from airflow.providers.openlineage.conf import is_disabled

    return not is_disabled()


def of(found: Outcome) -> Lineage | None:
    """What the stage has read and written, from its documents and the tables' logs; None where nobody wants to know.
    What cannot be read does not fail the task."""
    try:
        if not is_wanted():
            return None
        read = tuple(_read(found))
        return Lineage(read, tuple(_written(found)) if found.manifest else ())
    except Exception:
        log.warning("Image Features: what the stage has read and written cannot be told.", exc_info=True)
        return None


def _read(found: Outcome) -> Iterator[Dataset]:
    """What the stage works on, whether it has ended well or not."""
    counts, stage = found.counts, found.stage
    if stage == "ingest" and (place := str(found.settings.get("source") or "")):
        size = found.manifest.outcome.get("bytes") if found.manifest else None
        yield Dataset(
            uri=_above(place, found.partition),
            kind="FILE",
            layer="",
            partition=found.partition,
            place=place,
            files=counts.get("listed"),
            size_bytes=size,
        )
    if stage in ("extract", *JUDGED) and found.store:
        yield _table(found, "images", rows=counts.get("accepted"))
    if stage == "extract" and found.manifest and found.manifest.model:
        made = found.manifest.model.fingerprint
        yield Dataset(uri=contract.join(found.store, "models", made), kind="MODEL", layer="", version=made)
    if stage in JUDGED and found.store:
        checks = tuple(check for check in found.report.get("checks", []) if check["passed"] is not None)
        yield _table(found, "features", rows=counts.get("featured"), checks=checks)
        yield _table(found, "quarantine", rows=counts.get("quarantined"))
    if stage in ("index", "duplicates", "sync", "undo") and found.store:
        outcome = found.manifest.outcome if found.manifest else {}
        version = outcome.get("features_version")
        yield _table(
            found,
            "features",
            version="" if version is None else str(version),
            checks=tuple(outcome.get("checks", ())),
        )


def _written(found: Outcome) -> Iterator[Dataset]:
    """What a stage that has ended well has changed. The tables of ingest and extract have no version: their files are
    staged, and shown by none yet."""
    assert found.manifest is not None
    outcome, counts = found.manifest.outcome, found.counts
    if found.stage in ("ingest", "extract"):
        names = {"ingest": "images", "extract": "features"}
        rows = {names[found.stage]: "accepted" if found.stage == "ingest" else "featured", "quarantine": "quarantined"}
        for name, counted in rows.items():
            yield _staged(found, name, counts.get(counted))
    elif found.stage in (*JUDGED, "undo"):
        for name, version in outcome.get("table_versions", {}).items():
            yield _published(found, name, int(version))
    elif found.stage == "index" and found.model:
        uri = contract.join(found.store, "search", f"{found.model}.lance")
        yield Dataset(uri=uri, layer="lance", model=found.model, rows=counts.get("brought"))
    elif found.stage == "duplicates":
        yield _as_it_is(found, "duplicates")
    elif found.stage == "sync":
        yield Dataset(uri=str(outcome.get("to", "")), layer="", model=found.model, rows=counts.get("upserted"))
    elif found.stage in ("maintain", "erase") and not found.settings.get("dry_run"):
        for name in outcome.get("tables") or (TABLES if "removed" in outcome else ()):
            yield _as_it_is(found, name)


def _table(found: Outcome, name: str, **known: Any) -> Dataset:
    model = found.model if name in BY_MODEL else ""
    return Dataset(uri=contract.join(found.store, name), partition=found.partition, model=model, **known)


def _staged(found: Outcome, name: str, rows: int | None) -> Dataset:
    from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

    assert found.manifest is not None
    files = catalog.with_lists(found.manifest, found.store).staged.get(name, [])
    known = catalog.extent(found.store, name, {"partition": found.partition})
    size = sum(file.size_bytes for file in files)
    columns = known.columns if known else {}
    return _table(found, name, rows=rows, size_bytes=size, files=len(files), columns=columns)


def _published(found: Outcome, name: str, version: int) -> Dataset:
    """What a version shows of the partition, and model, that it published."""
    partition = found.partition or str(found.settings.get("partition") or "")
    return _extent(found, name, version, partition, found.model if name in BY_MODEL else "")


def _as_it_is(found: Outcome, name: str) -> Dataset:
    """A table of whose rows any may have changed, as the stage has left it."""
    return _extent(found, name)


def _extent(found: Outcome, name: str, version: int | None = None, partition: str = "", model: str = "") -> Dataset:
    from spark_apps import catalog

    place = Dataset(uri=contract.join(found.store, name), partition=partition, model=model)
    keys = {key: value for key, value in (("partition", partition), ("model", model)) if value}
    known = catalog.extent(found.store, name, keys, version)
    if known is None:
        return place
    size, files = known.size_bytes, known.files
    return replace(
        place, version=str(known.version), columns=known.columns, rows=known.rows, size_bytes=size, files=files
    )


def _above(place: str, partition: str) -> str:
    """The source without the part that each partition has of its own: one dataset for all of them."""
    parts = place.split("/")
    root = 3 if place.startswith("file://") else 2 if "://" in place else 1  # the last part that there must be
    own = (at for at, part in enumerate(parts) if at > root and partition and partition in part)
    return "/".join(parts[: next(own, len(parts))])


# --- as facets --------------------------------------------------------------------------------------------------------


def naming(uri: str) -> tuple[str, str]:
    """Namespace and name by OpenLineage's naming conventions: scheme and authority, and the path. Without a user and
    its password, but for Azure, where the container stands in their place."""
    scheme, separator, _ = contract.plain_scheme(uri).partition("://")
    if not separator:
        return "file", uri
    parts = urlsplit(contract.plain_scheme(uri))
    container = scheme in ("abfs", "abfss") and parts.password is None
    authority = parts.netloc if container else parts.netloc.rsplit("@", 1)[-1]
    scheme = {"s3a": "s3", "gcs": "gs", "postgresql": "postgres"}.get(scheme, scheme)
    path = parts.path if scheme in ON_DISK else parts.path.strip("/")
    return f"{scheme}://{authority}".removesuffix("://") if scheme == "file" else f"{scheme}://{authority}", path or "/"


def facets(found: Outcome, known: Lineage) -> Any:
    """The provider's `OperatorLineage`: inputs and outputs with their facets, and the run facet `FACET`."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import RunFacet

    inputs = [
        InputDataset(*naming(one.uri), facets=_of_dataset(one), inputFacets=_of_input(one)) for one in known.inputs
    ]
    outputs = [
        OutputDataset(*naming(one.uri), facets=_of_dataset(one), outputFacets=_of_output(one)) for one in known.outputs
    ]
    told = RunFacet().with_additional_properties(**_of_run(found))
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets={FACET: told})


def _of_run(found: Outcome) -> dict[str, Any]:
    """What the facet says of the run: nothing that names a photo, and no setting."""
    described: Mapping[str, Any] = found.report.get("model", {})
    if found.manifest and found.manifest.model:
        described = found.manifest.model.to_record()
    model = {name: described[name] for name in IDENTITY if described.get(name)} or (
        {"key": found.model} if found.model else {}
    )
    off = [check["name"] for check in found.report.get("checks", []) if check["passed"] is None]
    failed = found.tone == "bad"
    error = found.error
    return {
        "stage": found.stage,
        "partition": found.partition,
        "verdict": found.verdict,
        "folder": found.folder,
        "counts": dict(found.counts),
        "quarantined": dict(found.quarantined),
        "seconds": dict(found.seconds),
        "checksOff": off,
        **({"model": model} if model else {}),
        **({"code": error.code if error else "no_word"} if failed or error else {}),
        **({"exitCode": int(error.exit_code)} if error else {}),
    }


def _of_dataset(one: Dataset) -> dict[str, Any]:
    from openlineage.client import facet_v2 as v2

    scheme, where = naming(one.uri)
    found: dict[str, Any] = {
        "datasetType": v2.dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=one.kind),
        "dataSource": v2.datasource_dataset.DatasourceDatasetFacet(name=scheme, uri=_joined(scheme, where)),
    }
    if one.layer:
        file_format = "parquet" if one.layer == "delta" else one.layer
        found["storage"] = v2.storage_dataset.StorageDatasetFacet(storageLayer=one.layer, fileFormat=file_format)
    if one.version:
        found["version"] = v2.dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=one.version)
    if one.columns:
        fields = [
            v2.schema_dataset.SchemaDatasetFacetFields(name=column, type=kind, ordinal_position=number)
            for number, (column, kind) in enumerate(one.columns.items(), 1)
        ]
        found["schema"] = v2.schema_dataset.SchemaDatasetFacet(fields=fields)
    return found


def _of_input(one: Dataset) -> dict[str, Any]:
    from openlineage.client import facet_v2 as v2

    found: dict[str, Any] = {}
    if part := _partition(one):
        found["subset"] = v2.base_subset_dataset.InputSubsetInputDatasetFacet(inputCondition=part)
    if known := _how_much(one):
        found["inputStatistics"] = v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(**known)
    if one.checks:
        assertions = [_assertion(check) for check in one.checks]
        kind = v2.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet
        found["dataQualityAssertions"] = kind(assertions=assertions)
    return found


def _of_output(one: Dataset) -> dict[str, Any]:
    from openlineage.client import facet_v2 as v2

    found: dict[str, Any] = {}
    if part := _partition(one):
        found["subset"] = v2.base_subset_dataset.OutputSubsetOutputDatasetFacet(outputCondition=part)
    if known := _how_much(one):
        found["outputStatistics"] = v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(**known)
    return found


def _how_much(one: Dataset) -> dict[str, Any]:
    known = {"rowCount": one.rows, "size": one.size_bytes, "fileCount": one.files}
    return {what: value for what, value in known.items() if value is not None}


def _partition(one: Dataset) -> Any:
    from openlineage.client.facet_v2 import base_subset_dataset as subsets

    dimensions = {key: value for key, value in (("partition", one.partition), ("model", one.model)) if value}
    if not dimensions:
        return None
    place = _joined(*naming(one.place)) if one.place else None
    return subsets.PartitionSubsetCondition(partitions=[subsets.Partition(dimensions=dimensions, identifier=place)])


def _assertion(check: Mapping[str, Any]) -> Any:
    """A check without its message and offenders, which name photos."""
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    return quality.Assertion(
        assertion=check["name"],
        name=check["name"],
        success=bool(check["passed"]),
        severity={"warning": "warn"}.get(check["severity"], check["severity"]),
        expected=wording.limits(check) or None,
        actual=wording.value(check["name"], check["value"]),
    )


def _joined(namespace: str, path: str) -> str:
    return path if namespace == "file" else f"{namespace}/{path.lstrip('/')}"
