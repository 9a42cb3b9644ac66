"""The target task: its images, its nested label draws, and the runs that they define."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from transfer.console import UserError, counted
from transfer.files import read_folder, read_record, write_folder

CALIBRATION_IMAGES = 100  # per class, or all that the smallest has: enough for the one number that is fitted on them
CALIBRATION_SEED = 2**32 - 1  # of their choice; no label draw has it
POOL_SEED = 0
POOL_IMAGES = 2000  # of the pool, that a network is taught on by other strategies' probabilities for them


@dataclass(frozen=True)
class Draw:
    """The labelled images of one run.

    Attributes:
        shots: labelled images per class, in the mean over all classes.
        seed: of the draw; every strategy gets the same draw for the same seed.
        rows: which target images are labelled, (shots × classes,) int32; more of them, where some have pseudo-labels.
        labels: their classes as 0 … classes - 1, likewise.
        classes: how many there are; some may have no label.
    """

    shots: int
    seed: int
    rows: np.ndarray
    labels: np.ndarray
    classes: int

    @property
    def fewest(self) -> int:
        """The least number of labels that a class has, of those that have any."""
        return int(np.unique(self.labels, return_counts=True)[1].min())


@dataclass(frozen=True)
class Target:
    """Everything that a strategy may know of the target task.

    Attributes:
        images: those to draw from, and then those that the user has no labels of, (n, height, width, channels) uint8;
            in their file, where the task was read from one.
        classes: what the user calls the classes, (classes,) str; class i is `classes[i]`.
        draws: rows of `images` in the order in which they are labelled, (seeds, images) int32. The draw of n shots are
            the first n × classes, so it is nested in the larger draws of the same seed.
        labels: their classes, 0 … classes - 1, likewise.
        wanted: number of shots and seed of every run, (runs, 2) int32.
        calibration_rows: of images that are labelled to fit a temperature on, (classes, images) int32. They depend on
            no number of shots and no seed, so that more of either leave a run's predictions as they were. There are
            none in cross-validation.
        preprocessing: of raw files, as `Preprocessing.to_text` gives it, () str; empty where there are none.
    """

    images: np.ndarray
    classes: np.ndarray
    draws: np.ndarray
    labels: np.ndarray
    wanted: np.ndarray
    calibration_rows: np.ndarray
    preprocessing: np.ndarray

    @property
    def largest(self) -> int:
        """The largest number of shots that every seed has."""
        return int(self.wanted[self.wanted[:, 1] == self.wanted[:, 1].max(), 0].max())

    def draw(self, shots: int, seed: int) -> Draw:
        """The labelled images of one run, class by class."""
        count = shots * len(self.classes)
        labels = self.labels[seed, :count]
        order = np.argsort(labels, kind="stable")
        return Draw(shots, seed, self.draws[seed, :count][order], labels[order], len(self.classes))

    def runs(self) -> list[Draw]:
        """Every run's draw."""
        return [self.draw(shots, seed) for shots, seed in self.wanted.tolist()]

    def calibration(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled images on which a temperature can be fitted without test labels.

        Returns:
            Rows of `images`, ascending, and their classes, (calibration images,) int32 each. A run may use those that
            its own draw lacks.
        """
        classes, images = self.calibration_rows.shape
        order = np.argsort(self.calibration_rows, axis=None)
        labels = np.repeat(np.arange(classes, dtype=np.int32), images)
        return self.calibration_rows.ravel()[order], labels[order]

    def pool(self, most: int = POOL_IMAGES) -> np.ndarray:
        """A random sample of the images to draw from, whatever their labels, rows of `images`, ascending, int64."""
        return np.sort(np.random.default_rng(POOL_SEED).permutation(len(self.images))[:most])

    def to_predict(self, test: np.ndarray, train: np.ndarray) -> np.ndarray:
        """What a strategy predicts: images, or features, of the test, then those for calibration, then of the pool."""
        return np.concatenate([test, train[self.calibration()[0]], train[self.pool()]])


def few_shot(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    shots: Sequence[int],
    seeds: int,
    preprocessing: str = "",
) -> Target:
    """A target task of class-balanced draws; it holds the labels of these and of those for calibration, and no other.

    Args:
        images: to draw from, (n, height, width, channels) uint8.
        labels: their classes, (n,) int32, 0 … classes - 1.
        classes: what the user calls the classes.
        shots: numbers of labelled images per class, ascending.
        seeds: the number of draws.
        preprocessing: that raw files are brought to.

    Raises:
        UserError: as `nested_draws` does.
    """
    draws = nested_draws(labels, max(shots), seeds).transpose(0, 2, 1).reshape(seeds, -1)
    of_smallest = int(np.bincount(labels).min())
    return Target(
        images=images,
        classes=np.array(classes, dtype=np.str_),
        draws=draws,
        labels=labels[draws],
        wanted=every_run(shots, range(seeds)),
        calibration_rows=_draw(labels, min(CALIBRATION_IMAGES, of_smallest), CALIBRATION_SEED),
        preprocessing=np.array(preprocessing),
    )


def cross_validated(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    shots: Sequence[int],
    largest: int,
    folds: np.ndarray,
    preprocessing: str = "",
) -> Target:
    """A target task whose labelled images are all tested, by models that were trained on those of the other folds.

    Draw `repetition × folds + fold` has the images outside a fold, classes in turn and so balanced as far as there are
    images, and those inside only thereafter. A further run, the one that is shipped, is trained on all images: more
    shots than any other, and seed 0.

    Args:
        images, labels, classes, preprocessing: as of `few_shot`.
        shots: of these, the numbers below `largest`.
        largest: the largest number of shots; outside every fold there are as many images for each class, in the mean.
        folds: in which fold each image is tested, (repetitions, images) int32.

    Raises:
        UserError: if `largest` is 0.
    """
    count = int(folds.max()) + 1
    if largest < 1:
        raise UserError(
            f"data.target has {len(labels)} labelled images of {len(classes)} classes, too few to be cross-validated: "
            "label more"
        )
    draws = []
    for seed, (fold, held) in enumerate((fold, held) for fold in folds for held in range(count)):
        order = np.random.default_rng(seed).permutation(len(labels))
        frame = pd.DataFrame({"held": fold[order] == held, "label": labels[order]})
        frame["turn"] = frame.groupby(["held", "label"]).cumcount()
        draws.append(order[frame.sort_values(["held", "turn", "label"]).index])
    draws_of_rows = np.array(draws, np.int32)
    budgets = [each for each in shots if each < largest] + [largest]
    whole = [[-(-len(labels) // len(classes)), 0]]
    return Target(
        images=images,
        classes=np.array(classes, dtype=np.str_),
        draws=draws_of_rows,
        labels=labels[draws_of_rows],
        wanted=np.concatenate([every_run(budgets, range(len(draws))), np.array(whole, np.int32)]),
        calibration_rows=np.zeros((len(classes), 0), np.int32),
        preprocessing=np.array(preprocessing),
    )


@dataclass(frozen=True)
class Draws:
    """Draws that replace the target's own; empty if there are none. Attributes as of `Target`."""

    draws: np.ndarray
    labels: np.ndarray
    wanted: np.ndarray

    @classmethod
    def none(cls) -> Self:
        """None: the target's own draws hold."""
        return cls(*[np.zeros((0, 0), np.int32)] * 3)


def chosen_draws(
    labels: np.ndarray,
    classes: int,
    shots: Sequence[int],
    seeds: int,
    choose: Callable[[np.ndarray, int], np.ndarray],
) -> Draws:
    """Draws of images that were chosen without their labels, and as many controls on random images.

    The candidates of a draw are a random half of the images, another one for each seed. Draws `seeds` and after are the
    controls of draws 0 and after: random images of the same candidates.

    Args:
        labels: of the images to draw from, (n,) int32.
        classes: how many there are.
        shots: numbers of labelled images per class, in the mean, ascending.
        seeds: how many draws are chosen.
        choose: gives rows of some images, ascending, in the order in which to label them, and as many as asked for.

    Raises:
        UserError: as `candidates` does.
    """
    count, half = shots[-1] * classes, candidates(len(labels), classes, shots[-1])
    halves = [np.random.default_rng(seed).permutation(len(labels))[:half] for seed in range(seeds)]
    chosen = [choose(np.sort(each), count) for each in halves]
    draws = np.array([*chosen, *(each[:count] for each in halves)], np.int32)
    return Draws(draws, labels[draws], every_run(shots, range(2 * seeds)))


def candidates(images: int, classes: int, shots: int) -> int:
    """How many images a chosen draw is chosen from; raises a `UserError` if they are fewer than it has."""
    half = images // 2
    if shots * classes > half:
        raise UserError(
            f"split.shots asks for {shots} labelled images per class, {counted(shots * classes, 'image')} in all, but "
            f"with split.draw: chosen each draw has {half} to choose from: use at most {half // classes}"
        )
    return half


def every_run(shots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
    """Every number of shots with every seed, by the first and then by the second, (runs, 2) int32."""
    return np.array(list(product(shots, seeds)), np.int32)


def nested_draws(labels: np.ndarray, largest: int, seeds: int) -> np.ndarray:
    """Choose labelled images: class-balanced, and nested so that fewer shots are a prefix of more.

    The order of a class depends on the seed and the class alone, so another seed or a larger number of shots
    leaves the draws that were there as they were.

    Args:
        labels: classes of the images to draw from, (n,) int32, 0 … classes - 1.
        largest: the largest number of shots.
        seeds: the number of draws.

    Returns:
        Rows of the labelled images, (seeds, classes, largest) int32.

    Raises:
        UserError: if a class has fewer than `largest` images; says how many shots are possible.
    """
    if (possible := int(np.bincount(labels).min())) < largest:
        raise UserError(
            f"split.shots asks for {largest} labelled images per class, but the smallest target class has {possible}: "
            f"use at most {possible}"
        )
    return np.stack([_draw(labels, largest, seed) for seed in range(seeds)])


def _draw(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The first rows of every class in an order of its own, (classes, count) int32."""
    classes = range(int(labels.max()) + 1)
    shuffled = [np.random.default_rng([seed, name]).permutation(np.flatnonzero(labels == name)) for name in classes]
    return np.stack([rows[:count] for rows in shuffled]).astype(np.int32)


def write_target(path: Path, target: Target) -> None:
    """Write a target task as a folder, each attribute as an `.npy` file."""
    write_folder(path, {field.name: getattr(target, field.name) for field in fields(target)})


def read_target(path: Path, chosen: Path | None = None) -> Target:
    """Read what `write_target` wrote, all but the images, which stay in their file; a `UserError` if it cannot be.

    Args:
        path: of the folder.
        chosen: of a file with `Draws`, if they are to be taken.
    """
    target = read_folder(path, Target, "images")
    draws = read_record(chosen, Draws) if chosen else Draws.none()
    return replace(target, **vars(draws)) if len(draws.wanted) else target
