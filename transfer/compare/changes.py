"""What a comparison of revisions says, in its order; `transfer.report.pages` makes a page of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transfer.compare.revisions import Revision, code_changes, differing_params, unpaired_because
from transfer.compare.verdicts import METRICS, Change, Metric, compare
from transfer.console import counted, some
from transfer.evaluation.intervals import Estimate
from transfer.report.blocks import Bullets, Entry, Section, Table, Text, key, plain
from transfer.report.words import listed, number, per_class, signed

MOST = 60  # characters of a parameter's value in a table


@dataclass(frozen=True)
class RevisionComparison:
    """Revisions against the first of them.

    Attributes:
        base: the first.
        others: the rest.
        metrics: what is compared.
        tolerance: how much worse a mean may be, in the metrics' own unit.
        reasons: for each of the others, why it cannot be compared draw by draw; empty where it can.
        changes: for each of the others.
    """

    base: Revision
    others: list[Revision]
    metrics: list[Metric]
    tolerance: float
    reasons: list[list[str]]
    changes: list[list[Change]]

    @property
    def regressions(self) -> list[tuple[Revision, Change]]:
        """What is worse by more than the tolerance, and separated from it."""
        pairs = zip(self.others, self.changes, strict=True)
        return [(other, change) for other, changes in pairs for change in changes if change.regression]


def compare_all(revisions: Sequence[Revision], metrics: Sequence[Metric], tolerance: float) -> RevisionComparison:
    """Every revision against the first."""
    base, *others = revisions
    reasons = [unpaired_because(base, other) for other in others]
    changes = [
        compare(base.cells, other.cells, metrics, paired=not why, tolerance=tolerance)
        for other, why in zip(others, reasons, strict=True)
    ]
    return RevisionComparison(base, others, list(metrics), tolerance, reasons, changes)


def write_changes(comparison: RevisionComparison) -> list[Section]:
    """The whole comparison."""
    tables = [_metric(comparison, metric) for metric in comparison.metrics]
    return [_summary(comparison), *tables, _params(comparison), _code(comparison)]


def _summary(comparison: RevisionComparison) -> Section:
    base = comparison.base
    items = [f"{_described(base)}: what the others are compared with"]
    for other, changes, reasons in zip(comparison.others, comparison.changes, comparison.reasons, strict=True):
        sentences = [_verdicts(changes, metric) for metric in comparison.metrics]
        items.append(f"{_described(other)}: {'; '.join(sentences)}. {_how(base, other, changes, reasons)}")
    doubts = [f"{revision.name}: {doubt}" for revision in (base, *comparison.others) for doubt in revision.doubts]
    return Section("revisions", "Revisions", [Bullets(items), *([Bullets(doubts)] if doubts else [])])


def _described(revision: Revision) -> str:
    cells = sum(len(values) for values in revision.cells.values())
    facts = [revision.place, counted(cells, "cell"), counted(len(revision.seeds), "draw")]
    if revision.source_accuracy is not None:
        facts.append(f"source model {number(100 * revision.source_accuracy)} %")
    return f"**{revision.name}** ({', '.join(facts)})"


def _verdicts(changes: Sequence[Change], metric: Metric) -> str:
    """How many verdicts of each kind there are, as in `accuracy better in 2, worse in 1 of 24, the same in 18`."""
    own = [change for change in changes if change.metric == metric.name]
    counts = {
        "better": sum(change.verdict == "better" for change in own),
        "worse": sum(change.verdict == "worse" for change in own),
        "not separated": sum(change.verdict == "not separated" and not change.same for change in own),
        "the same": sum(change.same for change in own),
        "one draw only": sum(bool(change.difference) and not change.same and not change.verdict for change in own),
        "in one of both only": sum(not change.difference for change in own),
    }
    words = [f"{name} in {count}" for name, count in counts.items() if count]
    return f"{metric.name} {', '.join(words)} of {len(own)}"


def _how(base: Revision, other: Revision, changes: Sequence[Change], reasons: Sequence[str]) -> str:
    if reasons:
        sentence = f"{listed(reasons)}, so it is compared with {base.name} unpaired."
        return sentence[0].upper() + sentence[1:]
    draws = sorted({change.draws for change in changes if change.difference})
    if not draws:
        return f"It shares no cell with {base.name}."
    shared = counted(draws[-1], "draw") if len(draws) == 1 else f"{draws[0]} to {draws[-1]} draws"
    return f"Paired over {shared}." if base.seeds == other.seeds else f"Paired over the {shared} that both have."


def _metric(comparison: RevisionComparison, metric: Metric) -> Section:
    base = comparison.base
    groups = sorted({group for revision in (base, *comparison.others) for group in revision.cells})
    strategies, shots = sorted({name for name, _ in groups}), sorted({count for _, count in groups})
    by_group = [
        {(change.strategy, change.shots): change for change in changes if change.metric == metric.name}
        for changes in comparison.changes
    ]
    rows = []
    for name in strategies:
        before = [_first(by_group, (name, count)) for count in shots]
        rows.append(
            [plain(name), plain(base.name), *(_value(change.before if change else None, metric) for change in before)]
        )
        for other, changes in zip(comparison.others, by_group, strict=True):
            own = [changes.get((name, count)) for count in shots]
            if any(change and change.before != change.after for change in own):
                rows.append([plain(name), plain(other.name), *(_value(c.after if c else None, metric) for c in own)])
            rows.append([plain(name), plain(f"{other.name} − {base.name}"), *(_difference(c, metric) for c in own)])
    note = (
        f"{key('better')}; {key('worse')}; {key('not separated')}; {key('same')}. ± is half of the 95 % interval over "
        "the draws, with the test images as they are; of a difference, corrected (Holm) for all that a revision is "
        "judged by: its verdicts hold together."
    )
    head = ["strategy", "revision", *(f"{count:,}" for count in shots)]
    table = Table(f"{metric.title} by labelled images per class", head, rows, words=2, note=note)
    return Section(metric.name, metric.title, [table])


def _first(by_group: Sequence[dict[tuple[str, int], Change]], group: tuple[str, int]) -> Change | None:
    return next((changes[group] for changes in by_group if group in changes), None)


def _value(estimate: Estimate | None, metric: Metric) -> Entry:
    if estimate is None:
        return Entry("–", "")
    return Entry(number(metric.scale * estimate.mean, metric.decimals) + _half_width(estimate, metric), estimate.mean)


def _difference(change: Change | None, metric: Metric) -> Entry:
    if change is None or change.difference is None:
        return Entry("–", "")
    if change.same:
        return Entry("", 0.0, "same")
    mean = change.difference.mean
    shown = signed(metric.scale * mean, metric.decimals) + _half_width(change.difference, metric)
    return Entry(shown, mean, change.verdict or "")


def _half_width(estimate: Estimate, metric: Metric) -> str:
    if estimate.high is None:
        return ""
    return f" ± {number(metric.scale * (estimate.high - estimate.mean), metric.decimals)}"


def _params(comparison: RevisionComparison) -> Section:
    revisions = [comparison.base, *comparison.others]
    differing = differing_params(revisions)
    if not differing:
        return Section("parameters", "Parameters", [Text("No parameter differs.")])
    rows = [[plain(f"`{name}`"), *(plain(_shown(value)) for value in values)] for name, values in differing.items()]
    head = ["parameter", *(revision.name for revision in revisions)]
    return Section("parameters", "Parameters", [Table("Parameters that differ", head, rows, words=len(head))])


def _shown(value: Any) -> str:
    text = "–" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def _code(comparison: RevisionComparison) -> Section:
    changes = [code_changes(comparison.base, other) for other in comparison.others]
    stages = list(dict.fromkeys(stage for differing in changes for stage in differing))
    unknown = [revision.name for revision in (comparison.base, *comparison.others) if not revision.lock]
    if unknown:
        return Section(
            "code", "Code", [Text(f"No dvc.lock in {listed(unknown)}: what code made the results is unknown.")]
        )
    if not stages:
        return Section("code", "Code", [Text("No stage's code differs.")])
    rows = [[plain(stage), *(plain(some(differing.get(stage, ["–"]))) for differing in changes)] for stage in stages]
    head = ["stage", *(other.name for other in comparison.others)]
    caption = f"Stages whose code is not that of {comparison.base.name}"
    return Section("code", "Code", [Table(caption, head, rows, words=len(head))])


def describe_regressions(comparison: RevisionComparison) -> list[str]:
    """One line each, the largest loss first."""
    worst = sorted(comparison.regressions, key=lambda pair: -abs(pair[1].difference.mean if pair[1].difference else 0))
    lines = []
    for other, change in worst:
        metric = METRICS[change.metric]
        lines.append(
            f"{other.name}: {change.strategy} with {per_class(change.shots)}, {metric.name} "
            f"{_difference(change, metric).text}{' points' if metric.in_percent else ''}"
        )
    return lines


def tolerated(comparison: RevisionComparison) -> str:
    """The tolerance in words, with its unit."""
    units = {metric.in_percent for metric in comparison.metrics}
    return f"{number(100 * comparison.tolerance)} points" if units == {True} else f"{comparison.tolerance:g}"


def to_json(comparison: RevisionComparison) -> dict[str, Any]:
    """The comparison as numbers, in the metrics' own units."""
    revisions = [comparison.base, *comparison.others]
    return {
        "base": comparison.base.name,
        "tolerance": comparison.tolerance,
        "revisions": [
            {
                "name": revision.name,
                "place": revision.place,
                "cells": sum(len(values) for values in revision.cells.values()),
                "seeds": revision.seeds,
                "source_accuracy": revision.source_accuracy,
                "doubts": revision.doubts,
            }
            for revision in revisions
        ],
        "comparisons": [
            {
                "revision": other.name,
                "paired": not reasons,
                "unpaired_because": reasons,
                "changes": [_change_as_json(change) for change in changes],
                "code": code_changes(comparison.base, other),
            }
            for other, reasons, changes in zip(comparison.others, comparison.reasons, comparison.changes, strict=True)
        ],
        "parameters": {
            name: dict(zip((revision.name for revision in revisions), values, strict=True))
            for name, values in differing_params(revisions).items()
        },
        "regressions": len(comparison.regressions),
    }


def _change_as_json(change: Change) -> dict[str, Any]:
    numbers = {name: getattr(change, name) for name in ("before", "after", "difference")}
    return vars(change) | {name: estimate._asdict() if estimate else None for name, estimate in numbers.items()}
