"""End-to-end fine-tuning: every layer of the source model, at a low rate, under a fresh head.

Batch normalisation, if it has any, stays as it is: few labels tell too little of its statistics.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from transfer import fine_tuning
from transfer.networks import engines
from transfer.networks.engines import Engine
from transfer.networks.graph import Architecture
from transfer.networks.layers import read_network

Params = fine_tuning.Params
fit = fine_tuning.fit


def layers(source: Path, classes: int) -> Architecture:
    """The source model's layers under a head for the target's classes."""
    return replace(read_network(source)[0], classes=classes)


@cache
def network(source: Path, classes: int, params: fine_tuning.Params, engine: Engine) -> fine_tuning.Network:
    """The source model under a head that starts at zero; made once in a process.

    Args:
        source: file of the source network.
        classes: the number of target classes.
        params: give the shifts and the optimizer.
        engine: what trains it.
    """
    target = layers(source, classes)
    body, frozen = _without_head(source)
    start = [*body, *(np.zeros(shape, np.float32) for shape in target.weights[-2:]), *frozen]
    program = engines.program(target, engine, shift=params.shift, betas=params.betas)
    return fine_tuning.Network(program, lambda _seed: start, len(frozen))


def ship(weights: list[np.ndarray], *, layers: Architecture, source: Path, name: str, path: Path) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    fine_tuning.ship([*weights, *_without_head(source)[1]], layers=layers, name=name, path=path)


def _without_head(source: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The weights of the source model's body that are trained, and those that stay."""
    network, weights = read_network(source)
    learnt = len(network.weights)
    return weights[: learnt - (2 if network.classes else 0)], weights[learnt:]
