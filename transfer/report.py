"""The comparison as a reader sees it: one Markdown page and one chart, made from the cells alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from transfer.console import UserError
from transfer.statistics import Estimate, mean_interval

BASELINE = "scratch"
COSTS = ["trainable_parameters", "gradient_steps", "examples_seen"]


def read_cells(path: Path) -> pd.DataFrame:
    """Read the file of cells that `evaluate` writes.

    Raises:
        UserError: if the file is missing or lacks a column.
    """
    columns = ["strategy", "shots", "seed", "accuracy", *COSTS]
    try:
        return pd.read_csv(path)[columns]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (OSError, ValueError, KeyError):
        raise UserError(f"{path} lacks one of {', '.join(columns)}: delete it and run `dvc repro`") from None


def strategies_of(cells: pd.DataFrame) -> list[str]:
    """The strategies in the order of the report: by name, the baseline last."""
    return sorted(cells["strategy"].unique(), key=lambda name: (name == BASELINE, name))


def summarise(cells: pd.DataFrame) -> pd.DataFrame:
    """Per strategy and number of shots, the mean accuracy and the paired gain over the baseline.

    Args:
        cells: one row per cell, with `strategy`, `shots`, `seed`, `accuracy` and the costs.

    Returns:
        One row per strategy and number of shots: `accuracy` and `gain` are `Estimate`s over the seeds, as fractions;
        `gain` is None for the baseline itself and where there is none; the costs are those of one cell.
    """
    accuracy = cells.pivot_table(index=["strategy", "shots"], columns="seed", values="accuracy")
    costs = cells.groupby(["strategy", "shots"])[COSTS].median()
    rows = []
    for strategy in strategies_of(cells):
        for shots in sorted(cells["shots"].unique()):
            values = accuracy.loc[(strategy, shots)].to_numpy()
            compared = strategy != BASELINE and (BASELINE, shots) in accuracy.index
            gain = mean_interval(values - accuracy.loc[(BASELINE, shots)].to_numpy()) if compared else None
            cost = costs.loc[(strategy, shots)].astype(int).to_dict()
            rows.append({"strategy": strategy, "shots": shots, "accuracy": mean_interval(values), "gain": gain} | cost)
    return pd.DataFrame(rows).astype({"gain": object})


def markdown(cells: pd.DataFrame, source_accuracy: float, chart: str) -> str:
    """The report as Markdown.

    Args:
        cells: one row per cell.
        source_accuracy: of the source model on held-out images of its own classes, a fraction.
        chart: file name of the chart, beside the report.
    """
    summary = summarise(cells)
    strategies, shots, seeds = strategies_of(cells), sorted(cells["shots"].unique()), cells["seed"].nunique()
    by_cell = summary.set_index(["strategy", "shots"])
    average = f"mean of {seeds} label draws with 95 % intervals over the draws" if seeds > 1 else "one label draw only"
    parts = [
        "# Which way to transfer",
        f"Accuracy on the target's test images after training on a few labelled images per class: {average}. "
        f"Every strategy gets the same draws. The source model is right on "
        f"{100 * source_accuracy:.2f} % of held-out images of its own classes.",
        f"![Accuracy against labelled images per class]({chart})",
        "## Accuracy, %",
        _table(
            ["labels per class", *strategies],
            [[str(n), *(_percent(by_cell.loc[(name, n), "accuracy"]) for name in strategies)] for n in shots],
        ),
        "The intervals tell how much the draw of the labels matters, for this source model and these test images."
        if seeds > 1
        else "From one draw: no interval, though the draw of the labels matters much.",
        "`feature_extraction` and `dense_head` scale their features with statistics of all target images, without "
        "their labels; `end_to_end` and `scratch` do not see the unlabelled ones.",
    ]
    others = [name for name in strategies if name != BASELINE]
    if BASELINE in strategies and others:
        gains = [[str(n), *(_points(by_cell.loc[(name, n), "gain"]) for name in others)] for n in shots]
        parts += [
            f"## Gain over training from {BASELINE}, percentage points",
            "Paired by draw: the luck of a draw, which all strategies share, does not widen these intervals. One that "
            "contains 0 is marked `=`: not separated."
            if seeds > 1
            else "From one draw: no interval, and no verdict.",
            _table(["labels per class", *others], gains),
        ]
    parts += [
        "## What one training costs",
        "Counts, which are the same on every machine: weights that are trained, updates of them, and labelled images "
        "that go through training, repeats counted. For `feature_extraction` the updates are L-BFGS iterations of the "
        "final fit (the median over the draws).",
        _table(
            ["strategy", "labels per class", "trained parameters", "updates", "images seen"],
            [
                [row["strategy"], str(row["shots"]), *(f"{row[cost]:,}" for cost in COSTS)]
                for _, row in summary.iterrows()
            ],
            left=1,
        ),
        "Every number here is computed from `cells.csv`, one row per training.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    rule = ["---" if column < left else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def _percent(value: Estimate) -> str:
    return _with_half_width(value, "{:.2f}")


def _points(value: Estimate) -> str:
    unseparated = value.low is not None and value.high is not None and value.low <= 0 <= value.high
    return _with_half_width(value, "{:+.2f}") + (" =" if unseparated else "")


def _with_half_width(value: Estimate, form: str) -> str:
    mean = form.format(100 * value.mean)
    return mean if value.high is None else f"{mean} ± {100 * (value.high - value.mean):.2f}"
