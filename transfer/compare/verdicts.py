"""What became better or worse between the runs of two revisions: means, paired differences and verdicts.

The intervals here are over the label draws, with the test images as they are: what each image became is not in Git.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from transfer.evaluation.intervals import LEVEL, clearness, holm_levels

RUN = ["strategy", "shots", "seed"]  # the columns that name a run


class Metric(NamedTuple):
    """What runs are compared by.

    Attributes:
        name: of the column.
        title: with its unit.
        better: 1 if more is better, -1 if less is, 0 for a cost: its differences are told and not judged.
        scale: what values are multiplied by to be shown: 100 for fractions.
        decimals: that are shown.
    """

    name: str
    title: str
    better: int
    scale: int
    decimals: int


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy in %", 1, 100, 2),
        Metric("log_loss", "Log loss in nats", -1, 1, 4),
        Metric("brier", "Brier score", -1, 1, 4),
        Metric("ece", "Expected calibration error in %", -1, 100, 2),
        Metric("log_loss_tempered", "Log loss after temperature scaling, in nats", -1, 1, 4),
        Metric("ece_tempered", "Expected calibration error after temperature scaling, in %", -1, 100, 2),
        Metric("trainable_parameters", "Trainable parameters", 0, 1, 0),
        Metric("gradient_steps", "Gradient steps", 0, 1, 0),
        Metric("examples_seen", "Examples seen", 0, 1, 0),
        Metric("unlabelled_images", "Unlabelled images", 0, 1, 0),
        Metric("model_bytes", "Size of the model file in bytes", 0, 1, 0),
    )
}
SAME, UNJUDGED, MISSING = "same", "different", "in one revision only"
VERDICTS = ("better", "worse", "not separated", UNJUDGED, SAME, MISSING)


def compare(base: pd.DataFrame, other: pd.DataFrame, metrics: Sequence[Metric], tolerance: float = 0.0) -> pd.DataFrame:
    """Every strategy and number of shots of two revisions, in every metric.

    Differences are paired by seed. If the same seed stands for other draws in the other revision, their intervals are
    as valid, only wider. All verdicts hold together, with 95 % confidence (Holm 1979). What has the same values in
    both, draw by draw, is not judged; nor are costs, and what has one draw only: these have no interval.

    Args:
        base: runs that are compared with: the columns `RUN` and those of `METRICS`.
        other: runs that are compared.
        metrics: by which.
        tolerance: how much worse a mean may be, in the metrics' own unit.

    Returns:
        One row per `metric`, `strategy` and `shots`: the means `before` and `after`, and the mean `difference` over the
        `draws` of both, float64; half of their intervals, `before_margin` and `after_margin` (at 95 %) and `margin` (at
        the level that Holm's procedure gives it); the `verdict`, one of `VERDICTS`; and whether it is a `regression`:
        worse by more than the tolerance, and separated from it.
    """
    pairs = base.merge(other, how="outer", on=RUN, suffixes=("_before", "_after"))
    groups = pd.concat([_values(pairs, metric) for metric in metrics]).groupby(["metric", *RUN[:2]], sort=False)
    table = groups.mean().join(groups["difference"].count().rename("draws")).reset_index()
    errors, counts = groups.sem().reset_index(), groups.count().reset_index()
    better = table["metric"].map({metric.name: metric.better for metric in metrics})
    for column, margin in (("before", "before_margin"), ("after", "after_margin"), ("difference", "margin")):
        table[margin] = _margin(errors[column], counts[column], LEVEL)
        table.loc[better == 0, margin] = np.nan
    same = (table["draws"] > 0) & ~groups["difference"].any().to_numpy()

    judged = table.index[table["margin"].notna() & ~same]
    gains = (better * table["difference"])[judged].to_numpy()
    losses = np.maximum(0, -gains - tolerance)  # one-sided: no gain lends its level to a loss
    error, draws = (each.loc[judged, "difference"].to_numpy() for each in (errors, counts))
    table.loc[judged, "margin"] = margins = _holm_margins(gains, error, draws)
    table["verdict"] = np.select([table["draws"] == 0, same], [MISSING, SAME], UNJUDGED)
    table.loc[judged, "verdict"] = np.select([gains > margins, -gains > margins], ["better", "worse"], "not separated")
    table["regression"] = False
    table.loc[judged, "regression"] = losses > _holm_margins(losses, error, draws)
    return table


def _values(pairs: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """One row per run: the metric in both revisions, and the difference where both have it."""
    before, after = pairs[f"{metric.name}_before"], pairs[f"{metric.name}_after"]
    difference = (after - before).round(12)  # without the errors of subtraction
    return pairs[RUN[:2]].assign(metric=metric.name, before=before, after=after, difference=difference)


def _holm_margins(means: np.ndarray, error: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Half of the intervals of means at the levels of Holm's procedure."""
    levels = holm_levels(len(means), lambda k, level: clearness(means[k], _margin(error[k], draws[k], level)))
    return _margin(error, draws, levels)


def _margin(error: Any, draws: Any, level: Any) -> Any:
    """Half of Student's interval of a mean, from its standard error; NaN for a single draw."""
    return stdtrit(draws - 1, (1 + level) / 2) * error
