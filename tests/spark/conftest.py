"""A landing zone of a few real photos, and the three jobs run on it in this process, on one Spark session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import skimage
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from spark_apps.contract import ExtractSettings, IngestSettings, Manifest, ValidateSettings
from spark_apps.extract import extract
from spark_apps.ingest import ingest
from spark_apps.spark.contexts import context
from spark_apps.spark.jobs import Timings, write_manifest
from spark_apps.validate import validate
from spark_apps.vectorizer import ImageVectorizer

PHOTOS = Path(skimage.__file__).parent / "data"
MODEL, WEIGHTS = "resnet18", "random:0"


@pytest.fixture(scope="module")
def spark() -> SparkSession:
    context("tests")
    return SparkSession.builder.getOrCreate()


@pytest.fixture(scope="module")
def vectorizer() -> ImageVectorizer:
    return ImageVectorizer(model=MODEL, weights=WEIGHTS)


@pytest.fixture(scope="module")
def image_df(spark: SparkSession) -> DataFrame:
    """Three photos and a broken one: name and content."""
    rows = [(name, (PHOTOS / name).read_bytes()) for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    return spark.createDataFrame([*rows, ("broken.jpg", b"\xff\xd8\xff broken")], "name string, content binary")


def fill(folder: Path) -> Path:
    """Seven good files (one of them a copy of another) and three bad ones."""
    folder.mkdir(parents=True)
    for name in ("chelsea.png", "coffee.png", "astronaut.png"):
        photo = Image.open(PHOTOS / name).convert("RGB")
        photo.save(folder / name.replace(".png", ".jpg"), quality=90)
    turned = Image.open(PHOTOS / "rocket.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    Image.open(PHOTOS / "coffee.png").convert("CMYK").save(folder / "cmyk.jpg")
    Image.open(PHOTOS / "camera.png").save(folder / "grey image.png")
    shutil.copy(folder / "coffee.jpg", folder / "coffee again.jpg")
    (folder / "cut.jpg").write_bytes((folder / "chelsea.jpg").read_bytes()[:9000])
    (folder / "empty.jpg").touch()
    (folder / "notes.jpg").write_text("no photo at all, whatever the name says")
    return folder


GOOD, BAD, DUPLICATES = 7, {"truncated": 1, "empty": 1, "not_an_image": 1}, 1


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A folder with a day of photos, `<folder>/d1`."""
    fill(tmp_path / "landing" / "d1")
    return tmp_path / "landing"


Pipeline = Callable[..., dict[str, Manifest]]


@pytest.fixture
def pipeline(landing: Path, tmp_path: Path) -> Pipeline:
    """Runs ingest, extract and validate; keyword arguments go to the settings of the stage that knows them."""

    def run(
        partition: str = "d1", run_id: str = "run 1", upto: str = "validate", **options: object
    ) -> dict[str, Manifest]:
        common = {"store": str(tmp_path / "store"), "partition": partition, "run_id": run_id}
        defaults = {
            "source": str(landing / "{partition}"),
            "model": MODEL,
            "weights": WEIGHTS,
            "max_failed_fraction": 0.5,
            "recheck": 2,
        }
        manifests = {}
        for stage, kind, job in (
            ("ingest", IngestSettings, ingest),
            ("extract", ExtractSettings, extract),
            ("validate", ValidateSettings, validate),
        ):
            chosen = {**defaults, **options}
            known = {name: value for name, value in chosen.items() if name in kind.__dataclass_fields__}
            settings = kind(**common, **known)
            manifests[stage] = job(settings, Timings())
            write_manifest(settings, manifests[stage])
            if stage == upto:
                break
        return manifests

    return run
