"""Split the source's images into parts, and the target's into test images and a pool that few labels are drawn from."""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from transfer.console import UserError, counted
from transfer.data.target import Target, candidates, cross_validated, every_run, few_shot
from transfer.files import read_folder
from transfer.params import Section

TRAIN, TEST, EITHER = range(3)
Part = Annotated[float, Field(ge=1e-6, le=0.999)]
Seeds = Annotated[int, Field(ge=1, le=1000)]
USUAL_PART = 0.2  # that `test: auto` holds out ...
ENOUGH = 500  # ... where there are as many images; fewer are cross-validated
FOLDS = 5


class Params(Section):
    """The `split` section: what is held out, and the numbers of shots and draws of the study."""

    test: Literal["auto"] | Part
    test_seed: Annotated[int, Field(ge=0, lt=2**31)]
    duplicates: Literal["drop", "refuse"]
    source_validation: Part
    shots: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=100)]
    seeds: Seeds
    looks: Literal["none"] | Annotated[list[Seeds], Field(min_length=2, max_length=10)]
    draw: Literal["random", "chosen"]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, given in (("shots", self.shots), ("looks", self.looks)):
            if given != "none" and given != sorted(set(given)):
                raise ValueError(f"{name} must ascend without repetition, as in {sorted(set(given))}")
        if self.looks != "none" and self.draw == "chosen":
            raise ValueError("looks and draw: chosen cannot be combined yet: set looks to none, or draw to random")
        return self

    @property
    def draws(self) -> list[int]:
        """How many label draws there are at each look; without looks, all at once."""
        return [self.seeds] if self.looks == "none" else self.looks


@dataclass(frozen=True)
class Pool:
    """All images of a task, source or target.

    Attributes:
        images: (n, height, width, channels) uint8; in their file, where the pool was read from one.
        labels: (n,) int32, 0 … classes - 1.
        part: `TRAIN` or `TEST` where the data say so, else `EITHER`, (n,) uint8.
        groups: images of the same group must not be on both sides of a split, (n,) int32; -1 has none.
        classes: names, (classes,) str.
        preprocessing: that the images were brought to, as `Preprocessing.to_text` gives it, () str.
    """

    images: np.ndarray
    labels: np.ndarray
    part: np.ndarray
    groups: np.ndarray
    classes: np.ndarray
    preprocessing: np.ndarray

    @property
    def grouped(self) -> bool:
        """Whether any image belongs to a group."""
        return bool(np.any(self.groups >= 0))


def read_pool(path: Path) -> Pool:
    """Read a pool, all but its images, which stay in their file; a `UserError` if a file is missing or damaged."""
    return read_folder(path, Pool, "images")


def digests(images: np.ndarray) -> np.ndarray:
    """A digest of the pixels of each image, (n,) of 16 bytes: the same only where all pixels are."""
    return np.array([hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images], dtype="V16")


def _first(values: np.ndarray) -> np.ndarray:
    """Rows in which a value is there for the first time, ascending, int64."""
    return np.sort(np.unique(values, return_index=True)[1])


@dataclass(frozen=True)
class Parts:
    """A pool that is divided.

    Attributes:
        train: rows to train on, ascending, int64.
        test: rows to test on, likewise.
        dropped: how many training images were left out, as duplicates of another, of a test image, or of others.
        how: where the test images come from, in words.
        known: digests of the whole pool, as `digests` gives them.
        folds: in which fold each image is tested, in each of as many repetitions as there are seeds, (repetitions,
            images) int32, where the test images are those to train on; no repetition where they are others.
    """

    train: np.ndarray
    test: np.ndarray
    dropped: int
    how: str
    known: np.ndarray
    folds: np.ndarray


