"""Take a Keras model over as the source model: without its head, from raw pixels, as one functional model.

Its head is cut off, what it needs done to raw pixels is put before it, and models inside it are laid open. Nothing is
trained, and nothing in the file is executed.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer.console import UserError, one_line
from transfer.models.backend import keras
from transfer.models.layers import choose_layers, trunk
from transfer.models.model_file import AUTO, Params, Scale, scale_of, told
from transfer.models.networks import with_head

MOMENTUM = 0.9  # of batch statistics in training from scratch: Keras's 0.99 needs more steps than few labels give
OURS = {  # names of layers that come before or after the model's own
    *("image", "float_image", "flat", "pixels", "pooled", "logits", "probabilities", "head", "standardise"),
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
AFTER_A_HEAD = {"Activation", "Dropout", "Flatten", "GlobalAveragePooling2D", "ReLU", "Reshape", "Softmax"}


@dataclass(frozen=True)
class Pretrained:
    """A model that was taken over.

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
        return self.model.output.shape[-1] if self.model.layers[-1].name == "logits" else 0


def load_pretrained(params: Params, shape: tuple[int, ...]) -> Pretrained:
    """Take a model over.

    Args:
        params: the `source` section, which names it.
        shape: of the images that it is to take, (height, width, channels).

    Raises:
        UserError: if the file is no model that can be taken over, or takes other images; says why.
    """
    path, file = params.file, told(params)
    assert path is not None
    assert file is not None
    scale = scale_of(params, file)
    keras.utils.clear_session()  # so that names of layers count from the beginning
    model = _application(path, params.network, shape) if file.input_shape is None else _load(path)
    renamed = _rename(model, set(OURS))
    try:
        whole = _settled(_flat(model, shape, scale), trains_normalisation=False)
    except Exception as error:  # Keras raises whatever the part that failed raises
        raise UserError(f"{path} cannot be loaded ({one_line(error)}): save it as one functional model") from None
    features, first, logits = _find_head(whole, renamed.get(params.head, params.head), path)
    body = keras.Model(whole.inputs[0], _row(features), name="body")
    fresh = _settled(body, trains_normalisation=True)
    layers, layer = choose_layers(body, None if params.layers == AUTO else params.layers)
    if logits is not None:
        kernel, bias = _as_logits(logits)
        head = keras.layers.Dense(len(bias), name="logits")
        body = with_head(body, head, name="source")
        head.set_weights([kernel, bias])
    return Pretrained(body, fresh, layers, layer, first)


def _load(path: Path) -> keras.Model:
    """The model of a file that has its configuration."""
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the part that failed raises
        raise UserError(f"{path} cannot be loaded by this Keras ({one_line(error)}): save it again with it") from None
    if not isinstance(model, keras.Sequential) and type(model).__name__ != "Functional":
        raise UserError(f"{path} is a {type(model).__name__}: only sequential and functional models can be taken over")
    if not model.built or len(model.outputs) != 1:
        raise UserError(f"{path} has no single output of a known shape: save it with one output and an Input layer")
    return model


def _application(path: Path, network: str, shape: tuple[int, ...]) -> keras.Model:
    """A network of keras.applications with the weights of a file, which are with its head or without."""
    for top in (True, False):
        keras.utils.clear_session()  # so that names of layers do not count the other form
        try:
            model = getattr(keras.applications, network)(weights=None, include_top=top, input_shape=shape)
        except ValueError as error:
            raise UserError(f"{network} cannot take images of {shape} ({one_line(error)}): set data.pixels") from None
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            model.load_weights(path)  # raises a dozen types for weights of another form
            return model
    raise UserError(
        f"{path} does not hold the weights of {network} in its usual form: set source.network to what they are of, or "
        "save the whole model"
    )


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
    return keras.layers.Rescaling(*RESCALING[scale], name="float_image")(image)


def _settled(model: keras.Model, *, trains_normalisation: bool) -> keras.Model:
    """A copy of a model as it is kept: everything trains, in float32.

    Args:
        model: with no model inside it.
        trains_normalisation: whether the copy is to be trained from the beginning: then batch normalisation learns, and
            no weights are copied. Otherwise batch normalisation stays as it is, in training as in use.
    """
    copies = []

    def copy(layer: Any) -> Any:
        settings: dict[str, Any] = {"trainable": True, "dtype": "float32"}
        if isinstance(layer, keras.layers.BatchNormalization):
            settings |= {"momentum": MOMENTUM} if trains_normalisation else {"trainable": False}
        if isinstance(layer, keras.layers.Normalization) and layer.weights:  # statistics that `adapt` has found
            mean, variance = (value.ravel().tolist() for value in layer.get_weights()[:2])
            settings |= {"mean": mean, "variance": variance}
        config = layer.get_config()
        copied = type(layer).from_config(config | {key: value for key, value in settings.items() if key in config})
        copies.append((layer, copied))
        return copied

    settled = keras.models.clone_model(model, clone_function=copy, call_function=_open)
    for layer, copied in [] if trains_normalisation else copies:
        if getattr(copied, "weights", None):  # operations have none
            copied.set_weights(layer.get_weights())
    return settled


