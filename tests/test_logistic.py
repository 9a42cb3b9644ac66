"""Logistic regression finds what scikit-learn finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from transfer import logistic
from transfer.predictions import softmax


def task(n: int, width: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features around one centre per class, which overlap, and the classes."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % classes).astype(np.int32)
    x = rng.normal(size=(classes, width))[y] + rng.normal(size=(n, width))
    return x.astype(np.float32), y


def reference(x: np.ndarray, y: np.ndarray, l2: float) -> LogisticRegression:
    """Of two classes scikit-learn has one kernel, the difference of ours: under half the penalty."""
    penalty = l2 / 2 if y.max() == 1 else l2
    return LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=10_000).fit(x.astype(np.float64), y)


def loss(x: np.ndarray, y: np.ndarray, l2: float, kernel: np.ndarray, bias: np.ndarray) -> float:
    likelihood = softmax(x.astype(np.float64) @ kernel + bias)[np.arange(len(y)), y]
    return float(-np.log(likelihood).mean() + l2 / 2 * (kernel.astype(np.float64) ** 2).sum())


tasks = {
    "n": st.integers(6, 80),
    "width": st.integers(1, 60),
    "classes": st.integers(2, 6),
    "l2": st.floats(0.01, 10),
    "seed": st.integers(0, 999),
}


@settings(deadline=None)
@given(**tasks)
def test_it_is_scikit_learn_s_fit(n: int, width: int, classes: int, l2: float, seed: int) -> None:
    x, y = task(n, width, classes, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logistic, "TOLERANCE", 1e-7)
        patch.setattr(logistic, "PROGRESS", 0)
        kernel, bias, _ = logistic.fit_logistic(x.astype(np.float64), y, l2, 10_000)
    expected = reference(x, y, l2).predict_proba(x)
    np.testing.assert_allclose(softmax(x @ kernel + bias), expected, atol=1e-5)


@settings(deadline=None)
@given(**tasks)
def test_its_tolerance_costs_little_of_the_loss(n: int, width: int, classes: int, l2: float, seed: int) -> None:
    x, y = task(n, width, classes, seed)
    kernel, bias, _ = logistic.fit_logistic(x, y, l2, 1000)
    best = reference(x, y, l2)
    weights = (best.coef_, best.intercept_)
    if classes == 2:
        weights = tuple(np.stack([-half / 2, half / 2]).reshape(2, -1) for half in weights)
    least = loss(x, y, l2, weights[0].T, weights[1].ravel())
    excess = loss(x, y, l2, kernel, bias) - least
    assert -1e-6 < excess < 0.02


@pytest.mark.parametrize("small", [1, 100, 1000])
def test_blocks_change_nothing(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = task(50, 7, 3, seed=0)
    whole, *_ = logistic.fit_logistic(x, y, 0.1, 100)
    monkeypatch.setattr(logistic, "SMALL", small)
    np.testing.assert_allclose(logistic.fit_logistic(x, y, 0.1, 100)[0], whole, atol=1e-3)


def test_from_the_best_no_step_is_needed() -> None:
    x, y = task(50, 7, 3, seed=0)
    kernel, bias, iterations = logistic.fit_logistic(x, y, 0.1, 100)
    assert iterations > 1
    again, bias_again, none = logistic.fit_logistic(x, y, 0.1, 100, (kernel, bias))
    assert none == 0
    assert (again == kernel).all()
    assert (bias_again == bias).all()


def test_iterations_are_as_many_as_are_allowed() -> None:
    x, y = task(50, 7, 3, seed=0)
    assert logistic.fit_logistic(x, y, 0.001, 3)[2] == 3
