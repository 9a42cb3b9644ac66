"""Training every layer of a network: what `end_to_end` and `scratch` have in common.

They differ in the weights that they start from, and in nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.models import networks
from transfer.models.backend import keras
from transfer.training.schedule import FewShotSchedule


class Params(FewShotSchedule):
    """The `end_to_end` and the `scratch` section."""

    shift: Annotated[int, Field(ge=0, le=8)]


def export(weights: list[np.ndarray], path: Path, *, network: networks.Network, name: str) -> None:
    """Write the whole classifier as one Keras file: raw uint8 images in, probabilities out."""
    model = network._replace(weights=weights).build()
    networks.save_model(path, networks.with_head(model, keras.layers.Softmax(name="probabilities"), name=name))
