"""Each check passes on sound evidence, fails on the fault it is for, and names the files to look at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats

from spark_apps import contract
from spark_apps.catalog import Partition
from spark_apps.contract import BadSetting, ModelInfo, StagedFile, Unreachable, ValidateSettings
from spark_apps.contract.photo_quality import POOR
from spark_apps.pipeline import drift, keys, landing, measure, quality
from spark_apps.pipeline import twins as twins_of
from spark_apps.pipeline.measure import OFFENDERS, Asked, Measured
from spark_apps.pipeline.quality import ERROR, WARNING, Check, Evidence
from spark_apps.pipeline.reconcile import reconcile
from spark_apps.pipeline.twins import Twins
from spark_apps.spark import spreading
from tests.shelf import FINGERPRINT, MODEL, Shelf, image_id

DIM = 4
SETTINGS = ValidateSettings(store="/s", partition="d9", run_id="r")
INFO = ModelInfo(key=MODEL, fingerprint=FINGERPRINT, dim=DIM, precision="fp32")
FILES = {f"u{index:02}": f"photo {index}" for index in range(20)}
QUARANTINED = ("bad",)
SOUND_LOOKS = {"measured": 20, "blank": 0, "dark": 1, "blurred": 2}

Evidences = Callable[..., Evidence]


@pytest.fixture
def evidence(shelf: Shelf) -> Evidences:
    """Sound evidence of twenty photos and one quarantined file; `files` and the like change what is staged, `twice`
    names what is staged again."""

    def build(
        files: dict[str, str] = FILES,
        vectors: dict[str, list[float]] | None = None,
        fingerprint: str = FINGERPRINT,
        listed: Sequence[str] = (*FILES, *QUARANTINED),
        quarantined: Sequence[str] = QUARANTINED,
        twice: Sequence[str] = (),
        dark: Sequence[str] = (),
        twins: Twins | None = None,
        **changes: Any,
    ) -> Evidence:
        features = shelf.features("d9", "r", files, vectors, fingerprint, dark, row_group_bytes=700)
        features += [file for uri in twice for file in shelf.features("d9", "r", {uri: FILES[uri]})]
        staged = {"features": features, "quarantine": shelf.quarantine("d9", "r", quarantined)}
        units = measure.units(staged, [listing(shelf, listed)])
        measured = measure.measure(spreading.here, units, Asked(shelf.store, DIM))
        sharing = twins_of.sharing(measured.images, measured.vectors)
        alike = sharing.suspects if twins is None else twins.differing
        sound = Evidence(
            settings=SETTINGS,
            measured=measured,
            reconciled=reconcile(spreading.here, shelf.store, units, measured, alike),
            sharing=sharing,
            model=INFO,
            history=[Partition(f"d{day}", MODEL, 20, "r", 1) for day in range(8, 1, -1)],
            neighbour_fingerprints={"d8": FINGERPRINT},
            cosines=[("u00", 1.0), ("u01", 0.99995)],
            drift=0.1,
            twins=twins,
            looks_before=[SOUND_LOOKS, {**SOUND_LOOKS, "measured": 0}],
        )
        return replace(sound, **changes)

    return build


def listing(shelf: Shelf, uris: Sequence[str]) -> str:
    """Keeps a listing of these files, in row groups of nine; its URI."""
    path = Path(shelf.store, "listing.parquet")
    columns = {"uri": list(uris), "size_bytes": [1] * len(uris), "modified_at": [None] * len(uris)}
    pq.write_table(pa.table(columns, schema=landing.LISTING), path, row_group_size=9)
    return str(path)


def named(checks: list[Check], name: str) -> Check:
    (found,) = (check for check in checks if check.name == name)
    return found


def failures(evidence: Evidence) -> dict[str, Check]:
    return {check.name: check for check in quality.checks(evidence) if not check.passed}


def test_sound_evidence_passes_every_check(evidence: Evidences) -> None:
    checks = quality.checks(evidence())
    assert [check.name for check in checks if not check.passed] == []
    assert [check.name for check in checks] == list(contract.CHECKS) == list(quality.RULES)
    assert {check.name for check in checks if check.severity != ERROR} == {"row_count", "photo_quality"}
    assert named(checks, "row_count").severity == WARNING
    assert json.loads(json.dumps([check.to_json() for check in checks], allow_nan=False))
    assert "21 listed = 20 featured + 1 quarantined" in named(checks, "reconciliation").message


def test_a_lost_file_is_found(evidence: Evidences) -> None:
    failed = failures(evidence(listed=[*FILES, *QUARANTINED, "lost"]))
    assert list(failed) == ["reconciliation"]
    assert (failed["reconciliation"].value, failed["reconciliation"].offenders) == (1, ("lost",))


def test_a_file_in_both_tables_is_found(evidence: Evidences) -> None:
    failed = failures(evidence(quarantined=["bad", "u03"]))
    assert failed["reconciliation"].offenders == ("u03",)


def test_a_file_that_is_twice_in_one_table_is_found(evidence: Evidences) -> None:
    assert failures(evidence(quarantined=["bad", "bad"]))["reconciliation"].offenders == ("bad",)
    files = {uri: photo for uri, photo in FILES.items() if uri != "u19"}
    assert failures(evidence(files=files, twice=["u00"]))["reconciliation"].offenders == ("u19", "u00")


def test_a_file_that_was_never_listed_is_found(evidence: Evidences) -> None:
    assert failures(evidence(listed=[*FILES]))["reconciliation"].offenders == ("bad",)
    check = failures(evidence(listed=[*list(FILES)[1:], *QUARANTINED, "lost"]))["reconciliation"]
    assert check.offenders == ("lost", "u00")
    assert "1 files lost, 0 counted twice, 1 never listed" in check.message


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ([1.0, 2.0, 3.0], "dimension"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "dimension"),
        ([], "dimension"),
        ([1.0, float("nan"), 3.0, 4.0], "finite"),
        ([1.0, float("inf"), 3.0, 4.0], "finite"),
        ([0.0, 0.0, 0.0, 0.0], "constant"),
        ([7.0, 7.0, 7.0, 7.0], "constant"),
    ],
)
def test_a_vector_that_is_none_is_found(evidence: Evidences, wrong: list[float], check: str) -> None:
    failed = failures(evidence(vectors={"u05": wrong, "u17": wrong}))
    assert list(failed) == [check], "each fault is told once, by the check that it is for"
    assert (failed[check].value, failed[check].offenders) == (2, ("u05", "u17"))


def test_offenders_are_limited(evidence: Evidences) -> None:
    failed = failures(evidence(vectors={uri: [1.0] for uri in FILES}))
    assert (failed["dimension"].value, failed["dimension"].offenders) == (20, tuple(list(FILES)[:OFFENDERS]))
    lost = failures(evidence(listed=[*FILES, *QUARANTINED, *(f"lost{index}" for index in range(99))]))
    assert lost["reconciliation"].value == 99
    assert len(lost["reconciliation"].offenders) == OFFENDERS == 10


def test_photos_that_share_a_vector_are_too_many_beyond_half(evidence: Evidences) -> None:
    same = [1.0, 2.0, 3.0, 4.0]
    few = named(quality.checks(evidence(vectors=dict.fromkeys(list(FILES)[:10], same))), "identical_vectors")
    assert (few.passed, few.value) == (True, 0.5)
    many = failures(evidence(vectors=dict.fromkeys(list(FILES)[:11], same)))
    assert (many["identical_vectors"].value, many["identical_vectors"].offenders[:2]) == (0.55, ("u00", "u01"))


def test_files_of_one_photo_may_share_its_vector(evidence: Evidences) -> None:
    check = named(quality.checks(evidence(files=dict.fromkeys(FILES, "one photo"))), "identical_vectors")
    assert (check.passed, check.value) == (True, 0)


def test_photos_of_the_same_pixels_may_share_a_vector(evidence: Evidences) -> None:
    same = {uri: [1.0, 2.0, 3.0, 4.0] for uri in FILES}
    honest = named(quality.checks(evidence(vectors=same, twins=Twins(20, keys.of([])))), "identical_vectors")
    assert (honest.passed, honest.value, honest.offenders) == (True, 0, ())
    differing = np.sort(keys.of([image_id(name) for name in list(FILES.values())[:11]]))
    failed = failures(evidence(vectors=same, twins=Twins(20, differing)))
    assert list(failed) == ["identical_vectors"]
    assert (failed["identical_vectors"].value, failed["identical_vectors"].offenders[0]) == (0.55, "u00")


LOWERED = [name for name in contract.CHECKS if name not in contract.FIXED]
FAULTS: dict[str, dict[str, Any]] = {
    "some_features": {"settings": {"min_features": 21}},
    "failed_fraction": {"settings": {"max_failed_fraction": 0.01}},
    "constant": {"vectors": {"u05": [0.0] * DIM}},
    "identical_vectors": {
        "vectors": {"u05": [1.0, 2, 3, 4], "u06": [1.0, 2, 3, 4]},
        "settings": {"max_identical_fraction": 0.05},
    },
    "recomputation": {"cosines": [("u00", 0.5)]},
    "drift": {"drift": 0.9},
    "row_count": {"history": [Partition("d8", MODEL, 99, "r", 1)]},
    "photo_quality": {"dark": list(FILES)[:8]},
}


@pytest.mark.parametrize("level", contract.LEVELS)
@pytest.mark.parametrize("name", LOWERED)
def test_a_fault_has_the_level_that_was_chosen_for_its_check(evidence: Evidences, name: str, level: str) -> None:
    fault = dict(FAULTS[name])
    settings = replace(SETTINGS, check_levels=f" {name} = {level} ,", **fault.pop("settings", {}))
    checks = quality.checks(evidence(settings=settings, **fault))
    check = named(checks, name)
    assert [other.name for other in checks if other.passed is False] == ([] if level == "off" else [name])
    assert (check.severity, check.passed) == (level, None if level == "off" else False)
    if level == "off":
        assert (check.value, check.limit, "not run" in check.message) == (None, None, True)


def keeps(relation: str | None, value: float, limit: float) -> bool:
    """What a reader of a report takes from the relation that a check tells."""
    return {
        "at_most": value <= limit,
        "at_least": value >= limit,
        "equals": value == limit,
        "within": limit <= value and value * limit <= 1,
    }[str(relation)]


@pytest.mark.parametrize(
    "fault",
    [
        {},
        *FAULTS.values(),
        {"history": [Partition("d8", MODEL, 3, "r", 1)]},
        {"listed": [*FILES, *QUARANTINED, "lost"]},
        {"vectors": {"u05": [float("nan"), 1, 2, 3], "u06": [1.0, 2, 3]}},
        {"neighbour_fingerprints": {"d8": "another"}},
        {"model": replace(INFO, precision="int8"), "cosines": [(f"u{at:02}", 0.9) for at in range(8)]},
    ],
)
def test_a_check_says_how_its_value_relates_to_its_limit(evidence: Evidences, fault: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **fault.get("settings", {}))
    checks = quality.checks(evidence(**{**fault, "settings": settings}))
    assert [check.name for check in checks if not check.passed] or not fault
    for check in checks:
        assert check.value is not None and check.limit is not None
        assert keeps(check.relation, check.value, check.limit) == check.passed, check
        assert check.to_json()["relation"] in contract.RELATIONS


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("constant", {"max_constant": 1}),
        ("identical_vectors", {"max_identical_fraction": 0.1}),
        ("recomputation", {"min_cosine": 0.5}),
        ("drift", {"max_drift": 0.9, "warn_drift": 1.0}),
        ("row_count", {"min_row_ratio": 0.2}),
        ("photo_quality", {"max_poor_rise": 0.2}),
    ],
)
def test_a_limit_that_was_set_is_the_one_that_is_kept(evidence: Evidences, name: str, limit: dict[str, Any]) -> None:
    fault = {key: value for key, value in FAULTS[name].items() if key != "settings"}
    check = named(quality.checks(evidence(settings=replace(SETTINGS, **limit), **fault)), name)
    assert (check.passed, check.limit) == (True, next(iter(limit.values())))


TWO_LIMITS = [
    # 1 of 21 files is quarantined, the drift is 0.1, and there are 20 vectors where there used to be 20
    ("failed_fraction", {"max_failed_fraction": 0.1, "warn_failed_fraction": 0.05}, True, 0.05),
    ("failed_fraction", {"max_failed_fraction": 0.1, "warn_failed_fraction": 0.04}, False, 0.04),
    ("drift", {"max_drift": 0.2, "warn_drift": 0.1}, True, 0.1),
    ("drift", {"max_drift": 0.2, "warn_drift": 0.09}, False, 0.09),
    ("row_count", {"min_row_ratio": 0.2, "warn_row_ratio": 1.0, "check_levels": "row_count=error"}, True, 1.0),
    # not narrower than the limit, so that it says nothing
    ("failed_fraction", {"max_failed_fraction": 0.1, "warn_failed_fraction": 1.0}, True, None),
    ("drift", {"max_drift": 0.1, "warn_drift": 0.3}, True, None),
    ("row_count", {"min_row_ratio": 0.5, "warn_row_ratio": 0.0}, True, None),
]


@pytest.mark.parametrize(("name", "limits", "passes", "warn_limit"), TWO_LIMITS)
def test_beyond_the_narrower_limit_a_check_is_a_failed_warning(
    evidence: Evidences, name: str, limits: dict[str, Any], passes: bool, warn_limit: float | None
) -> None:
    settings = replace(SETTINGS, **limits)
    check = named(quality.checks(evidence(settings=settings)), name)
    level = settings.levels[name]
    assert (check.passed, check.severity) == ((True, level) if passes else (False, WARNING))
    assert check.to_json()["warn_limit"] == warn_limit
    assert check.limit == limits[next(iter(limits))], "the limit of its level, whether it warns or not"
    assert contract.warned([check.to_json()]) == ([] if passes else [name])


@pytest.mark.parametrize(("rows", "severity"), [(20, ERROR), (30, WARNING), (11, WARNING), (90, ERROR), (4, ERROR)])
def test_a_row_count_may_warn_on_both_sides_before_it_fails(evidence: Evidences, rows: int, severity: str) -> None:
    settings = replace(SETTINGS, check_levels="row_count=error", min_row_ratio=0.25, warn_row_ratio=0.75)
    check = named(
        quality.checks(evidence(settings=settings, history=[Partition("d8", MODEL, rows, "r", 1)])), "row_count"
    )
    assert (check.severity, check.passed) == (severity, rows == 20)


def test_beyond_both_limits_a_check_fails_at_its_level(evidence: Evidences) -> None:
    settings = replace(SETTINGS, max_drift=0.05, warn_drift=0.01)
    assert failures(evidence(settings=settings))["drift"].severity == ERROR
    settings = replace(settings, check_levels="drift=warning")
    assert failures(evidence(settings=settings))["drift"].severity == WARNING


@pytest.mark.parametrize("level", ["warning", "off"])
@pytest.mark.parametrize("name", ["reconciliation", "finite", "fingerprint", "dimension"])
def test_what_every_reader_relies_on_cannot_be_lowered(name: str, level: str) -> None:
    with pytest.raises(BadSetting, match=f"The check {name} is always an error"):
        replace(SETTINGS, check_levels=f"drift=off,{name}={level}")
    assert replace(SETTINGS, check_levels=f"{name}=error").levels[name] == "error"


def test_another_fingerprint_in_the_day_or_beside_it_is_found(evidence: Evidences) -> None:
    inside = failures(evidence(fingerprint="another"))
    assert (list(inside), inside["fingerprint"].value) == (["fingerprint"], 20)
    beside = failures(evidence(neighbour_fingerprints={"d7": "another", "d8": FINGERPRINT, "d10": "another"}))
    assert (list(beside), beside["fingerprint"].value) == (["fingerprint"], 2)
    assert "d7, d10" in beside["fingerprint"].message


@pytest.mark.parametrize(("count", "passes"), [(0, True), (2, True), (3, False)])
def test_the_failed_fraction_keeps_its_limit(evidence: Evidences, count: int, passes: bool) -> None:
    bad = [f"bad{index}" for index in range(count)]
    listed = [*list(FILES)[: 20 - count], *bad]
    sound = evidence({uri: FILES[uri] for uri in listed if uri in FILES}, listed=listed, quarantined=bad)
    codes, one_level = Counter({"empty": 1, "corrupt": count - 1}), replace(SETTINGS, warn_failed_fraction=1.0)
    found = replace(sound, settings=one_level, measured=replace(sound.measured, codes=codes))
    check = named(quality.checks(found), "failed_fraction")
    assert (check.passed, check.value, check.limit) == (passes, count / 20, 0.1)
    assert check.offenders == tuple(bad)
    assert f"{count - 1} corrupt, 1 empty" in check.message


def test_a_day_without_any_vector_fails_even_if_all_may_be_quarantined(evidence: Evidences) -> None:
    settings = replace(SETTINGS, max_failed_fraction=1.0)
    nothing = evidence(files={}, settings=settings, listed=["bad"], quarantined=["bad"], drift=None, cosines=[])
    failed = {name: check for name, check in failures(nothing).items() if check.severity == ERROR}
    assert list(failed) == ["some_features"]
    assert failed["some_features"].offenders == ("bad",)


@pytest.mark.parametrize(("usual", "passes"), [(20, True), (40, True), (10, True), (41, False), (9, False)])
def test_a_row_count_out_of_the_ordinary_is_a_warning(evidence: Evidences, usual: int, passes: bool) -> None:
    rows = (usual, usual, 5_000)
    history = [Partition(f"d{day}", MODEL, count, "r", 1) for day, count in enumerate(rows)]
    check = named(quality.checks(evidence(history=history)), "row_count")
    assert (check.passed, check.severity, check.value) == (passes, WARNING, 20 / usual)


def test_without_history_nothing_is_compared(evidence: Evidences) -> None:
    checks = quality.checks(evidence(history=[], drift=None, neighbour_fingerprints={}))
    for name in ("row_count", "drift"):
        assert (named(checks, name).passed, named(checks, name).value) == (True, None)


@pytest.mark.parametrize(
    ("value", "limit", "passes"),
    [(0.5, 0.5, True), (0.51, 0.5, False), (1.0, 1.0, True), (0.01, 0.0, False), (float("nan"), 1.0, False)],
)
def test_the_drift_keeps_its_limit(evidence: Evidences, value: float, limit: float, passes: bool) -> None:
    found = evidence(drift=value, settings=replace(SETTINGS, max_drift=limit, warn_drift=1.0))
    check = named(quality.checks(found), "drift")
    assert (check.passed, check.severity, check.limit) == (passes, ERROR, limit)


@pytest.mark.parametrize(
    ("precision", "worst", "passes"),
    [
        ("fp32", 0.9999, True),
        ("fp32", 0.9998, False),
        ("bf16", 0.9998, True),
        ("bf16", 0.998, False),
        ("int8", 0.991, True),
        ("int8", 0.77, True),  # one of two says nothing of the share
        ("int8", 0.4, False),
        ("int8", float("nan"), False),
    ],
)
def test_a_recomputed_vector_must_be_the_stored_one(
    evidence: Evidences, precision: str, worst: float, passes: bool
) -> None:
    found = evidence(model=replace(INFO, precision=precision), cosines=[("u01", 1.0), ("u02", worst)])
    check = named(quality.checks(found), "recomputation")
    assert (check.passed, check.offenders) == (passes, () if worst >= (check.limit or 0) else ("u02",))


def test_an_int8_sample_is_judged_as_a_sample(evidence: Evidences) -> None:
    def passes(below: int, of: int, **model: Any) -> bool:
        cosines = [(f"u{index:02}", 0.9 if index < below else 0.999) for index in range(of)]
        check = quality.recomputed(evidence(model=replace(INFO, **{"precision": "int8", **model}), cosines=cosines))
        assert check.value is not None and check.passed == (check.value >= check.limit), "pages compare the two"
        return check.passed

    assert [passes(below, 64) for below in (0, 6, 7, 64)] == [True, True, False, False]
    assert [passes(below, 8) for below in (2, 3)] == [True, False]
    assert not passes(1, 64, min_cosine=0.99), "an extractor's own limit holds for each vector"
    assert not passes(1, 64, precision="fp32", preprocessing={"decode": "exact"})


@pytest.mark.parametrize("sample", [1, 2, 8, 64, 500, 8000])
def test_the_bound_is_that_of_clopper_and_pearson(sample: int) -> None:
    def lower(count: int) -> float:
        interval = scipy.stats.binomtest(count, sample, alternative="greater").proportion_ci(quality.CONFIDENCE)
        return float(interval.low)

    most = quality.most_below(sample)
    assert lower(most) <= quality.MAX_BELOW + 1e-9
    assert most == sample or lower(most + 1) > quality.MAX_BELOW


def test_neither_luck_nor_chance_decides_a_night() -> None:
    """64 photos of a model as measured (2 % below), and of one that is broken (20 % below), in 20,000 nights each."""
    random, most = np.random.default_rng(0), quality.most_below(64)
    sound, broken = (random.binomial(64, share, 20_000) > most for share in (0.02, 0.2))
    assert sound.mean() < 0.002 and broken.mean() > 0.95


@pytest.mark.parametrize("decode", ["fast", "scaled"])
def test_an_approximate_decode_may_differ_more_from_the_recomputation(evidence: Evidences, decode: str) -> None:
    model = replace(INFO, preprocessing={"decode": decode})
    found = [
        quality.recomputed(evidence(model=model, cosines=[(f"u{index:02}", worst) for index in range(8)])).passed
        for worst in (0.991, 0.98)
    ]
    assert found == [True, False]


def test_without_a_sample_nothing_is_recomputed(evidence: Evidences) -> None:
    check = named(quality.checks(evidence(cosines=[])), "recomputation")
    assert (check.passed, check.value) == (True, None)


# --- measuring --------------------------------------------------------------------------------------------------------


def measured(shelf: Shelf, files: Sequence[StagedFile], **asked: Any) -> Measured:
    return measure.measure(spreading.here, measure.units({"features": files}), Asked(shelf.store, DIM, **asked))


def test_measures_are_those_of_the_staged_vectors(shelf: Shelf) -> None:
    vectors = {f"u{index}": np.random.default_rng(index).random(DIM).astype(np.float32).tolist() for index in range(9)}
    files = {uri: f"photo {int(uri[1]) // 3}" for uri in vectors}  # three files of each photo
    staged = shelf.features("d1", "r", files, vectors, row_group_bytes=200)
    staged += shelf.features("d1", "r", {"more": "photo 0"}, {"more": [3.0, 0.0, 4.0, 0.0]})
    found = measured(shelf, staged)
    assert np.array_equal(found.featured, keys.of([*vectors, "more"]))
    expected = np.array([*vectors.values(), [3.0, 0.0, 4.0, 0.0]], np.float32)
    assert np.allclose(found.norms, np.linalg.norm(expected, axis=1))
    assert found.sketch() == drift.sketch(drift.slices(expected[[0, 3, 6]])), "each distinct photo once"
    assert found.fingerprints == {FINGERPRINT: 10}
    assert (found.wrong_length.count, found.not_finite.count, found.constant.count) == (0, 0, 0)


def test_a_broken_vector_takes_no_part_in_the_drift(shelf: Shelf) -> None:
    vectors = {"u1": [1.0, 2.0, 3.0, 4.0], "u2": [1.0], "u3": [float("nan")] * DIM}
    found = measured(shelf, shelf.features("d1", "r", dict.fromkeys(vectors, "x"), vectors))
    assert (found.sketch() or {})["n"] == 1
    vectors = {"u2": [1.0], "u3": [float("nan")] * DIM}
    found = measured(shelf, shelf.features("d1", "r", {"u2": "a", "u3": "b"}, vectors))
    assert found.sketch() is None
    assert np.isfinite(found.norms).all()


def test_vectors_too_long_for_single_precision_have_a_norm_and_a_sketch(shelf: Shelf) -> None:
    found = measured(shelf, shelf.features("d1", "r", {"u1": "a"}, {"u1": [3e38, -3e38, 3e38, 1.0]}))
    assert (found.not_finite.count, np.isfinite(found.norms).all()) == (0, True)
    assert json.loads(json.dumps(found.sketch(), allow_nan=False))["n"] == 1


def test_the_sketch_of_a_large_day_is_that_of_a_fair_sample(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    vectors = {f"u{index:04}": chance.standard_normal(DIM).tolist() for index in range(4000)}
    staged = shelf.features("d1", "r", {uri: uri for uri in vectors}, vectors, row_group_bytes=50_000)
    whole = measured(shelf, staged).sketch()
    monkeypatch.setattr(measure, "SKETCHED", 1000)
    sample = measured(shelf, staged, images=4000).sketch()
    assert whole is not None and sample is not None
    assert (whole["n"], abs(sample["n"] - 1000) < 120) == (4000, True)
    assert drift.drift(sample, [whole]) < 0.01


def test_nothing_staged_measures_nothing(shelf: Shelf) -> None:
    found = measured(shelf, [])
    assert (len(found.featured), len(found.norms), found.sketch()) == (0, 0, None)


def test_a_staged_file_that_is_damaged_or_gone_is_no_silent_loss(shelf: Shelf) -> None:
    (file,) = shelf.features("d1", "r", {"u1": "a"})
    path = Path(shelf.store, "features", file.path)
    sound = path.read_bytes()
    for damaged in (sound[:-20], sound[:8] + bytes(64) + sound[72:]):
        path.write_bytes(damaged)
        with pytest.raises(BadSetting, match=rf"{file.path} is damaged: .*Run the partition .* again") as caught:
            measured(shelf, [file])
        assert caught.value.code == "file_damaged"
    path.unlink()
    with pytest.raises(Unreachable, match="missing"):
        measured(shelf, [file])


def test_a_store_that_fails_is_not_taken_for_a_damaged_file(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = shelf.features("d1", "r", {"u1": "a"})

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", broken)
        with pytest.raises(Unreachable, match="Input/output error"):
            measured(shelf, [file])
    assert len(measured(shelf, [file]).featured) == 1


def test_files_that_are_measured_one_by_one_and_in_other_portions_measure_the_same(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = [
        file
        for start in range(0, 60, 7)
        for file in shelf.features("d1", "r", {f"u{at:02}": f"photo {at % 40}" for at in range(start, start + 7)})
    ]
    together = measured(shelf, staged, recheck=5)
    monkeypatch.setattr(measure, "PORTION_ROWS", 10)
    apart = measured(shelf, staged, recheck=5)
    by_two = measure.merged([measured(shelf, staged[:4], recheck=5), measured(shelf, staged[4:], recheck=5)])
    for other in (apart, by_two):
        assert all(np.array_equal(value, parts_of(other)[name]) for name, value in parts_of(together).items())
    assert len(together.drawn.rows) == 5


def test_a_key_says_what_is_the_same_and_a_lot_who_is_drawn() -> None:
    names = [f"s3://bucket/{number}" for number in range(20_000)]
    found = keys.of(names)
    assert len(np.unique(found)) == len(names)
    assert np.array_equal(keys.of([np.arange(9.0)]), keys.of([np.arange(9.0).tobytes()]))
    lots = keys.lots(found, "run 1")
    assert np.array_equal(lots, keys.lots(found, "run 1")) and not np.array_equal(lots, keys.lots(found, "run 2"))
    assert scipy.stats.kstest(lots / 2.0**64, "uniform").pvalue > 0.001
    assert list(keys.within(found[:3], np.sort(found[1:]))) == [False, True, True]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [("blank", {"contrast": 1.0}), ("dark", {"brightness": 20.0}), ("blurred", {"sharpness": 5.0})],
)
def test_what_a_photo_is_poor_in_is_counted_where_it_was_measured(kind: str, columns: dict[str, float]) -> None:
    good = {"sharpness": 500.0, "brightness": 100.0, "contrast": 50.0}
    rows = pa.table({name: [value, columns.get(name, value), None] for name, value in good.items()})
    found = {name: those.tolist() for name, those in measure._poor(rows).items()}
    never = [False] * 3
    assert found == dict(measured=[True, True, False], **dict.fromkeys(POOR, never) | {kind: [False, True, False]})
    assert not any(those.any() for those in measure._poor(rows.drop_columns(["contrast"])).values())


def test_few_poor_photos_of_a_small_day_say_nothing_and_a_file_of_before_is_read(evidence: Evidences) -> None:
    few = dict(list(FILES.items())[:5])
    given = {"files": few, "listed": [*few, *QUARANTINED]}
    found = {
        count: named(quality.checks(evidence(**given, dark=list(few)[:count])), "photo_quality") for count in (2, 4)
    }
    assert {count: check.passed for count, check in found.items()} == {2: True, 4: False}
    assert (found[4].severity, found[4].offenders) == (WARNING, tuple(few)[:4])
    assert "80.0% dark (5.0%)" in found[4].message
    missing = quality.checks(evidence(looks_before=[]))
    assert (named(missing, "photo_quality").passed, named(missing, "photo_quality").value) == (True, None)


def parts_of(found: Measured) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name != "sample"} | vars(found.sample)
