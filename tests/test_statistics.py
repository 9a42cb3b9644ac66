from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from transfer.statistics import mean_interval

values = st.lists(st.floats(-100, 100), min_size=2, max_size=30).filter(lambda v: np.std(v) > 1e-6)


@given(values=values)
def test_the_interval_is_the_one_that_a_t_test_inverts_to(values: list[float]) -> None:
    """Independent: scipy's one-sample t-test, whose p value at an end of the interval is 5 %."""
    estimate = mean_interval(np.array(values))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.mean == pytest.approx(np.mean(values))
    for end in (estimate.low, estimate.high):
        assert stats.ttest_1samp(values, end).pvalue == pytest.approx(0.05, rel=1e-3)


def test_a_worked_example() -> None:
    """n = 4, mean 5, s = √(20/3): half width 3.182 × s / 2, with t(0.975, 3) from the printed table."""
    estimate = mean_interval(np.array([2, 4, 6, 8]))
    assert estimate.high == pytest.approx(5 + 3.182 * np.sqrt(20 / 3) / 2, abs=1e-3)


def test_one_value_has_no_interval() -> None:
    assert mean_interval(np.array([0.5])) == (0.5, None, None)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert mean_interval(np.array([0.5, 0.5, 0.5])) == (0.5, 0.5, 0.5)


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval(np.array([]))


def test_coverage_by_simulation() -> None:
    rng = np.random.default_rng(0)
    trials = [mean_interval(sample) for sample in rng.normal(1.0, 2.0, (4000, 10))]
    covered = np.mean([low <= 1.0 <= high for _, low, high in trials if low is not None and high is not None])
    assert covered == pytest.approx(0.95, abs=0.012)
