"""Pretraining: the source CNN on all labels of the source task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from sklearn.metrics import accuracy_score

from transfer.console import UserError
from transfer.models.networks import fresh_weights
from transfer.params import Section
from transfer.training.schedule import Decay, Plan, Rate, shuffled_batches, warmup_cosine
from transfer.training.trainer import Trainer

ROUNDS = 10  # at least, of a source with few images


class Params(Section):
    """The `pretrain` section."""

    epochs: Annotated[int, Field(ge=1, le=1000)]
    least_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    patience: Annotated[int, Field(ge=1, le=1000)]
    batch: Annotated[int, Field(ge=1, le=65_536)]
    peak_rate: Rate
    warmup: Annotated[float, Field(ge=0, le=1)]
    beta_1: Decay
    beta_2: Decay
    shift: Annotated[int, Field(ge=0, le=8)]
    threads: Annotated[int, Field(ge=1, le=256)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


class Round(NamedTuple):
    """What a part of the pretraining came to: an epoch, or a tenth of `least_steps` if that is more.

    Attributes:
        steps: gradient steps since the beginning.
        of: those that are planned.
        loss: mean training loss over the round.
        accuracy: on the validation images.
    """

    steps: int
    of: int
    loss: float
    accuracy: float


def train_source(
    trainer: Trainer,
    images: np.ndarray,
    labels: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    params: Params,
) -> Iterator[Round]:
    """Train the source CNN round by round; the weights are then those of the highest validation accuracy.

    Args:
        trainer: of the network.
        images: (n, height, width, channels) uint8.
        labels: classes, (n,) int32.
        validation: images and labels, likewise, that are not trained on.
        params: epochs, steps, batch, rates and seed.

    Raises:
        UserError: if the loss is no longer a number.
    """
    per_epoch = max(1, len(images) // params.batch)
    steps = max(params.epochs * per_epoch, params.least_steps)
    per_round = max(per_epoch, params.least_steps // ROUNDS)
    batches = shuffled_batches(len(images), min(params.batch, len(images)), steps, params.seed)
    rates = warmup_cosine(steps, params.peak_rate, params.warmup)
    trainer.reset(fresh_weights(trainer.model, trainer.model.get_weights(), params.seed), params.seed)
    highest, waited, best = -1.0, 0, trainer.model.get_weights()
    for start in range(0, steps, per_round):
        part = slice(start, start + per_round)
        loss = trainer.train(images, labels, Plan(batches[part], rates[part]), params.seed)
        if not np.isfinite(loss):
            raise UserError(f"pretraining diverged, its loss is {loss}: lower pretrain.peak_rate")
        accuracy = accuracy_score(validation[1], trainer.predict(validation[0]).argmax(axis=1))
        done = Round(min(part.stop, steps), steps, loss, accuracy)
        yield done
        waited += 1
        if done.accuracy >= highest:
            highest, waited, best = done.accuracy, 0, trainer.model.get_weights()
        if waited == params.patience:
            break
    trainer.model.set_weights(best)


def is_poor(accuracy: float, classes: int) -> bool:
    """Whether an accuracy is nearer to guessing than to always being right."""
    return accuracy < (1 + 1 / classes) / 2
