"""Calibration images of a target, and the pictures and probes of taps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer import taps
from transfer.cells import Cell, gather
from transfer.features import Features
from transfer.target import CALIBRATION_IMAGES, Target, few_shot

PARAMS = taps.Params(shots=3, images=30, l2=0.01, max_iterations=100)


def target_of(per_class: int, shots: list[int], seeds: int) -> Target:
    labels = np.repeat(np.arange(3, dtype=np.int32), per_class)
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    return few_shot(images, labels, [5, 6, 7], shots, seeds)


@given(per_class=st.integers(5, 300), seeds=st.integers(1, 12), data=st.data())
def test_calibration_images_have_their_classes_and_depend_on_no_draw(
    per_class: int, seeds: int, data: st.DataObject
) -> None:
    target = target_of(per_class, [data.draw(st.integers(1, per_class))], seeds)
    rows, labels = target.calibration()
    assert (labels == rows // per_class).all()
    assert (np.diff(rows) > 0).all()
    assert (np.bincount(labels) == min(CALIBRATION_IMAGES, per_class)).all()
    assert (rows == target_of(per_class, [1], 1).calibration()[0]).all()


def test_what_is_predicted_is_the_test_images_and_then_those_for_calibration() -> None:
    target = target_of(10, [1, 2], seeds=2)
    train, test = np.arange(30), np.arange(100, 104)
    assert target.to_predict(test, train).tolist() == [100, 101, 102, 103, *target.calibration()[0]]


def test_a_cell_s_own_images_are_left_out_of_its_calibration() -> None:
    target = target_of(10, [1, 4], seeds=2)
    rows, labels = target.calibration()
    count = 4 + len(rows)
    cells = [Cell(np.full((count, 3), i, np.float32), [np.ones(2)], 1, 1) for i in range(4)]
    done = gather(target, cells, {}, 7)
    for cell, draw in enumerate(target.cells()):
        own = np.isin(rows, draw.rows)
        assert (done.calibration_labels[cell][own] == -1).all()
        assert (done.calibration_labels[cell][~own] == labels[~own]).all()
    assert done.probabilities.shape == (4, 4, 3)
    assert done.calibration.shape == (4, len(rows), 3)


def clusters(seed: int, images: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    return (np.eye(3)[labels] @ rng.normal(0, 8, (3, 20)) + rng.normal(size=(images, 20))).astype(np.float32), labels


@pytest.mark.parametrize(("images", "shown"), [(10, 10), (500, 500), (501, 251), (1000, 500), (20_000, 500)])
def test_a_map_shows_not_too_many_of_the_sample(images: int, shown: int) -> None:
    assert len(np.arange(images)[taps.mapped(images)]) == shown


def test_a_map_keeps_clusters_together_and_repeats() -> None:
    features, labels = clusters(0)
    places = taps.project(features)
    assert places.shape == (90, 2)
    assert (places == taps.project(features)).all()
    distances = np.linalg.norm(places[:, np.newaxis] - places, axis=2) + np.eye(90) * 1e9
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95


def test_features_that_are_all_the_same_are_one_point_on_the_map() -> None:
    assert not taps.project(np.full((41, 6), 0.3, np.float32)).any()


def test_a_layer_of_one_number_has_a_map() -> None:
    places = taps.project(np.arange(40, dtype=np.float32)[:, np.newaxis])
    assert places.shape == (40, 2)
    assert np.isfinite(places).all()


def test_a_map_of_very_few_images_is_no_error() -> None:
    assert taps.project(clusters(0, images=10)[0]).shape == (10, 2)


def test_probes_tell_clusters_apart_one_for_each_draw() -> None:
    features, _ = clusters(1)
    order = np.argsort(np.arange(90) % 3, kind="stable")  # by class, as in `target_of`
    target = target_of(30, [1, 5], seeds=2)
    rows = taps.labelled_rows(target, PARAMS)
    predicted = taps.probe(Features(features[order][rows], features), target, PARAMS)
    assert predicted.shape == (2, 90)
    assert (predicted == np.arange(90) % 3).mean() > 0.95


def test_probes_get_the_labels_that_there_are() -> None:
    assert taps.probed_shots(target_of(10, [1, 2], seeds=1), PARAMS) == 2
    assert taps.probed_shots(target_of(10, [1, 8], seeds=1), PARAMS) == 3


@pytest.mark.parametrize("images", [10, 1000])
def test_sampled_rows_are_as_many_as_there_are_each_once(images: int) -> None:
    rows = taps.sampled_rows(images, PARAMS)
    assert len(rows) == min(images, 30)
    assert (np.diff(rows) > 0).all()
    assert rows.max() < images
