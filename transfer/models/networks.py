"""Keras models as files: the same bytes for the same weights, loaded without running anything from the file."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from transfer.console import UserError
from transfer.files import decoding, write_whole, zip_member
from transfer.models.backend import keras, tf


class Network(NamedTuple):
    """A Keras model as plain data, which can be hashed, sent to another machine, and built again in every thread.

    Attributes:
        config: of a functional model, as JSON.
        weights: as `get_weights()` gives them.
    """

    config: str
    weights: list[np.ndarray]

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """Config and weights of a functional model."""
        return cls(json.dumps(model.get_config()), model.get_weights())

    def build(self) -> keras.Model:
        """Rebuild the Keras model."""
        model = keras.Model.from_config(json.loads(self.config))
        model.set_weights(self.weights)
        return model


def fresh_weights(model: keras.Model, weights: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Values to train from scratch from: Glorot-uniform kernels (Glorot & Bengio 2010).

    Args:
        model: gives the shapes.
        weights: of the model as it is built; what is no kernel, such as a bias or a scale, starts with these.
        seed: of the values; each kernel gets a stream of its own.
    """
    return [
        np.asarray(keras.initializers.GlorotUniform(seed=1000 * seed + number)(value.shape))
        if weight.trainable and value.ndim > 1
        else value
        for number, (weight, value) in enumerate(zip(model.weights, weights, strict=True))
    ]


def save_model(path: Path, model: keras.Model) -> None:
    """Save a model as `.keras`, without the clock times and memory addresses that Keras writes into the file.

    Raises:
        UserError: if it cannot be written.
    """
    numbers: dict[str, int] = {}  # of objects that several layers share, which Keras calls by their address

    def renumber(match: re.Match[str]) -> str:
        return f"{match[1]}{numbers.setdefault(match[2], len(numbers))}"

    def write(partial: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder, "model.keras")
            model.save(saved)
            with zipfile.ZipFile(saved) as old, zipfile.ZipFile(partial, "w") as new:
                for name in sorted(old.namelist()):
                    content = old.read(name)
                    if name == "metadata.json":
                        content = json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
                    if name == "config.json":
                        content = re.sub(r'("shared_object_id": )(\d+)', renumber, content.decode()).encode()
                    new.writestr(zip_member(name), content)

    write_whole(path, write)


def load_model(path: Path) -> keras.Model:
    """Load a model for inference; nothing in the file is executed.

    Raises:
        UserError: if the file is missing or cannot be loaded safely.
    """
    with decoding(path):
        if not path.exists():
            raise FileNotFoundError
        return keras.models.load_model(path, compile=False, safe_mode=True)


def images_at_once(model: keras.Model) -> int:
    """How many images to run through a model together: 256, and fewer of large ones, whose maps fill the memory."""
    height, width = model.inputs[0].shape[1:3] if len(model.inputs[0].shape) == 4 else (1, 1)
    return min(256, max(8, (256 * 64 * 64) // (height * width)))


def predictor(model: keras.Model) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that gives every output of a model for every image, (n, …) each; traced once."""
    batch = images_at_once(model)
    inputs = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    traced = tf.function(lambda part: keras.tree.flatten(model(part, training=False)), autograph=False)
    call = traced.get_concrete_function(inputs)

    def predict(images: np.ndarray) -> list[np.ndarray]:
        parts = [call(tf.constant(images[start : start + batch])) for start in range(0, len(images), batch)]
        return [np.concatenate([part.numpy() for part in output]) for output in zip(*parts, strict=True)]

    return predict


def backbone(source: keras.Model, *names: str) -> keras.Model:
    """The part of a source model from the image to some layers, each flattened to one row of features per image.

    Raises:
        UserError: if it has no layer of such a name.
    """
    try:
        outputs = [source.get_layer(layer).output for layer in names]
    except ValueError as error:
        raise UserError(f"the source model lacks a layer that a strategy names: {error}") from None
    flat = [
        keras.layers.Flatten(name=f"{layer}_features")(output) if len(output.shape) > 2 else output
        for layer, output in zip(names, outputs, strict=True)
    ]
    return keras.Model(source.inputs[0], flat if len(flat) > 1 else flat[0], name="backbone")


def with_head(body: keras.Model, *head: keras.layers.Layer, name: str) -> keras.Model:
    """Put layers on top of a model: the same inputs, the last layer's output."""
    x = body.output
    for layer in head:
        x = layer(x)
    return keras.Model(body.inputs[0], x, name=name)


def has_logits(source: keras.Model) -> bool:
    """Whether the last layer of a source model gives logits of its classes."""
    return source.layers[-1].name == "logits"


def without_head(source: keras.Model) -> keras.Model:
    """The body of a source model: without its last layer where that gives logits."""
    output = source.layers[-1].input if has_logits(source) else source.output
    return keras.Model(source.inputs[0], output, name="body")


def under_own_head(source: keras.Model, known: Sequence[str], classes: Sequence[str]) -> Network | None:
    """The source model under its own head, cut to some of its classes.

    Args:
        source: the source model.
        known: what its logits stand for.
        classes: that are wanted, in this order.

    Returns:
        From raw images to logits; None where it does not know them all, or gives no logits.
    """
    if not has_logits(source) or source.output.shape[-1] != len(known) or not {*classes} <= {*known}:
        return None
    columns = [known.index(name) for name in classes]
    model = with_head(without_head(source), keras.layers.Dense(len(classes), name="logits"), name="network")
    model.layers[-1].set_weights([weight[..., columns] for weight in source.layers[-1].get_weights()])
    return Network.of(model)
