"""The sections that are tables of the comparison: ranking, gains and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from transfer.evaluation.comparison import Comparison, rows_of
from transfer.evaluation.outcomes import LABELS, UNLABELLED
from transfer.evaluation.selection import BASELINE
from transfer.evaluation.statistics import EQUAL, UNDECIDED, VERDICTS, WORSE
from transfer.report import charts
from transfer.report.advice import equivalence
from transfer.report.blocks import Details, Entry, Section, Table, Text, key, plain, table_of
from transfer.report.words import in_points, listed, percent, points


def _by_budget(
    comparison: Comparison, caption: str, entry: Callable[[Any], Entry], rows: Mapping[str, Sequence[Any]], note: str
) -> Table:
    """A table with a column for each budget, of what `entry` makes of the results of each row."""
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    return Table(caption, head, [[plain(name), *map(plain, map(entry, row))] for name, row in rows.items()], note=note)


def columns(results: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Some columns, renamed, after strategy and budget."""
    names = {"strategy": "strategy", "shots": "labels per class"} | names
    return results[list(names)].rename(columns=names)


def ranking(comparison: Comparison) -> Table:
    """Every strategy at every budget, the highest over all budgets first, with what it needs."""
    means = comparison.results.groupby("strategy")["accuracy"].mean()
    order = sorted(comparison.strategies, key=lambda name: -means[name])
    many = comparison.seeds > 1 and len(order) > 1

    def entry(result: Any) -> Entry:
        marks = {"failed": result.failed, "recommended": many and result.recommended, "best": many and result.best}
        mark = next((name for name, is_so in marks.items() if is_so), result.versus_best.replace(WORSE, ""))
        return Entry(percent(result.accuracy), result.accuracy, mark)

    rows = [
        [
            *(plain(name), *map(entry, comparison.of(name)), plain(_needs(comparison.needs[name]))),
            plain(int(comparison.of(name)[-1].trainable_parameters)),
        ]
        for name in order
    ]
    used = {entry.mark for row in rows for entry in row}
    signs = [key(mark) for mark in ("recommended", "best", EQUAL, UNDECIDED, "failed") if mark in used]
    note = f"{'; '.join([*signs, 'no mark: worse than the highest']) if many else 'One draw: no verdicts'}."
    note += f" Equal in practice: within {in_points(comparison.within)}." if EQUAL in used else ""
    note += " Highest mean over all columns first."
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots), "needs beside labels", "trained parameters"]
    return Table("Accuracy in % by labelled images per class", head, rows, note=note)


def _needs(needed: Sequence[str]) -> str:
    """What a strategy needs beside labels."""
    others = ", ".join(need for need in needed if need != LABELS) or "–"
    return others if LABELS in needed else f"{others}, no labels"


def spread(comparison: Comparison) -> Table:
    """Every mean with its interval and its spread over the draws."""
    names = {"accuracy": "mean", "low": "from", "high": "to", "deviation": "standard deviation"}
    frame = columns(comparison.results, names | {name: name for name in ("lowest", "median", "highest")})
    frame[frame.columns[2:]] *= 100
    note = "From and to: the ends of the 95 % interval, within 0 and 100."
    return table_of(frame, "Accuracy in % over the draws", note=note)


def gains(comparison: Comparison) -> Section:
    """What every strategy gains over the baseline, and every pair of strategies."""
    title = f"Gains over {BASELINE}"
    if BASELINE not in comparison.strategies or not comparison.transfers:
        why = f"Gains need `{BASELINE}` and at least one other strategy in `report.strategies`."
        return Section("gains", title, [Text(why), *_pair_details(comparison)])
    many = comparison.seeds > 1
    rows = {name: comparison.of(name) for name in comparison.transfers}
    gain = _by_budget(
        comparison,
        f"Gain over {BASELINE} in percentage points, by labelled images per class",
        lambda result: Entry(points(result.gain, result.gain_margin), result.gain, result.verdict),
        rows,
        f"{'; '.join(map(key, VERDICTS))}. ± is half of the interval after Holm's correction for all pairs of "
        "strategies in a column: with 95 % confidence, all verdicts of the column are right."
        if many
        else "One draw: no intervals, no verdicts.",
    )
    equivalent = _by_budget(
        comparison,
        f"Labels per class that {BASELINE} needs for the same accuracy",
        lambda result: Entry(equivalence(result), result.equivalent_low),
        rows,
        f"The most measured labels with which {BASELINE} is still less accurate, and the fewest with which it is more "
        "accurate, by paired 95 % intervals. Where it gains with every label, the number lies between the "
        "two with a probability of at least 95 %.",
    )
    paired = (
        "All strategies are trained on the same draws and scored on the same images, so paired differences cancel the "
        "luck that strategies share. Hollow marks in the chart: equal or undecided."
    )
    blocks = [Text(paired), charts.gains(comparison), gain]
    if many:
        blocks.append(Details("Label equivalence", [equivalent]))
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
            "draws": pairs["draws"],
            "difference": [Entry(points(p.difference, p.margin), p.difference) for p in rows_of(pairs)],
            "corrected": [Entry(points(p.difference, p.corrected), p.difference) for p in rows_of(pairs)],
            "verdict": pairs["verdict"],
            "more draws": pairs["more_draws"].where(pairs["verdict"] == UNDECIDED),
        }
    )
    note = (
        "Difference: first minus second in percentage points, with its own 95 % interval. Corrected: with the interval "
        "after Holm's correction for all pairs at that label budget, which gives the verdict. More draws: about how "
        "many would decide an undecided pair; ∞: no number of draws with these test images."
    )
    if len(comparison.looks) > 1:
        note += (
            " Draws: at the look that decided the pair, or the last that judged it; all numbers are over these draws."
        )
    else:
        frame = frame.drop(columns="draws")
    table = table_of(frame, "Every pair", {"more draws": 0}, words=2, note=note)
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
    frame["file, MB"] = results["model_bytes"] / 1e6
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
        draws = {result.shots: result.draws for result in comparison.of(name)}
        if where := [f"{count} of {draws[shots]} with {shots:,}" for shots, count in counts.sort_index().items()]:
            texts.append(
                f"{name} used no unlabelled images in some runs, by labels per class: {listed(where)}. There, "
                "cross-validation inside the labels found it less accurate with them, or none were left."
            )
    return list(map(Text, texts))
