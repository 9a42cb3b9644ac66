"""The head of somebody's own model: where it begins, and its logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transfer.console import UserError
from transfer.models.backend import keras
from transfer.models.layers import FLOAT_IMAGE, activation_of, trunk
from transfer.models.model_file import AUTO

POOLING = "GlobalAveragePooling2D"
AFTER_A_HEAD = {"Activation", "Dropout", "Flatten", POOLING, "ReLU", "Reshape", "Softmax"}
Head = tuple[keras.KerasTensor, str | None, keras.layers.Layer | None]  # what it takes, first layer, layer of logits


def find_head(model: keras.Model, wanted: str, path: Path) -> Head:
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
    line = [layer for layer in trunk(model) if layer.name != FLOAT_IMAGE]
    names = [layer.name for layer in line[1:]]
    end = len(line) - 1
    while end > 0 and type(line[end]).__name__ in AFTER_A_HEAD:
        end -= 1
    tail = line[end:]
    pooled = next((place for place, layer in enumerate(tail) if type(layer).__name__ == POOLING), 0)
    activations = [activation_of(layer) for layer in tail]
    nonlinear = not {*activations[:pooled]} <= {"linear"}  # then the mean comes after, not before
    only_probabilities = {*activations} <= {"linear", "sigmoid", "softmax"}
    softmax = [name for name in activations if name != "linear"][-1:] == ["softmax"]
    classifies = _is_classifier(tail[0], pooled=pooled > 0) and (only_probabilities or softmax)
    logits = tail[0] if classifies and only_probabilities and not nonlinear and _is_linear_map(tail[0]) else None
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
    if softmax:
        raise UserError(
            f"{path} ends in a softmax, but its head is not clear: set source.head to the first layer that is to be "
            f"removed, such as one of {', '.join(names[-8:])}; source.layers names feature layers"
        )
    return model.output, None, None


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


def as_logits(head: keras.layers.Layer) -> Sequence[np.ndarray]:
    """Kernel, (width, classes), and bias, (classes,), of a head; a single number becomes the logits of no and yes."""
    kernel, *bias = (weight.astype(np.float32) for weight in head.get_weights())
    kernel = kernel.reshape(-1, kernel.shape[-1])
    parts = [kernel, bias[0] if bias else np.zeros(kernel.shape[1], np.float32)]
    return [np.concatenate([np.zeros_like(part), part], axis=-1) for part in parts] if kernel.shape[1] == 1 else parts
