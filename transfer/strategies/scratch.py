"""Training from scratch: the source model's layers from random weights; the baseline that says if transfer helped."""

from transfer.models.backend import keras
from transfer.models.networks import Network, fresh_weights, with_head
from transfer.training import fine_tuning
from transfer.training.task import Prepared, Task

ENGINE = "tensorflow"
SUMMARY = "train every layer on target images, from random weights"
NEEDS = ["labels"]

Params = fine_tuning.Params


def prepare(task: Task, params: Params) -> Prepared:
    """Training of the source model's layers, from other random weights in every run."""
    layers = network(task.untrained(), task.classes)
    return fine_tuning.prepare(task, params, layers, initial_weights=fine_tuning.at_random)


def network(body: keras.Model, classes: int) -> Network:
    """The source model's layers without its head, under one for the target's classes."""
    model = with_head(body, keras.layers.Dense(classes, name="logits"), name="network")
    return Network.of(model)._replace(weights=fresh_weights(model, model.get_weights(), seed=0))
