from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer import cnn, pretrain
from transfer.basics.console import UserError
from transfer.basics.params import read_section
from transfer.networks import engines, training
from transfer.networks.backend import keras, tf
from transfer.networks.engines import Engine, Program
from transfer.networks.layers import Layers, fresh_weights, read_network, write_network
from transfer.networks.schedule import Plan, shuffled_batches, warmup_cosine

ARCHITECTURE = cnn.Params.model_validate(
    {"blocks": [{"filters": 3, "kernel": 3, "pool": 2}, {"filters": 4, "kernel": 3, "pool": 2}], "dense": [8]}
)
LAYERS = cnn.layers(ARCHITECTURE, image_shape=(12, 12, 1), classes=2)
HEAD = Layers((6,), (), (16,), 2, dropout=0.5)
PRETRAIN = pretrain.Params(
    epochs=3, batch=16, peak_rate=0.01, warmup=0.3, beta_1=0.7, beta_2=0.9, shift=0, threads=1, seed=0
)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 12, 12, 1), np.uint8)
FEATURES = RNG.normal(size=(40, 6)).astype(np.float32)
LABELS = np.arange(40, dtype=np.int32) % 2
IMAGES[LABELS == 1, :6] //= 4


@pytest.fixture(params=["native", "keras"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param)


def plan(steps: int = 12, seed: int = 0, rate: float = 0.01) -> Plan:
    return Plan(shuffled_batches(40, 8, steps, seed), warmup_cosine(steps, rate, 0.1))


def trained(program: Program, *, seed: int = 0, steps: int = 12) -> list[np.ndarray]:
    program.start(fresh_weights(LAYERS.weights, seed), seed)
    program.train(IMAGES, LABELS, plan(steps), seed=seed)
    return program.weights()


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_the_loop_does_what_a_keras_optimizer_does_step_by_step(engine: Engine) -> None:
    ours = trained(engines.program(LAYERS, engine, betas=(0.8, 0.95)))
    model = LAYERS.build("reference", fresh_weights(LAYERS.weights, 0))
    optimizer = keras.optimizers.Adam(beta_1=0.8, beta_2=0.95, epsilon=1e-7)
    for rows, rate in zip(*plan(), strict=True):
        with tf.GradientTape() as tape:
            logits = model(IMAGES[rows], training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS[rows], logits))
        optimizer.learning_rate = rate
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
    for mine, theirs in zip(ours, model.trainable_variables, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=2e-4)
        assert np.abs(mine).max() > 0


def test_training_learns(engine: Engine) -> None:
    program = engines.program(LAYERS, engine)
    trained(program, steps=150)
    assert np.mean(program.predict(IMAGES).argmax(axis=1) == LABELS) > 0.9


def test_the_loss_is_the_mean_over_the_steps(engine: Engine) -> None:
    program = engines.program(LAYERS, engine)
    program.start(fresh_weights(LAYERS.weights, 0), 0)
    logits = program.predict(IMAGES)
    standing = Plan(np.arange(40, dtype=np.int32).reshape(5, 8), np.full(5, 1e-30, np.float32))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(chances[np.arange(40), LABELS]).mean()
    assert program.train(IMAGES, LABELS, standing, seed=0) == pytest.approx(expected, rel=1e-5)


def test_a_program_leaves_nothing_of_one_training_to_the_next(engine: Engine) -> None:
    program = engines.program(LAYERS, engine, shift=1)
    first = trained(program)
    trained(program, seed=1)
    assert same(trained(program), first)
    assert same(trained(engines.program(LAYERS, engine, shift=1)), first)


def test_the_seed_matters(engine: Engine) -> None:
    program = engines.program(LAYERS, engine)
    assert not same(trained(program), trained(program, seed=1))


def test_training_in_two_parts_is_training_in_one(engine: Engine) -> None:
    for layers, data in ((LAYERS, IMAGES), (HEAD, FEATURES)):
        program = engines.program(layers, engine, shift=1 if data is IMAGES else 0)
        batches, rates = plan()
        results = []
        for parts in ([(0, 12)], [(0, 5), (5, 12)]):
            program.start(fresh_weights(layers.weights, 0), 0)
            for start, end in parts:
                part = Plan(batches[start:end], rates[start:end])
                program.train(data, LABELS, part, seed=0, first_step=start)
            results.append(program.weights())
        assert same(*results)


