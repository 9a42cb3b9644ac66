"""What trains a network: kernels of our own on the processor, or Keras and TensorFlow.

Both do the same steps on the same batches. They round differently, and draw other dropout masks and shifts, so that
the engine is a parameter like any other and part of what a remembered cell depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from transfer.basics.console import UserError
from transfer.basics.params import PARAMS, Section
from transfer.networks import native, precision
from transfer.networks.graph import Architecture, Graph
from transfer.networks.layers import Layers
from transfer.networks.precision import Precision
from transfer.networks.schedule import BETAS, Plan

GIVEN = "source.model is a file, whose layers Keras alone knows"


@dataclass(frozen=True)
class Engine:
    """An engine that was chosen, and the numbers that it trains in; the native one knows float32 alone."""

    name: Literal["native", "keras"]
    precision: Precision = "float32"

    def __str__(self) -> str:
        """As in `keras engine, mixed bfloat16`."""
        return f"{self.name} engine, {self.precision.replace('_', ' ')}"


class Program(Protocol):
    """A network's training and prediction."""

    def start(self, weights: list[np.ndarray], seed: int) -> None:
        """Set the trainable weights, forget the optimizer's moments, and seed dropout."""

    def train(self, images: np.ndarray, labels: np.ndarray, plan: Plan, *, seed: int, first_step: int = 0) -> float:
        """Take gradient steps on the mean cross-entropy with Adam; the mean loss over them.

        Args:
            images: what the network takes, (n, …).
            labels: classes, (n,) int32.
            plan: rows and rate of every step.
            seed: of the random shifts.
            first_step: how many steps went before since `start`.
        """

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits of every image, (n, classes) float32."""

    def features(self, images: np.ndarray, taps: list[str]) -> list[np.ndarray]:
        """What some layers make of every image, (n, width) float32 each."""

    def weights(self) -> list[np.ndarray]:
        """The trainable weights as they are now."""

    def state(self) -> list[np.ndarray]:
        """All that training goes on from beside the seeds and the number of steps, float32: weights and moments."""

    def restore(self, state: Sequence[np.ndarray], seed: int) -> None:
        """Go on from what `state` gave; `seed` as in `start`."""


class Params(Section):
    """The `training` section."""

    engine: Literal["auto", "native", "keras"]
    precision: Literal["float32", "mixed_bfloat16", "auto"]

    def engine_for(self, network: Architecture) -> Engine:
        """The engine of a network: `auto` is native wherever that can be.

        Raises:
            UserError: if native is asked for and cannot be; says why.
        """
        if self.engine == "keras":
            return self.keras()
        mixed = "training.precision is mixed_bfloat16" if self.precision == "mixed_bfloat16" else None
        if why := mixed or (GIVEN if isinstance(network, Graph) else native.hindrance(network)):
            if self.engine == "native":
                raise UserError(f"{PARAMS}: training.engine is native, but {why}: set it to keras or auto")
            return self.keras()
        return Engine("native")

    def keras(self) -> Engine:
        """The Keras engine, in the precision that is asked for or, if that is `auto`, is fast on this machine."""
        return Engine("keras", precision.choose(self.precision))


def program(
    network: Architecture, engine: Engine, *, shift: int = 0, betas: tuple[float, float] = BETAS, threads: int = 1
) -> Program:
    """A network's program.

    Args:
        network: to train.
        engine: what trains it.
        shift: training images are moved by up to this many pixels each way at random, anew in every step.
        betas: decay of Adam's moments (Kingma & Ba 2015, algorithm 1).
        threads: that the native engine computes with; Keras's are fixed for the process (`transfer.networks.threads`).
    """
    if engine.name == "native":
        assert isinstance(network, Layers)
        return native.Program(network, shift=shift, betas=betas, threads=threads)
    from transfer.networks import training

    return training.Program(network.build("network"), shift=shift, betas=betas, precision=engine.precision)
