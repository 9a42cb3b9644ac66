"""The target task: its images, its nested label draws, and the cells that they define."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.console import UserError
from transfer.files import read_record, write_record

CALIBRATION_IMAGES = 100  # per class, about: enough for the one number that is fitted on them


@dataclass(frozen=True)
class Draw:
    """The labelled images of one cell.

    Attributes:
        shots: labelled images per class.
        seed: of the draw; every strategy gets the same draw for the same seed.
        rows: which target images are labelled, (shots × classes,) int32.
        labels: their classes as 0 … classes - 1, (shots × classes,) int32.
    """

    shots: int
    seed: int
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Target:
    """Everything that a strategy may know of the target task.

    Attributes:
        images: (n, height, width, channels) uint8.
        classes: what the user calls the classes, (classes,) int32; class i is `classes[i]`.
        shots: the study's numbers of labelled images per class, ascending, (k,) int32.
        draws: rows of `images`, (seeds, classes, largest number of shots) int32. The draw of n shots is
            `draws[seed, :, :n]`: class-balanced, and nested in the larger draws of the same seed.
    """

    images: np.ndarray
    classes: np.ndarray
    shots: np.ndarray
    draws: np.ndarray

    def draw(self, shots: int, seed: int) -> Draw:
        """The labelled images of one cell, class by class."""
        rows = self.draws[seed, :, :shots]
        labels = np.repeat(np.arange(len(self.classes), dtype=np.int32), shots)
        return Draw(shots, seed, rows.ravel(), labels)

    def cells(self) -> list[Draw]:
        """Every cell's draw, by number of shots and then by seed."""
        return [self.draw(int(shots), seed) for shots in self.shots for seed in range(len(self.draws))]

    def calibration(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled images on which a temperature can be fitted without test labels: the first of every draw.

        Returns:
            Rows of `images`, ascending, and their classes, (calibration images,) int32 each. A cell may use those that
            its own draw lacks.
        """
        first = self.draws[:, :, : -(-CALIBRATION_IMAGES // len(self.draws))]
        classes = np.broadcast_to(np.arange(len(self.classes), dtype=np.int32)[:, np.newaxis], first.shape)
        rows, places = np.unique(first, return_index=True)
        return rows, classes.ravel()[places]

    def to_predict(self, test: np.ndarray, train: np.ndarray) -> np.ndarray:
        """What a strategy predicts: the test images, and after them those for calibration.

        Args:
            test: images or features, (test images, …).
            train: the same of the target's own images, (n, …).
        """
        return np.concatenate([test, train[self.calibration()[0]]])


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
    rows_of = [np.flatnonzero(labels == name) for name in range(int(labels.max()) + 1)]
    if (possible := min(len(rows) for rows in rows_of)) < largest:
        raise UserError(
            f"split.shots asks for {largest} labelled images per class, but the smallest target class has {possible}: "
            f"use at most {possible}"
        )
    return np.array(
        [
            [np.random.default_rng([seed, name]).permutation(rows)[:largest] for name, rows in enumerate(rows_of)]
            for seed in range(seeds)
        ],
        dtype=np.int32,
    )


def write_target(path: Path, target: Target) -> None:
    """Write a target task as one npz file."""
    write_record(path, target)


def read_target(path: Path) -> Target:
    """Read what `write_target` wrote."""
    return read_record(path, Target)
