"""What became better or worse between the runs of two revisions: means, paired differences and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from transfer.compare.metrics import ACCURACY, Metric
from transfer.compare.revisions import Revision, has_other_test_data
from transfer.evaluation.statistics import BETTER, EQUAL, UNDECIDED, WORSE, Sample, holm_levels, verdict

SAME, UNJUDGED, MISSING = "same", "different", "in one revision only"
VERDICTS = (BETTER, WORSE, EQUAL, UNDECIDED, UNJUDGED, SAME, MISSING)


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
        it is a `regression`: significantly worse, by more than the tolerance.
    """
    groups = {group for each in (base, other) for group in zip(each.runs["strategy"], each.runs["shots"], strict=True)}
    by_image = bool(base.correct and other.correct and not has_other_test_data(base, other))
    rows = [_row(base, other, metric, group, by_image) for metric in metrics for group in sorted(groups)]
    table = pd.DataFrame(rows)
    judged = table[(table["verdict"] == UNJUDGED) & table["margin"].notna()]
    better = judged["metric"].map({metric.name: metric.better for metric in metrics})
    gains, samples = (better * judged["difference"]).to_numpy(float), judged["sample"].tolist()
    margins = _holm_margins(gains, samples)
    within = np.where(judged["metric"] == ACCURACY, base.within, 0.0)
    verdicts = np.array([verdict(*each) for each in zip(gains, margins, within, strict=True)], object)
    losses = np.maximum(0, -gains - tolerance)  # one-sided: no gain lends its level to a loss
    beyond = losses > _holm_margins(losses, samples)
    table.loc[judged.index, "margin"], table.loc[judged.index, "verdict"] = margins, verdicts
    table.loc[judged.index, "regression"] = beyond & (verdicts == WORSE)
    return table.drop(columns="sample")


def _row(base: Revision, other: Revision, metric: Metric, group: tuple[str, int], by_image: bool) -> dict[str, Any]:
    """A row of `compare` before it is judged, with the `sample` of the difference."""
    old, new = (_values(revision, metric, *group) for revision in (base, other))
    change = (new - old).round(12).dropna()  # over the seeds of both, without the errors of subtraction
    before, after, difference = _sample(base, metric, group, old), _sample(other, metric, group, new), _of_draws(change)
    if by_image and metric.name == ACCURACY:
        new, old = new[change.index], old[change.index]
        difference = _sample(other, metric, group, new) - _sample(base, metric, group, old)
    same = len(change) > 0 and not change.any()

    def margin(sample: Sample) -> float:
        return float(sample.margin()) if metric.better else math.nan  # costs have none

    return {
        "metric": metric.name,
        "strategy": group[0],
        "shots": group[1],
        "before": float(before.mean),
        "after": float(after.mean),
        "difference": float(difference.mean),
        "draws": difference.draws,
        "before_margin": margin(before),
        "after_margin": margin(after),
        "margin": margin(difference),
        "verdict": SAME if same else UNJUDGED if difference.draws else MISSING,
        "regression": False,
        "sample": difference,
    }


def _values(revision: Revision, metric: Metric, strategy: str, shots: int) -> pd.Series[float]:
    """A metric by seed."""
    runs = revision.runs[(revision.runs["strategy"] == strategy) & (revision.runs["shots"] == shots)]
    return runs.set_index("seed")[metric.name].dropna()


def _of_draws(values: pd.Series[float]) -> Sample:
    return Sample(values.to_numpy()[:, np.newaxis])


def _sample(revision: Revision, metric: Metric, group: tuple[str, int], values: pd.Series[float]) -> Sample:
    """Of values by seed; image by image, if that is known."""
    if metric.name != ACCURACY or revision.correct is None or values.empty:
        return _of_draws(values)
    rows = revision.correct.runs_of(*group)
    return Sample(revision.correct.right(rows[np.isin(revision.correct.seed[rows], values.index)]))


def _holm_margins(means: np.ndarray, differences: Sequence[Sample]) -> np.ndarray:
    """Half of the intervals of means at the levels of Holm's procedure."""
    levels = holm_levels(means, differences)
    return np.array([each.margin(level) for each, level in zip(differences, levels, strict=True)], float)
