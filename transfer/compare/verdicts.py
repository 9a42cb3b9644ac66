"""What became better or worse between the runs of two revisions: means, paired differences and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from transfer.compare.metrics import ACCURACY, Metric
from transfer.compare.revisions import Revision, has_other_test_data
from transfer.evaluation.intervals import LEVEL, clearness, holm_levels
from transfer.evaluation.outcomes import Correct
from transfer.evaluation.statistics import BETTER, EQUAL, UNDECIDED, WORSE, Sample, verdict

SAME, UNJUDGED, MISSING = "same", "different", "in one revision only"
VERDICTS = (BETTER, WORSE, EQUAL, UNDECIDED, UNJUDGED, SAME, MISSING)


@dataclass(frozen=True, eq=False)
class Draws:
    """A metric of the models of several draws; as `Sample`, but its interval takes the test images as they are.

    Attributes:
        values: by seed, float64, without NaN.
    """

    values: pd.Series[float]

    def __sub__(self, other: Draws) -> Draws:
        """The paired difference, over the seeds of both."""
        return Draws((self.values - other.values).round(12).dropna())  # without the errors of subtraction

    @property
    def draws(self) -> int:
        """How many."""
        return len(self.values)

    @cached_property
    def mean(self) -> float:
        """Over the draws; NaN where there is none."""
        return float(self.values.mean())

    @cached_property
    def error(self) -> float:
        """Of the mean; NaN with one draw."""
        return cast(float, self.values.sem())

    def margin(self, level: float = LEVEL) -> float:
        """Half of Student's interval around the mean; NaN with one draw."""
        return float(stdtrit(self.draws - 1, (1 + level) / 2)) * self.error


class Pair(NamedTuple):
    """What two revisions measured of one strategy and budget in a metric, and whether it is the same in every draw."""

    metric: Metric
    strategy: str
    shots: int
    before: Draws | Sample
    after: Draws | Sample
    difference: Draws | Sample
    same: bool


def compare(base: Revision, other: Revision, metrics: Sequence[Metric], tolerance: float = 0.0) -> pd.DataFrame:
    """Every strategy and number of shots of two revisions, in every metric.

    Differences are paired by seed. If the same seed stands for other draws in the other revision, their intervals are
    as valid, only wider. Intervals of accuracy count draws and test images, as in the report, where it is known which
    images are right; of differences, where these are the same images. All others count the draws alone. All verdicts
    hold together, with 95 % confidence (Holm 1979). What has the same values in both, draw by draw, is not judged; nor
    are costs, and what has one draw only: these have no interval.

    Args:
        base: revision that is compared with; its `within` says which accuracies are equal in practice.
        other: revision that is compared.
        metrics: by which.
        tolerance: how much worse a mean may be, in the metrics' own unit.

    Returns:
        One row per `metric`, `strategy` and `shots`, sorted: the means `before` and `after`, and the mean
        `difference` over the `draws` of both, float64; half of their intervals, `before_margin` and `after_margin` (at
        95 %) and `margin` (at the level that Holm's procedure gives it); the `verdict`, one of `VERDICTS`; and whether
        it is a `regression`: worse by more than the tolerance, and separated from it.
    """
    groups = {group for each in (base, other) for group in zip(each.runs["strategy"], each.runs["shots"], strict=True)}
    pairs = [_pair(base, other, metric, *group) for metric in metrics for group in sorted(groups)]
    table = pd.DataFrame([_row(pair) for pair in pairs])
    judged = table.index[(table["verdict"] == UNJUDGED) & table["margin"].notna()]
    of_judged = [pairs[i] for i in judged]
    differences = [pair.difference for pair in of_judged]
    gains = np.array([pair.metric.better * float(pair.difference.mean) for pair in of_judged])
    margins = _holm_margins(gains, differences)
    within = [base.within if pair.metric.name == ACCURACY else 0.0 for pair in of_judged]
    verdicts = np.array([verdict(*each) for each in zip(gains, margins, within, strict=True)], object)
    losses = np.maximum(0, -gains - tolerance)  # one-sided: no gain lends its level to a loss
    beyond = losses > _holm_margins(losses, differences)
    table.loc[judged, "margin"], table.loc[judged, "verdict"] = margins, verdicts
    table.loc[judged, "regression"] = beyond & (verdicts == WORSE)
    return table


def _pair(base: Revision, other: Revision, metric: Metric, strategy: str, shots: int) -> Pair:
    before, after = (_draws(revision, metric, strategy, shots) for revision in (base, other))
    difference = after - before
    same = difference.draws > 0 and not difference.values.any()
    pair = Pair(metric, strategy, shots, before, after, difference, same)
    if metric.name != ACCURACY:
        return pair
    if base.correct and before.draws:
        pair = pair._replace(before=_sample(base.correct, pair, before))
    if other.correct and after.draws:
        pair = pair._replace(after=_sample(other.correct, pair, after))
    if base.correct and other.correct and difference.draws and not has_other_test_data(base, other):
        sides = [_sample(correct, pair, difference) for correct in (other.correct, base.correct)]
        pair = pair._replace(difference=sides[0] - sides[1])
    return pair


def _draws(revision: Revision, metric: Metric, strategy: str, shots: int) -> Draws:
    runs = revision.runs
    own = runs[(runs["strategy"] == strategy) & (runs["shots"] == shots)]
    return Draws(own.set_index("seed")[metric.name].dropna())


def _sample(correct: Correct, pair: Pair, draws: Draws) -> Sample:
    """Which test images the models of some draws get right."""
    rows = correct.runs_of(pair.strategy, pair.shots)
    return Sample(correct.right(rows[np.isin(correct.seed[rows], draws.values.index)]))


def _row(pair: Pair) -> dict[str, Any]:
    """The row of a pair before it is judged, see `compare`."""

    def margin(measured: Draws | Sample) -> float:
        return float(measured.margin()) if pair.metric.better else math.nan

    return {
        "metric": pair.metric.name,
        "strategy": pair.strategy,
        "shots": pair.shots,
        "before": float(pair.before.mean),
        "after": float(pair.after.mean),
        "difference": float(pair.difference.mean),
        "draws": pair.difference.draws,
        "before_margin": margin(pair.before),
        "after_margin": margin(pair.after),
        "margin": margin(pair.difference),
        "verdict": SAME if pair.same else UNJUDGED if pair.difference.draws else MISSING,
        "regression": False,
    }


def _holm_margins(means: np.ndarray, differences: Sequence[Draws | Sample]) -> np.ndarray:
    """Half of the intervals of means at the levels of Holm's procedure."""
    levels = holm_levels(len(means), lambda k, level: clearness(means[k], float(differences[k].margin(level))))
    return np.array([each.margin(level) for each, level in zip(differences, levels, strict=True)], float)
