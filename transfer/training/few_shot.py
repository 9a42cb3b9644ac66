"""One training of a network on the labelled images of a draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import softmax

from transfer.data.target import Draw
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule
from transfer.training.timing import timed
from transfer.training.trainer import Trainer


def fit(
    draw: Draw,
    *,
    trainer: Trainer,
    initial: Callable[[Draw], list[np.ndarray]],
    inputs: np.ndarray,
    to_predict: np.ndarray,
    params: FewShotSchedule,
) -> Run:
    """Train on one label draw.

    Args:
        draw: rows of the images to train on, and their labels.
        trainer: of the network.
        initial: the weights to start from.
        inputs: what the network takes, of the target's images: images, (n, height, width, channels) uint8, or features,
            (n, width) float32.
        to_predict: the same for the images to give probabilities for.
        params: the schedule.

    Returns:
        The run; its weights are all that the network has, in Keras's order.
    """
    plan = params.plan(len(draw.rows), draw.shots, draw.seed)

    def train() -> None:
        trainer.reset(initial(draw), draw.seed)
        trainer.train(inputs[draw.rows], draw.labels, plan, draw.seed)

    _, train_seconds = timed(train)
    logits, predict_seconds = timed(trainer.predict, to_predict)
    return Run(
        probabilities=softmax(logits, axis=-1),
        weights=trainer.model.get_weights(),
        trainable_parameters=trainer.trainable_parameters,
        gradient_steps=len(plan.rates),
        examples_seen=plan.examples_seen,
        train_seconds=train_seconds,
        predict_seconds=predict_seconds,
        unlabelled_images=max(0, len(draw.rows) - draw.shots * draw.classes),
    )
