"""End-to-end fine-tuning: every layer of the source CNN, at a low rate, under a fresh head."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from transfer import fine_tuning

if TYPE_CHECKING:
    from transfer.fine_tuning import Network

Params = fine_tuning.Params
fit = fine_tuning.fit
ship = fine_tuning.ship


@cache
def network(source: Path, classes: int, shift: int) -> Network:
    """The source CNN under a head that starts at zero; traced once in a process.

    Args:
        source: file of the source model.
        classes: the number of target classes.
        shift: pixels that training images are moved by.
    """
    from transfer import models
    from transfer.backend import keras
    from transfer.training import Program

    source_model = models.load_model(source)
    body = keras.Model(source_model.inputs[0], source_model.layers[-1].input)
    head = keras.layers.Dense(classes, kernel_initializer="zeros", name="target_logits")
    program = Program(models.with_head(body, head, name="end_to_end"), shift=shift)
    start = program.weights()
    return fine_tuning.Network(program, lambda _seed: start)
