"""Split MNIST into a source task with many labels and a target task with few."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from transfer.basics.console import UserError
from transfer.basics.params import Section
from transfer.target import Target, few_shot

Digit = Annotated[int, Field(ge=0, le=9)]


class Params(Section):
    """The `split` section: which classes are source and target, and the study's grid of cells."""

    source_classes: Annotated[list[Digit], Field(min_length=2)]
    target_classes: Annotated[list[Digit], Field(min_length=2)]
    source_validation: Annotated[float, Field(gt=0, lt=1)]
    shots: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]  # the data sets the upper limit
    seeds: Annotated[int, Field(ge=1, le=1000)]

    @model_validator(mode="after")
    def _disjoint_and_ordered(self) -> Self:
        for name, values in (("source_classes", self.source_classes), ("target_classes", self.target_classes)):
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{name} names {_names(repeated)} more than once")
        if shared := sorted(set(self.source_classes) & set(self.target_classes)):
            raise ValueError(f"{_names(shared)} is in source_classes and in target_classes: leave it on one side only")
        if self.shots != sorted(set(self.shots)):
            raise ValueError(f"shots must ascend without repetition, as in {sorted(set(self.shots))}")
        return self


def _names(classes: list[int]) -> str:
    return ", ".join(str(name) for name in classes)


def select_classes(images: np.ndarray, labels: np.ndarray, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keep the images of some classes, in their order, and number the classes from 0.

    Args:
        images: (n, height, width) uint8.
        labels: (n,) of any integer type.
        classes: names of the classes to keep; the first becomes class 0.

    Returns:
        Images with a channel axis, (m, height, width, 1) uint8; their classes, (m,) int32.

    Raises:
        UserError: naming a class that has no image.
    """
    if absent := [name for name in classes if not np.any(labels == name)]:
        raise UserError(f"the data has no image of class {_names(absent)}: change the split section of params.yaml")
    kept = np.isin(labels, classes)
    number = np.full(max(classes) + 1, -1, dtype=np.int32)
    number[classes] = np.arange(len(classes), dtype=np.int32)
    return images[kept][..., np.newaxis], number[labels[kept]]


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows at random into a training and a held-out part, class by class.

    Args:
        labels: (n,) int32.
        fraction: of each class that is held out, rounded to whole images; at least one image of each.
        seed: of the choice.

    Returns:
        Rows to train on and rows held out, both ascending, int64.

    Raises:
        UserError: if a class would keep no image on either side.
    """
    held = np.zeros(len(labels), dtype=bool)
    for name in np.unique(labels):
        rows = np.random.default_rng([seed, int(name)]).permutation(np.flatnonzero(labels == name))
        count = max(1, round(fraction * len(rows)))
        if count >= len(rows):
            raise UserError(f"split.source_validation {fraction} leaves class {name} no image to train on: lower it")
        held[rows[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def split_source(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], params: Params
) -> dict[str, np.ndarray]:
    """The source task as named arrays: images and labels of its train, validation and test part."""
    images, labels = select_classes(*train, params.source_classes)
    fit, held = hold_out(labels, params.source_validation, seed=0)
    test_images, test_labels = select_classes(*test, params.source_classes)
    return {
        "train_images": images[fit],
        "train_labels": labels[fit],
        "validation_images": images[held],
        "validation_labels": labels[held],
        "test_images": test_images,
        "test_labels": test_labels,
        "classes": np.array(params.source_classes, dtype=np.int32),
    }


def split_target(train: tuple[np.ndarray, np.ndarray], params: Params) -> Target:
    """The target task, with the labels of the draws."""
    images, labels = select_classes(*train, params.target_classes)
    return few_shot(images, labels, params.target_classes, params.shots, params.seeds)
