"""Training every layer of a network: what `end_to_end` and `scratch` have in common.

They differ in the weights that they start from, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.data.target import Draw
from transfer.models import networks
from transfer.models.backend import keras
from transfer.training import few_shot
from transfer.training.precision import Precision
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule
from transfer.training.task import Prepared, Task
from transfer.training.trainer import Trainer


class Params(FewShotSchedule):
    """The `end_to_end` and the `scratch` section."""

    shift: Annotated[int, Field(ge=0, le=8)]


def prepare(task: Task, params: Params, network: networks.Network, *, name: str, fresh: bool) -> Prepared:
    """A strategy that trains every layer of a network.

    Args:
        task: gives the images.
        params: the schedule.
        network: with the weights to start from.
        name: of the strategy.
        fresh: whether every run starts from random weights, by the seed of its draw.
    """
    images, to_predict = task.images()
    begin = partial(
        start,
        network=network,
        fresh=fresh,
        images=images,
        to_predict=to_predict,
        params=params,
        precision=task.precision,
    )
    return Prepared(begin, partial(export, network=network, name=name))


def start(
    *,
    network: networks.Network,
    fresh: bool,
    images: np.ndarray,
    to_predict: np.ndarray,
    params: Params,
    precision: Precision,
) -> Callable[[Draw], Run]:
    """What trains a run from its draw; arguments as of `prepare` and `few_shot.fit`."""
    trainer = Trainer(network.build(), shift=params.shift, betas=params.betas, precision=precision)
    random = partial(networks.fresh_weights, trainer.model, network.weights)
    return partial(
        few_shot.fit,
        trainer=trainer,
        initial=random if fresh else lambda _seed: network.weights,
        inputs=images,
        to_predict=to_predict,
        params=params,
    )


def export(weights: list[np.ndarray], path: Path, *, network: networks.Network, name: str) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    model = network._replace(weights=weights).build()
    networks.save_model(path, networks.with_head(model, keras.layers.Softmax(name="probabilities"), name=name))
