from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from transfer.evaluation import metrics


def sample(seed: int, n: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), n).astype(np.float32), rng.integers(0, classes, n)


@given(seed=st.integers(0, 10_000))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    probabilities, labels = sample(seed)
    names = np.arange(4)
    assert metrics.accuracy(probabilities, labels) == reference.accuracy_score(labels, probabilities.argmax(axis=1))
    exact = probabilities.astype(np.float64) / probabilities.astype(np.float64).sum(axis=1, keepdims=True)
    assert metrics.log_loss(probabilities, labels) == pytest.approx(
        reference.log_loss(labels, exact, labels=names), rel=1e-5
    )
    one_hot = np.eye(4)[labels]
    assert metrics.brier(probabilities, labels) == pytest.approx(
        ((probabilities - one_hot) ** 2).sum(axis=1).mean(), rel=1e-6
    )


def test_a_certain_mistake_costs_a_finite_log_loss() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(15 * np.log(10))


def test_calibration_error_worked_by_hand() -> None:
    """Two bins of two images: confidences .6, .7 with one right; .8, .9 with both right."""
    confidence = np.array([0.9, 0.6, 0.8, 0.7])
    probabilities = np.column_stack([confidence, 1 - confidence])
    labels = np.array([0, 1, 0, 0])
    expected = (2 * abs(0.65 - 0.5) + 2 * abs(0.85 - 1.0)) / 4
    assert metrics.expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.2, 8))
def test_temperature_scaling_divides_the_logits(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (20, 4))
    given_, expected = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (logits, logits / temperature))
    np.testing.assert_allclose(metrics.temperature_scaled(given_, temperature), expected, atol=1e-9)
    assert (metrics.temperature_scaled(given_, temperature).argmax(axis=1) == given_.argmax(axis=1)).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30)
def test_no_temperature_of_a_grid_has_less_log_loss(seed: int) -> None:
    probabilities, labels = sample(seed, n=60)

    def loss(temperature: float) -> float:
        return metrics.log_loss(metrics.temperature_scaled(probabilities, temperature), labels)

    grid = np.geomspace(*metrics.TEMPERATURES, 60)
    assert loss(metrics.fit_temperature(probabilities, labels)) <= min(map(loss, grid)) + 1e-9


@given(seed=st.integers(0, 10_000), bins=st.integers(1, 70))
def test_reliability_loses_no_image(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, correct = rng.uniform(size=60), rng.uniform(size=60) < 0.7
    means, accuracies, counts = metrics.reliability(confidence, correct, bins)
    assert counts.sum() == 60
    assert counts.max() - counts.min() <= 1
    assert (np.diff(means) >= 0).all()
    assert np.average(accuracies, weights=counts) == pytest.approx(correct.mean())
    assert np.average(means, weights=counts) == pytest.approx(confidence.mean())
