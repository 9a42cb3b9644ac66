"""A dense head: new fully connected layers, trained on frozen features."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from transfer.cells import Cell
from transfer.features import Features, Scaling
from transfer.predictions import softmax
from transfer.schedule import FewShotSchedule
from transfer.target import Draw

if TYPE_CHECKING:
    from transfer.training import Program


class Params(FewShotSchedule):
    """The `dense_head` section."""

    tap: str
    units: Annotated[int, Field(ge=1, le=65_536)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


def fit(draw: Draw, *, features: Features, classes: int, params: Params) -> Cell:
    """Train a two-layer head on one label draw.

    Args:
        draw: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        classes: the number of target classes.
        params: the head and its schedule.

    Returns:
        The cell; its weights are the two layers' kernels and biases, for scaled features.
    """
    from transfer.training import fresh_weights

    program = _program(features.train.shape[1], classes, params.units, params.dropout)
    plan = params.plan(len(draw.rows), draw.shots, draw.seed)
    program.start(fresh_weights(program.model, draw.seed), draw.seed)
    program.train(features.train[draw.rows], draw.labels, plan, seed=draw.seed)
    return Cell(softmax(program.predict(features.test)), program.weights(), len(plan.rates), plan.examples_seen)


@cache
def _program(width: int, classes: int, units: int, dropout: float) -> Program:
    """The head's training, traced once in a process."""
    from transfer.backend import keras
    from transfer.training import Program

    layers = keras.layers
    head = [layers.Dense(units, activation="relu"), layers.Dropout(dropout), layers.Dense(classes)]
    return Program(keras.Sequential([keras.Input((width,)), *head]))


def ship(weights: list[np.ndarray], *, source: Path, scaling: Scaling, tap: str, path: Path) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    from transfer import models
    from transfer.backend import keras

    hidden = keras.layers.Dense(len(weights[1]), activation="relu", name="head")
    output = keras.layers.Dense(len(weights[3]), activation="softmax", name="probabilities")
    layers = [*scaling.layers(), hidden, output]
    models.save_on_backbone(path, layers, weights, source=source, tap=tap, name="dense_head")
