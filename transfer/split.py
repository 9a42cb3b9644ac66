"""Split the source's images into parts, and the target's into test images and a pool that few labels are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from transfer.basics.console import UserError, counted
from transfer.basics.params import Section
from transfer.inputs.pool import EITHER, TEST, TRAIN, Pool, digests
from transfer.mapped import Chosen
from transfer.target import Target, few_shot


class Params(Section):
    """The `split` section: what is held out, and the study's grid of cells."""

    test: Annotated[float, Field(gt=0, lt=1)]
    test_seed: Annotated[int, Field(ge=0, lt=2**31)]
    duplicates: Literal["drop", "refuse"]
    source_validation: Annotated[float, Field(gt=0, lt=1)]
    shots: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]  # the data sets the upper limit
    seeds: Annotated[int, Field(ge=1, le=1000)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.shots != sorted(set(self.shots)):
            raise ValueError(f"shots must ascend without repetition, as in {sorted(set(self.shots))}")
        return self


@dataclass(frozen=True)
class Parts:
    """A pool that is divided.

    Attributes:
        train: rows to train on, ascending, int64.
        test: rows to test on, likewise.
        dropped: how many training images were left out, as they are among the test images.
        how: where the test images come from, in words.
    """

    train: np.ndarray
    test: np.ndarray
    dropped: int
    how: str


def divide(pool: Pool, params: Params, key: str, others: np.ndarray | None = None) -> Parts:
    """Divide a pool: by what the data say, else by the seed, class by class, and groups whole.

    Args:
        pool: to divide.
        params: how.
        key: of the pool in the parameters, for errors, as in `data.target`.
        others: digests of further test images that must not be trained on.

    Raises:
        UserError: if a class or a group does not allow it, or images are on both sides and are to be refused.
    """
    if len(pool.labels) == 0:
        return Parts(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, "no images")
    if np.any(pool.part == EITHER):
        grouped = np.any(pool.groups >= 0)
        divided = hold_out_groups if grouped else hold_out
        train, test = divided(pool.labels, params.test, params.test_seed, *([pool.groups] if grouped else []))
        how = f"{params.test:.0%} of the images, by seed {params.test_seed}{', groups kept whole' if grouped else ''}"
    else:
        train, test = (np.flatnonzero(pool.part == part) for part in (TRAIN, TEST))
        how = "the data's own test images"
        if shared := set(pool.groups[train][pool.groups[train] >= 0]) & set(pool.groups[test]):
            also = f"{counted(len(shared), 'group')} of the test images have training images too"
            raise UserError(f"{key}: {also}: put each on one side")
    hidden = np.concatenate([digests(Chosen(pool.images, test)), *([] if others is None else [others])])
    again = np.isin(digests(Chosen(pool.images, train)), hidden)
    if again.any() and params.duplicates == "refuse":
        first = train[again.argmax()]
        raise UserError(
            f"{key}: {counted(int(again.sum()), 'training image')} are among the test images, the first of class "
            f"{pool.classes[pool.labels[first]]}: take them out, or set split.duplicates to drop"
        )
    train = train[~again]
    for rows, what in ((train, "training"), (test, "test")):
        counts = np.bincount(pool.labels[rows], minlength=len(pool.classes))
        if not counts.all():
            raise UserError(
                f"{key}: class {pool.classes[counts.argmin()]} has no {what} image: add some, or leave the class out "
                f"of {key}.classes"
            )
    return Parts(train, test, int(again.sum()), how)


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
            raise UserError(
                f"to hold out {fraction} of class {name} leaves it no image to train on: lower split.test or "
                "split.source_validation, or add images"
            )
        held[rows[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def hold_out_groups(
    labels: np.ndarray, fraction: float, seed: int, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same with images of a group on one side; as near to the fraction, class by class, as groups allow.

    Args:
        labels, fraction, seed: as in `hold_out`; one fold of 1 / fraction, rounded, is held out.
        groups: (n,) int32; -1 is an image by itself.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    alone = np.flatnonzero(groups < 0)
    every = groups.astype(np.int64)
    every[alone] = groups.max() + 1 + np.arange(len(alone))
    folds = max(2, round(1 / fraction))
    if (count := len(np.unique(every))) < folds:
        raise UserError(f"{counted(count, 'group')} cannot be divided to hold out {fraction}: give test images apart")
    found = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, every)
    train, test = next(iter(found))
    return np.sort(train), np.sort(test)


def split_source(pool: Pool, parts: Parts, params: Params) -> dict[str, np.ndarray]:
    """The source task as named arrays: images and labels of its train, validation and test part."""
    fit, held = hold_out(pool.labels[parts.train], params.source_validation, seed=0)
    arrays: dict[str, np.ndarray] = {}
    for name, rows in (("train", parts.train[fit]), ("validation", parts.train[held]), ("test", parts.test)):
        arrays |= {f"{name}_images": pool.images[rows], f"{name}_labels": pool.labels[rows]}
    return arrays | {"classes": pool.classes}


def split_target(pool: Pool, parts: Parts, params: Params) -> Target:
    """The target task: the images to draw from, and the draws; no test image, no other label."""
    images = Chosen(pool.images, parts.train)
    return few_shot(images, pool.labels[parts.train], pool.classes.tolist(), params.shots, params.seeds, str(pool.form))
