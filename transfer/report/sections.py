"""What the report says, in the order in which it says it; `transfer.report.pages` makes Markdown and HTML of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

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
from transfer.report.advice import advise, conclude, labels, negative_transfer
from transfer.report.blocks import Bullets, Details, Entry, Section, Table, Text, key, plain, table_of
from transfer.report.method import article, data, method
from transfer.report.study import Study
from transfer.report.words import number, per_class, percent, points


def write_report(study: Study) -> list[Section]:
    """The whole report."""
    return [
        _which_to_use(study.comparison),
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
    rows = [[plain(name), *map(entry, comparison.of(name))] for name in strategies]
    return Table(caption, head, rows, note=note)


def _columns(results: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Some columns, renamed, after strategy and budget."""
    names = {"strategy": "strategy", "shots": "labels per class"} | names
    return results[list(names)].rename(columns=names)


def _which_to_use(comparison: Comparison) -> Section:
    advice = [advise(comparison, shots) for shots in comparison.shots]
    return Section("which", "Which to use", [Text(conclude(comparison)), Bullets(advice)])


def _learning_curves(study: Study) -> Section:
    comparison = study.comparison
    if comparison.seeds == 1:
        how = "One label draw each: there is no interval, and differences may be luck."
    else:
        how = (
            f"Means of {comparison.seeds} label draws, with 95 % intervals over draws of labels and test images. Two "
            "bands may overlap although their strategies differ: strategies share draws and images, which only the "
            "paired gains below take into account."
        )
    chart = charts.learning_curves(comparison, len(study.outcomes.labels))
    return Section("curves", "Learning curves", [chart, Text(how)])


def _table(comparison: Comparison) -> Section:
    marked = comparison.seeds > 1 and len(comparison.strategies) > 1

    def entry(result: Any) -> Entry:
        mark = "best" if result.best else "level" if result.level else ""
        return Entry(percent(result.accuracy, result.margin), result.accuracy, mark if marked else "")

    if comparison.seeds == 1:
        note = "One draw: no intervals, and no marks."
    else:
        note = (f"{key('best')}; {key('level')}. " if marked else "") + "± is half of the 95 % interval."
    caption = "Accuracy in % by labelled images per class"
    table = _by_budget(comparison, caption, entry, comparison.strategies, note)
    columns = {"accuracy": "mean", "low": "from", "high": "to", "deviation": "standard deviation"}
    frame = _columns(comparison.results, columns | {name: name for name in ("lowest", "median", "highest")})
    frame[frame.columns[2:]] *= 100
    note = "From and to: the ends of the 95 % interval, within 0 and 100."
    spread = table_of(frame, "Accuracy in % over the draws", note=note)
    return Section("table", "The table", [table, Details("Every mean with its spread", [spread])])


def _gains(comparison: Comparison) -> Section:
    title = f"Gains over {BASELINE}"
    if not comparison.has_gains:
        why = (
            f"`{BASELINE}` is not among the strategies compared here: what transfer gains cannot be told."
            if BASELINE not in comparison.strategies
            else f"Only `{BASELINE}` is compared here: there is no transfer to gain from."
        )
        return Section("gains", title, [Text(why), *_pair_details(comparison)])
    many, largest = comparison.seeds > 1, comparison.shots[-1]
    pairs = len(comparison.pairs) // len(comparison.shots)
    gain = _by_budget(
        comparison,
        f"Gain over {BASELINE} in percentage points, by labelled images per class",
        lambda result: Entry(points(result.gain, result.gain_margin), result.gain, result.verdict),
        comparison.transfers,
        f"{key('better')}; {key('worse')}: negative transfer; {key('not separated')}. ± is half of the interval, "
        f"corrected (Holm) for {'the one comparison' if pairs == 1 else f'the {pairs} comparisons'} of a column: its "
        "verdicts are all right together, with 95 % confidence."
        if many
        else "One draw: no intervals, no verdicts.",
    )
    equivalence = _by_budget(
        comparison,
        f"Label equivalence: labels per class that {BASELINE} needs for the same accuracy",
        lambda result: Entry(labels(result, largest), result.equivalent),
        comparison.transfers,
        "Interpolated between the budgets on the log axis"
        + ("; in brackets where the paired 95 % interval of the difference contains 0." if many else ".")
        + f" The fewest labels measured are {comparison.shots[0]:,} per class, the most {largest:,}.",
    )
    paired = (
        "Paired: all strategies are trained on the same draws and scored on the same images, so luck that they share "
        "does not count." + (" Hollow marks in the chart are not separated from 0." if many else "")
    )
    negative = negative_transfer(comparison)
    blocks = [Text(paired), charts.gains(comparison), gain, *([Text(negative)] if negative else []), equivalence]
    return Section("gains", title, [*blocks, *_pair_details(comparison)])