def divide(pool: Pool, params: Params, key: str, others: np.ndarray | None = None) -> Parts:
    """Divide a pool: by what the data say, else by the seed, class by class, and groups whole.

    A small target set without test images is cross-validated as a whole. Duplicates, which have the same pixels, and
    test images are removed from the training images.

    Args:
        pool: to divide.
        params: how.
        key: of the pool in the parameters, for errors, as in `data.target`.
        others: digests of further images that must not be trained on.

    Raises:
        UserError: if a class or a group does not allow it, images are there twice and are to be refused, or they are
            too few to be cross-validated.
    """
    known = digests(pool.images)
    if len(known) == 0:
        return Parts(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, "no images", known, np.zeros((0, 0), np.int32))
    first = _first(known)
    crossed = params.test == "auto" and key == "data.target" and len(first) < ENOUGH and pool.part[0] == EITHER
    if crossed:
        train = test = first
        how = "all labelled images, cross-validated"
        among = len(known)
    elif np.any(pool.part == EITHER):
        fraction = USUAL_PART if params.test == "auto" else params.test
        held = hold_out(pool, first, fraction, params.test_seed, f"{key}, split.test")
        train, test = (first[part] for part in held)
        how = f"{len(test) / len(first):.0%} of the images, by seed {params.test_seed}"
        how += ", groups kept whole" if pool.grouped else ""
        among = len(known) - len(test)
    else:
        train, test = (np.flatnonzero(pool.part == part) for part in (TRAIN, TEST))
        how, among = "the data's own test images", len(train)
        if shared := set(pool.groups[train]) & set(pool.groups[test]) - {-1}:
            both = f"{counted(len(shared), 'group')} with both training and test images"
            raise UserError(f"{key}: {both}: put each on one side")
    hidden = known[[] if crossed else test]
    hidden = hidden if others is None else np.concatenate([hidden, others])
    train = train[_first(known[train])]
    train = train[~np.isin(known[train], hidden)]
    dropped = among - len(train)
    if dropped and params.duplicates == "refuse":
        also = "a test image" if others is None else "a test image or one of the target's"
        raise UserError(
            f"{key}: {counted(dropped, 'training image')} with the same pixels after preprocessing as another or as "
            f"{also}: remove duplicates, or set split.duplicates to drop"
        )
    for rows, what in ((train, "training"), (test, "test")):
        counts = np.bincount(pool.labels[rows], minlength=len(pool.classes))
        if not counts.all():
            why = f", after dropping {counted(dropped, 'duplicate')}" if dropped else ""
            raise UserError(
                f"{key}: class {pool.classes[counts.argmin()]} has no {what} image{why}: add some, or leave the class "
                f"out of {key}.classes"
            )
    folds = _folds(pool, first, params) if crossed else np.zeros((0, len(test)), np.int32)
    return Parts(train, test, dropped, how, known, folds)


