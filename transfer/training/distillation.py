"""Pseudo-labels: what strategies say of unlabelled images, for a network to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from transfer.console import UserError
from transfer.data.target import Draw
from transfer.training.task import Task


def pseudo_labelled_draws(task: Task, teachers: Sequence[str]) -> list[Draw]:
    """Every run's draw, and a sample of the pool with the classes that are most probable to some strategies.

    Args:
        task: the target task; its strategies' predictions are there already.
        teachers: names of the strategies.

    Raises:
        UserError: if a strategy has no predictions.
    """
    given = {name: task.predictions(name) for name in teachers}
    if absent := [name for name, each in given.items() if not len(each.shots)]:
        raise UserError(f"params.yaml: {absent[0]} is a member, but was not run: {task.unknown_classes}")
    classes = np.mean([each.pool for each in given.values()], axis=0).argmax(axis=2)
    sample = task.target.pool()
    return [with_pool(draw, sample, each) for draw, each in zip(task.target.runs(), classes, strict=True)]


def with_pool(draw: Draw, sample: np.ndarray, classes: np.ndarray) -> Draw:
    """A draw with further images; labels of its own are certain.

    Args:
        draw: rows of the labelled images and their labels.
        sample: rows of the further images, ascending; some may be labelled.
        classes: their pseudo-labels.
    """
    rows = np.union1d(sample, draw.rows).astype(np.int32)
    labels = np.empty(len(rows), np.int32)
    labels[np.searchsorted(rows, sample)] = classes
    labels[np.searchsorted(rows, draw.rows)] = draw.labels
    return replace(draw, rows=rows, labels=labels)
