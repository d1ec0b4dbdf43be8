"""Thumbnails and uploads through a real api-server, with real photos, a real model and a store on S3."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from skimage import data

from spark_apps import contract, model, storage
from spark_apps.contract import EraseSettings, ModelSettings
from spark_apps.erase import erase
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import ModelArtifact, words
from spark_apps.spark.jobs import Timings
from spark_apps.tables import commits, schemas
from tests import small_open_clip
from tests.airflow.web import API, PREFIX, Run
from tests.s3 import s3_server
from tests.shelf import Shelf

Clients = Callable[[str], TestClient]
DAY = "2026-11-20"
UPLOAD = {"Content-Type": "image/jpeg", "X-Image-Features": "1"}


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    """Three photos, and one that ends too early, as JPEG."""
    found = {}
    for name in ("coffee", "chelsea", "rocket"):
        target = io.BytesIO()
        Image.fromarray(getattr(data, name)()).save(target, "JPEG")
        found[name] = target.getvalue()
    return {**found, "cut": found["coffee"][:9000]}


@pytest.fixture(scope="module")
def artifact() -> ModelArtifact:
    return model.prepare(ModelSettings(model="resnet18", weights="random:0", engine="openvino"))


@pytest.fixture(scope="module")
def vectors(artifact: ModelArtifact, photos: dict[str, bytes]) -> dict[str, list[float]]:
    engine = model.load(artifact.info, artifact.files[0].parent, threads=1)
    pixels = {name: imaging.decode(photos[name], Preprocessing(), 10**7) for name in ("coffee", "chelsea", "rocket")}
    return {name: engine.run(found[None]).features[0].tolist() for name, found in pixels.items()}


def fill(location: str, photos: dict[str, bytes], vectors: dict[str, list[float]], artifact: ModelArtifact) -> Run:
    """Publishes the photos with their vectors, and keeps the model, as extract does."""
    run = Run(location, DAY)
    images = [
        {"uri": f"file:///photos/{name}.jpg", "image_id": image_id(content), "content": content}
        for name, content in photos.items()
    ]
    features = [
        {
            **{"uri": f"file:///photos/{name}.jpg", "image_id": image_id(photos[name]), "features": vector},
            **{"model_fingerprint": artifact.fingerprint, "top1_label": name, "top1_score": 0.5},
        }
        for name, vector in vectors.items()
    ]
    shelf = Shelf(location)
    staged = {
        "images": shelf._stage(schemas.IMAGES, DAY, run.key, images),
        "features": shelf._stage(schemas.FEATURES, DAY, run.key, features),
        "quarantine": [],
    }
    commits.Replacement(location, DAY, artifact.key, run.run_id, staged, {}).commit()
    folder = contract.join(location, "models", artifact.fingerprint)
    for file in (*artifact.files, *artifact.beside):
        storage.write_bytes(contract.join(folder, file.name), file.read_bytes())
    storage.write_json(contract.join(folder, "model.json"), artifact.info.to_record())
    return run


def image_id(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def filled(tmp_path: Path, photos: dict[str, bytes], vectors: dict[str, list[float]], artifact: ModelArtifact) -> None:
    fill(str(tmp_path / "store"), photos, vectors, artifact)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No child process outlives its test."""
    yield
    from image_features.web import embedder, thumbnails

    thumbnails._artist.close()
    if embedder._current is not None:
        embedder._current[1].close()
        embedder._current = None


def test_thumbnails_are_drawn_anew(clients: Clients, filled: None, photos: dict[str, bytes]) -> None:
    store = clients("viewer").get(f"{PREFIX}/api/dags").json()["dags"][0]["stores"][0]["key"]
    for name, content in photos.items():  # the one that ends too early too, as far as it goes
        path = f"{API}/thumbnails/{DAY}/{image_id(content)}"
        assert clients("viewer").get(path).headers["cache-control"] == "no-store", "it may be another store tomorrow"
        answer = clients("viewer").get(f"{path}?store={store}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp"), name
        assert answer.headers["cache-control"] == "private, max-age=300"
        assert content[:64] not in answer.content
        assert max(Image.open(io.BytesIO(answer.content)).size) == 256


