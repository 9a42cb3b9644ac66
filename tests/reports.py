"""A small study without any training, and a recomputation of the report's numbers from the table of runs."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from transfer.data.target import Draws
from transfer.evaluation.comparison import compare
from transfer.evaluation.outcomes import COSTS, UNLABELLED, Correct, Outcomes, Probes
from transfer.evaluation.selection import CALIBRATION, choose_strategies
from transfer.report.study import Study

MEANS = {"dense_head": 0.7, "end_to_end": 0.6, "scratch": 0.6}
TEN = {
    "committee": 0.76,
    "dense_head": 0.62,
    "end_to_end": 0.68,
    "feature_extraction": 0.64,
    "label_propagation": 0.72,
    "pixels": 0.54,
    "prototypes": 0.6,
    "scratch": 0.5,
    "self_training": 0.8,
    "source_model": 0.58,
}
ACCURACY = "Accuracy in % by labelled images per class"
NEEDS = {"scratch": ["labels"], "pixels": ["labels"], "source_model": ["source model"]}
for _name in ("committee", "label_propagation", "self_training"):
    NEEDS[_name] = ["labels", UNLABELLED, "source model"]


def outcomes_of(
    means: dict[str, float], shots: tuple[int, ...] = (1, 10), seeds: int = 8, images: int = 600, classes: int = 3
) -> Outcomes:
    """Runs whose accuracy is about the strategy's mean, a little more with more shots; draws' luck is shared."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images).astype(np.int32)
    grid = list(itertools.product(means, shots, range(seeds)))
    luck = {(n, seed): rng.normal(0, 0.05) for n in shots for seed in range(seeds)}
    ease = rng.uniform(size=images)
    predicted, confidence = [], []
    for name, n, seed in grid:
        accuracy = means[name] + luck[n, seed] + rng.normal(0, 0.004) + 0.1 * shots.index(n) / max(len(shots) - 1, 1)
        wrong = (labels + rng.integers(1, classes, images)) % classes
        predicted.append(np.where(ease < accuracy, labels, wrong))
        confidence.append(rng.uniform(0.4, 1, images))
    names, budgets, seed_of = (list(column) for column in zip(*grid, strict=True))
    versions = {"versions": {"keras": "3"}, "params": {"layer": "block2"}, "precision": "float32"}
    made_with = {
        name: versions | {"summary": f"do as {name} does", "needs": NEEDS.get(name, ["labels", "source model"])}
        for name in means
    }
    return Outcomes(
        strategy=np.array(names),
        shots=np.array(budgets, np.int32),
        seed=np.array(seed_of, np.int32),
        collapsed=np.zeros(len(names), bool),
        predicted=np.array(predicted, np.int16),
        confidence=np.array(confidence, np.float32),
        scaled=np.array(confidence, np.float32) ** 1.1,
        labels=labels,
        classes=np.arange(classes).astype(str),
        made_with=np.array(json.dumps(made_with)),
        looks=np.array([seeds], np.int32),
    )


def runs_of(outcomes: Outcomes) -> pd.DataFrame:
    """The table of runs that belongs to outcomes, with costs and calibration of no meaning.

    With 10 labels per class, three runs of label_propagation keep to the labels.
    """
    rng = np.random.default_rng(1)
    runs = pd.DataFrame({"strategy": outcomes.strategy, "shots": outcomes.shots, "seed": outcomes.seed})
    runs["accuracy"] = (outcomes.predicted == outcomes.labels).mean(axis=1).round(6)
    for i, name in enumerate(COSTS):
        runs[name] = 10 ** (i + 1) * runs["shots"] + 7 * (runs["strategy"] == "dense_head")
    runs["unlabelled_images"] = [4321 * (UNLABELLED in NEEDS.get(name, [])) for name in runs["strategy"]]
    runs.loc[runs.eval("strategy == 'label_propagation' and shots == 10 and seed < 3"), "unlabelled_images"] = 0
    for name in CALIBRATION:
        runs[name] = rng.uniform(0.1, 2, len(runs)).round(6)
    return runs


