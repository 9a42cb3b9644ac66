"""The source CNN, as `params.yaml` describes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from transfer.console import UserError
from transfer.models.backend import keras
from transfer.params import Section

Count = Annotated[int, Field(ge=1, le=4096)]


class Block(Section):
    """One convolution block: convolution without padding, max pooling, ReLU."""

    filters: Count
    kernel: Count
    pool: Count


class Params(Section):
    """The `cnn` section: the blocks, then the dense layers, from the image on."""

    blocks: Annotated[tuple[Block, ...], Field(min_length=1, max_length=100), Strict(False)]
    dense: Annotated[tuple[Count, ...], Field(max_length=100), Strict(False)]


def check_fits(params: Params, height: int, width: int) -> None:
    """Check that every block gets enough pixels.

    Raises:
        UserError: naming the block that is left with nothing of the image.
    """
    for number, block in enumerate(params.blocks, 1):
        if min(height, width) - block.kernel + 1 < block.pool:
            raise UserError(
                f"cnn.blocks: block {number} gets {height}×{width} pixels, too few for a kernel of "
                f"{block.kernel} and a pool of {block.pool}: remove it or make them smaller"
            )
        height, width = ((side - block.kernel + 1) // block.pool for side in (height, width))


def feature_layers(params: Params) -> list[str]:
    """The layers that features can be taken from, from the image on; the last block is taken where none is named."""
    blocks = [f"block{number}" for number in range(1, len(params.blocks) + 1)]
    return blocks + [f"dense{number}" for number in range(1, len(params.dense) + 1)]


def build(params: Params, *, image_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The CNN: raw uint8 images in, logits out.

    Pooling comes before ReLU, which gives the same result for a quarter of the work.

    Args:
        params: convolution blocks and dense layers.
        image_shape: (height, width, channels).
        classes: the number of logits.

    Raises:
        UserError: if a block is left with nothing of the image.
    """
    check_fits(params, *image_shape[:2])
    layers = keras.layers
    image = keras.Input(image_shape, dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    for number, block in enumerate(params.blocks, 1):
        x = layers.Conv2D(block.filters, block.kernel, name=f"convolution{number}")(x)
        x = layers.MaxPooling2D(block.pool, name=f"pool{number}")(x)
        x = layers.ReLU(name=f"block{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate(params.dense, 1):
        x = layers.Dense(units, activation="relu", name=f"dense{number}")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="source")
