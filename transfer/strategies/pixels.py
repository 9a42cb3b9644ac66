"""Pixels: a linear classifier on the images themselves; what is not better has no use for the source model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated

import joblib
from pydantic import Field, Strict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline

from transfer.data.target import Draw
from transfer.models import networks
from transfer.models.backend import keras
from transfer.models.features import Features, Scaling, save_classifier
from transfer.training import linear
from transfer.training.linear import Job, Linear, Penalty
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task

ENGINE = "scikit-learn"
SUMMARY = "fit a linear classifier on pixels"
NEEDS = ["labels"]

SIDE = 32  # pixels; larger images are averaged down to at most this many each way


class Params(linear.Fitting):
    """The `pixels` section."""

    l2: Annotated[tuple[Penalty, ...], Field(min_length=1, max_length=100), Strict(False)]
    l2_default: Penalty


def prepare(task: Task, params: Params) -> Prepared:
    """The nearest class mean, or logistic regression, on pixels."""
    body = partial(pixels_of, task.target.images.shape[1:])
    train, test = (networks.predictor(body())(images)[0] for images in task.images())
    scaling = Scaling.of_pool(train)
    features = Features(train, test).scaled(scaling)
    export = partial(save_classifier, body=body, scaling=scaling)
    return Prepared(partial(fit, features=features, params=params), export)


def pixels_of(shape: tuple[int, ...]) -> keras.Model:
    """From raw images, (height, width, channels) uint8, to a row of pixels in 0 … 1."""
    image = keras.Input(shape, dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255, name="float_image")(image)
    factor = -(-max(shape[:2]) // SIDE)
    if factor > 1:
        x = keras.layers.AveragePooling2D(factor, padding="same", name="smaller")(x)
    return keras.Model(image, keras.layers.Flatten(name="pixels")(x))


def fit(draws: Sequence[Draw], *, features: Features, params: Params, workers: int = 1) -> Iterator[Run]:
    """Fit a linear classifier on each of some label draws; as `linear.fit`."""

    def fitting(draw: Draw) -> Job:
        return joblib.delayed(classifier(draw, params).fit)(features.train[draw.rows], draw.labels)

    def finish(draw: Draw, search: LogisticRegression | GridSearchCV) -> Linear:
        best = search.best_estimator_["classifier"] if isinstance(search, GridSearchCV) else search
        if isinstance(best, NearestCentroid):
            return linear.nearest_mean(draw, features.train)
        return Linear.of(best, draw.classes, len(draw.rows))

    return linear.fit(draws, features, fitting, finish, workers)


def classifier(draw: Draw, params: Params) -> LogisticRegression | GridSearchCV:
    """The nearest class mean or logistic regression, whichever cross-validation inside a draw finds more accurate.

    Args:
        draw: gives the number of images and the folds. With fewer than 3 labels of a class, too few to tell, it is a
            logistic regression with the penalty `l2_default`.
        params: the penalties to choose from.
    """
    if draw.fewest < 3:
        return params.regression(params.l2_default, len(draw.rows))
    regressions = [params.regression(l2, len(draw.rows)) for l2 in sorted(params.l2, reverse=True)]
    choices = {"classifier": [NearestCentroid(), *regressions]}
    chosen = Pipeline([("classifier", NearestCentroid())])
    return GridSearchCV(chosen, choices, scoring="accuracy", cv=params.splits(draw))
