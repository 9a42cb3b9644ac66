"""How sure the accuracies are, and what follows from them: intervals, pairs, label equivalence, Pareto fronts.

Every seed's model is scored on the same test images, and all strategies share the seeds' label draws and the images.
Both are samples, so an interval counts both; and differences between strategies are paired over both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, ndtri, stdtrit

from transfer.evaluation.intervals import LEVEL, clearness, holm_levels

POWER = 0.8
CHUNK = 128  # bootstrap replicates at a time: bounds the memory, and changes no distribution
PARTS = 64  # into which a segment between two budgets is cut, where equivalent numbers of labels are looked for


@dataclass(frozen=True, eq=False)
class Sample:
    """A quantity measured once per seed; differences of samples are paired, as samples are.

    Attributes:
        values: one per seed, (…, seeds) float64; leading axes hold several quantities.
        replicates: bootstrap replicates of the mean over the seeds, (…, replicates) float64; empty with one seed.
    """

    values: np.ndarray
    replicates: np.ndarray

    def __sub__(self, other: Sample) -> Sample:
        """The paired difference, of samples over the same seeds and images."""
        return Sample(self.values - other.values, self.replicates - other.replicates)

    @property
    def seeds(self) -> int:
        """How many."""
        return self.values.shape[-1]

    @property
    def mean(self) -> np.ndarray:
        """Over the seeds, (…)."""
        return self.values.mean(axis=-1)

    @cached_property
    def standard_error(self) -> np.ndarray:
        """Of the mean, over seeds and images, (…); needs two seeds."""
        return self.replicates.std(axis=-1, ddof=1)

    def half_width(self, of_seeds: float, of_images: float) -> np.ndarray:
        """Half the width of an interval around the mean, from what it would be if one part of the error were all.

        Howe's (1974) way for a sum of two variables: squares of half-widths add up. Satterthwaite's (1946) degrees of
        freedom, the common way, fail with few seeds: of simulated verdicts on 4 equal strategies, 37 % held an error
        with 2 seeds, 15 % with 3 and 7 % with 5, where 5 % should; here, 5 % at most.

        Args:
            of_seeds: the half-width in standard errors if only seeds mattered.
            of_images: the half-width in standard errors if only images mattered.

        Returns:
            (…), NaN with one seed.
        """
        if self.seeds == 1:
            return np.full(self.values.shape[:-1], np.nan)
        seeds = np.minimum(self.values.var(axis=-1, ddof=1) / self.seeds, self.standard_error**2)
        return np.sqrt(of_seeds**2 * seeds + of_images**2 * (self.standard_error**2 - seeds))

    def margin(self, level: float = LEVEL) -> np.ndarray:
        """Half the width of the two-sided interval, (…): Student's t for the seeds, the normal for the many images."""
        tail = (1 + level) / 2
        return self.half_width(stdtrit(self.seeds - 1, tail), ndtri(tail))


