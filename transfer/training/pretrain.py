"""Pretraining: the source CNN on all labels of the source task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.console import UserError
from transfer.models.networks import fresh_weights
from transfer.params import Section
from transfer.training.schedule import Decay, Plan, Rate, shuffled_batches, warmup_cosine
from transfer.training.trainer import Trainer


class Params(Section):
    """The `pretrain` section."""

    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch: Annotated[int, Field(ge=1, le=65_536)]
    peak_rate: Rate
    warmup: Annotated[float, Field(ge=0, le=1)]
    beta_1: Decay
    beta_2: Decay
    shift: Annotated[int, Field(ge=0, le=8)]
    threads: Annotated[int, Field(ge=1, le=256)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


def train_source(trainer: Trainer, images: np.ndarray, labels: np.ndarray, params: Params) -> Iterator[float]:
    """Train the source CNN, and yield the mean training loss after every epoch.

    Args:
        trainer: of the network.
        images: (n, height, width, channels) uint8.
        labels: classes, (n,) int32.
        params: epochs, batch, rates and seed.

    Raises:
        UserError: if the loss is no longer a number.
    """
    steps = max(1, len(images) // params.batch)
    batches = shuffled_batches(len(images), min(params.batch, len(images)), params.epochs * steps, params.seed)
    rates = warmup_cosine(len(batches), params.peak_rate, params.warmup)
    trainer.reset(fresh_weights(trainer.model, trainer.model.get_weights(), params.seed), params.seed)
    for epoch in range(params.epochs):
        part = slice(epoch * steps, (epoch + 1) * steps)
        loss = trainer.train(images, labels, Plan(batches[part], rates[part]), params.seed)
        if not np.isfinite(loss):
            raise UserError(f"pretraining diverged, its loss is {loss}: lower pretrain.peak_rate")
        yield loss


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The part of the images whose largest logit, of (n, classes), is that of their class, of (n,)."""
    return float(np.mean(logits.argmax(axis=1) == labels))
