"""What the frozen backbone makes of the target images: computed once, used by every strategy that freezes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from transfer.basics.arrays import axes, misfit
from transfer.basics.console import UserError
from transfer.basics.files import read_facts, write_facts, write_whole
from transfer.mapped import Rows, seal, sealed, write_side_by_side
from transfer.networks import engines
from transfer.networks.graph import Architecture
from transfer.networks.layers import read_network

if TYPE_CHECKING:
    import keras

AUTO = "auto"  # in the place of a tap: the one that suits the source network
CHUNK = 1024  # rows that statistics take in at once: few enough for the processor's cache


@dataclass(frozen=True)
class Features:
    """Frozen features of one tap.

    Attributes:
        train: of the target images that draws are made from, (images, width) float32; in their file, where they were
            read from one.
        test: of the test images, (test images, width) float32.
    """

    train: Rows = axes("float32", "images", "width")
    test: np.ndarray = axes("float32", "test images", "width")

    def scaled(self, scaling: Scaling) -> Self:
        """The same features, scaled: those of the test images now, the others when they are asked for."""
        return type(self)(Scaled(self.train, scaling), scaling.apply(self.test))


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
    def of_pool(cls, *parts: Rows) -> Self:
        """The scaling by the statistics of images whose labels nobody needs to know.

        Computed in float64, a chunk of rows after the other (Chan, Golub & LeVeque 1983, equation 2.1).

        Args:
            parts: of the pool, (images, width) float32 each.
        """
        count, mean, squares = 0, np.zeros(parts[0].shape[1]), np.zeros(parts[0].shape[1])
        for part in parts:
            for start in range(0, len(part), CHUNK):
                chunk = part[start : start + CHUNK].astype(np.float64)
                chunk_mean = chunk.mean(axis=0)
                gap, share = chunk_mean - mean, len(chunk) / (count + len(chunk))
                chunk -= chunk_mean
                squares += np.einsum("ij,ij->j", chunk, chunk) + gap**2 * count * share
                mean += gap * share
                count += len(chunk)
        variance = squares / count
        floor = 0.1 * variance.mean() or 1.0
        return cls(mean.astype(np.float32), (variance + floor).astype(np.float32))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Scale features, (images, width) float32: each image's mean square becomes 1."""
        scaled = (features - self.mean) / np.sqrt(self.variance)
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
        return scaled * (np.sqrt(features.shape[1], dtype=np.float32) / np.maximum(lengths, 1e-6))

    def layers(self) -> list[keras.layers.Layer]:
        """The same as Keras layers, for the model that is shipped."""
        from transfer.networks.backend import keras

        return [
            keras.layers.Normalization(mean=self.mean, variance=self.variance, name="standardise"),
            keras.layers.UnitNormalization(name="unit_length"),
            keras.layers.Rescaling(float(np.sqrt(len(self.mean))), name="unit_mean_square"),
        ]


@dataclass(frozen=True)
class Scaled:
    """Features that are scaled when they are asked for, so that a pool larger than memory needs no copy.

    Attributes:
        features: not scaled, (images, width) float32.
        scaling: of them.
    """

    features: Rows
    scaling: Scaling

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all features."""
        return self.features.shape

    def __len__(self) -> int:
        """The number of images."""
        return len(self.features)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Some of the images' features, scaled."""
        return self.scaling.apply(self.features[rows])


def extract(
    path: Path,
    taps: list[str] | None,
    images: Rows,
    test_images: np.ndarray,
    *,
    source: Path,
    training: engines.Params,
    threads: int = 1,
) -> None:
    """Run images through the frozen backbone, once for all taps, and write what they give, batch by batch.

    Args:
        path: of the folder to write.
        taps: layers to take features from, or `auto`; None takes all that the source network has.
        images: of the target task, (n, height, width, channels) uint8.
        test_images: the same for the test images.
        source: file of the source network.
        training: chooses the engine.
        threads: that it computes with.

    Raises:
        UserError: if the source network has no such layer, and says which it has; or gives no numbers.
    """
    network, weights = read_network(source)
    wanted = named_taps(network, taps)
    program = engines.program(network, training.engine_for(network), threads=threads)
    program.start(weights, seed=0)

    def batches(given: Rows) -> Iterator[Sequence[np.ndarray]]:
        for start in range(0, len(given), CHUNK):
            batch = program.features(given[start : start + CHUNK], wanted)
            for tap, features in zip(wanted, batch, strict=True):
                if not np.isfinite(features).all():
                    raise UserError(
                        f"{source}: {tap} gives NaN or infinity: the source model is of no use, name another"
                    )
            yield batch

    def write(folder: Path) -> None:
        folder.mkdir()
        write_facts(folder / "taps.json", {"taps": wanted, AUTO: network.tap})
        for part, given in {"train": images, "test": test_images}.items():
            write_side_by_side(folder, [f"{tap}_{part}" for tap in wanted], batches(given), len(given))
        seal(folder)

    write_whole(path, write)


def named_taps(network: Architecture, taps: list[str] | None) -> list[str]:
    """The taps of a network by their names, each once; arguments and errors as of `extract`."""
    known = list(network.taps)
    wanted = [network.tap if tap == AUTO else tap for tap in taps or known]
    if missing := [tap for tap in wanted if tap not in known]:
        raise UserError(f"tap {missing[0]!r} is not in the source model: choose from {', '.join(known)}")
    return list(dict.fromkeys(wanted))


def taken_tap(path: Path, tap: str) -> str:
    """The name of the tap that `auto` stands for in a folder of features; any other tap is itself."""
    return read_facts(path / "taps.json", AUTO)[AUTO] if tap == AUTO else tap


def read_taps(path: Path) -> dict[str, Features]:
    """Read every tap's features, from the image on; those of the target images stay in their files."""
    return {tap: _read_tap(path, tap) for tap in _taps(path)}


def _taps(path: Path) -> list[str]:
    return read_facts(path / "taps.json", "taps")["taps"]


def _read_tap(path: Path, tap: str) -> Features:
    train, test = sealed(path, (f"{tap}_{part}" for part in ("train", "test")))
    features = Features(train, test[:])
    if wrong := misfit(features):
        raise UserError(f"{path} cannot be read ({tap}: {wrong}): delete it and run `dvc repro`")
    return features


def read_features(path: Path, tap: str) -> Features:
    """Read one tap's features; `auto` is what it stood for when they were taken.

    Raises:
        UserError: if the folder lacks the tap.
    """
    known, tap = _taps(path), taken_tap(path, tap)
    if tap not in known:
        raise UserError(
            f"{path} has no features of tap {tap!r}, only of {', '.join(known)}: list the strategy's `tap` "
            "under the params of stage extract in dvc.yaml"
        )
    return _read_tap(path, tap)
