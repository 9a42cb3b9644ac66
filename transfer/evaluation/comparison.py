"""The comparison in numbers: what the report's sentences, tables and charts are made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from transfer.evaluation.metrics import reliability
from transfer.evaluation.outcomes import COSTS, Outcomes, Probes
from transfer.evaluation.selection import BASELINE, CALIBRATION
from transfer.evaluation.statistics import Sample, bootstrap_means, compare_pairs, label_equivalence, pareto_front

SEED = 0  # of the bootstrap
GAINS = ["gain", "gain_margin", "verdict", "equivalent", "equivalent_low", "equivalent_high"]
MOST_CLASSES = 40  # that a chart or a table can show
MOST_STRATEGIES = 4  # for which details are drawn
LABELS, UNLABELLED, SOURCE_MODEL = "labels", "unlabelled images", "source model"  # what a strategy can need


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows of a table as named tuples."""
    return list(frame.itertuples())


@dataclass(frozen=True)
class Comparison:
    """Every strategy at every budget.

    Attributes:
        strategies: names, the baseline last.
        shots: budgets, ascending.
        seeds: the number of label draws.
        results: a row per budget and strategy, see `compare`.
        pairs: a row per budget and pair of strategies: `shots`, and what `compare_pairs` gives.
        needs: of each strategy, out of `LABELS`, `UNLABELLED` and `SOURCE_MODEL`.
    """

    strategies: list[str]
    shots: list[int]
    seeds: int
    results: pd.DataFrame
    pairs: pd.DataFrame
    needs: dict[str, list[str]]

    def at(self, shots: int) -> list[Any]:
        """The results of one budget as named tuples, in the order of the strategies."""
        return rows_of(self.results[self.results["shots"] == shots])

    def of(self, strategy: str) -> list[Any]:
        """The results of one strategy as named tuples, by ascending budget."""
        return rows_of(self.results[self.results["strategy"] == strategy])

    def best(self, shots: int) -> Any:
        """The result of the highest mean."""
        return next(result for result in self.at(shots) if result.best)

    def needing(self, need: str) -> list[str]:
        """The strategies that need something."""
        return [name for name in self.strategies if need in self.needs[name]]

    @property
    def labels_only(self) -> Comparison:
        """Of the strategies that need no unlabelled images: the best of these; verdicts stay those of all pairs."""
        names = [name for name in self.strategies if UNLABELLED not in self.needs[name]]
        results = self.results[self.results["strategy"].isin(names)]
        return replace(self, strategies=names, results=_with_best(results, self.pairs))

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

    @property
    def shown(self) -> list[str]:
        """The strategies for which details are drawn.

        Of more than `MOST_STRATEGIES`: the best at that budget, the best there without unlabelled images, the best at
        the largest budget, and the baseline.
        """
        if len(self.strategies) <= MOST_STRATEGIES:
            return self.strategies
        best = [self.best(self.shown_shots), self.best(self.shots[-1])]
        best += [result for result in self.labels_only.at(self.shown_shots) if result.best]
        return [name for name in self.strategies if name in {BASELINE, *(result.strategy for result in best)}]


