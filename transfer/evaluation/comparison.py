"""The comparison in numbers: what the report's sentences, tables and charts are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from transfer.console import UserError
from transfer.evaluation.metrics import reliability
from transfer.evaluation.outcomes import COSTS, Outcomes, Probes
from transfer.evaluation.selection import BASELINE, CALIBRATION
from transfer.evaluation.statistics import (
    Estimate,
    Pair,
    Sample,
    Spread,
    bootstrap_means,
    compare_pairs,
    label_equivalence,
    pareto_front,
    spread,
)

SEED = 0  # of the bootstrap
ROOM = 40  # classes that a chart or a table of them can show
OTHER_STUDY = "is not of the study that was evaluated: run `dvc repro evaluate`"


@dataclass(frozen=True)
class Result:
    """One strategy at one budget.

    Attributes:
        strategy: its name.
        shots: labelled images per class.
        accuracy: mean over the seeds, a fraction.
        spread: of the seeds.
        best: whether its mean is the highest of the budget.
        level: whether it is not separated from the best, or the best itself; with one seed only the best is.
        gain: against the baseline; None for the baseline itself and where there is none.
        equivalent: labels per class that the baseline needs for the same accuracy; None as for `gain`.
        costs: of one training, medians over the seeds.
        effort: trained parameters times images seen, which grows as the arithmetic of the updates.
        on_front: whether no other strategy of the budget has less effort and at least the accuracy.
        calibration: means over the seeds; NaN where a temperature could not be fitted.
    """

    strategy: str
    shots: int
    accuracy: Estimate
    spread: Spread
    best: bool
    level: bool
    gain: Pair | None
    equivalent: Estimate | None
    costs: dict[str, int]
    effort: int
    on_front: bool
    calibration: dict[str, float]

    @property
    def possible(self) -> Estimate:
        """The accuracy with an interval that keeps to fractions, as it is drawn and listed."""
        return self.accuracy.within(0, 1)

    @property
    def negative(self) -> bool:
        """Whether this is negative transfer: worse than the baseline, and separated from it."""
        return self.gain is not None and self.gain.verdict == "worse"


@dataclass(frozen=True)
class Comparison:
    """Every strategy at every budget.

    Attributes:
        strategies: names, the baseline last.
        shots: budgets, ascending.
        seeds: the number of label draws.
        results: by strategy and shots.
        pairs: of each budget, the baseline second.
    """

    strategies: list[str]
    shots: list[int]
    seeds: int
    results: dict[tuple[str, int], Result]
    pairs: dict[int, list[Pair]]

    def of(self, strategy: str, shots: int) -> Result:
        """One result."""
        return self.results[strategy, shots]

    def at(self, shots: int) -> list[Result]:
        """The results of one budget, in the order of the strategies."""
        return [self.of(name, shots) for name in self.strategies]

    def best(self, shots: int) -> Result:
        """The result of the highest mean."""
        return next(result for result in self.at(shots) if result.best)

    @property
    def transfers(self) -> list[str]:
        """The strategies other than the baseline."""
        return [name for name in self.strategies if name != BASELINE]

    @property
    def has_gains(self) -> bool:
        """Whether there is something to compare with the baseline."""
        return BASELINE in self.strategies and bool(self.transfers)

    @property
    def shown_shots(self) -> int:
        """The budget for which details are drawn: the middle one."""
        return self.shots[(len(self.shots) - 1) // 2]


def compare(cells: pd.DataFrame, outcomes: Outcomes, strategies: Sequence[str], replicates: int) -> Comparison:
    """Compare strategies.

    Args:
        cells: one row per cell.
        outcomes: the same cells, image by image.
        strategies: names, in the order of the report.
        replicates: of the bootstrap.

    Raises:
        UserError: if the cells and the outcomes are not of the same study.
    """
    cells = cells[cells["strategy"].isin(strategies)]
    shots, seeds = sorted(cells["shots"].unique().tolist()), sorted(cells["seed"].unique().tolist())
    samples = _samples(cells, outcomes, [(name, count) for name in strategies for count in shots], seeds, replicates)

    pairs = {count: compare_pairs({name: samples[name, count] for name in strategies}) for count in shots}
    baseline = {count: samples[BASELINE, count] for count in shots} if BASELINE in strategies else {}
    medians = cells.groupby(["strategy", "shots"])[list(COSTS)].median().astype(int)
    calibration = cells.groupby(["strategy", "shots"])[list(CALIBRATION)].mean()
    results = {}
    for count in shots:
        at = [samples[name, count] for name in strategies]
        best = strategies[int(np.argmax([float(sample.mean) for sample in at]))]
        level = {best} | {
            name
            for pair in pairs[count]
            if best in (pair.first, pair.second) and pair.verdict == "not separated"
            for name in (pair.first, pair.second)
        }
        costs = {name: medians.loc[(name, count)].to_dict() for name in strategies}
        efforts = {name: cost["trainable_parameters"] * cost["examples_seen"] for name, cost in costs.items()}
        front = pareto_front(np.array(list(efforts.values())), np.array([float(sample.mean) for sample in at]))
        gains = {pair.first: pair for pair in pairs[count] if pair.second == BASELINE}
        for name, sample, on_front in zip(strategies, at, front, strict=True):
            results[name, count] = Result(
                strategy=name,
                shots=count,
                accuracy=sample.estimate(),
                spread=spread(sample.values),
                best=name == best,
                level=name in level,
                gain=gains.get(name),
                equivalent=label_equivalence(sample, baseline) if name in gains else None,
                costs=costs[name],
                effort=efforts[name],
                on_front=bool(on_front),
                calibration=calibration.loc[(name, count)].to_dict(),
            )
    return Comparison(list(strategies), shots, len(seeds), results, pairs)


def _samples(
    cells: pd.DataFrame, outcomes: Outcomes, groups: list[tuple[str, int]], seeds: list[int], replicates: int
) -> dict[tuple[str, int], Sample]:
    """The accuracies of every strategy and budget, after a check that cells and outcomes are of the same study."""
    grid = cells.set_index(["strategy", "shots", "seed"]).sort_index()
    place = {key: i for i, key in enumerate(zip(outcomes.strategy, outcomes.shots, outcomes.seed, strict=True))}
    try:
        order = [[place[name, count, seed] for seed in seeds] for name, count in groups]
        expected = np.array([[grid.loc[(*group, seed), "accuracy"] for seed in seeds] for group in groups], float)
    except KeyError:
        raise UserError(f"results/cells.csv {OTHER_STUDY}") from None
    correct = (outcomes.predicted == outcomes.labels)[order]
    accuracies = correct.mean(axis=2)  # not rounded as in the cells, which would break ties
    if not np.allclose(accuracies, expected, atol=2e-6):
        raise UserError(f"results/cells.csv {OTHER_STUDY}")
    resampled = bootstrap_means(correct, replicates, SEED)
    return {group: Sample(*rows) for group, *rows in zip(groups, accuracies, resampled, strict=True)}


def _rows_of(outcomes: Outcomes, strategy: str, shots: int) -> np.ndarray:
    return (outcomes.strategy == strategy) & (outcomes.shots == shots)


def confusion(outcomes: Outcomes, strategy: str, shots: int) -> np.ndarray:
    """What the images of each class are taken for, as fractions of the class, mean over the seeds.

    Returns:
        (true classes, predicted classes) float64; the diagonal is each class's recall. NaN for a class without images.
    """
    predicted = outcomes.predicted[_rows_of(outcomes, strategy, shots)]
    classes = len(outcomes.classes)
    flat = (outcomes.labels * classes + predicted).ravel()
    counts = np.bincount(flat, minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def shown_classes(outcomes: Outcomes, strategies: Sequence[str], shots: int) -> np.ndarray:
    """Which classes to show: all or, of more than `ROOM`, those with the lowest recall, mean over the strategies.

    Returns:
        Their numbers, ascending, (classes,) int64.
    """
    recalls = np.mean([confusion(outcomes, name, shots).diagonal() for name in strategies], axis=0)
    return np.sort(np.argsort(recalls, kind="stable")[:ROOM])


@dataclass(frozen=True)
class HardImage:
    """A test image that most trainings get wrong.

    Attributes:
        row: among the test images.
        label: its class.
        mistaken_for: the class that it is most often taken for by mistake.
        wrong: the number of trainings that get it wrong.
        trainings: of how many.
    """

    row: int
    label: int
    mistaken_for: int
    wrong: int
    trainings: int


def hard_images(outcomes: Outcomes, strategies: Sequence[str], shots: int, most: int = 24) -> list[HardImage]:
    """The test images that more than half of the trainings of a budget get wrong, the worst first.

    Args:
        outcomes: image by image.
        strategies: whose trainings count.
        shots: the budget.
        most: how many images at most.
    """
    predicted = outcomes.predicted[np.isin(outcomes.strategy, strategies) & (outcomes.shots == shots)]
    wrong = (predicted != outcomes.labels).sum(axis=0)
    worst = np.argsort(-wrong, kind="stable")[:most]
    images = []
    for row in worst[wrong[worst] > len(predicted) / 2]:
        mistakes = predicted[predicted[:, row] != outcomes.labels[row], row]
        mistaken_for = int(np.bincount(mistakes).argmax())
        images.append(HardImage(int(row), int(outcomes.labels[row]), mistaken_for, int(wrong[row]), len(predicted)))
    return images


def reliability_of(outcomes: Outcomes, strategy: str, shots: int) -> pd.DataFrame:
    """Confidence beside accuracy in bins of equal mass, all seeds together, as given and temperature-scaled.

    Returns:
        Columns `scaled` (bool), `confidence`, `accuracy`, `images`.
    """
    rows = _rows_of(outcomes, strategy, shots)
    correct = (outcomes.predicted[rows] == outcomes.labels).ravel()
    frames = []
    for scaled, confidence in ((False, outcomes.confidence), (True, outcomes.scaled)):
        if not np.isnan(confidence[rows]).any():
            columns = zip(
                ("confidence", "accuracy", "images"), reliability(confidence[rows].ravel(), correct), strict=True
            )
            frames.append(pd.DataFrame({"scaled": scaled} | dict(columns)))
    return pd.concat(frames, ignore_index=True)


def probe_accuracies(views: Probes, labels: np.ndarray, replicates: int) -> dict[str, Estimate]:
    """Accuracy of every layer's linear probe on the sampled test images."""
    correct = views.predicted == labels[views.rows]
    resampled = bootstrap_means(correct, replicates, SEED)
    means = correct.mean(axis=2)
    return {str(layer): Sample(*rows).estimate() for layer, *rows in zip(views.names, means, resampled, strict=True)}
