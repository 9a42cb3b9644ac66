"""What the report says, in the order in which it says it; `transfer.report.pages` makes Markdown and HTML of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from transfer.evaluation.comparison import (
    Comparison,
    HardImage,
    Result,
    confusion,
    hard_images,
    probe_accuracies,
    shown_classes,
)
from transfer.evaluation.selection import BASELINE
from transfer.evaluation.statistics import MIN_SEEDS, smallest_p_value
from transfer.report import charts
from transfer.report.advice import advise, conclude, labels, negative_transfer
from transfer.report.blocks import Bullets, Details, Entry, Picture, Pictures, Section, Table, Text, decimal, key, plain
from transfer.report.method import article, data, method
from transfer.report.pictures import png_address
from transfer.report.study import Study
from transfer.report.words import number, per_class, percent, points


def write_report(study: Study) -> list[Section]:
    """The whole report."""
    return [
        _which_to_use(study),
        _learning_curves(study),
        _table(study),
        _gains(study),
        _cost(study),
        _errors(study),
        _calibration(study),
        _features(study),
        data(study),
        article(),
        method(study),
    ]


def _which_to_use(study: Study) -> Section:
    comparison = study.comparison
    return Section(
        "which",
        "Which to use",
        [Text(conclude(comparison)), Bullets([advise(comparison, shots) for shots in comparison.shots])],
    )


def _learning_curves(study: Study) -> Section:
    comparison = study.comparison
    chart = charts.learning_curves(comparison, len(study.outcomes.labels))
    if comparison.seeds == 1:
        how = "One label draw each: no interval can be given, and differences may be luck."
    else:
        how = (
            f"Means of {comparison.seeds} label draws, with 95 % intervals: how far another draw of labels and other "
            "test images could move them. Bands that overlap do not say that two strategies are level, because they "
            "share draws and images: the paired gains below tell."
        )
    return Section("curves", "Learning curves", [chart, Text(how)])


def _table(study: Study) -> Section:
    comparison = study.comparison
    rows = [
        [plain(name), *(_accuracy(comparison, comparison.of(name, shots)) for shots in comparison.shots)]
        for name in comparison.strategies
    ]
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    table = Table("Accuracy in % by labelled images per class", head, rows, note=_accuracy_note(comparison))
    spread = Table(
        "Accuracy in % over the draws",
        ["strategy", "labels per class", "mean", "from", "to", "standard deviation", "lowest", "median", "highest"],
        [
            [
                plain(result.strategy),
                plain(result.shots),
                *(decimal(value, 2, 100) for value in result.possible),
                *(decimal(value, 2, 100) for value in result.spread),
            ]
            for result in comparison.results.values()
        ],
        note="From and to: the ends of the 95 % interval, within 0 and 100.",
    )
    return Section("table", "The table", [table, Details("Every mean with its spread", [spread])])


def _accuracy(comparison: Comparison, result: Result) -> Entry:
    mark = "best" if result.best else "level" if result.level else ""
    alone = len(comparison.strategies) == 1 or comparison.seeds == 1
    return Entry(percent(result.accuracy), result.accuracy.mean, "" if alone else mark)


def _accuracy_note(comparison: Comparison) -> str:
    if comparison.seeds == 1:
        return "One draw: no intervals, and no marks."
    signs = f"{key('best')}; {key('level')}. " if len(comparison.strategies) > 1 else ""
    return f"{signs}± is half of the 95 % interval."


def _gains(study: Study) -> Section:
    comparison = study.comparison
    if not comparison.has_gains:
        why = (
            f"`{BASELINE}` is not among the strategies compared here: what transfer gains cannot be told."
            if BASELINE not in comparison.strategies
            else f"Only `{BASELINE}` is compared here: there is no transfer to gain from."
        )
        return Section("gains", f"Gains over {BASELINE}", [Text(why), *_pair_details(comparison)])
    rows = [
        [plain(name), *(_gain(comparison.of(name, shots)) for shots in comparison.shots)]
        for name in comparison.transfers
    ]
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    many = comparison.seeds > 1
    pairs = len(comparison.pairs[comparison.shots[0]])
    note = (
        f"{key('better')}; {key('worse')}: negative transfer; {key('not separated')}. ± is half of the interval, "
        f"corrected (Holm) for {'the one comparison' if pairs == 1 else f'the {pairs} comparisons'} at each number of "
        "labels: all verdicts of a column are right together, with 95 % confidence."
        if many
        else "One draw: no intervals, no verdicts."
    )
    blocks: list[Any] = [
        Text(
            "Paired: every strategy is trained on the same draws and scored on the same images, so that the luck which "
            "they share does not blur their difference."
            + (" Hollow marks in the chart are not separated from 0." if many else "")
        ),
        charts.gains(comparison),
        Table(f"Gain over {BASELINE} in percentage points, by labelled images per class", head, rows, note=note),
    ]
    if negative := negative_transfer(comparison):
        blocks.append(Text(negative))
    largest = comparison.shots[-1]
    equivalence = [
        [plain(name), *(_equivalent(comparison.of(name, shots), largest) for shots in comparison.shots)]
        for name in comparison.transfers
    ]
    blocks.append(
        Table(
            f"Label equivalence: labels per class that {BASELINE} needs for the same accuracy",
            head,
            equivalence,
            note="Interpolated between the budgets on the log axis"
            + ("; in brackets where the paired 95 % interval of the difference contains 0." if many else ".")
            + f" The fewest labels measured are {comparison.shots[0]:,} per class, the most {largest:,}.",
        )
    )
    return Section("gains", f"Gains over {BASELINE}", [*blocks, *_pair_details(comparison)])


def _gain(result: Result) -> Entry:
    assert result.gain is not None
    return Entry(points(result.gain.corrected), result.gain.difference.mean, result.gain.verdict or "")


def _equivalent(result: Result, largest: int) -> Entry:
    assert result.equivalent is not None
    return Entry(labels(result.equivalent, largest), result.equivalent.mean)


def _pair_details(comparison: Comparison) -> list[Any]:
    if len(comparison.strategies) == 1 or comparison.seeds == 1:
        return []
    pairs = [(shots, pair) for shots in comparison.shots for pair in comparison.pairs[shots]]
    count = len(comparison.pairs[comparison.shots[0]])
    least = smallest_p_value(comparison.seeds, count)
    tested = comparison.seeds >= MIN_SEEDS
    head = ["first", "second", "labels per class", "difference", "corrected", "verdict", "first wins", "detectable"]
    rows = [
        [
            plain(pair.first),
            plain(pair.second),
            plain(shots),
            Entry(points(pair.difference), pair.difference.mean),
            Entry(points(pair.corrected), pair.difference.mean),
            plain(pair.verdict or ""),
            decimal(pair.probability, 0, 100),
            decimal(pair.detectable, 2, 100),
            *([decimal(pair.p_value, 4)] if tested else []),
        ]
        for shots, pair in pairs
    ]
    explained = (
        "Difference: first minus second in percentage points, with its own 95 % interval, and with the one corrected "
        "for all comparisons at that number of labels, which gives the verdict. First wins: in how many of 100 draws, "
        "ties counted half. Detectable: the smallest true difference, in points, that the corrected interval would "
        "separate four times in five."
    )
    if not tested:
        signed_rank = (
            f" With {comparison.seeds} draws no signed-rank test can be significant (two-sided p is at least "
            f"{number(smallest_p_value(comparison.seeds, 1), 4)}): intervals only."
        )
    elif least > 0.05:
        signed_rank = (
            " p: Wilcoxon's signed-rank test over the draws, Holm-corrected; with this number of draws and comparisons "
            f"the smallest can be {number(least, 4)}, so that no such test can be significant."
        )
    else:
        signed_rank = (
            " p: Wilcoxon's signed-rank test over the draws, Holm-corrected; it asks about other draws with these very "
            f"test images, so it can separate what the interval does not. The smallest can be {number(least, 4)}."
        )
    table = Table("Every pair", [*head, *(["p"] if tested else [])], rows, words=2, note=explained + signed_rank)
    note = [] if tested else [Text(signed_rank.strip())]
    return [*note, Details("Every pair of strategies", [table])]


def _cost(study: Study) -> Section:
    comparison = study.comparison
    rows = [
        [
            plain(result.strategy),
            plain(result.shots),
            *(plain(result.costs[name]) for name in ("trainable_parameters", "gradient_steps", "examples_seen")),
            Entry(f"{result.effort:.2e}", result.effort, "front" if result.on_front else ""),
            Entry(f"{number(result.costs['model_bytes'] / 1e6, 2)} MB", result.costs["model_bytes"]),
        ]
        for result in comparison.results.values()
    ]
    head = ["strategy", "labels per class", "trained parameters", "gradient steps", "images seen", "effort", "file"]
    table = Table(
        "What one training costs",
        head,
        rows,
        note=f"Effort: trained parameters × images seen. {key('front')}.",
    )
    return Section(
        "cost",
        "Cost",
        [
            Text(
                "Counts, which are the same on every machine. Images seen counts repeats; the steps of "
                "`feature_extraction` are iterations of L-BFGS in the final fit, each over all images. Effort grows as "
                "the arithmetic of the updates; strategies on frozen features also run every image through the "
                "backbone once. The grey line is the Pareto front: no strategy on it is beaten in both effort and "
                "accuracy."
            ),
            charts.costs(comparison),
            Details("Every count", [table]),
        ],
    )


def _errors(study: Study) -> Section:
    comparison, outcomes = study.comparison, study.outcomes
    shots = comparison.shown_shots
    classes = [str(name) for name in outcomes.classes]
    shown = shown_classes(outcomes, comparison.strategies, shots)
    rows = [
        [
            plain(name),
            *(decimal(share, 1, 100) for share in confusion(outcomes, name, shots).diagonal()[shown]),
        ]
        for name in comparison.strategies
    ]
    recalls = Table(
        f"Recall in % by class, with {per_class(shots)}",
        ["strategy", *(f"class {classes[number]}" for number in shown)],
        rows,
    )
    few = f" Of {len(classes):,} classes, the {len(shown)} with the lowest recall." if len(shown) < len(classes) else ""
    blocks: list[Any] = [
        Text(f"With {per_class(shots)}, all draws together: what the images of each class are taken for, in %.{few}"),
        charts.confusions(comparison, outcomes),
        recalls,
    ]
    largest = comparison.shots[-1]
    hard = hard_images(outcomes, comparison.strategies, largest)
    trainings = f"{comparison.seeds * len(comparison.strategies)} trainings with {per_class(largest)}"
    if hard:
        blocks += [
            Text(f"The test images that more than half of the {trainings} get wrong, the worst first:"),
            _pictures(hard, classes, study.test_images),
        ]
    else:
        blocks.append(Text(f"No test image is got wrong by more than half of the {trainings}."))
    return Section("errors", "Where it errs", blocks)


def _pictures(hard: list[HardImage], classes: list[str], images: np.ndarray) -> Pictures:
    drawn = [
        Picture(
            png_address(images[image.row]),
            f"{classes[image.label]}, not {classes[image.mistaken_for]}",
            f"test image {image.row}: class {classes[image.label]}, mostly taken for {classes[image.mistaken_for]}; "
            f"{image.wrong} of {image.trainings} trainings are wrong",
        )
        for image in hard
    ]
    chart = charts.pictures([picture.address for picture in drawn], [picture.caption for picture in drawn])
    return Pictures(drawn, chart)


def _calibration(study: Study) -> Section:
    comparison = study.comparison
    shots = comparison.shown_shots
    decimals = {"log_loss": 3, "brier": 3, "ece": 2, "temperature": 2, "log_loss_tempered": 3, "ece_tempered": 2}
    scales = {"ece": 100, "ece_tempered": 100}
    rows = [
        [
            plain(result.strategy),
            plain(result.shots),
            *(decimal(result.calibration[name], places, scales.get(name, 1)) for name, places in decimals.items()),
        ]
        for result in comparison.results.values()
    ]
    head = [
        "strategy",
        "labels per class",
        "log loss",
        "Brier",
        "ECE, %",
        "temperature",
        "log loss, temperature-scaled",
        "ECE, temperature-scaled",
    ]
    table = Table(
        "Calibration, means over the draws",
        head,
        rows,
        note="Log loss in nats; Brier score from 0 to 2; ECE: expected calibration error over 15 bins of equal mass. "
        "–: no labelled image was left to fit a temperature on.",
    )
    return Section(
        "calibration",
        "Calibration",
        [
            Text(
                f"Whether a confidence of 90 % is right 9 times in 10. With {per_class(shots)}, all draws together; "
                "15 bins of equal mass."
            ),
            charts.reliabilities(comparison, study.outcomes),
            Text(
                "A temperature above 1 says that a strategy is too sure of itself, and what its logits should be "
                "divided by. It is fitted, one for all draws of a number of labels, on up to 100 labelled "
                "target images per class beside the draw; test labels have no part in it. Someone with these labels "
                "alone would not have those images: it shows what is wrong, not a free repair."
            ),
            Details("Every score", [table]),
        ],
    )


def _features(study: Study) -> Section:
    views, outcomes = study.views, study.outcomes
    accuracies = probe_accuracies(views, outcomes.labels, study.replicates)
    table = Table(
        f"Accuracy of a linear probe, with {per_class(int(views.shots))}",
        ["layer", "accuracy, %"],
        [[plain(layer), Entry(percent(estimate), estimate.mean)] for layer, estimate in accuracies.items()],
    )
    return Section(
        "features",
        "What the features know",
        [
            Text(
                f"How well a linear classifier tells the classes of {len(views.rows):,} test images apart by what each "
                "layer of the source model makes of them."
            ),
            table,
        ],
    )
