"""The strategies, their runs side by side, and what becomes of these."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import HEAD, TARGET, bits, exported, fake_export, fake_run, study

from transfer.console import UserError
from transfer.data.target import Draw
from transfer.models.features import Features
from transfer.strategies import dense_head, feature_extraction
from transfer.training.cache import RunCache
from transfer.training.compute import run_in_threads
from transfer.training.runs import Run, train_runs

PROBE = feature_extraction.Params(
    layer="block2", l2=(0.01, 1.0), l2_default=0.1, folds=3, enough_held_out=500, max_iterations=200, tolerance=1e-4
)


def task(classes: int, images: int = 60) -> tuple[Features, np.ndarray]:
    """Features around one centre per class, and the classes of all images."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    centres = rng.normal(size=(classes, 10)) * 2
    features = (centres[labels] + rng.normal(size=(images, 10))).astype(np.float32)
    return Features(features, features), labels


def draw(labels: np.ndarray, shots: int, seed: int = 0) -> Draw:
    classes = labels.max() + 1
    rows = np.concatenate([np.flatnonzero(labels == name)[:shots] for name in range(classes)]).astype(np.int32)
    return Draw(shots, seed, rows, labels[rows].astype(np.int32), int(classes))


def probe(given: Draw, features: Features, **params: Any) -> Run:
    [run] = feature_extraction.fit([given], features=features, params=PROBE.model_copy(update=params))
    return run


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("shots", [1, 2, 3, 8])
def test_a_linear_probe_is_a_softmax_over_its_weights(classes: int, shots: int) -> None:
    features, labels = task(classes)
    run = probe(draw(labels, shots), features)
    kernel, bias = run.weights
    assert (kernel.shape, bias.shape, kernel.dtype) == ((10, classes), (classes,), np.float32)
    powers = np.exp(features.test @ kernel + bias)
    np.testing.assert_allclose(run.probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    assert run.probabilities.dtype == np.float32
    assert run.trainable_parameters == 11 * classes
    assert np.mean(run.probabilities.argmax(axis=1) == labels) > (0.6 if shots < 3 else 0.85)


def test_the_penalty_is_chosen_by_log_loss_inside_the_draw() -> None:
    """Clean labels ask for a weak one, though a strong one is as accurate; labels that are pure chance for a strong."""
    features, labels = task(2, images=80)
    clean = draw(labels, 20)
    chance = dataclasses.replace(clean, labels=np.random.default_rng(0).permutation(clean.labels))
    for given, penalties, chosen in ((clean, (1e-4, 0.1), 1e-4), (chance, (1e-4, 100.0), 100.0)):
        [other] = {*penalties} - {chosen}
        both = bits(probe(given, features, l2=penalties))
        assert both == bits(probe(given, features, l2=(chosen,)))
        assert both != bits(probe(given, features, l2=(other,)))


def test_of_penalties_that_predict_alike_the_larger_is_chosen() -> None:
    """Features that are all zero tell nothing, so that no penalty matters."""
    _, labels = task(2)
    given = draw(labels, 4)
    params = PROBE.model_copy(update={"l2": (1.0, 10.0, 0.1)})
    search = feature_extraction.classifier(given, params).fit(np.zeros((8, 10)), given.labels)
    assert search.best_params_["C"] == 1 / (10.0 * 8)


def test_with_too_few_labels_for_folds_the_penalty_is_the_default() -> None:
    features, labels = task(3)
    for shots, chosen in ((2, 0.1), (3, None)):
        given = draw(labels, shots)
        found = bits(probe(given, features, l2_default=0.1))
        assert (found == bits(probe(given, features, l2_default=7.0))) == (chosen is None)


def test_features_outside_the_draw_do_not_reach_the_probe() -> None:
    features, labels = task(3)
    given = draw(labels, 4)
    other = features.train.copy()
    other[np.setdiff1d(np.arange(60), given.rows)] = 1e6
    assert bits(probe(given, features)) == bits(probe(given, Features(other, features.test)))


@pytest.mark.parametrize("classes", [2, 5])
def test_a_dense_head_learns_and_is_the_same_whatever_was_trained_before(classes: int) -> None:
    features, labels = task(classes)
    train = dense_head.start(features=features, classes=classes, params=HEAD, precision="float32")
    run, other, again = (train(draw(labels, 6, seed)) for seed in (0, 1, 0))
    assert np.mean(run.probabilities.argmax(axis=1) == labels) > 0.85
    assert bits(run) == bits(again)
    assert bits(run) != bits(other)
    assert (run.gradient_steps, run.examples_seen) == (60, 60 * 8)
    assert run.trainable_parameters == 11 * 16 + 17 * classes
    assert [weight.shape for weight in run.weights] == [(10, 16), (16,), (16, classes), (classes,)]


def test_every_seed_starts_from_weights_of_its_own() -> None:
    features, labels = task(2)
    hardly = HEAD.model_copy(update={"peak_rate": 1e-9})
    train = dense_head.start(features=features, classes=2, params=hardly, precision="float32")
    kernels = [train(draw(labels, 6, seed)).weights[0] for seed in (0, 1)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


@pytest.mark.parametrize("strategy", ["dense_head", "end_to_end", "scratch"])
def test_the_number_of_threads_changes_no_bit(strategy: str) -> None:
    target, starts = study()
    one, two, four = ([bits(run) for run in run_in_threads(starts(strategy), target.runs(), n)] for n in (1, 2, 4))
    assert one == two == four
    assert len({run[0] for run in one}) == len(one) == 6
    assert len({len(weight) for run in one for weight in run}) > 3


def test_the_number_of_processes_changes_no_bit_of_a_probe() -> None:
    features, labels = task(3)
    draws = [draw(labels, shots, seed) for shots in (8, 3, 1) for seed in range(2)]
    fit = partial(feature_extraction.fit, draws, features=features, params=PROBE)
    assert [bits(run) for run in fit(workers=1)] == [bits(run) for run in fit(workers=2)]


def test_results_come_in_the_order_of_the_tasks_each_thread_with_a_start_of_its_own() -> None:
    started: list[threading.Lock] = []

    def start() -> Callable[[int], int]:
        started.append(alone := threading.Lock())

        def work(task: int) -> int:
            assert alone.acquire(blocking=False), "two tasks at once"
            time.sleep(0.001 * (task % 3))
            alone.release()
            return task

        return work

    assert list(run_in_threads(start, range(50), 3)) == list(range(50))
    assert 1 < len(started) <= 3
    assert list(run_in_threads(start, [], 3)) == []


def test_an_error_in_a_thread_is_the_error() -> None:
    def refuse(number: int) -> int:
        if number == 2:
            raise UserError(f"{number} will not do")
        return number

    with pytest.raises(UserError, match=r"^2 will not do$"):
        list(run_in_threads(lambda: refuse, range(9), 2))


def test_runs_are_trained_largest_first_and_come_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained: list[tuple[int, int]] = []

    def train(draws: Sequence[Draw]) -> Iterator[Run]:
        for given in draws:
            trained.append((given.shots, given.seed))
            yield fake_run(given)

    made = {"params": {}, "model": "", "needs": []}
    done = train_runs("x", train, fake_export, TARGET, cache=RunCache(partial(fake_run), 0), made=made)
    said = capsys.readouterr().out
    assert "warning: x: in 4 runs nearly every image gets the same class: training failed." in said
    assert trained == [(2, 0), (2, 1), (1, 0), (1, 1)]
    assert list(zip(done.shots, done.seed, strict=True)) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    np.testing.assert_allclose(done.probabilities[:, 0, 0], [1 / 2, 1 / 2.1, 1 / 3, 1 / 3.1], rtol=1e-6)
    assert [each.shape for each in (done.probabilities, done.calibration, done.pool)] == [
        (4, 3, 2),
        (4, 4, 2),
        (4, 6, 2),
    ]
    assert done.trainable_parameters.tolist() == [5, 5, 5, 5]
    assert done.gradient_steps.tolist() == [1, 1, 2, 2]
    assert done.examples_seen.tolist() == [2, 2, 4, 4]
    model = tmp_path / "models/x.keras"
    assert exported(model) == "2 0"  # the run of the most shots and seed 0
    assert done.model_bytes.tolist() == [model.stat().st_size] * 4
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert str(done.made_with) == json.dumps({"params": {}, "model": digest, "needs": []})
