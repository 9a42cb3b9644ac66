"""What the numbers advise, in sentences; they never say more than the intervals do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import binomtest

from transfer.evaluation.comparison import Comparison
from transfer.evaluation.selection import BASELINE
from transfer.report.words import listed, number, per_class, percent


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


def as_it_is(correct: np.ndarray) -> str:
    """How good the source model is on the target without any label: of each test image, whether it is right."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    return (
        f"Source model as it is, no labels: {percent(correct.mean())} % "
        f"({percent(interval.low)} to {percent(interval.high)}, 95 % interval over test images)."
    )


def advise(comparison: Comparison, shots: int) -> str:
    """Which strategy to use at one budget: one sentence, and a second where a cheaper one will do."""
    best, every = comparison.best(shots), [result for result in comparison.at(shots) if not result.failed]
    if not every:
        return f"With {per_class(shots)} no strategy learnt anything."
    budget, accuracy = f"With {per_class(shots)}", f"{percent(best.accuracy, best.margin)} %"
    if len(every) == 1 or comparison.seeds == 1:
        return f"{budget} {best.strategy} reaches {accuracy}{', the highest' if len(every) > 1 else ''}."
    ties = [result for result in every if result.level and not result.best]
    if len(ties) == len(every) - 1:
        sentence = f"{budget} the strategies are not separated: {best.strategy} is highest, at {accuracy}"
    else:
        sentence = f"{budget} {'train from' if best.strategy == BASELINE else 'use'} {best.strategy}: {accuracy}"
        if best.verdict == "better":
            sentence += f", {number(100 * best.gain)} points above training from {BASELINE}"
        if ties:
            sentence += f", not separated from {listed([result.strategy for result in ties])}"
    cheapest = min([best, *ties], key=lambda result: result.effort)
    if cheapest.best:
        return f"{sentence}."
    parameters = f"{cheapest.trainable_parameters:,} parameters"
    return f"{sentence}. The cheapest of these to train is {cheapest.strategy}, with {parameters}."


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
    for shots in comparison.shots:
        if transfers := [result for result in comparison.at(shots) if result.verdict]:
            where.setdefault(max(transfers, key=lambda result: result.accuracy).verdict, []).append(shots)
    if not where:
        return ""
    clauses = [f"{verdict} with {per_class(*shots)}" for verdict, shots in sorted(where.items())]
    return f"Compared with training from {BASELINE}, the best transfer strategy is {listed(clauses)}."


def _negative_transfer(comparison: Comparison) -> str:
    """Where a strategy is worse than the baseline, and separated from it; empty if nowhere."""
    places: dict[tuple[int, ...], list[str]] = {}
    for name in comparison.transfers:
        if worse := tuple(result.shots for result in comparison.of(name) if result.verdict == "worse"):
            places.setdefault(worse, []).append(name)
    if not places:
        return ""
    where = "; ".join(f"{listed(names)} with {per_class(*shots)}" for shots, names in places.items())
    return f"Negative transfer (worse than training from {BASELINE}): {where}."


def _one_for_all(comparison: Comparison) -> str:
    """The strategy that is best, or not separated from the best, at the most budgets."""
    if len(comparison.strategies) == 1 or len(comparison.shots) == 1:
        return ""
    counts = {name: sum(result.level for result in comparison.of(name)) for name in comparison.strategies}
    most = max(counts.values())
    names = [name for name, count in counts.items() if count == most]
    verb, budgets = "is" if len(names) == 1 else "are", f"{most} of {len(comparison.shots)} label budgets"
    return f"{listed(names)} {verb} best, or not separated from the best, at {budgets}."
