"""What must be there before anything is measured: photos, the staged partition, the models in every form, and the
vectors that all systems must agree with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import photos, places, processes
from benchmarks.photos import PhotoSet
from benchmarks.protocol import Job
from benchmarks.systems import OTHER_ENGINES, PRECISIONS, Entry, other_engines
from benchmarks.systems.ours import RUN_ID
from spark_apps import catalog

REFERENCE_PHOTOS = 16
EAGER = places.BENCH / "eager.pt"
Say = Callable[[str], None]


class CommandFailed(Exception):
    """A command of the pipeline ended with an error; the message is what its `error.json` says."""


@dataclass
class Models:
    """`artifacts`: folder of our engine's files by (engine, precision). `refused`: why there are none."""

    weights: str
    artifacts: dict[tuple[str, str], Path] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)

    def reason(self, entry: Entry) -> str:
        """Why an entry cannot be measured; empty when it can."""
        return self.refused.get((entry.engine, entry.precision), "")

    def model(self, entry: Entry) -> str:
        return str(EAGER if entry.engine == "eager" else self.artifacts[entry.engine, entry.precision])

    def fastest(self) -> str:
        """The fastest precision that OpenVINO can be had with here."""
        return next(p for p in reversed(PRECISIONS) if ("openvino", p) in self.artifacts)


def stage(chosen: PhotoSet, say: Say, parquet: bool = True) -> None:
    """Makes a set and ingests it, unless that was done. `parquet`: see `photos.make`. Raises CommandFailed."""
    say(f"photos: {chosen.count:,} of {chosen.megapixels} megapixels")
    photos.make(chosen, parquet)
    note = chosen.folder / "made.json"
    manifest = catalog.manifest(str(places.STORE), chosen.name, RUN_ID, "ingest")
    staged = chosen.folder / "staged.json"  # the note of the photos that are staged
    if manifest is None or not staged.exists() or staged.read_text() != note.read_text():
        command("ingest", chosen.name, "--source", str(chosen.jpeg))
        staged.write_text(note.read_text())


def command(stage_name: str, partition: str, *options: str) -> None:
    """Runs one command of the pipeline on the benchmarks' store. Raises CommandFailed."""
    common = ["--store", str(places.STORE), "--partition", partition, "--run-id", RUN_ID]
    ended = subprocess.run(
        [sys.executable, "-m", f"spark_apps.{stage_name}", *common, *options],
        cwd=places.ROOT,
        env=processes.environment(),
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        error = catalog.error(str(places.STORE), partition, RUN_ID)
        raise CommandFailed(error["message"] if error else ended.stderr.strip()[-300:])


def models(weights: str, chosen: PhotoSet, entries: tuple[Entry, ...], say: Say) -> Models:
    """The eager module, and our artefact for every engine and precision among `entries`: made by the command extract,
    on the photos that are measured later, so that no measured run makes one."""
    found = Models(weights)
    _eager(weights, chosen)
    for engine, precision in sorted({(entry.engine, entry.precision) for entry in entries if entry.engine != "eager"}):
        say(f"model: {engine} {precision}")
        if engine in OTHER_ENGINES:
            found.artifacts[engine, precision] = other_engines.make(engine, precision, weights, chosen)
            continue
        try:
            command(
                "extract",
                chosen.name,
                "--weights",
                weights,
                "--engine",
                engine,
                "--precision",
                precision,
                "--recompute",
            )
        except CommandFailed as failed:
            found.refused[engine, precision] = str(failed)
            say(f"model: {engine} {precision} cannot be had: {failed}")
            continue
        manifest = catalog.manifest(str(places.STORE), chosen.name, RUN_ID, "extract")
        assert manifest is not None and manifest.model is not None
        found.artifacts[engine, precision] = places.STORE / "models" / manifest.model.fingerprint
    return found


def job(entry: Entry, chosen: PhotoSet, made: Models, cores: int, batch_size: int, passes: int, **options: str) -> Job:
    """What a system is asked for one entry of the report."""
    return Job(
        photos=str(chosen.folder),
        model=made.model(entry),
        out=str(places.WORK / str(entry).replace(" ", "-")),
        engine=entry.engine,
        precision=entry.precision,
        weights=made.weights,
        cores=cores,
        batch_size=batch_size,
        passes=passes,
        store=str(places.STORE),
        **options,
    )


def reference_vectors(weights: str, chosen: PhotoSet) -> None:
    """Keeps plain torchvision's vectors of the first photos beside the set."""
    import numpy as np
    from PIL import Image

    from spark_apps.contract import ModelSettings
    from spark_apps.model.reference import reference

    kept, note = chosen.folder / "reference.npz", chosen.folder / "reference.json"
    if kept.exists() and note.exists() and json.loads(note.read_text()) == weights:
        return  # photos that are made again begin with an empty folder
    features = reference(ModelSettings(weights=weights))
    vectors = {
        path.name: features(Image.open(path).convert("RGB"))
        for path in sorted(chosen.jpeg.iterdir())[:REFERENCE_PHOTOS]
    }
    np.savez(kept, **vectors)  # type: ignore[arg-type]  # its stub takes every name for allow_pickle
    note.write_text(json.dumps(weights))


def _eager(weights: str, chosen: PhotoSet) -> None:
    """torchvision's module without its classifier, as any torch user would keep it."""
    import torch

    from spark_apps.contract import ModelSettings
    from spark_apps.model.weights import resolve

    note = EAGER.with_suffix(".json")
    resolved = resolve(ModelSettings(weights=weights))
    if not (EAGER.exists() and note.exists() and json.loads(note.read_text()) == resolved.sha256):
        model = resolved.model()
        model.set_submodule("fc", torch.nn.Identity())
        torch.save(model, EAGER)
        note.write_text(json.dumps(resolved.sha256))
    reference_vectors(weights, chosen)