def side(title: str, classes: list[str]) -> dict[str, Any]:
    counts = {
        "train": 4321,
        "test": 600,
        "dropped": 3,
        "how": "the data's own test images",
        "test_groups": 0,
        "folds": 0,
    }
    return {"title": title, "classes": classes, "raw": {"images": {"shape": [4, 28, 28], "sha256": "abc"}}} | counts


def study_of(outcomes: Outcomes, strategies: list[str] | None = None, within: float = 0.005) -> Study:
    """All that a report of these outcomes is made from."""
    runs, rng = runs_of(outcomes), np.random.default_rng(3)
    seeds = int(outcomes.seed.max()) + 1
    probes = Probes(
        names=np.array(["block1", "dense1"]),
        shots=np.array(1, np.int32),
        rows=np.arange(40),
        predicted=rng.integers(0, 3, (2, seeds, 40)).astype(np.int16),
        notes=np.array([], np.str_),
    )
    return Study(
        comparison=compare(runs, Correct.of(outcomes), choose_strategies(runs, strategies), within),
        runs=runs,
        outcomes=outcomes,
        probes=probes,
        test_images=rng.integers(0, 256, (len(outcomes.labels), 28, 28, 1)).astype(np.uint8),
        source={
            "accuracy": 0.99,
            "classes": [0, 1],
            "notes": [],
            "params": {"cnn": {"dense": [8]}},
            "versions": {"keras": "3"},
            "precision": "mixed_bfloat16",
        },
        data={
            "source": side("MNIST", ["0", "1"]),
            "target": side("5 files of own", outcomes.classes.tolist()),
            "notes": [],
        },
        chosen=Draws.none(),
        controls=Correct.of(outcomes),
        target_accuracy=0.8,
    )


def tables_in(page: str) -> dict[str, pd.DataFrame]:
    """Every table of a Markdown page by its caption, as text."""
    tables = {}
    for caption, content in re.findall(r"^\*\*(.+)\*\*\n\n((?:\|.*\n)+)", page, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split(" |")] for line in content.splitlines()]
        tables[caption] = pd.DataFrame(rows, columns=head)
    return tables


def numbers(text: str) -> list[float]:
    """The numbers in a text."""
    found = re.findall(r"[+−-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?", text)
    return [float(part.replace(",", "").replace("−", "-")) for part in found]


