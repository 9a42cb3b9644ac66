"""Committee: one network that learns what other strategies say together of unlabelled images.

It is trained on the classes of the highest mean probability, so that one network is shipped in the place of an ensemble
(Bucila et al. 2006, section 2). Labels of the draw are certain.
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from transfer.strategies import end_to_end
from transfer.training import fine_tuning
from transfer.training.distillation import pseudo_labelled_draws
from transfer.training.task import Prepared, Task

ENGINE = "tensorflow"
SUMMARY = "fine-tune every layer of the source model on labels and on what other strategies say of unlabelled images"
NEEDS = ["labels", "unlabelled images", "source model"]


class Params(fine_tuning.Params):
    """The `committee` section."""

    members: Annotated[list[str], Field(min_length=2)]


def prepare(task: Task, params: Params) -> Prepared:
    """Fine-tuning of the source model's layers under a new head."""
    network = end_to_end.network(task.source(), task.classes)
    prepared = fine_tuning.prepare(task, params, network)
    return replace(prepared, draws=pseudo_labelled_draws(task, teachers(params)))


def teachers(params: Params) -> list[str]:
    """The strategies that it learns from."""
    return params.members
