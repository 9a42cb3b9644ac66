"""The sections that are tables of the comparison: accuracy, gains and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from transfer.evaluation.comparison import LABELS, UNLABELLED, Comparison, rows_of
from transfer.evaluation.selection import BASELINE
from transfer.report import charts
from transfer.report.advice import labels, needs
from transfer.report.blocks import Details, Entry, Section, Table, Text, key, plain, table_of
from transfer.report.words import listed, number, percent, points


def _by_budget(
    comparison: Comparison, caption: str, entry: Callable[[Any], Entry], rows: Mapping[str, Sequence[Any]], note: str
) -> Table:
    """A table with a column for each budget, of what `entry` makes of the results of each row."""
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    return Table(caption, head, [[plain(name), *map(plain, map(entry, row))] for name, row in rows.items()], note=note)


def _rows(comparison: Comparison, strategies: Sequence[str]) -> dict[str, list[Any]]:
    """The results of strategies by what their row is called."""
    unlabelled = [name for name in strategies if LABELS not in comparison.needs[name]]
    return {f"{name} (0 labels)" if name in unlabelled else name: comparison.of(name) for name in strategies}


def columns(results: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Some columns, renamed, after strategy and budget."""
    names = {"strategy": "strategy", "shots": "labels per class"} | names
    return results[list(names)].rename(columns=names)


def accuracy(comparison: Comparison) -> Section:
    """A table for each question: which strategy with labels alone, and which with unlabelled images as well."""
    caption, alone = "accuracy in % by labelled images per class", comparison.labels_only
    unlabelled = _rows(comparison, comparison.needing(UNLABELLED))
    if not unlabelled or not alone.strategies:
        tables = [_accuracies(comparison, caption.capitalize(), _rows(comparison, comparison.strategies))]
    else:
        best = [alone.best(shots).strategy for shots in comparison.shots]
        unlabelled["best of only labels"] = [comparison.of(name)[place] for place, name in enumerate(best)]
        tables = [
            _accuracies(comparison, f"Only labels: {caption}", _rows(alone, alone.strategies)),
            _accuracies(
                comparison,
                f"Labels and unlabelled images: {caption}",
                unlabelled,
                " Best of only labels: what the table above marks as highest.",
            ),
        ]
    names = {"accuracy": "mean", "low": "from", "high": "to", "deviation": "standard deviation"}
    frame = columns(comparison.results, names | {name: name for name in ("lowest", "median", "highest")})
    frame[frame.columns[2:]] *= 100
    note = "From and to: the ends of the 95 % interval, within 0 and 100."
    spread = table_of(frame, "Accuracy in % over the draws", note=note)
    blocks = [*tables, Text(f"What they need: {needs(comparison)}."), Details("Every mean with its spread", [spread])]
    return Section("table", "Accuracy", blocks)


def _accuracies(comparison: Comparison, caption: str, rows: Mapping[str, Sequence[Any]], last: str = "") -> Table:
    marked = comparison.seeds > 1 and len(rows) > 1

    def entry(result: Any) -> Entry:
        mark = "best" if result.best else "level" if result.level else ""
        mark = "failed" if result.failed else mark if marked else ""
        return Entry(percent(result.accuracy, result.margin), result.accuracy, mark)

    failed = f"{key('failed')}. " if any(result.failed for row in rows.values() for result in row) else ""
    note = failed + (f"{key('best')}; {key('level')}. " if marked else "") + "± is half of the 95 % interval."
    note = note if comparison.seeds > 1 else f"{failed}One draw: no intervals, no marks."
    return _by_budget(comparison, caption, entry, rows, note + last)


