"""The images of one side of the study, converted, with their labels: what the split divides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.files import read_folder

TRAIN, TEST, EITHER = range(3)


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
