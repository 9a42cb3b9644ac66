"""How good probabilities are, given the true classes."""

from __future__ import annotations

import numpy as np


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The part of the images whose most probable class is the true one.

    Args:
        probabilities: (n, classes).
        labels: (n,) of integers 0 … classes - 1.
    """
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the true class, in nats; a probability below 1e-15 counts as 1e-15."""
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.mean(np.log(np.maximum(likelihood, 1e-15))))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance of the probabilities to the true class's indicator, 0 … 2 (Brier 1950)."""
    p = probabilities.astype(np.float64)
    likelihood = p[np.arange(len(labels)), labels]
    return float(np.mean((p**2).sum(axis=1) - 2 * likelihood + 1))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal mass (Nguyen & O'Connor 2015, section 3.2).

    Args:
        probabilities: (n, classes).
        labels: (n,).
        bins: how many; images are sorted by their confidence and divided as evenly as possible.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(confidence[rows].mean() - correct[rows].mean()) * len(rows)
        for rows in np.array_split(order, min(bins, len(order)))
    ]
    return float(sum(gaps) / len(labels))
