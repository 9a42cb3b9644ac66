"""Small models that say what they are, for tests of what people take away."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from transfer.data.preprocessing import Preprocessing, Sound
from transfer.models.metadata import Metadata, write_metadata

SOUND = Sound(rate=8000, seconds=0.5, window=0.032, hop=0.016, mels=14, decibels=60)
PREPROCESSING = Preprocessing(14, 14, 1, "stretch", "same", SOUND)
OBLONG = replace(PREPROCESSING, height=13, width=17)
SIDES = ("left", "right")


def write_sides(
    path: Path,
    strategy: str = "end_to_end",
    classes: Sequence[str] = SIDES,
    preprocessing: Preprocessing = PREPROCESSING,
    certainty: float = 5.0,
    shots: int = 3,
) -> Path:
    """A model that says on which side an image is lighter: the first class is the left one, the second the right one.

    Further classes are less probable than both where one of them is.
    """
    from transfer.models.backend import keras
    from transfer.models.networks import save_model

    kernel = np.zeros((*preprocessing.shape, len(classes)), np.float32)
    left, right = (
        np.arange(preprocessing.width) < preprocessing.width // 2,
        np.arange(preprocessing.width) >= -(-preprocessing.width // 2),
    )
    kernel[:, left, :, 0] = kernel[:, right, :, 1] = certainty
    kernel = kernel.reshape(-1, len(classes)) / np.prod(preprocessing.shape)
    layers = keras.layers
    head = layers.Dense(len(classes), activation="softmax", name="probabilities")
    image = keras.Input(preprocessing.shape, dtype="uint8", name="image")
    model = keras.Model(image, head(layers.Flatten()(layers.Rescaling(1 / 255)(image))), name="sides")
    head.set_weights([kernel, np.zeros(len(classes), np.float32)])
    save_model(path, model)
    write_metadata(path, Metadata(strategy, shots, tuple(classes), preprocessing.to_text()))
    return path


def bars(count: int, side: int = 14, seed: int = 0) -> np.ndarray:
    """White upright bars on black, on the left and on the right in turn, (count, side, side, 1) uint8."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, side, side, 1), np.uint8)
    for number, image in enumerate(images):
        left = 2 + rng.integers(2) + (number % 2) * side // 2
        image[2:-2, left : left + 2] = rng.integers(120, 256, (side - 4, 2, 1))
    return images


def write_familiar(path: Path, strategy: str = "end_to_end", preprocessing: Preprocessing = PREPROCESSING) -> Path:
    """As `write_sides`, of a model that knows `bars`."""
    from transfer.models.familiarity import Familiarity
    from transfer.models.metadata import read_metadata

    write_sides(path, strategy, preprocessing=preprocessing)
    images = np.repeat(bars(400, preprocessing.height), preprocessing.channels, axis=3)
    write_metadata(path, read_metadata(path), Familiarity.of(path, images, np.zeros(0, int)))
    return path


def write_head(path: Path, preprocessing: Preprocessing = OBLONG, seed: int = 0) -> Path:
    """A model as `dense_head` makes them, with random weights: convolutions, scaling, dense layers."""
    from transfer.models import cnn
    from transfer.models.backend import keras
    from transfer.models.features import Scaling
    from transfer.models.networks import backbone, fresh_weights, save_model, with_head

    blocks = [{"filters": 6, "kernel": 3, "pool": 2}, {"filters": 8, "kernel": 3, "pool": 2}]
    source = cnn.build(cnn.Params(blocks=blocks, dense=[12]), image_shape=preprocessing.shape, classes=5)
    source.set_weights(fresh_weights(source, source.get_weights(), seed))
    body = backbone(source, "block2")
    scaling = Scaling.of_pool(np.random.default_rng(seed).gamma(1, 0.3, (50, body.output.shape[1])).astype(np.float32))
    head = [
        keras.layers.Dense(9, activation="relu", name="hidden"),
        keras.layers.Dropout(0.5, name="dropout"),
        keras.layers.Dense(4, activation="softmax", name="probabilities"),
    ]
    model = with_head(body, *scaling.layers(), *head, name="dense_head")
    rng = np.random.default_rng(seed)
    for layer in (head[0], head[2]):
        layer.set_weights([rng.normal(0, 0.5, weight.shape).astype(np.float32) for weight in layer.get_weights()])
    save_model(path, model)
    write_metadata(path, Metadata("dense_head", 10, ("5", "6", "seven", "8 ü"), preprocessing.to_text()))
    return path


def write_bare(path: Path) -> Path:
    """A model that says nothing of itself, as that of the source task."""
    from transfer.models.backend import keras
    from transfer.models.networks import save_model

    save_model(path, keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    return path


def recording() -> bytes:
    """Half a second of a tone, as a WAV file."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((8000 * np.sin(np.arange(4000) / 3)).astype("<i2").tobytes())
    return stream.getvalue()


def side_image(side: str, height: int = 40, width: int = 40) -> np.ndarray:
    """White on the side that is named, else black; (height, width) uint8."""
    image = np.zeros((height, width), np.uint8)
    image[:, slice(0, width // 2) if side == "left" else slice(width // 2, width)] = 255
    return image


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    """Pixels as the bytes of an image file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()
