"""End-to-end fine-tuning: every layer of the source CNN, at a low rate, under a fresh head."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from transfer import fine_tuning
from transfer.networks import engines
from transfer.networks.engines import Engine
from transfer.networks.layers import Layers, read_network

Params = fine_tuning.Params
fit = fine_tuning.fit
ship = fine_tuning.ship


def layers(source: Path, classes: int) -> Layers:
    """The source CNN's layers under a head for the target's classes."""
    return replace(read_network(source)[0], classes=classes)


@cache
def network(source: Path, classes: int, params: fine_tuning.Params, engine: Engine) -> fine_tuning.Network:
    """The source CNN under a head that starts at zero; made once in a process.

    Args:
        source: file of the source network.
        classes: the number of target classes.
        params: give the shifts and the optimizer.
        engine: what trains it.
    """
    target = layers(source, classes)
    *body, _, _ = read_network(source)[1]
    start = [*body, *(np.zeros(shape, np.float32) for shape in target.weights[-2:])]
    program = engines.program(target, engine, shift=params.shift, betas=params.betas)
    return fine_tuning.Network(program, lambda _seed: start)
