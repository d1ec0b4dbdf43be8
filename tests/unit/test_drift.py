"""The drift is nothing between days of one kind, everything between strangers, and grows on the way."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from spark_apps.pipeline import drift
from spark_apps.pipeline.drift import Floats, Sketch

DIM = 64


def day(n: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Floats:
    """`n` vectors as a network's last activations are: not negative, many of them zero; moved along all axes."""
    values = np.random.default_rng(seed).standard_normal((n, DIM)) * scale
    return (np.maximum(values, 0) + shift).astype(np.float32)


def sketch(vectors: Floats) -> Sketch:
    return drift.sketch(drift.slices(vectors))


def allowance(n: int, m: int) -> float:
    return math.sqrt(-math.log(drift.ALPHA / 2) / 2 * (n + m) / (n * m))


@pytest.mark.parametrize(("n", "days"), [(4, 3), (10, 7), (40, 1)])
def test_small_days_of_one_kind_do_not_drift(n: int, days: int) -> None:
    history = [sketch(day(n, seed)) for seed in range(days)]
    found = [drift.drift(sketch(day(n, 1000 + seed)), history) for seed in range(50)]
    assert max(found) < 0.02
    assert sum(value == 0 for value in found) >= 40


@pytest.mark.parametrize(("n", "days"), [(2_000, 7), (20_000, 1)])
def test_large_days_of_one_kind_do_not_drift(n: int, days: int) -> None:
    history = [sketch(day(n, seed)) for seed in range(days)]
    assert [drift.drift(sketch(day(n, 1000 + seed)), history) < 0.01 for seed in range(3)] == [True] * 3


def test_a_day_does_not_drift_from_itself() -> None:
    today = sketch(day(500, 0))
    assert drift.drift(today, [today, today]) == 0


@pytest.mark.parametrize("n", [20, 400, 5_000])
def test_strangers_drift_by_all_that_is_not_chance(n: int) -> None:
    # far along every direction, so that no slice of the one overlaps one of the other
    stranger = day(n, 1) + 1000 * np.random.default_rng(5).standard_normal(DIM).astype(np.float32)
    found = drift.drift(sketch(stranger), [sketch(day(n, 0))])
    assert found == pytest.approx(1 - allowance(n, n), abs=0.02)


def test_the_drift_grows_with_the_shift_and_stays_between_0_and_1() -> None:
    history = [sketch(day(300, seed)) for seed in range(5)]
    found = [drift.drift(sketch(day(300, 99, shift)), history) for shift in (0, 0.1, 0.2, 0.4, 0.8, 1.6, 100)]
    assert found == sorted(found)
    assert found[0] < 0.01
    assert found[2] > found[0] and found[-1] > 0.5
    assert found[-1] <= 1


def test_a_change_of_scale_is_seen_too() -> None:
    history = [sketch(day(300, seed)) for seed in range(5)]
    assert drift.drift(sketch(day(300, 99, scale=2)), history) > 0.1


def test_a_stranger_day_in_the_history_weighs_by_its_photos() -> None:
    usual, odd = sketch(day(1000, 0)), sketch(day(10, 1, shift=50))
    today = sketch(day(300, 2))
    assert drift.drift(today, [usual, odd]) < 0.01
    assert drift.drift(today, [odd]) > 0.2


@pytest.mark.parametrize(("n", "m"), [(100, 100), (500, 80), (3000, 2000)])
@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_sketches_tell_nearly_what_the_vectors_themselves_would(n: int, m: int, shift: float) -> None:
    one, other = drift.slices(day(n, 1)), drift.slices(day(m, 2, shift))
    exact = np.array([stats.ks_2samp(one[:, index], other[:, index]).statistic for index in range(one.shape[1])])
    by_sketch = drift.drift(drift.sketch(one), [drift.sketch(other)])
    expected = np.maximum(0, exact - allowance(n, m)).mean()
    assert by_sketch == pytest.approx(expected, abs=2 / drift.QUANTILES)


def test_a_history_of_days_is_compared_as_one_sample() -> None:
    days = [day(n, seed, shift) for seed, (n, shift) in enumerate([(400, 0.0), (100, 0.5), (900, -0.3)])]
    today = drift.slices(day(600, 9, 0.4))
    together = drift.slices(np.concatenate(days))
    exact = [stats.ks_2samp(today[:, index], together[:, index]).statistic for index in range(today.shape[1])]
    expected = np.maximum(0, np.array(exact) - allowance(600, 1400)).mean()
    assert drift.drift(drift.sketch(today), [sketch(one) for one in days]) == pytest.approx(expected, abs=0.03)


