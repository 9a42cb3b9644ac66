"""What became better or worse between two sets of cells: means, paired differences and verdicts.

The intervals here are over the label draws, with the test images as they are: what each image became is not in Git.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from transfer.evaluation.intervals import LEVEL, Estimate, clearness, holm_levels, verdict

Values = dict[int, dict[str, float]]  # by seed, then by metric
Cells = dict[tuple[str, int], Values]  # by strategy and shots


class Metric(NamedTuple):
    """What cells are compared by.

    Attributes:
        name: of the column.
        title: with its unit.
        better: 1 if more is better, -1 if less is.
        scale: what values are multiplied by to be shown.
        decimals: that are shown.
    """

    name: str
    title: str
    better: int
    scale: float
    decimals: int

    @property
    def in_percent(self) -> bool:
        """Whether values are fractions."""
        return self.scale == 100


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy in %", 1, 100, 2),
        Metric("log_loss", "Log loss in nats", -1, 1, 4),
        Metric("brier", "Brier score", -1, 1, 4),
        Metric("ece", "Expected calibration error in %", -1, 100, 2),
        Metric("log_loss_tempered", "Log loss after temperature scaling, in nats", -1, 1, 4),
        Metric("ece_tempered", "Expected calibration error after temperature scaling, in %", -1, 100, 2),
        Metric("trainable_parameters", "Trainable parameters", -1, 1, 0),
        Metric("gradient_steps", "Gradient steps", -1, 1, 0),
        Metric("examples_seen", "Examples seen", -1, 1, 0),
        Metric("model_bytes", "Size of the model file in bytes", -1, 1, 0),
    )
}


@dataclass(frozen=True)
class Change:
    """One strategy at one number of shots, in one metric, in a revision against the base.

    Attributes:
        strategy: its name.
        shots: labelled images per class.
        metric: its name.
        before: mean over the base's draws with its 95 % interval; None where it has no such cell.
        after: the same of the revision.
        difference: after − before, with an interval at the level that Holm's procedure gives it; None where one lacks.
        draws: how many draws both share, if paired, else how many the smaller one has.
        same: whether both have the same values, draw by draw.
        verdict: "better", "worse" or "not separated"; None where no interval can be given.
        regression: whether it is worse by more than the tolerance, and separated from it.
    """

    strategy: str
    shots: int
    metric: str
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    draws: int
    same: bool
    verdict: str | None
    regression: bool


class Difference(NamedTuple):
    """A difference of two means with its error."""

    mean: float
    standard_error: float
    freedom: float

    def margin(self, level: float = LEVEL) -> float:
        """Half the width of the two-sided interval, by Student's t."""
        return float(stdtrit(self.freedom, (1 + level) / 2)) * self.standard_error if self.standard_error else 0.0

    def estimate(self, level: float = LEVEL) -> Estimate:
        """With its interval; without one where it has no freedom."""
        if not self.freedom:
            return Estimate(self.mean, None, None)
        return Estimate(self.mean, self.mean - self.margin(level), self.mean + self.margin(level))


def _mean(values: np.ndarray) -> Difference:
    """The mean of one number per draw, with its error over the draws."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Difference(float(values.mean()), error, n - 1)


def _welch(before: np.ndarray, after: np.ndarray) -> Difference:
    """The difference of two independent means (Welch 1947)."""
    old, new = _mean(before), _mean(after)
    mean = new.mean - old.mean
    if not old.freedom or not new.freedom:
        return Difference(mean, 0.0, 0)
    variance = old.standard_error**2 + new.standard_error**2
    if not variance:
        return Difference(mean, 0.0, old.freedom + new.freedom)
    parts = (each.standard_error**4 / each.freedom for each in (old, new))
    return Difference(mean, math.sqrt(variance), variance**2 / sum(parts))


class _Pair(NamedTuple):
    """What a `Change` is made from."""

    strategy: str
    shots: int
    metric: Metric
    before: np.ndarray
    after: np.ndarray
    difference: Difference | None
    draws: int
    same: bool

    @property
    def judged(self) -> bool:
        """Whether a verdict is asked for."""
        return self.difference is not None and self.difference.freedom > 0 and not self.same

    @property
    def gain(self) -> float:
        """How much better the mean has become."""
        return self.metric.better * self.difference.mean if self.difference else 0.0

    def margin(self, level: float) -> float:
        """Half the width of the difference's interval."""
        return self.difference.margin(level) if self.difference else math.inf


