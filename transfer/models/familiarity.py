"""What a study's training images look like, kept with each model, so that what is unlike them can be told.

How far an image is from all classes is its Mahalanobis distance to the nearest class mean (Lee et al. 2018) between the
numbers that the last dense layer takes, brought to length 1 for every image (Mueller & Hein 2025), with the covariance
of probabilistic principal components (Tipping & Bishop 1999). Without the length, what is foreign to a fine-tuned
network seems near, as it stirs little in it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.utils.extmath import randomized_svd

from transfer.data.ground import CONTENT, filled
from transfer.files import decoding
from transfer.models.backend import keras
from transfer.models.metadata import FAMILIARITY
from transfer.models.networks import load_model, predictor

IMAGES = 2000  # of the pool: one half gives means and covariance, the other the distances that are usual
LEAST = 40  # images; fewer tell nothing
SEED = 0
COMPONENTS = 32  # of the covariance
SMALLEST = 1e-8  # variance: where a network gives the same for all images
PERCENTS = np.arange(101)
UNLIKE = 0.01  # of the training images: what fewer are as far from every class as is unlike them


@dataclass(frozen=True)
class Familiarity:
    """What training images look like, and how far they are from their classes.

    Attributes:
        ground: percentiles, over the images, of the median grey of the outermost pixels, 0 to 255, (101,) float32.
        contrast: likewise of the standard deviation of the grey of all pixels.
        filled: how far content fills the frame, as `ground.filled`, () float32.
        means: of the features of each class that the model finds among the images, (classes, width) float16.
        components: directions of the largest variance within classes, (components, width) float16.
        variances: along these, and in every other direction, (components + 1,) float32.
        distance: percentiles of the distance of images that neither model nor means were fitted to, (101,) float32.
    """

    ground: np.ndarray
    contrast: np.ndarray
    filled: np.ndarray
    stroke: np.ndarray
    means: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    distance: np.ndarray

    @classmethod
    def of(cls, path: Path, images: np.ndarray, fitted: np.ndarray) -> Self | None:
        """What images look like to a model; None where there are too few to tell.

        Args:
            path: of the model, from raw images to probabilities.
            images: of the target's training pool, (n, height, width, channels) uint8.
            fitted: rows of those that the model was fitted to, which seem too near to it: they are taken only where too
                few others are left.
        """
        others = np.setdiff1d(np.arange(len(images)), fitted)
        rows = others if len(others) >= LEAST else np.arange(len(images))
        rows = np.random.default_rng(SEED).permutation(rows)[:IMAGES]
        if len(rows) < LEAST:
            return None
        sample = images[rows]
        probabilities, features = with_features(load_model(path))(sample)
        half = len(rows) // 2
        found, classes = np.unique(probabilities[:half].argmax(axis=1), return_inverse=True)
        near = unit_length(features[:half])
        means = np.stack([near[classes == number].mean(axis=0) for number in range(len(found))])
        within = near - means[classes]
        count = min(COMPONENTS, min(within.shape) // 2)
        _, lengths, components = randomized_svd(within, count, random_state=SEED)
        along = lengths**2 / half
        rest = ((within**2).sum() / half - along.sum()) / (within.shape[1] - count)
        here = ground(sample)
        content = np.abs(sample.mean(axis=3) - here[:, None, None]) / np.maximum(here, 255 - here)[:, None, None]
        known = cls(
            percentiles(here),
            percentiles(contrast(sample)),
            np.array(filled(sample, np.arange(len(sample))), np.float32),
            percentiles(np.array([width_of(each) for each in content])),
            means.astype(np.float16),
            components.astype(np.float16),
            np.maximum([*along, rest], SMALLEST).astype(np.float32),
            np.zeros(0, np.float32),
        )
        return replace(known, distance=percentiles(known.distances(features[half:])))

    @property
    def plain(self) -> bool:
        """Whether nearly all images have the same ground, so that content can be told from it."""
        return bool(self.ground[95] - self.ground[5] <= 2 * CONTENT)

    @property
    def dark(self) -> bool:
        """Whether the ground is dark."""
        return bool(self.ground[50] < 128)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Squared distances to the nearest class, (n,) float64, of what the last dense layer takes, (n, width)."""
        x, means = unit_length(features.astype(np.float64)), self.means.astype(np.float64)
        components = self.components.astype(np.float64)
        whole = (x**2).sum(axis=1)[:, None] + (means**2).sum(axis=1) - 2 * x @ means.T
        along = ((x @ components.T)[:, None] - means @ components.T) ** 2  # images × classes × components
        *variances, rest = self.variances
        return ((along / variances).sum(axis=2) + (whole - along.sum(axis=2)) / rest).min(axis=1)

    def as_far(self, features: np.ndarray) -> np.ndarray:
        """Which part of the training images is as far from every class or further, (n,), 0.005 where none is."""
        nearer = np.searchsorted(self.distance, self.distances(features))
        return (len(self.distance) - nearer).clip(0.5, 100) / 100

    def doubts(self, images: np.ndarray, features: np.ndarray) -> list[list[str]]:
        """What is unlike the training images; keys of `DOUBTS`.

        Args:
            images: as the model takes them, (n, height, width, channels) uint8.
            features: what its last dense layer takes of them, (n, width).
        """
        here, usual = ground(images), self.ground[50]
        inverted = np.abs(255 - usual - here) < np.abs(usual - here)
        other = (here < self.ground[0] - CONTENT / 2) | (here > self.ground[100] + CONTENT / 2)
        found = {
            "light" if self.dark else "dark": inverted & self.plain,
            "ground": other & ~inverted & self.plain & (images.shape[3] == 1),
            "blank": contrast(images) < self.contrast[1] / 2,
            "unfamiliar": self.as_far(features) <= UNLIKE,
        }
        return [[name for name, where in found.items() if where[row]] for row in range(len(images))]


