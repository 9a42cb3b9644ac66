from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from transfer.basics.console import UserError
from transfer.networks import engines, native
from transfer.networks.backend import tf
from transfer.networks.layers import Convolution, Layers, fresh_weights
from transfer.networks.schedule import Plan, shuffled_batches

SMALL = Layers((12, 12, 1), (Convolution(3, 3, 2), Convolution(4, 3, 2)), (8,), 2)


@st.composite
def networks(draw: st.DrawFn) -> Layers:
    """Any network that the kernels take, of few numbers."""
    if draw(st.booleans()):
        return Layers((draw(st.integers(1, 70)),), (), tuple(draw(st.lists(st.integers(1, 70), max_size=2))), 3)
    height, width, channels = draw(st.integers(6, 14)), draw(st.integers(6, 14)), draw(st.integers(1, 3))
    layers = Layers((height, width, channels), (), (), draw(st.integers(2, 20)))
    for _ in range(draw(st.integers(0, 3))):
        kernel, pool = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        if min(layers.sides[-1][:2]) - kernel + 1 < pool:
            break
        layers = replace(layers, blocks=(*layers.blocks, Convolution(draw(st.integers(1, 40)), kernel, pool)))
    return replace(layers, dense=tuple(draw(st.lists(st.integers(1, 70), max_size=2))))


def data(layers: Layers, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *layers.shape)).astype(np.uint8)
    if len(layers.shape) == 1:
        images = rng.normal(size=(count, *layers.shape)).astype(np.float32)
    weights = [rng.normal(0, 1 / np.sqrt(max(1, np.prod(shape[:-1]))), shape) for shape in layers.weights]
    labels = rng.integers(0, layers.classes, count).astype(np.int32)
    return images, labels, [weight.astype(np.float32) for weight in weights]


def by_tensorflow(
    layers: Layers, images: np.ndarray, labels: np.ndarray, weights: list[np.ndarray]
) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """Logits, mean loss, and its gradients."""
    model = layers.build("reference", weights)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return logits.numpy(), float(loss), [part.numpy() for part in tape.gradient(loss, model.trainable_variables)]


