"""The second opinion finds nothing between samples of one kind, and strangers at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from spark_apps.pipeline import two_samples

DIM = 24


def vectors(n: int, seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((n, DIM)) + shift).astype(np.float32)


def opinion(today: NDArray[np.float32], before: NDArray[np.float32]) -> two_samples.Opinion:
    found = two_samples.compare(today, before)
    assert found is not None
    return found


def test_samples_of_one_kind_are_told_apart_by_chance_alone() -> None:
    found = [opinion(vectors(60, seed), vectors(80, 1000 + seed)) for seed in range(60)]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.02)
    assert max(one.auc for one in found) < 0.7
    small = sum(one.p <= 0.1 for one in found)
    assert small <= 14, "of 60, 6 are expected, and more than 14 once in 1,000"
    assert np.mean([one.p for one in found]) == pytest.approx(0.5, abs=0.12)


def test_strangers_are_told_apart_at_once() -> None:
    found = opinion(vectors(60, 1, shift=2), vectors(80, 2))
    assert (found.today, found.before, found.auc, found.p) == (60, 80, 1.0, 1 / 500)
    assert found.mmd2 > 0.3


def test_three_odd_photos_of_ten_are_found_and_are_no_other_kind_of_day() -> None:
    today = vectors(200, 1)
    today[:60] = vectors(60, 3, shift=3)
    found = opinion(np.random.default_rng(0).permutation(today), vectors(200, 2))
    assert found.p == 1 / 500
    assert 0.58 < found.auc < 0.72, "0.65, where chance decides of the others"


def test_the_discrepancy_is_that_of_its_formula() -> None:
    today, before = vectors(30, 1, 0.5), vectors(40, 2)
    both = np.concatenate([today, before]).astype(np.float64)
    squares = ((both[:, None] - both) ** 2).sum(axis=2)
    median = np.median(squares[np.triu_indices(70, 1)])
    kernel = rbf_kernel(both, gamma=1 / (2 * median))
    one, other, across = kernel[:30, :30], kernel[30:, 30:], kernel[:30, 30:]
    expected = (one.sum() - 30) / (30 * 29) + (other.sum() - 40) / (40 * 39) - 2 * across.mean()
    assert opinion(today, before).mmd2 == pytest.approx(expected, abs=1e-7)


def test_the_area_is_that_of_the_classifier_on_what_it_has_not_seen() -> None:
    kernel = two_samples._kernel(np.concatenate([vectors(20, 1, 0.5), vectors(25, 2)]).astype(np.float64))
    labels = np.repeat([True, False], [20, 25])
    places = np.array([*(number % 5 for number in range(20)), *(number % 5 for number in range(25))])
    areas = []
    for fold in range(5):
        held, known = places == fold, places != fold
        score = kernel[held][:, known & labels].mean(axis=1) - kernel[held][:, known & ~labels].mean(axis=1)
        areas.append(roc_auc_score(labels[held], score))
    assert two_samples._auc(kernel, labels) == pytest.approx(np.mean(areas))


def test_equal_vectors_are_no_news() -> None:
    same = np.ones((20, DIM), np.float32)
    found = opinion(same, same)
    assert (found.auc, found.p, found.mmd2) == (0.5, 1.0, 0.0)


def test_a_few_vectors_say_nothing() -> None:
    assert two_samples.compare(vectors(9, 1), vectors(100, 2)) is None
    assert two_samples.compare(vectors(100, 1), vectors(0, 2)) is None