def test_slices_are_the_same_on_every_run_and_end_with_the_norm() -> None:
    vectors = day(5, 0)
    first, second = drift.slices(vectors), drift.slices(vectors)
    assert np.array_equal(first, second)
    assert (first.shape, first.dtype) == ((5, drift.DIRECTIONS + 1), np.float32)
    assert np.allclose(first[:, -1], np.linalg.norm(vectors, axis=1))
    assert np.abs(first[:, :-1]).max() <= first[:, -1].max(), "directions are of length one"


def test_a_sketch_is_small_and_survives_its_file() -> None:
    today = sketch(day(5_000, 0))
    text = json.dumps(today, allow_nan=False)
    assert json.loads(text) == today
    assert len(text) < 40_000
    assert today["n"] == 5_000


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_day_of_very_few_photos_has_a_drift(n: int) -> None:
    history = [sketch(day(100, 0))]
    assert drift.drift(sketch(day(n, 1)), history) == 0
    assert 0 <= drift.drift(sketch(day(n, 1, shift=100)), history) <= 1


def test_a_day_of_equal_photos_has_a_drift() -> None:
    same = np.repeat(day(1, 0), 50, axis=0)
    assert drift.drift(sketch(same), [sketch(same)]) == 0
    assert drift.drift(sketch(same), [sketch(day(50, 1))]) > 0.1


def planted(n: int, odd: int, seed: int) -> tuple[Floats, set[int]]:
    """A day with some photos of another kind, and which these are."""
    vectors = day(n, seed)
    places = np.random.default_rng(seed).permutation(n)[:odd]
    vectors[places] = day(odd, seed + 1, scale=0.3) + 3 * day(1, 77)
    return vectors, set(places.tolist())


@pytest.mark.parametrize("n", [40, 400])
def test_the_photos_that_moved_the_drift_most_are_the_odd_ones(n: int) -> None:
    history = [sketch(day(300, seed)) for seed in range(5)]
    vectors, odd = planted(n, 3 * n // 10, 50)
    values = drift.slices(vectors)
    parts = drift.moved(values, drift.sketch(values), history)
    order = np.argsort(-parts)
    assert set(order[: len(odd)].tolist()) == odd
    usual = parts[order[len(odd) :]]
    assert abs(usual.mean()) < 0.1, "of photos like those before it is about nothing"


def test_what_photos_moved_is_on_average_what_was_measured() -> None:
    history = [sketch(day(300, seed)) for seed in range(5)]
    for shift in (0.1, 0.3, 2.0):
        values = drift.slices(day(500, 99, shift))
        today = drift.sketch(values)
        taken_away = np.mean([gap.excess > 0 for gap in drift._gaps(today, history)]) * allowance(500, 1500)
        expected = drift.drift(today, history) + taken_away
        assert drift.moved(values, today, history).mean() == pytest.approx(expected, abs=1 / drift.QUANTILES)


def test_without_them_the_drift_is_less_than_without_any_others() -> None:
    history = [sketch(day(300, seed)) for seed in range(5)]
    vectors, _ = planted(300, 90, 50)
    values = drift.slices(vectors)
    order = np.argsort(-drift.moved(values, drift.sketch(values), history))
    left = [
        drift.drift(drift.sketch(np.delete(values, order[part], axis=0)), history)
        for part in (slice(0, 60), slice(120, 180), slice(240, 300))
    ]
    assert left == sorted(left)
    assert left[0] < 0.5 * left[1]


def test_without_a_drift_nothing_moved_it() -> None:
    values = drift.slices(day(300, 1))
    same = drift.sketch(values)
    assert not drift.moved(values, same, [same]).any()


def test_a_slice_that_is_one_value_throughout_is_told_by_the_digits_that_a_sketch_keeps() -> None:
    values = np.full((50, drift.DIRECTIONS + 1), 1.23456789, np.float32)
    other = np.full((50, drift.DIRECTIONS + 1), 2, np.float32)
    today = drift.sketch(values)
    assert drift.moved(values, today, [drift.sketch(other)]).tolist() == [1.0] * 50
