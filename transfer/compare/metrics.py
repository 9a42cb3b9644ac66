"""What runs are compared by."""

from __future__ import annotations

from typing import NamedTuple

RUN = ["strategy", "shots", "seed"]  # the columns that name a run
ACCURACY = "accuracy"


class Metric(NamedTuple):
    """What runs are compared by.

    Attributes:
        name: of the column.
        title: with its unit.
        better: 1 if more is better, -1 if less is, 0 for a cost: its differences are reported and not judged.
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
        Metric(ACCURACY, "Accuracy in %", 1, 100, 2),
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
