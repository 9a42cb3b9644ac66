"""Training from scratch: the source CNN's layers from random weights; the baseline that says if transfer helped."""

from __future__ import annotations

from functools import cache, partial

from transfer import fine_tuning
from transfer.networks import engines
from transfer.networks.engines import Engine
from transfer.networks.layers import Layers, fresh_weights

Params = fine_tuning.Params
fit = fine_tuning.fit
ship = fine_tuning.ship


@cache
def network(layers: Layers, params: fine_tuning.Params, engine: Engine) -> fine_tuning.Network:
    """The source CNN's layers, to start from random weights; made once in a process.

    Args:
        layers: the source CNN's, with a head for the target's classes.
        params: give the shifts and the optimizer.
        engine: what trains it.
    """
    program = engines.program(layers, engine, shift=params.shift, betas=params.betas)
    return fine_tuning.Network(program, partial(fresh_weights, layers.weights))
