"""End-to-end fine-tuning: every layer of the source model, from its weights, under a new head or its own.

Batch normalisation, if it has any, stays as it is: few labels tell too little of its statistics.
"""

from functools import partial
from typing import Literal

from transfer.console import UserError
from transfer.models.backend import keras
from transfer.models.networks import Network, with_head, without_head
from transfer.training import fine_tuning
from transfer.training.task import Prepared, Task

ENGINE = "tensorflow"
SUMMARY = "fine-tune every layer of the source model on target images"
NEEDS = ["labels", "source model"]

MOST = 0.5  # of a draw's labelled images, that the source model must classify correctly for its head to be kept


class Params(fine_tuning.Params):
    """The `end_to_end` section."""

    head: Literal["auto", "fresh", "keep", "probe"]


def prepare(task: Task, params: Params) -> Prepared:
    """Fine-tuning of the source model's layers.

    Raises:
        UserError: if its head is to be kept, but does not know the target's classes.
    """
    initial_weights: fine_tuning.Initial = fine_tuning.as_given
    own = task.under_own_head() if params.head in ("auto", "keep") else None
    if own:
        least = MOST if params.head == "auto" else -1.0
        initial_weights = partial(fine_tuning.under_kept_head, kept=own.weights, least=least)
    elif params.head == "keep":
        raise UserError(f"params.yaml: end_to_end.head is keep, but {task.unknown_classes}: set it to auto or fresh")
    elif params.head == "probe":
        initial_weights = fine_tuning.under_probe
    under_new_head = network(task.source(), task.classes)
    return fine_tuning.prepare(task, params, under_new_head, initial_weights=initial_weights)


def network(source: keras.Model, classes: int) -> Network:
    """The source model's layers and weights under a new head, which starts at zero."""
    head = keras.layers.Dense(classes, kernel_initializer="zeros", name="logits")
    return Network.of(with_head(without_head(source), head, name="network"))
