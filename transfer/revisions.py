"""What differs between revisions of a study: means, paired differences and verdicts, from what is kept in Git.

The intervals here are over the label draws, with the test images as they are: what each image became is not in Git.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from transfer.console import UserError
from transfer.intervals import LEVEL, Estimate, clearness, holm_levels, verdict
from transfer.outcomes import SPECIMENS

Values = dict[int, dict[str, float]]  # by seed, then by metric
Cells = dict[tuple[str, int], Values]  # by strategy and shots


class Metric(NamedTuple):
    """What cells are compared by.

    Attributes:
        name: of the column.
        title: with its unit.
        better: 1 if more is better, -1 if less is.
        scale: what values are multiplied by to be shown.
        decimals: that are shown.
    """

    name: str
    title: str
    better: int
    scale: float
    decimals: int

    @property
    def in_percent(self) -> bool:
        """Whether values are fractions."""
        return self.scale == 100


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy in %", 1, 100, 2),
        Metric("log_loss", "Log loss in nats", -1, 1, 4),
        Metric("brier", "Brier score", -1, 1, 4),
        Metric("ece", "Expected calibration error in %", -1, 100, 2),
        Metric("log_loss_tempered", "Log loss after tempering, in nats", -1, 1, 4),
        Metric("ece_tempered", "Expected calibration error after tempering, in %", -1, 100, 2),
        Metric("trainable_parameters", "Trainable parameters", -1, 1, 0),
        Metric("gradient_steps", "Gradient steps", -1, 1, 0),
        Metric("examples_seen", "Examples seen", -1, 1, 0),
        Metric("model_bytes", "Size of the model file in bytes", -1, 1, 0),
    )
}


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


@dataclass(frozen=True)
class Change:
    """One strategy at one number of shots, in one metric, in a revision against the base.

    Attributes:
        strategy: its name.
        shots: labelled images per class.
        metric: its name.
        before: mean over the base's draws with its 95 % interval; None where it has no such cell.
        after: the same of the revision.
        difference: after − before, with an interval at the level that Holm's procedure gives it; None where one lacks.
        draws: how many draws both share, if paired, else how many the smaller one has.
        same: whether both have the same values, draw by draw.
        verdict: "better", "worse" or "not separated"; None where no interval can be given.
        regression: whether it is worse by more than the tolerance, and separated from it.
    """

    strategy: str
    shots: int
    metric: str
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    draws: int
    same: bool
    verdict: str | None
    regression: bool


class Difference(NamedTuple):
    """A difference of two means with its error."""

    mean: float
    standard_error: float
    freedom: float

    def margin(self, level: float = LEVEL) -> float:
        """Half the width of the two-sided interval, by Student's t."""
        return float(stdtrit(self.freedom, (1 + level) / 2)) * self.standard_error if self.standard_error else 0.0

    def estimate(self, level: float = LEVEL) -> Estimate:
        """With its interval; without one where it has no freedom."""
        if not self.freedom:
            return Estimate(self.mean, None, None)
        return Estimate(self.mean, self.mean - self.margin(level), self.mean + self.margin(level))


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
        row = dict(zip(head, entries, strict=False))
        try:
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


def _mean(values: np.ndarray) -> Difference:
    """The mean of one number per draw, with its error over the draws."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Difference(float(values.mean()), error, n - 1)


def _welch(before: np.ndarray, after: np.ndarray) -> Difference:
    """The difference of two independent means (Welch 1947)."""
    old, new = _mean(before), _mean(after)
    mean = new.mean - old.mean
    if not old.freedom or not new.freedom:
        return Difference(mean, 0.0, 0)
    variance = old.standard_error**2 + new.standard_error**2
    if not variance:
        return Difference(mean, 0.0, old.freedom + new.freedom)
    parts = (each.standard_error**4 / each.freedom for each in (old, new))
    return Difference(mean, math.sqrt(variance), variance**2 / sum(parts))


class _Pair(NamedTuple):
    """What a `Change` is made from."""

    strategy: str
    shots: int
    metric: Metric
    before: np.ndarray
    after: np.ndarray
    difference: Difference | None
    draws: int
    same: bool

    @property
    def judged(self) -> bool:
        """Whether a verdict is asked for."""
        return self.difference is not None and self.difference.freedom > 0 and not self.same

    @property
    def gain(self) -> float:
        """How much better the mean has become."""
        return self.metric.better * self.difference.mean if self.difference else 0.0

    def margin(self, level: float) -> float:
        """Half the width of the difference's interval."""
        return self.difference.margin(level) if self.difference else math.inf


