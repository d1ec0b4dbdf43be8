"""The public Python API: photos to feature vectors, one at a time or as a column of a Spark DataFrame.

vectorizer = ImageVectorizer(weights="keras-v1")
vectorizer.extract_features(open("cat.jpg", "rb").read())      # a list of 2048 floats
vectorizer.process_images(spark.read.format("binaryFile").load("/photos"))   # adds the column features
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.closures.findings import check_closure
from spark_apps.contract import ExtractSettings, IngestSettings, ModelSettings
from spark_apps.host import cores
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.imaging import BadImage
from spark_apps.model import Calibration, Engine, prepare, worker
from spark_apps.spark import contexts

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

WEIGHTS_VARIABLE = "IMAGE_FEATURES_WEIGHTS"
"""Environment variable with the weights that `ImageVectorizer` uses when none are named."""


class ImageVectorizer:
    """Turns photos into feature vectors with a pretrained backbone.

    It holds no SparkSession, so it can be used inside a UDF; it pickles as a description, never as weights. The model
    is opened once per process, whatever the number of copies. On a cluster, this package and the model's files follow
    the object to the executors by themselves, through a Spark context as through Spark Connect.

    Args:
        model: see `contract.MODEL_HELP`; resnet50 gives 2048 floats.
        weights: see `contract.WEIGHTS_HELP`; by default $IMAGE_FEATURES_WEIGHTS, else DEFAULT.
        batch_size: photos per model call where there is a whole column of them.
        max_pixels: larger photos are refused before they are decoded.
        calibration: photos as bytes, for precision int8; the same ones give the same model again.
        weights_sha256: of the weights' file, 64 hex digits, to be sure of it; empty: not checked.
        engine: auto, torch or openvino; auto takes OpenVINO on a CPU when it is installed.
        precision: fp32, bf16 or int8.
        device: auto, cpu or cuda; auto takes a GPU when there is one.
        decode: exact; fast, with a faster resize, or scaled, large JPEGs several times faster: vectors differ a little.
        color: stored, the numbers as they are, or srgb, converted by the photo's profile to what a person sees.
        layer: an earlier layer to take the features from, for example layer3 of a resnet50.
        weights_within: folders and URIs, one a line, that no link or redirect of the weights may lead out of.
        resize, crop, mean, std, interpolation, layout: of a model in a file, as `ModelSettings` describes them.
        raw: of a camera's RAW photo the preview in it, where that is large enough, or developed: the sensor's data.

    Raises:
        BadSetting, Unreachable: the model cannot be had as asked for.
    """

    def __init__(
        self,
        model: str = ModelSettings.model,
        weights: str | None = None,
        *,
        calibration: Sequence[bytes] = (),
        batch_size: int = ExtractSettings.batch_size,
        max_pixels: int = IngestSettings.max_pixels,
        weights_sha256: str = ModelSettings.weights_sha256,
        engine: str = ModelSettings.engine,
        precision: str = ModelSettings.precision,
        device: str = ModelSettings.device,
        decode: str = ModelSettings.decode,
        layer: str = ModelSettings.layer,
        color: str = ModelSettings.color,
        weights_within: str = ModelSettings.weights_within,
        resize: str = ModelSettings.resize,
        crop: str = ModelSettings.crop,
        mean: str = ModelSettings.mean,
        std: str = ModelSettings.std,
        interpolation: str = ModelSettings.interpolation,
        layout: str = ModelSettings.layout,
        raw: str = ModelSettings.raw,
    ) -> None:
        weights = weights or os.environ.get(WEIGHTS_VARIABLE) or ModelSettings.weights
        artifact = prepare(
            ModelSettings(
                model,
                weights,
                weights_sha256,
                engine,
                precision,
                device,
                decode,
                layer,
                weights_within,
                color,
                resize,
                crop,
                mean,
                std,
                interpolation,
                layout,
                raw,
            ),
            calibration=Calibration(
                hashlib.sha256(b"".join(hashlib.sha256(photo).digest() for photo in calibration)).hexdigest(),
                lambda preprocessing: np.stack(
                    [imaging.decode(photo, preprocessing, max_pixels) for photo in calibration]
                ),
            )
            if calibration
            else None,
        )
        self._model_info = artifact.info
        self.batch_size, self.max_pixels = batch_size, max_pixels
        self._files = tuple(str(file) for file in artifact.files)

    @property
    def info(self) -> dict[str, Any]:
        """The model as `model.json` tells it: its `key`, `fingerprint`, `dim`, `weights` and so on by name."""
        return self._model_info.to_record()

    def extract_features(self, image_binary: bytes) -> list[float]:
        """The features of one photo, as many floats as the model has dimensions (2048 for resnet50).

        Raises:
            BadImage: the bytes are not an image that can be decoded; `code` says why.
        """
        pixels = imaging.decode(bytes(image_binary), self._preprocessing, self.max_pixels)
        features: list[float] = self._engine().run(pixels[None]).features[0].tolist()
        return features

    def process_images(
        self, image_df: DataFrame, column: str = "content", error_column: str | None = None
    ) -> DataFrame:
        """`image_df` with `features` (array<float>) for the photos in the binary column `column`.

        A photo that cannot be decoded has null features and does not stop the others; with `error_column` that column
        tells why (`code: message`).
        """
        found = "_image_features_found"  # one column of both, so that the model runs once for both
        frame = image_df.withColumn(found, self.udf()(image_df[column]))
        frame = frame.withColumn("features", frame[found]["features"])
        if error_column:
            frame = frame.withColumn(error_column, frame[found]["error"])
        return frame.drop(found)

    def udf(self) -> Any:
        """A Spark UDF from a binary column to struct<features: array<float>, error: string>; see `image_udf`.

        Raises:
            BadSetting: a class derived from this one holds something that only the driver has, such as the session.
        """
        check_closure(self.extract_features)
        _follow(self._files)
        return image_udf(self._run, self._preprocessing, self.batch_size, self.max_pixels)

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._engine().run(pixels).features

    @property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing.of(self._model_info.preprocessing)

    def _engine(self) -> Engine:
        return worker.engine(self._model_info, _found(self._files), cores.threads(cores.available()))

    def __getstate__(self) -> dict[str, Any]:
        _follow(self._files)
        return self.__dict__


def image_udf(
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    preprocessing: Preprocessing,
    batch_size: int,
    max_pixels: int,
) -> Any:
    """A Spark UDF from a binary column of photos to struct<features: array<float>, error: string>.

    A photo that cannot be decoded has null features, and `code: message` as its error. Spark is told that the UDF is
    not deterministic, or a filter on its result would run it twice: to filter, and again for the rows that are left.
    So give the struct a column, and take both fields from that.

    Args:
        run: pixels, uint8 [n, crop, crop, 3] with n up to `batch_size`, to features, float32 [n, dim]. Spark pickles it
            with all that it holds, and each task unpickles it: let it find its model in the worker.
    """
    from pyspark.sql.pandas import functions
    from pyspark.sql.types import ArrayType, FloatType, StringType, StructType

    struct = StructType().add("features", ArrayType(FloatType())).add("error", StringType())
    # Any, as the stubs miss that annotations can name the kind of UDF
    make: Any = getattr(functions, "arrow_udf", None)
    if make is None:  # before Spark 4.1
        return _pandas_udf(struct, run, preprocessing, batch_size, max_pixels)

    def extract(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
        for batch in batches:
            yield _features(batch, run, preprocessing, batch_size, max_pixels)

    # Spark reads the kind of UDF off the annotations, which must be types here, not strings.
    import pyarrow

    extract.__annotations__ = {"batches": Iterator[pyarrow.Array], "return": Iterator[pyarrow.Array]}
    return make(extract, struct).asNondeterministic()


def _pandas_udf(
    struct: StructType,
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    preprocessing: Preprocessing,
    batch_size: int,
    max_pixels: int,
) -> Any:
    """The same UDF through pandas, for a Spark that has none on Arrow's arrays."""
    import pandas
    from pyspark.sql.pandas.functions import pandas_udf

    def extract(batches: Iterator[pandas.Series]) -> Iterator[pandas.DataFrame]:
        import pyarrow as pa

        for batch in batches:
            found = _features(pa.array(batch, pa.binary()), run, preprocessing, batch_size, max_pixels)
            yield pandas.DataFrame({name: found.field(name).to_pandas() for name in ("features", "error")})

    extract.__annotations__ = {"batches": Iterator[pandas.Series], "return": Iterator[pandas.DataFrame]}
    make: Any = pandas_udf
    return make(extract, struct).asNondeterministic()


