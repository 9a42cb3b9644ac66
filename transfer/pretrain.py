"""Pretraining: the source CNN on all labels of the source task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer import engines
from transfer.console import UserError
from transfer.engines import Engine, Program
from transfer.layers import Layers, fresh_weights
from transfer.params import Section
from transfer.schedule import Decay, Plan, Rate, shuffled_batches, warmup_cosine


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


def train_source(
    images: np.ndarray, labels: np.ndarray, *, layers: Layers, engine: Engine, params: Params
) -> Iterator[tuple[Program, float]]:
    """Train the source CNN, yielding its program with the mean training loss after every epoch.

    Args:
        images: (n, height, width, channels) uint8.
        labels: classes, (n,) int32.
        layers: the network.
        engine: what trains it.
        params: epochs, batch, rates and seed.

    Raises:
        UserError: if the loss is no longer a number.
    """
    betas = params.beta_1, params.beta_2
    program = engines.program(layers, engine, threads=params.threads, shift=params.shift, betas=betas)
    steps = max(1, len(images) // params.batch)
    batches = shuffled_batches(len(images), min(params.batch, len(images)), params.epochs * steps, params.seed)
    rates = warmup_cosine(len(batches), params.peak_rate, params.warmup)
    program.start(fresh_weights(layers.weights, params.seed), params.seed)
    for first in range(0, len(batches), steps):
        plan = Plan(batches[first : first + steps], rates[first : first + steps])
        loss = program.train(images, labels, plan, seed=params.seed, first_step=first)
        if not np.isfinite(loss):
            raise UserError(f"pretraining diverged, its loss is {loss}: lower pretrain.peak_rate")
        yield program, loss


def accuracy(program: Program, images: np.ndarray, labels: np.ndarray) -> float:
    """The part of the images whose largest logit is the right one."""
    return float(np.mean(program.predict(images).argmax(axis=1) == labels))
