"""Self-training: end-to-end fine-tuning on the labels and on pseudo-labels of unlabelled images.

The pseudo-labels (Lee 2013) are what `label_propagation` takes the images for; labels of the draw are certain.
"""

from dataclasses import replace

from transfer.strategies import end_to_end
from transfer.training import fine_tuning
from transfer.training.distillation import pseudo_labelled_draws
from transfer.training.task import Prepared, Task

ENGINE = "tensorflow"
SUMMARY = "fine-tune every layer of the source model on labels and on pseudo-labels of unlabelled images"
NEEDS = ["labels", "unlabelled images", "source model"]

Params = fine_tuning.Params


def prepare(task: Task, params: Params) -> Prepared:
    """Fine-tuning of the source model's layers under a new head."""
    network = end_to_end.network(task.source(), task.classes)
    prepared = fine_tuning.prepare(task, params, network)
    return replace(prepared, draws=pseudo_labelled_draws(task, teachers(params)))


def teachers(_params: Params) -> list[str]:
    """The strategies that it learns from."""
    return ["label_propagation"]
