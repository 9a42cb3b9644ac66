"""Training every layer of a network on a few labelled images: what `end_to_end` and `scratch` have in common.

They differ in the weights that they start from, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.networks import models
from transfer.networks.backend import keras
from transfer.predictions import softmax
from transfer.target import Draw
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule
from transfer.training.trainer import Trainer


class Params(FewShotSchedule):
    """The `end_to_end` and the `scratch` section."""

    shift: Annotated[int, Field(ge=0, le=8)]


def fit(
    draw: Draw,
    *,
    trainer: Trainer,
    initial: Callable[[int], list[np.ndarray]],
    images: np.ndarray,
    to_predict: np.ndarray,
    params: Params,
) -> Run:
    """Train every layer on one label draw.

    Args:
        draw: rows of the labelled images and their labels.
        trainer: of the network.
        initial: the weights to start from, by the seed.
        images: of the target task, (n, height, width, channels) uint8.
        to_predict: the same for the images to give probabilities for.
        params: the schedule.

    Returns:
        The run; its weights are all that the network has, in Keras's order.
    """
    plan = params.plan(len(draw.rows), draw.shots, draw.seed)
    trainer.reset(initial(draw.seed), draw.seed)
    trainer.train(images[draw.rows], draw.labels, plan, draw.seed)
    return Run(
        probabilities=softmax(trainer.predict(to_predict)),
        weights=trainer.model.get_weights(),
        trainable_parameters=trainer.trainable_parameters,
        gradient_steps=len(plan.rates),
        examples_seen=plan.batches.size,
    )


def export(weights: list[np.ndarray], path: Path, *, network: models.Network, name: str) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    model = network._replace(weights=weights).build()
    models.save_model(path, models.with_head(model, keras.layers.Softmax(name="probabilities"), name=name))
