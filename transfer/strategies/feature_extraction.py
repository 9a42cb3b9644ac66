"""Feature extraction: a linear softmax classifier on frozen features.

Scored as by Kornblith et al. 2019 (section 3 and appendix A.4): logistic regression by L-BFGS, its l2 penalty chosen
on validation images, then fitted again on all labelled images. The validation images come out of the label budget.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, Strict

from transfer.basics.params import Section
from transfer.cells import Cell
from transfer.features import Features, Scaling
from transfer.logistic import fit_logistic
from transfer.predictions import softmax
from transfer.target import Draw

Penalty = Annotated[float, Field(ge=1e-9, le=1e9)]


class Params(Section):
    """The `feature_extraction` section."""

    tap: str
    l2: Annotated[tuple[Penalty, ...], Field(min_length=1, max_length=100), Strict(False)]
    l2_default: Penalty
    folds: Annotated[int, Field(ge=2, le=20)]
    enough_held_out: Annotated[int, Field(ge=1)]
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)]


def fit(draw: Draw, *, features: Features, params: Params) -> Cell:
    """Fit a linear probe on one label draw.

    Args:
        draw: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        params: the penalties to choose from, on the mean loss per example.

    Returns:
        The cell; its weights are the kernel, (width, classes), and the bias, (classes,), for scaled features. Steps
        and examples count the final fit's iterations, not the search for the penalty.
    """
    x, y = features.train[draw.rows], draw.labels
    l2 = choose_l2(x, y, draw, params) if draw.shots >= 3 else params.l2_default
    kernel, bias, iterations = fit_logistic(x, y, l2, params.max_iterations)
    return Cell(softmax(features.test @ kernel + bias), [kernel, bias], iterations, iterations * len(x))


def choose_l2(x: np.ndarray, y: np.ndarray, draw: Draw, params: Params) -> float:
    """The penalty of least cross-validated log loss inside the draw; the larger one at a tie.

    Args:
        x: scaled features of the labelled images, (n, width) float32.
        y: their classes, (n,) int32.
        draw: gives the seed of the folds; the number of folds is at most the number of shots.
        params: the penalties and the number of folds; no further fold is fitted once enough images were held out.
    """
    if len(x) < x.shape[1]:  # as many coordinates as images have the same inner products, and so give the same fits
        triangle: np.ndarray = np.linalg.qr(x.T, mode="r")  # type: ignore[assignment]
        x = np.ascontiguousarray(triangle.T)
    fold = stratified_folds(y, min(params.folds, draw.shots), draw.seed)
    losses, scored = dict.fromkeys(sorted(params.l2, reverse=True), 0.0), 0
    for held_out in range(fold.max() + 1):
        inside, outside = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        found: tuple[np.ndarray, np.ndarray] | None = None
        for l2 in losses:  # the fit with one penalty starts from that with the next larger one
            kernel, bias, _ = fit_logistic(x[inside], y[inside], l2, params.max_iterations, found)
            found = kernel, bias
            probabilities = softmax(x[outside] @ kernel + bias)
            likelihood = probabilities[np.arange(len(outside)), y[outside]].astype(np.float64)
            losses[l2] -= np.log(np.maximum(likelihood, 1e-12)).sum()
        scored += len(outside)
        if scored >= params.enough_held_out:
            break
    return min(losses, key=losses.__getitem__)


def stratified_folds(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal images out at random to folds of the same size, class by class: the fold of each, (n,) int64."""
    order = np.lexsort([np.random.default_rng(seed).random(len(y)), y])
    fold = np.empty(len(y), np.int64)
    fold[order] = np.arange(len(y)) % count
    return fold


def ship(weights: list[np.ndarray], *, source: Path, scaling: Scaling, tap: str, path: Path) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    from transfer.networks import models
    from transfer.networks.backend import keras

    head = keras.layers.Dense(len(weights[1]), activation="softmax", name="probabilities")
    layers = [*scaling.layers(), head]
    models.save_on_backbone(path, layers, weights, source=source, tap=tap, name="feature_extraction")
