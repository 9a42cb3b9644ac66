"""Means over seeds and how sure they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean with its interval; without an interval (`low` and `high` are None) where there is one value only."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Estimate:
    """The mean of independent values with Student's t interval (Student 1908).

    Args:
        values: one per seed, (seeds,); for a paired comparison, the differences.
        confidence: of the two-sided interval.

    Raises:
        ValueError: if there is no value.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError("a mean needs at least one value")
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, None, None)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)
