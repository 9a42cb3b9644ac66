"""What a comparison of revisions says, in its order; `transfer.report.pages` makes a page of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from transfer.compare.metrics import ACCURACY, METRICS, Metric
from transfer.compare.revisions import Revision, code_changes, differing_params, has_other_test_data
from transfer.compare.verdicts import SAME, VERDICTS, compare
from transfer.console import counted, shown, some
from transfer.evaluation.comparison import rows_of
from transfer.evaluation.statistics import EQUAL
from transfer.report.blocks import MARKS, Bullets, Details, Entry, Section, Table, Text, key, plain
from transfer.report.words import (
    by_budget,
    in_points,
    least_to_most,
    listed,
    number,
    per_class,
    plus_minus,
    signed,
    spans,
)

MOST = 24  # characters of a parameter's value in a table
NONE = plain(math.nan)


@dataclass(frozen=True)
class Comparison:
    """Revisions against the first of them.

    Attributes:
        base: the first.
        others: the rest.
        metrics: what is compared.
        changes: for each of the others what `transfer.compare.verdicts.compare` returns.
    """

    base: Revision
    others: list[Revision]
    metrics: list[Metric]
    changes: list[pd.DataFrame]


def compare_all(revisions: Sequence[Revision], metrics: Sequence[Metric], tolerance: float) -> Comparison:
    """Every revision against the first."""
    base, *others = revisions
    return Comparison(base, others, list(metrics), [compare(base, other, metrics, tolerance) for other in others])


def write_changes(comparison: Comparison) -> list[Section]:
    """The whole comparison."""
    tables = [_metric(comparison, metric) for metric in comparison.metrics]
    return [_recommendation(comparison), _summary(comparison), *tables, _params(comparison), _code(comparison)]


def _recommendation(comparison: Comparison) -> Section:
    base, *others = comparison.base, *comparison.others
    items = [f"**{base.name}**: {by_budget(base.recommended) or 'not known'}"]
    items += [f"**{other.name}**: {_recommended(base, other)}" for other in others]
    return Section("recommendation", "Recommendation", [Bullets(items)])


def _recommended(base: Revision, other: Revision) -> str:
    """Whether another revision recommends something else, and where."""
    pairs = {
        shots: (name, other.recommended[shots])
        for shots, name in base.recommended.items()
        if shots in other.recommended
    }
    if not pairs:
        return by_budget(other.recommended) or "not known"
    changed = {shots: "" if old == new else f"{old} → {new}" for shots, (old, new) in pairs.items()}
    unchanged = [shots for shots, words in changed.items() if not words]
    alone = {shots: name for shots, name in other.recommended.items() if shots not in pairs}
    if len(unchanged) == len(other.recommended):
        return "no change"
    said = [f"changed: {by_budget(changed)}"] if len(unchanged) < len(pairs) else []
    if unchanged:
        said.append(f"no change with {spans(unchanged, list(pairs))}")
    return "; ".join([*said, *([by_budget(alone)] if alone else [])])


def _summary(comparison: Comparison) -> Section:
    base, others = comparison.base, comparison.others
    items = [_described(base)]
    doubts = [f"{revision.name}: {doubt}" for revision in (base, *others) for doubt in revision.doubts]
    for other, changes in zip(others, comparison.changes, strict=True):
        verdicts = [_verdicts(changes, metric, base.within) for metric in comparison.metrics]
        draws = sorted({*changes.groupby(["strategy", "shots"])["draws"].max()} - {0}) or [0]  # fewer where looks ended
        shared = f"{least_to_most(draws)} draw{'' if draws == [1] else 's'}"
        paired = f"paired over {shared}" if base.seeds == other.seeds else f"paired over the {shared} that both have"
        items.append(f"{_described(other)}: {'; '.join([*verdicts, paired])}")
        if has_other_test_data(base, other):
            doubts.append(
                f"{other.name}: its test data are not those of {base.name}, which may explain differences; their "
                "intervals are over draws alone"
            )
    return Section("revisions", "Revisions", [Bullets(items), *([Bullets(doubts)] if doubts else [])])


def _described(revision: Revision) -> str:
    facts = [revision.place, counted(len(revision.runs), "run"), counted(len(revision.seeds), "draw")]
    if revision.source_accuracy is not None:
        facts.append(f"source model {number(100 * revision.source_accuracy)} %")
    return f"**{revision.name}** ({', '.join(facts)})"


def _verdicts(changes: pd.DataFrame, metric: Metric, within: float) -> str:
    """How many verdicts of each kind there are, as in `accuracy better in 2, the same in 18 of 20`."""
    counts = changes[changes["metric"] == metric.name]["verdict"].value_counts()
    said = {SAME: "the same", EQUAL: f"equal within {in_points(within)}"}
    words = [f"{said.get(name, name)} in {counts[name]}" for name in VERDICTS if name in counts]
    return f"{metric.name} {', '.join(words)} of {counts.sum()}"


def _metric(comparison: Comparison, metric: Metric) -> Section:
    """A row for every strategy and number of shots; those in which all is the same are folded away."""
    by_group = [
        {(row.strategy, row.shots): row for row in rows_of(changes[changes["metric"] == metric.name])}
        for changes in comparison.changes
    ]
    rows: dict[bool, list[list[Entry]]] = {False: [], True: []}
    for group in sorted(set().union(*by_group)):
        changes = [changes_of.get(group) for changes_of in by_group]
        base = next(change for change in changes if change)
        row = [plain(group[0]), plain(group[1]), _value(base.before, base.before_margin, metric)]
        for change in changes:
            if change is None:  # which another revision has
                row += [NONE, NONE]
            else:
                row += [_value(change.after, change.after_margin, metric), _difference(change)]
        rows[all(change and change.verdict == SAME for change in changes)].append(row)
    head = ["strategy", "labels", comparison.base.name]
    for other in comparison.others:
        head += [other.name, f"− {comparison.base.name}"]
    caption = f"{metric.title} by strategy and labels per class"
    blocks: list[Any] = []
    if rows[False]:
        note = _note(metric, comparison.base.within) if metric.better else ""
        blocks.append(Table(caption, head, rows[False], note=note))
    if rows[True]:
        summary = f"{len(rows[True])} of {len(rows[True]) + len(rows[False])} the same, draw by draw"
        blocks.append(Details(summary, [Table(caption, head, rows[True])]))
    return Section(metric.name, metric.title, blocks)


def _note(metric: Metric, within: float) -> str:
    signs = [key("better"), key("worse"), key("undecided"), key("same")]
    sampled = "label draws, with these test images"
    if metric.name == ACCURACY:
        signs.insert(2, f"{key('equal')}, within {in_points(within)}")
        sampled = "label draws and test images"
    return (
        f"{'; '.join(signs)}. ± is half of the 95 % interval over {sampled}; intervals of differences are "
        "Holm-corrected over all comparisons of a revision."
    )


def _value(mean: float, margin: float, metric: Metric) -> Entry:
    if math.isnan(mean):
        return NONE
    return Entry(number(metric.scale * mean, metric.decimals) + plus_minus(margin, metric.scale, metric.decimals), mean)


def _difference(change: Any) -> Entry:
    """The difference in a row of what is compared, with the mark of its verdict."""
    if math.isnan(change.difference):
        return NONE
    if change.verdict == SAME:
        return Entry("", 0.0, SAME)
    metric = METRICS[change.metric]
    text = signed(metric.scale * change.difference, metric.decimals)
    text += plus_minus(change.margin, metric.scale, metric.decimals)
    return Entry(text, change.difference, change.verdict if change.verdict in MARKS else "")


def _params(comparison: Comparison) -> Section:
    revisions = [comparison.base, *comparison.others]
    differing = differing_params(revisions)
    if not differing:
        return Section("parameters", "Parameters", [Text("No parameter differs.")])
    rows = [[plain(name), *(plain(_param(value)) for value in values)] for name, values in differing.items()]
    head = ["parameter", *(revision.name for revision in revisions)]
    return Section("parameters", "Parameters", [Table("Parameters that differ", head, rows)])


def _param(value: Any) -> str:
    return "–" if value is None else shown(json.dumps(value, ensure_ascii=False, default=str), MOST)


def _code(comparison: Comparison) -> Section:
    base, others = comparison.base, comparison.others
    if unknown := [revision.name for revision in (base, *others) if not revision.stages]:
        text = f"No dvc.lock in {listed(unknown)}: what code made the results is unknown."
        return Section("code", "Code", [Text(text)])
    items = []
    for other in others:
        stages_of: dict[str, list[str]] = {}
        for stage, files in code_changes(base, other).items():
            stages_of.setdefault(some(files), []).append(stage)
        items += [f"**{other.name}**, {listed(stages)}: {files}" for files, stages in stages_of.items()]
    if not items:
        return Section("code", "Code", [Text("No stage's code differs.")])
    return Section("code", "Code", [Text(f"Stages whose code is not that of {base.name}:"), Bullets(items)])


def describe_regressions(comparison: Comparison) -> list[str]:
    """One line each, the largest loss first."""
    found = []
    for other, changes in zip(comparison.others, comparison.changes, strict=True):
        for change in rows_of(changes[changes["regression"]]):
            points = " points" if METRICS[change.metric].scale == 100 else ""
            budget = f"{change.strategy} with {per_class(change.shots)}"
            line = f"{other.name}: {budget}, {change.metric} {_difference(change).text}{points}"
            found.append((-abs(change.difference), line))
    return [line for _, line in sorted(found)]


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as numbers, in the metrics' own units; what `transfer.compare.verdicts.compare` says of them."""
    revisions = [comparison.base, *comparison.others]
    return {
        "base": comparison.base.name,
        "equal_within_points": 100 * comparison.base.within,
        "revisions": [
            {
                "name": revision.name,
                "place": revision.place,
                "runs": len(revision.runs),
                "seeds": revision.seeds,
                "source_accuracy": revision.source_accuracy,
                "recommended": revision.recommended,
                "doubts": revision.doubts,
            }
            for revision in revisions
        ],
        "comparisons": [
            {
                "revision": other.name,
                "changes": json.loads(changes.to_json(orient="records", double_precision=15)),
                "code": code_changes(comparison.base, other),
                "other_test_data": has_other_test_data(comparison.base, other),
            }
            for other, changes in zip(comparison.others, comparison.changes, strict=True)
        ],
        "parameters": {
            name: dict(zip((revision.name for revision in revisions), values, strict=True))
            for name, values in differing_params(revisions).items()
        },
        "regressions": describe_regressions(comparison),
    }
