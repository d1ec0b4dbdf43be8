"""A person publishes what was rejected: just what was checked, without computing it again, and with a name under it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from spark_apps import approve as command
from spark_apps import catalog, contract
from spark_apps.approve import approve
from spark_apps.contract import ApproveSettings, BadSetting, JobError, NothingToDo, QualityFailed, UndoSettings
from spark_apps.pipeline.publishing import StagedRun
from spark_apps.spark.jobs import Timings, write_manifest
from spark_apps.undo import undo
from tests.spark.conftest import GOOD, Pipeline

MODEL = "resnet18-random_0-fp32"
RUN = "rejected"


@pytest.fixture
def rejected(pipeline: Pipeline, tmp_path: Path) -> str:
    """A store with a run of a day whose broken files are too many."""
    with pytest.raises(QualityFailed):
        pipeline(run_id=RUN, max_failed_fraction=0.0)
    return str(tmp_path / "store")


def settings(store: str, **options: Any) -> ApproveSettings:
    given = {"checks": "failed_fraction", "approved_by": "A. Person", "reason": "the disk of camera 3", "run_id": RUN}
    return ApproveSettings(**{"store": store, "partition": "d1", **given, **options})


def folder(store: str, run: str = RUN) -> Path:
    return Path(contract.run_folder(store, "d1", contract.run_key(run)))


def test_what_was_checked_is_published_with_the_name_of_who_decided(rejected: str) -> None:
    assert catalog.partitions(rejected, MODEL) == []
    before = sorted(path.name for path in Path(rejected, "features").rglob("*.parquet"))
    (folder(rejected) / "error.json").write_text("{}")  # as the command leaves it
    wanted = settings(rejected)
    done = approve(wanted, Timings())
    write_manifest(wanted, done)
    assert sorted(path.name for path in Path(rejected, "features").rglob("*.parquet")) == before, "nothing is computed"
    assert catalog.vectors(rejected, "d1", MODEL).num_rows == GOOD
    assert not (folder(rejected) / "error.json").exists()
    said = {"by": "A. Person", "reason": "the disk of camera 3", "checks": ["failed_fraction"]}
    report = catalog.report(rejected, "d1", RUN)
    assert report is not None and report["verdict"] == "published_with_warnings"
    assert report["approval"].items() >= said.items() and contract.warned(report["checks"]) == ["failed_fraction"]
    assert done.outcome["approval"].items() >= said.items() and done.outcome["changes"]["added"] == GOOD
    assert catalog.manifest(rejected, "d1", RUN, "validate").outcome == done.outcome
    facts = catalog.publications(rejected, "d1", MODEL)[0].facts
    assert (facts["approved_by"], facts["approved_reason"]) == ("A. Person", "the disk of camera 3")
    again = approve(wanted, Timings())  # killed before its own manifest: done again, it says the same
    assert (again.outcome, again.counts) == (done.outcome, done.counts)
    with pytest.raises(NothingToDo):
        approve(settings(rejected, reason="another"), Timings())


class Killed(BaseException):
    pass


@pytest.fixture
def killed_after_the_commit(rejected: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store, after an approval that was killed there."""

    def dead(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command.jobs, "write_manifest", dead)
        with pytest.raises(Killed):
            approve(settings(rejected), Timings())
    assert catalog.partitions(rejected, MODEL) != [] and catalog.report(rejected, "d1", RUN)["verdict"] == "rejected"
    return rejected


def test_a_kill_after_the_commit_and_a_publication_since_leave_it_superseded_and_not_rejected(
    killed_after_the_commit: str, pipeline: Pipeline
) -> None:
    store = killed_after_the_commit
    pipeline(run_id="other")
    version = catalog.table(store, "features").version()
    done = approve(settings(store), Timings())
    assert done.outcome["verdict"] == "superseded" and done.outcome["table_versions"]["features"] < version
    report = catalog.report(store, "d1", RUN)
    assert (report["verdict"], report["approval"]["by"]) == ("superseded", "A. Person")
    assert catalog.table(store, "features").version() == version, "what was published since stands"
    assert [item.run_id for item in catalog.partitions(store, MODEL)] == ["other"]


