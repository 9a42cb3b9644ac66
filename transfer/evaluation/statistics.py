"""Confidence intervals of accuracies, and what is derived from them: verdicts and label equivalence.

Every draw's model is scored on the same test images, and all strategies share the label draws and the images. Both are
samples, so an interval counts both; and differences between strategies are paired over both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

LEVEL = 0.95
ALPHA = 0.05  # family-wise, of all comparisons that are judged together
BETTER, WORSE, EQUAL, UNDECIDED = VERDICTS = ("better", "worse", "equal", "undecided")
DECIDED = (BETTER, WORSE, EQUAL)
PAIRS = ["first", "second", "draws", "difference", "margin", "corrected", "verdict", "more_draws"]
MOST_DRAWS = 1000  # that are thought of when asking how many would decide a comparison


@dataclass(frozen=True, eq=False)
class Sample:
    """What was measured of every draw on every test image; differences of samples are paired, as samples are.

    Attributes:
        values: (…, draws, images); leading axes hold several quantities. Of accuracy int8: 1 where the draw's model is
            right and 0 where it is wrong, of a difference −1, 0 or 1. Of a score that is known for each draw as a whole
            one column, so that intervals take the test images as they are.
        of_difference: whether it is one.
    """

    values: np.ndarray
    of_difference: bool = False

    def __sub__(self, other: Sample) -> Sample:
        """The paired difference, of samples over the same images, over the draws that both have: the first."""
        draws = min(self.draws, other.draws)
        return Sample(self.values[..., :draws, :] - other.values[..., :draws, :], of_difference=True)

    @property
    def draws(self) -> int:
        """How many."""
        return self.values.shape[-2]

    @cached_property
    def mean(self) -> np.ndarray:
        """Over draws and images, (…) float64; NaN without draws."""
        if not self.values.size:
            return np.full(self.values.shape[:-2], np.nan)
        return self.values.mean(axis=(-2, -1))

    @cached_property
    def variances(self) -> tuple[np.ndarray, np.ndarray]:
        """What the sampling of draws and that of images add to the variance of the mean, (…) each; needs two draws.

        Their sum is unbiased: of n draws and N images it is (MSR + MSC − MSE) / nN, with the mean squares of draws,
        images and residuals in a two-way layout (Searle, Casella & McCulloch 1992, chapter 4); what is peculiar to one
        draw on one image is counted with the draws.
        """
        n, count = self.values.shape[-2:]
        if count == 1:
            return self.values.var(axis=(-2, -1), ddof=1) / n, np.zeros(self.values.shape[:-2])
        of_draws, of_images = self.values.mean(axis=-1), self.values.mean(axis=-2)
        squares = np.square(self.values).sum(axis=(-2, -1)) + n * count * self.mean**2
        squares = squares - count * np.square(of_draws).sum(axis=-1) - n * np.square(of_images).sum(axis=-1)
        residual = squares / ((n - 1) * (count - 1))
        images = of_images.var(axis=-1, ddof=1) / count - residual / (n * count)
        return of_draws.var(axis=-1, ddof=1) / n, np.maximum(images, 0)

    @cached_property
    def adjusted_variances(self) -> tuple[np.ndarray, np.ndarray]:
        """`variances` with pseudo-observations added: two images that are right and two that are wrong (Agresti & Coull
        1998), of a difference one in favour of either (Bonett & Price 2012).

        Without these, a strategy that is right on each of few images would be right on all others beyond doubt.
        """
        draws, images = self.variances
        count, mean = self.values.shape[-1], self.mean
        if count == 1:
            return draws, images
        low, each = (-1, 1) if self.of_difference else (0, 2)
        further = each * ((1 - mean) ** 2 + (low - mean) ** 2)
        return draws, (images * count**2 + further) / (count + 2 * each) ** 2

    def margin(self, level: float = LEVEL, draws: np.ndarray | None = None) -> np.ndarray:
        """Half the width of the two-sided interval around the mean, (…); NaN with one draw or none.

        For other numbers of draws, (numbers,), of one quantity: what it would be if mean and variances stay.

        Squares of half-widths add up (Howe 1974): Student's t for the draws, the normal for the many images.
        Satterthwaite's (1946) degrees of freedom, the common way, fail with few draws: of simulated verdicts on 4 equal
        strategies, 37 % held an error with 2 draws, 15 % with 3 and 7 % with 5, where 5 % should; here, 5 % at most.
        """
        if self.draws < 2:
            return np.full(self.values.shape[:-2], np.nan)
        tail, (of_draws, of_images) = (1 + level) / 2, self.adjusted_variances
        if draws is None:
            draws = np.array(self.draws)
        of_draws = of_draws * (self.draws / draws)
        return np.sqrt(stdtrit(draws - 1, tail) ** 2 * of_draws + ndtri(tail) ** 2 * of_images)


def verdict(mean: float, margin: float, within: float) -> str:
    """What an interval says of a difference: one of `VERDICTS`; "" where there is no interval (NaN).

    Args:
        mean: of the difference.
        margin: half the width of its interval.
        within: differences up to this make no difference in practice: an interval inside is "equal", whether it holds 0
            or not (two one-sided tests, Schuirmann 1987).
    """
    if math.isnan(margin):
        return ""
    if abs(mean) + margin <= within:
        return EQUAL
    if abs(mean) > margin:
        return BETTER if mean > 0 else WORSE
    return UNDECIDED


def holm_levels(
    means: Sequence[float] | np.ndarray, differences: Sequence[Sample], alpha: float = ALPHA, others: int = 0
) -> np.ndarray:
    """The level of every comparison in Holm's step-down procedure (1979): then all verdicts hold together at 1 − alpha.

    The k-th clearest of m (k = 0, 1, …) gets the level 1 − alpha / (m − k) as long as it and all before it are clear.
    The first that is not clear hands its level on to all that follow. So an interval at this level excludes 0 where
    Holm rejects, and nowhere else.

    Args:
        means: what the intervals are around.
        differences: how wide these are.
        alpha: family-wise.
        others: comparisons that belong to the family, and are not judged now; m counts them.

    Returns:
        (comparisons,) float64.
    """
    levels = np.empty(len(means))
    waiting = list(range(len(means)))
    while waiting:
        levels[waiting] = level = 1 - alpha / (len(waiting) + others)
        ratios = [_ratio(means[i], float(differences[i].margin(level))) for i in waiting]
        if max(ratios) <= 1:
            break
        waiting.pop(int(np.argmax(ratios)))
    return levels


def _ratio(mean: float, margin: float) -> float:
    """How many half-widths of its interval a mean is away from 0."""
    if mean == 0:
        return 0.0
    return abs(mean) / margin if margin else math.inf


def compare_pairs(samples: Mapping[str, Sample], within: float, looks: Sequence[int]) -> pd.DataFrame:
    """Compare every pair of strategies, at each of some looks that were declared before there was any result.

    A look judges the pairs that no look before has decided, over its number of draws, where both have as many. Each
    look spends an equal part of the 5 %, by Holm's procedure, which counts every pair that was not found to differ
    before, judged now or not. So all verdicts hold together with 95 % confidence, however it is decided after a look
    which strategies get more draws: of m pairs without a difference one must be clear at a level of
    1 − 0.05 / looks / m or higher before any is called better or worse.

    Args:
        samples: accuracies by strategy, over the same images and draws; a strategy may lack the last draws of others.
        within: see `verdict`.
        looks: numbers of draws, ascending; one where nothing is decided before the last draw.

    Returns:
        One row per pair, in order, as the look that decided it says, or the last that judged it, with the columns

        - first, second: names.
        - draws: of that look.
        - difference: mean of first − second over these.
        - margin: half of its 95 % interval; NaN with one draw, as all margins.
        - corrected: half of its interval at the level that the procedure gives it.
        - verdict: of the corrected interval, see `verdict`.
        - more_draws: how many more would decide an undecided pair, see `more_draws`; 0 for the others.
    """
    differences = {(a, b): samples[a] - samples[b] for a, b in combinations(samples, 2)}
    rows: dict[tuple[str, str], tuple[Any, ...]] = {}
    said = dict.fromkeys(differences, "")
    for draws in looks:
        judged = {
            pair: replace(each, values=each.values[:draws])
            for pair, each in differences.items()
            if said[pair] not in DECIDED and each.draws >= draws
        }
        means = {pair: float(each.mean) for pair, each in judged.items()}
        others = sum(each not in (BETTER, WORSE) for each in said.values()) - len(judged)
        levels = holm_levels(list(means.values()), list(judged.values()), ALPHA / len(looks), others)
        for (pair, each), level in zip(judged.items(), levels, strict=True):
            corrected = float(each.margin(level))
            said[pair] = verdict(means[pair], corrected, within)
            more = more_draws(each, level, within) if said[pair] == UNDECIDED else 0.0
            rows[pair] = (*pair, draws, means[pair], float(each.margin()), corrected, said[pair], more)
    return pd.DataFrame(list(rows.values()), columns=PAIRS)


def more_draws(difference: Sample, level: float, within: float) -> float:
    """How many more draws would decide a difference, if mean and variances stay what they are.

    Args:
        difference: of one pair.
        level: of its interval.
        within: see `verdict`.

    Returns:
        The number; infinity where `MOST_DRAWS` in all are not enough, as the test images are too few.
    """
    draws = np.arange(difference.draws + 1, MOST_DRAWS + 1)
    margins = difference.margin(level, draws)
    mean = abs(float(difference.mean))
    enough = (mean > margins) | (mean + margins <= within)
    return float(draws[enough.argmax()] - difference.draws) if enough.any() else math.inf


def label_equivalence(strategy: Sample, baseline: Mapping[int, Sample]) -> tuple[float, float]:
    """Between which budgets the baseline becomes as accurate as the strategy is.

    Budgets are tested one after another by paired 95 % intervals, from the fewest labels up to the first at which the
    baseline is not clearly behind, and from the most labels down to the first at which it is not clearly ahead. Where
    the baseline's true accuracy never falls with more labels, the place at which it reaches the strategy's lies between
    the two with a probability of at least 95 %: each end is wrong only if the first test beyond that place is.

    Args:
        strategy: its accuracy at one budget.
        baseline: its accuracy per number of labels per class, over the same draws and images.

    Returns:
        The most labels at which the baseline is still behind, 0 if at none, and the fewest from which on it is ahead,
        infinity if at none; both NaN with one draw.
    """
    if strategy.draws == 1:
        return math.nan, math.nan
    low, high = 0.0, math.inf
    ahead = {shots: strategy - baseline[shots] for shots in sorted(baseline)}
    for shots, difference in ahead.items():
        if difference.mean <= difference.margin():
            break
        low = float(shots)
    for shots, difference in reversed(ahead.items()):
        if -difference.mean <= difference.margin():
            break
        high = float(shots)
    return low, high
