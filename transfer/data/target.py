"""The target task: its images, its nested label draws, and the runs that they define."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from transfer.console import UserError
from transfer.files import read_folder, write_folder

CALIBRATION_IMAGES = 100  # per class, or all that the smallest has: enough for the one number that is fitted on them
CALIBRATION_SEED = 2**32 - 1  # of their choice; no label draw has it
POOL_SEED = 0
POOL_IMAGES = 2000  # of the pool, that a network is taught on by other strategies' probabilities for them


@dataclass(frozen=True)
class Draw:
    """The labelled images of one run.

    Attributes:
        shots: labelled images per class.
        seed: of the draw; every strategy gets the same draw for the same seed.
        rows: which target images are labelled, (shots × classes,) int32; more of them, where some have pseudo-labels.
        labels: their classes as 0 … classes - 1, likewise.
    """

    shots: int
    seed: int
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Target:
    """Everything that a strategy may know of the target task.

    Attributes:
        images: those to draw from, and then those that the user has no labels of, (n, height, width, channels) uint8;
            in their file, where the task was read from one.
        classes: what the user calls the classes, (classes,) str; class i is `classes[i]`.
        shots: the study's numbers of labelled images per class, ascending, (k,) int32.
        draws: rows of `images`, (seeds, classes, largest number of shots) int32. The draw of n shots is
            `draws[seed, :, :n]`: class-balanced, and nested in the larger draws of the same seed.
        calibration_rows: of images that are labelled to fit a temperature on, (classes, images) int32. They depend on
            no number of shots and no seed, so that more of either leave a run's predictions as they were.
        preprocessing: of raw files, as `Preprocessing.to_text` gives it, () str; empty where there are none.
    """

    images: np.ndarray
    classes: np.ndarray
    shots: np.ndarray
    draws: np.ndarray
    calibration_rows: np.ndarray
    preprocessing: np.ndarray

    def draw(self, shots: int, seed: int) -> Draw:
        """The labelled images of one run, class by class."""
        rows = self.draws[seed, :, :shots]
        labels = np.repeat(np.arange(len(self.classes), dtype=np.int32), shots)
        return Draw(shots, seed, rows.ravel(), labels)

    def runs(self) -> list[Draw]:
        """Every run's draw, by number of shots and then by seed."""
        return [self.draw(int(shots), seed) for shots in self.shots for seed in range(len(self.draws))]

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
    """A target task: images with the labels of the draws and of those for calibration, and of no other image.

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
    draws = nested_draws(labels, max(shots), seeds)
    of_smallest = int(np.bincount(labels).min())
    return Target(
        images=images,
        classes=np.array(classes, dtype=np.str_),
        shots=np.array(shots, np.int32),
        draws=draws,
        calibration_rows=_draw(labels, min(CALIBRATION_IMAGES, of_smallest), CALIBRATION_SEED),
        preprocessing=np.array(preprocessing),
    )


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


def read_target(path: Path) -> Target:
    """Read what `write_target` wrote, all but the images, which stay in their file; a `UserError` if it cannot be."""
    return read_folder(path, Target, "images")
