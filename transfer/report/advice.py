"""What the numbers advise, in sentences; they never say more than the intervals do."""

from __future__ import annotations

import math
from typing import Any

from transfer.evaluation.comparison import LABELS, SOURCE_MODEL, UNLABELLED, Comparison
from transfer.evaluation.selection import BASELINE
from transfer.report.words import listed, number, per_class, percent

CHECKED = 5  # labels per class from which cross-validation can tell whether unlabelled images help


def labels(result: Any, largest: int) -> str:
    """How many labels per class the baseline needs, with the interval, as in `12 (9.1 to 17)`.

    Args:
        result: a row of `Comparison.results`.
        largest: the largest budget.
    """

    def one(value: float) -> str:
        if value == 0:
            return "fewer than the fewest"
        if value > largest:
            return f"more than {largest:,}"
        return number(value, 0 if value >= 100 else 1).removesuffix(".0")

    mean, low, high = one(result.equivalent), one(result.equivalent_low), one(result.equivalent_high)
    return mean if low == high or math.isnan(result.equivalent_low) else f"{mean} ({low} to {high})"


def needs(comparison: Comparison) -> str:
    """What every strategy needs, as in `labels (pixels and scratch); labels and source model (end_to_end)`."""
    names: dict[str, list[str]] = {}
    for name in comparison.strategies:
        names.setdefault(listed(comparison.needs[name]), []).append(name)
    return "; ".join(f"{what} ({listed(names[what])})" for what in sorted(names, key=len))


def _named(comparison: Comparison, strategy: str) -> str:
    """A strategy with what it needs beside labels, as in `end_to_end (with the source model)`."""
    needed = comparison.needs[strategy]
    others = [f"the {need}" if need == SOURCE_MODEL else need for need in needed if need != LABELS]
    return f"{strategy} (with {listed(others or ['labels alone'])}{'' if LABELS in needed else ', without labels'})"


def advise(comparison: Comparison, shots: int) -> str:
    """Which strategy to use at one budget, whether a cheaper one will do, and the best without unlabelled images."""
    best, every = comparison.best(shots), [result for result in comparison.at(shots) if not result.failed]
    if not every:
        return f"With {per_class(shots)} no strategy learnt anything."
    budget, accuracy = f"With {per_class(shots)}", f"{percent(best.accuracy, best.margin)} %"
    name = _named(comparison, best.strategy)
    ties = [result for result in every if result.level and not result.best]
    if len(every) == 1 or comparison.seeds == 1:
        sentences = [f"{budget} {name} reaches {accuracy}{', the highest' if len(every) > 1 else ''}"]
    elif len(ties) == len(every) - 1:
        sentences = [f"{budget} the strategies are not separated: {name} is highest, at {accuracy}"]
    else:
        sentences = [f"{budget} {'train from' if best.strategy == BASELINE else 'use'} {name}: {accuracy}"]
        if best.verdict == "better":
            sentences[0] += f", {number(100 * best.gain)} points above training from {BASELINE}"
        if ties:
            sentences[0] += f", not separated from {listed([result.strategy for result in ties])}"
    cheapest = min([best, *ties], key=lambda result: (result.trainable_parameters, result.effort))
    if cheapest.trainable_parameters < best.trainable_parameters:
        parameters = f"{cheapest.trainable_parameters:,} parameters"
        sentences.append(f"The cheapest of these to train is {cheapest.strategy}, with {parameters}")
    alone = [result for result in comparison.labels_only.at(shots) if result.best and not result.failed]
    if alone and UNLABELLED in comparison.needs[best.strategy]:
        other = f"{_named(comparison, alone[0].strategy)} is highest: {percent(alone[0].accuracy, alone[0].margin)} %"
        sentences.append(f"Without unlabelled images {other}")
    return f"{'. '.join(sentences)}."


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
        said.append(
            "Strategies with unlabelled images can lose where the test images come from other people or places than "
            "these images."
        )
    return [f"**Caution.** {each}" for each in said if strategies]


def conclude(comparison: Comparison) -> str:
    """The whole in a few sentences."""
    parts = [_failed(comparison)]
    if comparison.seeds == 1:
        parts.append(
            "One label draw says nothing about the next: there are no intervals and no verdicts. Set `split.seeds` to "
            "6 or more, or to 10 to detect differences of about one standard deviation."
        )
    else:
        parts += [_best_transfer(comparison), _negative_transfer(comparison), _one_for_all(comparison)]
    return " ".join(filter(None, parts)) or f"Only {comparison.strategies[0]} was measured: nothing to compare it with."


def _failed(comparison: Comparison) -> str:
    """Where a training failed; empty if nowhere."""
    places = {name: [result.shots for result in comparison.of(name) if result.failed] for name in comparison.strategies}
    where = [f"{name} with {per_class(*shots)}" for name, shots in places.items() if shots]
    if not where:
        return ""
    return (
        f"Training failed: {'; '.join(where)}. Nearly every image gets the same class there, so nothing is compared "
        "with them. Change the strategy's section of `params.yaml`, most likely its `peak_rate`."
    )


def _best_transfer(comparison: Comparison) -> str:
    """Where the best transfer strategy is better than the baseline, not separated from it, and worse."""
    where: dict[str, list[int]] = {}
    names = comparison.needing(SOURCE_MODEL)
    for shots in comparison.shots:
        if transfers := [result for result in comparison.at(shots) if result.verdict and result.strategy in names]:
            where.setdefault(max(transfers, key=lambda result: result.accuracy).verdict, []).append(shots)
    if not where:
        return ""
    clauses = [f"{verdict} with {per_class(*shots)}" for verdict, shots in sorted(where.items())]
    return f"Compared with training from {BASELINE}, the best transfer strategy is {listed(clauses)}."


def _negative_transfer(comparison: Comparison) -> str:
    """Where a strategy with the source model is worse than one without it, and separated; empty if nowhere."""
    names = [name for name in comparison.needing(SOURCE_MODEL) if LABELS in comparison.needs[name]]
    sentences = []
    for plain in (name for name in comparison.strategies if SOURCE_MODEL not in comparison.needs[name]):
        places: dict[tuple[int, ...], list[str]] = {}
        for name in names:
            if worse := _worse(comparison, name, plain):
                places.setdefault(tuple(worse), []).append(name)
        if places:
            where = "; ".join(f"{listed(names)} with {per_class(*shots)}" for shots, names in places.items())
            than = f"training from {plain}" if plain == BASELINE else plain
            sentences.append(f"Negative transfer (worse than {than}): {where}.")
    return " ".join(sentences)


def _worse(comparison: Comparison, strategy: str, other: str) -> list[int]:
    """The budgets at which a strategy is worse than another, and separated from it."""
    first, second, verdict, shots = (comparison.pairs[name] for name in ("first", "second", "verdict", "shots"))
    ahead = (first == other) & (second == strategy) & (verdict == "better")
    behind = (first == strategy) & (second == other) & (verdict == "worse")
    return shots[ahead | behind].tolist()


def _one_for_all(comparison: Comparison) -> str:
    """The strategy that is best, or not separated from the best, at the most budgets."""
    if len(comparison.strategies) == 1 or len(comparison.shots) == 1:
        return ""
    counts = {name: sum(result.level for result in comparison.of(name)) for name in comparison.strategies}
    most = max(counts.values())
    names = [name for name, count in counts.items() if count == most]
    verb, budgets = "is" if len(names) == 1 else "are", f"{most} of {len(comparison.shots)} label budgets"
    return f"{listed(names)} {verb} best, or not separated from the best, at {budgets}."
