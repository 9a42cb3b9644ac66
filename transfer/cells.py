"""Run a strategy's cells side by side, and ship one of its models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

from transfer.console import counted, progress, say
from transfer.params import Section
from transfer.predictions import Predictions
from transfer.provenance import made_with
from transfer.target import Draw, Target
from transfer.workers import run_in_workers


class Compute(Section):
    """The `compute` section: where cells run. It changes no result, so no stage depends on it."""

    workers: Annotated[int, Field(ge=0, le=1024)]


@dataclass(frozen=True)
class Cell:
    """What one training gives.

    Attributes:
        probabilities: for every image of `Target.to_predict`, (images, classes) float32.
        weights: of what was trained, in the strategy's own order.
        gradient_steps: updates of the weights.
        examples_seen: images that went through training, repeats counted.
    """

    probabilities: np.ndarray
    weights: list[np.ndarray]
    gradient_steps: int
    examples_seen: int


Fit = Callable[[Draw], Cell]


class Ship(Protocol):
    """Writes a model file from a cell's weights."""

    def __call__(self, weights: list[np.ndarray], *, path: Path) -> None:
        """Write it."""


def run_cells(
    fit: Fit,
    ship: Ship | None,
    target: Target,
    *,
    params: Section,
    model: Path | None = None,
    workers: int,
    label: str,
) -> Predictions:
    """Train every cell of a study, the largest first, and ship the model of the most shots and seed 0.

    Args:
        fit: trains one cell.
        ship: writes the model file; it runs in the worker that trained the weights. None ships no model.
        target: gives the cells.
        params: the strategy's section, to be kept with its predictions.
        model: the file to ship, if any.
        workers: processes side by side; 0 takes one per processor core.
        label: stands before the progress.

    Returns:
        Predictions in the order of `target.cells()`.
    """
    draws = target.cells()
    order = sorted(range(len(draws)), key=lambda cell: (-draws[cell].shots, draws[cell].seed))
    say(f"{label}: {counted(len(draws), 'cell')} of up to {counted(draws[order[0]].shots, 'shot')}")
    work = partial(_run_cell, fit=fit, ship=ship, model=model, shipped=order[0])
    done = run_in_workers(work, [(cell, draws[cell]) for cell in order], workers)
    effort = [draws[cell].shots ** 0.5 for cell in order]
    results = dict(progress(done, label, "cell", effort))
    return gather(target, [results[cell] for cell in range(len(draws))], params, model.stat().st_size if model else 0)


def gather(target: Target, cells: list[Cell], params: Section, model_bytes: int) -> Predictions:
    """Put the results of a study's cells beside each other.

    Args:
        target: gives the draws, in the order of the cells.
        cells: their results.
        params: of the strategy.
        model_bytes: size of its model file, 0 if it ships none.
    """
    draws = target.cells()
    rows, labels = target.calibration()
    probabilities = np.stack([cell.probabilities for cell in cells])
    tested = probabilities.shape[1] - len(rows)
    return Predictions(
        probabilities=probabilities[:, :tested],
        calibration=probabilities[:, tested:],
        calibration_labels=np.stack([np.where(np.isin(rows, draw.rows), np.int32(-1), labels) for draw in draws]),
        shots=np.array([draw.shots for draw in draws], dtype=np.int32),
        seed=np.array([draw.seed for draw in draws], dtype=np.int32),
        trainable_parameters=np.array([sum(weight.size for weight in cell.weights) for cell in cells], dtype=np.int64),
        gradient_steps=np.array([cell.gradient_steps for cell in cells], dtype=np.int64),
        examples_seen=np.array([cell.examples_seen for cell in cells], dtype=np.int64),
        model_bytes=np.full(len(cells), model_bytes, dtype=np.int64),
        made_with=np.array(json.dumps(made_with(params.model_dump(mode="json")))),
    )


def _run_cell(
    task: tuple[int, Draw], *, fit: Fit, ship: Ship | None, model: Path | None, shipped: int
) -> tuple[int, Cell]:
    number, draw = task
    cell = fit(draw)
    if ship and model and number == shipped:
        ship(cell.weights, path=model)
    return number, cell
