"""What the report says, in the order in which it says it; `transfer.report.pages` makes Markdown and HTML of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from transfer.console import counted
from transfer.evaluation.comparison import rows_of
from transfer.evaluation.details import confusion, hard_images, probe_accuracies, shown_classes
from transfer.evaluation.selection import BASELINE
from transfer.report import charts
from transfer.report.advice import advise, cautions, failures, headline, negative_transfer, stops
from transfer.report.blocks import Bullets, Details, Entry, Section, Text, table_of
from transfer.report.choosing import choosing
from transfer.report.forecast import how_many_more
from transfer.report.study import Study, article, data, method
from transfer.report.tables import columns, cost, gains, ranking, spread
from transfer.report.words import least_to_most, per_class, percent


def write_report(study: Study) -> list[Section]:
    """The whole report."""
    return [
        _which_to_use(study),
        _learning_curves(study),
        *how_many_more(study),
        *([choosing(study)] if len(study.chosen.wanted) else []),
        gains(study.comparison),
        cost(study.comparison, study.runs),
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


def _which_to_use(study: Study) -> Section:
    comparison = study.comparison
    said = [*headline(comparison), failures(comparison), _cross_validated(study)]
    said += cautions(comparison, study.data["target"]["test_groups"])
    if study.notes:
        noted = counted(len(study.notes), "warning")
        said.append(f"The section Data has {noted}: read that before you rely on this.")
    words = [advise(comparison, shots) for shots in comparison.shots] + negative_transfer(comparison)
    blocks: list[Any] = [*map(Text, filter(None, said)), ranking(comparison)]
    what = [f"`{name}`: {study.made_with[name]['summary']}." for name in comparison.strategies]
    folded = {"What each strategy does": what, "Every number of labels in words": words}
    folded["How many draws each strategy got"] = stops(comparison)
    blocks += [Details(name, [Bullets(items)]) for name, items in folded.items() if items]
    return Section("which", "Which to use", blocks)


def _cross_validated(study: Study) -> str:
    """That accuracies are estimates, where there are no test images; else empty."""
    target = study.data["target"]
    if not target["folds"]:
        return ""
    return (
        f"**Estimates.** There are no test images: these are cross-validated accuracies on the "
        f"{counted(target['train'], 'labelled image')}, each tested by models that were trained on the other "
        f"{target['folds'] - 1} of {target['folds']} folds. With so few images the intervals are wide, and only more "
        "labelled images make them narrow. Draws, below, are repetitions. `best.keras` is trained on all of these."
    )


def _learning_curves(study: Study) -> Section:
    comparison = study.comparison
    draws = least_to_most(comparison.results["draws"])
    how = (
        "One label draw each: there are no intervals, and differences may be luck."
        if comparison.seeds == 1
        else f"Means of {draws} label draws, with 95 % intervals over draws and test images. Bands can "
        "overlap even where two strategies differ: all strategies share draws and images, and only the paired gains "
        "below make use of that."
    )
    chart = charts.learning_curves(comparison, len(study.outcomes.labels))
    return Section("curves", "Learning curves", [chart, Text(how), Details("Every mean", [spread(comparison)])])


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
    if len(comparison.shown) < len(comparison.strategies):
        what += (
            " Drawn, here and below, are the best strategy, the best without unlabelled images, the best with "
            f"{per_class(largest)}, and {BASELINE}."
        )
    blocks = [Text(what), charts.confusions(comparison, outcomes), table]

    learnt = [result.strategy for result in comparison.at(largest) if not result.failed]
    count = sum(result.draws for result in comparison.at(largest) if not result.failed)
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
        captions = [f"true {a},\nread as {b}" for a, b in zip(true, taken, strict=True)]
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
    frame = columns(comparison.results, names)
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
        "are not in the draw, never on test labels. The strategies do not get these extra labels, though some may have "
        "seen the images among the unlabelled ones, so the scaled scores are a diagnosis, not a fair comparison."
    )
    chart = charts.reliabilities(comparison, study.outcomes)
    return Section("calibration", "Calibration", [Text(how), chart, Text(temperature), Details("Every score", [table])])


def _features(study: Study) -> Section:
    folds = study.data["target"].get("fold_of_images", [])  # which only a cross-validated study has
    probes = study.probes.merged(np.array(folds, np.int32))
    accuracies = probe_accuracies(probes, study.outcomes.labels)
    entries = [Entry(percent(row.accuracy, row.margin), row.accuracy) for row in rows_of(accuracies)]
    frame = pd.DataFrame({"layer": accuracies["layer"], "accuracy, %": entries})
    caption = f"Accuracy of a linear probe, with {per_class(int(probes.shots))}"
    what = f"A linear classifier on the features of each layer of the source model; {len(probes.rows):,} test images."
    return Section("features", "Linear probes", [Text(what), table_of(frame, caption)])