def test_a_training_goes_on_in_another_program(engine: Engine) -> None:
    for layers, data in ((LAYERS, IMAGES), (HEAD, FEATURES)):
        batches, rates = plan()
        first, second = (engines.program(layers, engine, shift=1 if data is IMAGES else 0) for _ in range(2))
        first.start(fresh_weights(layers.weights, 0), 3)
        first.train(data, LABELS, Plan(batches[:5], rates[:5]), seed=0)
        second.restore(first.state(), 3)
        assert {part.dtype for part in first.state()} == {np.dtype(np.float32)}
        for program in (first, second):
            program.train(data, LABELS, Plan(batches[5:], rates[5:]), seed=0, first_step=5)
        assert same(first.weights(), second.weights())


def test_dropout_is_seeded_and_off_in_prediction(engine: Engine) -> None:
    program = engines.program(HEAD, engine)

    def weights(seed: int) -> list[np.ndarray]:
        program.start(fresh_weights(HEAD.weights, 0), seed)
        program.train(FEATURES, LABELS, plan(), seed=0)
        return program.weights()

    assert same(weights(3), weights(3))
    assert not same(weights(3), weights(4))
    assert (program.predict(FEATURES) == program.predict(FEATURES)).all()


def test_features_are_what_the_layers_of_the_keras_model_give(engine: Engine) -> None:
    program = engines.program(LAYERS, engine)
    weights = trained(program)
    model = LAYERS.build("reference", weights)
    for tap, features in zip(LAYERS.taps, program.features(IMAGES, LAYERS.taps), strict=True):
        expected = keras.Model(model.inputs[0], model.get_layer(tap).output)(IMAGES).numpy().reshape(40, -1)
        np.testing.assert_allclose(features, expected, atol=1e-5)
        assert features.std() > 0


def test_one_trace_serves_every_size() -> None:
    program = training.Program(LAYERS.build("network"), shift=1)
    for count in (1, 7, 40):
        program.start(fresh_weights(LAYERS.weights, 0), 0)
        program.train(
            IMAGES[:count], LABELS[:count], Plan(shuffled_batches(count, count, 3, 0), np.ones(3, np.float32)), seed=0
        )
        program.predict(IMAGES[:count])
    assert program._train.experimental_get_tracing_count() == 1
    assert program._predict.experimental_get_tracing_count() == 1


def test_prediction_does_not_depend_on_the_other_images(engine: Engine) -> None:
    program = engines.program(LAYERS, engine)
    trained(program)
    np.testing.assert_allclose(program.predict(IMAGES[:7]), program.predict(IMAGES)[:7], atol=1e-6)


def shifted(images: np.ndarray, seed: list[int]) -> np.ndarray:
    """Moved by up to 2 pixels at random."""
    moves = training.random_moves(len(images), 2, tf.constant(seed))
    return training.shift_images(tf.constant(images), 2, moves).numpy()