def compare(runs: pd.DataFrame, outcomes: Outcomes, strategies: Sequence[str], replicates: int) -> Comparison:
    """Compare strategies.

    Args:
        runs: a row per run, as in results/cells.csv.
        outcomes: the same runs, image by image.
        strategies: names, in the order of the report.
        replicates: of the bootstrap.

    Returns:
        Its `results` have the columns

        - strategy, shots.
        - accuracy: mean over the seeds, a fraction; margin: half of its 95 % interval, NaN with one seed, as all
          margins; low, high: the interval's ends, within 0 and 1.
        - deviation, lowest, median, highest: of the accuracies of single seeds; the deviation is NaN with one.
        - failed: whether any of its runs collapsed; such a result is compared with no other.
        - best: whether its mean is the highest of the budget; level: whether it is the best or not separated from it,
          with one seed the best only.
        - gain, gain_margin, verdict: against the baseline, paired, corrected over the pairs of the budget; NaN and ""
          for the baseline itself, and where there is none or one of both failed.
        - equivalent, equivalent_low, equivalent_high: labels per class that the baseline needs for the same accuracy;
          NaN likewise.
        - the `COSTS`: of one training, medians over the seeds.
        - effort: trained parameters times images seen, which grows as the arithmetic of the updates.
        - on_front: whether it did not fail, and no other of the budget has less effort and at least the accuracy.
        - the scores of `CALIBRATION`: means over the seeds; NaN where a temperature could not be fitted.
    """
    runs = runs[runs["strategy"].isin(strategies)]
    shots = sorted(runs["shots"].unique().tolist())
    samples = _samples(outcomes, [(name, count) for count in shots for name in strategies], replicates)
    failed = [bool(outcomes.collapsed[_runs_of(outcomes, *group)].any()) for group in samples]
    sound = {group: sample for (group, sample), out in zip(samples.items(), failed, strict=True) if not out}
    pairs = pd.concat(
        [
            compare_pairs({name: sample for (name, at), sample in sound.items() if at == count}).assign(shots=count)
            for count in shots
        ],
        ignore_index=True,
    )

    results = pd.DataFrame(list(samples), columns=["strategy", "shots"])
    results["failed"] = failed
    results["accuracy"] = [float(sample.mean) for sample in samples.values()]
    results["margin"] = [float(sample.margin()) for sample in samples.values()]
    results["low"] = (results["accuracy"] - results["margin"]).clip(lower=0)
    results["high"] = (results["accuracy"] + results["margin"]).clip(upper=1)
    results = _with_best(results, pairs)

    baseline = {shots: sample for (name, shots), sample in sound.items() if name == BASELINE}
    gains = {
        (pair.first, pair.shots): [
            *(pair.difference, pair.corrected, pair.verdict),
            *label_equivalence(samples[pair.first, pair.shots], baseline),
        ]
        for pair in rows_of(pairs[pairs["second"] == BASELINE])
    }
    rows = [gains.get(group, [np.nan, np.nan, "", *3 * [np.nan]]) for group in samples]
    results = results.join(pd.DataFrame(rows, columns=GAINS))
    groups = runs.groupby(["strategy", "shots"])
    spread = groups["accuracy"].agg(deviation="std", lowest="min", median="median", highest="max")
    costs, calibration = groups[list(COSTS)].median().astype(int), groups[list(CALIBRATION)].mean()
    results = results.join(spread.join([costs, calibration]), on=["strategy", "shots"])
    results["effort"] = results["trainable_parameters"] * results["examples_seen"]
    budgets = [rows[["effort", "accuracy"]].to_numpy() for _, rows in results.groupby("shots")]
    results["on_front"] = np.concatenate([pareto_front(*columns.T) for columns in budgets]) & ~results["failed"]
    made_with = json.loads(str(outcomes.made_with))
    needs = {name: made_with[name]["needs"] for name in strategies}
    return Comparison(list(strategies), shots, runs["seed"].nunique(), results, pairs, needs)


