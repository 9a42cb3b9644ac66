"""What the report says, in the order in which it says it; `transfer.report.pages` makes Markdown and HTML of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from transfer.console import counted
from transfer.evaluation.comparison import (
    Comparison,
    confusion,
    hard_images,
    probe_accuracies,
    rows_of,
    shown_classes,
)
from transfer.evaluation.selection import BASELINE
from transfer.evaluation.statistics import smallest_p_value
from transfer.report import charts
from transfer.report.advice import advise, as_it_is, conclude, labels
from transfer.report.blocks import Bullets, Details, Entry, Section, Table, Text, key, plain, table_of
from transfer.report.study import Study, article, data, method
from transfer.report.words import number, per_class, percent, points


def write_report(study: Study) -> list[Section]:
    """The whole report."""
    return [
        _which_to_use(study),
        _learning_curves(study),
        _table(study.comparison),
        _gains(study.comparison),
        _cost(study.comparison),
        _errors(study),
        _calibration(study),
        _features(study),
        data(study),
        article(),
        method(study),
    ]


def charts_of(sections: Sequence[Section]) -> Iterator[charts.Chart]:
    """Every chart of the report, for the files beside the Markdown."""
    return (block for section in sections for block in section.blocks if isinstance(block, charts.Chart))


def _by_budget(
    comparison: Comparison, caption: str, entry: Callable[[Any], Entry], strategies: Sequence[str], note: str
) -> Table:
    """A table with a row for each strategy and a column for each budget, of what `entry` makes of a result."""
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    rows = [[plain(name), *map(plain, map(entry, comparison.of(name)))] for name in strategies]
    return Table(caption, head, rows, note=note)


def _columns(results: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Some columns, renamed, after strategy and budget."""
    names = {"strategy": "strategy", "shots": "labels per class"} | names
    return results[list(names)].rename(columns=names)


def _which_to_use(study: Study) -> Section:
    comparison = study.comparison
    advice = [advise(comparison, shots) for shots in comparison.shots]
    if len(study.probes.as_it_is):
        advice.insert(0, as_it_is(study.probes.as_it_is == study.outcomes.labels))
    blocks = [Text(conclude(comparison)), Bullets(advice)]
    if study.notes:
        noted = counted(len(study.notes), "warning")
        blocks.append(Text(f"The section Data has {noted}: read that before you rely on this."))
    return Section("which", "Which to use", blocks)


def _learning_curves(study: Study) -> Section:
    comparison = study.comparison
    how = (
        "One label draw each: there are no intervals, and differences may be luck."
        if comparison.seeds == 1
        else f"Means of {comparison.seeds} label draws, with 95 % intervals over draws and test images. Bands can "
        "overlap even where two strategies differ: all strategies share draws and images, and only the paired gains "
        "below make use of that."
    )
    chart = charts.learning_curves(comparison, len(study.outcomes.labels))
    return Section("curves", "Learning curves", [chart, Text(how)])


def _table(comparison: Comparison) -> Section:
    marked = comparison.seeds > 1 and len(comparison.strategies) > 1

    def entry(result: Any) -> Entry:
        mark = "best" if result.best else "level" if result.level else ""
        mark = "failed" if result.failed else mark if marked else ""
        return Entry(percent(result.accuracy, result.margin), result.accuracy, mark)

    failed = f"{key('failed')}. " if comparison.results["failed"].any() else ""
    note = failed + (f"{key('best')}; {key('level')}. " if marked else "") + "± is half of the 95 % interval."
    table = _by_budget(
        comparison,
        "Accuracy in % by labelled images per class",
        entry,
        comparison.strategies,
        note if comparison.seeds > 1 else f"{failed}One draw: no intervals, no marks.",
    )
    columns = {"accuracy": "mean", "low": "from", "high": "to", "deviation": "standard deviation"}
    frame = _columns(comparison.results, columns | {name: name for name in ("lowest", "median", "highest")})
    frame[frame.columns[2:]] *= 100
    note = "From and to: the ends of the 95 % interval, within 0 and 100."
    spread = table_of(frame, "Accuracy in % over the draws", note=note)
    return Section("table", "Accuracy", [table, Details("Every mean with its spread", [spread])])


def _gains(comparison: Comparison) -> Section:
    title = f"Gains over {BASELINE}"
    if not comparison.has_gains:
        why = f"Gains need `{BASELINE}` and at least one other strategy in `report.strategies`."
        return Section("gains", title, [Text(why), *_pair_details(comparison)])
    many, largest = comparison.seeds > 1, comparison.shots[-1]
    gain = _by_budget(
        comparison,
        f"Gain over {BASELINE} in percentage points, by labelled images per class",
        lambda result: Entry(points(result.gain, result.gain_margin), result.gain, result.verdict),
        comparison.transfers,
        f"{key('better')}; {key('worse')}: negative transfer; {key('not separated')}. ± is half of the interval after "
        "Holm's correction for all pairs of strategies in a column: with 95 % confidence, all verdicts of the column "
        "are right."
        if many
        else "One draw: no intervals, no verdicts.",
    )
    equivalence = _by_budget(
        comparison,
        f"Label equivalence: labels per class that {BASELINE} needs for the same accuracy",
        lambda result: Entry(labels(result, largest), result.equivalent),
        comparison.transfers,
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
            "p": pairs["p_value"],
        }
    )
    least = smallest_p_value(comparison.seeds, pairs["shots"].value_counts().max())
    note = (
        "Difference: first minus second in percentage points, with its own 95 % interval. Corrected: with the interval "
        "after Holm's correction for all pairs at that label budget, which gives the verdict. First wins: in % of the "
        "draws; ties count half. Detectable: the smallest true difference, in points, that the corrected interval "
        "finds with 80 % power. p: Wilcoxon's signed-rank test, Holm-corrected; with "
        f"{comparison.seeds} draws it is at least {number(least, 4)}. The test keeps the test images fixed, so it can "
        "separate what the interval does not."
    )
    table = table_of(frame, "Every pair", {"first wins": 0, "p": 4}, words=2, note=note)
    return [Details("Every pair of strategies", [table])]


