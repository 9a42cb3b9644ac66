"""Logistic regression by L-BFGS: the linear classifier on frozen features."""

from __future__ import annotations

import warnings

import numpy as np


def fit_logistic(x: np.ndarray, y: np.ndarray, l2: float, max_iterations: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Fit a softmax classifier with an l2 penalty.

    Args:
        x: features, (n, width) float32.
        y: classes, (n,) int32.
        l2: the penalty on the mean loss per example.
        max_iterations: of L-BFGS; fewer are one more regulariser.

    Returns:
        Kernel, (width, classes) float32; bias, (classes,) float32; the number of iterations.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (l2 * len(x)), max_iter=max_iterations, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    kernel, bias = model.coef_.T, model.intercept_
    if len(bias) == 1:  # two classes: scikit-learn keeps the second one's logit alone
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.concatenate([-bias / 2, bias / 2])
    return kernel.astype(np.float32), bias.astype(np.float32), int(model.n_iter_[0])
