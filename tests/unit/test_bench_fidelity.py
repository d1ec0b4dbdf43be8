"""How far the precisions are from fp32: what the benchmark means."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import fidelity
from benchmarks.fidelity import Distance, Fidelity, Scene
from spark_apps.contract import ModelInfo
from spark_apps.model import Calibration, ModelArtifact, Preset, machine
from spark_apps.model.engines import Outputs

INFO = ModelInfo(
    key="", fingerprint="", engine="openvino", device="cpu", precision="int8", dim=4, preprocessing=Preset().to_json()
)
BF16 = machine.has_bf16(Path("/proc/cpuinfo"))


def test_a_distance_tells_cosines_categories_and_neighbours() -> None:
    random = np.random.default_rng(0)
    one = Outputs(random.random((40, 8), np.float32), np.eye(40, dtype=np.float32))
    features = one.features.copy()
    features[0] = random.permutation(features[0])
    logits = one.logits.copy()
    logits[:4] = logits[4]
    right = np.full(40, -1)
    right[:8] = range(8)
    found = Distance.between(one, Outputs(3 * features, logits), right)
    a, b = one.features[0].astype(float), features[0].astype(float)
    assert found.quantile(0) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.cosines[1:] == pytest.approx(1)
    assert found.below == 1 / 40
    shifted = Outputs(one.features + 100, one.logits)
    apart = Distance.between(shifted, Outputs(features + 100, logits), right)
    assert apart.cosines.min() > 0.999 > apart.centred[0]
    assert apart.centred[1:] == pytest.approx(1)
    assert found.kept[0] < 10
    assert "first category 90.0%, right of 8 known 50.0% (fp32 100.0%)" in str(found)
    assert len(Distance.pooled([found, found]).cosines) == 80


def test_int8_is_measured_on_scenes_that_calibration_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenes are grey, each of its own shade, so every photo says which scene it shows."""
    shades = (20, 60, 110, 160, 220)
    scenes = [Scene(str(shade), Image.new("RGB", (64, 48), (shade,) * 3)) for shade in shades]
    seen: list[set[int]] = []
    measured: list[set[int]] = []

    def shown(pixels: np.ndarray) -> set[int]:
        means = pixels.reshape(len(pixels), -1).mean(1)
        return {int(np.abs(np.array(shades) - mean).argmin()) for mean in means}

    class Watched:
        def run(self, pixels: np.ndarray) -> Outputs:
            measured[-1].update(shown(pixels))
            return Outputs(np.ones((len(pixels), 4), np.float32), np.ones((len(pixels), 2), np.float32))

    def prepare(settings: object, calibration: Calibration | None = None) -> ModelArtifact:
        if calibration:
            seen.append(shown(calibration.pixels(fidelity.fitting.Preprocessing())))
            measured.append(set())
        return ModelArtifact(INFO, ())

    monkeypatch.setattr(fidelity, "prepare", prepare)
    monkeypatch.setattr(fidelity, "opened", lambda artifact: Watched())
    monkeypatch.setattr(fidelity, "by_nncf", lambda artifact, pixels: Watched())
    monkeypatch.setattr(fidelity, "ratio", lambda one, other, pixels: 1.0)
    monkeypatch.setattr(fidelity, "edited", lambda photo, index: photo)
    measured.append(set())
    kinds, _, _ = Fidelity("resnet18", "random:0", scenes, crops=3, parts=2, calibration=100).int8()
    assert seen == [{1, 3}, {0, 2, 4}]
    assert measured[1:] == [{0, 2, 4}, {1, 3}]
    assert {kind: len(distance.cosines) for kind, distance in kinds.items()} == {"ordinary": 15, "edits": 15}


@pytest.mark.slow_models
def test_the_command_tells_every_precision(
    tmp_path: Path, photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    for category, name in ((281, "chelsea.png"), (967, "coffee.png"), (0, "astronaut.png"), (0, "rocket.jpg")):
        folder = tmp_path / "pictures" / str(category)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photos[name].read_bytes())
    words = f"fidelity --backbone resnet18 --pictures {tmp_path}/pictures --crops 8 --parts 2 --calibration 16"
    monkeypatch.setattr(sys, "argv", words.split())
    fidelity.main()
    lines = capsys.readouterr().out.splitlines()
    names = [*(["bf16, ordinary", "bf16, edits"] if BF16 else []), "int8, ordinary", "int8, edits"]
    assert [line.partition(":")[0] for line in lines if "photos, cosine" in line] == [
        *names,
        "scaled decode, 2 megapixels",
    ]
    assert lines[0] == "4 scenes, 8 photos of each"
    assert all("32 photos, cosine min" in line and "right of 32 known" in line for line in lines if "edits" in line)
