"""A plain network, layer by layer: what every engine trains, and what is kept of the source model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer.basics.arrays import read_arrays, write_arrays
from transfer.basics.console import UserError
from transfer.basics.files import read_facts, write_facts

if TYPE_CHECKING:
    import keras

    from transfer.networks.graph import Architecture

KINDS = ("layers", "graph")  # of networks


@dataclass(frozen=True)
class Convolution:
    """A convolution without padding, max pooling, and ReLU: a block."""

    filters: int
    kernel: int
    pool: int


@dataclass(frozen=True)
class Layers:
    """A plain network, from what comes in to its logits.

    Attributes:
        shape: of an image, (height, width, channels) uint8, or of features, (width,) float32.
        blocks: convolution blocks, `block1`, `block2`, …
        dense: units of the dense layers with ReLU that follow, `dense1`, `dense2`, …
        classes: the number of logits.
        dropout: the part of their inputs that the logits do without in training.
    """

    shape: tuple[int, ...]
    blocks: tuple[Convolution, ...]
    dense: tuple[int, ...]
    classes: int
    dropout: float = 0.0

    @property
    def taps(self) -> list[str]:
        """The layers that features can be taken from, from the image on."""
        blocks = [f"block{number}" for number in range(1, len(self.blocks) + 1)]
        return blocks + [f"dense{number}" for number in range(1, len(self.dense) + 1)]

    @property
    def tap(self) -> str:
        """The layer that features are taken from where none is asked for: the last block."""
        return self.taps[len(self.blocks) - 1]

    @property
    def sides(self) -> list[tuple[int, int, int]]:
        """(height, width, channels) of what comes in, and of what every block gives."""
        height, width, channels = self.shape if len(self.shape) == 3 else (1, 1, *self.shape)
        sides = [(height, width, channels)]
        for block in self.blocks:
            height, width = ((side - block.kernel + 1) // block.pool for side in (height, width))
            sides.append((height, width, block.filters))
        return sides

    @property
    def widths(self) -> list[int]:
        """Numbers that go into the first dense layer, and that come out of each."""
        return [prod(self.sides[-1]), *self.dense, self.classes]

    @property
    def weights(self) -> list[tuple[int, ...]]:
        """Shapes of the trainable weights in Keras's order: kernel and bias, layer by layer."""
        shapes: list[tuple[int, ...]] = []
        for (_, _, channels), block in zip(self.sides, self.blocks, strict=False):
            shapes += [(block.kernel, block.kernel, channels, block.filters), (block.filters,)]
        for inputs, units in pairwise(self.widths):
            shapes += [(inputs, units), (units,)]
        return shapes

    def fresh(self, seed: int) -> list[np.ndarray]:
        """Initial values of the trainable weights, as `fresh_weights` explains."""
        return fresh_weights(self.weights, seed)

    def build(self, name: str, weights: Sequence[np.ndarray] = ()) -> keras.Model:
        """The same as a Keras model, with some weights if they are given.

        Pooling comes before ReLU, which gives the same result for a quarter of the work.

        Returns:
            A functional model: raw uint8 images, or float32 features, to float32 logits.
        """
        from transfer.networks.backend import keras

        layers = keras.layers
        x = inputs = keras.Input(self.shape, dtype="uint8" if len(self.shape) == 3 else "float32", name="image")
        if len(self.shape) == 3:
            x = layers.Rescaling(1 / 255, name="rescaling")(x)
        for number, block in enumerate(self.blocks, 1):
            x = layers.Conv2D(block.filters, block.kernel, name=f"convolution{number}")(x)
            x = layers.MaxPooling2D(block.pool, name=f"pool{number}")(x)
            x = layers.ReLU(name=f"block{number}")(x)
        if len(self.shape) == 3:
            x = layers.Flatten(name="flatten")(x)
        for number, units in enumerate(self.dense, 1):
            x = layers.Dense(units, activation="relu", name=f"dense{number}")(x)
        if self.dropout:
            x = layers.Dropout(self.dropout, name="dropout")(x)
        model = keras.Model(inputs, layers.Dense(self.classes, name="logits")(x), name=name)
        for variable, value in zip(model.trainable_variables if weights else [], weights, strict=True):
            variable.assign(value)
        return model

    def save(self, name: str, weights: Sequence[np.ndarray], *, path: Path) -> None:
        """Write the same as one Keras file."""
        from transfer.networks.models import save_model

        save_model(path, self.build(name, weights))


def fresh_weights(shapes: Sequence[tuple[int, ...]], seed: int, constants: Sequence[float] = ()) -> list[np.ndarray]:
    """Initial values: Glorot-uniform kernels (Glorot & Bengio 2010), zero biases.

    Args:
        shapes: of a network's weights.
        seed: of the values; each weight gets a stream of its own.
        constants: in the place of zero, what the first of the weights start with where they have one axis alone.

    Returns:
        One float32 array per weight.
    """
    return [
        np.full(shape, constants[number] if number < len(constants) else 0, np.float32)
        if len(shape) == 1
        else _glorot_uniform(shape, [seed, number])
        for number, shape in enumerate(shapes)
    ]


def _glorot_uniform(shape: tuple[int, ...], seed: list[int]) -> np.ndarray:
    receptive_field = prod(shape[:-2])
    limit = np.sqrt(6 / (receptive_field * (shape[-2] + shape[-1])))
    return np.random.default_rng(seed).uniform(-limit, limit, shape).astype(np.float32)


def write_network(path: Path, network: Architecture, weights: Sequence[np.ndarray]) -> None:
    """Write a network as one npz file."""
    arrays = {f"weight{number:03}": weight for number, weight in enumerate(weights)}
    described = {name: np.array(json.dumps(content)) for name, content in _described(network).items()}
    write_arrays(path, **described, **arrays)


def read_network(path: Path) -> tuple[Architecture, list[np.ndarray]]:
    """Read what `write_network` wrote: the network and its weights, the trainable ones first."""
    arrays = read_arrays(path)
    described = {name: json.loads(str(arrays.pop(name))) for name in KINDS if name in arrays}
    return _network(described, path), [arrays[name] for name in sorted(arrays, key=lambda name: (len(name), name))]


def write_architecture(path: Path, network: Architecture) -> None:
    """Write a network without its weights as JSON."""
    write_facts(path, _described(network))


def read_architecture(path: Path) -> Architecture:
    """Read what `write_architecture` wrote.

    Raises:
        UserError: if the file is missing or is something else.
    """
    return _network(read_facts(path), path)


def _described(network: Architecture) -> dict[str, Any]:
    """By the kind of network, what makes it one."""
    return {"layers" if isinstance(network, Layers) else "graph": asdict(network)}


def _network(described: dict[str, Any], path: Path) -> Architecture:
    """What `_described` described."""
    from transfer.networks.graph import Graph  # which needs this module

    try:
        kind, content = next((kind, described[kind]) for kind in KINDS if kind in described)
        if kind == "graph":
            return Graph(**{name: _frozen(value) for name, value in content.items()})
        blocks = tuple(Convolution(**block) for block in content["blocks"])
        return Layers(**content | {name: tuple(content[name]) for name in ("shape", "dense")} | {"blocks": blocks})
    except (StopIteration, TypeError, KeyError):
        raise UserError(f"{path} holds no network: delete it and run `dvc repro`") from None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
