"""What Git holds of a study at a revision, and what differs of its parameters, code and data between revisions."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from transfer.compare.verdicts import METRICS, Cells
from transfer.console import UserError

SPECIMENS = ("article", "article_same_task")  # in older tables of cells: no strategies


@dataclass(frozen=True)
class Revision:
    """A study as a commit or the workspace holds it.

    Attributes:
        name: what the user calls it.
        place: where it is, in words.
        cells: of its strategies.
        params: every parameter by its dotted name.
        lock: the stages of `dvc.lock`, by name; empty where there is none.
        source_accuracy: of its source model, if it is known.
        doubts: sentences on why its results may not be those of its code and parameters.
    """

    name: str
    place: str
    cells: Cells
    params: dict[str, Any]
    lock: dict[str, Any]
    source_accuracy: float | None
    doubts: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """Of all cells."""
        return sorted({seed for values in self.cells.values() for seed in values})


def parse_cells(text: str, where: str) -> Cells:
    """The cells of the strategies, from the text of `results/cells.csv`; specimens are left out.

    Raises:
        UserError: if the text is not a table of cells, or has a cell twice.
    """
    try:
        head, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    except csv.Error as error:
        raise UserError(f"{where} is no table of cells ({error}): run `dvc repro` there") from None
    if missing := {"strategy", "shots", "seed", "accuracy"} - set(head):
        raise UserError(
            f"{where} is no table of cells, as it has no column {sorted(missing)[0]}: run `dvc repro` there"
        )
    cells: Cells = {}
    for number, entries in enumerate(rows, 2):
        try:
            row = dict(zip(head, entries, strict=True))
            name, shots, seed = row["strategy"], int(row["shots"]), int(row["seed"])
            values = {metric: float(row[metric] or "nan") for metric in METRICS if metric in row}
        except (ValueError, KeyError):
            raise UserError(f"{where}, line {number}, is no cell: run `dvc repro` there") from None
        if not name or not math.isfinite(values["accuracy"]):
            raise UserError(f"{where}, line {number}, is no cell: run `dvc repro` there")
        if name in SPECIMENS:
            continue
        if seed in cells.setdefault((name, shots), {}):
            raise UserError(f"{where}, line {number}, has {name} with {shots} shots and seed {seed} once more")
        cells[name, shots][seed] = values
    if not cells:
        raise UserError(f"{where} has no cell: run `dvc repro` there")
    return cells


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by their dotted names; lists stay whole."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _hashes(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Paths and MD5 of a stage's `deps` or `outs` in `dvc.lock`."""
    return {entry["path"]: entry.get("md5", "") for entry in stage.get(kind, [])}


def code_of(lock: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """For every stage the files that it depends on and that no stage makes, with their MD5."""
    outs = [PurePosixPath(path) for stage in lock.values() for path in _hashes(stage, "outs")]
    made = {each.as_posix() for out in outs for each in (out, *out.parents)}  # a stage may depend on a whole folder
    return {
        name: {path: md5 for path, md5 in _hashes(stage, "deps").items() if path not in made}
        for name, stage in lock.items()
    }


def code_changes(base: Revision, other: Revision) -> dict[str, list[str]]:
    """What differs of the stages' code: for each stage that differs its files, or that it is new or gone."""
    changes: dict[str, list[str]] = {}
    before, after = code_of(base.lock), code_of(other.lock)
    for stage in [*base.lock, *(name for name in other.lock if name not in base.lock)]:
        if stage not in base.lock or stage not in other.lock:
            changes[stage] = ["the stage is new" if stage in other.lock else "the stage is gone"]
            continue
        old, new = before[stage], after[stage]
        differ = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        if base.lock[stage].get("cmd") != other.lock[stage].get("cmd"):
            differ.insert(0, "its command")
        if differ:
            changes[stage] = differ
    return changes


def differing_params(revisions: Sequence[Revision]) -> dict[str, list[Any]]:
    """Parameters that are not the same in all revisions, with their value in each; None where there is none."""
    names = list(dict.fromkeys(name for revision in revisions for name in revision.params))
    values = {name: [revision.params.get(name) for revision in revisions] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


TEST = ("data/target_test_images.npz", "data/target_test_labels.npz")
DRAWS = "data/target_train"
OF_DATA = ("data.", "download.", "source.", "split.")
GRID = ("split.seeds", "split.shots")  # more of them leave the draws that were there as they were


def unpaired_because(base: Revision, other: Revision) -> list[str]:
    """Why the seeds of two revisions do not stand for the same draws and images; empty where they do.

    By what `dvc.lock` records of the split, and by the parameters of the data where one of them has no such record.
    Where another file of draws cannot be explained by more seeds or shots alone, the draws may be others.
    """
    old, new = (revision.lock.get("split", {}) for revision in (base, other))
    if not old or not new:
        names = {name for name in base.params.keys() | other.params.keys() if name.startswith(OF_DATA)}
        differ = any(base.params.get(name) != other.params.get(name) for name in names.difference(GRID))
        return ["its data may be others"] if differ else []
    made = [_hashes(stage, "outs") for stage in (old, new)]
    reasons = []
    if any(made[0].get(path) != made[1].get(path) for path in TEST):
        reasons.append("its test images are others")
    origins = [(_hashes(stage, "deps"), _settings(stage)) for stage in (old, new)]
    if made[0].get(DRAWS) != made[1].get(DRAWS) and origins[0] != origins[1]:
        reasons.append("its label draws may be others")
    return reasons


def _recorded(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's parameters in `dvc.lock`, by their dotted names."""
    return flatten({name: value for file in stage.get("params", {}).values() for name, value in file.items()})


def _settings(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _recorded(stage).items() if name not in GRID}


def edited_params(params: Mapping[str, Any], lock: Mapping[str, Any]) -> list[str]:
    """Parameters that are not what `dvc.lock` was made with, by name."""
    edited = {name for stage in lock.values() for name, value in _recorded(stage).items() if params.get(name) != value}
    whole = {name for stage in lock.values() for file in stage.get("params", {}).values() for name in file}
    known = {name for stage in lock.values() for name in _recorded(stage)}
    new = {name for name in params if name.split(".")[0] in whole and name not in known}
    return sorted(edited | new)
