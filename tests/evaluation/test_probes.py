"""Calibration images of a target, and linear probes on the layers of a source model."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SMALL, synthetic_digits
from hypothesis import given
from hypothesis import strategies as st

from transfer.data.target import CALIBRATION_IMAGES, Target, cross_validated, few_shot
from transfer.evaluation import probes
from transfer.models import cnn, networks
from transfer.models.backend import keras
from transfer.training.runs import Run, gather


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


def run_of(probabilities: np.ndarray) -> Run:
    return Run(probabilities.astype(np.float32), [np.ones(2)], 5, 1, 1, train_seconds=1, predict_seconds=1)


def test_a_run_s_own_images_are_left_out_of_its_calibration() -> None:
    target = target_of(10, [1, 4], seeds=2)
    rows, labels = target.calibration()
    count = 4 + len(rows) + len(target.pool())
    runs = [run_of(np.full((count, 3), i)) for i in range(4)]
    done = gather(target, runs, {}, 7)
    for run, draw in enumerate(target.runs()):
        own = np.isin(rows, draw.rows)
        assert (done.calibration_labels[run][own] == -1).all()
        assert (done.calibration_labels[run][~own] == labels[~own]).all()
    assert done.probabilities.shape == (4, 4, 3)
    assert done.calibration.shape == (4, len(rows), 3)
    assert done.pool.shape == (4, 30, 3)


@pytest.mark.parametrize(("shots", "asked", "sampled"), [([1, 5], 5, 30), ([1, 2], 2, 10)])
def test_probes_tell_digits_apart_with_the_labels_that_there_are(shots: list[int], asked: int, sampled: int) -> None:
    images, labels = synthetic_digits(20, seed=0)
    few = labels < 3
    target = few_shot(images[few, ..., np.newaxis], labels[few].astype(np.int32), ["0", "1", "2"], shots, 2)
    test, truth = images[few][:30, ..., np.newaxis], labels[few][:30]
    source = cnn.build(cnn.Params(blocks=SMALL["cnn.blocks"], dense=[8]), image_shape=(28, 28, 1), classes=5)
    source.set_weights(networks.fresh_weights(source, source.get_weights(), 0))
    params = probes.Params(shots=5, images=sampled, l2=0.01, max_iterations=100)
    views = probes.probe_layers(source, ["block1", "dense1"], target, test, params)
    assert views.names.tolist() == ["block1", "dense1"]
    assert views.shots == asked
    assert len(views.rows) == sampled
    assert (np.diff(views.rows) > 0).all()
    assert views.predicted.shape == (2, 2, sampled)
    assert (views.predicted[0] == truth[views.rows]).mean() > 0.95
    assert (views.predicted[1] == truth[views.rows]).mean() > 0.5


def test_a_source_model_that_gives_all_images_one_class_is_told() -> None:
    image = keras.Input((2, 2, 1), dtype="uint8")
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(image))))
    assert probes.commonest_class(model, target_of(2, [1], 1)) == 1.0  # of images that are all black


def test_runs_that_give_nearly_every_image_the_same_class_are_told() -> None:
    target = target_of(100, [1], seeds=4)
    tested = np.arange(300, dtype=np.int32) % 3
    labels = np.concatenate([tested, target.calibration()[1], tested])  # and of the pool
    right = np.eye(3, dtype=np.float32)[labels]
    untrained = 1 / 3 + 0.001 * (right - 1 / 3)
    dead = np.full_like(right, [0.1, 0.6, 0.3])
    dead[::150] = right[::150]
    unbalanced = np.concatenate([dead[:300], right[300:]])  # so may test images be
    runs = [run_of(each) for each in (right, untrained, dead, unbalanced)]
    assert gather(target, runs, {}, 7).collapsed.tolist() == [False, False, True, False]


def test_a_pool_that_holds_other_classes_is_told_and_one_of_rare_classes_is_not() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 20)).astype(np.float32)

    def pool(*counts: int) -> np.ndarray:
        classes = np.repeat(np.arange(4), counts)
        return centres[classes] + rng.normal(0, 0.3, (len(classes), 20)).astype(np.float32)

    labelled = pool(150, 150, 150, 0)
    draws = np.arange(450).reshape(3, 1, 150)
    for counts, foreign in (([300, 30, 30, 0], False), ([300, 30, 30, 70], True)):
        share, usual = probes.unlike_labelled(np.concatenate([labelled, pool(*counts)]), draws)
        assert (share > usual) == foreign
    assert probes.unlike_labelled(labelled, draws)[0] == 0  # each is in a draw
    assert probes.unlike_labelled(labelled, draws[:, :, :5])[1] > usual  # the distances of few tell less


def test_probes_of_one_class_alone_predict_it() -> None:
    """As in the fold that tests the only image of the other class."""
    images, labels = synthetic_digits(20, seed=0)
    rows = [*np.flatnonzero(labels == 0)[:5], *np.flatnonzero(labels == 1)[:1]]
    images, folds = images[rows, ..., np.newaxis], np.array([[0, 0, 1, 1, 0, 1]], np.int32)
    target = cross_validated(images, labels[rows].astype(np.int32), ["0", "1"], [1], 1, folds)
    source = cnn.build(cnn.Params(blocks=SMALL["cnn.blocks"], dense=[8]), image_shape=(28, 28, 1), classes=5)
    params = probes.Params(shots=1, images=10, l2=0.01, max_iterations=100)
    views = probes.probe_layers(source, ["block1"], target, images, params)
    assert (views.predicted[0, 1] == 0).all()
