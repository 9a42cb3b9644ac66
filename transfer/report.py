"""What the report says, in the order in which it says it; `transfer.pages` makes Markdown and HTML of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from transfer import charts
from transfer.advice import (
    advise,
    conclude,
    labels,
    listed,
    negative_transfer,
    number,
    per_class,
    percent,
    points,
    signed,
)
from transfer.charts import Chart
from transfer.comparison import Comparison, HardImage, Result, confusion, hard_images, tap_accuracies
from transfer.console import counted
from transfer.outcomes import Outcomes, TapViews
from transfer.pictures import png_address
from transfer.selection import BASELINE
from transfer.statistics import MIN_SEEDS, smallest_p_value


class Entry(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what it shows.
        value: what its column is sorted by.
        mark: what it is marked as, if anything; a key of `MARKS`.
    """

    text: str
    value: float | str
    mark: str = ""


MARKS = {  # signs behind an entry, and what they mean
    "best": ("★", "highest of its column"),
    "level": ("≈", "not separated from the highest"),
    "better": ("▲", "better, separated"),
    "worse": ("▼", "worse, separated: negative transfer"),
    "not separated": ("≈", "not separated"),
    "front": ("◆", "on the Pareto front: no strategy is at least as accurate with less effort"),
}


@dataclass(frozen=True)
class Table:
    """A table; its first `words` columns are words, the others numbers."""

    caption: str
    head: list[str]
    rows: list[list[Entry]]
    words: int = 1
    note: str = ""


class Text(NamedTuple):
    """A paragraph; `code` stands between backticks."""

    text: str


class Bullets(NamedTuple):
    """A list."""

    items: list[str]


class Details(NamedTuple):
    """What is folded away at first."""

    summary: str
    blocks: list[Any]


class Picture(NamedTuple):
    """A test image with its caption and a description for those who do not see it."""

    address: str
    caption: str
    description: str


class Pictures(NamedTuple):
    """Test images: one by one on the page, as a chart beside the Markdown."""

    pictures: list[Picture]
    chart: Chart


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    name: str
    title: str
    blocks: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """All that the report is made from.

    Attributes:
        comparison: of the strategies.
        cells: one row per cell, specimens included.
        outcomes: the cells, image by image.
        views: of the taps.
        test_images: (test images, height, width, channels) uint8.
        source: facts of the source model: its accuracy on held-out images, its classes, what it was made with.
        raw: shape and SHA-256 of every part of the raw data.
        replicates: of the bootstrap.
    """

    comparison: Comparison
    cells: pd.DataFrame
    outcomes: Outcomes
    views: TapViews
    test_images: np.ndarray
    source: dict[str, Any]
    raw: dict[str, dict[str, Any]]
    replicates: int

    @property
    def made_with(self) -> dict[str, Any]:
        """Parameters and versions of every strategy."""
        return json.loads(str(self.outcomes.made_with))


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
        _article(study),
        _method(study),
    ]


def charts_of(sections: Sequence[Section]) -> list[Chart]:
    """Every chart of the report, for the files beside the Markdown."""

    def walk(blocks: Sequence[Any]) -> list[Chart]:
        found = []
        for block in blocks:
            if isinstance(block, Chart):
                found.append(block)
            elif isinstance(block, Pictures):
                found.append(block.chart)
            elif isinstance(block, Details):
                found += walk(block.blocks)
        return found

    return walk([block for section in sections for block in section.blocks])


def _plain(value: str | int, text: str | None = None) -> Entry:
    return Entry(text if text is not None else f"{value:,}" if isinstance(value, int) else value, value)


