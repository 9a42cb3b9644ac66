"""All that the report is made from, and the sections that state its facts: data, article, method, and model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from transfer.console import counted, some
from transfer.data.target import Draws
from transfer.evaluation.comparison import Comparison
from transfer.evaluation.outcomes import UNLABELLED, Correct, Outcomes, Probes
from transfer.evaluation.statistics import ALPHA
from transfer.report.blocks import Details, Section, Text, plain, table_of
from transfer.report.pages import TEMPLATES, written
from transfer.report.words import in_points, least_to_most, listed, number, per_class, percent


@dataclass(frozen=True)
class Study:
    """All that the report is made from.

    Attributes:
        comparison: of the strategies.
        runs: a row per run.
        outcomes: the runs, image by image.
        probes: of the layers.
        test_images: (test images, height, width, channels) uint8.
        source: facts of the source model: its accuracy on held-out images, its classes, what is doubtful about it, what
            it was made with.
        data: what source and target are made of.
        chosen: the draws, if they are chosen.
        controls: runs on random images in their place, if they are chosen.
        target_accuracy: a fraction; the report says how many labels it needs.
    """

    comparison: Comparison
    runs: pd.DataFrame
    outcomes: Outcomes
    probes: Probes
    test_images: np.ndarray
    source: dict[str, Any]
    data: dict[str, Any]
    chosen: Draws
    controls: Correct
    target_accuracy: float

    @property
    def made_with(self) -> dict[str, Any]:
        """Parameters and versions of every strategy."""
        return json.loads(str(self.outcomes.made_with))

    @property
    def notes(self) -> list[str]:
        """What the stages warned of: doubtful data, a doubtful source model."""
        return [*self.data["notes"], *self.source["notes"], *self.probes.notes.tolist()]

    @property
    def recommended(self) -> Any:
        """What the report recommends at the largest number of labels."""
        return self.comparison.recommended(self.comparison.shots[-1])


def _classes(names: Sequence[object], most: int = 12) -> str:
    return some([str(name) for name in names], most)


def _source_model(study: Study) -> str:
    """A sentence on the source model."""
    classes, accuracy = _classes(study.source["classes"]), study.source["accuracy"]
    percentage = "" if accuracy is None else f"{number(100 * accuracy)} %"
    given = study.source["params"].get("source")  # there is none where the source was trained here
    if given is None:
        return f"Source model: a CNN trained on classes {classes}; accuracy {percentage} on held-out images."
    measured = f" If its outputs are {classes}, its accuracy on them is {percentage}." if percentage else ""
    unknown = "Its training data are unknown: images of the target may be among them."
    name = (
        f"{given['network']} with ImageNet weights" if given["model"] == "imagenet" else PurePath(given["model"]).name
    )
    return f"Source model: {name}, trained elsewhere.{measured} {unknown}"


def data(study: Study) -> Section:
    """What source and target are made of, how they were divided, and what was noticed about them."""
    names = ["source", "target"]
    sides = [study.data[name] for name in names]
    frame = pd.DataFrame(
        {
            "": [name.capitalize() for name in names],
            "data": [side["title"] for side in sides],
            "classes": [_classes(side["classes"]) for side in sides],
            "test images are": [side["how"] for side in sides],
            "to train on": [side["train"] for side in sides],
            "to test on": [side["test"] for side in sides],
            "duplicates dropped": [side["dropped"] for side in sides],
        }
    )
    note = (
        "Duplicates: images whose pixels, after preprocessing, equal those of an earlier image, or of a test image of "
        "the target or of their own data set."
    )
    table = table_of(frame, "Source and target", words=4, note=note)
    arrays = {name.capitalize(): study.data[name]["raw"] for name in names}
    if arrays["Source"] == arrays["Target"]:
        arrays = {"Both": arrays["Source"]}
    pool = f"Unlabelled images: the target's {study.data['target']['train']:,} to train on"
    if given := study.data.get("unlabelled"):
        arrays["Unlabelled"] = given["raw"]
        added, dropped = (study.data["target"][name] for name in ("unlabelled", "unlabelled_dropped"))
        pool += f", and {added:,} from {given['title']} (duplicates dropped: {dropped:,})"
    rows = [
        (name, part, " × ".join(map(str, array["shape"])), array["sha256"])
        for name, parts in arrays.items()
        for part, array in parts.items()
    ]
    hashes = table_of(pd.DataFrame(rows, columns=["", "part", "shape", "SHA-256"]), "Data by their SHA-256", words=4)
    warnings = [Text(f"**Warning.** {note}") for note in study.notes]
    return Section("data", "Data", [*warnings, table, Text(f"{pool}."), Details("Every array", [hashes])])


def article() -> Section:
    """The three methods of the article that the study began with, and what is wrong with its code."""
    table = table_of(pd.read_csv(TEMPLATES / "article.csv"), "The article's three methods", words=5)
    measured = Text("`python -m benchmarks.article` measures what the printed code does.")
    return Section("article", "The article's methods", [table, measured])


def method(study: Study) -> Section:
    """How the study was done, and what it cannot tell."""
    comparison, labels = study.comparison, study.outcomes.labels
    images_of = np.bincount(labels, minlength=len(study.outcomes.classes))
    strategies = [study.made_with[name] for name in comparison.strategies]
    made = [study.source, *strategies]
    most_unlabelled = study.runs.groupby("strategy")["unlabelled_images"].max()
    [section] = written(
        "method",
        source=_source_model(study),
        classes=_classes(study.data["target"]["classes"]),
        images=len(labels),
        fewest=images_of.min(),
        most=images_of.max(),
        seeds=comparison.seeds,
        draws=least_to_most(comparison.results["draws"]),
        looks=listed(comparison.looks) if len(comparison.looks) > 1 else "",
        alpha=f"{100 * ALPHA / len(comparison.looks):.2g}",
        runs=int(comparison.results["draws"].sum()),
        strategies=len(strategies),
        budgets=len(comparison.shots),
        within=in_points(comparison.within),
        groups=study.data["target"]["test_groups"],
        folds=study.data["target"]["folds"],
        chosen=len(study.chosen.wanted),
        pairs=len(strategies) * (len(strategies) - 1) // 2,
        unlabelled={name: most_unlabelled[name] for name in comparison.needing(UNLABELLED)},
        precisions=sorted({facts["precision"] for facts in made if "precision" in facts}),
        names=comparison.strategies,
        versions=listed(sorted({f"{name} {version}" for facts in made for name, version in facts["versions"].items()})),
    )
    params = study.source["params"] | {
        name: facts["params"] for name, facts in zip(comparison.strategies, strategies, strict=True)
    }
    rows = [(name, key, json.dumps(value)) for name, content in params.items() for key, value in content.items()]
    frame = pd.DataFrame(rows, columns=["section", "parameter", "value"])
    section.blocks.append(Details("Parameters", [table_of(frame, "Parameters", words=3)]))
    return section


def write_card(study: Study) -> list[Section]:
    """The card of the model to take away: what it is, how good, how well calibrated, and what it is not."""
    comparison, runs, target = study.comparison, study.runs, study.data["target"]
    result = study.recommended
    own = runs[(runs["strategy"] == result.strategy) & (runs["shots"] == result.shots) & (runs["seed"] == 0)]
    return written(
        "card",
        result=result,
        needs=comparison.needs[result.strategy],
        unlabelled=own["unlabelled_images"].item(),
        budget=per_class(result.shots),
        seeds=result.draws,
        source=_source_model(study),
        target=target,
        classes=_classes(target["classes"], 400),
        dropped=counted(target["dropped"], "duplicate"),
        notes=study.notes,
        accuracy=percent(result.accuracy, result.margin),
        own=percent(own["accuracy"].item()),
        best=comparison.best(result.shots),
        within=in_points(comparison.within),
        percent=percent,
        shown=lambda value, decimals=2: plain(value, decimals).text,
        shape=study.test_images.shape[1:],
        strategies=len(comparison.strategies),
    )