# The words follow the name of a file and "is".
DOUBTS = {
    "light": "on light ground, where the training images have dark: try {0}invert",
    "dark": "on dark ground, where the training images have light: try {0}invert",
    "ground": "on another ground than the training images: try {0}centre",
    "blank": "nearly blank: its contrast is less than half of what 99 % of the training images have",
    "unfamiliar": f"further from every class than {1 - UNLIKE:.0%} of the training images: perhaps it belongs to none",
}


def read_familiarity(path: Path) -> Familiarity | None:
    """What stands in a `.keras` file of a study; None in one that was saved before there was such a thing."""
    with decoding(path), zipfile.ZipFile(path) as archive:
        if FAMILIARITY not in archive.namelist():
            return None
        with np.load(io.BytesIO(archive.read(FAMILIARITY)), allow_pickle=False) as arrays:
            return Familiarity(**arrays)


def with_features(network: keras.Model) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that gives probabilities, and what the last dense layer takes, (n, …) float32 each."""
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)][-1]
    return predictor(keras.Model(network.inputs[0], [network.outputs[0], dense.input]))


def unit_length(features: np.ndarray) -> np.ndarray:
    """Rows divided by their length, (n, width)."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)


def ground(images: np.ndarray) -> np.ndarray:
    """The median grey of each image's outermost pixels, (n,)."""
    grey = images.mean(axis=3)
    edges = [grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]]
    return np.median(np.concatenate(edges, axis=1), axis=1)


def contrast(images: np.ndarray) -> np.ndarray:
    """The standard deviation of each image's grey, (n,)."""
    return images.mean(axis=3).std(axis=(1, 2))


def width_of(content: np.ndarray) -> float:
    """The mean width of strokes: twice their area by the length of their outline, which is the total variation.

    Args:
        content: how much of every pixel is content, (height, width), 0 to 1.
    """
    y, x = np.gradient(content)
    return float(2 * content.sum() / max(np.hypot(y, x).sum(), 1e-6))


def percentiles(values: np.ndarray) -> np.ndarray:
    """Percentiles 0 to 100, (101,) float32, none of them between two values."""
    return np.percentile(values, PERCENTS, method="higher").astype(np.float32)
