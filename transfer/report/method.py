"""The report's last sections: the data, the article that its methods come from, and how everything was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
import pandas as pd

from transfer.console import some
from transfer.report.blocks import Details, Section, Text, table_of
from transfer.report.pages import written
from transfer.report.study import Study
from transfer.report.words import listed, number

SIDES = {"source": "Source", "target": "Target"}
ARTICLE = [
    (
        "Feature extraction",
        "`feature_extraction`",
        "a classifier is fitted to what the frozen network gives",
        "it takes the source model's softmax output, saturated probabilities of other classes; here features come "
        "from a layer before the head",
    ),
    (
        "A dense head",
        "`dense_head`",
        "new dense layers are trained on the frozen network",
        "nothing is frozen, because `trainable` is set after compiling or not at all, and a softmax is stacked on the "
        "source model's softmax; here features are computed once, so that nothing can move, and heads give logits",
    ),
    (
        "End-to-end fine-tuning",
        "`end_to_end`",
        "all layers are trained on",
        "again under a second softmax, on the task that the source was trained on; here the old head is replaced, and "
        "the target is another task",
    ),
]


def article() -> Section:
    """The article's three methods, and what is wrong with its code."""
    frame = pd.DataFrame(ARTICLE, columns=["method", "here", "the idea", "its printed code, and the repair"])
    measured = Text("`python -m benchmarks.article` measures what the printed code does.")
    table = table_of(frame, "The article's three methods", words=4)
    return Section("article", "The article's methods", [table, measured])


def source_model(study: Study) -> str:
    """A sentence on the source model."""
    classes, accuracy = few(study.source["classes"]), study.source["accuracy"]
    right = "" if accuracy is None else f"right on {number(100 * accuracy)} % of"
    given = study.source["params"].get("source")  # there is none where the source was trained here
    if given is None:
        return f"Source: a CNN trained on many labels of its classes, {classes}; {right} held-out images of them."
    name = PurePath(given["model"]).name
    measured = f" If its outputs stand for {classes}, in this order, it is {right} their test images." if right else ""
    unknown = "What it was trained on is not known here: images of the target may be among it."
    return f"Source: a model that was given, {name}.{measured} {unknown}"


def few(names: Sequence[object], most: int = 12) -> str:
    """Names of classes, and of very many the first few."""
    words = [str(name) for name in names]
    return some(words, most) if len(words) > most else listed(words) if words else "none"


def data(study: Study) -> Section:
    """What source and target are made of, how they were divided, and what was noticed about them."""
    sides = [study.data[side] for side in SIDES]
    frame = pd.DataFrame(
        {
            "": list(SIDES.values()),
            "data": [side["title"] for side in sides],
            "classes": [few(side["classes"]) for side in sides],
            "test images are": [side["how"] for side in sides],
            "to train on": [side["train"] for side in sides],
            "to test on": [side["test"] for side in sides],
            "duplicates dropped": [side["dropped"] for side in sides],
        }
    )
    note = (
        "Duplicates: images that are, pixel by pixel in the form that the model takes, there before, or among the test "
        "images of the target or of their own side."
    )
    arrays = {title: study.data[side]["raw"] for side, title in SIDES.items()}
    if arrays["Source"] == arrays["Target"]:
        arrays = {"Both": arrays["Source"]}
    rows = [
        (title, name, " × ".join(map(str, part["shape"])), part["sha256"])
        for title, parts in arrays.items()
        for name, part in parts.items()
    ]
    hashes = table_of(pd.DataFrame(rows, columns=["", "part", "shape", "SHA-256"]), "Data by their SHA-256", words=4)
    warnings = [Text(f"**Warning.** {note}") for note in study.data["notes"]]
    table = table_of(frame, "Source and target", words=4, note=note)
    return Section("data", "The data", [*warnings, table, Details("Every array", [hashes])])


def method(study: Study) -> Section:
    """How the study was done, and what it cannot tell."""
    comparison, labels = study.comparison, study.outcomes.labels
    per_class = np.bincount(labels, minlength=len(study.outcomes.classes))
    sections = study.source["params"] | {name: study.made_with[name]["params"] for name in comparison.strategies}
    made = [study.source, *(study.made_with[name] for name in comparison.strategies)]
    [section] = written(
        "method",
        source=source_model(study),
        classes=few(study.data["target"]["classes"]),
        images=len(labels),
        fewest=per_class.min(),
        most=per_class.max(),
        seeds=comparison.seeds,
        strategies=len(comparison.strategies),
        budgets=len(comparison.shots),
        replicates=study.replicates,
        grouped=study.data["target"]["grouped"],
        precisions=listed(sorted({facts["precision"] for facts in made if "precision" in facts})),
        versions=listed(sorted({f"{name} {version}" for facts in made for name, version in facts["versions"].items()})),
    )
    parameters = [
        (section, name, json.dumps(value)) for section, content in sections.items() for name, value in content.items()
    ]
    frame = pd.DataFrame(parameters, columns=["section", "parameter", "value"])
    section.blocks.append(Details("Parameters", [table_of(frame, "Parameters", words=3)]))
    return section
