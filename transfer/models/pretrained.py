"""Load a Keras model as the source model: without its head, from raw pixels, as one functional model.

Its head is cut off, what it needs done to raw pixels is put before it, and models inside it are laid open. Nothing is
trained, and nothing in the file is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from transfer.console import UserError
from transfer.models.backend import keras
from transfer.models.heads import as_logits, find_head
from transfer.models.layers import FLOAT_IMAGE, choose_layers
from transfer.models.legacy import Scale
from transfer.models.loading import load_given, whole_cause
from transfer.models.model_file import AUTO, Params, read_source_file, scale_of
from transfer.models.networks import has_logits, with_head

MOMENTUM = 0.9  # of batch statistics in training from scratch: Keras's 0.99 needs more steps than few labels give
OURS = {  # names of layers that come before or after the model's own
    *("image", FLOAT_IMAGE, "flat", "pixels", "pooled", "logits", "probabilities", "head", "standardise"),
    *("unit_length", "unit_mean_square"),
}
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet, from 0 to 1
RESCALING: dict[Scale, tuple[Any, Any]] = {  # factor and offset
    **dict.fromkeys(("0-255", "inside"), (1.0, 0.0)),
    "0-1": (1 / 255, 0.0),
    "-1-1": (1 / 127.5, -1.0),
    "caffe": ([1.0, 1.0, 1.0], [-103.939, -116.779, -123.68]),
    "torch": ((1 / 255 / DEVIATION).tolist(), (-MEAN / DEVIATION).tolist()),
}
SMALL = dict(zip(("scale", "offset"), RESCALING["-1-1"], strict=True))  # what random weights can learn from


@dataclass(frozen=True)
class Pretrained:
    """A model, loaded as the source model.

    Attributes:
        model: its body under its head, `logits`, if that is one linear layer; batch normalisation stays as it is.
        fresh: the body alone, to be trained from random weights; batch normalisation learns.
        layers: the layers that features can be taken from, from the image on.
        layer: the one of these that is taken where none is asked for.
        head: the name of the layer that the head begins with, if there is one.
    """

    model: keras.Model
    fresh: keras.Model
    layers: list[str]
    layer: str
    head: str | None

    @property
    def classes(self) -> int:
        """How many classes the model tells apart; 0 without logits."""
        return self.model.output.shape[-1] if has_logits(self.model) else 0


def load_pretrained(params: Params, shape: tuple[int, ...]) -> Pretrained:
    """Load a model as the source model.

    Args:
        params: the `source` section, which names it.
        shape: of the images that it is to take, (height, width, channels).

    Raises:
        UserError: if the file is no model that can be the source model, or takes other images; says why.
    """
    path, file = params.file, read_source_file(params)
    assert path is not None
    assert file is not None
    scale = scale_of(params, file)
    model = load_given(params, file, shape)
    renamed = _rename(model, set(OURS))
    try:
        whole = _settled(_flat(model, shape, scale))
    except Exception as error:  # Keras raises whatever the part that failed raises
        raise UserError(
            f"{path} cannot be used as the source model: {whole_cause(error)}: save it as one functional model"
        ) from None
    features, first, logits = find_head(whole, renamed.get(params.head, params.head), path)
    body = keras.Model(whole.inputs[0], _row(features), name="body")
    fresh = _settled(body, fresh=True, first=SMALL if scale in ("0-255", "caffe") else {})
    layers, layer = choose_layers(body, None if params.layers == AUTO else params.layers)
    if logits is not None:
        kernel, bias = as_logits(logits)
        head = keras.layers.Dense(len(bias), name="logits")
        body = with_head(body, head, name="source")
        head.set_weights([kernel, bias])
    return Pretrained(body, fresh, layers, layer, first)


def _flat(model: keras.Model, shape: tuple[int, ...], scale: Scale) -> keras.Model:
    """From raw uint8 images to what a model gives; the layers of models inside it are called one by one."""
    image = keras.Input(shape, dtype="uint8", name="image")
    x = _prepared(image, scale)
    if len(model.inputs[0].shape) == 3:
        x = keras.layers.Reshape(shape[:2], name="pixels")(x)
    flat = keras.Model(image, model(x))
    while any(isinstance(layer, keras.Model) for layer in flat.layers):
        flat = keras.models.clone_model(flat, clone_function=lambda layer: layer, call_function=_open)
    return flat


def _open(layer: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
    """What a layer gives; of a model, what its own layers do."""
    if type(layer).__name__ == "ConvertToTensor":  # which `call` of a model puts before its layers
        return args[0]
    return layer.call(args[0]) if isinstance(layer, keras.Model) else layer(*args, **kwargs)


def _rename(model: keras.Model, taken: set[str]) -> dict[str, str]:
    """Give every layer, of models inside too, a name that no other has; returns the first new name of each old one."""
    renamed: dict[str, str] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            renamed = _rename(layer, taken) | renamed
            continue
        old, number = layer.name, 1
        while layer.name in taken:
            layer.name, number = f"{old}_{number}", number + 1
        taken.add(layer.name)
        renamed.setdefault(old, layer.name)
    return renamed


def _prepared(image: keras.KerasTensor, scale: Scale) -> keras.KerasTensor:
    """Raw images, brought to what a model was trained on, float32.

    `caffe` and `torch` are what `keras.applications.imagenet_utils.preprocess_input` does in these modes.
    """
    if scale == "caffe":
        image = keras.ops.flip(image, axis=-1)  # RGB to BGR
    return keras.layers.Rescaling(*RESCALING[scale], name=FLOAT_IMAGE)(image)


def _settled(model: keras.Model, *, fresh: bool = False, first: Mapping[str, Any] | None = None) -> keras.Model:
    """A copy of a model as it is kept: everything trains, in float32.

    Args:
        model: with no model inside it.
        fresh: whether the copy is to be trained from the beginning: then batch normalisation learns, and no weights are
            copied. Otherwise batch normalisation stays as it is, in training as in use.
        first: settings of the layer that raw pixels come to, if others than its own.
    """
    copies = []

    def copy(layer: Any) -> Any:
        settings: dict[str, Any] = {"trainable": True, "dtype": "float32"}
        if isinstance(layer, keras.layers.BatchNormalization):
            settings |= {"momentum": MOMENTUM} if fresh else {"trainable": False}
        if isinstance(layer, keras.layers.Normalization) and layer.weights:  # statistics that `adapt` has found
            mean, variance = (value.ravel().tolist() for value in layer.get_weights()[:2])
            settings |= {"mean": mean, "variance": variance}
        if layer.name == FLOAT_IMAGE:
            settings |= first or {}
        config = layer.get_config()
        copied = type(layer).from_config(config | {key: value for key, value in settings.items() if key in config})
        copies.append((layer, copied))
        return copied

    settled = keras.models.clone_model(model, clone_function=copy, call_function=_open)
    for layer, copied in [] if fresh else copies:
        if getattr(copied, "weights", None):  # operations have none
            copied.set_weights(layer.get_weights())
    return settled


def _row(features: keras.KerasTensor) -> keras.KerasTensor:
    """One row of numbers per image: the mean of a map, or of a sequence."""
    if len(features.shape) == 4 and features.shape[1:3] != (1, 1):
        return keras.layers.GlobalAveragePooling2D(name="pooled")(features)
    if len(features.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(name="pooled")(features)
    return features if len(features.shape) == 2 else keras.layers.Flatten(name="flat")(features)
