"""The comparison in numbers: what the report's sentences, tables and charts are made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from transfer.evaluation.looks import contenders, decided_at, means_at, samples_without_failures
from transfer.evaluation.outcomes import COSTS, SOURCE_MODEL, UNLABELLED, Correct
from transfer.evaluation.selection import BASELINE, CALIBRATION
from transfer.evaluation.statistics import BETTER, EQUAL, WORSE, Sample, compare_pairs, label_equivalence

GAINS = ["gain", "gain_margin", "verdict", "equivalent_low", "equivalent_high"]
MOST_STRATEGIES = 4  # for which details are drawn
OPPOSITE = {BETTER: WORSE, WORSE: BETTER}


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows of a table as named tuples."""
    return list(frame.itertuples())


@dataclass(frozen=True)
class Comparison:
    """Every strategy at every budget.

    Attributes:
        strategies: names, the baseline last.
        shots: budgets, ascending.
        seeds: the number of label draws; where looks were declared, a strategy can have fewer at a budget.
        looks: numbers of draws after which strategies could be dropped, ascending; one where none could.
        within: the difference of accuracies, a fraction, up to which strategies are equal in practice.
        results: a row per budget and strategy, see `compare`.
        pairs: a row per budget and pair of strategies: `shots`, and what `compare_pairs` gives.
        needs: of each strategy, out of `LABELS`, `UNLABELLED` and `SOURCE_MODEL`.
    """

    strategies: list[str]
    shots: list[int]
    seeds: int
    looks: list[int]
    within: float
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

    def recommended(self, shots: int) -> Any:
        """The result that needs least, of the highest and those equal to it."""
        return next(result for result in self.at(shots) if result.recommended)

    @cached_property
    def verdicts(self) -> dict[tuple[str, str, int], tuple[str, float]]:
        """Verdict and `more_draws` of the first strategy against the second at a budget, of every pair both ways."""
        found = {}
        for pair in rows_of(self.pairs):
            found[pair.first, pair.second, pair.shots] = pair.verdict, pair.more_draws
            found[pair.second, pair.first, pair.shots] = OPPOSITE.get(pair.verdict, pair.verdict), pair.more_draws
        return found

    def verdict(self, first: str, second: str, shots: int) -> str:
        """What the first strategy is against the second; "" where they are not compared."""
        return self.verdicts.get((first, second, shots), ("", 0.0))[0]

    def needing(self, need: str) -> list[str]:
        """The strategies that need something."""
        return [name for name in self.strategies if need in self.needs[name]]

    def without(self, need: str) -> Comparison | None:
        """Of the strategies that do not need something, if there are any; verdicts stay those of all pairs."""
        names = [name for name in self.strategies if need not in self.needs[name]]
        results = self.results[self.results["strategy"].isin(names)]
        return replace(self, strategies=names, results=results).judged() if names else None

    def judged(self) -> Comparison:
        """With `best`, `versus_best`, `more_draws` and `recommended` in its results, see `compare`."""
        best = {shots: self._best(shots) for shots in self.shots}
        results = self.results.assign(best=self.results["strategy"] == self.results["shots"].map(best))
        groups = zip(results["strategy"], results["shots"], strict=True)
        versus = [self.verdicts.get((name, best[shots], shots), ("", 0.0)) for name, shots in groups]
        results["versus_best"], results["more_draws"] = zip(*versus, strict=True)
        least = {
            shots: min(rows_of(group[group["best"] | (group["versus_best"] == EQUAL)]), key=self._needed).strategy
            for shots, group in results.groupby("shots")
        }
        results["recommended"] = results["strategy"] == results["shots"].map(least)
        return replace(self, results=results)

    def _best(self, shots: int) -> str:
        """The best at a budget, of as good ones the one that needs least; one that failed only where all did."""
        results = sorted(self.at(shots), key=self._needed)
        means = {result.strategy: result.means for result in results if not result.failed}
        means = means or {result.strategy: result.means for result in results}
        return contenders(means, decided_at(self.pairs[self.pairs["shots"] == shots]), self.looks)[0]

    def _needed(self, result: Any) -> tuple[Any, ...]:
        """What a strategy needs at a budget, the most costly first."""
        needs = (need in self.needs[result.strategy] for need in (SOURCE_MODEL, UNLABELLED))
        return *needs, result.trainable_parameters, result.effort, -result.accuracy

    @property
    def transfers(self) -> list[str]:
        """The strategies other than the baseline."""
        return [name for name in self.strategies if name != BASELINE]

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
        if others := self.without(UNLABELLED):
            best.append(others.best(self.shown_shots))
        return [name for name in self.strategies if name in {BASELINE, *(result.strategy for result in best)}]


