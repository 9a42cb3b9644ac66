"""Take a Keras model over as the source model: without its head, from raw pixels, as one functional model.

Its head is cut off, what it needs done to raw pixels is put before it, and models inside it are laid open. Nothing is
trained, and nothing in the file is executed.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer.console import UserError, one_line
from transfer.models.backend import keras
from transfer.models.layers import FIXED, choose_layers, trunk
from transfer.models.manifest import Manifest
from transfer.models.model_file import AUTO, Params, Scale, image_shape, manifest_of, scale_of
from transfer.models.networks import with_head

MOMENTUM = 0.9  # of batch statistics in training from scratch: Keras's 0.99 needs more steps than few labels give
WIDTHS: dict[str, tuple[float, ...]] = {  # of networks that come in several, `alpha`
    "MobileNet": (1.0, 0.75, 0.5, 0.25),
    "MobileNetV2": (1.0, 1.4, 1.3, 0.75, 0.5, 0.35),
    "MobileNetV3Large": (1.0, 0.75),
    "MobileNetV3Small": (1.0, 0.75),
}
OURS = {  # names of layers that come before or after the model's own
    *("image", "float_image", "flat", "pixels", "pooled", "logits", "probabilities", "softmax", "head", "standardise"),
    *("unit_length", "unit_mean_square", "source_probabilities", "target_logits"),
}
AFTER_A_HEAD = {"Activation", "Dropout", "Flatten", "GlobalAveragePooling2D", "Reshape", "Softmax"}
OF_A_HEAD = {"linear", "sigmoid", "softmax"}  # activations


@dataclass(frozen=True)
class Pretrained:
    """A model that was taken over.

    Attributes:
        model: its body under its own head, `logits`, if it has one; batch normalisation stays as it is.
        fresh: the body alone, to be trained from random weights; batch normalisation learns.
        layers: the layers that features can be taken from, from the image on.
        layer: the one of these that is taken where none is asked for.
        head: the name of the layer that was taken for its head, if any.
    """

    model: keras.Model
    fresh: keras.Model
    layers: list[str]
    layer: str
    head: str | None

    @property
    def classes(self) -> int:
        """How many classes its head tells apart; 0 without one."""
        return 0 if self.head is None else self.model.output.shape[-1]


def load_pretrained(params: Params, shape: tuple[int, ...]) -> Pretrained:
    """Take a model over.

    Args:
        params: the `source` section, which names it.
        shape: of the images that it is to take, (height, width, channels).

    Raises:
        UserError: if the file is no model that can be taken over, or takes other images; says why.
    """
    path, manifest = params.file, manifest_of(params)
    assert path is not None
    assert manifest is not None
    takes = image_shape(params) or ()
    for side, wanted in zip(shape, takes, strict=True):
        if wanted not in (None, side):
            shown, are = ("×".join(str(side or "any") for side in sides) for sides in (takes, shape))
            raise UserError(
                f"{path} takes images of {shown}, but they are {are}: set data.size and data.colour to auto"
            )
    model = _load(path, params, manifest, shape)
    _check_weights(model, path)
    try:
        image = keras.Input(shape, dtype="uint8", name="image")
        x = image
        for layer in _preprocessing(scale_of(params, manifest)):
            x = layer(x)
        if len(model.inputs[0].shape) == 3:
            x = keras.layers.Reshape(shape[:2], name="pixels")(x)
        whole = keras.Model(image, _Opened().called(model, x))
        features, head = _cut(whole)
        body = keras.Model(image, _row(features))
    except UserError:
        raise
    except Exception as error:  # Keras raises whatever the part that failed raises
        raise UserError(f"{path} cannot be taken over ({one_line(error)}): try it as one functional model") from None
    taken = _settled(body, trains_normalisation=False)
    layers, layer = choose_layers(taken, None if params.layers == AUTO else params.layers)
    if head is not None:
        kernel, bias = _as_logits(head)
        logits = keras.layers.Dense(len(bias), name="logits")
        taken = with_head(taken, logits, name="source")
        logits.set_weights([kernel, bias])
    return Pretrained(
        taken, _settled(body, trains_normalisation=True), layers, layer, None if head is None else head.name
    )


def _settled(body: keras.Model, *, trains_normalisation: bool) -> keras.Model:
    """A copy of a model as it is kept: everything trains in float32 but what is to stay.

    Args:
        body: from raw images, (height, width, channels) uint8, to one row of numbers per image; no model inside it.
        trains_normalisation: whether batch normalisation learns its statistics, scales and offsets, from the beginning;
            otherwise it stays as it is, in training as in use.
    """
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
    copy = keras.Model.from_config(config)
    for layer in () if trains_normalisation else [layer for layer in copy.layers if layer.weights]:
        layer.set_weights(body.get_layer(layer.name).get_weights())
    return copy


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


def _check_weights(model: keras.Model, path: Path) -> None:
    """Refuse weights that are no numbers, such as a training that diverged leaves: layers behind them may hide it."""
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if not np.isfinite(value).all():
            raise UserError(
                f"{path}: {weight.path} holds NaN or infinity: name a model whose training has come to numbers"
            )
        if weight.name.endswith("variance") and value.min() < 0:
            raise UserError(f"{path}: {weight.path} is negative, which no variance is: name another model")


def _preprocessing(scale: Scale) -> list[keras.layers.Layer]:
    """The layers that bring raw uint8 images to what a model was trained on; the first makes them float32.

    Those of `caffe` and `torch` are what `keras.applications.imagenet_utils.preprocess_input` does in these modes.
    """
    layers = keras.layers
    factor, offset = {"0-1": (1 / 255, 0.0), "-1-1": (1 / 127.5, -1.0), "torch": (1 / 255, 0.0)}.get(scale, (1.0, 0.0))
    first = layers.Rescaling(factor, offset, name="float_image")
    if scale == "torch":
        variance = [0.229**2, 0.224**2, 0.225**2]
        return [
            first,
            layers.Normalization(mean=[0.485, 0.456, 0.406], variance=variance, name=f"{FIXED}normalization"),
        ]
    if scale == "caffe":
        turned = keras.initializers.Constant(np.eye(3)[::-1][None, None].tolist())  # RGB to BGR
        turn = layers.Conv2D(3, 1, use_bias=False, kernel_initializer=turned, name=f"{FIXED}bgr")
        mean = layers.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0] * 3, name=f"{FIXED}normalization")
        return [first, turn, mean]
    return [first]


def _load(path: Path, params: Params, manifest: Manifest, shape: tuple[int, ...]) -> keras.Model:
    if manifest.weights_only:
        return _application(path, params.network, manifest, shape)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the part that failed raises
        raise UserError(f"{path} cannot be loaded by this Keras ({one_line(error)}): save it again with it") from None
    if not isinstance(model, keras.Sequential) and type(model).__name__ != "Functional":
        raise UserError(f"{path} is a {type(model).__name__}: only sequential and functional models can be taken over")
    if not model.built or len(model.outputs) != 1:
        raise UserError(f"{path} has no single output that is known before it is run: save it with an Input layer")
    return model


def _application(path: Path, network: str, manifest: Manifest, shape: tuple[int, ...]) -> keras.Model:
    """A network of keras.applications with the weights of a file, in the form whose weights have such shapes."""
    held = Counter(manifest.shapes)
    for width in WIDTHS.get(network, (None,)):
        for top in (False, True):
            keras.utils.clear_session()  # so that names of layers do not count the forms before
            options = {} if width is None else {"alpha": width}
            try:
                build = getattr(keras.applications, network)
                model = build(weights=None, include_top=top, input_shape=shape, **options)
            except ValueError as error:
                raise UserError(f"{network} cannot take images of {shape} ({one_line(error)}): set data.size") from None
            shapes = Counter(tuple(weight.shape) for weight in model.weights)
            if shapes == held:
                with warnings.catch_warnings(action="ignore"):  # of parts that have no weights
                    model.load_weights(path)
                return model
            if shapes - held:
                break  # with a head it would have more
    raise UserError(f"{path} does not hold the weights of {network}: set source.network to what they are of")


class _Opened:
    """Calls the layers of models one by one, so that models inside them are laid open.

    Every layer is copied, under its own name where that is free, so that the models stay as they are.
    """

    def __init__(self) -> None:
        self._copies: dict[int, tuple[keras.Layer, keras.Layer]] = {}
        self._taken = set(OURS)

    def called(self, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        """What a model gives for a symbolic tensor, all weights in place."""
        output = self._call(model, *args, **kwargs)
        for original, copy in self._copies.values():
            if getattr(original, "weights", None):  # arithmetic has none
                copy.set_weights(original.get_weights())
        return output

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Sequential):
            (x,) = args
            for inner in layer.layers:
                x = self._call(inner, x)
            return x
        if isinstance(layer, keras.Model):
            return self._call_inside(layer, args[0])
        return self._copy(layer)(*args, **kwargs)

    def _call_inside(self, model: keras.Model, x: Any) -> Any:
        """What the layers of a functional model give, which `clone_model` calls in order to make a model again."""
        made: dict[str, Any] = {}

        def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
            made[layer.name] = self._call(layer, *args, **kwargs)
            return made[layer.name]

        keras.models.clone_model(model, x, clone_function=lambda layer: layer, call_function=call)
        last = np.ravel(model.get_config()["output_layers"])[0]
        return made[str(last)]

    def _copy(self, layer: keras.Layer) -> keras.Layer:
        if id(layer) not in self._copies:
            config = layer.get_config() | {"name": self._free(layer.name)}
            self._copies[id(layer)] = (layer, type(layer).from_config(config))
        return self._copies[id(layer)][1]

    def _free(self, name: str) -> str:
        """A name that no other layer has, and that can be a file's."""
        plain = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name)
        plain = f"source_{plain}" if plain in OURS or plain.startswith(FIXED) else plain
        number, free = 1, plain
        while free in self._taken:
            number, free = number + 1, f"{plain}_{number}"
        self._taken.add(free)
        return free


