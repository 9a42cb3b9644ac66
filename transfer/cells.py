"""Run a strategy's cells side by side, and ship one of its models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, Self
from zipfile import is_zipfile

import numpy as np

from transfer.basics.console import UserError, counted, progress, say
from transfer.basics.files import digest
from transfer.basics.params import Section
from transfer.networks.about import About, write_about
from transfer.networks.engines import Engine
from transfer.networks.provenance import made_with
from transfer.predictions import Predictions, are_probabilities
from transfer.running.compute import Compute
from transfer.running.shipping import shipping
from transfer.target import Draw, Target


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

    @property
    def trainable_parameters(self) -> int:
        """Numbers that training changed."""
        return sum(weight.size for weight in self.weights)


@dataclass(frozen=True)
class Outcome:
    """What is kept of a cell: all but its weights, and those where its model may be shipped."""

    probabilities: np.ndarray
    trainable_parameters: int
    gradient_steps: int
    examples_seen: int
    weights: list[np.ndarray] | None

    def arrays(self) -> dict[str, np.ndarray]:
        """The same as named arrays."""
        counts = np.array([self.trainable_parameters, self.gradient_steps, self.examples_seen], np.int64)
        weights = {f"weight{number:03}": weight for number, weight in enumerate(self.weights or [])}
        return {"probabilities": self.probabilities, "counts": counts} | weights

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], draw: Draw, classes: int) -> Self | None:
        """What `arrays` gave, or None where they are not the outcome of a draw for so many classes."""
        probabilities, counts = arrays.pop("probabilities", np.empty(0)), arrays.pop("counts", np.empty(0))
        weights = [arrays[name] for name in sorted(arrays, key=lambda name: (len(name), name))]
        right = (
            (probabilities.dtype, probabilities.shape[1:]) == (np.float32, (classes,))
            and are_probabilities(probabilities)
            and (counts.dtype, counts.shape) == (np.int64, (3,))
            and counts.min() >= 0
            and all(weight.dtype.kind == "f" and np.isfinite(weight).all() for weight in weights)
            and sum(weight.size for weight in weights) == (counts[0] if draw.seed == 0 else 0)
        )
        if not right:
            return None
        parameters, steps, examples = counts.tolist()
        return cls(probabilities, parameters, steps, examples, weights if draw.seed == 0 else None)


Fit = Callable[[Draw], Cell]
Run = Callable[[Callable[..., Any], Sequence[Any]], Iterator[Any]]


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
    compute: Compute,
    code: Path,
    run: Run | None = None,
    engine: Engine | None = None,
    label: str = "",
) -> Predictions:
    """Train every cell of a study that is not remembered, the largest first; ship the model of most shots and seed 0.

    Args:
        fit: trains one cell.
        ship: writes the model file, in a process of its own; None ships no model.
        target: gives the cells.
        params: the strategy's section, to be kept with its predictions.
        model: the file to ship, if any.
        compute: how cells are run, and how many are remembered.
        code: the file of the stage's module, which remembered cells depend on.
        run: does the tasks, where it is not `compute` that says how.
        engine: what trains networks in the cells, to be kept with the predictions.
        label: stands before the progress; without one, the module's name.

    Returns:
        Predictions in the order of `target.cells()`.

    Raises:
        UserError: if a cell that was remembered cannot be one of this study.
    """
    draws, memory, label = target.cells(), compute.memory(code), label or code.stem
    keys = memory.keys(fit, draws)
    recalled = {
        cell: outcome
        for cell, (key, draw) in enumerate(zip(keys, draws, strict=True))
        if (kept := memory.recall(key)) and (outcome := Outcome.from_arrays(kept, draw, len(target.classes)))
    }
    order = sorted(range(len(draws)), key=lambda cell: (-draws[cell].shots, draws[cell].seed))
    remembered = f", {len(recalled):,} of them remembered" if recalled else ""
    say(f"{label}: {counted(len(draws), 'cell')} of up to {counted(draws[order[0]].shots, 'shot')}{remembered}")

    waiting = [cell for cell in order if cell not in recalled]
    run = run or partial(compute.results, name=lambda task: f"{label}, {_named(task[1])}")
    done = run(partial(_run_cell, fit=fit), [(cell, draws[cell]) for cell in waiting])
    trained = progress(done, label, "cell", [draws[cell].shots ** 0.5 for cell in waiting])
    outcomes: dict[int, Outcome] = {}
    with shipping() as process:
        for cell, outcome in chain(recalled.items(), trained):
            outcomes[cell] = outcome
            if cell not in recalled:
                memory.keep(keys[cell], outcome.arrays())
            if ship and model and cell == order[0]:
                about = About(code.stem, draws[cell].shots, tuple(target.classes.tolist()), str(target.form))
                written = process.submit(_ship, partial(ship, outcome.weights), model, about)
        strange = UserError(f"{memory.folder} holds a cell that is not of this study: delete it and run `dvc repro`")
        if ship and model:
            try:
                written.result()
            except (ValueError, TypeError, LookupError):  # as weights of other shapes give
                if order[0] in recalled:
                    raise strange from None
                raise
    if recalled and len({outcome.probabilities.shape for outcome in outcomes.values()}) > 1:
        raise strange
    memory.trim()
    made = made_with(params.model_dump(mode="json"), str(engine or "")) | ({"model": digest(model)} if model else {})
    return gather(target, [outcomes[cell] for cell in range(len(draws))], made, model.stat().st_size if model else 0)


def gather(target: Target, cells: Sequence[Cell | Outcome], made: dict[str, Any], model_bytes: int) -> Predictions:
    """Put the results of a study's cells beside each other.

    Args:
        target: gives the draws, in the order of the cells.
        cells: their results.
        made: what they were made with.
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
        trainable_parameters=np.array([cell.trainable_parameters for cell in cells], dtype=np.int64),
        gradient_steps=np.array([cell.gradient_steps for cell in cells], dtype=np.int64),
        examples_seen=np.array([cell.examples_seen for cell in cells], dtype=np.int64),
        model_bytes=np.full(len(cells), model_bytes, dtype=np.int64),
        made_with=np.array(json.dumps(made)),
    )


def _ship(write: Callable[..., None], path: Path, about: About) -> None:
    """Write a model file that says what it is, if it is one of Keras's, a zip archive."""
    write(path=path)
    if is_zipfile(path):
        write_about(path, about)


def _named(draw: Draw) -> str:
    return f"{counted(draw.shots, 'shot')} of seed {draw.seed}"


def _run_cell(task: tuple[int, Draw], *, fit: Fit) -> tuple[int, Outcome]:
    """A cell's number, and what is kept of it."""
    number, draw = task
    return number, _outcome(fit(draw), draw)


def _outcome(cell: Cell, draw: Draw) -> Outcome:
    return Outcome(
        probabilities=cell.probabilities,
        trainable_parameters=cell.trainable_parameters,
        gradient_steps=cell.gradient_steps,
        examples_seen=cell.examples_seen,
        weights=cell.weights if draw.seed == 0 else None,
    )
