"""Each component of Airflow does its part with the packages that docs/install.md names, and with no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

DRIVERS = {"pyspark", "torch", "torchvision", "nncf", "pandas", "scipy", "soundfile", "wordllama"}
"""What only a driver of a job imports."""
PAGES = {"numpy", "pyarrow", "deltalake", "PIL", "openvino"}
"""What the pages need, beside Airflow."""
OURS = {"image_features", "spark_apps"}

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}: hidden", name=name)

sys.meta_path.insert(0, Hidden())
"""

PROGRAMS = {
    "dag-processor": """
import json, pathlib
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = BundleDagBag(DAGS, bundle_path=pathlib.Path(DAGS))
assert bag.import_errors == {} and len(bag.dags) == 2, bag.import_errors
pathlib.Path(SERIALISED).write_text(json.dumps([DagSerialization.to_dict(dag) for dag in bag.dags.values()]))
""",
    "scheduler": """
import json, pathlib
from airflow.serialization.serialized_objects import DagSerialization
dags = {dag["dag"]["dag_id"]: dag for dag in json.loads(pathlib.Path(SERIALISED).read_text())}
daily = DagSerialization.from_dict(dags["image_features"])
assert daily.task_dict["extract"].downstream_task_ids == {"validate"}
assert daily.timetable.infer_manual_data_interval(run_after=daily.start_date.add(days=1)).start
DagSerialization.from_dict(dags["image_features_maintenance"])
""",
    "api-server": """
import importlib, pkgutil
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
assert not errors and any(plugin.fastapi_apps for plugin in plugins if plugin.name == "image_features"), errors
import image_features.web
for module in pkgutil.iter_modules(image_features.web.__path__, "image_features.web."):
    importlib.import_module(module.name)
from io import BytesIO
from PIL import Image
from spark_apps import embed
Image.new("RGB", (300, 200)).save(photo := BytesIO(), "JPEG")
assert embed.thumbnail(photo.getvalue(), 64, 100_000)
""",
    "triggerer": """
import asyncio, pathlib, sys, time
from airflow._shared.module_loading import import_string
pathlib.Path(STORE, "_SUCCESS").touch()
waits = import_string("image_features.triggers.LandingTrigger")
trigger = waits(source=STORE, marker="_SUCCESS", deadline=time.time() + 60)
event = asyncio.run(anext(trigger.run()))
assert event.payload == {"about": {}, "outcome": "landed", "marker": "_SUCCESS"}, event
assert not {"pyspark", "torch", "openvino", "airflow.providers.apache.spark.hooks"} & set(sys.modules)
""",
    "worker": """
from image_features import operators
from spark_apps import catalog, contract
job = contract.ValidateSettings(store=STORE, partition="d1", run_id="r")
assert catalog.left_by(job, "validate.json") is None
""",
}
"""Component → what it does with our package, as far as packages matter."""

HIDDEN = {
    "dag-processor": DRIVERS | PAGES,
    "scheduler": DRIVERS | PAGES | OURS,
    "api-server": DRIVERS,
    "triggerer": DRIVERS | {"PIL", "openvino", "psutil"},
    "worker": DRIVERS | {"PIL", "openvino"},  # of deploy mode cluster; pyspark is the program spark-submit to it
}


@pytest.fixture(scope="module")
def serialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both Dags as the dag-processor puts them into Airflow's database."""
    file = tmp_path_factory.mktemp("dags") / "dags.json"
    run("dag-processor", SERIALISED=str(file), DAGS=str(REPO / "dags"))
    return file


def run(component: str, folder: Path | None = None, **names: str) -> None:
    """The component's part, in a process of its own. `folder`: of plugins, if not ours."""
    environment = {**os.environ, "PYTHONPATH": "" if folder else os.pathsep.join([str(REPO), str(REPO / "plugins")])}
    if folder:
        environment["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(folder)
    known = "".join(f"{name} = {value!r}\n" for name, value in {**names, "HIDDEN": HIDDEN[component]}.items())
    done = subprocess.run(
        [sys.executable, "-c", known + HIDE + PROGRAMS[component]],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_dag_processor_needs_no_packages_of_the_jobs(serialised: Path) -> None:
    assert len(json.loads(serialised.read_text())) == 2


def test_the_scheduler_needs_nothing_of_ours(serialised: Path, tmp_path: Path) -> None:
    run("scheduler", folder=tmp_path, SERIALISED=str(serialised))


def test_the_api_server_needs_no_packages_of_a_driver() -> None:
    run("api-server")


def test_the_triggerer_needs_no_packages_of_the_jobs(tmp_path: Path) -> None:
    run("triggerer", STORE=str(tmp_path))


def test_a_worker_needs_no_packages_of_a_driver_that_is_elsewhere(tmp_path: Path) -> None:
    run("worker", STORE=str(tmp_path))
