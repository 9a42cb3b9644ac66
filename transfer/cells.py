"""Run a strategy's cells side by side, and ship one of its models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.console import counted, progress, say
from transfer.params import Section
from transfer.predictions import Predictions
from transfer.target import Draw, Target
from transfer.workers import run_in_workers


class Compute(Section):
    """The `compute` section: where cells run. It changes no result, so no stage depends on it."""

    workers: Annotated[int, Field(ge=0, le=1024)]


@dataclass(frozen=True)
class Cell:
    """What one training gives.

    Attributes:
        probabilities: for every test image, (test images, classes) float32.
        weights: of what was trained, in the strategy's own order.
        gradient_steps: updates of the weights.
        examples_seen: images that went through training, repeats counted.
    """

    probabilities: np.ndarray
    weights: list[np.ndarray]
    gradient_steps: int
    examples_seen: int


Fit = Callable[[Draw], Cell]
Ship = Callable[[list[np.ndarray]], None]


def run_cells(fit: Fit, ship: Ship, target: Target, *, workers: int, label: str) -> Predictions:
    """Train every cell of a study, the largest first, and ship the model of the most shots and seed 0.

    Args:
        fit: trains one cell.
        ship: writes the model file from a cell's weights; it runs in the worker that trained them.
        target: gives the cells.
        workers: processes side by side; 0 takes one per processor core.
        label: stands before the progress.

    Returns:
        Predictions in the order of `target.cells()`.
    """
    draws = target.cells()
    order = sorted(range(len(draws)), key=lambda cell: (-draws[cell].shots, draws[cell].seed))
    say(f"{label}: {counted(len(draws), 'cell')} of up to {counted(draws[order[0]].shots, 'shot')}")
    work = partial(_run_cell, fit=fit, ship=ship, shipped=order[0])
    done = run_in_workers(work, [(cell, draws[cell]) for cell in order], workers)
    effort = [draws[cell].shots ** 0.5 for cell in order]
    results = dict(progress(done, label, "cell", effort))
    return gather(draws, [results[cell] for cell in range(len(draws))])


def gather(draws: list[Draw], cells: list[Cell]) -> Predictions:
    """Put the results of cells beside each other."""
    return Predictions(
        probabilities=np.stack([cell.probabilities for cell in cells]),
        shots=np.array([draw.shots for draw in draws], dtype=np.int32),
        seed=np.array([draw.seed for draw in draws], dtype=np.int32),
        trainable_parameters=np.array([sum(weight.size for weight in cell.weights) for cell in cells], dtype=np.int64),
        gradient_steps=np.array([cell.gradient_steps for cell in cells], dtype=np.int64),
        examples_seen=np.array([cell.examples_seen for cell in cells], dtype=np.int64),
    )


def _run_cell(task: tuple[int, Draw], *, fit: Fit, ship: Ship, shipped: int) -> tuple[int, Cell]:
    number, draw = task
    cell = fit(draw)
    if number == shipped:
        ship(cell.weights)
    return number, cell
