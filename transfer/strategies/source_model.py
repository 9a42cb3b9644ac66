"""The source model as it is, without any label of the target: what every other strategy should beat.

It needs a source model that knows the target's classes by their names, as where the same things look another way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from scipy.special import softmax

from transfer.data.target import Draw
from transfer.models.networks import Network, predictor
from transfer.params import Section
from transfer.training import fine_tuning
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task, UnsuitableError
from transfer.training.timing import timed

ENGINE = "keras"
SUMMARY = "take the source model as it is"
NEEDS = ["source model"]


class Params(Section):
    """The `source_model` section, which has no parameters."""


def prepare(task: Task, params: Params) -> Prepared:
    """The source model under its own head.

    Raises:
        UnsuitableError: if it does not know the target's classes.
    """
    network = task.under_own_head()
    if network is None:
        raise UnsuitableError(task.unknown_classes)
    _, to_predict = task.images()
    export = partial(fine_tuning.export, network=network)
    return Prepared(partial(fit, network=network, to_predict=to_predict), export, params)


def fit(draws: Sequence[Draw], *, network: Network, to_predict: np.ndarray, **_: object) -> Iterator[Run]:
    """The same probabilities for every draw.

    Args:
        draws: of which nothing is used.
        network: from raw images to logits.
        to_predict: images, (n, height, width, channels) uint8.
    """
    [logits], seconds = timed(predictor(network.build()), to_predict)
    run = Run(softmax(logits, axis=1), network.weights, 0, 0, 0, train_seconds=0, predict_seconds=seconds)
    yield from [run] * len(draws)