def _features(
    contents: pa.Array,
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    preprocessing: Preprocessing,
    batch_size: int,
    max_pixels: int,
) -> pa.Array:
    """Slices of `batch_size`, since Spark may hand over far larger batches than it was told to."""
    import pyarrow as pa

    features: list[np.ndarray | None] = [None] * len(contents)
    errors: list[str | None] = [None] * len(contents)
    pixels: list[np.ndarray] = []
    rows: list[int] = []

    def flush() -> None:
        if rows:
            for row, vector in zip(rows, run(np.stack(pixels)), strict=True):
                features[row] = vector
        pixels.clear()
        rows.clear()

    for row, content in enumerate(contents):
        try:
            pixels.append(imaging.decode(content.as_py() or b"", preprocessing, max_pixels))
            rows.append(row)
        except BadImage as bad:
            errors[row] = f"{bad.code}: {bad.message}"
        if len(rows) == batch_size:
            flush()
    flush()
    columns = [pa.array(features, pa.list_(pa.float32())), pa.array(errors, pa.string())]
    return pa.StructArray.from_arrays(columns, names=["features", "error"])


@lru_cache(maxsize=4)
def default_vectorizer() -> ImageVectorizer:
    """The vectorizer of `extract_features` and `extract_features_udf`: resnet50 with the default weights."""
    return ImageVectorizer()


