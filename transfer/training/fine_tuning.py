"""Training every layer of a network: what `end_to_end` and `scratch` have in common.

They differ in the weights that they start from, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from transfer.data.target import Draw
from transfer.models import networks
from transfer.models.backend import keras
from transfer.training import few_shot
from transfer.training.precision import Precision
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule, Rate
from transfer.training.task import Prepared, Task
from transfer.training.trainer import Trainer

HIGHEST = 0.004  # peak rate of the source CNN and others that are as shallow
SHALLOW = 4  # layers with a kernel


class Params(FewShotSchedule):
    """The `end_to_end` and the `scratch` section."""

    shift: Annotated[int, Field(ge=0, le=8)]
    peak_rate: Literal["auto"] | Rate  # type: ignore[assignment]

    def suited_to(self, network: networks.Network) -> Self:
        """The section with a number in the place of a peak rate `auto`: the lower, the deeper a network is.

        Deep networks do not survive the rate that is best for shallow ones.
        """
        if self.peak_rate != "auto":
            return self
        depth = sum(weight.ndim > 1 for weight in network.weights)
        return self.model_copy(update={"peak_rate": round(HIGHEST * min(1, SHALLOW / depth), 6)})


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
    params = params.suited_to(network)
    begin = partial(
        start,
        network=network,
        fresh=fresh,
        images=images,
        to_predict=to_predict,
        params=params,
        precision=task.precision,
    )
    return Prepared(begin, partial(export, network=network, name=name), params)


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
