"""Training from scratch: the source CNN's layers from random weights; the baseline that says if transfer helped."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from transfer import cnn, fine_tuning

if TYPE_CHECKING:
    from transfer.fine_tuning import Network

Params = fine_tuning.Params
fit = fine_tuning.fit
ship = fine_tuning.ship


@cache
def network(architecture: cnn.Params, image_shape: tuple[int, int, int], classes: int, shift: int) -> Network:
    """The source CNN's layers, to start from random weights; traced once in a process.

    Args:
        architecture: the layers.
        image_shape: (height, width, channels).
        classes: the number of target classes.
        shift: pixels that training images are moved by.
    """
    from transfer.training import Program, fresh_weights

    model = cnn.build(architecture, image_shape=image_shape, classes=classes, name="scratch")
    return fine_tuning.Network(Program(model, shift=shift), partial(fresh_weights, model))