def _with_best(results: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The results with `best` and `level`, see `compare`."""
    sound_first = results["accuracy"] - results["failed"]  # a failed one is best only where all are
    is_best = results.index.isin(sound_first.groupby(results["shots"]).idxmax())
    best = dict(zip(results["shots"][is_best], results["strategy"][is_best], strict=True))
    tied = {
        (name, pair.shots)
        for pair in rows_of(pairs[pairs["verdict"] == "not separated"])
        for name in (pair.first, pair.second)
        if best.get(pair.shots) in (pair.first, pair.second)
    }
    groups = zip(results["strategy"], results["shots"], strict=True)
    return results.assign(best=is_best, level=is_best | [group in tied for group in groups])


def _samples(outcomes: Outcomes, groups: list[tuple[str, int]], replicates: int) -> dict[tuple[str, int], Sample]:
    """The accuracies of every strategy and budget; not rounded as in the table of runs, which would break ties."""
    order = [np.flatnonzero(_runs_of(outcomes, *group)) for group in groups]
    correct = (outcomes.predicted == outcomes.labels)[[rows[np.argsort(outcomes.seed[rows])] for rows in order]]
    resampled = bootstrap_means(correct, replicates, SEED)
    return {group: Sample(*rows) for group, *rows in zip(groups, correct.mean(axis=2), resampled, strict=True)}


def _runs_of(outcomes: Outcomes, strategy: str, shots: int) -> np.ndarray:
    return (outcomes.strategy == strategy) & (outcomes.shots == shots)


def confusion(outcomes: Outcomes, strategy: str, shots: int) -> np.ndarray:
    """What the images of each class are taken for, as fractions of the class, mean over the seeds.

    Returns:
        (true classes, predicted classes) float64; the diagonal is each class's recall. NaN for a class without images.
    """
    predicted = outcomes.predicted[_runs_of(outcomes, strategy, shots)]
    classes = len(outcomes.classes)
    flat = (outcomes.labels * classes + predicted).ravel()
    counts = np.bincount(flat, minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def shown_classes(outcomes: Outcomes, strategies: Sequence[str], shots: int) -> np.ndarray:
    """Which classes to show: all or, of more than `MOST_CLASSES`, those with the lowest recall over the strategies.

    Returns:
        Their numbers, ascending, (classes,) int64.
    """
    recalls = np.mean([confusion(outcomes, name, shots).diagonal() for name in strategies], axis=0)
    return np.sort(np.argsort(recalls, kind="stable")[:MOST_CLASSES])


MOST_IMAGES = 24  # that are shown


def hard_images(outcomes: Outcomes, strategies: Sequence[str], shots: int) -> pd.DataFrame:
    """The test images that more than half of the runs of some strategies and a budget get wrong, the worst first.

    Returns:
        Columns `row` (among the test images), `label`, `mistaken_for` (the most frequent wrong class), and `wrong` (the
        number of runs that get it wrong); at most `MOST_IMAGES` rows.
    """
    predicted = outcomes.predicted[np.isin(outcomes.strategy, strategies) & (outcomes.shots == shots)]
    wrong = (predicted != outcomes.labels).sum(axis=0)
    worst = np.argsort(-wrong, kind="stable")[:MOST_IMAGES]
    rows = worst[wrong[worst] > len(predicted) / 2]
    labels = outcomes.labels[rows]
    mistakes = [taken[taken != label] for taken, label in zip(predicted[:, rows].T, labels, strict=True)]
    mistaken_for = [int(np.bincount(each).argmax()) for each in mistakes]
    return pd.DataFrame({"row": rows, "label": labels, "mistaken_for": mistaken_for, "wrong": wrong[rows]})


def reliability_of(outcomes: Outcomes, strategy: str, shots: int) -> pd.DataFrame:
    """Confidence beside accuracy in bins of equal mass, all seeds together, before and after temperature scaling.

    Returns:
        Columns `probabilities` ("unscaled" or "scaled"), `confidence`, `accuracy`.
    """
    own = _runs_of(outcomes, strategy, shots)
    correct = (outcomes.predicted[own] == outcomes.labels).ravel()
    frames = []
    for kind, every in (("unscaled", outcomes.confidence), ("scaled", outcomes.scaled)):
        if not np.isnan(every[own]).any():
            confidence, accuracy, _ = reliability(every[own].ravel(), correct)
            frames.append(pd.DataFrame({"probabilities": kind, "confidence": confidence, "accuracy": accuracy}))
    return pd.concat(frames, ignore_index=True)


def probe_accuracies(probes: Probes, labels: np.ndarray, replicates: int) -> pd.DataFrame:
    """Accuracy of every layer's linear probe on the sampled test images: columns `layer`, `accuracy`, `margin`."""
    correct = probes.predicted == labels[probes.rows]
    samples = Sample(correct.mean(axis=2), bootstrap_means(correct, replicates, SEED))
    return pd.DataFrame({"layer": probes.names, "accuracy": samples.mean, "margin": samples.margin()})