def _cost(comparison: Comparison) -> Section:
    results = comparison.results
    names = {
        "trainable_parameters": "trained parameters",
        "gradient_steps": "gradient steps",
        "examples_seen": "images seen",
    }
    frame = _columns(results, names)
    frame["effort"] = [
        Entry(f"{result.effort:.2e}", result.effort, "front" if result.on_front else "") for result in rows_of(results)
    ]
    frame["file"] = [Entry(f"{number(size / 1e6)} MB", size) for size in results["model_bytes"]]
    how = (
        "These counts are the same on every machine. Images seen include repeats. The steps of `feature_extraction` "
        "are iterations of L-BFGS in the final fit, each over all images. Effort is trained parameters × images seen, "
        "which is proportional to the arithmetic of the updates; strategies on frozen features also run every image "
        "through the backbone once. The grey line is the Pareto front: for a strategy on it, no other is at least as "
        "accurate with less effort."
    )
    table = table_of(frame, "What one training costs", note=f"{key('front')}.")
    return Section("cost", "Cost", [Text(how), charts.costs(comparison), Details("Every count", [table])])


def _errors(study: Study) -> Section:
    comparison, outcomes = study.comparison, study.outcomes
    shots, largest = comparison.shown_shots, comparison.shots[-1]
    classes = [str(name) for name in outcomes.classes]
    shown = shown_classes(outcomes, comparison.strategies, shots)
    recalls = {name: 100 * confusion(outcomes, name, shots).diagonal()[shown] for name in comparison.strategies}
    head = [f"class {classes[i]}" for i in shown]
    frame = pd.DataFrame.from_dict(recalls, "index", columns=head).rename_axis("strategy").reset_index()
    table = table_of(frame, f"Recall in % by class, with {per_class(shots)}", dict.fromkeys(head, 1))
    few = (
        f" Shown are the {len(shown)} of {len(classes):,} classes with the lowest recall."
        if len(shown) < len(classes)
        else ""
    )
    what = f"Predicted classes in % of each true class, with {per_class(shots)}, all draws together.{few}"
    blocks = [Text(what), charts.confusions(comparison, outcomes), table]

    learnt = [result.strategy for result in comparison.at(largest) if not result.failed]
    count = comparison.seeds * len(learnt)
    most = f"more than half of the {count} models trained on {per_class(largest)}"
    hard = hard_images(outcomes, learnt, largest)
    if hard.empty:
        blocks.append(Text(f"No test image is misclassified by {most}."))
    else:
        true, taken = ([classes[i] for i in hard[column]] for column in ("label", "mistaken_for"))
        notes = [
            f"test image {row}: class {a}, most often taken for {b}; {wrong} of {count} models are wrong"
            for row, a, b, wrong in zip(hard["row"], true, taken, hard["wrong"], strict=True)
        ]
        captions = [f"{a}, not {b}" for a, b in zip(true, taken, strict=True)]
        blocks.append(Text(f"Test images that {most} misclassify, the worst first:"))
        blocks.append(charts.pictures(study.test_images[hard["row"]], captions, notes))
    return Section("errors", "Errors", blocks)


def _calibration(study: Study) -> Section:
    comparison = study.comparison
    names = {
        "log_loss": "log loss",
        "brier": "Brier",
        "ece": "ECE, %",
        "temperature": "temperature",
        "log_loss_tempered": "log loss, temperature-scaled",
        "ece_tempered": "ECE, temperature-scaled",
    }
    in_percent = ["ECE, %", "ECE, temperature-scaled"]
    frame = _columns(comparison.results, names)
    frame[in_percent] *= 100
    table = table_of(
        frame,
        "Calibration, means over the draws",
        dict.fromkeys(["log loss", "Brier", "log loss, temperature-scaled"], 3),
        note="Log loss in nats; Brier score from 0 to 2; ECE: expected calibration error over 15 bins of equal mass. "
        "–: no labelled image was left to fit a temperature.",
    )
    how = (
        "A model is calibrated if predictions with a confidence of 90 % are right 9 times in 10. The diagrams are for "
        f"{per_class(comparison.shown_shots)}, all draws together, in 15 bins of equal mass."
    )
    temperature = (
        "A temperature above 1 means that a strategy is overconfident; temperature scaling divides the logits by it. "
        "One temperature for all draws of a label budget is fitted on up to 100 labelled target images per class that "
        "are not in the draw, never on test labels. The strategies do not get these extra labels, so the scaled scores "
        "are a diagnosis, not a fair comparison."
    )
    chart = charts.reliabilities(comparison, study.outcomes)
    return Section("calibration", "Calibration", [Text(how), chart, Text(temperature), Details("Every score", [table])])


def _features(study: Study) -> Section:
    probes = study.probes
    accuracies = probe_accuracies(probes, study.outcomes.labels, study.replicates)
    entries = [Entry(percent(row.accuracy, row.margin), row.accuracy) for row in rows_of(accuracies)]
    frame = pd.DataFrame({"layer": accuracies["layer"], "accuracy, %": entries})
    caption = f"Accuracy of a linear probe, with {per_class(int(probes.shots))}"
    what = f"A linear classifier on the features of each layer of the source model; {len(probes.rows):,} test images."
    return Section("features", "Linear probes", [Text(what), table_of(frame, caption)])