def test_shifted_images_are_the_image_moved() -> None:
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 255
    offsets = set()
    for step in range(200):
        moved = shifted(image, [7, step])
        assert moved.shape == image.shape
        assert moved.sum() == 255
        offsets.add(tuple(int(place[0]) - 4 for place in np.nonzero(moved[0, ..., 0])))
    assert offsets == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_each_image_of_a_batch_moves_on_its_own() -> None:
    images = np.zeros((64, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 255
    moved = shifted(images, [0, 0])
    assert len({image.tobytes() for image in moved}) > 10


def test_fresh_kernels_are_glorot_uniform_and_biases_zero() -> None:
    layers = cnn.layers(ARCHITECTURE, image_shape=(28, 28, 1), classes=5)
    weights = fresh_weights(layers.weights, 0)
    for value, variable in zip(weights, layers.build("reference").trainable_variables, strict=True):
        assert value.shape == tuple(variable.shape)
        if value.ndim == 1:
            assert not value.any()
        else:
            reference = np.abs(keras.initializers.GlorotUniform(seed=0)(value.shape).numpy())
            assert np.abs(value).max() == pytest.approx(reference.max(), rel=0.1)
    assert not same(weights, fresh_weights(layers.weights, 1))


def test_the_default_cnn_has_about_215_thousand_parameters_and_named_taps() -> None:
    params = read_section("cnn", cnn.Params, Path(__file__).resolve().parents[1] / "params.yaml")
    layers = cnn.layers(params, image_shape=(28, 28, 1), classes=5)
    model = layers.build("cnn")
    assert model.count_params() == 213_909
    assert model.input.dtype == "uint8"
    assert layers.taps == ["block1", "block2", "dense1"]
    assert {"block1", "block2", "dense1", "logits"} <= {layer.name for layer in model.layers}


def test_a_cnn_that_eats_up_the_image_is_refused() -> None:
    deep = cnn.Params.model_validate({"blocks": [{"filters": 2, "kernel": 5, "pool": 3}] * 3, "dense": []})
    with pytest.raises(UserError, match="block 3 gets 1×1 pixels"):
        cnn.layers(deep, image_shape=(28, 28, 1), classes=2)


def test_a_cnn_may_have_no_dense_layer_and_its_taps_are_layers() -> None:
    for dense in ((), (8, 6)):
        layers = replace(LAYERS, dense=dense)
        names = [layer.name for layer in layers.build("cnn").layers]
        assert [name for name in names if name in layers.taps] == layers.taps
        assert len(layers.taps) == 2 + len(dense)


def test_a_network_is_read_as_it_was_written(tmp_path: Path) -> None:
    for layers in (LAYERS, HEAD):
        weights = fresh_weights(layers.weights, 0)
        write_network(tmp_path / "network.npz", layers, weights)
        read, values = read_network(tmp_path / "network.npz")
        assert read == layers
        assert same(values, weights)


def pretrained(engine: Engine, **changed: Any) -> list[pretrain.Epoch]:
    params = PRETRAIN.model_copy(update=changed)
    return list(pretrain.train_source(IMAGES, LABELS, layers=LAYERS, engine=engine, params=params))


def test_pretraining_that_diverges_is_one_line(engine: Engine) -> None:
    with pytest.raises(UserError, match=r"diverged.*lower pretrain\.peak_rate"):
        pretrained(engine, peak_rate=float("nan"))


def test_pretraining_goes_through_its_epochs(engine: Engine) -> None:
    results = pretrained(engine)
    assert [epoch.number for epoch in results] == [1, 2, 3]
    assert all(np.isfinite(epoch.loss) for epoch in results)
    assert 0 <= pretrain.accuracy(results[-1].program, IMAGES, LABELS) <= 1


def test_running_statistics_are_weights_that_training_moves_and_a_start_sets() -> None:
    layers = keras.layers
    head = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, use_bias=False), layers.BatchNormalization(), layers.Dense(2)]
    )
    program = training.Program(head)
    features = RNG.normal(size=(40, 6)).astype(np.float32)
    start = [variable.numpy() for variable in head.trainable_variables]

    def weights() -> list[np.ndarray]:
        program.start(start, 0)
        program.train(features, LABELS, plan(), seed=0)
        return program.weights()

    first = weights()
    assert len(first) == len(start) + 2
    assert np.abs(first[-2]).max() > 0
    assert same(weights(), first)  # nothing is left of the training before
    logits = program.predict(features)
    weights()
    program.start(first, 0)
    assert (program.predict(features) == logits).all()
    np.testing.assert_allclose(head(features, training=False), logits, atol=1e-6)


def test_dropout_masks_follow_from_the_seed_the_step_and_the_layer_alone() -> None:
    layers = keras.layers
    inputs = keras.Input((6,))
    x = layers.Dense(16)(inputs)
    masked = layers.Concatenate()([layers.Dropout(0.5)(x), layers.Dropout(0.5)(x)])
    program = training.Program(keras.Model(inputs, layers.Dense(2)(masked)))
    features = RNG.normal(size=(40, 6)).astype(np.float32)
    start = [variable.numpy() for variable in program.model.trainable_variables]
    batches, rates = plan()
    program.start(start, 3)
    program.train(features, LABELS, Plan(batches, rates), seed=0)
    whole = program.weights()
    program.start(start, 3)
    program.train(features, LABELS, Plan(batches[:5], rates[:5]), seed=0)
    program.train(features, LABELS, Plan(batches[5:], rates[5:]), seed=0, first_step=5)
    assert same(program.weights(), whole)
    halves = np.split(whole[2] - start[2], 2)
    assert np.abs(halves[0] - halves[1]).max() > 1e-4  # each layer has masks of its own
