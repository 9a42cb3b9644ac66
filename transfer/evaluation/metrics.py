"""How good probabilities are, given the true classes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

TEMPERATURES = (0.05, 20.0)  # the range that is searched


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
    """Mean distance between confidence and accuracy over bins of equal mass (Nguyen & O'Connor 2015, section 3.2)."""
    correct = probabilities.argmax(axis=1) == labels
    confidence, accuracies, counts = reliability(probabilities.max(axis=1), correct, bins)
    return float(np.average(np.abs(confidence - accuracies), weights=counts))


def reliability(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence beside accuracy in bins of equal mass.

    Args:
        confidence: probability of the predicted class, (n,).
        correct: whether it is the true one, (n,) bool.
        bins: how many; images are sorted by their confidence and divided as evenly as possible.

    Returns:
        Mean confidence, accuracy and number of images of every bin, (bins,) each, by ascending confidence.
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
    return (
        np.array([confidence[rows].mean(dtype=np.float64) for rows in parts]),
        np.array([correct[rows].mean(dtype=np.float64) for rows in parts]),
        np.array([len(rows) for rows in parts]),
    )


def temperature_scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities as if their logits were divided by a temperature (Guo et al. 2017, section 4.2), float64.

    Args:
        probabilities: (…, classes).
        temperature: above 1 makes them less certain, below 1 more; NaN leaves none.
    """
    return softmax(_logits(probabilities) / temperature, axis=-1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), 1e-30))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of least log loss, within `TEMPERATURES` (Guo et al. 2017, section 4.2).

    The loss is convex in the temperature's inverse, so it is least where its slope is 0.

    Args:
        probabilities: for images that the model was not trained on, (n, classes).
        labels: (n,).

    Returns:
        NaN if there is no image.
    """
    if not len(labels):
        return float("nan")
    logits = _logits(probabilities)
    right = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        return float((softmax(inverse * logits, axis=1) * logits).sum(axis=1).mean() - right)

    least, most = TEMPERATURES
    if slope(1 / least) <= 0:
        return least
    if slope(1 / most) >= 0:
        return most
    return 1 / brentq(slope, 1 / most, 1 / least, xtol=1e-12)
