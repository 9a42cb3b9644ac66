"""A network that only Keras knows: somebody's own source model, kept as its configuration and trained by Keras.

It has the interface of `transfer.networks.layers.Layers` as far as others use it. Batch normalisation has a behaviour
of its own in training, so that a network comes in two kinds, each a `Graph`: one whose normalisation stays as it is,
statistics, scales and offsets, and one that trains it from the beginning (`graph_of`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer.basics.console import UserError
from transfer.networks.layers import Layers, fresh_weights

if TYPE_CHECKING:
    import keras

MOMENTUM = 0.9  # of batch statistics in training from scratch: Keras's 0.99 needs more steps than few labels give
WIDEST = 20_000  # numbers per image of a tap that is taken without being asked for
MOST = 8  # taps that are taken without being asked for
FIXED = "fixed_"  # begins the name of a layer of ours whose weights no training changes
PASSES_ON = {  # layers that are no tap: what they give is what they take, in another shape or with something left out
    *("AlphaDropout", "Cropping2D", "Dropout", "Flatten", "GaussianDropout", "GaussianNoise", "InputLayer"),
    *("Permute", "Reshape", "SpatialDropout2D", "ZeroPadding2D"),
}


@dataclass(frozen=True)
class Graph:
    """A network of any layers that Keras has, from raw images to its logits.

    Attributes:
        config: of the body, a functional Keras model from the image to what the logits are made of, as JSON.
        shape: of an image, (height, width, channels) uint8.
        taps: the layers that features can be taken from, from the image on.
        tap: the one of these that is taken where none is asked for.
        width: numbers that the logits are made of.
        classes: the number of logits; 0 ends the network with the body.
        body: shapes of the body's trainable weights, in Keras's order.
        constants: what each of these starts with where it has one axis alone, such as 1 for a scale.
    """

    config: str
    shape: tuple[int, ...]
    taps: tuple[str, ...]
    tap: str
    width: int
    classes: int
    body: tuple[tuple[int, ...], ...]
    constants: tuple[float, ...]

    @property
    def weights(self) -> list[tuple[int, ...]]:
        """Shapes of the trainable weights in Keras's order, those of the logits last."""
        return [*self.body, *([(self.width, self.classes), (self.classes,)] if self.classes else [])]

    def fresh(self, seed: int) -> list[np.ndarray]:
        """Initial values of the trainable weights, as `transfer.networks.layers.fresh_weights` explains."""
        return fresh_weights(self.weights, seed, self.constants)

    def build(self, name: str, weights: Sequence[np.ndarray] = ()) -> keras.Model:
        """The Keras model, with some weights if they are given.

        Args:
            name: of the model.
            weights: the trainable ones, then the others, such as running statistics.

        Returns:
            A functional model: raw uint8 images to float32 logits.
        """
        from transfer.networks.backend import keras

        body = keras.Model.from_config(json.loads(self.config))
        output = keras.layers.Dense(self.classes, name="logits")(body.output) if self.classes else body.output
        model = keras.Model(body.inputs[0], output, name=name)
        for variable, value in zip(variables(model) if weights else [], weights, strict=True):
            variable.assign(value)
        return model

    def save(self, name: str, weights: Sequence[np.ndarray], *, path: Path) -> None:
        """Write the same as one Keras file."""
        from transfer.networks.models import save_model

        save_model(path, self.build(name, weights))


Architecture = Layers | Graph


def variables(model: keras.Model) -> list[keras.Variable]:
    """The trainable weights, then the others but for what random layers draw from: what a `Program` calls weights."""
    others = [value for value in model.non_trainable_variables if not value.path.endswith("seed_generator_state")]
    return [*model.trainable_variables, *others]


def graph_of(
    body: keras.Model, *, taps: Sequence[str] | None, classes: int, trains_normalisation: bool
) -> tuple[Graph, list[np.ndarray]]:
    """A functional model as a `Graph`.

    Args:
        body: from raw images, (height, width, channels) uint8, to one row of numbers per image; no model inside it.
        taps: names of layers to take features from; None chooses (`find_taps`).
        classes: the number of logits to be put on it.
        trains_normalisation: whether batch normalisation learns its statistics, scales and offsets; otherwise it stays
            as it is, in training as in use.

    Returns:
        The graph, and the body's weights: how many of them are trainable, `Graph.body` tells.

    Raises:
        UserError: if there is no layer of such a name.
    """
    from transfer.networks.backend import keras

    config = _settled(body, trains_normalisation)
    built = keras.Model.from_config(json.loads(config))
    fresh = [np.asarray(weight) for weight in built.trainable_variables]
    constants = [float(value.flat[0]) if value.ndim == 1 and np.ptp(value) == 0 else 0.0 for value in fresh]
    for layer in built.layers:
        if layer.weights:
            layer.set_weights(body.get_layer(layer.name).get_weights())
    found, tap = find_taps(built)
    if taps is not None:
        found = _named_taps(built, taps)
        tap = tap if tap in found else found[-1]
    graph = Graph(
        config=config,
        shape=tuple(built.inputs[0].shape[1:]),
        taps=tuple(found),
        tap=tap,
        width=built.output.shape[-1],
        classes=classes,
        body=tuple(value.shape for value in fresh),
        constants=tuple(constants),
    )
    return graph, [np.asarray(weight) for weight in variables(built)]


