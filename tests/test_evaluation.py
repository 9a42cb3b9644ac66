"""What evaluation makes of predictions: cells, the headline, temperatures, outcomes, probes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import refused

from transfer.console import UserError
from transfer.data.predictions import Predictions
from transfer.evaluation import metrics, scores
from transfer.evaluation.outcomes import Probes
from transfer.evaluation.scores import (
    check_predictions,
    check_same_cells,
    headline,
    outcomes_of,
    score_probes,
    temperature_scale,
)

CALIBRATION_LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)


def predictions(cells: list[tuple[int, int]], images: int = 8) -> Predictions:
    rng = np.random.default_rng(len(cells))
    shots, seed = (np.array(column, np.int32) for column in zip(*cells, strict=True))
    ones = np.ones(len(cells), np.int64)
    unseen = np.tile(CALIBRATION_LABELS, (len(cells), 1))
    unseen[np.arange(len(cells)), seed % 6] = -1  # each cell was trained on one of them
    return Predictions(
        probabilities=rng.dirichlet(np.ones(3), (len(cells), images)).astype(np.float32),
        calibration=rng.dirichlet(np.ones(3), (len(cells), 6)).astype(np.float32),
        calibration_labels=unseen,
        shots=shots,
        seed=seed,
        trainable_parameters=ones,
        gradient_steps=ones,
        examples_seen=ones,
        model_bytes=ones,
        made_with=np.array(json.dumps({"params": {}, "versions": {}})),
    )


def score_cells(strategy: str, given: Predictions, labels: np.ndarray) -> pd.DataFrame:
    return scores.score_cells(strategy, given, temperature_scale(given), labels)


def test_cells_are_scored_one_row_each_in_order() -> None:
    labels = np.arange(8) % 3
    given = predictions([(10, 0), (1, 1), (1, 0)])
    cells = score_cells("x", given, labels)
    assert list(zip(cells["shots"], cells["seed"], strict=True)) == [(1, 0), (1, 1), (10, 0)]
    assert cells["accuracy"][2] == np.mean(given.probabilities[0].argmax(axis=1) == labels)
    assert cells["log_loss"][2] == round(metrics.log_loss(given.probabilities[0], labels), 6)
    scaled = metrics.temperature_scaled(given.probabilities[0], temperature_scale(given).temperature[0])
    assert cells["ece_tempered"][2] == round(metrics.expected_calibration_error(scaled, labels), 6)


FILE = Path("data/predictions/x.npz")


def test_predictions_for_other_test_images_or_classes_are_refused() -> None:
    for images, classes in ((9, 3), (8, 4)):
        with pytest.raises(UserError, match=r"predictions/x\.npz is for 8 test images of 3 classes, not"):
            check_predictions(FILE, predictions([(1, 0)]), images, classes)


def test_a_cell_that_diverged_is_named_not_scored() -> None:
    given = predictions([(1, 0), (5, 3)])
    given.probabilities[1, 2] = np.nan
    refused(lambda: check_predictions(FILE, given, 8, 3), "x with 5 labels per class and seed 3 diverged")


WRONG: dict[str, Callable[[Predictions], Predictions]] = {
    "no probabilities: one is negative": lambda given: set_at(given.probabilities, (1, 2), [-0.1, 0.6, 0.5], given),
    "no probabilities: of calibration": lambda given: set_at(given.calibration, (1, 2), [1, 1, 1], given),
    "diverged: infinite": lambda given: set_at(given.probabilities, (1, 2), [np.inf, 0, 0], given),
    "a cell twice": lambda given: replace(given, shots=given.shots * 0 + 1, seed=given.seed * 0),
    "shots is too small": lambda given: replace(given, shots=given.shots - 1),
    "calibration_labels are of other": lambda given: replace(given, calibration_labels=given.calibration_labels + 1),
    "made_with lacks what": lambda given: replace(given, made_with=np.array("{}")),
}


def set_at(array: np.ndarray, place: tuple[int, int], values: list[float], given: Predictions) -> Predictions:
    array[place] = values
    return given


@pytest.mark.parametrize("what", WRONG)
def test_predictions_that_no_stage_would_write_are_refused(what: str) -> None:
    check_predictions(FILE, predictions([(1, 0), (1, 1)]), 8, 3)
    given = WRONG[what](predictions([(1, 0), (1, 1)]))
    refused(lambda: check_predictions(FILE, given, 8, 3), what.split(":")[0], "x")


def test_a_strategy_with_other_cells_is_named() -> None:
    whole = [score_cells(name, predictions([(1, 0), (1, 1)]), np.zeros(8, int)) for name in "ab"]
    check_same_cells(pd.concat(whole))
    with pytest.raises(UserError, match=r"predictions/c\.npz has other shots or seeds"):
        check_same_cells(pd.concat([*whole, score_cells("c", predictions([(1, 0)]), np.zeros(8, int))]))


def test_the_headline_is_flat_and_rounded() -> None:
    cells = score_cells("scratch", predictions([(1, 0), (1, 1), (10, 0), (10, 1)]), np.arange(8) % 3)
    table = headline(cells, 0.99771234567)
    assert table["source"] == {"accuracy": 0.997712}
    assert set(table["scratch"]) == {"shots_1", "shots_10"}
    assert table["scratch"]["shots_1"] == round(cells.query("shots == 1")["accuracy"].mean(), 6)


def test_a_temperature_is_fitted_for_all_cells_of_a_budget_on_images_that_they_were_not_trained_on() -> None:
    given = predictions([(1, 0), (1, 1), (10, 0)])
    first, second, third = temperature_scale(given).temperature
    assert first == second != third
    parts = [(given.calibration[i], given.calibration_labels[i]) for i in (0, 1)]
    kept = [(probabilities[labels >= 0], labels[labels >= 0]) for probabilities, labels in parts]
    assert first == metrics.fit_temperature(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    seen = given.calibration_labels < 0
    given.calibration[seen] = [0.98, 0.01, 0.01]  # what a cell was trained on has no say
    assert (temperature_scale(given).temperature == [first, second, third]).all()


def test_without_a_calibration_image_nothing_is_scaled() -> None:
    given = predictions([(1, 0), (1, 1)])
    given.calibration_labels[:] = -1
    cells = score_cells("x", given, np.arange(8) % 3)
    assert cells[["temperature", "log_loss_tempered", "ece_tempered"]].isna().all().all()
    assert cells["log_loss"].notna().all()
    outcomes = outcomes_of({"x": given}, {"x": temperature_scale(given)}, np.arange(8) % 3, np.arange(3), "")
    assert np.isnan(outcomes.scaled).all()


def test_outcomes_line_up_with_the_cells() -> None:
    labels = (np.arange(8) % 3).astype(np.int32)
    given = {name: predictions([(1, 0), (1, 1)]) for name in ("a", "b")}
    mended = {name: temperature_scale(each) for name, each in given.items()}
    outcomes = outcomes_of(given, mended, labels, np.array([5, 6, 7]), "a digest")
    assert str(outcomes.table) == "a digest"
    assert outcomes.strategy.tolist() == ["a", "a", "b", "b"]
    assert outcomes.seed.tolist() == [0, 1, 0, 1]
    assert (outcomes.predicted[1] == given["a"].probabilities[1].argmax(axis=1)).all()
    assert (outcomes.confidence[1] == given["a"].probabilities[1].max(axis=1)).all()
    cells = pd.concat([score_cells(name, each, labels) for name, each in given.items()])
    np.testing.assert_allclose((outcomes.predicted == labels).mean(axis=1), cells["accuracy"], atol=1e-6)
    assert set(json.loads(str(outcomes.made_with))) == {"a", "b"}


def test_probes_are_scored_on_their_own_images() -> None:
    labels = np.array([0, 1, 2, 1], np.int32)
    views = Probes(
        names=np.array(["block1", "dense1"]),
        shots=np.array(5, np.int32),
        rows=np.array([1, 3]),
        predicted=np.array([[[1, 1], [1, 0]], [[0, 0], [0, 1]]], np.int16),
    )
    refused(lambda: score_probes(views, labels[:3]), "data/probes.npz is for other test images")
    rows = score_probes(views, labels)
    assert rows["accuracy"].tolist() == [1.0, 0.5, 0.0, 0.5]
    assert rows["layer"].tolist() == ["block1", "block1", "dense1", "dense1"]
    assert set(rows["shots"]) == {5}
