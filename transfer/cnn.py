"""The source CNN's layers, as `params.yaml` describes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from transfer.basics.console import UserError
from transfer.basics.params import Section
from transfer.networks.layers import Convolution, Layers

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


def layers(params: Params, *, image_shape: tuple[int, ...], classes: int) -> Layers:
    """The CNN: raw uint8 images in, logits out.

    Args:
        params: convolution blocks and dense layers.
        image_shape: (height, width, channels).
        classes: the number of logits.

    Raises:
        UserError: if a block is left with nothing of the image.
    """
    check_fits(params, *image_shape[:2])
    blocks = tuple(Convolution(**block.model_dump()) for block in params.blocks)
    return Layers(image_shape, blocks, params.dense, classes)
