"""How accurate a strategy would be with more labels, and how many it needs: learning curves, back-tested.

Between the budgets that were measured a curve is interpolated. Beyond them it is a power law with offset, error =
c + a (n + e)^-b (POW4 in Viering & Loog 2023, table 1), at most to `REACH` times the labels. Such a law fits about as
well with many values of c and e, which give other forecasts: so every replicate of a bootstrap over the draws takes
others of them, by how well they fit, and leaves out another number of the smallest budgets. No curve is the law, so
`MISFIT` widens all this; it was chosen on 9 classifiers of scikit-learn on MNIST with up to 4,000 labels per class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from transfer.evaluation.comparison import Comparison
from transfer.evaluation.outcomes import LABELS, Correct

REACH = 4  # times the labels that were measured: no forecast goes further
FEWEST = 3  # budgets that a law is fitted to
REPLICATES = 1000
LOW, MIDDLE, HIGH = 24, 499, 974  # of the sorted replicates: a 95 % interval, and the median
MISFIT = 0.1  # standard deviation of log error that the law leaves at a budget, and of its slope over log labels
OFFSETS = np.linspace(0, 0.99, 12)  # c, in parts of the lowest error
SHIFTS = np.array([0, 0.3, 1, 3, 10])  # e, in parts of the smallest budget of the fit
LEAST = 1e-4  # error that stands for none, which a logarithm does not know
STEPS = 400  # of labels between the fewest measured and the most forecast


class BackTest(NamedTuple):
    """A budget that was hidden and forecast from the smaller ones: its measured mean, and the interval's ends."""

    shots: int
    measured: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the mean lies in the interval."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Forecast:
    """What the curve of a strategy says.

    Attributes:
        strategy: its name.
        first, last: the smallest and the largest budget that was measured.
        needed: labels per class for the wanted accuracy: the low end of the interval, the median, the high end;
            infinity where it is not reached by `limit`.
        ahead: the ends of the interval of the accuracy at further budgets.
        tests: of the forecast.
    """

    strategy: str
    first: int
    last: int
    needed: tuple[float, float, float]
    ahead: dict[int, tuple[float, float]] = field(default_factory=dict)
    tests: list[BackTest] = field(default_factory=list)

    @property
    def says(self) -> bool:
        """Whether the curve says anything beyond what was measured: it was tested, and passed."""
        return bool(self.tests) and all(test.inside for test in self.tests)

    @property
    def limit(self) -> int:
        """The most labels per class that it says anything of."""
        return REACH * self.last if self.says else self.last


def forecasts(
    comparison: Comparison, runs: pd.DataFrame, target: float, crossed: Correct | None = None
) -> list[Forecast]:
    """The forecast of every strategy that learns from labels.

    Args:
        comparison: of the strategies; budgets at which a strategy failed are left out.
        runs: a row per run, as in results/cells.csv.
        target: the wanted accuracy, a fraction.
        crossed: in cross-validation, which images every run gets right. All repetitions are of the same images, so
            the interval counts that these could have been others.

    Returns:
        Those of strategies with at least two draws at each of at least two budgets.
    """
    found = []
    for name in comparison.needing(LABELS):
        sound = [result.shots for result in comparison.of(name) if not result.failed]
        own = runs[(runs["strategy"] == name) & runs["shots"].isin(sound)]
        table = own.pivot(index="seed", columns="shots", values="accuracy").dropna()
        if min(table.shape) > 1:
            budgets = table.columns.to_numpy()
            images = np.zeros((len(budgets), 0))
            if crossed:
                images = np.array([crossed.right(crossed.runs_of(name, shots)).mean(axis=0) for shots in budgets])
            found.append(forecast(name, budgets, table.to_numpy(), target, images))
    return found


def forecast(
    strategy: str, budgets: np.ndarray, accuracies: np.ndarray, target: float, images: np.ndarray | None = None
) -> Forecast:
    """What the curve of one strategy says.

    Args:
        strategy: its name.
        budgets: labels per class, ascending, (budgets,) int64; at least two.
        accuracies: fractions, (draws, budgets) float64; at least two draws.
        target: the wanted accuracy, a fraction.
        images: how often each image is right, (budgets, images) float64, if it is by chance that it is these.
    """
    images = np.zeros((len(budgets), 0)) if images is None else images
    first, last = int(budgets[0]), int(budgets[-1])
    tests = _back_tests(budgets, accuracies, images)
    plain = Forecast(strategy, first, last, (np.inf, np.inf, np.inf), tests=tests)
    shots = np.union1d(np.geomspace(first, plain.limit, STEPS), [2 * last, REACH * last])
    curves = replicates(budgets, accuracies, shots, images)

    reached = (curves >= target) & (shots <= plain.limit)
    needed = np.sort(np.where(reached.any(axis=1), shots[reached.argmax(axis=1)], np.inf))
    low, high = np.sort(curves, axis=0)[[LOW, HIGH]]
    ahead = {n: (float(low[shots == n][0]), float(high[shots == n][0])) for n in (2 * last, REACH * last)}
    ends = float(needed[LOW]), float(needed[MIDDLE]), float(needed[HIGH])
    return Forecast(strategy, first, last, ends, ahead if plain.says else {}, tests)


