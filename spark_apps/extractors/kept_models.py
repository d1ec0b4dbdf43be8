"""The model of a run. An int8 model is calibrated once in the life of a store and then taken from there.

Calibrating every day anew would give every day vectors of its own. So the first partition that asks for int8 lends its
photos, the model is kept in the store, and whoever asks for the same model finds it there.
"""

from __future__ import annotations

from dataclasses import replace

from spark_apps import contract, model, storage
from spark_apps.contract import PRECISIONS, ExtractSettings, Manifest, ModelInfo, ModelSettings
from spark_apps.extractors import calibration
from spark_apps.storage import folders


def prepare(settings: ExtractSettings, ingested: Manifest, here: bool) -> model.ModelArtifact:
    """The model that the settings ask for, kept in the store with its `model.json`.

    Raises:
        BadSetting, Unreachable: as `model.prepare`.
    """
    spec = ModelSettings.of(settings)
    if not PRECISIONS[spec.precision].calibrated:
        artifact = model.prepare(spec, here=here)
        keep(settings.store, artifact)
        return artifact
    kin = model.uncalibrated(spec)
    kept = _first(settings.store, kin)
    if kept is None:
        sample = calibration.sample(settings, ingested)
        artifact = model.prepare(spec, here=here, calibration=sample)
        of_store = {"uncalibrated": kin, "partition": settings.partition, "at": contract.now()}
        info = replace(artifact.info, calibration={**(artifact.info.calibration or {}), **of_store})
        keep(settings.store, replace(artifact, info=info))
        kept = _first(settings.store, kin)  # another run may have been first
        assert kept is not None
    folder = contract.join(settings.store, "models", kept.fingerprint)
    with storage.reaching("store", settings.store):
        return model.adopt(kept, lambda name: storage.read_bytes(contract.join(folder, name)), here=here)


def _first(store_uri: str, kin: str) -> ModelInfo | None:
    """The model that was calibrated first, among those of one kin in the store."""
    filesystem, root = storage.filesystem(contract.join(store_uri, "models"))
    with storage.reaching("store", store_uri):
        names = [item.base_name for item in folders.inside(filesystem, root)]
        found = [storage.read_json(contract.join(store_uri, "models", name, "model.json")) for name in names]
    calibrated = [
        (info.calibration["at"], info.fingerprint, info)
        for info in map(ModelInfo.from_record, filter(None, found))
        if info.calibration and info.calibration.get("uncalibrated") == kin
    ]
    return min(calibrated)[-1] if calibrated else None


def keep(store_uri: str, artifact: model.ModelArtifact) -> None:
    """Keeps the engine artefact and `model.json` in the store, where features of this fingerprint can be explained."""
    folder = contract.join(store_uri, "models", artifact.fingerprint)
    with storage.reaching("store", store_uri):
        described = contract.join(folder, "model.json")
        if storage.read_json(described) is not None:
            return
        for file in (*artifact.files, *artifact.beside):
            storage.write_bytes(contract.join(folder, file.name), file.read_bytes())
        storage.write_json(described, artifact.info.to_record())  # last: it says that the rest is whole