def compare(
    base: Cells, other: Cells, metrics: Sequence[Metric], *, paired: bool, tolerance: float = 0.0
) -> list[Change]:
    """Every strategy and number of shots of two revisions, in every metric.

    All verdicts hold together, with 95 % confidence (Holm 1979); what has the same values in both is not among what is
    judged. Paired, a difference is over the draws that both have, and its interval that of their differences;
    unpaired, both means have errors of their own (Welch 1947).

    Args:
        base: what is compared with.
        other: what is compared.
        metrics: by which.
        paired: whether the same seed stands for the same draw of the same images in both.
        tolerance: how much worse a mean may be, in the metrics' own unit.

    Returns:
        Changes by metric, strategy and shots.
    """
    groups = sorted(base.keys() | other.keys())
    pairs = [
        _pair(base.get(group, {}), other.get(group, {}), group, metric, paired)
        for metric in metrics
        for group in groups
    ]
    judged = {i: pair for i, pair in enumerate(pairs) if pair.judged}
    rows = list(judged.values())
    losses = [max(0.0, -row.gain - tolerance) for row in rows]  # one-sided: no gain lends its level to a loss
    levels = holm_levels(len(rows), lambda k, level: clearness(rows[k].gain, rows[k].margin(level)))
    strict = holm_levels(len(rows), lambda k, level: clearness(losses[k], rows[k].margin(level)))
    level_of = dict(zip(judged, levels, strict=True))
    worse = zip(judged, rows, losses, strict, strict=True)
    regressed = {i for i, row, loss, level in worse if loss > row.margin(level)}
    return [_change(pair, level_of.get(i, LEVEL), i in regressed) for i, pair in enumerate(pairs)]


def _pair(old: Values, new: Values, group: tuple[str, int], metric: Metric, paired: bool) -> _Pair:
    before, after = _column(old, metric), _column(new, metric)
    shared = sorted(before.keys() & after.keys())
    difference, draws = None, min(len(before), len(after))
    if paired and shared:
        gains = np.round([after[seed] - before[seed] for seed in shared], 12)  # without the errors of subtraction
        difference, draws = _mean(gains), len(shared)
    elif not paired and before and after:
        difference = _welch(_array(before), _array(after))
    return _Pair(
        *group,
        metric,
        before=_array(before),
        after=_array(after),
        difference=difference,
        draws=draws,
        same=paired and bool(shared) and all(before[seed] == after[seed] for seed in shared),
    )


def _column(values: Values, metric: Metric) -> dict[int, float]:
    """One metric by seed, where there is a number."""
    return {seed: row[metric.name] for seed, row in values.items() if not math.isnan(row.get(metric.name, math.nan))}


def _array(column: dict[int, float]) -> np.ndarray:
    return np.array([column[seed] for seed in sorted(column)])


def _change(pair: _Pair, level: float, regression: bool) -> Change:
    difference = pair.difference.estimate(level) if pair.difference else None
    gain = pair.difference._replace(mean=pair.gain).estimate(level) if pair.difference else None
    return Change(
        strategy=pair.strategy,
        shots=pair.shots,
        metric=pair.metric.name,
        before=_mean(pair.before).estimate() if len(pair.before) else None,
        after=_mean(pair.after).estimate() if len(pair.after) else None,
        difference=difference,
        draws=pair.draws,
        same=pair.same,
        verdict=verdict(gain) if gain else None,
        regression=regression,
    )
