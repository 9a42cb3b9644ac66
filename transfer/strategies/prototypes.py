"""Prototypes: the nearest class mean of frozen features, which needs no training.

SimpleShot (Wang et al. 2019, section 3.2): features are centred and brought to the same length, here after each was
divided by its deviation over the pool; then an image belongs to the class whose labelled images have the nearest mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from transfer.data.target import Draw
from transfer.models.features import Features, save_classifier
from transfer.params import Section
from transfer.training import linear
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task
from transfer.training.timing import timed

ENGINE = "scikit-learn"
SUMMARY = "take the class with the nearest mean of frozen features"
NEEDS = ["labels", "source model"]


class Params(Section):
    """The `prototypes` section."""

    layer: str


def prepare(task: Task, params: Params) -> Prepared:
    """Class means of the features of one layer."""
    features, scaling = task.features(params.layer)
    export = partial(save_classifier, body=partial(task.backbone, params.layer), scaling=scaling)
    return Prepared(partial(fit, features=features), export)


def fit(draws: Sequence[Draw], *, features: Features, **_: object) -> Iterator[Run]:
    """Take the class means of each of some label draws, and yield its run.

    Args:
        draws: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
    """
    for draw in draws:
        found, seconds = timed(linear.nearest_mean, draw, features.train)
        yield found.run(features, seconds)