def check_numbers(page: str, runs: pd.DataFrame) -> int:
    """Recompute every number of a Markdown page's tables that follows from the runs; returns how many."""
    tables, compared = tables_in(page), 0
    groups = runs.groupby(["strategy", "shots"])

    def check(text: str, expected: float, decimals: int = 2, tolerance: float = 0.0) -> None:
        nonlocal compared
        if np.isnan(expected):
            assert text == "–"
            return
        assert numbers(text)[0] == pytest.approx(expected, abs=10.0**-decimals * 0.5 + 1e-9 + tolerance), text
        compared += 1

    def budget(head: str) -> int:
        return int(head.replace(",", ""))

    def check_columns(caption: str, expected: pd.DataFrame, columns: dict[str, tuple[str, float, int]]) -> None:
        """Columns of a page's table against those of a frame, scaled, by strategy and shots."""
        for _, row in tables[caption].iterrows():
            own = expected.loc[(row["strategy"], budget(row["labels per class"]))]
            for head, (name, scale, decimals) in columns.items():
                check(row[head], scale * own[name], decimals)

    accuracy = runs.pivot_table(index=["strategy", "shots"], columns="seed", values="accuracy") * 100
    every = tables.get("Every pair", pd.DataFrame())
    looked = {(row["first"], row["second"], row["labels per class"]): row.get("draws") for _, row in every.iterrows()}

    def difference(first: str, second: str, shots: str) -> pd.Series[float]:
        """Over the draws of the look that decided the pair; over all draws without looks."""
        own, other = (accuracy.loc[(name, budget(shots))] for name in (first, second))
        return (own - other)[: int(looked.get((first, second, shots)) or len(own))]

    ranking = tables[ACCURACY]
    over_all = accuracy.mean(axis=1).groupby("strategy").mean()
    assert ranking["strategy"].tolist() == over_all[ranking["strategy"]].sort_values(ascending=False).index.tolist()
    for _, row in ranking.iterrows():
        for head in row.index[1:-2]:
            check(row[head], accuracy.loc[(row["strategy"], budget(head))].mean())
    gains = "Gain over scratch in percentage points, by labelled images per class"
    for _, row in tables.get(gains, pd.DataFrame()).iterrows():
        for head in row.index[1:]:
            check(row[head], difference(row["strategy"], "scratch", head).mean(), tolerance=1e-4)
    spread = groups["accuracy"].agg(["mean", "std", "min", "median", "max"])
    columns = {"mean": "mean", "standard deviation": "std", "lowest": "min", "median": "median", "highest": "max"}
    check_columns("Accuracy in % over the draws", spread, {head: (name, 100, 2) for head, name in columns.items()})
    costs = groups[list(COSTS)].median().astype(int)
    costs["effort"] = costs["trainable_parameters"] * costs["examples_seen"]
    counts = {"trained parameters": "trainable_parameters", "gradient steps": "gradient_steps"}
    counts |= {"images seen": "examples_seen", "unlabelled images": "unlabelled_images"}
    columns = {head: (name, 1, 0) for head, name in counts.items()} | {"file, MB": ("model_bytes", 1e-6, 2)}
    check_columns("What one training costs", costs, columns)
    for _, row in tables["What one training costs"].iterrows():
        effort = costs.loc[(row["strategy"], budget(row["labels per class"])), "effort"]
        assert numbers(row["effort"])[0] == float(f"{effort:.2e}")
    columns = {"log loss": ("log_loss", 1, 3), "Brier": ("brier", 1, 3), "ECE, %": ("ece", 100, 2)}
    columns |= {"temperature": ("temperature", 1, 2), "ECE, temperature-scaled": ("ece_tempered", 100, 2)}
    columns |= {"log loss, temperature-scaled": ("log_loss_tempered", 1, 3)}
    check_columns("Calibration, means over the draws", groups[list(CALIBRATION)].mean(), columns)

    for shots, rows in tables["Every pair"].groupby("labels per class") if "Every pair" in tables else ():
        pairs = zip(rows["first"], rows["second"], strict=True)
        differences = [difference(*pair, shots).round(3) for pair in pairs]
        for text, expected in zip(rows["difference"], differences, strict=True):
            check(text, expected.mean(), tolerance=1e-3)
    return compared


def check_sentences(page: str, runs: pd.DataFrame) -> None:
    """Recompute the means that sentences state, which is highest, and what is led by."""
    means = runs.groupby(["shots", "strategy"])["accuracy"].mean() * 100
    sentences = re.findall(r"^- With ([\d,]+) labels? per class use (\w+): (.*)$", page, re.MULTILINE)
    assert [int(shots.replace(",", "")) for shots, *_ in sentences] == sorted(runs["shots"].unique())
    for shots, chosen, sentence in sentences:
        at = means.loc[int(shots.replace(",", ""))]
        assert numbers(sentence)[0] == pytest.approx(at[chosen], abs=0.00501)
        highest = re.search(r"(\w+) is highest, at ([\d.]+) %", sentence)
        assert at[highest[1] if highest else chosen] == at.max()
        if highest:
            assert float(highest[2]) == pytest.approx(at.max(), abs=0.00501)
        if lead := re.search(r"([\d.]+) points above scratch", sentence):
            assert float(lead[1]) == pytest.approx(at[chosen] - at["scratch"], abs=0.0051)
