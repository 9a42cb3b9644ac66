"""Logistic regression by L-BFGS: the linear classifier on frozen features."""

from __future__ import annotations

import numpy as np

TOLERANCE = 0.02  # for every part of the gradient, times the penalty if that is below 1; on source digits as good as 0
PROGRESS = 1e-8  # of the loss in one iteration: less is noise in float32
SMALL = 800_000  # multiplications: OpenBLAS is twice as fast in a product of at most a million, if one side is short


def fit_logistic(
    x: np.ndarray, y: np.ndarray, l2: float, max_iterations: int, start: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fit a softmax classifier: least mean log loss, plus half the penalty times the kernel's sum of squares.

    The loss is at least as convex as its penalty, so that the best kernel is at most the gradient's length divided by
    the penalty away: the smaller the penalty, the smaller the gradient must become.

    Args:
        x: features, (n, width) float32; the loss of float64 ones is computed in float64.
        y: classes, (n,) int32; each of 0 … classes - 1 is there.
        l2: the penalty, of the kernel alone.
        max_iterations: of L-BFGS; fewer are one more regulariser.
        start: kernel and bias to start from, such as those for another penalty; zeros if none.

    Returns:
        Kernel, (width, classes) float32; bias, (classes,) float32; the number of iterations.
    """
    from scipy.optimize import minimize  # half a second, which not every stage that knows this module has to spend

    (n, width), classes = x.shape, int(y.max()) + 1
    rows = max(1, SMALL // (width * classes))
    blocks = [slice(first, first + rows) for first in range(0, n, rows)]
    true = y, np.arange(n)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(classes, 1 + width)
        bias, kernel = weights[:, :1], weights[:, 1:]
        rounded = kernel.astype(x.dtype)
        z = np.concatenate([rounded @ x[block].T for block in blocks], axis=1)  # classes first: sums over them are fast
        z += bias
        z -= z.max(axis=0)
        right = z[true].sum(dtype=np.float64)
        np.exp(z, out=z)
        total = z.sum(axis=0)
        loss = (np.log(total).sum(dtype=np.float64) - right) / n + l2 / 2 * np.vdot(kernel, kernel)
        z /= total
        z[true] -= 1
        gradient = np.empty_like(weights)
        gradient[:, 0] = z.sum(axis=1) / n
        gradient[:, 1:] = sum(z[:, block] @ x[block] for block in blocks) / n + l2 * kernel
        return float(loss), gradient.ravel()

    weights = np.zeros((classes, 1 + width)) if start is None else np.column_stack([start[1], start[0].T])
    options = {"maxiter": max_iterations, "gtol": TOLERANCE * min(l2, 1.0), "ftol": PROGRESS}
    found = minimize(loss_and_gradient, weights.ravel(), method="L-BFGS-B", jac=True, options=options)
    weights = found.x.reshape(classes, 1 + width).astype(np.float32)
    return np.ascontiguousarray(weights[:, 1:].T), np.ascontiguousarray(weights[:, 0]), int(found.nit)
