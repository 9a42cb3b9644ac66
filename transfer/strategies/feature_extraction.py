"""Feature extraction: a linear softmax classifier on frozen features.

Scored as by Kornblith et al. 2019 (section 3 and appendix A.4): logistic regression by L-BFGS, its l2 penalty chosen
by cross-validation inside the label budget, then fitted again on all labelled images.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
from pydantic import Field, Strict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from transfer.data.target import Draw
from transfer.models import networks
from transfer.models.backend import keras
from transfer.models.features import Features, Scaling
from transfer.params import Section
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task

ENGINE = "scikit-learn"
SUMMARY = "fit a linear classifier on frozen features"

Penalty = Annotated[float, Field(ge=1e-9, le=1e9)]


class Params(Section):
    """The `feature_extraction` section."""

    layer: str
    l2: Annotated[tuple[Penalty, ...], Field(min_length=1, max_length=100), Strict(False)]
    l2_default: Penalty
    folds: Annotated[int, Field(ge=2, le=20)]
    enough_held_out: Annotated[int, Field(ge=1)]
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)]
    tolerance: Annotated[float, Field(gt=0, le=1)]


def prepare(task: Task, params: Params) -> Prepared:
    """Logistic regression on the features of one layer."""
    features, scaling = task.features(params.layer)
    export_on_layer = partial(export, source=task.source_file, scaling=scaling, layer=params.layer)
    return Prepared(partial(fit, features=features, params=params), export_on_layer)


def fit(draws: Sequence[Draw], *, features: Features, params: Params, workers: int = 1) -> Iterator[Run]:
    """Fit a linear probe on each of some label draws, side by side in processes.

    Args:
        draws: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        params: the penalties to choose from, on the mean loss per example.
        workers: processes; 0 takes one per processor core.

    Yields:
        The run of each draw, in their order; its weights are the kernel, (width, classes), and the bias, (classes,),
        for scaled features. Steps and examples count the final fit's iterations, not the search for the penalty.
    """
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")  # of joblib's, after Ctrl-C
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # in the processes, which end with this one
        fitted = joblib.Parallel(workers or -1, return_as="generator")(
            joblib.delayed(classifier(draw, params).fit)(features.train[draw.rows], draw.labels) for draw in draws
        )
        signal.signal(signal.SIGINT, handler)
        for draw, search in zip(draws, fitted, strict=True):
            best = getattr(search, "best_estimator_", search)
            kernel, bias = as_dense(best)
            iterations = int(best.n_iter_[0])
            yield Run(
                probabilities=best.predict_proba(features.test).astype(np.float32),
                weights=[kernel, bias],
                trainable_parameters=kernel.size + bias.size,
                gradient_steps=iterations,
                examples_seen=iterations * len(draw.rows),
            )


def classifier(draw: Draw, params: Params) -> LogisticRegression | GridSearchCV:
    """Logistic regression, to be fitted with the l2 penalty of least cross-validated log loss inside a draw.

    Args:
        draw: gives the number of images and the seed of the folds; the number of folds is at most the number of shots.
            With fewer than 3 shots the penalty is `l2_default`.
        params: the penalties and the number of folds; no further fold is fitted once enough images were held out.
    """
    penalties = sorted(params.l2, reverse=True) if draw.shots >= 3 else [params.l2_default]
    c = [1 / (l2 * len(draw.rows)) for l2 in penalties]  # scikit-learn's penalty is on the sum of the losses
    regression = LogisticRegression(C=c[0], tol=params.tolerance, max_iter=params.max_iterations)
    if len(c) == 1:
        return regression
    folds = StratifiedKFold(min(params.folds, draw.shots), shuffle=True, random_state=draw.seed)
    enough = -(-params.enough_held_out * folds.n_splits // len(draw.rows))  # folds
    splits = list(folds.split(draw.labels, draw.labels))[:enough]
    return GridSearchCV(regression, {"C": c}, scoring="neg_log_loss", cv=splits)


def as_dense(classifier: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Kernel, (width, classes) float32, and bias, (classes,) float32, of a softmax layer that gives the same.

    Of two classes scikit-learn fits the difference of their logits alone.
    """
    coefficients, intercept = classifier.coef_, classifier.intercept_
    if len(coefficients) == 1:
        coefficients, intercept = (np.concatenate([np.zeros_like(part), part]) for part in (coefficients, intercept))
    return coefficients.T.astype(np.float32), intercept.astype(np.float32)


def export(weights: list[np.ndarray], path: Path, *, source: Path, scaling: Scaling, layer: str) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    head = keras.layers.Dense(len(weights[1]), activation="softmax", name="probabilities")
    layers = [*scaling.layers(), head]
    networks.save_on_backbone(path, layers, weights, source=source, layer=layer, name="feature_extraction")
