"""What the numbers advise, in sentences; they never say more than the intervals do."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from transfer.evaluation.comparison import Comparison, rows_of
from transfer.evaluation.outcomes import LABELS, SOURCE_MODEL, UNLABELLED
from transfer.evaluation.selection import BASELINE
from transfer.evaluation.statistics import BETTER, EQUAL, UNDECIDED, WORSE
from transfer.report.words import budgets, by_budget, in_points, listed, number, per_class, percent

CHECKED = 5  # labels per class from which cross-validation can tell whether unlabelled images help


def headline(comparison: Comparison) -> list[str]:
    """The whole study: which strategy for which budgets; and, as another paragraph, what can be done without."""
    if len(comparison.strategies) == 1:
        return [f"Only {comparison.strategies[0]} was measured: nothing to compare it with."]
    if comparison.seeds == 1:
        return [
            f"**Highest in one label draw: {_recommended(comparison)}.**",
            "One draw says nothing about the next: there are no intervals and no verdicts. Set `split.seeds` to 6 or "
            "more, or to 10 to detect differences of about one standard deviation.",
        ]
    use = f"**Use {_recommended(comparison)}.**"
    alone = comparison.without(UNLABELLED)
    if alone is None or not comparison.needing(UNLABELLED):
        source_model = _helps(comparison, SOURCE_MODEL, "A source model", ONE)
        return [use, f"{source_model}."] if source_model else [use]
    source_model = _helps(alone, SOURCE_MODEL, "; a source model", ONE)
    said = f"{_helps(comparison, UNLABELLED, 'Unlabelled images', MANY)}. Without them use {_recommended(alone)}"
    return [use, f"{said}{source_model}."]


def _recommended(comparison: Comparison) -> str:
    """As in `end_to_end with 1 to 10 labels per class and scratch with 50`."""
    return by_budget({shots: str(comparison.recommended(shots).strategy) for shots in comparison.shots})


ONE, MANY = ("helps", "may help", "is not needed"), ("help", "may help", "are not needed")


def _helps(comparison: Comparison, need: str, what: str, words: tuple[str, str, str]) -> str:
    """Where something that strategies need helps; empty if only such, or no such strategies were measured.

    Args:
        comparison: of the strategies.
        need: which of their needs.
        what: how the sentence begins.
        words: for where the recommended strategy needs it and is better than all without it; where it is not better
            than all; and where it does not need it.
    """
    others = comparison.without(need)
    if others is None or not comparison.needing(need):
        return ""

    def kind(shots: int) -> str:
        chosen = comparison.recommended(shots)
        if chosen.failed:
            return ""
        if need not in comparison.needs[chosen.strategy]:
            return words[2]
        verdicts = {
            comparison.verdict(chosen.strategy, other.strategy, shots) for other in others.at(shots) if not other.failed
        }
        return words[0] if verdicts <= {BETTER} else words[1]

    said = by_budget({shots: kind(shots) for shots in comparison.shots})
    return f"{what} {said}" if said else ""


def advise(comparison: Comparison, shots: int) -> str:
    """What is recommended at one budget and why, what is equal to it, and what more draws would decide."""
    best, chosen = comparison.best(shots), comparison.recommended(shots)
    if best.failed:
        return f"With {per_class(shots)} no strategy learnt anything."
    accuracy = f"{percent(chosen.accuracy, chosen.margin)} %"
    sentences = [f"With {per_class(shots)} use {chosen.strategy}: {accuracy}"]
    if chosen.verdict == BETTER:
        sentences[0] += f", {number(100 * chosen.gain)} points above {BASELINE}"
    sentences.append(f"It needs {listed(comparison.needs[chosen.strategy])}")
    if not chosen.best:
        sentences.append(f"{best.strategy} is highest, at {percent(best.accuracy)} %, but needs more")
    every = comparison.at(shots)
    if equal := [result.strategy for result in every if result.best or result.versus_best == EQUAL]:
        names = [name for name in equal if name != chosen.strategy]
        sentences += [f"Equal within {in_points(comparison.within)}: {listed(names)}"] if names else []
    if undecided := [result for result in every if result.versus_best == UNDECIDED]:
        names = [f"{result.strategy} ({more_draws(result.more_draws)})" for result in undecided]
        sentences.append(f"Undecided against {best.strategy}: {listed(names)}")
    alone = comparison.without(UNLABELLED)
    if alone and UNLABELLED in comparison.needs[chosen.strategy] and not (other := alone.recommended(shots)).failed:
        accuracy = f"{percent(other.accuracy, other.margin)} %"
        sentences.append(f"Without unlabelled images {other.strategy}, {accuracy}")
    return f"{'. '.join(sentences)}."


def more_draws(count: float) -> str:
    """How many draws would decide a comparison, in words."""
    if math.isinf(count):
        return "more draws alone would not tell"
    return f"about {count:,.0f} more draw{'' if count == 1 else 's'} would tell"


def equivalence(result: Any) -> str:
    """Between which budgets the baseline becomes as accurate as a row of `Comparison.results`."""
    low, high = result.equivalent_low, result.equivalent_high
    if math.isinf(high):
        return f"more than {low:,.0f}" if low else "not known"
    return f"{low:,.0f} to {high:,.0f}" if low else f"fewer than {high:,.0f}"


def cautions(comparison: Comparison, groups: int) -> list[str]:
    """Why strategies with unlabelled images may be worse than they look; empty where none was measured.

    Args:
        comparison: of the strategies.
        groups: of test images, such as people or places; 0 where none are known.
    """
    strategies, few = comparison.needing(UNLABELLED), [shots for shots in comparison.shots if shots < CHECKED]
    said = []
    if few:
        said.append(f"With {per_class(*few)} nothing inside the labels can check whether unlabelled images help.")
    if groups:
        said.append("Unlabelled images can reduce accuracy if the test images come from other people or places.")
    return [f"**Caution.** {each}" for each in said if strategies]


def stops(comparison: Comparison) -> list[str]:
    """Which strategies got how many draws, and what that saved; empty where no looks were declared."""
    if len(comparison.looks) == 1:
        return []
    trained, most = int(comparison.results["draws"].sum()), len(comparison.results) * comparison.looks[-1]
    said = [
        f"Interim looks (`split.looks`) were at {listed(comparison.looks)} draws. Only strategies that were still "
        f"undecided, and those that they learn from, got the next draws: {trained:,} of {most:,} trainings "
        f"({trained / most:.0%})."
    ]
    results = comparison.results
    where = {draws: _places(comparison, results[results["draws"] == draws]) for draws in comparison.looks}
    return said + [f"{draws} draws: {places}." for draws, places in where.items() if places]


def failures(comparison: Comparison) -> str:
    """Where a training failed; empty if nowhere."""
    if where := _places(comparison, comparison.results[comparison.results["failed"]]):
        return (
            f"Training failed: {where}. Nearly every image gets the same class there, so nothing is compared with "
            "them. Change the strategy's section of `params.yaml`, most likely its `peak_rate`."
        )
    return ""


def negative_transfer(comparison: Comparison) -> list[str]:
    """Where a strategy with the source model is worse than one without it."""
    names = [name for name in comparison.needing(SOURCE_MODEL) if LABELS in comparison.needs[name]]
    results = comparison.results[comparison.results["strategy"].isin(names)]
    said = []
    for plain in (name for name in comparison.strategies if SOURCE_MODEL not in comparison.needs[name]):
        worse = [comparison.verdict(result.strategy, plain, result.shots) == WORSE for result in rows_of(results)]
        if where := _places(comparison, results.loc[worse]):
            said.append(f"Negative transfer (worse than {plain}): {where}.")
    return said


def _places(comparison: Comparison, results: pd.DataFrame) -> str:
    """Where some results are, as in `dense_head and pixels with 1 to 10 labels per class`; empty without any.

    Args:
        comparison: gives the order of the strategies, and the budgets.
        results: rows of `Comparison.results`.
    """
    places: dict[tuple[int, ...], list[str]] = {}
    for name in comparison.strategies:
        if shots := tuple(results.loc[results["strategy"] == name, "shots"].tolist()):
            places.setdefault(shots, []).append(name)
    return "; ".join(f"{listed(names)} with {budgets(shots, comparison.shots)}" for shots, names in places.items())
