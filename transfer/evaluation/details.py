"""Single classes, images and layers: what the report shows beside the comparison of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from transfer.evaluation.metrics import reliability
from transfer.evaluation.outcomes import Outcomes, Probes
from transfer.evaluation.statistics import Sample

MOST_CLASSES = 40  # that a chart or a table can show
MOST_IMAGES = 24  # that are shown


def _runs_of(outcomes: Outcomes, strategy: str, shots: int) -> np.ndarray:
    return (outcomes.strategy == strategy) & (outcomes.shots == shots)


def confusion(outcomes: Outcomes, strategy: str, shots: int) -> np.ndarray:
    """What the images of each class are taken for, as fractions of the class, mean over the seeds.

    Returns:
        (true classes, predicted classes) float64; the diagonal is each class's recall. NaN for a class without images.
    """
    predicted = outcomes.predicted[_runs_of(outcomes, strategy, shots)]
    classes = len(outcomes.classes)
    flat = (outcomes.labels * classes + predicted).ravel()
    counts = np.bincount(flat, minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def shown_classes(outcomes: Outcomes, strategies: Sequence[str], shots: int) -> np.ndarray:
    """Which classes to show: all or, of more than `MOST_CLASSES`, those with the lowest recall over the strategies.

    Returns:
        Their numbers, ascending, (classes,) int64.
    """
    recalls = np.mean([confusion(outcomes, name, shots).diagonal() for name in strategies], axis=0)
    return np.sort(np.argsort(recalls, kind="stable")[:MOST_CLASSES])


def hard_images(outcomes: Outcomes, strategies: Sequence[str], shots: int) -> pd.DataFrame:
    """The test images that more than half of the runs of some strategies and a budget get wrong, the worst first.

    Returns:
        Columns `row` (among the test images), `label`, `mistaken_for` (the most frequent wrong class), and `wrong` (the
        number of runs that get it wrong); at most `MOST_IMAGES` rows.
    """
    predicted = outcomes.predicted[np.isin(outcomes.strategy, strategies) & (outcomes.shots == shots)]
    wrong = (predicted != outcomes.labels).sum(axis=0)
    worst = np.argsort(-wrong, kind="stable")[:MOST_IMAGES]
    rows = worst[wrong[worst] > len(predicted) / 2]
    labels = outcomes.labels[rows]
    mistakes = [taken[taken != label] for taken, label in zip(predicted[:, rows].T, labels, strict=True)]
    mistaken_for = [int(np.bincount(each).argmax()) for each in mistakes]
    return pd.DataFrame({"row": rows, "label": labels, "mistaken_for": mistaken_for, "wrong": wrong[rows]})


def reliability_of(outcomes: Outcomes, strategy: str, shots: int) -> pd.DataFrame:
    """Confidence beside accuracy in bins of equal mass, all seeds together, before and after temperature scaling.

    Returns:
        Columns `probabilities` ("unscaled" or "scaled"), `confidence`, `accuracy`.
    """
    own = _runs_of(outcomes, strategy, shots)
    correct = (outcomes.predicted[own] == outcomes.labels).ravel()
    frames = []
    for kind, every in (("unscaled", outcomes.confidence), ("scaled", outcomes.scaled)):
        if not np.isnan(every[own]).any():
            confidence, accuracy, _ = reliability(every[own].ravel(), correct)
            frames.append(pd.DataFrame({"probabilities": kind, "confidence": confidence, "accuracy": accuracy}))
    return pd.concat(frames, ignore_index=True)


def probe_accuracies(probes: Probes, labels: np.ndarray) -> pd.DataFrame:
    """Accuracy of every layer's linear probe on the sampled test images: columns `layer`, `accuracy`, `margin`."""
    samples = Sample((probes.predicted == labels[probes.rows]).astype(np.int8))
    return pd.DataFrame({"layer": probes.names, "accuracy": samples.mean, "margin": samples.margin()})
