"""Every strategy on a task as the stages write it: what it learns from, and what it starts from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SMALL, refused, synthetic_digits
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from benchmarks.tasks import STRATEGIES, write_task
from transfer.data.target import Target, few_shot
from transfer.files import write_json, write_record
from transfer.models import cnn, networks
from transfer.models.backend import keras
from transfer.models.features import Features
from transfer.params import parse_section, read_params
from transfer.strategies import end_to_end, pixels, prototypes, source_model
from transfer.training import linear
from transfer.training.fine_tuning import PROBE_L2
from transfer.training.runs import Run, gather
from transfer.training.schedule import Plan, shuffled_batches, warmup_cosine
from transfer.training.task import Task, UnsuitableError
from transfer.training.trainer import Trainer

PARAMS = read_params(ROOT / "params.yaml")
MODULES = STRATEGIES | {"source_model": source_model}
KNOWN = [*"43210"]  # the source's classes, in the order of its logits
OTHERWISE = [*"43102"]  # names that are shared, but not of the same things
NAMES = [*"201"]  # the target's
STEPS = {"steps": 3, "steps_growth": 0.0}


def digits(names: list[str], per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of some digits, (n, 28, 28, 1) uint8, and their numbers among the names, int32."""
    images, labels = synthetic_digits(per_class, seed)
    chosen = np.isin(labels, np.array(names, int))
    numbers = np.array([names.index(str(label)) for label in labels[chosen]], np.int32)
    return images[chosen, ..., np.newaxis], numbers


@pytest.fixture(scope="module")
def source() -> keras.Model:
    """A source CNN that tells five digits."""
    images, labels = digits(KNOWN, 20, seed=5)
    model = cnn.build(
        cnn.Params(blocks=SMALL["cnn.blocks"], dense=SMALL["cnn.dense"]), image_shape=(28, 28, 1), classes=5
    )
    trainer = Trainer(model)
    trainer.reset(networks.fresh_weights(model, model.get_weights(), 0), 0)
    trainer.train(images, labels, Plan(shuffled_batches(100, 25, 80, 0), warmup_cosine(80, 0.02, 0.1)), 0)
    assert np.mean(trainer.predict(images).argmax(axis=1) == labels) > 0.95
    return model


def target_of(shots: list[int], seeds: int = 1) -> Target:
    images, labels = digits(NAMES, 20, seed=0)
    return few_shot(images, labels, NAMES, shots, seeds)


def write(folder: Path, source: keras.Model, target: Target, test: np.ndarray, known: list[str] = KNOWN) -> Task:
    """A task, and what the stages would have written of it."""
    write_task(folder, source, target, test)
    write_json(folder / "models/source.json", {"classes": known})
    return Task("float32", folder / "data", folder / "models")


def section(name: str, **changes: Any) -> Any:
    """A strategy's parameters, for few steps."""
    params = parse_section(name, PARAMS[name] | changes, MODULES[name].Params)
    if hasattr(params, "steps"):
        params = params.model_copy(update=STEPS)
    layer = {"layer": "block2"} if hasattr(params, "layer") else {}
    return params.model_copy(update=layer)


@dataclass
class Tried:
    """What the strategies made of a task, with the files of their models."""

    task: Task
    test: np.ndarray
    runs: dict[str, list[Run]]


def try_all(task: Task, test: np.ndarray) -> Tried:
    """Run every strategy on a task, those that learn from others after these, and export each one's last model."""
    runs = {}
    for name, module in MODULES.items():
        prepared = module.prepare(task, section(name))
        draws = prepared.draws or task.target.runs()
        trains = module.ENGINE == "tensorflow"
        runs[name] = [*map(prepared.start(), draws)] if trains else [*prepared.start(draws, workers=1)]
        write_record(task.data / f"predictions/{name}.npz", gather(task.target, runs[name], {}, 0))
        prepared.export(runs[name][-1].weights, task.models / f"{name}.keras")
    return Tried(task, test, runs)


