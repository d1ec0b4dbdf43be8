"""How far the precisions of a ResNet-50 with real weights are from fp32, on photos that its calibration has not seen.

The limits are those that int8 was made to reach; what was measured, and the speed beside it: docs/benchmarks.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import fidelity
from spark_apps.model import machine

pytestmark = [pytest.mark.slow_models, pytest.mark.timeout(3600)]
WEIGHTS = "weights/resnet50-keras-v1-fp16.pth"
CROPS = 12
"""Of each of scikit-image's photos, dealt into three parts: each is measured by a model calibrated on the others."""


@pytest.fixture(scope="module")
def model(optional_data: Path) -> fidelity.Fidelity:
    return fidelity.Fidelity("resnet50", str(optional_data / WEIGHTS), fidelity.scenes(None), CROPS, 3, 225)


def test_int8_has_no_long_tail(model: fidelity.Fidelity) -> None:
    kinds, *_ = model.int8()
    for kind, found in kinds.items():
        assert len(found.cosines) >= 150, kind
        assert found.quantile(0) >= 0.97, (kind, str(found))
        assert found.quantile(0.001) >= 0.978, (kind, str(found))
        assert found.below <= 0.02, (kind, str(found))
    ordinary = kinds["ordinary"]
    assert (ordinary.exact == ordinary.here).mean() >= 0.85, str(ordinary)
    assert ordinary.kept.mean() >= 9, str(ordinary)


def test_scaled_decoding_moves_vectors_little(model: fidelity.Fidelity) -> None:
    found = model.scaled()
    assert found.quantile(0) >= 0.99, str(found)


@pytest.mark.skipif(not machine.has_bf16(Path("/proc/cpuinfo")), reason="this processor has no bf16")
def test_bf16_moves_vectors_little(model: fidelity.Fidelity) -> None:
    kinds, _ = model.bf16()
    for kind, found in kinds.items():
        assert found.quantile(0) >= 0.998, (kind, str(found))
        assert found.kept.mean() >= 9.5, (kind, str(found))
