"""A dense head: new fully connected layers, trained on frozen features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import Field

from transfer.data.target import Draw
from transfer.models import networks
from transfer.models.backend import keras
from transfer.models.features import Features, save_classifier
from transfer.training import few_shot
from transfer.training.precision import Precision
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule
from transfer.training.task import Prepared, Task
from transfer.training.trainer import Trainer

ENGINE = "tensorflow"
SUMMARY = "train new dense layers on frozen features"
NEEDS = ["labels", "source model"]


class Params(FewShotSchedule):
    """The `dense_head` section."""

    layer: str
    units: Annotated[int, Field(ge=1, le=65_536)]
    dropout: Annotated[float, Field(ge=0, le=0.99)]


def prepare(task: Task, params: Params) -> Prepared:
    """Training of new dense layers on the features of one layer."""
    features, scaling = task.features(params.layer)
    begin = partial(start, features=features, classes=task.classes, params=params, precision=task.precision)
    export = partial(save_classifier, body=partial(task.backbone, params.layer), scaling=scaling)
    return Prepared(begin, export)


def head(width: int, classes: int, params: Params) -> keras.Model:
    """The head, from features of some width to logits."""
    layers = keras.layers
    features = keras.Input((width,), name="features")
    hidden = layers.Dense(params.units, activation="relu", name="head")(features)
    dropped = layers.Dropout(params.dropout, name="dropout")(hidden)
    return keras.Model(features, layers.Dense(classes, name="logits")(dropped))


def start(*, features: Features, classes: int, params: Params, precision: Precision) -> Callable[[Draw], Run]:
    """What trains a run from its draw; its weights are the two layers' kernels and biases, for scaled features.

    Args:
        features: frozen and scaled, (images, width) float32.
        classes: the number of target classes.
        params: the head and its schedule.
        precision: what it is trained in.
    """
    model = head(features.train.shape[1], classes, params)
    trainer = Trainer(model, betas=params.betas, precision=precision)
    as_built = model.get_weights()
    return partial(
        few_shot.fit,
        trainer=trainer,
        initial=lambda draw: networks.fresh_weights(model, as_built, draw.seed),
        inputs=features.train,
        to_predict=features.test,
        params=params,
    )