def compare(
    base: Revision, other: Revision, metrics: Sequence[Metric], *, paired: bool, tolerance: float = 0.0
) -> list[Change]:
    """Every strategy and number of shots of two revisions, in every metric.

    All verdicts hold together, with 95 % confidence (Holm 1979); what has the same values in both is not among what is
    judged. Paired, a difference is over the draws that both have, and its interval that of their differences;
    unpaired, both means have errors of their own (Welch 1947).

    Args:
        base: what is compared with.
        other: what is compared.
        metrics: by which.
        paired: whether the same seed stands for the same draw of the same images in both.
        tolerance: how much worse a mean may be, in the metrics' own unit.

    Returns:
        Changes by metric, strategy and shots.
    """
    groups = sorted(base.cells.keys() | other.cells.keys())
    pairs = [
        _pair(base.cells.get(group, {}), other.cells.get(group, {}), group, metric, paired)
        for metric in metrics
        for group in groups
    ]
    judged = [i for i, pair in enumerate(pairs) if pair.judged]
    losses = [max(0.0, -pairs[i].gain - tolerance) for i in judged]  # one-sided: no gain lends its level to a loss
    levels = holm_levels(len(judged), lambda k, level: clearness(pairs[judged[k]].gain, pairs[judged[k]].margin(level)))
    strict = holm_levels(len(judged), lambda k, level: clearness(losses[k], pairs[judged[k]].margin(level)))
    regressed = {i for i, loss, level in zip(judged, losses, strict, strict=True) if loss > pairs[i].margin(level)}
    level_of = dict(zip(judged, levels, strict=True))
    return [_change(pair, level_of.get(i, LEVEL), i in regressed) for i, pair in enumerate(pairs)]


def _pair(old: Values, new: Values, group: tuple[str, int], metric: Metric, paired: bool) -> _Pair:
    before, after = _column(old, metric), _column(new, metric)
    shared = sorted(before.keys() & after.keys())
    difference, draws = None, min(len(before), len(after))
    if paired and shared:
        gains = np.round([after[seed] - before[seed] for seed in shared], 12)  # without the errors of subtraction
        difference, draws = _mean(gains), len(shared)
    elif not paired and before and after:
        difference = _welch(_array(before), _array(after))
    return _Pair(
        *group,
        metric,
        before=_array(before),
        after=_array(after),
        difference=difference,
        draws=draws,
        same=paired and bool(shared) and all(before[seed] == after[seed] for seed in shared),
    )


def _column(values: Values, metric: Metric) -> dict[int, float]:
    """One metric by seed, where there is a number."""
    return {seed: row[metric.name] for seed, row in values.items() if not math.isnan(row.get(metric.name, math.nan))}


def _array(column: dict[int, float]) -> np.ndarray:
    return np.array([column[seed] for seed in sorted(column)])


def _change(pair: _Pair, level: float, regression: bool) -> Change:
    difference = pair.difference.estimate(level) if pair.difference else None
    gain = pair.difference._replace(mean=pair.gain).estimate(level) if pair.difference else None
    return Change(
        strategy=pair.strategy,
        shots=pair.shots,
        metric=pair.metric.name,
        before=_mean(pair.before).estimate() if len(pair.before) else None,
        after=_mean(pair.after).estimate() if len(pair.after) else None,
        difference=difference,
        draws=pair.draws,
        same=pair.same,
        verdict=verdict(gain) if gain else None,
        regression=regression,
    )


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
DRAWS = "data/target_train.npz"
GRID = ("split.seeds", "split.shots")  # more of them leave the draws that were there as they were


def unpaired_because(base: Revision, other: Revision) -> list[str]:
    """Why the seeds of two revisions do not stand for the same draws and images; empty where they do.

    By what `dvc.lock` records of the split, and by the parameters of the data where one of them has no such record.
    Where another file of draws cannot be explained by more seeds or shots alone, the draws may be others.
    """
    old, new = (revision.lock.get("split", {}) for revision in (base, other))
    if not old or not new:
        names = {name for name in base.params.keys() | other.params.keys() if name.startswith(("split.", "download."))}
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
