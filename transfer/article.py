"""A specimen: what the printed code of the article does that this project repairs.

It puts a new softmax on the softmax output of the source model, so that the new head sees a few saturated probabilities
in the place of features; it freezes nothing, though it says so; and its target task is its source task. No strategy
to choose from: it is measured as a warning.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from transfer import fine_tuning
from transfer.networks.engines import Engine
from transfer.networks.layers import fresh_weights
from transfer.networks.schedule import FewShotSchedule
from transfer.target import Target, few_shot

NO_SOURCE = (
    "params.yaml: article.measure is true, but data.source.name is none: the article's task is that of the source, so "
    "name its data"
)

fit = fine_tuning.fit


class Params(FewShotSchedule):
    """The `article` section."""

    measure: bool


@cache
def network(source: Path, classes: int, engine: Engine, betas: tuple[float, float]) -> fine_tuning.Network:
    """The source CNN, its probabilities, and a new head on them, every weight trainable; traced once in a process.

    Args:
        source: file of the source model.
        classes: the number of target classes.
        engine: Keras, in some precision.
        betas: decay of Adam's moments.
    """
    from transfer.networks import models
    from transfer.networks.backend import keras
    from transfer.networks.training import Program

    probabilities = keras.layers.Softmax(name="source_probabilities")
    head = keras.layers.Dense(classes, name="target_logits")  # its softmax is in the loss
    model = models.with_head(models.load_model(source), probabilities, head, name="article")
    program = Program(model, betas=betas, precision=engine.precision)
    weights, count = program.weights(), len(model.trainable_variables)
    learnt, frozen = weights[: count - 2], weights[count:]  # such as statistics of a batch normalisation that stays
    shapes = [weight.shape for weight in weights[:count]]
    return fine_tuning.Network(program, lambda seed: [*learnt, *fresh_weights(shapes, seed)[-2:], *frozen], len(frozen))


def same_task(images: np.ndarray, labels: np.ndarray, classes: np.ndarray, *, shots: np.ndarray, seeds: int) -> Target:
    """The source task in the place of the target: the source model has been trained on these very images.

    Args:
        images: that it was trained on, (n, height, width, channels) uint8.
        labels: their classes, (n,) int32.
        classes: what the user calls the classes, (classes,) str.
        shots: the study's numbers of labelled images per class; where a class has fewer, all that it has.
        seeds: the number of draws.
    """
    shots = np.unique(np.minimum(shots, np.bincount(labels).min()))
    return few_shot(images, labels, classes.tolist(), shots.tolist(), seeds)