def _cut(model: keras.Model) -> tuple[keras.KerasTensor, keras.Layer | None]:
    """What the head of a model takes, and the head; what the model gives, and None, where it has none.

    A head is the last layer with weights, if it is a dense layer, or a 1×1 convolution, that gives logits or
    probabilities, and if nothing but their activation, pooling and shape follows.
    """
    line = trunk(model)
    after = []
    while line and type(line[-1]).__name__ in AFTER_A_HEAD and not line[-1].weights:
        after.append(line.pop())
    follows = {layer.get_config().get("activation", "linear") for layer in after}
    last: Any = line[-1] if line else None
    kind = type(last).__name__
    single = kind == "Conv2D" and last.kernel_size == last.strides == (1, 1) and last.groups == 1
    if last is None or not (kind == "Dense" or single):
        return model.output, None
    activation = last.get_config()["activation"]
    pooled_late = single and any(type(layer).__name__ == "GlobalAveragePooling2D" for layer in after)
    whole_map = single and not pooled_late and last.output.shape[1:3] != (1, 1)
    bent = pooled_late and activation != "linear"  # the mean of what is bent is not what is made of the mean
    if {activation, *follows} - OF_A_HEAD or whole_map or bent or (kind == "Dense" and len(last.output.shape) != 2):
        return model.output, None
    return last.input, last


def _row(features: keras.KerasTensor) -> keras.KerasTensor:
    """One row of numbers per image: the mean of a map, or of a sequence."""
    if len(features.shape) == 4 and features.shape[1:3] != (1, 1):
        return keras.layers.GlobalAveragePooling2D(name="pooled")(features)
    if len(features.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(name="pooled")(features)
    return features if len(features.shape) == 2 else keras.layers.Flatten(name="flat")(features)


def _as_logits(head: keras.Layer) -> Sequence[np.ndarray]:
    """Kernel, (width, classes), and bias, (classes,), of a head; a single number becomes the logits of no and yes."""
    kernel, *bias = (weight.astype(np.float32) for weight in head.get_weights())
    kernel = kernel.reshape(-1, kernel.shape[-1])
    parts = [kernel, bias[0] if bias else np.zeros(kernel.shape[1], np.float32)]
    return [np.concatenate([np.zeros_like(part), part], axis=-1) for part in parts] if kernel.shape[1] == 1 else parts