def bootstrap_means(correct: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Replicates of the mean accuracy over seeds and images, both of which are drawn with replacement.

    The pigeonhole bootstrap (McCullagh 2000, Owen 2007): seeds and images are drawn apart from each other, the same for
    all groups, so that replicates of two groups are paired. Its variance is a little too large, for it counts what is
    peculiar to one seed and one image up to three times. Of n seeds, n - 1 are drawn, which makes the variance over few
    seeds the unbiased one (Rao & Wu 1988, section 2); images are many.

    Args:
        correct: whether a group's model of a seed is right on an image, (groups, seeds, images) bool.
        replicates: how many.
        seed: of the resampling.

    Returns:
        (groups, replicates) float64, for `Sample`; (groups, 0) where there is one seed, which says nothing of others.
    """
    groups, seeds, images = correct.shape
    if seeds == 1:
        return np.empty((groups, 0))
    rng = np.random.default_rng(seed)
    flat = correct.reshape(groups * seeds, images).astype(np.float32)  # sums of ones are exact in it below 2²⁴ images
    means = np.empty((groups, replicates))
    for start in range(0, replicates, CHUNK):
        chunk = means[:, start : start + CHUNK]
        images_drawn = _times_drawn(rng, chunk.shape[1], images, images).astype(np.float32)
        seeds_drawn = _times_drawn(rng, chunk.shape[1], seeds - 1, seeds).astype(np.float64)
        right = (flat @ images_drawn.T).reshape(groups, seeds, -1)
        chunk[:] = np.einsum("gsr,rs->gr", right, seeds_drawn) / ((seeds - 1) * images)
    return means


def _times_drawn(rng: np.random.Generator, replicates: int, draws: int, n: int) -> np.ndarray:
    """How often each of n things is drawn in `draws` draws with replacement, (replicates, n) int64."""
    drawn = rng.integers(n, size=(replicates, draws)) + n * np.arange(replicates)[:, np.newaxis]
    return np.bincount(drawn.ravel(), minlength=replicates * n).reshape(replicates, n)


def compare_pairs(samples: Mapping[str, Sample]) -> pd.DataFrame:
    """Every strategy against every other at one budget.

    With a probability of 95 %, none of the verdicts is wrong: they are those of Holm's procedure, see `holm_levels`.

    Args:
        samples: accuracies per strategy, over the same seeds and images.

    Returns:
        A row per pair, in the order of `itertools.combinations`:

        - first, second: names.
        - difference: mean of first − second.
        - margin: half of its 95 % interval; NaN with one seed, as all margins.
        - corrected: half of its interval at the level that Holm's procedure gives it.
        - verdict: "better", "worse" or "not separated", first against second, by `corrected`; "" with one seed.
        - wins: how often the first beats the second with the same label draw, a fraction; ties count half.
        - detectable: the smallest true difference found with 80 % power at the corrected level; NaN with one seed.
    """
    names = list(combinations(samples, 2))
    differences = [samples[first] - samples[second] for first, second in names]
    levels = holm_levels(
        len(names), lambda i, level: clearness(float(differences[i].mean), float(differences[i].margin(level)))
    )
    at_level = list(zip(differences, levels, strict=True))
    pairs = pd.DataFrame(names, columns=["first", "second"], dtype=str)
    pairs["difference"] = [float(each.mean) for each in differences]
    pairs["margin"] = [float(each.margin()) for each in differences]
    pairs["corrected"] = [float(each.margin(level)) for each, level in at_level]
    difference, margin = pairs["difference"], pairs["corrected"]
    verdicts = np.select([difference > margin, -difference > margin], ["better", "worse"], "not separated")
    pairs["verdict"] = np.where(margin.isna(), "", verdicts)
    pairs["wins"] = [float(np.heaviside(each.values, 0.5).mean()) for each in differences]
    pairs["detectable"] = [_detectable(*each) for each in at_level]
    return pairs


def _detectable(difference: Sample, level: float) -> float:
    """The true difference that is found at `level` with 80 % power.

    By the noncentral t distribution for the seeds and the normal one for the images, combined as the interval is; the
    power is then between 80 and 82 %, by simulation.
    """
    tail, freedom = (1 + level) / 2, difference.seeds - 1
    of_seeds = nctdtrinc(freedom, 1 - POWER, stdtrit(freedom, tail))
    return float(difference.half_width(of_seeds, ndtri(tail) + ndtri(POWER)))


def label_equivalence(strategy: Sample, baseline: Mapping[int, Sample]) -> tuple[float, float, float]:
    """How many labels per class the baseline needs to be as accurate as the strategy is.

    The baseline's means are interpolated linearly on the logarithm of the number of labels; the answer is the first
    place, from the fewest labels on, where they reach the strategy's mean. The interval holds every place where the
    paired 95 % interval of strategy − baseline contains 0 (a test inverted, as by Fieller 1954), from the least to the
    greatest, to within a `PARTS`-th of a segment between two budgets.

    Args:
        strategy: its accuracy at one budget.
        baseline: its accuracy per number of labels per class, over the same seeds and images.

    Returns:
        Labels per class, and the ends of the interval, a point with one seed. 0 stands for fewer than the baseline's
        smallest budget, infinity for more than its largest.
    """
    shots = np.array(sorted(baseline))
    curve = [baseline[n] for n in shots]
    mean = _first_reach(shots, np.array([float(sample.mean) for sample in curve]), float(strategy.mean))
    segments = len(shots) - 1
    place = np.linspace(0, segments, PARTS * segments + 1)  # from budget to budget
    weights = np.stack([np.interp(place, range(len(shots)), unit) for unit in np.eye(len(shots))], axis=1)
    interpolated = Sample(
        weights @ np.stack([sample.values for sample in curve]),
        weights @ np.stack([sample.replicates for sample in curve]),
    )
    difference = strategy - interpolated  # one per place
    margin = difference.margin()
    low, high = difference.mean - margin, difference.mean + margin
    # At the ends, a baseline that is separated from the strategy on the wrong side leaves only what lies beyond.
    possible = np.concatenate([low[:1] <= 0, (low <= 0) & (high >= 0), high[-1:] >= 0])
    labels = np.concatenate([[0], np.exp(weights @ np.log(shots)), [np.inf]])[possible]
    return mean, float(labels.min(initial=mean)), float(labels.max(initial=mean))


def _first_reach(shots: np.ndarray, curve: np.ndarray, level: float) -> float:
    """The least number of labels at which the interpolated curve reaches a level; see `label_equivalence`."""
    reached = np.flatnonzero(curve >= level)
    if not len(reached):
        return math.inf
    k = reached[0]
    if k == 0:
        return float(shots[0]) if curve[0] == level else 0.0
    part = (level - curve[k - 1]) / (curve[k] - curve[k - 1])
    return float(shots[k - 1] * (shots[k] / shots[k - 1]) ** part)


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which points no other point beats: none costs at most as much and scores at least as much, one of them strictly.

    Args:
        costs: (n,).
        scores: (n,).

    Returns:
        (n,) bool.
    """
    cost, score = costs[:, np.newaxis], scores[:, np.newaxis]  # of the beaten, down; of the beating, across
    beats = (costs <= cost) & (scores >= score) & ((costs < cost) | (scores > score))
    return np.logical_not(beats.any(axis=1))