def _float(value: float | None, decimals: int, scale: float = 1, sign: bool = False) -> Entry:
    if value is None or math.isnan(value):
        return Entry("–", -math.inf)
    return Entry((signed if sign else number)(scale * value, decimals), value)


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
        [_plain(name), *(_accuracy(comparison, comparison.of(name, shots)) for shots in comparison.shots)]
        for name in comparison.strategies
    ]
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    table = Table("Accuracy in % by labelled images per class", head, rows, note=_accuracy_note(comparison))
    spread = Table(
        "Accuracy in % over the draws",
        ["strategy", "labels per class", "mean", "from", "to", "standard deviation", "lowest", "median", "highest"],
        [
            [
                _plain(result.strategy),
                _plain(result.shots),
                _float(result.accuracy.mean, 2, 100),
                _float(None if result.accuracy.low is None else max(result.accuracy.low, 0), 2, 100),
                _float(None if result.accuracy.high is None else min(result.accuracy.high, 1), 2, 100),
                *(_float(value, 2, 100) for value in result.spread),
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
    signs = f"{_key('best')}; {_key('level')}. " if len(comparison.strategies) > 1 else ""
    return f"{signs}± is half of the 95 % interval."


def _key(mark: str) -> str:
    sign, meaning = MARKS[mark]
    return f"{sign} {meaning}"


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
        [_plain(name), *(_gain(comparison.of(name, shots)) for shots in comparison.shots)]
        for name in comparison.transfers
    ]
    head = ["strategy", *(f"{shots:,}" for shots in comparison.shots)]
    many = comparison.seeds > 1
    pairs = len(comparison.pairs[comparison.shots[0]])
    note = (
        f"{_key('better')}; {_key('worse')}; {_key('not separated')}. ± is half of the interval, corrected (Holm) for "
        f"{'the one comparison' if pairs == 1 else f'the {pairs} comparisons'} at each number of labels: all verdicts "
        "of a column are right together, with 95 % confidence."
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
        [_plain(name), *(_equivalent(comparison.of(name, shots), largest) for shots in comparison.shots)]
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
            _plain(pair.first),
            _plain(pair.second),
            _plain(shots),
            Entry(points(pair.difference), pair.difference.mean),
            Entry(points(pair.corrected), pair.difference.mean),
            _plain(pair.verdict or ""),
            _float(pair.probability, 0, 100),
            _float(pair.detectable, 2, 100),
            *([_float(pair.p_value, 4)] if tested else []),
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
            _plain(result.strategy),
            _plain(result.shots),
            *(_plain(result.costs[name]) for name in ("trainable_parameters", "gradient_steps", "examples_seen")),
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
        note=f"Effort: trained parameters × images seen. {_key('front')}.",
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
    rows = [
        [
            _plain(name),
            *(_float(share, 1, 100) for share in confusion(outcomes, name, shots).diagonal()),
        ]
        for name in comparison.strategies
    ]
    recalls = Table(
        f"Recall in % by class, with {per_class(shots)}", ["strategy", *(f"class {name}" for name in classes)], rows
    )
    blocks: list[Any] = [
        Text(f"With {per_class(shots)}, all draws together: what the images of each class are taken for, in %."),
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
            _plain(result.strategy),
            _plain(result.shots),
            *(_float(result.calibration[name], places, scales.get(name, 1)) for name, places in decimals.items()),
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
        "log loss, tempered",
        "ECE, tempered",
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
                "divided by. It is fitted, one for all draws of a number of labels, on labelled target images of other "
                "draws; test labels have no part in it. Someone with these labels alone would not have those images: "
                "it shows what is wrong, not a free repair."
            ),
            Details("Every score", [table]),
        ],
    )


def _features(study: Study) -> Section:
    views, outcomes = study.views, study.outcomes
    accuracies = tap_accuracies(views, outcomes.labels, study.replicates)
    table = Table(
        f"Accuracy of a linear probe, with {per_class(int(views.shots))}",
        ["tap", "accuracy, %"],
        [[_plain(tap), Entry(percent(estimate), estimate.mean)] for tap, estimate in accuracies.items()],
    )
    return Section(
        "features",
        "What the features look like",
        [
            Text(
                f"What each layer of the source model makes of {len(views.rows):,} test images, brought down to two "
                "dimensions by t-SNE (neighbours stay neighbours; distances between clusters mean little), and how "
                "well a linear classifier tells the classes apart from there."
            ),
            charts.tap_maps(views, outcomes, study.replicates),
            table,
        ],
    )


ARTICLE = [
    (
        "Feature extraction",
        "feature_extraction",
        "a classifier is fitted to what the frozen network gives",
        "it takes the source model's softmax output, saturated probabilities of other classes; here features come "
        "from a tap that was chosen on source classes",
    ),
    (
        "A dense head",
        "dense_head",
        "new dense layers are trained on the frozen network",
        "nothing is frozen, because `trainable` is set after compiling or not at all, and a softmax is stacked on the "
        "source model's softmax; here features are computed once, so that nothing can move, and heads give logits",
    ),
    (
        "End-to-end fine-tuning",
        "end_to_end",
        "all layers are trained on",
        "again under a second softmax, on the task that the source was trained on; here the old head is replaced, and "
        "source and target share no class",
    ),
]


def _article(study: Study) -> Section:
    methods = Table(
        "The article's three methods",
        ["method", "here", "the idea", "its printed code, and the repair"],
        [[_plain(text) if i != 1 else Entry(f"`{text}`", text) for i, text in enumerate(row)] for row in ARTICLE],
        words=4,
    )
    blocks: list[Any] = [methods]
    specimens = study.cells[study.cells["strategy"].isin(["article", "article_same_task"])]
    if specimens.empty:
        blocks.append(
            Text("What the printed code does is measured where `article.measure` in `params.yaml` is true; here not.")
        )
        return Section("article", "The article's methods", blocks)
    return Section("article", "The article's methods", [*blocks, *_specimens(study, specimens)])


def _specimens(study: Study, specimens: pd.DataFrame) -> list[Any]:
    comparison = study.comparison
    names = {
        "article": "its code on the target's classes",
        "article_same_task": "its code on the source's own classes",
    }
    means = pd.concat([specimens, study.cells[study.cells["strategy"].isin(comparison.strategies)]])
    means = means.groupby(["strategy", "shots"])["accuracy"].agg(["mean", "min", "max"])

    def entry(name: str, shots: int) -> Entry:
        if (name, shots) not in means.index:
            return Entry("–", -math.inf)
        mean, low, high = (100 * float(means[column].loc[(name, shots)]) for column in ("mean", "min", "max"))
        return Entry(f"{number(mean)} ({number(low)} to {number(high)})", mean)

    rows = [
        [_plain(names.get(name, name)), *(entry(name, shots) for shots in comparison.shots)]
        for name in [*names, *comparison.strategies]
    ]
    trained = specimens.loc[specimens["strategy"] == "article", "trainable_parameters"]
    frozen = f", {int(trained.iloc[0]):,} of them" if len(trained) else ""
    accuracy = number(100 * study.source["accuracy"])
    return [
        Table(
            "Accuracy in % of the article's printed code, by labelled images per class",
            ["", *(f"{shots:,}" for shots in comparison.shots)],
            rows,
            note="Mean over the draws, with the lowest and the highest. A specimen with the steps of end-to-end "
            "fine-tuning and Adam's default rate; not ranked.",
        ),
        Text(
            f"Every weight moves{frozen}, though the text calls them frozen. On other classes the code has to learn "
            "through a softmax of classes that are not there. On the source's own classes nothing is transferred: the "
            f"network had learnt them from all their labels, and is right on {accuracy} % of these images as it comes, "
            "so that this row tells what the new head does to it, and nothing of transfer."
        ),
    ]


def _method(study: Study) -> Section:
    comparison, outcomes = study.comparison, study.outcomes
    source = study.source
    classes = listed([str(name) for name in outcomes.classes])
    source_classes = listed([str(name) for name in source["classes"]])
    per = np.bincount(outcomes.labels, minlength=len(outcomes.classes))
    facts = [
        f"Source: a CNN trained on all labels of its classes, {source_classes}; right on "
        f"{number(100 * source['accuracy'])} % of held-out images of them.",
        f"Target: classes {classes}; {len(outcomes.labels):,} test images, {per.min():,} to {per.max():,} of a class.",
        f"Label draws: {comparison.seeds}, class-balanced, nested (fewer labels are part of more) and the same for "
        "every strategy; a draw's number also seeds the training.",
        f"{counted(len(comparison.results) * comparison.seeds, 'training')}: "
        f"{len(comparison.strategies)} × {len(comparison.shots)} × {comparison.seeds} strategies, budgets and draws.",
    ]
    if comparison.seeds > 1:
        facts.append(
            f"Intervals: {study.replicates:,} bootstrap replicates that draw seeds and test images anew (crossed; Owen "
            "2007), Student's t for the draws and the normal distribution for the images, combined (Howe 1974). "
            "Verdicts: Holm's procedure over the comparisons at each number of labels."
        )
    never = [
        "Test labels: only the evaluation reads them, after all trainings; no training, choice of a penalty or "
        "temperature saw one.",
        "Target results: step counts, rates, taps, widths and shifts were chosen on rehearsal tasks inside the "
        "source's classes; the penalty of `feature_extraction` is chosen by cross-validation inside its draw.",
        "Unlabelled target images are seen by `feature_extraction` and `dense_head`, which scale their features with "
        "statistics of all of them; `end_to_end` and `scratch` do not see them.",
    ]
    limits = [
        "One source model, one network, one pair of tasks: the intervals tell of other draws and other test images, "
        "not of other sources.",
        "The strategy with the highest mean is a little flattered by being chosen for it.",
        "Draws from one pool overlap where there are many labels, and draws of a seed are nested, so neighbouring "
        "numbers of labels are not independent.",
    ]
    hashes = Table(
        "The raw data, by the SHA-256 of its IDX files",
        ["part", "shape", "SHA-256"],
        [
            [_plain(name.replace("_", " ")), _plain(" × ".join(map(str, part["shape"]))), _plain(part["sha256"])]
            for name, part in study.raw.items()
        ],
        words=3,
    )
    parameters = [
        [_plain(section), _plain(name), Entry(f"`{json.dumps(value)}`", json.dumps(value))]
        for section, content in _parameters(study).items()
        for name, value in content.items()
    ]
    made = [study.source, *(study.made_with[name] for name in comparison.strategies)]
    versions = sorted({f"{name} {version}" for facts in made for name, version in facts["versions"].items()})
    return Section(
        "method",
        "How it was measured",
        [
            Bullets(facts),
            Text("**What was never looked at**"),
            Bullets(never),
            Text("**Limits**"),
            Bullets(limits),
            Details("Data", [hashes]),
            Details("Parameters", [Table("Parameters", ["section", "parameter", "value"], parameters, words=3)]),
            Text(f"Trained with {listed(versions)}."),
            Text(
                "Means, spreads, paired differences, signed-rank tests, costs and calibration follow from `cells.csv`, "
                "one row per training; intervals and errors also from the trainings' outcomes on every image "
                "(`data/outcomes.npz`); probes from `taps.csv`."
            ),
        ],
    )


def _parameters(study: Study) -> dict[str, dict[str, Any]]:
    """Sections of parameters in the order of the pipeline."""
    return study.source["params"] | {name: study.made_with[name]["params"] for name in study.comparison.strategies}
