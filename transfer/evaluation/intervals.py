"""Intervals whose verdicts are right together; nothing heavy is imported here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

LEVEL = 0.95
ALPHA = 0.05  # family-wise, of all comparisons that are judged together


def clearness(mean: float, margin: float) -> float:
    """How many half-widths of its interval a mean is away from 0."""
    if mean == 0:
        return 0.0
    return abs(mean) / margin if margin else math.inf


def holm_levels(count: int, clearness_at: Callable[[int, float], float]) -> np.ndarray:
    """The level of every comparison in Holm's step-down procedure (1979): then all verdicts hold together at `LEVEL`.

    The k-th clearest of m (k = 0, 1, …) gets the level 1 − 0.05 / (m − k) as long as it and all before it are clear.
    The first that is not clear hands its level on to all that follow. So an interval at this level excludes 0 where
    Holm rejects, and nowhere else.

    Args:
        count: of the comparisons.
        clearness_at: of a comparison at a level; above 1 means that its interval excludes 0.

    Returns:
        (count,) float64.
    """
    levels = np.empty(count)
    waiting = list(range(count))
    while waiting:
        levels[waiting] = level = 1 - ALPHA / len(waiting)
        values = [clearness_at(i, level) for i in waiting]
        if max(values) <= 1:
            break
        waiting.pop(int(np.argmax(values)))
    return levels
