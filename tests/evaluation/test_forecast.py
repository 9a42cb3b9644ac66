"""Forecasts hold what they say, on curves that are known, and say nothing where they cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.evaluation.forecast import REACH, Forecast, forecast, replicates

Curve = Callable[[np.ndarray], np.ndarray]
DEFAULT = np.array([1, 5, 10, 50, 100, 1000])
SPREAD = [0.25, 0.2, 0.15, 0.11, 0.1, 0.08]  # of single draws' errors, relative, at these: as in results/cells.csv
BETWEEN = 0.4  # correlation between a draw's luck at a budget and at the next: draws are nested


def power_law(rng: np.random.Generator) -> Curve:
    offset, slope, shift = rng.choice([0, 1]) * rng.uniform(0, 0.08), rng.uniform(0.25, 1.2), rng.uniform(0, 3)
    scale = rng.uniform(0.3, 0.7) * (1 + shift) ** slope
    return lambda shots: offset + scale * (shots + shift) ** -slope


def plateau(rng: np.random.Generator) -> Curve:
    """No power law: errors fall fast, hardly, and again from some number of labels on, as with label_propagation."""
    level, again, slope = rng.uniform(0.01, 0.03), rng.uniform(40, 500), rng.uniform(0.2, 0.5)
    return lambda shots: level * (1 + 3 * shots**-1.5) * (1 + shots / again) ** -slope


def drawn(curve: Curve, budgets: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Accuracies of single draws, (draws, budgets) float64."""
    luck = rng.standard_normal((draws, len(budgets)))
    for i in range(1, len(budgets)):
        luck[:, i] = BETWEEN * luck[:, i - 1] + np.sqrt(1 - BETWEEN**2) * luck[:, i]
    spread = np.interp(np.log(budgets), np.log(DEFAULT), SPREAD)
    return np.clip(1 - curve(budgets.astype(float)) * (1 + spread * luck), 0, 1)


@pytest.mark.parametrize("kind", [power_law, plateau])
@pytest.mark.parametrize(("draws", "budgets"), [(10, DEFAULT), (3, np.array([5, 10, 20, 50, 100]))], ids=["10", "3"])
def test_intervals_hold_the_truth_and_the_back_test_passes(
    kind: Callable[[np.random.Generator], Curve], draws: int, budgets: np.ndarray
) -> None:
    rng, ahead, needed, says = np.random.default_rng(0), [], [], []
    for _ in range(40):
        curve = kind(rng)
        wanted = budgets[-1] * rng.uniform(0.2, REACH)
        found = forecast("", budgets, drawn(curve, budgets, draws, rng), float(1 - curve(np.array(wanted))))
        says.append(found.says)
        ahead += [low <= 1 - curve(np.array(shots)) <= high for shots, (low, high) in found.ahead.items()]
        if found.says or wanted < budgets[-1]:
            needed.append(found.needed[0] <= 1.02 * wanted and 0.98 * wanted <= found.needed[2])
    assert len(ahead) > 50
    assert np.mean(says) > 0.85
    assert np.mean(ahead) >= 0.92  # of 95 %: 40 curves are few
    assert np.mean(needed) >= 0.92


def test_a_curve_that_breaks_is_caught_by_its_back_test() -> None:
    """From 50 to 100 labels the error falls to a tenth, which nothing before tells of."""
    rng = np.random.default_rng(0)
    for budgets in (DEFAULT[:5], DEFAULT):
        found = forecast("", budgets, drawn(lambda n: np.where(n < 60, 0.1, 0.01), budgets, 10, rng), 0.999)
        assert not found.says
        assert not found.ahead
        assert found.limit == budgets[-1]
        assert found.needed[0] == np.inf


def test_the_default_study_is_interpolated_and_not_taken_from_its_few_labels() -> None:
    """Measured with 6 draws, end_to_end has 98.80 % at 250 labels per class and 99.11 % at 500."""
    runs = pd.read_csv(ROOT / "results/cells.csv")
    own = runs[runs["strategy"] == "end_to_end"].pivot(index="seed", columns="shots", values="accuracy")
    found = forecast("end_to_end", own.columns.to_numpy(), own.to_numpy(), 0.99)
    assert 224 < found.needed[0] < 400 < found.needed[1] < 700 < 1000
    assert 500 < found.needed[2] < 1000
    few = forecast("end_to_end", np.array([10, 50]), own[[10, 50]].to_numpy(), 0.99)
    assert not few.tests
    assert few.needed == (np.inf, np.inf, np.inf)  # two points say 224


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_curves_never_fall_and_stay_in_range_and_none_goes_further(data: st.DataObject) -> None:
    budgets = np.array(sorted(data.draw(st.sets(st.integers(1, 2000), min_size=2, max_size=10))))
    rows = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.97, 1.0]), min_size=len(budgets), max_size=len(budgets))
    accuracies = np.array(data.draw(st.lists(rows, min_size=2, max_size=5)))
    curves = replicates(
        budgets, accuracies, np.geomspace(budgets[0], REACH * budgets[-1], 30), np.zeros((len(budgets), 0))
    )
    assert np.isfinite(curves).all()
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) >= 0).all()
    found: Forecast = forecast("", budgets, accuracies, 0.96)
    assert found == forecast("", budgets, accuracies, 0.96)
    assert list(found.needed) == sorted(found.needed)
    assert all(each <= found.limit * (1 + 1e-9) or np.isinf(each) for each in found.needed)
    assert all(low <= high for low, high in found.ahead.values())
    assert bool(found.ahead) == found.says
    assert max(found.ahead, default=0) <= REACH * budgets[-1]


def test_where_images_are_cross_validated_the_interval_counts_that_they_could_be_others() -> None:
    budgets, rng, ahead = np.array([1, 2, 4, 8]), np.random.default_rng(0), []
    errors = 0.1 + 0.4 * np.array([1, 2, 4, 8, 16]) ** -0.8
    for _ in range(40):
        difficulty = rng.random(50) + rng.normal(0, 0.05, (10, 1, 50))  # of the same images in every repetition
        right = difficulty > errors[:4, np.newaxis]
        both = [forecast("", budgets, right.mean(axis=2), 0.99, images) for images in (right.mean(axis=0), None)]
        if all(found.says for found in both):
            ahead.append([low <= 1 - errors[4] <= high for low, high in (found.ahead[16] for found in both)])
    counted, not_counted = np.mean(ahead, axis=0)
    assert len(ahead) > 20
    assert counted >= 0.92
    assert not_counted < 0.8
