"""Training from scratch: the source model's layers from random weights; the baseline that says if transfer helped."""

from __future__ import annotations

from functools import cache

from transfer import fine_tuning
from transfer.networks import engines
from transfer.networks.engines import Engine
from transfer.networks.graph import Architecture

Params = fine_tuning.Params
fit = fine_tuning.fit
ship = fine_tuning.ship


@cache
def network(layers: Architecture, params: fine_tuning.Params, engine: Engine) -> fine_tuning.Network:
    """The source model's layers, to start from random weights; made once in a process.

    Args:
        layers: the source model's, with a head for the target's classes.
        params: give the shifts and the optimizer.
        engine: what trains it.
    """
    program = engines.program(layers, engine, shift=params.shift, betas=params.betas)
    return fine_tuning.Network(program, layers.fresh)
