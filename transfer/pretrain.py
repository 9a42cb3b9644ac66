"""Pretraining: the source CNN on all labels of the source task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from transfer.basics.console import UserError
from transfer.basics.params import Section
from transfer.checkpoints import Checkpoint
from transfer.networks import engines
from transfer.networks.engines import Engine, Program
from transfer.networks.layers import Layers, fresh_weights
from transfer.networks.schedule import Decay, Plan, Rate, shuffled_batches, warmup_cosine


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


class Epoch(NamedTuple):
    """What an epoch of pretraining has come to."""

    program: Program
    loss: float  # its mean training loss
    number: int  # of the epoch, from 1


def train_source(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    layers: Layers,
    engine: Engine,
    params: Params,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Epoch]:
    """Train the source CNN, yielding after every epoch that was not done before.

    Args:
        images: (n, height, width, channels) uint8.
        labels: classes, (n,) int32.
        layers: the network.
        engine: what trains it.
        params: epochs, batch, rates and seed.
        checkpoint: to go on from, and to keep every epoch but the last in.

    Raises:
        UserError: if the loss is no longer a number.
    """
    betas = params.beta_1, params.beta_2
    program = engines.program(layers, engine, threads=params.threads, shift=params.shift, betas=betas)
    steps = max(1, len(images) // params.batch)
    batches = shuffled_batches(len(images), min(params.batch, len(images)), params.epochs * steps, params.seed)
    rates = warmup_cosine(len(batches), params.peak_rate, params.warmup)
    program.start(fresh_weights(layers.weights, params.seed), params.seed)
    done = 0
    if checkpoint:
        number, *state = checkpoint.read([np.array(0, np.float32), *program.state()])
        program.restore(state, params.seed)
        done = int(number)
    for epoch in range(done, params.epochs):
        part = slice(epoch * steps, (epoch + 1) * steps)
        plan = Plan(batches[part], rates[part])
        loss = program.train(images, labels, plan, seed=params.seed, first_step=part.start)
        if not np.isfinite(loss):
            raise UserError(f"pretraining diverged, its loss is {loss}: lower pretrain.peak_rate")
        if checkpoint and epoch + 1 < params.epochs:
            checkpoint.write([np.array(epoch + 1, np.float32), *program.state()])
        yield Epoch(program, loss, epoch + 1)


def accuracy(program: Program, images: np.ndarray, labels: np.ndarray) -> float:
    """The part of the images whose largest logit is the right one."""
    return float(np.mean(program.predict(images).argmax(axis=1) == labels))
