"""The model room: which backbone, which weights, which engine. Free of pyspark and Airflow; torch is loaded on demand.

On the driver `prepare(ModelSettings(...))` resolves and verifies the weights and writes one artefact; in a worker
`worker.engine(info, folder, threads)` opens it once and `Engine.run(pixels)` turns pixels into features.
"""

import sys

from spark_apps.model.engines import Engine, Outputs, adopt, labels, load, prepare, uncalibrated
from spark_apps.model.spec import Calibration, ModelArtifact, Preset

# An import of OpenVINO is reported over the network, unless the user has opted out, by a process that a thread forks: a
# worker may hang in it for ever. Without this package neither OpenVINO nor NNCF reports anything.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__all__ = [
    "Calibration",
    "Engine",
    "ModelArtifact",
    "Outputs",
    "Preset",
    "adopt",
    "labels",
    "load",
    "prepare",
    "uncalibrated",
]