def _pair_details(comparison: Comparison) -> list[Any]:
    if len(comparison.strategies) == 1 or comparison.seeds == 1:
        return []
    pairs = comparison.pairs
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
    least = smallest_p_value(comparison.seeds, len(pairs) // len(comparison.shots))
    note = (
        "Difference: first minus second in percentage points with its own 95 % interval, and corrected for all "
        "comparisons at that number of labels, which gives the verdict. First wins: in how many of 100 draws; ties "
        "count half. Detectable: the smallest true difference, in points, that the corrected interval would separate "
        f"four times in five. p: Wilcoxon's signed-rank test, Holm-corrected; with {comparison.seeds} draws it is at "
        f"least {number(least, 4)}. It asks about other draws with these same test images, so it can separate what the "
        "interval does not."
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
    note = f"Effort: trained parameters × images seen. {key('front')}."
    how = (
        "Counts, which are the same on every machine. Images seen counts repeats; the steps of `feature_extraction` "
        "are iterations of L-BFGS in the final fit, each over all images. Effort grows as the arithmetic of the "
        "updates; strategies on frozen features also run every image through the backbone once. The grey line is the "
        "Pareto front: no strategy on it is beaten in both effort and accuracy."
    )
    details = Details("Every count", [table_of(frame, "What one training costs", note=note)])
    return Section("cost", "Cost", [Text(how), charts.costs(comparison), details])


def _errors(study: Study) -> Section:
    comparison, outcomes = study.comparison, study.outcomes
    shots, largest = comparison.shown_shots, comparison.shots[-1]
    classes = [str(name) for name in outcomes.classes]
    shown = shown_classes(outcomes, comparison.strategies, shots)
    recalls = {name: 100 * confusion(outcomes, name, shots).diagonal()[shown] for name in comparison.strategies}
    head = [f"class {classes[i]}" for i in shown]
    frame = pd.DataFrame.from_dict(recalls, "index", columns=head).rename_axis("strategy").reset_index()
    table = table_of(frame, f"Recall in % by class, with {per_class(shots)}", dict.fromkeys(head, 1))
    few = f" Of {len(classes):,} classes, the {len(shown)} with the lowest recall." if len(shown) < len(classes) else ""
    what = f"With {per_class(shots)}, all draws together: what the images of each class are taken for, in %.{few}"
    blocks = [Text(what), charts.confusions(comparison, outcomes), table]

    count = comparison.seeds * len(comparison.strategies)
    trainings = f"more than half of the {count} trainings with {per_class(largest)}"
    hard = hard_images(outcomes, comparison.strategies, largest)
    if hard.empty:
        blocks.append(Text(f"No test image is misclassified by {trainings}."))
    else:
        true, taken = ([classes[i] for i in hard[column]] for column in ("label", "mistaken_for"))
        notes = [
            f"test image {row}: class {a}, mostly taken for {b}; {wrong} of {count} trainings are wrong"
            for row, a, b, wrong in zip(hard["row"], true, taken, hard["wrong"], strict=True)
        ]
        captions = [f"{a}, not {b}" for a, b in zip(true, taken, strict=True)]
        blocks.append(Text(f"The test images that {trainings} misclassify, the worst first:"))
        blocks.append(charts.pictures(study.test_images[hard["row"]], captions, notes))
    return Section("errors", "Where it errs", blocks)


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
        "–: no labelled image was left to fit a temperature on.",
    )
    how = (
        f"Whether a confidence of 90 % is right 9 times in 10. With {per_class(comparison.shown_shots)}, all draws "
        "together; 15 bins of equal mass."
    )
    temperature = (
        "A strategy whose temperature is above 1 is too sure of itself: its logits should be divided by it. One "
        "temperature for all draws of a number of labels is fitted on up to 100 labelled target images per class that "
        "are not in the draw; test labels have no part in it. Someone with the draw's labels alone would not have "
        "those images: it shows what is wrong, not a free repair."
    )
    chart = charts.reliabilities(comparison, study.outcomes)
    return Section("calibration", "Calibration", [Text(how), chart, Text(temperature), Details("Every score", [table])])


def _features(study: Study) -> Section:
    probes = study.probes
    accuracies = probe_accuracies(probes, study.outcomes.labels, study.replicates)
    entries = [Entry(percent(row.accuracy, row.margin), row.accuracy) for row in rows_of(accuracies)]
    frame = pd.DataFrame({"layer": accuracies["layer"], "accuracy, %": entries})
    caption = f"Accuracy of a linear probe, with {per_class(int(probes.shots))}"
    what = (
        "How well a linear classifier on the features of each layer of the source model tells the classes of "
        f"{len(probes.rows):,} test images apart."
    )
    return Section("features", "What the features know", [Text(what), table_of(frame, caption)])