def test_an_erased_photo_is_seen_no_more_nor_kept(
    clients: Clients, filled: None, photos: dict[str, bytes], tmp_path: Path
) -> None:
    from image_features.web import store_state, thumbnails

    viewer, path = clients("viewer"), f"{API}/thumbnails/{DAY}/{image_id(photos['coffee'])}"
    page = f"{API}/partitions/{DAY}/photos"
    assert viewer.get(path).status_code == 200
    assert {photo["name"] for photo in viewer.get(page).json()["photos"]} == {"coffee.jpg", "chelsea.jpg", "rocket.jpg"}
    erase(EraseSettings(store=str(tmp_path / "store"), image_id=image_id(photos["coffee"])), Timings())
    store_state._erasures.forget()  # some seconds later
    assert viewer.get(path).status_code == 404
    assert {photo["name"] for photo in viewer.get(page).json()["photos"]} == {"chelsea.jpg", "rocket.jpg"}
    assert not any(photos["coffee"] in group.to_pylist() for group in thumbnails._groups._values.values())
    assert (image_id(photos["coffee"]) in str([*thumbnails._thumbnails._values])) is False


def test_without_a_copy_a_thumbnail_is_drawn_from_the_source(
    clients: Clients, tmp_path: Path, photos: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the photo is there, the same, and where a run may read: no link and no word of a store leads elsewhere."""
    day, elsewhere = tmp_path / "photos" / DAY, tmp_path / "elsewhere"
    files = {name: day / f"{name} %20 ä.jpg" for name in ("coffee", "chelsea", "rocket", "cut")}
    day.mkdir(parents=True)
    elsewhere.mkdir()
    files["cut"] = elsewhere / "cut.jpg"
    for name, path in files.items():
        path.write_bytes(photos[name])
    rows = [
        {"uri": path.as_uri(), "image_id": image_id(photos[name]), "content": None, "size_bytes": len(photos[name])}
        for name, path in files.items()
    ]
    Shelf(str(tmp_path / "store"))._stage(schemas.IMAGES, DAY, "run", rows)
    files["chelsea"].write_bytes(photos["chelsea"][:-1] + b"x")
    files["rocket"].unlink()
    (elsewhere / "rocket.jpg").write_bytes(photos["rocket"])
    files["rocket"].symlink_to(elsewhere / "rocket.jpg")

    def drawn() -> set[str]:
        answers = {name: clients("viewer").get(f"{API}/thumbnails/{DAY}/{image_id(photos[name])}") for name in files}
        assert {answer.json()["code"] for answer in answers.values() if answer.status_code == 404} <= {"no_thumbnail"}
        return {name for name, answer in answers.items() if answer.status_code == 200}

    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCE", f"{tmp_path}/photos/{{partition}}")
    assert drawn() == {"coffee"}
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCES", str(elsewhere))
    assert drawn() == {"coffee", "cut", "rocket"}


def test_a_rejected_run_s_photos_can_be_seen(clients: Clients, tmp_path: Path, photos: dict[str, bytes]) -> None:
    row = {"uri": "file:///photos/cut.jpg", "image_id": image_id(photos["cut"]), "content": photos["cut"]}
    Shelf(str(tmp_path / "store"))._stage(schemas.IMAGES, DAY, "rejected", [row])
    answer = clients("viewer").get(f"{API}/thumbnails/{DAY}/{image_id(photos['cut'])}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")


def test_there_is_no_thumbnail_of_what_the_partition_does_not_hold(clients: Clients, filled: None) -> None:
    answer = clients("viewer").get(f"{API}/thumbnails/{DAY}/{'0' * 64}")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_thumbnail")


def post(clients: Clients, content: bytes, day: str = DAY) -> Any:
    return clients("viewer").post(f"{API}/partitions/{day}/neighbours?k=2", content=content, headers=UPLOAD)


def test_an_uploaded_photo_finds_itself(
    clients: Clients, filled: None, photos: dict[str, bytes], tmp_path: Path
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    found = post(clients, photos["chelsea"]).json()
    assert found["neighbours"][0]["label"] == "chelsea"
    assert found["neighbours"][0]["cosine"] == pytest.approx(1, abs=1e-4)
    assert found["neighbours"][1]["cosine"] < 0.9999
    assert found["query"]["image_id"] == ""
    assert sorted(path for path in tmp_path.rglob("*")) == before  # it is kept nowhere


def test_uploads_that_bite_are_refused_and_the_next_one_is_answered(
    clients: Clients, filled: None, photos: dict[str, bytes]
) -> None:
    target = io.BytesIO()
    Image.new("L", (1, 1)).save(target, "PNG")
    bomb = bytearray(target.getvalue())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    for content, codes in (
        (bytes(bomb), {"too_many_pixels", "corrupt"}),
        (b"<html>forged.jpg</html>", {"not_an_image"}),
        (b"", {"empty"}),
        (photos["cut"], {"truncated"}),
    ):
        answer = post(clients, content)
        assert (answer.status_code, answer.json()["code"] in codes) == (422, True), answer.json()
    assert post(clients, photos["rocket"]).status_code == 200


def test_words_find_a_photo_and_only_where_the_model_knows_words(
    clients: Clients, photos: dict[str, bytes], artifact: ModelArtifact, vectors: dict[str, list[float]],
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """The vectors of the two photos are those of the words that are searched."""
    store = str(tmp_path / "store")
    name = small_open_clip.register(tmp_path_factory.mktemp("architecture"))
    towers = model.prepare(ModelSettings(name, "random:0"))
    assert towers.folder
    side = words.opened(towers.info, towers.folder, 1)
    said = {"coffee": "a cup of coffee", "chelsea": "a cat"}
    run = fill(store, photos, {photo: side.vector(text).tolist() for photo, text in said.items()}, towers)
    run.finishes("extract", model=towers.info.to_record())
    for photo, text in said.items():
        answer = clients("viewer").get(f"{API}/partitions/{DAY}/neighbours/words", params={"words": text, "k": 1})
        assert answer.status_code == 200, answer.json()
        found = answer.json()
        assert (found["query"]["name"], found["query"]["image_id"]) == (text, "")
        assert found["neighbours"][0]["label"] == photo
        assert found["neighbours"][0]["cosine"] == pytest.approx(1, abs=1e-4)
    assert clients("viewer").get(f"{API}/partitions/{DAY}/photos").json()["words"] is True
    for wrong in ({"words": ""}, {"words": "x" * 501}, {}):
        assert clients("viewer").get(f"{API}/partitions/{DAY}/neighbours/words", params=wrong).status_code == 400


def test_a_model_that_knows_no_words_is_not_asked(clients: Clients, filled: None) -> None:
    assert clients("viewer").get(f"{API}/partitions/{DAY}/photos").json()["words"] is False
    answer = clients("viewer").get(f"{API}/partitions/{DAY}/neighbours/words", params={"words": "a cat"})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_words")


def test_the_api_server_itself_loads_no_model(clients: Clients, filled: None, photos: dict[str, bytes]) -> None:
    """Its own modules: in this process the tests have loaded one."""
    import image_features.web

    folder = Path(image_features.web.__file__).parent
    imported = [line for path in folder.glob("*.py") for line in path.read_text().splitlines() if "import" in line]
    ours = [line for line in imported if "spark_apps" in line]
    assert {line.strip() for line in ours} <= {
        "from spark_apps import catalog",
        "from spark_apps import contract",
        "from spark_apps import catalog, contract",
        "from spark_apps.contract import BadSetting",
        "from spark_apps.contract import BadSetting, locations",
        "from spark_apps.contract import frames",
        "from spark_apps.contract import JobError, Unreachable",
        "from spark_apps.contract import BadSetting, JobError",
        "from spark_apps.contract import partitions as keys_in_order",
        "from spark_apps.contract import photo_quality",
        "from spark_apps.search import reading",
        "from spark_apps.search.reading import Neighbour as Row",
    }


def test_a_store_on_s3_is_read_with_the_connection_of_the_tasks(
    clients: Clients,
    photos: dict[str, bytes],
    vectors: dict[str, list[float]],
    artifact: ModelArtifact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from image_features.web import store_state

    location, credentials = "s3://photos/store", {"AWS_ACCESS_KEY_ID": "key-id", "AWS_SECRET_ACCESS_KEY": "planted"}
    with s3_server() as endpoint:
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **_lower(credentials)).create_bucket(
            Bucket="photos"
        )
        environment = {**credentials, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fill(location, photos, vectors, artifact)
        for name in environment:
            monkeypatch.delenv(name)
        extra = {"region_name": "us-east-1", "endpoint_url": endpoint}
        connection = {"conn_type": "aws", "login": "key-id", "password": "planted", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORAGE_CONN_ID", "storage")
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", location)
        store_state._connections.forget()
        before = dict(os.environ)
        overview = clients("viewer").get(f"{API}/overview").json()
        assert overview["partitions"][0]["rows"] == 3, overview["store"]
        page = clients("viewer").get(f"{API}/partitions/{DAY}/photos").json()
        thumbnail = clients("viewer").get(f"{API}/thumbnails/{DAY}/{page['photos'][0]['image_id']}")
        assert thumbnail.headers["content-type"] == "image/webp"
        assert post(clients, photos["chelsea"]).json()["neighbours"][0]["label"] == "chelsea"
        assert dict(os.environ) == before, "what reaches the store is for the store alone"
    store_state._connections.forget()


def _lower(environment: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in environment.items()}