def extract_features(image_binary: bytes) -> list[float]:
    """2048 floats for one photo; see `ImageVectorizer.extract_features`."""
    return default_vectorizer().extract_features(image_binary)


def extract_features_udf(column: Column | str) -> Column:
    """The column array<float> of features for a binary column of photos; null for a photo that cannot be decoded.

    `df.withColumn("features", extract_features_udf(df["content"]))`
    """
    features: Column = default_vectorizer().udf()(column)["features"]
    return features


def _follow(files: tuple[str, ...]) -> None:
    """Ships this package and the model's files to the executors of the active Spark session, if there is one.

    To both kinds of session: a server of Spark Connect on a local master is a context of the same process, but what a
    context was given does not reach the server's sessions.
    """
    if context := _loaded("pyspark", "SparkContext", "_active_spark_context"):
        contexts.ship_code(context)
        for file in files:
            contexts.ship(context, Path(file))
    active = _loaded("pyspark.sql.connect.session", "SparkSession", "getActiveSession")
    if active and (session := active()):
        contexts.ship_by_connect(session, map(Path, files))


def _loaded(module: str, *names: str) -> Any:
    """What a module holds under the names; None where it is not loaded: then there is no session, either."""
    found: Any = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return found


def _found(files: tuple[str, ...]) -> Path:
    """The folder that holds the model's files: that of Spark in an executor, else the cache they were made in."""
    from pyspark import SparkFiles

    if SparkFiles._is_running_on_worker:
        shipped = Path(SparkFiles.getRootDirectory())
        if (shipped / Path(files[0]).name).exists():
            return shipped
    return Path(files[0]).parent
