"""Training every layer of a network: `end_to_end`, `scratch`, and the strategies that learn from other strategies.

They differ in the weights that they start from, and in the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from transfer.data.target import Draw
from transfer.models import networks
from transfer.models.backend import keras
from transfer.training import few_shot
from transfer.training.linear import Linear
from transfer.training.precision import Precision
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule, Rate
from transfer.training.task import Prepared, Task
from transfer.training.trainer import Trainer

HIGHEST = 0.004  # peak rate of the source CNN and others that are as shallow
SHALLOW = 4  # layers with a kernel
PROBE_L2 = 0.01


class Params(FewShotSchedule):
    """The `scratch` section, and part of those of other strategies that train every layer."""

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


Initial = Callable[[Trainer, list[np.ndarray], np.ndarray], Callable[[Draw], list[np.ndarray]]]


def as_given(_trainer: Trainer, weights: list[np.ndarray], _images: np.ndarray) -> Callable[[Draw], list[np.ndarray]]:
    """Every run starts from the network's weights."""
    return lambda _draw: weights


def at_random(trainer: Trainer, weights: list[np.ndarray], _images: np.ndarray) -> Callable[[Draw], list[np.ndarray]]:
    """Every run starts from random weights, by the seed of its draw."""
    return lambda draw: networks.fresh_weights(trainer.model, weights, draw.seed)


def under_kept_head(
    trainer: Trainer, weights: list[np.ndarray], images: np.ndarray, *, kept: list[np.ndarray], least: float
) -> Callable[[Draw], list[np.ndarray]]:
    """A run starts with the source's own head if that classifies enough of its labelled images correctly.

    Args:
        trainer: of the network.
        weights: with a fresh head.
        images: that draws are made from.
        kept: weights with the source's own head.
        least: the fraction of them that has to be exceeded.
    """

    def initial(draw: Draw) -> list[np.ndarray]:
        trainer.reset(kept, draw.seed)
        told = trainer.predict(images[draw.rows]).argmax(axis=1)
        return kept if np.mean(told == draw.labels) > least else weights

    return initial


def under_probe(trainer: Trainer, weights: list[np.ndarray], images: np.ndarray) -> Callable[[Draw], list[np.ndarray]]:
    """A run starts with a linear probe as its head (linear probing, then fine-tuning: Kumar et al. 2022, section 3)."""
    trainer.reset(weights, 0)
    body = keras.Model(trainer.model.inputs[0], trainer.model.layers[-1].input)
    features_of = networks.predictor(body)

    def initial(draw: Draw) -> list[np.ndarray]:
        trainer.reset(weights, draw.seed)
        if draw.labels.min() == draw.labels.max():  # one class is nothing to tell apart
            return weights
        [features] = features_of(images[draw.rows])
        probe = LogisticRegression(C=1 / (PROBE_L2 * len(draw.rows))).fit(features, draw.labels)
        found = Linear.of(probe, draw.classes, len(draw.rows))
        return [*weights[:-2], found.kernel, found.bias]

    return initial


def prepare(task: Task, params: Params, network: networks.Network, *, initial_weights: Initial = as_given) -> Prepared:
    """A strategy that trains every layer of a network.

    Args:
        task: gives the images.
        params: the schedule.
        network: with the weights to start from.
        initial_weights: from a trainer, the network's weights and the images, a function that gives the weights which a
            run starts from.
    """
    images, to_predict = task.images()
    params = params.suited_to(network)
    start_runs = partial(
        start,
        network=network,
        initial_weights=initial_weights,
        images=images,
        to_predict=to_predict,
        params=params,
        precision=task.precision,
    )
    return Prepared(start_runs, partial(export, network=network), params)


def start(
    *,
    network: networks.Network,
    initial_weights: Initial,
    images: np.ndarray,
    to_predict: np.ndarray,
    params: Params,
    precision: Precision,
) -> Callable[[Draw], Run]:
    """What trains a run from its draw; arguments as of `prepare` and `few_shot.fit`."""
    trainer = Trainer(network.build(), shift=params.shift, betas=params.betas, precision=precision)
    return partial(
        few_shot.fit,
        trainer=trainer,
        initial=initial_weights(trainer, network.weights, images),
        inputs=images,
        to_predict=to_predict,
        params=params,
    )


def export(weights: list[np.ndarray], path: Path, *, network: networks.Network) -> None:
    """Write the whole classifier as one Keras file, by its name: raw uint8 images in, probabilities out."""
    model = network._replace(weights=weights).build()
    networks.save_model(path, networks.with_head(model, keras.layers.Softmax(name="probabilities"), name=path.stem))
