"""A CNN, a ViT and a ConvNeXt of timm, an exported ONNX file and a model of open_clip, each in a run of the Dag.

Each is computed, checked, published, indexed, shown by the pages and searched there, the last one by words. The
architectures are real ones, the weights random.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from skimage import data

from demo.airflow_client import ServerError
from demo.airflow_server import AirflowServer
from spark_apps import catalog
from tests import small_onnx, small_open_clip

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow_models]

DAY = "2026-11-20"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
API = "/image-features/api"
STAGES = ("ingest", "extract", "validate", "index")
CLIP, CLIP_KEY = "open_clip:ViT-S-32-alt", "open_clip_vit_s_32_alt-random_0-fp32"
MODELS = {
    "timm_resnet18.a1_in1k-random_0-fp32": "timm:resnet18.a1_in1k",
    "timm_vit_tiny_patch16_224.augreg_in21k-random_0-fp32": "timm:vit_tiny_patch16_224.augreg_in21k",
    "timm_convnext_atto.d2_in1k-random_0-fp32": "timm:convnext_atto.d2_in1k",
    "onnx_": "",
    CLIP_KEY: CLIP,
}
"""What the key begins with → `model`; that of the ONNX file is where it lies."""


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(small_onnx.exported(tmp_path_factory.mktemp("models") / "mine.onnx", "mobilenetv3_small_100"))


@pytest.fixture(scope="module")
def airflow(onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    landing = tmp_path_factory.mktemp("landing")
    (landing / DAY).mkdir()
    for name in PHOTOS:
        Image.fromarray(getattr(data, name)()).save(landing / DAY / f"{name}.jpg")
    settings = {"WEIGHTS": "random:0", "INDEX": "True", "WEIGHTS_LOCATIONS": str(onnx.parent)}
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    env["AIRFLOW_CONN_SPARK_DEFAULT"] = '{"conn_type": "spark", "host": "local[2]"}'
    store = str(tmp_path_factory.mktemp("store"))
    with AirflowServer(
        tmp_path_factory.mktemp("airflow"), store=store, source=f"{landing}/{{partition}}", env=env
    ) as server:
        yield server


@pytest.fixture(scope="module")
def ended(airflow: AirflowServer, onnx: Path) -> dict[str, str]:
    """What the key of a model begins with → id of its run; all have succeeded."""
    run_ids = {}
    for key, model in MODELS.items():
        conf = {"model": model} if model else {"model": str(onnx), "weights": "DEFAULT"}
        run_ids[key] = airflow.trigger({"partition": DAY, **conf})
    runs = airflow.wait(run_ids.values(), timeout=1500)
    for key, run_id in run_ids.items():
        failed = [task for task, state in runs[run_id]["tasks"].items() if state == "failed"]
        assert runs[run_id]["tasks"] == dict.fromkeys(STAGES, "success"), (
            key,
            *(airflow.task_log(run_id, task)[-3000:] for task in failed),
        )
    return run_ids


def published(airflow: AirflowServer, ended: dict[str, str], begins: str) -> catalog.Partition:
    """The one publication whose key begins so."""
    (found,) = (one for one in catalog.partitions(airflow.store) if one.model.startswith(begins))
    assert (found.partition, found.rows, found.run_id) == (DAY, len(PHOTOS), ended[begins])
    return found


@pytest.mark.parametrize("begins", MODELS)
def test_a_model_is_published_shown_and_searched(airflow: AirflowServer, ended: dict[str, str], begins: str) -> None:
    key = published(airflow, ended, begins).model
    rows = airflow.api("GET", f"{API}/overview?{urlencode({'model': key})}")["partitions"]
    assert [(row["partition"], row["model"], row["rows"]) for row in rows] == [(DAY, key, len(PHOTOS))]
    report = airflow.api("GET", f"{API}/image_features/runs/{ended[begins]}")
    assert (report["published"], report["live"], report["partition"]) == (True, False, DAY)
    listed = photos(airflow, key)
    assert {Path(photo["name"]).stem for photo in listed["photos"]} == set(PHOTOS)
    assert listed["words"] is (key == CLIP_KEY)
    table = catalog.vectors(airflow.store, DAY, key).to_pylist()
    vectors = {row["image_id"]: np.array(row["features"]) for row in table}
    asked, *others = vectors
    near = neighbours(airflow, key, "", image=asked)
    assert {one["image_id"] for one in near} == set(others)
    for one in near:
        assert one["cosine"] == pytest.approx(cosine(vectors[asked], vectors[one["image_id"]]), abs=1e-4)


def test_words_find_photos_in_the_pages_as_open_clip_orders_them(airflow: AirflowServer, ended: dict[str, str]) -> None:
    key = published(airflow, ended, CLIP_KEY).model
    rows = catalog.vectors(airflow.store, DAY, key).to_pylist()
    for words in ("a red bicycle", "an astronaut in front of a flag"):
        found = neighbours(airflow, key, "/words", words=words)
        cosines = small_open_clip.cosines(CLIP, words, np.array([row["features"] for row in rows]))
        expected = {row["image_id"]: value for row, value in zip(rows, cosines, strict=True)}
        assert {one["image_id"]: one["cosine"] for one in found} == pytest.approx(expected, abs=1e-4)
        assert [one["cosine"] for one in found] == sorted((one["cosine"] for one in found), reverse=True)


def test_a_model_without_words_says_so(airflow: AirflowServer, ended: dict[str, str]) -> None:
    with pytest.raises(ServerError, match="no_words"):
        neighbours(airflow, published(airflow, ended, "onnx_").model, "/words", words="a cat")


def photos(airflow: AirflowServer, model: str) -> dict[str, Any]:
    return airflow.api("GET", f"{API}/image_features/partitions/{DAY}/photos?{urlencode({'model': model})}")


def neighbours(airflow: AirflowServer, model: str, of: str, **asked: str) -> list[dict[str, Any]]:
    query = urlencode({"model": model, "k": len(PHOTOS), **asked})
    found = airflow.api("GET", f"{API}/image_features/partitions/{DAY}/neighbours{of}?{query}")
    return list(found["neighbours"])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
