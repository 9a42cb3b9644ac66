"""Label propagation: labels spread over a graph of all target images, then a linear classifier on frozen features.

Images are joined to their nearest neighbours. Poisson learning (Calder et al. 2020, section 2) lets the labels flow
along the edges until every image has one. The classifier that is shipped learns from these pseudo-labels. Neither test
images nor sizes of classes have a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Literal

import joblib
import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from transfer.data.target import Draw
from transfer.models.features import Features, save_classifier
from transfer.training import linear
from transfer.training.linear import Job, Linear, Penalty
from transfer.training.propagation import classify, laplacian
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task

ENGINE = "scikit-learn"
SUMMARY = "spread labels over a graph of all target images, and fit a linear classifier on frozen features to them"
NEEDS = ["labels", "unlabelled images", "source model"]

CHECKED_FROM = 5  # labels of every class; fewer cannot tell whether the graph helps


class Params(linear.Fitting):
    """The `label_propagation` section."""

    layer: str
    neighbours: Annotated[int, Field(ge=1, le=1000)]
    components: Annotated[int, Field(ge=1, le=10_000)]
    images: Annotated[int, Field(ge=100)]
    fitted: Annotated[int, Field(ge=1)]
    gate: Literal["cross_validation", "none"]
    l2: Penalty


def prepare(task: Task, params: Params) -> Prepared:
    """Label propagation on the features of one layer."""
    features, scaling = task.features(params.layer)
    target = task.target
    start = partial(
        fit,
        features=features,
        nodes=np.union1d(target.pool(params.images), target.draws),
        sample=target.pool(params.fitted),
        params=params,
    )
    export = partial(save_classifier, body=partial(task.backbone, params.layer), scaling=scaling)
    return Prepared(start, export)


def fit(
    draws: Sequence[Draw],
    *,
    features: Features,
    nodes: np.ndarray,
    sample: np.ndarray,
    params: Params,
    workers: int = 1,
) -> Iterator[Run]:
    """Spread the labels of each of some draws, and fit a classifier to what they spread to; as `linear.fit`.

    Args:
        draws: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        nodes: rows of the images in the graph, all that are drawn among them, ascending.
        sample: rows of the images that, beside the labelled ones, the classifier is fitted on.
        params: the graph and the classifier.
        workers: processes.
    """
    graph = laplacian(features.train[nodes], params.neighbours, params.components)

    def fitting(draw: Draw) -> Job:
        checked = params.gate == "cross_validation" and draw.fewest >= CHECKED_FROM
        return joblib.delayed(classify)(
            features.train,
            draw.rows,
            draw.labels,
            graph=graph,
            nodes=nodes,
            sample=sample,
            regression=params.regression(params.l2, 1),
            splits=params.splits(draw) if checked else [],
        )

    def finish(draw: Draw, found: tuple[LogisticRegression, int, int]) -> Linear:
        fitted, examples, unlabelled = found
        return Linear.of(fitted, draw.classes, examples, unlabelled)

    return linear.fit(draws, features, fitting, finish, workers)