def gains(comparison: Comparison) -> Section:
    """What every strategy gains over the baseline, and every pair of strategies."""
    title = f"Gains over {BASELINE}"
    if not comparison.has_gains:
        why = f"Gains need `{BASELINE}` and at least one other strategy in `report.strategies`."
        return Section("gains", title, [Text(why), *_pair_details(comparison)])
    many, largest = comparison.seeds > 1, comparison.shots[-1]
    rows = _rows(comparison, comparison.transfers)
    gain = _by_budget(
        comparison,
        f"Gain over {BASELINE} in percentage points, by labelled images per class",
        lambda result: Entry(points(result.gain, result.gain_margin), result.gain, result.verdict),
        rows,
        f"{key('better')}; {key('worse')}; {key('not separated')}. ± is half of the interval after Holm's correction "
        "for all pairs of strategies in a column: with 95 % confidence, all verdicts of the column are right."
        if many
        else "One draw: no intervals, no verdicts.",
    )
    equivalence = _by_budget(
        comparison,
        f"Label equivalence: labels per class that {BASELINE} needs for the same accuracy",
        lambda result: Entry(labels(result, largest), result.equivalent),
        rows,
        f"Interpolated on a log axis between the measured budgets, {comparison.shots[0]:,} to {largest:,} labels per "
        "class. In brackets: the range in which the paired 95 % interval of the difference contains 0.",
    )
    paired = (
        "All strategies are trained on the same draws and scored on the same images, so paired differences cancel the "
        "luck that strategies share. Hollow marks in the chart: not separated from 0."
    )
    blocks = [Text(paired), charts.gains(comparison), gain, equivalence]
    return Section("gains", title, [*blocks, *_pair_details(comparison)])


def _pair_details(comparison: Comparison) -> list[Any]:
    pairs = comparison.pairs
    if pairs.empty or comparison.seeds == 1:
        return []
    frame = pd.DataFrame(
        {
            "first": pairs["first"],
            "second": pairs["second"],
            "labels per class": pairs["shots"],
            "difference": [Entry(points(p.difference, p.margin), p.difference) for p in rows_of(pairs)],
            "corrected": [Entry(points(p.difference, p.corrected), p.difference) for p in rows_of(pairs)],
            "verdict": pairs["verdict"],
            "first wins": 100 * pairs["wins"],
            "detectable": 100 * pairs["detectable"],
        }
    )
    note = (
        "Difference: first minus second in percentage points, with its own 95 % interval. Corrected: with the interval "
        "after Holm's correction for all pairs at that label budget, which gives the verdict. First wins: in % of the "
        "draws; ties count half. Detectable: the smallest true difference, in points, that the corrected interval "
        "finds with 80 % power."
    )
    table = table_of(frame, "Every pair", {"first wins": 0}, words=2, note=note)
    return [Details("Every pair of strategies", [table])]


def cost(comparison: Comparison, runs: pd.DataFrame) -> Section:
    """What a training costs, and which runs did without the unlabelled images.

    Args:
        comparison: of the strategies.
        runs: a row per run.
    """
    results = comparison.results
    names = {
        "trainable_parameters": "trained parameters",
        "gradient_steps": "gradient steps",
        "examples_seen": "images seen",
        "unlabelled_images": "unlabelled images",
    }
    frame = columns(results, names)
    frame["effort"] = [
        Entry(f"{result.effort:.2e}", result.effort, "front" if result.on_front else "") for result in rows_of(results)
    ]
    frame["file"] = [Entry(f"{number(size / 1e6)} MB", size) for size in results["model_bytes"]]
    how = (
        "These counts are the same on every machine. Images seen include repeats. The steps of `feature_extraction`, "
        "`label_propagation` and `pixels` are iterations of L-BFGS in the final fit, each over all images. Effort is "
        "trained parameters × images seen, which is proportional to the arithmetic of the updates; none is drawn as 1. "
        "Strategies on frozen features also run every image through the backbone once, and `self_training` and "
        "`committee` need the trainings of those they learn from. The grey line is the Pareto front: for a strategy on "
        "it, no other is at least as accurate with less effort."
    )
    table = table_of(frame, "What one training costs", note=f"{key('front')}.")
    blocks = [Text(how), charts.costs(comparison), *_labels_alone(comparison, runs), Details("Every count", [table])]
    return Section("cost", "Cost", blocks)


def _labels_alone(comparison: Comparison, runs: pd.DataFrame) -> list[Text]:
    """Which runs of strategies with unlabelled images used none."""
    texts = []
    for name in comparison.needing(UNLABELLED):
        counts = runs[(runs["strategy"] == name) & (runs["unlabelled_images"] == 0)]["shots"].value_counts(sort=False)
        if where := [f"{count} of {comparison.seeds} with {shots:,}" for shots, count in counts.sort_index().items()]:
            texts.append(
                f"{name} used no unlabelled images in some runs, by labels per class: {listed(where)}. There, "
                "cross-validation inside the labels found it less accurate with them, or none were left."
            )
    return list(map(Text, texts))
