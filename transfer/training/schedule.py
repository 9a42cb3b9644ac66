"""How a training goes on: how many gradient steps, on which examples, at which rates."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from transfer.params import Section

BETAS = (0.9, 0.999)  # Adam's own
Rate = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, le=0.999999)]  # closer to 1 rounds to 1 in float32, and Adam would not move


class Plan(NamedTuple):
    """One training: the rows of every step, (steps, batch) int32, and its learning rate, (steps,) float32."""

    batches: np.ndarray
    rates: np.ndarray

    @property
    def examples_seen(self) -> int:
        """How many examples all steps take together."""
        return self.batches.size


class FewShotSchedule(Section):
    """The rule for a run's training, from its number of labelled images alone; part of a strategy's section.

    In the spirit of BiT-HyperRule (Kolesnikov et al. 2020, section 3.3): a rule in place of a search per run.
    """

    steps: Annotated[int, Field(ge=1, le=100_000)]
    steps_growth: Annotated[float, Field(ge=0, le=1)]
    batch: Annotated[int, Field(ge=1, le=65_536)]
    peak_rate: Rate
    warmup: Annotated[float, Field(ge=0, le=1)]
    beta_1: Decay
    beta_2: Decay

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of Adam's moments."""
        return self.beta_1, self.beta_2

    def steps_at(self, shots: int) -> int:
        """`steps` gradient steps at one shot, and `shots ** steps_growth` times as many at more."""
        return round(self.steps * shots**self.steps_growth)

    def plan(self, examples: int, shots: int, seed: int) -> Plan:
        """The training on some number of examples."""
        steps = self.steps_at(shots)
        return Plan(
            shuffled_batches(examples, min(self.batch, examples), steps, seed),
            warmup_cosine(steps, self.peak_rate, self.warmup),
        )


def shuffled_batches(examples: int, batch: int, steps: int, seed: int) -> np.ndarray:
    """Rows for every step: pass after pass over all examples, each in an order of its own.

    Args:
        examples: the number of examples.
        batch: examples per step.
        steps: the number of gradient steps.
        seed: of the orders.

    Returns:
        (steps, batch) int32.
    """
    rng = np.random.default_rng(seed)
    passes = -(-steps * batch // examples)
    order = np.concatenate([rng.permutation(examples) for _ in range(passes)])
    return order[: steps * batch].reshape(steps, batch).astype(np.int32)


def warmup_cosine(steps: int, peak: float, warmup: float) -> np.ndarray:
    """Learning rates that rise linearly to `peak`, then fall to zero along a cosine (Loshchilov & Hutter 2017, eq. 5).

    Args:
        steps: the number of gradient steps.
        peak: the largest rate.
        warmup: the part of the steps that rises, 0 … 1.

    Returns:
        (steps,) float32.
    """
    rising = round(warmup * steps)
    falling = steps - rising
    up = peak * (np.arange(rising) + 1) / max(rising, 1)
    down = peak / 2 * (1 + np.cos(np.pi * np.arange(falling) / max(falling, 1)))
    return np.concatenate([up, down]).astype(np.float32)
