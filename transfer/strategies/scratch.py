"""Training from scratch: the source model's layers from random weights; the baseline that says if transfer helped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from transfer.data.target import Draw
from transfer.models.backend import keras
from transfer.models.networks import Network, fresh_weights, with_head
from transfer.training import few_shot, fine_tuning
from transfer.training.precision import Precision
from transfer.training.runs import Run
from transfer.training.trainer import Trainer

Params = fine_tuning.Params
export = partial(fine_tuning.export, name="scratch")


def network(body: keras.Model, classes: int) -> Network:
    """The source model's layers without its head, under one for the target's classes."""
    model = with_head(body, keras.layers.Dense(classes, name="logits"), name="network")
    return Network.of(model)._replace(weights=fresh_weights(model, model.get_weights(), seed=0))


def start(
    *, network: Network, images: np.ndarray, to_predict: np.ndarray, params: Params, precision: Precision
) -> Callable[[Draw], Run]:
    """What trains a run from its draw; arguments as of `few_shot.fit`, and the network."""
    trainer = Trainer(network.build(), shift=params.shift, betas=params.betas, precision=precision)
    return partial(
        few_shot.fit,
        trainer=trainer,
        initial=partial(fresh_weights, trainer.model, network.weights),
        inputs=images,
        to_predict=to_predict,
        params=params,
    )
