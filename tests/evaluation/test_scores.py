"""What evaluation makes of predictions: scored runs, the headline, temperatures, outcomes, probes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import refused

from transfer.console import UserError
from transfer.data.predictions import Predictions
from transfer.evaluation import metrics
from transfer.evaluation.controls import worth_of_choosing
from transfer.evaluation.outcomes import Correct, Probes
from transfer.evaluation.scores import (
    check_predictions,
    headline,
    outcomes_of,
    score_probes,
    score_runs,
    temperature_scale,
)

CALIBRATION_LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)


def predictions(runs: list[tuple[int, int]], images: int = 8) -> Predictions:
    rng = np.random.default_rng(len(runs))
    shots, seed = (np.array(column, np.int32) for column in zip(*runs, strict=True))
    ones = np.ones(len(runs), np.int64)
    unseen = np.tile(CALIBRATION_LABELS, (len(runs), 1))
    unseen[np.arange(len(runs)), seed % 6] = -1  # each run was trained on one of them
    return Predictions(
        probabilities=rng.dirichlet(np.ones(3), (len(runs), images)).astype(np.float32),
        calibration=rng.dirichlet(np.ones(3), (len(runs), 6)).astype(np.float32),
        calibration_labels=unseen,
        pool=np.zeros((len(runs), 0, 3), np.float32),
        shots=shots,
        seed=seed,
        trainable_parameters=ones,
        gradient_steps=ones,
        examples_seen=ones,
        unlabelled_images=ones,
        model_bytes=ones,
        made_with=np.array(json.dumps({"params": {}, "versions": {}, "needs": []})),
    )


def test_runs_are_scored_one_row_each_in_order() -> None:
    labels = np.arange(8) % 3
    given = predictions([(10, 0), (1, 1), (1, 0)])
    runs = score_runs("x", given, labels)
    assert list(zip(runs["shots"], runs["seed"], strict=True)) == [(1, 0), (1, 1), (10, 0)]
    assert runs["accuracy"][2] == np.mean(given.probabilities[0].argmax(axis=1) == labels)
    assert runs["log_loss"][2] == round(metrics.log_loss(given.probabilities[0], labels), 6)
    scaled = metrics.temperature_scaled(given.probabilities[0], temperature_scale(given)[0][0])
    assert runs["ece_tempered"][2] == round(metrics.expected_calibration_error(scaled, labels), 6)


def test_predictions_of_another_study_are_named_not_scored() -> None:
    given = {name: predictions([(1, 0), (1, 1)]) for name in "ab"}
    check_predictions(given, 8, 3, 1000)
    for other, images, classes in (([(1, 0)], 8, 3), ([(1, 0), (1, 1)], 9, 3), ([(1, 0), (1, 1)], 8, 4)):
        with pytest.raises(UserError, match=r"predictions/[ca]\.npz has other test images, classes, shots or seeds"):
            check_predictions(given | {"c": predictions(other)}, images, classes, 1000)


def test_a_run_that_diverged_is_named_not_scored() -> None:
    given = predictions([(1, 0), (5, 3)])
    given.probabilities[1, 2] = np.nan
    refused(lambda: check_predictions({"x": given}, 8, 3, 1000), "x with 5 labels per class and seed 3 diverged")


def test_the_headline_is_flat_and_rounded_and_sorted_as_dvc_sorts() -> None:
    runs = score_runs("scratch", predictions([(1, 0), (1, 1), (5, 0), (10, 0), (1000, 0)]), np.arange(8) % 3)
    table = headline(runs, 0.99771234567)
    assert table["source"] == {"accuracy": 0.997712}
    assert list(table["scratch"]) == ["shots_0001", "shots_0005", "shots_0010", "shots_1000"]  # as DVC sorts
    assert table["scratch"]["shots_0001"] == round(runs.query("shots == 1")["accuracy"].mean(), 6)


def test_a_temperature_is_fitted_for_all_runs_of_a_budget_on_images_that_they_were_not_trained_on() -> None:
    given = predictions([(1, 0), (1, 1), (10, 0)])
    first, second, third = temperature_scale(given)[0]
    assert first == second != third
    parts = [(given.calibration[i], given.calibration_labels[i]) for i in (0, 1)]
    kept = [(probabilities[labels >= 0], labels[labels >= 0]) for probabilities, labels in parts]
    assert first == metrics.fit_temperature(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    seen = given.calibration_labels < 0
    given.calibration[seen] = [0.98, 0.01, 0.01]  # what a run was trained on has no say
    assert (temperature_scale(given)[0] == [first, second, third]).all()


def test_without_a_calibration_image_nothing_is_scaled() -> None:
    given = predictions([(1, 0), (1, 1)])
    given.calibration_labels[:] = -1
    runs = score_runs("x", given, np.arange(8) % 3)
    assert runs[["temperature", "log_loss_tempered", "ece_tempered"]].isna().all().all()
    assert runs["log_loss"].notna().all()
    outcomes = outcomes_of({"x": given}, np.arange(8) % 3, np.arange(3), np.array([2]))
    assert np.isnan(outcomes.scaled).all()


def test_outcomes_line_up_with_the_runs() -> None:
    labels = (np.arange(8) % 3).astype(np.int32)
    given = {name: predictions([(1, 0), (1, 1)]) for name in ("a", "b")}
    outcomes = outcomes_of(given, labels, np.array([5, 6, 7]), np.array([2]))
    assert outcomes.strategy.tolist() == ["a", "a", "b", "b"]
    assert outcomes.seed.tolist() == [0, 1, 0, 1]
    assert (outcomes.predicted[1] == given["a"].probabilities[1].argmax(axis=1)).all()
    assert (outcomes.confidence[1] == given["a"].probabilities[1].max(axis=1)).all()
    runs = pd.concat([score_runs(name, each, labels) for name, each in given.items()])
    np.testing.assert_allclose((outcomes.predicted == labels).mean(axis=1), runs["accuracy"], atol=1e-6)
    assert set(json.loads(str(outcomes.made_with))) == {"a", "b"}


def test_probes_are_scored_on_their_own_images() -> None:
    labels = np.array([0, 1, 2, 1], np.int32)
    probes = Probes(
        names=np.array(["block1", "dense1"]),
        shots=np.array(5, np.int32),
        rows=np.array([1, 3]),
        predicted=np.array([[[1, 1], [1, 0]], [[0, 0], [0, 1]]], np.int16),
        notes=np.array([], np.str_),
    )
    rows = score_probes(probes.merged(np.zeros((0, len(labels)), np.int32)), labels)
    assert rows["accuracy"].tolist() == [1.0, 0.5, 0.0, 0.5]
    assert rows["layer"].tolist() == ["block1", "block1", "dense1", "dense1"]
    assert set(rows["shots"]) == {5}


def test_a_repetition_has_of_every_image_the_model_that_lacked_it() -> None:
    folds = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], np.int32)
    given = predictions([*product([1, 3], range(4)), (5, 0)], images=4)  # and the run on all images
    merged = given.merged(folds)
    assert [*zip(merged.shots, merged.seed, strict=True)] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    for row, (number, repetition) in enumerate(product(range(2), range(2))):
        for image, fold in enumerate(folds[repetition]):
            run = 4 * number + 2 * repetition + fold
            assert (merged.probabilities[row, image] == given.probabilities[run, image]).all()


def test_a_repetition_has_of_every_probed_image_the_probe_that_lacked_it() -> None:
    folds = np.array([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]], np.int32)
    probes = Probes(
        names=np.array(["block1", "dense1"]),
        shots=np.array(1, np.int32),
        rows=np.array([1, 2, 4, 5]),
        predicted=np.random.default_rng(0).integers(0, 50, (2, 6, 4)).astype(np.int16),
        notes=np.array([], np.str_),
    )
    merged = probes.merged(folds).predicted
    assert merged.shape == (2, 2, 4)
    for layer, repetition, image in np.ndindex(merged.shape):
        seed = 3 * repetition + folds[repetition, probes.rows[image]]
        assert merged[layer, repetition, image] == probes.predicted[layer, seed, image]


def test_controls_are_paired_with_the_chosen_draws_of_their_seed() -> None:
    """Independent: plain means and a t interval of a single image column."""
    labels = np.zeros(200, np.int32)
    given = {name: predictions([*product([2], range(6))], images=200) for name in ("a", "b")}
    chosen = {name: each.take(each.seed < 3) for name, each in given.items()}
    random = {name: each.take(each.seed >= 3) for name, each in given.items()}
    both = (Correct.of(outcomes_of(runs, labels, np.arange(3), np.array([3]))) for runs in (chosen, random))
    found = worth_of_choosing(*both, 0.005)
    right = given["a"].probabilities.argmax(axis=2) == labels
    assert found["strategy"].tolist() == ["a", "b"]
    assert found["chosen"][0] == pytest.approx(right[:3].mean())
    assert found["random"][0] == pytest.approx(right[3:].mean())
    assert found["difference"][0] == pytest.approx((right[:3].astype(int) - right[3:]).mean())
    assert (np.abs(found["difference"]) > found["margin"]).tolist() == [
        each != "undecided" for each in found["verdict"]
    ]


def test_results_with_other_numbers_of_draws_that_were_seen_before_are_kept_in_mind() -> None:
    outcomes = outcomes_of({"a": predictions([(2, 0), (2, 1)])}, np.zeros(8, np.int32), np.arange(3), np.array([2]))
    none = Correct.of(outcomes)

    def study(*looks: int, draw: str = "one", seen: Sequence[int] = ()) -> Correct:
        return replace(none, looks=np.array(looks), draw=np.array(draw), seen=np.array(seen, np.int32))

    for now, before, seen in (
        (study(3), study(2), [2]),
        (study(2), study(3, seen=[2]), [3]),  # its own number is no other
        (study(2), study(2, seen=[3]), [3]),
        (study(2), study(2), []),
        (study(3), study(2, draw="other"), []),
        (study(2, 4), study(2, 4), []),
        (study(2, 4), study(4), [4]),  # declared after there were results
        (study(6), study(2, 4, seen=[3]), [3, 4]),
    ):
        assert now.after(vars(before)).seen.tolist() == seen
    assert study(3).after({}).seen.tolist() == study(3).after({"seed": np.arange(2)}).seen.tolist() == []


def test_a_run_that_is_right_has_not_failed_where_nearly_all_images_are_of_one_class() -> None:
    """As in cross-validation, which has no calibration images to tell it by."""
    labels = np.repeat(np.array([0, 1], np.int32), [300, 3])
    given = predictions([(1, 0), (1, 1)], images=303)
    right, constant = np.eye(3, dtype=np.float32)[labels], np.eye(3, dtype=np.float32)[0 * labels]
    given = replace(given, probabilities=np.stack([right, constant]), calibration=given.calibration[:, :0])
    given = replace(given, calibration_labels=given.calibration_labels[:, :0])
    assert given.collapsed.tolist() == [True, True]
    assert outcomes_of({"a": given}, labels, np.arange(3), np.array([2])).collapsed.tolist() == [False, True]