def apart(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The largest difference, in parts of the largest number of its weight."""
    pairs = zip(some, others, strict=True)
    return max(float(np.abs(a - b).max() / max(1e-3, np.abs(b).max())) for a, b in pairs)


@settings(max_examples=60)
@given(networks(), st.integers(1, 40), st.integers(0, 99), st.integers(1, 3))
def test_logits_and_gradients_are_tensorflow_s(layers: Layers, count: int, seed: int, threads: int) -> None:
    images, labels, weights = data(layers, count, seed)
    logits, loss, gradients = by_tensorflow(layers, images, labels, weights)
    # Where two pixels of a pool are level but for rounding, the gradient jumps, and either side of the jump is right.
    rng = np.random.default_rng(seed)
    little = [weight * rng.normal(0, 1e-5, weight.shape).astype(np.float32) for weight in weights]
    sides = [[weight + sign * part for weight, part in zip(weights, little, strict=True)] for sign in (1, -1)]
    assume(apart(*(by_tensorflow(layers, images, labels, side)[2] for side in sides)) < 2e-3)

    # With no memory of earlier gradients, a step of Adam leaves the gradient itself as its first moment.
    program = native.Program(layers, betas=(0.0, 0.0), threads=threads)
    program.start(weights, 0)
    np.testing.assert_allclose(program.predict(images), logits, atol=2e-5 * np.abs(logits).max())
    assert all((a == b).all() for a, b in zip(program.weights(), weights, strict=True))
    rows = np.arange(count, dtype=np.int32)[np.newaxis]
    ours = program.train(images, labels, Plan(rows, np.zeros(1, np.float32)), seed=0)
    assert ours == pytest.approx(loss, rel=1e-4, abs=1e-5)
    program._state[0] = program._state[1]
    assert apart(program.weights(), gradients) < 2e-5


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 100))
def test_a_weight_is_unpacked_as_it_was_packed(rows: list[int], columns: int) -> None:
    weight = np.random.default_rng(0).normal(size=(*rows, columns)).astype(np.float32)
    packed = native.pack(weight)
    assert packed.size % native.LANES == 0
    assert (native.unpack(packed, weight.shape) == weight).all()


def test_moved_images_are_the_image_moved() -> None:
    """A network that counts the light in each quarter sees where a dot has gone."""
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 255
    layers = Layers((9, 9, 1), (), (81,), 2)
    weights = fresh_weights(layers.weights, 0)
    weights[0] = np.eye(81, dtype=np.float32)
    program = native.Program(layers, shift=2)
    seen = set()
    for step in range(150):
        program.start(weights, 0)
        program.train(
            image, np.zeros(1, np.int32), Plan(np.zeros((1, 1), np.int32), np.zeros(1, np.float32)), seed=step
        )
        dot = program._rooms[0].outputs[0][0, :81].reshape(9, 9)
        assert dot.sum() == pytest.approx(1)
        seen.add(tuple(int(place[0]) - 4 for place in np.nonzero(dot)))
    assert seen == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_dropout_leaves_out_its_part_and_keeps_the_mean() -> None:
    layers = Layers((4,), (), (4000,), 2, dropout=0.3)
    weights = fresh_weights(layers.weights, 0)
    weights[0], weights[1] = np.zeros_like(weights[0]), np.ones_like(weights[1])
    program = native.Program(layers)
    program.start(weights, 5)
    program.train(
        np.ones((8, 4), np.float32),
        np.zeros(8, np.int32),
        Plan(np.arange(8, dtype=np.int32)[np.newaxis], np.zeros(1, np.float32)),
        seed=0,
    )
    hidden = program._rooms[0].outputs[0][:8, :4000]
    assert np.mean(hidden == 0) == pytest.approx(0.3, abs=0.02)
    assert np.unique(hidden).tolist() == pytest.approx([0, 1 / 0.7])
    assert not (hidden[0] == hidden[1]).all()


def test_threads_agree_to_rounding_and_predict_the_same_bits() -> None:
    images, labels, weights = data(SMALL, 40, 0)
    plan = Plan(shuffled_batches(40, 10, 20, 0), np.full(20, 0.01, np.float32))
    trained = []
    for threads in (1, 2, 2, 3):
        program = native.Program(SMALL, shift=1, threads=threads)
        program.start(weights, 0)
        program.train(images, labels, plan, seed=0)
        trained.append(np.concatenate([weight.ravel() for weight in program.weights()]))
        program.start(weights, 0)
        assert (program.predict(images) == native_prediction(weights, images)).all()
    np.testing.assert_allclose(trained[0], trained[1], atol=1e-3)
    assert (trained[1] == trained[2]).all()
    assert not (trained[1] == trained[3]).all()


def native_prediction(weights: list[np.ndarray], images: np.ndarray) -> np.ndarray:
    program = native.Program(SMALL)
    program.start(weights, 0)
    return program.predict(images)


def test_images_of_another_shape_are_refused() -> None:
    program = native.Program(SMALL)
    for wrong in (np.zeros((3, 12, 12, 1), np.float32), np.zeros((3, 12, 13, 1), np.uint8)):
        with pytest.raises(ValueError, match="images are"):
            program.predict(wrong)


def test_labels_and_rows_that_are_none_are_refused_before_c_sees_them() -> None:
    images, labels, weights = data(SMALL, 6, 0)
    program = native.Program(SMALL)
    program.start(weights, 0)
    rows, rates = np.arange(6, dtype=np.int32)[np.newaxis], np.zeros(1, np.float32)
    for name, chosen, batches in (
        ("label", labels + 2, rows),
        ("label", labels - 2, rows),
        ("row", labels, rows + 1),
        ("row", labels, rows - 1),
    ):
        with pytest.raises(ValueError, match=f"a {name} is outside"):
            program.train(images, chosen, Plan(batches, rates), seed=0)


def test_a_network_out_of_reach_is_keras_s_and_said_if_native_is_asked_for() -> None:
    deep = replace(SMALL, dense=(4,) * 9)
    assert engines.Params(engine="auto", precision="float32").engine_for(SMALL).name == "native"
    assert engines.Params(engine="auto", precision="float32").engine_for(deep).name == "keras"
    assert engines.Params(engine="keras", precision="float32").engine_for(SMALL).name == "keras"
    with pytest.raises(
        UserError, match=r"training\.engine is native, but there are 9 dense layers, and it takes at most 8"
    ):
        engines.Params(engine="native", precision="float32").engine_for(deep)


@pytest.fixture
def compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing had been compiled in this process."""
    monkeypatch.setattr(native, "library", native.library.__wrapped__)


@pytest.mark.usefixtures("compiled_anew")
def test_what_is_compiled_is_kept_and_damage_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: compiled.append(1) or run(*args, **kwargs))
    folder = tmp_path / "native"
    monkeypatch.setattr(native, "FOLDER", folder)
    for _ in range(2):
        native.library()
    assert len(compiled) == 1
    (kept,) = folder.iterdir()

    damaged = tmp_path / "other" / kept.name
    damaged.parent.mkdir()
    damaged.write_bytes(kept.read_bytes()[:100])
    monkeypatch.setattr(native, "FOLDER", damaged.parent)
    native.library()
    assert len(compiled) == 2
    assert damaged.stat().st_size == kept.stat().st_size

    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "FOLDER", tmp_path / "file")  # where no folder can be made
    assert native.library().train
    assert len(compiled) == 3


@pytest.mark.usefixtures("compiled_anew")
def test_without_a_compiler_keras_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="error: unknown processor\n")

    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", fail)
    assert engines.Params(engine="auto", precision="float32").engine_for(SMALL).name == "keras"
    with pytest.raises(UserError, match=r"cannot be compiled here \(error: unknown processor\)"):
        engines.Params(engine="native", precision="float32").engine_for(SMALL)
