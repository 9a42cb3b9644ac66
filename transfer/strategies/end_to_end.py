"""End-to-end fine-tuning: every layer of the source model, from its weights, under a new head.

Batch normalisation, if it has any, stays as it is: few labels tell too little of its statistics.
"""

from transfer.models.backend import keras
from transfer.models.networks import Network, with_head, without_head
from transfer.training import fine_tuning
from transfer.training.task import Prepared, Task

ENGINE = "tensorflow"
SUMMARY = "fine-tune every layer of the source model on target images"

Params = fine_tuning.Params


def prepare(task: Task, params: Params) -> Prepared:
    """Fine-tuning of the source model's layers under a new head, which starts at zero."""
    return fine_tuning.prepare(task, params, network(task.source(), task.classes), name="end_to_end", fresh=False)


def network(source: keras.Model, classes: int) -> Network:
    """The source model's layers and weights under a new head."""
    head = keras.layers.Dense(classes, kernel_initializer="zeros", name="logits")
    return Network.of(with_head(without_head(source), head, name="network"))
