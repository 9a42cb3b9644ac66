"""What the numbers advise, in sentences; they never say more than the intervals do."""

from __future__ import annotations

from transfer.evaluation.comparison import Comparison, Result
from transfer.evaluation.intervals import Estimate
from transfer.evaluation.selection import BASELINE
from transfer.report.words import half_width, listed, number, per_class


def labels(estimate: Estimate, largest: int) -> str:
    """A number of labels per class with its interval, as in `12 (9.1 to 17)`.

    Args:
        estimate: as `transfer.evaluation.statistics.label_equivalence` gives it.
        largest: the largest budget.
    """

    def one(value: float) -> str:
        if value == 0:
            return "fewer than the fewest"
        return (
            f"more than {largest:,}" if value > largest else number(value, 0 if value >= 100 else 1).removesuffix(".0")
        )

    if estimate.low is None or estimate.high is None:
        return one(estimate.mean)
    low, high = one(estimate.low), one(estimate.high)
    return one(estimate.mean) + (f" ({low} to {high})" if low != high else "")


def advise(comparison: Comparison, shots: int) -> str:
    """Which strategy to use at one budget: one sentence, and a second where a cheaper one will do."""
    best = comparison.best(shots)
    budget = f"With {per_class(shots)}"
    accuracy = f"{number(100 * best.accuracy.mean)} %" + half_width(best.accuracy)
    if len(comparison.strategies) == 1:
        return f"{budget} {best.strategy} reaches {accuracy}."
    if comparison.seeds == 1:
        return f"{budget} {best.strategy} came out highest, at {accuracy}, in the only draw: too little for advice."
    ties = [result for result in comparison.at(shots) if result.level and not result.best]
    if len(ties) == len(comparison.strategies) - 1:
        sentence = f"{budget} nothing is separated: {best.strategy} is highest, at {accuracy}"
    elif best.strategy == BASELINE:
        sentence = f"{budget} train from {BASELINE}: {accuracy}" + _lead_over_transfer(comparison, best)
    else:
        sentence = f"{budget} use {best.strategy}: {accuracy}" + _gain(best)
    others = [result.strategy for result in ties if result.strategy != BASELINE or best.gain is None]
    if others and len(ties) < len(comparison.strategies) - 1:
        sentence += f", not separated from {listed(others)}"
    return f"{sentence}." + _cheapest([best, *ties])


def _gain(best: Result) -> str:
    if best.gain is None:
        return ""
    if best.gain.verdict == "not separated":
        return f", not separated from training from {BASELINE}"
    return f", {number(100 * best.gain.difference.mean)} points above training from {BASELINE}"


def _lead_over_transfer(comparison: Comparison, best: Result) -> str:
    losers = [result for result in comparison.at(best.shots) if result.negative]
    if not losers:
        return ""
    closest = max(losers, key=lambda result: result.accuracy.mean)
    assert closest.gain is not None
    lead = number(-100 * closest.gain.difference.mean)
    name = closest.strategy if len(losers) == 1 else f"{closest.strategy}, the closest of those that lose to it"
    return f", {lead} points above {name}"


def _cheapest(results: list[Result]) -> str:
    cheapest = min(results, key=lambda result: result.effort)
    if cheapest.best:
        return ""
    parameters = cheapest.costs["trainable_parameters"]
    return f" The cheapest of these to train is {cheapest.strategy}, with {parameters:,} parameters."


def conclude(comparison: Comparison) -> str:
    """The whole in a few sentences."""
    if comparison.seeds == 1:
        return (
            "One label draw tells nothing of the next: no intervals, no verdicts. Set `split.seeds` to 6 or more, "
            "10 to see differences of about one standard deviation."
        )
    parts = [_transfer_in_all(comparison), negative_transfer(comparison), _one_for_all(comparison)]
    parts = [part for part in parts if part]
    return " ".join(parts) or f"{comparison.strategies[0]} alone was measured: there is nothing to compare it with."


def _transfer_in_all(comparison: Comparison) -> str:
    """Where the best transfer beats the baseline, ties with it, and loses."""
    if not comparison.has_gains:
        return ""
    where: dict[str | None, list[int]] = {}
    for shots in comparison.shots:
        transfers = [result for result in comparison.at(shots) if result.gain is not None]
        best = max(transfers, key=lambda result: result.accuracy.mean)
        where.setdefault(best.gain.verdict if best.gain else None, []).append(shots)
    clauses = [
        f"{verb} with {per_class(*where[verdict])}"
        for verdict, verb in (
            ("better", "beats it"),
            ("not separated", "is not separated from it"),
            ("worse", "loses to it"),
        )
        if verdict in where
    ]
    return f"Against training from {BASELINE}, the best transfer {listed(clauses)}."


def negative_transfer(comparison: Comparison) -> str:
    """Where a strategy is worse than the baseline, and separated from it; empty if nowhere."""
    places: dict[tuple[int, ...], list[str]] = {}
    for name in comparison.transfers:
        if worse := tuple(shots for shots in comparison.shots if comparison.of(name, shots).negative):
            places.setdefault(worse, []).append(name)
    if not places:
        return ""
    where = "; ".join(f"{listed(names)} with {per_class(*shots)}" for shots, names in places.items())
    return f"Negative transfer, worse than training from {BASELINE}: {where}."


def _one_for_all(comparison: Comparison) -> str:
    """The strategy that is best, or not separated from the best, at the most budgets."""
    if len(comparison.strategies) == 1 or len(comparison.shots) == 1:
        return ""
    counts = {
        name: sum(comparison.of(name, shots).level for shots in comparison.shots) for name in comparison.strategies
    }
    most = max(counts.values())
    names = [name for name, count in counts.items() if count == most]
    where = "all" if most == len(comparison.shots) else f"{most} of"
    budgets = f"{where} {len(comparison.shots)} numbers of labels"
    return (
        f"{listed(names)} {'is' if len(names) == 1 else 'are each'} the best, or not separated from it, at {budgets}."
    )
