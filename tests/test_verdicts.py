"""What became better or worse: pairing, intervals, and verdicts that hold together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from transfer.compare.verdicts import METRICS, Cells, Change, compare

ACCURACY, LOG_LOSS = METRICS["accuracy"], METRICS["log_loss"]


def cells_of(values: dict[tuple[str, int], list[float]], metric: str = "accuracy", first: int = 0) -> Cells:
    return {group: {first + i: {metric: value} for i, value in enumerate(row)} for group, row in values.items()}


def changes_of(
    old: Cells, new: Cells, *, paired: bool = True, tolerance: float = 0, metric: Any = ACCURACY
) -> list[Change]:
    return compare(old, new, [metric], paired=paired, tolerance=tolerance)


def noise(seed: int, n: int = 10, size: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, n)


def test_a_mean_has_student_s_interval() -> None:
    values = [0.5, 0.6, 0.75, 0.55]
    (change,) = changes_of(cells_of({("a", 1): values}), cells_of({("a", 1): [0.5]}))
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert change.before == pytest.approx((np.mean(values), low, high))
    assert change.after == (0.5, None, None)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), shift=st.floats(-0.1, 0.1))
def test_a_single_paired_difference_is_judged_as_by_the_paired_t_test(seed: int, n: int, shift: float) -> None:
    old = noise(seed, n, 0.1)
    new = old + shift + noise(seed + 1, n)
    (change,) = changes_of(cells_of({("a", 1): old.tolist()}), cells_of({("a", 1): new.tolist()}))
    p = stats.ttest_rel(new, old).pvalue
    assert (change.verdict == "not separated") == (p >= 0.05)
    if p < 0.05:
        assert change.verdict == ("better" if np.mean(new - old) > 0 else "worse")
    assert change.difference is not None
    assert change.difference.mean == pytest.approx(np.mean(new - old), abs=1e-9)


@given(seed=st.integers(0, 10**6), m=st.integers(2, 12), n=st.integers(2, 12))
def test_a_single_unpaired_difference_is_judged_as_by_welch_s_t_test(seed: int, m: int, n: int) -> None:
    old, new = noise(seed, m), noise(seed + 1, n, 0.03) + 0.02
    (change,) = changes_of(cells_of({("a", 1): old.tolist()}), cells_of({("a", 1): new.tolist()}), paired=False)
    assert (change.verdict == "not separated") == (stats.ttest_ind(new, old, equal_var=False).pvalue >= 0.05)
    assert change.draws == min(m, n)


def test_verdicts_of_many_are_holm_s() -> None:
    from statsmodels.stats.multitest import multipletests

    groups = [(name, shots) for name in "abcd" for shots in (1, 5, 10)]
    old = {group: noise(i).tolist() for i, group in enumerate(groups)}
    new = {group: (np.array(old[group]) + noise(50 + i) + 0.001 * i).tolist() for i, group in enumerate(groups)}
    changes = changes_of(cells_of(old), cells_of(new))
    p = [stats.ttest_rel(new[group], old[group]).pvalue for group in groups]
    rejected = multipletests(p, method="holm")[0]
    assert 0 < rejected.sum() < len(groups)
    assert [change.verdict != "not separated" for change in changes] == rejected.tolist()


@pytest.mark.parametrize(("metric", "verdict"), [("accuracy", "better"), ("log_loss", "worse"), ("ece", "worse")])
def test_a_verdict_knows_which_direction_is_better(metric: str, verdict: str) -> None:
    old, new = ({("a", 1): (base + noise(i, size=0.001)).tolist()} for i, base in enumerate((0.5, 0.7)))
    (change,) = changes_of(cells_of(old, metric), cells_of(new, metric), metric=METRICS[metric])
    assert change.verdict == verdict
    assert change.difference is not None
    assert change.difference.mean > 0
    assert change.regression == (verdict == "worse")


def test_only_shared_seeds_are_paired_and_means_are_over_all() -> None:
    old, new = cells_of({("a", 1): [0.1, 0.2, 0.3]}), cells_of({("a", 1): [0.25, 0.3, 0.9, 0.9]}, first=1)
    (change,) = changes_of(old, new)
    assert change.draws == 2
    assert change.before is not None
    assert change.before.mean == pytest.approx(0.2)
    assert change.after is not None
    assert change.after.mean == pytest.approx(np.mean([0.25, 0.3, 0.9, 0.9]))
    assert change.difference is not None
    assert change.difference.mean == pytest.approx(np.mean([0.05, 0.0]))


def test_what_is_in_one_alone_has_no_difference() -> None:
    old, new = cells_of({("a", 1): [0.1, 0.2]}), cells_of({("b", 1): [0.1, 0.2]})
    for change in [*changes_of(old, new), *changes_of(old, new, paired=False)]:
        assert change.difference is None
        assert change.verdict is None
        assert not change.regression
        assert (change.before is None) != (change.after is None)


def test_one_draw_gives_no_verdict() -> None:
    for paired in (True, False):
        (change,) = changes_of(cells_of({("a", 1): [0.9]}), cells_of({("a", 1): [0.1]}), paired=paired)
        assert change.verdict is None
        assert not change.regression
        assert change.difference == (pytest.approx(-0.8), None, None)


def test_the_same_cells_are_the_same_and_cost_the_others_nothing() -> None:
    old, new = noise(0).tolist(), (noise(0) - 0.009 + noise(1)).tolist()
    alone = changes_of(cells_of({("a", 1): old}), cells_of({("a", 1): new}))
    groups = {(f"s{i}", 1): noise(i).tolist() for i in range(40)}
    beside = changes_of(cells_of({("a", 1): old} | groups), cells_of({("a", 1): new} | groups))
    assert alone[0] == beside[0]
    assert all(change.same and change.verdict == "not separated" for change in beside[1:])
    assert not alone[0].same


@given(seed=st.integers(0, 10**6), loss=st.floats(0, 0.05), tolerance=st.floats(0, 0.05))
def test_a_regression_is_a_loss_whose_interval_is_beyond_the_tolerance(
    seed: int, loss: float, tolerance: float
) -> None:
    old = noise(seed)
    new = old - loss + noise(seed + 1)
    (change,) = changes_of(cells_of({("a", 1): old.tolist()}), cells_of({("a", 1): new.tolist()}), tolerance=tolerance)
    high = np.mean(new - old) + stats.t.ppf(0.975, 9) * stats.sem(new - old)
    assert change.regression == (high < -tolerance)
    assert not change.regression or change.verdict == "worse"


def test_a_clear_gain_lends_its_level_to_no_loss() -> None:
    """A loss that is clear on its own alone must not become a regression because another strategy gained."""
    old = {("a", 1): noise(0).tolist(), ("b", 1): noise(1).tolist()}
    loss = noise(2)
    loss += -2.4 * stats.sem(loss) - loss.mean()
    p = stats.ttest_1samp(loss, 0).pvalue
    assert 0.025 < p < 0.05
    new = {
        ("a", 1): (np.array(old["a", 1]) + 0.5 + noise(3)).tolist(),
        ("b", 1): (np.array(old["b", 1]) + loss).tolist(),
    }
    gain, loser = changes_of(cells_of(old), cells_of(new))
    assert gain.verdict == "better"
    assert loser.verdict == "worse"  # two-sided and step-down: the gain was judged first
    assert not loser.regression


def test_missing_values_leave_a_seed_out() -> None:
    old, new = (cells_of({("a", 1): row}, "log_loss") for row in ([0.1, math.nan, 0.3], [0.2, 0.3, math.nan]))
    (change,) = changes_of(old, new, metric=LOG_LOSS)
    assert change.draws == 1
    (nothing,) = changes_of(old, cells_of({("a", 1): [0.5]}), metric=LOG_LOSS)
    assert nothing.after is None
    assert nothing.difference is None