def _back_tests(budgets: np.ndarray, accuracies: np.ndarray, images: np.ndarray) -> list[BackTest]:
    """Hide the largest budget, and the largest two, and forecast those within reach of what is left."""
    tests = []
    for left in range(max(len(budgets) - 2, FEWEST), len(budgets)):
        for hidden in np.flatnonzero((budgets > budgets[left - 1]) & (budgets <= REACH * budgets[left - 1])):
            known = budgets[:left], accuracies[:, :left], budgets[[hidden]], images[:left]
            curves = np.sort(replicates(*known)[:, 0])
            ends = float(curves[LOW]), float(curves[HIGH])
            tests.append(BackTest(int(budgets[hidden]), float(accuracies[:, hidden].mean()), *ends))
    return tests


def replicates(budgets: np.ndarray, accuracies: np.ndarray, shots: np.ndarray, images: np.ndarray) -> np.ndarray:
    """What the mean accuracy can be at numbers of labels, measured or not.

    Args:
        budgets: labels per class, ascending, (budgets,) int64.
        accuracies: fractions, (draws, budgets) float64; at least two draws.
        shots: labels per class, ascending, not below the first budget, (shots,).
        images: how often each image is right, (budgets, images) float64; none where other images do not matter.

    Returns:
        Curves that never fall, (`REPLICATES`, shots) float64; beyond fewer than `FEWEST` budgets they are level.
    """
    rng = np.random.default_rng(0)
    draws = len(accuracies)  # one less than that are drawn: then the variance of the mean is not too low
    means = accuracies[rng.integers(draws, size=(REPLICATES, draws - 1))].mean(axis=1)
    if count := images.shape[1]:
        others = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), REPLICATES)
        means = np.clip(means + others @ images.T / count - images.mean(axis=1), 0, 1)
    errors = 1 - np.array([isotonic_regression(each).x for each in means])
    places, known = np.log(shots), np.log(budgets)

    curves = PchipInterpolator(known, errors, axis=1)(np.minimum(places, known[-1]))
    beyond = shots > budgets[-1]
    if len(budgets) >= FEWEST:
        curves[:, beyond] = _power_law(budgets, errors, shots[beyond], rng)
    far = np.abs(places - known[:, np.newaxis]).min(axis=0)  # from what was measured
    curves *= np.exp(MISFIT * rng.standard_normal((REPLICATES, 1)) * far)
    after = np.searchsorted(budgets, shots)
    bounds = np.pad(errors, ((0, 0), (0, 1)))
    curves = np.clip(curves, bounds[:, after], bounds[:, np.maximum(after - 1, 0)])
    return 1 - np.minimum.accumulate(curves, axis=1)


def _power_law(budgets: np.ndarray, errors: np.ndarray, shots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The errors of every replicate at numbers of labels beyond the last, (replicates, shots) float64."""
    count = len(errors)
    left_out = rng.integers(len(budgets) - FEWEST + 1, size=count)
    weights = (np.arange(len(budgets)) >= left_out[:, np.newaxis])[:, np.newaxis, np.newaxis, :]
    errors = np.maximum(errors, LEAST)
    offsets, shifts = errors[:, -1:] * OFFSETS, budgets[left_out][:, np.newaxis] * SHIFTS

    # Of each replicate, offset and shift a straight line through log(error − c) over log(n + e), by least squares.
    y = np.log(errors[:, np.newaxis, np.newaxis, :] - offsets[:, :, np.newaxis, np.newaxis])
    x = np.log(budgets + shifts[:, np.newaxis, :, np.newaxis])
    total = weights.sum(axis=-1, keepdims=True)
    x_mean, y_mean = ((weights * values).sum(axis=-1, keepdims=True) / total for values in (x, y))
    x_centred = weights * (x - x_mean)
    slopes = (x_centred * (y - y_mean)).sum(axis=-1, keepdims=True) / (x_centred**2).sum(axis=-1, keepdims=True)
    fitted = offsets[:, :, np.newaxis, np.newaxis] + np.exp(y_mean + slopes * (x - x_mean))
    misfits = (weights * np.log(fitted / errors[:, np.newaxis, np.newaxis, :]) ** 2).sum(axis=-1)

    # One offset and shift of each replicate, more often those that fit better (their posterior under a flat prior).
    misfits = misfits.reshape(count, -1)
    likelihoods = np.exp((misfits.min(axis=1, keepdims=True) - misfits) / (2 * MISFIT**2)).cumsum(axis=1)
    taken = (likelihoods > likelihoods[:, -1:] * rng.random((count, 1))).argmax(axis=1)
    every, (i, j) = np.arange(count), np.divmod(taken, len(SHIFTS))
    offset, shift, slope = offsets[every, i, np.newaxis], shifts[every, j, np.newaxis], slopes[every, i, j]
    return offset + (errors[:, -1:] - offset) * ((shots + shift) / (budgets[-1] + shift)) ** slope
