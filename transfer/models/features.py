"""What the frozen backbone makes of the target images: computed once, used by every strategy that freezes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from transfer.console import UserError
from transfer.files import read_array, read_facts, write_json, write_rows, write_whole
from transfer.models.backend import keras
from transfer.models.networks import backbone, predictor, save_model, with_head

AUTO = "auto"  # in the place of a layer: the one that suits the source network
CHUNK = 1024  # images whose features are computed together


@dataclass(frozen=True)
class Features:
    """Frozen features of one layer.

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
        mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
        floor = 0.1 * variance.mean() or 1.0
        return cls(mean.astype(np.float32), (variance + floor).astype(np.float32))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Scale features, (images, width) float32: each image's mean square becomes 1."""
        scaled = (features - self.mean) / np.sqrt(self.variance)
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
        scaled *= np.sqrt(features.shape[1], dtype=np.float32) / np.maximum(lengths, 1e-6)
        return scaled

    def layers(self) -> list[keras.Layer]:
        """The same as Keras layers, for the model that is exported."""
        return [
            keras.layers.Normalization(mean=self.mean, variance=self.variance, name="standardise"),
            keras.layers.UnitNormalization(name="unit_length"),
            keras.layers.Rescaling(float(np.sqrt(len(self.mean))), name="unit_mean_square"),
        ]


def extract(
    path: Path, source: keras.Model, layers: Sequence[str], auto: str, images: np.ndarray, test: np.ndarray
) -> None:
    """Run images through the frozen backbone, and write what layers give, chunk by chunk.

    Args:
        path: of the folder to write.
        source: the source model.
        layers: layers to take features from.
        auto: the layer that is taken where none is asked for.
        images: of the target task, (n, height, width, channels) uint8.
        test: the same for the test images.

    Raises:
        UserError: if the source model gives no numbers.
    """

    def write(folder: Path) -> None:
        folder.mkdir()
        write_json(folder / "layers.json", {"layers": list(layers), AUTO: auto})
        for layer in layers:
            predict = predictor(backbone(source, layer))
            for part, given in {"train": images, "test": test}.items():
                write_rows(folder / f"{layer}_{part}.npy", _chunks(predict, given, layer), len(given))

    write_whole(path, write)


def _chunks(predict: Callable[[np.ndarray], list[np.ndarray]], images: np.ndarray, layer: str) -> Iterator[np.ndarray]:
    for start in range(0, len(images), CHUNK):
        (features,) = predict(images[start : start + CHUNK])
        if not np.isfinite(features).all():
            raise UserError(f"{layer} of the source model gives NaN or infinity: use another source model")
        yield features


def chosen_layer(path: Path, layer: str) -> str:
    """The name of the layer that `auto` stands for in a folder of features; any other layer is itself."""
    return read_facts(path / "layers.json")[AUTO] if layer == AUTO else layer


def read_features(path: Path, layer: str) -> Features:
    """Read one layer's features; `auto` is what it stood for when they were taken.

    Raises:
        UserError: if the folder lacks the layer, or its files are damaged.
    """
    layer = chosen_layer(path, layer)
    return Features(*(read_array(path / f"{layer}_{part}.npy") for part in ("train", "test")))


def save_classifier(
    weights: Sequence[np.ndarray], path: Path, *, body: Callable[[], keras.Model], scaling: Scaling
) -> None:
    """Write dense layers on frozen features as one Keras file: raw uint8 images in, probabilities out.

    Args:
        weights: kernel and bias of each dense layer, for scaled features: of the last alone, or of one with ReLU first.
        path: of the file, whose name the model bears.
        body: builds what gives the features.
        scaling: of the features.

    Raises:
        UserError: if it cannot be written.
    """
    *hidden, last = weights[1::2]  # biases
    dense = [keras.layers.Dense(len(bias), activation="relu", name="head") for bias in hidden]
    dense.append(keras.layers.Dense(len(last), activation="softmax", name="probabilities"))
    model = with_head(body(), *scaling.layers(), *dense, name=path.stem)
    variables = [variable for layer in dense for variable in layer.trainable_variables]
    for variable, value in zip(variables, weights, strict=True):
        variable.assign(value)
    save_model(path, model)
