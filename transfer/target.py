"""The target task: its images, its nested label draws, and the cells that they define."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from transfer.files import read_arrays, write_arrays


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


def write_target(path: Path, target: Target) -> None:
    """Write a target task as one npz file."""
    write_arrays(path, **{field.name: getattr(target, field.name) for field in fields(target)})


def read_target(path: Path) -> Target:
    """Read what `write_target` wrote."""
    return Target(**read_arrays(path, *(field.name for field in fields(Target))))
