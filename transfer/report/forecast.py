"""The section on how many more labels: what the learning curves say beyond what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from transfer.evaluation.forecast import REACH, Forecast, forecasts
from transfer.evaluation.outcomes import Correct
from transfer.report.blocks import Entry, Section, Table, Text, plain
from transfer.report.study import Study
from transfer.report.words import number, percent

NONE = "no forecast"


def how_many_more(study: Study) -> list[Section]:
    """The forecast of every strategy that has one, with its back-test; no section where none has."""
    crossed = Correct.of(study.outcomes) if study.data["target"]["folds"] else None
    found = forecasts(study.comparison, study.runs, study.target_accuracy, crossed)
    if not found:
        return []
    last, wanted = study.comparison.shots[-1], f"{100 * study.target_accuracy:g} %"
    ahead = [2 * last, REACH * last]
    head = ["strategy", f"labels for {wanted}", *(f"with {shots:,}" for shots in ahead), "back-test"]
    rows = [
        [plain(each.strategy), _needed(each), *(_accuracy(each.ahead.get(shots)) for shots in ahead), _tests(each)]
        for each in found
    ]
    over = "over the draws, on these test images" if crossed is None else "over repetitions and images"
    note = (
        f"Intervals are 95 %: {over}. Labels are per class, to two digits. "
        "Back-test: a number of labels that was hidden, its forecast from the smaller ones, and what was measured."
    )
    how = (
        f"How many labels per class `report.target_accuracy` needs, and the accuracy with 2 and {REACH} times the "
        "labels. Between the measured numbers of labels a smooth curve is drawn. Beyond them it goes on as a power law "
        "whose offset the data leave partly open, so the intervals are wide. No back-test can see a bend that comes "
        "after the last budget: a curve that turns there leaves the interval."
    )
    table = Table(f"Labels per class for {wanted}, and accuracy in % with more labels", head, rows, note=note)
    tells = any(each.says or math.isfinite(each.needed[0]) for each in found)
    return [Section("more", "How many more labels", [Text(how), Text(_tested(found)), *([table] if tells else [])])]


def _needed(forecast: Forecast) -> Entry:
    low, middle, high = forecast.needed
    if math.isinf(low):
        return Entry(f"more than {forecast.limit:,}", forecast.limit)
    if high <= forecast.first:
        return Entry(f"at most {forecast.first:,}", forecast.first)
    if math.isinf(high):
        return Entry(f"{_rounded(low)} to more than {forecast.limit:,}", middle)
    return Entry(f"{_rounded(middle)} ({_rounded(low)} to {_rounded(high)})", middle)


def _rounded(labels: float) -> str:
    """To two digits."""
    return number(float(f"{labels:.2g}"), 0)


def _accuracy(ends: tuple[float, float] | None) -> Entry:
    return Entry(" to ".join(map(percent, ends)), ends[0]) if ends else Entry(NONE, -math.inf)


def _tests(forecast: Forecast) -> Entry:
    said = [
        f"{test.shots:,}: {percent(test.low)} to {percent(test.high)}, measured {percent(test.measured)}"
        for test in forecast.tests
    ]
    return Entry("; ".join(said) or "not possible", sum(test.inside for test in forecast.tests))


def _tested(found: Sequence[Forecast]) -> str:
    """How the back-tests came out."""
    tests = [test for each in found for test in each.tests]
    possible = (
        "A back-test needs three numbers of labels and, to be hidden, the largest or the second largest, at most "
        f"{REACH} times the one before."
    )
    if not tests:
        return f"**The forecast could not be tested**, so none is given. {possible}"
    inside = sum(test.inside for test in tests)
    silent = any(not each.says for each in found)
    failed = " A strategy whose back-test failed or was not possible gets no forecast." if silent else ""
    return f"Of {len(tests)} hidden means {inside} lay inside their intervals.{failed} {possible}"