def _settled(body: keras.Model, trains_normalisation: bool) -> str:
    """A model's configuration as it is kept: everything trains in float32 but what is to stay."""
    config = json.loads(json.dumps(body.get_config()))
    config |= {"name": "body", "trainable": True}
    for layer in _objects(config["layers"]):
        content = layer["config"]
        kept = str(content.get("name", "")).startswith(FIXED)
        if "trainable" in content:
            content |= {"trainable": not kept, "dtype": "float32"}
        if layer["class_name"] == "BatchNormalization":
            content |= {"trainable": trains_normalisation} | ({"momentum": MOMENTUM} if trains_normalisation else {})
        if layer["class_name"] == "Normalization" and not content.get("mean"):
            mean, variance = (np.asarray(value).ravel() for value in body.get_layer(content["name"]).get_weights()[:2])
            content |= {"mean": mean.tolist(), "variance": variance.tolist()}
    return json.dumps(config, sort_keys=True)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every layer of a configuration, those inside others too, and whatever else has a class and a configuration."""
    if isinstance(value, list):
        for part in value:
            yield from _objects(part)
    if isinstance(value, dict):
        if "class_name" in value and isinstance(value.get("config"), dict):
            yield value
        for part in value.values():
            yield from _objects(part)


def find_taps(body: keras.Model) -> tuple[list[str], str]:
    """The layers that features are worth being taken from, and the one to take where none is asked for.

    These are the last layer before every halving of the resolution, what is pooled, and the dense layers, each with its
    activation; the last is what the logits are made of. Layers on only one of several parallel paths do not count, nor
    those that come before anything that was learnt, nor, but for the last, those wider than `WIDEST`.

    Returns:
        At most `MOST` names, from the image on; and that of the last map before the first dense layer, pooled if the
        model goes on from there with what is pooled, or the first that is narrow enough after it.
    """
    line = [layer for layer in trunk(body) if type(layer).__name__ not in PASSES_ON]
    learnt = next((place for place, layer in enumerate(line) if _learns(layer)), 0)
    line = line[learnt:] or [body.layers[-1]]
    ends = [place for place in range(len(line) - 1) if _ends_a_part(line[place], line[place + 1])]
    narrow = [place for place in ends if _width(line[place]) <= WIDEST]
    places = [*narrow, len(line) - 1][-MOST:]
    dense = next((place for place, layer in enumerate(line) if _is_dense(layer)), len(line))
    first = next((place for place in places if place >= dense - 1), places[-1])
    return [line[place].name for place in places], line[first].name


def _learns(layer: keras.Layer) -> bool:
    return bool(layer.weights) and type(layer).__name__ != "Normalization" and not layer.name.startswith(FIXED)


def _ends_a_part(layer: keras.Layer, following: keras.Layer) -> bool:
    """Whether a layer is the last before the resolution falls by half, or before a dense layer."""
    here, there = layer.output.shape, following.output.shape
    if len(here) == 4 and len(there) == 4:
        return prod(there[1:3]) <= 0.6 * prod(here[1:3])  # not 0.5: what is odd is rounded up
    return len(here) == 4 or _is_dense(following)


def _is_dense(layer: keras.Layer) -> bool:
    return type(layer).__name__ == "Dense" and len(layer.output.shape) == 2


def _width(layer: keras.Layer) -> int:
    return prod(layer.output.shape[1:])


def trunk(model: keras.Model) -> list[keras.Layer]:
    """The layers that every path from the image to the end goes through, in order, each called once."""
    config = model.get_config()["layers"]  # in an order in which they can be computed
    places = {layer["name"]: place for place, layer in enumerate(config)}
    alone = [True] * len(config)
    for place, layer in enumerate(config):
        sources = [places[name] for name in _sources(layer.get("inbound_nodes", []))]
        if len(layer.get("inbound_nodes", [])) > 1:
            alone[place] = False
        for source in sources:  # what stands between the ends of a connection has another path beside it
            low, high = sorted((source, place))
            alone[low + 1 : high] = [False] * (high - low - 1)
    known = {layer.name: layer for layer in model.layers}
    names = [layer["name"] for layer, only in zip(config, alone, strict=True) if only and layer["name"] in known]
    return [known[name] for name in names if not isinstance(known[name].output, list | tuple | dict)]


def _sources(value: Any) -> Iterator[str]:
    """Names of the layers that the arguments of a call come from."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]["keras_history"][0]
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _sources(part)


def _named_taps(body: keras.Model, wanted: Sequence[str]) -> list[str]:
    """The same names in the order of the layers; raises a `UserError` for one that is none."""
    known = [layer.name for layer in body.layers[1:]]
    for name in wanted:
        if name not in known:
            shown = ", ".join(known[-40:])
            raise UserError(f"source.taps names {name!r}, which is no layer of the source model: its last are {shown}")
    return [name for name in known if name in wanted]
