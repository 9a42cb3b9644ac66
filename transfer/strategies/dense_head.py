"""A dense head: new fully connected layers, trained on frozen features."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.cells import Cell
from transfer.features import Features, Scaling
from transfer.networks import engines
from transfer.networks.engines import Engine, Program
from transfer.networks.layers import Layers, fresh_weights
from transfer.networks.schedule import FewShotSchedule
from transfer.predictions import softmax
from transfer.target import Draw


class Params(FewShotSchedule):
    """The `dense_head` section."""

    tap: str
    units: Annotated[int, Field(ge=1, le=65_536)]
    dropout: Annotated[float, Field(ge=0, le=0.99)]


def layers(width: int, classes: int, params: Params) -> Layers:
    """The head, on features of some width."""
    return Layers((width,), (), (params.units,), classes, params.dropout)


def fit(draw: Draw, *, features: Features, classes: int, engine: Engine, params: Params) -> Cell:
    """Train a two-layer head on one label draw.

    Args:
        draw: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        classes: the number of target classes.
        engine: what trains it.
        params: the head and its schedule.

    Returns:
        The cell; its weights are the two layers' kernels and biases, for scaled features.
    """
    head = layers(features.train.shape[1], classes, params)
    program = _program(head, engine, params.betas)
    plan = params.plan(len(draw.rows), draw.shots, draw.seed)
    program.start(fresh_weights(head.weights, draw.seed), draw.seed)
    program.train(features.train[draw.rows], draw.labels, plan, seed=draw.seed)
    return Cell(softmax(program.predict(features.test)), program.weights(), len(plan.rates), plan.examples_seen)


@cache
def _program(head: Layers, engine: Engine, betas: tuple[float, float]) -> Program:
    """The head's training, made once in a process."""
    return engines.program(head, engine, betas=betas)


def ship(weights: list[np.ndarray], *, source: Path, scaling: Scaling, tap: str, path: Path) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    from transfer.networks import models
    from transfer.networks.backend import keras

    hidden = keras.layers.Dense(len(weights[1]), activation="relu", name="head")
    output = keras.layers.Dense(len(weights[3]), activation="softmax", name="probabilities")
    layers = [*scaling.layers(), hidden, output]
    models.save_on_backbone(path, layers, weights, source=source, tap=tap, name="dense_head")