Head = tuple[keras.KerasTensor, str | None, keras.layers.Layer | None]  # what it takes, first layer, layer of logits


def _find_head(model: keras.Model, wanted: str, path: Path) -> Head:
    """Find what the head of a model takes, the name of its first layer, and that layer if it alone makes the logits.

    A head begins with the last layer that has weights, if that is a dense layer, or a convolution that is averaged or
    has one pixel, and if nothing but activations, pooling and shape follows, up to logits or probabilities.

    Args:
        model: with no model inside it.
        wanted: the name of the first layer; `auto` looks for it.
        path: of the model's file.

    Raises:
        UserError: if there is no such layer, or if the model ends in a softmax that no such layer leads to.
    """
    line = trunk(model)
    names = [layer.name for layer in line[1:]]
    end = len(line) - 1
    while end > 0 and type(line[end]).__name__ in AFTER_A_HEAD:
        end -= 1
    tail = line[end:]
    activations = [name for layer in tail if (name := _activation(layer)) != "linear"]
    pooled = next((place for place, layer in enumerate(tail) if _is_pooling(layer)), 0)
    bent = any(_activation(layer) != "linear" for layer in tail[:pooled])  # then the mean comes after, not before
    probable = set(activations) <= {"sigmoid", "softmax"}
    classifies = _is_classifier(tail[0], pooled=pooled > 0) and (probable or activations[-1:] == ["softmax"])
    logits = tail[0] if classifies and probable and not bent and _is_linear_map(tail[0]) else None
    if wanted != AUTO:
        if wanted not in names or isinstance(line[names.index(wanted) + 1].input, list):
            shown = ", ".join(names[-20:])
            raise UserError(
                f"source.head is {wanted!r}, where no head of {path} can begin: its last layers are {shown}"
            )
        first = line[names.index(wanted) + 1]
        return first.input, wanted, logits if first is logits else None
    if classifies:
        return tail[0].input, tail[0].name, logits
    if activations[-1:] == ["softmax"]:
        raise UserError(
            f"{path} ends in a softmax, but its head is not clear: set source.head to the first layer that is to be "
            f"removed, such as one of {', '.join(names[-8:])}; source.layers names feature layers"
        )
    return model.output, None, None


def _activation(layer: keras.layers.Layer) -> str:
    kind = type(layer).__name__
    return kind.lower() if kind in ("ReLU", "Softmax") else str(layer.get_config().get("activation", "linear"))


def _is_pooling(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.GlobalAveragePooling2D)


def _is_classifier(layer: keras.layers.Layer, *, pooled: bool) -> bool:
    """Whether a layer can make one number per class: a dense layer, or a convolution averaged or of one pixel."""
    if isinstance(layer, keras.layers.Conv2D):
        return pooled or layer.output.shape[1:3] == (1, 1)
    return isinstance(layer, keras.layers.Dense) and len(layer.output.shape) == 2


def _is_linear_map(layer: keras.layers.Layer) -> bool:
    """Whether a head is a matrix: a dense layer, or a 1×1 convolution."""
    if isinstance(layer, keras.layers.Conv2D):
        return layer.kernel_size == layer.strides == (1, 1) and layer.groups == 1
    return True


def _row(features: keras.KerasTensor) -> keras.KerasTensor:
    """One row of numbers per image: the mean of a map, or of a sequence."""
    if len(features.shape) == 4 and features.shape[1:3] != (1, 1):
        return keras.layers.GlobalAveragePooling2D(name="pooled")(features)
    if len(features.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(name="pooled")(features)
    return features if len(features.shape) == 2 else keras.layers.Flatten(name="flat")(features)


def _as_logits(head: keras.layers.Layer) -> Sequence[np.ndarray]:
    """Kernel, (width, classes), and bias, (classes,), of a head; a single number becomes the logits of no and yes."""
    kernel, *bias = (weight.astype(np.float32) for weight in head.get_weights())
    kernel = kernel.reshape(-1, kernel.shape[-1])
    parts = [kernel, bias[0] if bias else np.zeros(kernel.shape[1], np.float32)]
    return [np.concatenate([np.zeros_like(part), part], axis=-1) for part in parts] if kernel.shape[1] == 1 else parts
