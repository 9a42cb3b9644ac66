"""The layers of somebody's own source model that features can be taken from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from transfer.console import UserError
from transfer.models.backend import keras

WIDEST = 20_000  # numbers per image of a layer that is taken without being asked for
MOST = 8  # layers that are taken without being asked for
FLOAT_IMAGE = "float_image"  # the layer of ours that pixels are scaled by, before the model's own
PASSES_ON = {  # no features are taken from these: they give what they take, in another shape or with something left out
    *("AlphaDropout", "Cropping2D", "Dropout", "Flatten", "GaussianDropout", "GaussianNoise", "Identity"),
    *("InputLayer", "Permute", "Reshape", "SpatialDropout2D", "ZeroPadding2D"),
}


def choose_layers(body: keras.Model, wanted: Sequence[str] | None) -> tuple[list[str], str]:
    """The layers of a model, and the one to take where none is asked for.

    Args:
        body: from the image to one row of numbers per image; no model inside it.
        wanted: names of layers; None chooses (`find_layers`).

    Raises:
        UserError: if there is no layer of such a name.
    """
    found, layer = find_layers(body)
    if wanted is None:
        return found, layer
    known = nameable(body)
    if missing := [name for name in wanted if name not in known]:
        last = ", ".join(known[-40:])
        raise UserError(
            f"source.layers names {missing[0]!r}, which is no layer of the source model that gives features: its last "
            f"are {last}"
        )
    chosen = [name for name in known if name in wanted]
    return chosen, layer if layer in chosen else chosen[-1]


def nameable(body: keras.Model) -> list[str]:
    """The layers that features can be taken from by name: all but pixels, and a softmax, which gives probabilities."""
    return [layer.name for layer in body.layers[1:] if layer.name != FLOAT_IMAGE and activation_of(layer) != "softmax"]


def find_layers(body: keras.Model) -> tuple[list[str], str]:
    """The layers that features are worth being taken from, and the one to take where none is asked for.

    These are the last layer before every halving of the resolution, what is pooled, and the dense layers, each with its
    activation; the last is what the logits are made of. Left out: layers on only one of several parallel paths; layers
    before the first one with weights; softmax; and, except for the last, layers wider than `WIDEST`.

    Returns:
        At most `MOST` names, from the image on; and that of the last map before the first dense layer, pooled if the
        model goes on from there with what is pooled, or the first that is narrow enough after it.
    """
    named = nameable(body)
    line = [layer for layer in trunk(body) if layer.name in named and type(layer).__name__ not in PASSES_ON]
    learnt = next((place for place, layer in enumerate(line) if layer.weights), 0)
    line = line[learnt:] or [body.layers[-1]]
    ends = [place for place in range(len(line) - 1) if _ends_a_part(line[place], line[place + 1])]
    narrow = [place for place in ends if prod(line[place].output.shape[1:]) <= WIDEST]
    places = [*narrow, len(line) - 1][-MOST:]
    dense = next((place for place, layer in enumerate(line) if _is_dense(layer)), len(line))
    first = next((place for place in places if place >= dense - 1), places[-1])
    return [line[place].name for place in places], line[first].name


def _ends_a_part(layer: keras.Layer, following: keras.Layer) -> bool:
    """Whether a layer is the last before the resolution falls by half, or before a dense layer."""
    here, there = layer.output.shape, following.output.shape
    if len(here) == 4 and len(there) == 4:
        return prod(there[1:3]) <= 0.6 * prod(here[1:3])  # not 0.5: what is odd is rounded up
    return len(here) == 4 or _is_dense(following)


def _is_dense(layer: keras.Layer) -> bool:
    return type(layer).__name__ == "Dense" and len(layer.output.shape) == 2


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


def activation_of(layer: keras.layers.Layer) -> str:
    """The name of what a layer does to its own output, `linear` for nothing."""
    kind = type(layer).__name__
    return kind.lower() if kind in ("ReLU", "Softmax") else str(layer.get_config().get("activation", "linear"))
