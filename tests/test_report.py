from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transfer import charts, report
from transfer.console import UserError
from transfer.evaluation import check_same_cells, headline, score_cells
from transfer.predictions import Predictions
from transfer.statistics import mean_interval


def cells_of(means: dict[str, float], shots: tuple[int, ...] = (1, 10), seeds: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    draw_luck = rng.normal(0, 0.05, (len(shots), seeds))  # shared by the strategies, as draws are
    rows = [
        (name, count, seed, mean + draw_luck[i, seed] + rng.normal(0, 0.001), 1000, 10 * count, 50 * count)
        for name, mean in means.items()
        for i, count in enumerate(shots)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["strategy", "shots", "seed", "accuracy", *report.COSTS])


CELLS = cells_of({"scratch": 0.6, "dense_head": 0.7, "end_to_end": 0.6})


def table_under(page: str, heading: str) -> list[list[str]]:
    lines = page.split(heading)[1].split("\n##")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [rows[0], *rows[2:]]


def test_accuracies_and_intervals_in_the_page_are_those_of_the_cells() -> None:
    head, *rows = table_under(report.markdown(CELLS, 0.99, "a.svg"), "## Accuracy, %")
    assert head == ["labels per class", "dense_head", "end_to_end", "scratch"]
    for row in rows:
        for name, shown in zip(head[1:], row[1:], strict=True):
            values = CELLS.query(
                "strategy == @name and shots == @count", local_dict={"name": name, "count": int(row[0])}
            )
            mean, _, high = mean_interval(values["accuracy"].to_numpy())
            assert high is not None
            assert shown == f"{100 * mean:.2f} ± {100 * (high - mean):.2f}"


def test_gains_are_paired_and_say_when_they_are_not_separated() -> None:
    _, *rows = table_under(report.markdown(CELLS, 0.99, "a.svg"), "## Gain over training from scratch")
    for _, dense_head, end_to_end in rows:
        gain, half = map(float, re.findall(r"[\d.]+", dense_head))
        assert gain == pytest.approx(10, abs=0.3)
        assert half < 0.3  # far less than the spread between draws: the pairing counts
        assert not dense_head.endswith("=")
        assert end_to_end.endswith("=")


def test_the_baseline_comes_last_and_may_be_absent() -> None:
    assert report.strategies_of(CELLS) == ["dense_head", "end_to_end", "scratch"]
    page = report.markdown(CELLS[CELLS["strategy"] != "scratch"], 0.99, "a.svg")
    assert "Gain over" not in page
    assert "dense_head" in page


def test_one_seed_gives_no_interval_and_no_verdict() -> None:
    page = report.markdown(cells_of({"scratch": 0.5, "dense_head": 0.6}, seeds=1), 0.99, "a.svg")
    assert "±" not in page
    assert "95 %" not in page
    assert "one label draw only" in page
    assert "no interval" in page
    assert not any(cell.endswith("=") for row in table_under(page, "## Gain over") for cell in row)


@pytest.mark.parametrize("seeds", [1, 6])
def test_the_chart_is_whole_svg_with_every_strategy_and_no_address(seeds: int) -> None:
    svg = charts.learning_curves(report.summarise(cells_of({"scratch": 0.5, "dense_head": 0.6}, seeds=seeds)))
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    text = "".join(root.itertext())
    assert "scratch" in text
    assert "dense_head" in text
    assert "NaN" not in svg
    assert not re.findall(r'(?:href|src)="https?:', svg)
    assert svg == charts.learning_curves(report.summarise(cells_of({"scratch": 0.5, "dense_head": 0.6}, seeds=seeds)))


@pytest.mark.parametrize("shots", [(1,), (1, 10)])
def test_the_chart_shows_only_accuracies_that_can_be(shots: tuple[int, ...]) -> None:
    """Two draws that differ have an interval far wider than 0 to 100 %."""
    wild = cells_of({"scratch": 0.5, "dense_head": 0.6}, shots=shots, seeds=2)
    wild["accuracy"] = np.where(wild["seed"] == 0, 0.3, 0.9)
    svg = charts.learning_curves(report.summarise(wild))
    limits = re.search(r"axis titled 'accuracy[^\"]* with values from (\S+) to (\S+)\"", svg)
    assert limits
    assert 0 <= float(limits[1]) < float(limits[2]) <= 100
    assert svg.count("mark-rule role-mark" if len(shots) == 1 else "mark-area role-mark") > 0


def test_cells_that_are_not_there_or_something_else_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cells\.csv is missing"):
        report.read_cells(tmp_path / "cells.csv")
    for text in ("", "a,b\n1,2\n", 'strategy\n"', "\0"):
        (tmp_path / "cells.csv").write_text(text)
        with pytest.raises(UserError, match=r"cells\.csv lacks one of strategy, shots"):
            report.read_cells(tmp_path / "cells.csv")


def predictions(cells: list[tuple[int, int]], images: int = 8) -> Predictions:
    rng = np.random.default_rng(len(cells))
    shots, seed = (np.array(column, np.int32) for column in zip(*cells, strict=True))
    ones = np.ones(len(cells), np.int64)
    return Predictions(
        rng.dirichlet(np.ones(3), (len(cells), images)).astype(np.float32), shots, seed, ones, ones, ones
    )


def test_cells_are_scored_one_row_each_in_order() -> None:
    labels = np.arange(8) % 3
    given = predictions([(10, 0), (1, 1), (1, 0)])
    cells = score_cells("x", given, labels)
    assert list(zip(cells["shots"], cells["seed"], strict=True)) == [(1, 0), (1, 1), (10, 0)]
    assert cells["accuracy"][2] == np.mean(given.probabilities[0].argmax(axis=1) == labels)


def test_predictions_for_other_test_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"predictions/x\.npz is for 8 test images, not 9"):
        score_cells("x", predictions([(1, 0)]), np.zeros(9, int))


def test_a_cell_that_diverged_is_named_not_scored() -> None:
    given = predictions([(1, 0), (5, 3)])
    given.probabilities[1, 2] = np.nan
    with pytest.raises(UserError, match="x with 5 labels per class and seed 3 diverged"):
        score_cells("x", given, np.zeros(8, int))


def test_a_strategy_with_other_cells_is_named() -> None:
    whole = [score_cells(name, predictions([(1, 0), (1, 1)]), np.zeros(8, int)) for name in "ab"]
    check_same_cells(pd.concat(whole))
    with pytest.raises(UserError, match=r"predictions/c\.npz has other shots or seeds"):
        check_same_cells(pd.concat([*whole, score_cells("c", predictions([(1, 0)]), np.zeros(8, int))]))


def test_the_headline_is_flat_and_rounded() -> None:
    table = headline(CELLS, 0.99771234567)
    assert table["source"] == {"accuracy": 0.997712}
    assert set(table["scratch"]) == {"shots_1", "shots_10"}
    mean = CELLS.query("strategy == 'scratch' and shots == 1")["accuracy"].mean()
    assert table["scratch"]["shots_1"] == round(mean, 6)
