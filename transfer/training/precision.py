"""The numbers that networks train in: float32, or bfloat16 with weights, logits and loss in float32.

Mixed precision (Micikevicius et al. 2018) in bfloat16 needs no scaling of the loss. It is faster only where the
hardware multiplies bfloat16 faster than float32: with AVX-512 BF16 of AMD (a step takes 0.7 of its time), Intel's AMX,
or an NVIDIA GPU since Ampere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from transfer.models.backend import keras
from transfer.params import Section

Precision = Literal["float32", "mixed_bfloat16"]


class Params(Section):
    """The `training` section."""

    precision: Precision


@contextmanager
def computing_in(model: keras.Model, precision: Precision) -> Iterator[None]:
    """Have all layers of a functional float32 model but the last compute in a precision, for what is traced inside."""
    layers = [layer for layer in model.layers[:-1] if not isinstance(layer, keras.layers.InputLayer)]
    for layer in layers:
        layer.dtype_policy = precision
    try:
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"
