"""Statistics of the training images, saved with each model, to detect out-of-distribution images.

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
from threadpoolctl import threadpool_limits

from transfer.data.ground import CONTENT, background, filled, stroke_width
from transfer.files import decoding
from transfer.models.backend import keras
from transfer.models.metadata import FAMILIARITY
from transfer.models.networks import load_model, predictor

IMAGES = 1000  # of the pool: one half gives means and covariance, the other the distances that are usual
LEAST = 40  # images; fewer tell nothing
SEED = 0
COMPONENTS = 32  # of the covariance
SMALLEST = 1e-8  # variance: where a network gives the same for all images


@dataclass(frozen=True)
class Familiarity:
    """What training images look like, and how far they are from their classes.

    Attributes:
        background: percentiles, over the images, of the median grey of the outermost pixels, 0 to 255, (101,) float32.
        contrast: likewise of the standard deviation of the grey of all pixels.
        filled: how far content fills the frame, as `ground.filled`, () float32.
        stroke: percentiles of the mean width of strokes, in pixels, (101,) float32.
        means: of the features of each class that the model finds among the images, (classes, width) float16.
        components: directions of the largest variance within classes, (components, width) float16.
        variances: along these, and in every other direction, (components + 1,) float32.
        distance: percentiles of the distance of images that neither model nor means were fitted to, (101,) float32.
    """

    background: np.ndarray
    contrast: np.ndarray
    filled: np.ndarray
    stroke: np.ndarray
    means: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    distance: np.ndarray

    @classmethod
    @threadpool_limits.wrap(limits=1)  # with more, sums have other bits
    def of(cls, path: Path, images: np.ndarray, fitted: np.ndarray) -> Self | None:
        """What images look like to a model; None where there are too few, or too few features, to tell.

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
        if features.shape[1] < 2:
            return None
        half = len(rows) // 2
        found, classes = np.unique(probabilities[:half].argmax(axis=1), return_inverse=True)
        near = unit_length(features[:half])
        means = np.stack([near[classes == number].mean(axis=0) for number in range(len(found))])
        within = near - means[classes]
        count = min(COMPONENTS, min(within.shape) // 2)
        _, lengths, components = randomized_svd(within, count, random_state=SEED)
        along = lengths**2 / half
        rest = ((within**2).sum() / half - along.sum()) / (within.shape[1] - count)
        grey = sample.mean(axis=3, dtype=np.float32)
        here = background(grey)
        content = np.abs(grey - here[:, None, None]) / np.maximum(here, 255 - here)[:, None, None]
        known = cls(
            background=percentiles(here),
            contrast=percentiles(grey.std(axis=(1, 2))),
            filled=np.array(filled(images, rows), np.float32),
            stroke=percentiles(np.array([stroke_width(each) for each in content])),
            means=means.astype(np.float16),
            components=components.astype(np.float16),
            variances=np.maximum([*along, rest], SMALLEST).astype(np.float32),
            distance=np.zeros(0, np.float32),
        )
        return replace(known, distance=percentiles(known.distances(features[half:])))

    @property
    def plain(self) -> bool:
        """Whether nearly all images have the same background, so that content can be told from it."""
        return bool(self.background[95] - self.background[5] <= 2 * CONTENT)

    @property
    def dark(self) -> bool:
        """Whether the background is dark."""
        return bool(self.background[50] < 128)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Squared distances to the nearest class, (n,) float64, of what the last dense layer takes, (n, width)."""
        x, means = unit_length(features.astype(np.float64)), self.means.astype(np.float64)
        components = self.components.astype(np.float64)
        whole = (x**2).sum(axis=1)[:, None] + (means**2).sum(axis=1) - 2 * x @ means.T
        along = ((x @ components.T)[:, None] - means @ components.T) ** 2  # images × classes × components
        *variances, rest = self.variances
        return ((along / variances).sum(axis=2) + (whole - along.sum(axis=2)) / rest).min(axis=1)

    def p_values(self, features: np.ndarray) -> np.ndarray:
        """Which part of the training images is as far from every class or further, (n,), 0.005 where none is."""
        nearer = np.searchsorted(self.distance, self.distances(features))
        return (len(self.distance) - nearer).clip(0.5, 100) / 100


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


def percentiles(values: np.ndarray) -> np.ndarray:
    """Percentiles 0 to 100, (101,) float32, none of them between two values."""
    return np.percentile(values, np.arange(101), method="higher").astype(np.float32)
