"""End-to-end fine-tuning: every layer of the source model, at a low rate, under a fresh head.

Batch normalisation, if it has any, stays as it is: few labels tell too little of its statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from transfer.data.target import Draw
from transfer.models.backend import keras
from transfer.models.networks import Network, with_head, without_head
from transfer.training import few_shot, fine_tuning
from transfer.training.precision import Precision
from transfer.training.runs import Run
from transfer.training.trainer import Trainer

Params = fine_tuning.Params
export = partial(fine_tuning.export, name="end_to_end")


def network(source: keras.Model, classes: int) -> Network:
    """The source model's layers under a new head, which starts at zero."""
    head = keras.layers.Dense(classes, kernel_initializer="zeros", name="logits")
    return Network.of(with_head(without_head(source), head, name="network"))


def start(
    *, network: Network, images: np.ndarray, to_predict: np.ndarray, params: Params, precision: Precision
) -> Callable[[Draw], Run]:
    """What trains a run from its draw; arguments as of `few_shot.fit`, and the network to start from."""
    trainer = Trainer(network.build(), shift=params.shift, betas=params.betas, precision=precision)
    return partial(
        few_shot.fit,
        trainer=trainer,
        initial=lambda _seed: network.weights,
        inputs=images,
        to_predict=to_predict,
        params=params,
    )