def test_an_approval_of_an_attempt_before_is_none_of_this_one(killed_after_the_commit: str, pipeline: Pipeline) -> None:
    store = killed_after_the_commit
    time.sleep(1.1)  # reports tell the second
    with pytest.raises(QualityFailed):
        pipeline(run_id=RUN, max_failed_fraction=0.0, batch_size=3, recompute=True)
    pipeline(run_id="other")
    with pytest.raises(BadSetting) as caught:
        approve(settings(store), Timings())
    assert caught.value.code == "published_meanwhile"


def test_a_kill_after_the_commit_is_made_good_by_the_next_attempt(killed_after_the_commit: str) -> None:
    store = killed_after_the_commit
    versions = catalog.table(store, "features").version()
    assert approve(settings(store), Timings()).outcome["verdict"] == "published_with_warnings"
    assert catalog.table(store, "features").version() == versions


def test_who_names_other_checks_than_failed_is_refused(rejected: str) -> None:
    for checks, code in (("drift", "other_checks"), ("failed_fraction,drift", "other_checks")):
        with pytest.raises(BadSetting) as caught:
            approve(settings(rejected, checks=checks), Timings())
        assert caught.value.code == code and "failed_fraction" in str(caught.value)
    for options in ({"checks": "finite"}, {"checks": ""}, {"approved_by": " "}, {"reason": ""}):
        with pytest.raises(BadSetting):
            settings(rejected, **options)


def test_what_says_something_against_a_vector_cannot_be_overruled(rejected: str) -> None:
    place = folder(rejected) / "report.json"
    report = json.loads(place.read_text())
    next(check for check in report["checks"] if check["name"] == "recomputation")["passed"] = False
    place.write_text(json.dumps(report))
    with pytest.raises(BadSetting, match="recomputation") as caught:
        approve(settings(rejected), Timings())
    assert caught.value.code == "not_overrulable" and catalog.partitions(rejected, MODEL) == []


def test_other_files_than_were_checked_are_not_published(rejected: str, pipeline: Pipeline) -> None:
    pipeline(run_id=RUN, upto="extract", batch_size=3, recompute=True)
    with pytest.raises(BadSetting) as caught:
        approve(settings(rejected), Timings())
    assert caught.value.code == "staged_changed" and catalog.partitions(rejected, MODEL) == []


def test_a_day_that_was_published_or_undone_meanwhile_is_left_as_it_is(rejected: str, pipeline: Pipeline) -> None:
    pipeline(run_id="other")
    with pytest.raises(BadSetting) as caught:
        approve(settings(rejected), Timings())
    assert caught.value.code == "published_meanwhile"
    assert StagedRun.of(settings(rejected)).standing() == contract.run_key("other").folder
    pipeline(run_id="another", batch_size=3)
    with pytest.raises(QualityFailed):
        pipeline(run_id="later", max_failed_fraction=0.0)
    undo(UndoSettings(store=rejected, partition="d1", model=MODEL))
    with pytest.raises(BadSetting) as caught:
        approve(settings(rejected, run_id="later"), Timings())
    assert caught.value.code == "published_meanwhile"


def test_a_run_that_publishes_at_the_same_moment_stands(
    rejected: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = command._refuse_changed

    def at_this_moment(*given: Any) -> None:
        looked(*given)
        pipeline(run_id="other")

    monkeypatch.setattr(command, "_refuse_changed", at_this_moment)
    with pytest.raises(JobError) as caught:
        approve(settings(rejected), Timings())
    assert caught.value.code == "published_meanwhile"
    assert [item.run_id for item in catalog.partitions(rejected, MODEL)] == ["other"]


def test_only_a_rejected_run_can_be_approved(rejected: str, pipeline: Pipeline) -> None:
    pipeline(run_id="checked", no_publish=True)
    for run, code in (("checked", "not_rejected"), ("never", "stage_missing")):
        with pytest.raises(BadSetting) as caught:
            approve(settings(rejected, run_id=run), Timings())
        assert caught.value.code == code
