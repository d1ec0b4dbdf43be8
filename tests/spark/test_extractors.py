"""Texts, sounds, and a user's own extractor through the three jobs: all that photos have, others have too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from demo import other_files
from spark_apps import catalog
from spark_apps.contract import BadSetting, ExtractSettings, QualityFailed
from spark_apps.extract import extract
from spark_apps.spark.jobs import Timings
from tests.spark.conftest import GOOD, Pipeline

COLOURS = re.findall(
    r"```python\n(.*?)```", Path(__file__).parents[2].joinpath("docs/extractors.md").read_text(), re.S
)[0]


@pytest.mark.parametrize(
    ("extractor", "model", "refused"),
    [
        ("text", "wordllama_256", {"empty": 1, "not_text": 2}),
        ("audio", "logmel_64", {"empty": 1, "not_audio": 1, "truncated": 1}),
    ],
)
def test_other_files_are_published_and_like_is_near_like(
    pipeline: Pipeline, tmp_path: Path, extractor: str, model: str, refused: dict[str, int]
) -> None:
    folder = other_files.prepare(tmp_path, extractor)
    options = {"source": str(folder), "extractor": extractor, "recheck": 8}
    counts = pipeline(**options)["validate"].counts
    assert counts["listed"] == 34 == counts["featured"] + counts["quarantined"]
    store = str(tmp_path / "store")
    codes = catalog.quarantine(store, "d1")["error_code"].to_pylist()
    assert {code: codes.count(code) for code in codes} == refused
    table = catalog.vectors(store, "d1", model)
    vectors = np.stack([np.array(row) for row in table["features"].to_pylist()])
    assert vectors.shape == (31, 256)
    report = catalog.report(store, "d1", "run 1")
    assert report is not None and report["verdict"] == "published_with_warnings", "3 of 34 are 9 % lost"
    assert len(report["recomputed"]) == 8 and min(one["cosine"] for one in report["recomputed"]) > 0.9999
    kinds = [re.split(r"[-/ ]", uri.rpartition("/")[2])[0] for uri in table["uri"].to_pylist()]
    units = vectors - vectors.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    near = units @ units.T - 2 * np.eye(len(units))
    right = [kinds[int(row.argmax())] == kind for kind, row in zip(kinds, near, strict=True) if kind != "copy"]
    assert np.mean(right) > 0.5, "the nearest is of the same kind, of which there are six"
    again = pipeline(run_id="run 2", **options)["extract"].counts
    assert (again["reused"], again["duplicates"], again["computed"]) == (30, 1, 0)


def test_the_example_of_the_documentation_runs_on_photos(pipeline: Pipeline, tmp_path: Path) -> None:
    module = tmp_path / "colours.py"
    module.write_text(COLOURS)
    manifests = pipeline(extractor=f"{module}:Colours")
    assert manifests["validate"].quarantined == {"empty": 1, "not_an_image": 1, "truncated": 1}
    table = catalog.vectors(str(tmp_path / "store"), "d1", "colours_64")
    assert table.num_rows == GOOD and {len(row) for row in table["features"].to_pylist()} == {64}
    kept = catalog.model_folder(str(tmp_path / "store"), manifests["extract"].model.fingerprint, tmp_path)
    assert kept is not None and (kept / "model.json").exists()


def test_one_bad_file_costs_itself_and_a_bad_extractor_publishes_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = other_files.prepare(tmp_path, "text")
    module = tmp_path / "picky.py"
    module.write_text(
        "import numpy as np\n"
        "from spark_apps.extractors import Extractor\n"
        "class Picky(Extractor):\n"
        "    name, dim = 'picky', 2\n"
        "    def extract(self, items):\n"
        "        if any(b'onions' in item for item in items):\n"
        "            raise ValueError('no onions')\n"
        "        return np.array([[len(item), item[0]] for item in items], np.float32)\n"
        "class Hopeless(Picky):\n"
        "    name = 'hopeless'\n"
        "    def extract(self, items):\n"
        "        raise RuntimeError('never')\n"
    )
    options = {"source": str(folder), "recheck": 0}
    manifests = pipeline(extractor=f"{module}:Picky", **options)
    assert manifests["validate"].quarantined == {"empty": 1, "extractor_failed": 2}, "the note on onions and its copy"
    with pytest.raises(QualityFailed, match="failed_fraction"):
        pipeline(run_id="run 2", extractor=f"{module}:Hopeless", **options)
    assert {item.model for item in catalog.partitions(str(tmp_path / "store"))} == {"picky"}


def test_what_ingest_took_as_photos_is_not_read_as_text(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline(upto="ingest")
    settings = ExtractSettings(store=str(tmp_path / "store"), partition="d1", run_id="run 1", extractor="text")
    with pytest.raises(BadSetting, match="Ingest took only photos") as caught:
        extract(settings, Timings())
    assert "--extractor text" in caught.value.hint
