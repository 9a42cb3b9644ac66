"""Training every layer of a network on a few labelled images: what `end_to_end` and `scratch` have in common.

They differ in the weights that they start from, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from transfer.cells import Cell
from transfer.mapped import Rows
from transfer.networks.engines import Program
from transfer.networks.graph import Architecture
from transfer.networks.schedule import FewShotSchedule
from transfer.predictions import softmax
from transfer.target import Draw


class Params(FewShotSchedule):
    """The `end_to_end` and the `scratch` section."""

    shift: Annotated[int, Field(ge=0, le=8)]


class Network(NamedTuple):
    """A network to train.

    Attributes:
        program: its training, made once in a process.
        start: gives the weights to start from for a seed: the trainable ones, and others if they are not the program's.
        frozen: how many of them, the last, no training changes.
    """

    program: Program
    start: Callable[[int], list[np.ndarray]]
    frozen: int = 0


def fit(
    draw: Draw, *, network: Callable[[], Network], images: Rows, to_predict: np.ndarray, params: FewShotSchedule
) -> Cell:
    """Train every layer on one label draw.

    Args:
        draw: rows of the labelled images and their labels.
        network: makes the network, or gives the one that this process has made before.
        images: of the target task, (n, height, width, channels) uint8.
        to_predict: the same for the images to give probabilities for.
        params: the schedule.

    Returns:
        The cell; its weights are all that training changed, in the network's order.
    """
    program, start, frozen = network()
    plan = params.plan(len(draw.rows), draw.shots, draw.seed)
    program.start(start(draw.seed), draw.seed)
    program.train(images[draw.rows], draw.labels, plan, seed=draw.seed)
    weights = program.weights()
    changed = weights[: len(weights) - frozen]
    return Cell(softmax(program.predict(to_predict)), changed, len(plan.rates), plan.examples_seen)


def ship(weights: list[np.ndarray], *, layers: Architecture, name: str, path: Path) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    from transfer.networks import models
    from transfer.networks.backend import keras

    head = keras.layers.Softmax(name="probabilities")
    models.save_model(path, models.with_head(layers.build(name, weights), head, name=name))