def further(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which images are there for the first time.

    Args:
        images: (n, height, width, channels) uint8.
        known: digests of images that were there before them, as `digests` gives them.

    Returns:
        Rows, ascending, int64.
    """
    own = digests(images)
    first = _first(own)
    return first[~np.isin(own[first], known)]


def hold_out(pool: Pool, rows: np.ndarray, fraction: float, seed: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide images at random into a training and a held-out part, class by class or, where there are any, by groups.

    Args:
        pool: that they are in.
        rows: of the images, (n,) int64.
        fraction: that is held out: of each class, rounded to whole images, at least one of each; with groups one fold
            of 1 / fraction, rounded, as near to that as they allow.
        seed: of the choice.
        key: what asks for it, for errors.

    Returns:
        Which of the rows to train on and which are held out, both ascending, int64.

    Raises:
        UserError: if a class would keep no image to train on, or there are too few groups.
    """
    labels = pool.labels[rows]
    if pool.grouped:
        from sklearn.model_selection import StratifiedGroupKFold  # takes a second, which most splits need not wait for

        groups = _ungrouped_apart(pool.groups[rows])
        division = StratifiedGroupKFold(max(2, round(1 / fraction)), shuffle=True, random_state=seed)
        try:
            with warnings.catch_warnings(action="ignore"):  # classes smaller than the number of folds
                return next(division.split(labels, labels, groups))
        except ValueError:
            raise UserError(
                f"{key}: {counted(len(np.unique(groups)), 'group')} cannot be divided to hold out {fraction}: "
                "hold out more, or give test images apart"
            ) from None
    held = np.zeros(len(labels), dtype=bool)
    for name in np.unique(labels):
        of_class = np.random.default_rng([seed, int(name)]).permutation(np.flatnonzero(labels == name))
        count = max(1, round(fraction * len(of_class)))
        if count >= len(of_class):
            what = "lower it, or add images" if count > 1 else "add images, or leave the class out"
            raise UserError(
                f"{key}: to hold out {fraction} of the {counted(len(of_class), 'image')} of class {pool.classes[name]} "
                f"leaves none to train on: {what}"
            )
        held[of_class[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _ungrouped_apart(groups: np.ndarray) -> np.ndarray:
    """Groups in which every image that has none is one of its own, (n,) int64."""
    alone = np.flatnonzero(groups < 0)
    every = groups.astype(np.int64)
    every[alone] = groups.max() + 1 + np.arange(len(alone))
    return every


def first_draw(task: Target) -> str:
    """A digest of the images of a target's first draw, which more draws and more shots leave as they are."""
    return hashlib.sha256(task.images[task.draws[0, : len(task.classes)]].tobytes()).hexdigest()


def split_source(pool: Pool, parts: Parts, params: Params) -> dict[str, np.ndarray]:
    """The source task as named arrays: images and labels of its train, validation and test part."""
    rows = parts.train
    fit, held = hold_out(pool, rows, params.source_validation, 0, "data.source, split.source_validation")
    arrays: dict[str, np.ndarray] = {}
    for name, chosen in (("train", rows[fit]), ("validation", rows[held]), ("test", parts.test)):
        arrays |= {f"{name}_images": pool.images[chosen], f"{name}_labels": pool.labels[chosen]}
    return arrays | {"classes": pool.classes}


def split_target(pool: Pool, parts: Parts, params: Params) -> Target:
    """The target task: the images to draw from, and the draws; no test image, no other label.

    Only the first look's runs are wanted.
    """
    images, labels = np.asarray(pool.images[parts.train]), pool.labels[parts.train]
    classes, preprocessing = pool.classes.tolist(), str(pool.preprocessing)
    if len(parts.folds):
        groups = _ungrouped_apart(pool.groups[parts.train])
        largest = _fewest_to_train_on(groups, int(parts.folds.max()) + 1) // len(classes)
        return cross_validated(images, labels, classes, params.shots, largest, parts.folds, preprocessing)
    shots = params.shots
    if params.draw == "chosen":  # by stage `choose`, not balanced, in the place of these draws
        candidates(len(labels), len(classes), shots[-1])
        shots = sorted({min(each, int(np.bincount(labels).min())) for each in shots})
    target = few_shot(images, labels, classes, shots, params.draws[-1], preprocessing)
    return replace(target, wanted=every_run(shots, range(params.draws[0])))


def _folds(pool: Pool, rows: np.ndarray, params: Params) -> np.ndarray:
    """`Parts.folds`: groups whole, or else the classes in the same proportions, as far as that goes."""
    from sklearn.model_selection import GroupKFold, StratifiedKFold  # a second, which most splits need not wait for

    few = f"data.target has {counted(len(rows), 'labelled image')} and no test images, so it is cross-validated"
    if params.looks != "none" or params.draw == "chosen":
        given = "split.looks" if params.looks != "none" else "split.draw: chosen"
        raise UserError(f"{few}, and {given} needs test images: set split.test to a part to hold out, such as 0.2")
    labels, groups = pool.labels[rows], _ungrouped_apart(pool.groups[rows])
    count = min(FOLDS, int(np.bincount(labels).max()), len(np.unique(groups)))
    if count < 2:
        raise UserError(f"{few}, but no class has two images or all are of one group: label more images")
    # StratifiedGroupKFold would divide groups of different sizes in the same way whatever the seed.
    division = GroupKFold if pool.grouped else StratifiedKFold
    folds = np.empty((params.seeds, len(rows)), np.int32)
    with warnings.catch_warnings(action="ignore"):  # classes smaller than the number of folds
        for seed in range(params.seeds):
            parts = division(count, shuffle=True, random_state=seed).split(labels, labels, groups)
            for number, (_, tested) in enumerate(parts):
                folds[seed, tested] = number
    return folds


def _fewest_to_train_on(groups: np.ndarray, folds: int) -> int:
    """How many images are outside a fold at least, whatever the seed: a fold has its share of groups, rounded up."""
    sizes = np.sort(np.unique(groups, return_counts=True)[1])
    return int(sizes[: len(sizes) - math.ceil(len(sizes) / folds)].sum())


def seen_in_one_fold(pool: Pool, parts: Parts) -> list[str]:
    """Classes that are cross-validated by models without a label of them, as they have one image or group alone."""
    groups, labels = _ungrouped_apart(pool.groups[parts.train]), pool.labels[parts.train]
    alone = [len(np.unique(groups[labels == number])) == 1 for number in range(len(pool.classes))]
    return pool.classes[alone].tolist() if len(parts.folds) else []
