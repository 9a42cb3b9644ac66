"""What the frozen backbone makes of the target images: computed once, used by every strategy that freezes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from transfer import engines
from transfer.console import UserError
from transfer.files import read_arrays, write_arrays
from transfer.layers import read_network

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Features:
    """Frozen features of one tap.

    Attributes:
        train: of the target images that draws are made from, (images, width) float32.
        test: of the test images, (test images, width) float32.
    """

    train: np.ndarray
    test: np.ndarray

    def scaled(self, scaling: Scaling) -> Self:
        """The same features, scaled."""
        return type(self)(scaling.apply(self.train), scaling.apply(self.test))


@dataclass(frozen=True)
class Scaling:
    """What heads see of features: standardised, then brought to the same length for every image.

    Attributes:
        mean: of each feature over the pool, (width,) float32.
        variance: likewise, (width,) float32, plus a tenth of the mean variance, so that a feature which is almost
            always zero is not blown up by the few images that show it.
    """

    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def of_pool(cls, features: np.ndarray) -> Self:
        """The scaling by the statistics of images whose labels nobody needs to know, (images, width) float32."""
        variance = features.var(axis=0, dtype=np.float64)
        floor = 0.1 * variance.mean() or 1.0
        return cls(features.mean(axis=0, dtype=np.float64).astype(np.float32), (variance + floor).astype(np.float32))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Scale features, (images, width) float32: each image's mean square becomes 1."""
        scaled = (features - self.mean) / np.sqrt(self.variance)
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
        return scaled * (np.sqrt(features.shape[1], dtype=np.float32) / np.maximum(lengths, 1e-6))

    def layers(self) -> list[keras.layers.Layer]:
        """The same as Keras layers, for the model that is shipped."""
        from transfer.backend import keras

        return [
            keras.layers.Normalization(mean=self.mean, variance=self.variance, name="standardise"),
            keras.layers.UnitNormalization(name="unit_length"),
            keras.layers.Rescaling(float(np.sqrt(len(self.mean))), name="unit_mean_square"),
        ]


def extract(
    source: Path,
    taps: list[str] | None,
    images: np.ndarray,
    test_images: np.ndarray,
    *,
    training: engines.Params,
    threads: int = 1,
) -> dict[str, Features]:
    """Run images through the frozen backbone, once for all taps.

    Args:
        source: file of the source network.
        taps: layers to take features from; None takes all that it has.
        images: of the target task, (n, height, width, channels) uint8.
        test_images: the same for the test images.
        training: chooses the engine.
        threads: that it computes with.

    Raises:
        UserError: if the source network has no such layer; says which it has.
    """
    layers, weights = read_network(source)
    taps = taps or layers.taps
    if missing := [tap for tap in taps if tap not in layers.taps]:
        raise UserError(f"tap {missing[0]!r} is not in the source model: choose from {', '.join(layers.taps)}")
    program = engines.program(layers, training.engine_for(layers), threads=threads)
    program.start(weights, seed=0)
    train, test = program.features(images, taps), program.features(test_images, taps)
    return {tap: Features(*parts) for tap, *parts in zip(taps, train, test, strict=True)}


def read_taps(path: Path) -> dict[str, Features]:
    """Read every tap's features."""
    arrays = read_arrays(path)
    taps = [name.removesuffix("_train") for name in arrays if name.endswith("_train")]
    return {tap: Features(arrays[f"{tap}_train"], arrays[f"{tap}_test"]) for tap in taps}


def write_features(path: Path, features: dict[str, Features]) -> None:
    """Write every tap's features as one npz file."""
    arrays = {f"{tap}_{part}": getattr(taken, part) for tap, taken in features.items() for part in ("train", "test")}
    write_arrays(path, **arrays)


def read_features(path: Path, tap: str) -> Features:
    """Read one tap's features.

    Raises:
        UserError: if the file lacks the tap.
    """
    features = read_taps(path)
    if tap not in features:
        raise UserError(
            f"{path} has no features of tap {tap!r}, only of {', '.join(features)}: list the strategy's `tap` "
            "under the params of stage extract in dvc.yaml"
        )
    return features[tap]