def compare(runs: pd.DataFrame, correct: Correct, strategies: Sequence[str], within: float) -> Comparison:
    """Compare strategies.

    Args:
        runs: a row per run, as in results/cells.csv.
        correct: the same runs, image by image, as in results/correct.npz.
        strategies: names, in the order of the report.
        within: the difference of accuracies, a fraction, up to which strategies are equal in practice.

    Returns:
        Its `results` have the columns

        - strategy, shots.
        - draws: how many it has; means: at every look that it has the draws of.
        - accuracy: mean over the draws, a fraction; margin: half of its 95 % interval, NaN with one draw, as all
          margins; low, high: the interval's ends, within 0 and 1.
        - deviation, lowest, median, highest: of the accuracies of single draws; the deviation is NaN with one.
        - failed: whether any of its runs collapsed; such a result is compared with no other.
        - best: whether it is the highest of the budget, see `contenders`.
        - versus_best: its verdict against the best, paired, corrected over the pairs of the budget; "" for the best
          itself, and where there is none; more_draws: see `compare_pairs`.
        - recommended: whether it needs least of the best and those equal to it: no source model before one, no
          unlabelled images before some, fewer trained parameters before more.
        - gain, gain_margin, verdict: against the baseline, likewise; NaN and "" for the baseline itself, and where
          there is none or one of both failed.
        - equivalent_low, equivalent_high: between which budgets the baseline becomes as accurate; NaN likewise.
        - the `COSTS`: of one training, medians over the draws.
        - effort: trained parameters times images seen, which grows as the arithmetic of the updates.
        - on_front: whether it did not fail and is on the budget's Pareto front, see `on_front`.
        - the scores of `CALIBRATION`: means over the draws; NaN where a temperature could not be fitted.
    """
    runs = runs[runs["strategy"].isin(strategies)]
    shots = sorted(runs["shots"].unique().tolist())
    rows = {(name, count): correct.runs_of(name, count) for count in shots for name in strategies}
    samples = {group: Sample(correct.right(own)) for group, own in rows.items()}
    failed = [bool(correct.collapsed[own].any()) for own in rows.values()]
    sound = {count: samples_without_failures(correct, strategies, count) for count in shots}
    seeds = runs["seed"].nunique()
    looks = correct.looks.tolist() or [seeds]  # an older revision has none
    judged = [compare_pairs(each, within, looks).assign(shots=count) for count, each in sound.items()]
    pairs = pd.concat(judged, ignore_index=True)

    results = pd.DataFrame(list(samples), columns=["strategy", "shots"])
    results["failed"] = failed
    results["draws"] = [sample.draws for sample in samples.values()]
    results["means"] = [means_at(sample, looks) for sample in samples.values()]
    results["accuracy"] = [float(sample.mean) for sample in samples.values()]  # not rounded as in the table of runs
    results["margin"] = [float(sample.margin()) for sample in samples.values()]
    results["low"] = (results["accuracy"] - results["margin"]).clip(lower=0)
    results["high"] = (results["accuracy"] + results["margin"]).clip(upper=1)

    baseline = {count: each[BASELINE] for count, each in sound.items() if BASELINE in each}
    gains = {
        (pair.first, pair.shots): [
            *(pair.difference, pair.corrected, pair.verdict),
            *label_equivalence(samples[pair.first, pair.shots], baseline),
        ]
        for pair in rows_of(pairs[pairs["second"] == BASELINE])
    }
    none = [np.nan, np.nan, "", np.nan, np.nan]
    results = results.join(pd.DataFrame([gains.get(group, none) for group in samples], columns=GAINS))
    groups = runs.groupby(["strategy", "shots"])
    spread = groups["accuracy"].agg(deviation="std", lowest="min", median="median", highest="max")
    costs, calibration = groups[list(COSTS)].median().astype(int), groups[list(CALIBRATION)].mean()
    results = results.join(spread.join([costs, calibration]), on=["strategy", "shots"])
    results["effort"] = results["trainable_parameters"] * results["examples_seen"]
    results["on_front"] = on_front(results) & ~results["failed"]
    needs = json.loads(str(correct.needs))
    return Comparison(list(strategies), shots, seeds, looks, within, results, pairs, needs).judged()


def on_front(results: pd.DataFrame) -> pd.Series[bool]:
    """Whether no other row of the same shots is as accurate with less effort, or more accurate with as much.

    Args:
        results: with columns shots, effort and accuracy; of two equal rows both can be on the front.
    """
    highest = results.groupby(["shots", "effort"])["accuracy"].max()  # by ascending effort
    with_less = highest.groupby("shots").transform(lambda own: own.cummax().shift(fill_value=-1))
    front = highest[highest > with_less].rename("front")
    return results["accuracy"] == results.join(front, on=["shots", "effort"])["front"]