@pytest.fixture(scope="module")
def tried(source: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> list[Tried]:
    """The same task twice: the second with other test images, and other images and labels for calibration."""
    target, found = target_of([1, 6]), []
    for number in range(2):
        test = np.roll(digits(NAMES, 4, seed=1)[0], 5 * number, axis=2)[number:]
        other = np.roll(target.calibration_rows[:, : 20 - 7 * number], number, axis=0)  # of another class
        folder = tmp_path_factory.mktemp("task")
        task = write(folder / "task", source, replace(target, calibration_rows=other), test)
        found.append(try_all(task, test))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_learnt_from_test_images_nor_from_labels_for_calibration(tried: list[Tried], name: str) -> None:
    one, other = (each.runs[name] for each in tried)
    assert [[weight.tobytes() for weight in run.weights] for run in one] == [
        [weight.tobytes() for weight in run.weights] for run in other
    ]
    pool = len(tried[0].task.target.images)
    for run, again in zip(one, other, strict=True):
        assert len(run.probabilities) - len(again.probabilities) == 1 + 3 * 7  # fewer test and calibration images
        np.testing.assert_allclose(run.probabilities[-pool:], again.probabilities[-pool:], atol=1e-6)


def test_the_labels_of_the_pool_are_nowhere_that_a_strategy_reads() -> None:
    """But for those of draws and for calibration, which are as many of every class: nor are the pool's class sizes."""
    target = target_of([1, 2])
    told = ("classes", "draws", "labels", "wanted", "calibration_rows")
    assert {field.name for field in fields(Target)} == {"images", "preprocessing", *told}
    unbalanced = few_shot(target.images[:50], digits(NAMES, 20, seed=0)[1][:50], NAMES, [1, 2], 1)
    assert unbalanced.draws.shape == target.draws.shape == unbalanced.labels.shape == (1, 6)
    assert unbalanced.pool().tolist() == [*range(50)]  # whatever the labels


@pytest.mark.parametrize("name", MODULES)
def test_what_is_exported_gives_the_run_s_probabilities(tried: list[Tried], name: str) -> None:
    model = keras.models.load_model(tried[0].task.models / f"{name}.keras")
    test = tried[0].test
    expected = tried[0].runs[name][-1].probabilities[: len(test)]
    np.testing.assert_allclose(model.predict(test, verbose=0), expected, atol=1e-5)


def test_every_strategy_lives_with_classes_without_labels(source: keras.Model, tmp_path: Path) -> None:
    """In one draw a class has no label, in the other only one has any; what has none is never predicted."""
    target = target_of([2], seeds=2)
    rows = [np.flatnonzero(digits(NAMES, 20, seed=0)[1] == name)[:6] for name in range(3)]
    draws = np.array([[*rows[0][:3], *rows[2][:3]], rows[1]], np.int32)
    labels = np.array([[0, 0, 0, 2, 2, 2], [1] * 6], np.int32)
    test = digits(NAMES, 4, seed=1)[0]
    task = write(tmp_path / "task", source, replace(target, draws=draws, labels=labels), test)
    tried = try_all(task, test)
    for name, (two, one) in tried.runs.items():
        if "labels" not in MODULES[name].NEEDS:
            continue
        assert np.isfinite([two.probabilities, one.probabilities]).all(), name
        if MODULES[name].ENGINE == "scikit-learn":
            assert two.probabilities[:, 1].max() == 0, name
            assert one.probabilities[:, 1].min() == 1, name
        model = keras.models.load_model(task.models / f"{name}.keras")
        np.testing.assert_allclose(model.predict(test, verbose=0), one.probabilities[: len(test)], atol=1e-5)


def test_runs_tell_how_many_unlabelled_images_they_used(tried: list[Tried]) -> None:
    for name, runs in tried[0].runs.items():
        uses = "unlabelled images" in MODULES[name].NEEDS
        assert [run.unlabelled_images for run in runs] == ([57, 42] if uses else [0, 0]), name


# The source model as it is, and its head


def test_the_source_model_says_what_it_says_of_the_target_s_classes(tried: list[Tried], source: keras.Model) -> None:
    test = tried[0].test
    logits = networks.predictor(source)(test)[0][:, [KNOWN.index(name) for name in NAMES]]
    for run in tried[0].runs["source_model"]:
        np.testing.assert_allclose(run.probabilities[: len(test)], softmax(logits, axis=1), atol=1e-6)
        assert (run.trainable_parameters, run.gradient_steps, run.examples_seen) == (0, 0, 0)


def test_a_source_model_that_lacks_a_class_is_not_run_and_its_head_cannot_be_kept(
    source: keras.Model, tmp_path: Path
) -> None:
    task = write(tmp_path / "task", source, target_of([1]), digits(NAMES, 1, seed=1)[0], known=[*"4321x"])
    with pytest.raises(UnsuitableError, match=r"does not know the target's classes \(2, 0, 1\)"):
        source_model.prepare(task, section("source_model"))
    keep = partial(end_to_end.prepare, task, section("end_to_end", head="keep"))
    refused(keep, "params.yaml: end_to_end.head is keep, but the source model does not know", "set it to auto or fresh")
    for head in ("auto", "fresh"):
        end_to_end.prepare(task, section("end_to_end", head=head))


@pytest.mark.parametrize(
    ("head", "known", "begins"),
    [
        ("auto", KNOWN, "kept"),
        ("auto", OTHERWISE, "zeros"),
        ("keep", OTHERWISE, "kept"),
        ("fresh", KNOWN, "zeros"),
        ("probe", KNOWN, "probe"),
    ],
)
def test_the_head_that_fine_tuning_begins_with(
    head: str, known: list[str], begins: str, source: keras.Model, tmp_path: Path
) -> None:
    target = target_of([4])
    task = write(tmp_path / "task", source, target, digits(NAMES, 1, seed=1)[0], known)
    params = section("end_to_end", head=head).model_copy(update={"steps": 1, "peak_rate": 1e-12})
    [draw] = target.runs()
    *body, kernel, bias = end_to_end.prepare(task, params).start()(draw).weights
    for found, own in zip(body, source.get_weights(), strict=False):
        np.testing.assert_allclose(found, own, atol=1e-6)
    columns = [known.index(name) for name in NAMES]
    if begins == "kept":
        np.testing.assert_allclose(kernel, source.get_weights()[-2][:, columns], atol=1e-6)
    elif begins == "zeros":
        assert np.abs(kernel).max() < 1e-6
    else:
        [features] = networks.predictor(networks.without_head(source))(target.images[draw.rows])
        probe = LogisticRegression(C=1 / (PROBE_L2 * len(draw.rows))).fit(features, draw.labels)
        np.testing.assert_allclose(kernel, probe.coef_.T, atol=1e-5)
        np.testing.assert_allclose(bias, probe.intercept_, atol=1e-5)


# Baselines without training


def test_a_prototype_is_the_nearest_mean() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 10)).astype(np.float32)
    draw = target_of([5]).runs()[0]
    means = np.stack([features[draw.rows[draw.labels == name]].mean(axis=0) for name in range(3)])
    distances = ((features[:, np.newaxis] - means) ** 2).sum(axis=2)
    [run] = prototypes.fit([draw], features=Features(features, features))
    assert (run.probabilities.argmax(axis=1) == distances.argmin(axis=1)).all()
    sharp = softmax(-linear.SHARPNESS / 2 * distances / 10, axis=1)
    np.testing.assert_allclose(run.probabilities, sharp, atol=1e-5)


def test_large_images_are_averaged_down_for_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 50, 3), np.uint8)
    [row] = networks.predictor(pixels.pixels_of((70, 50, 3)))(images[:1])
    assert row.shape == (1, 24 * 17 * 3)
    np.testing.assert_allclose(row.reshape(24, 17, 3)[1, 2], images[0, 2:5, 6:9].mean(axis=(0, 1)) / 255, atol=1e-5)
