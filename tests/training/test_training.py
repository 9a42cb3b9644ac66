"""The training loop, beside plain Keras; the source CNN and its pretraining."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from transfer.console import UserError
from transfer.models import cnn
from transfer.models.backend import keras, tf
from transfer.models.networks import fresh_weights
from transfer.params import read_section
from transfer.training import pretrain
from transfer.training.schedule import Plan, shuffled_batches, warmup_cosine
from transfer.training.trainer import Trainer, shift_images

ARCHITECTURE = cnn.Params.model_validate(
    {"blocks": [{"filters": 3, "kernel": 3, "pool": 2}, {"filters": 4, "kernel": 3, "pool": 2}], "dense": [8]}
)
PRETRAIN = pretrain.Params(
    epochs=3,
    least_steps=1,
    patience=1000,
    batch=16,
    peak_rate=0.01,
    warmup=0.3,
    beta_1=0.7,
    beta_2=0.9,
    shift=0,
    threads=1,
    seed=0,
)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 12, 12, 1), np.uint8)
FEATURES = RNG.normal(size=(40, 6)).astype(np.float32)
LABELS = np.arange(40, dtype=np.int32) % 2
IMAGES[LABELS == 1, :6] //= 4
layers = keras.layers


def convolutional() -> keras.Model:
    return cnn.build(ARCHITECTURE, image_shape=(12, 12, 1), classes=2)


def with_dropout() -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.Dense(16)(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([layers.Dropout(0.5)(x), layers.Dropout(0.5)(x)])))


def with_statistics() -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(layers.Dense(5)(inputs))))


KINDS: dict[Callable[[], keras.Model], tuple[np.ndarray, int]] = {  # what they train on, and the shift
    convolutional: (IMAGES, 1),
    with_dropout: (FEATURES, 0),
    with_statistics: (FEATURES, 0),
}


def trainer_of(build: Callable[[], keras.Model]) -> Trainer:
    return Trainer(build(), shift=KINDS[build][1])


def plan(steps: int = 12, seed: int = 0, rate: float = 0.01) -> Plan:
    return Plan(shuffled_batches(40, 8, steps, seed), warmup_cosine(steps, rate, 0.1))


def start(model: keras.Model) -> list[np.ndarray]:
    """Weights to start from; batch normalisation has statistics as a trained one."""
    weights = fresh_weights(model, model.get_weights(), 0)
    return [value if weight.trainable else value + 1 for weight, value in zip(model.weights, weights, strict=True)]


def trained(trainer: Trainer, initial: list[np.ndarray], *, seed: int = 0, parts: tuple[int, ...] = (12,)) -> bytes:
    images = IMAGES if len(trainer.model.inputs[0].shape) == 4 else FEATURES
    batches, rates = plan()
    trainer.reset(initial, seed)
    for first, last in zip((0, *parts), parts, strict=False):
        trainer.train(images, LABELS, Plan(batches[first:last], rates[first:last]), seed)
    return b"".join(weight.tobytes() for weight in trainer.model.get_weights())


@pytest.mark.parametrize(("steps", "tolerance"), [(1, 2e-6), (12, 2e-4)])
def test_training_is_keras_s_adam_on_the_mean_cross_entropy(steps: int, tolerance: float) -> None:
    trainer, model = Trainer(convolutional(), betas=(0.8, 0.95)), convolutional()
    initial = start(model)
    model.set_weights(initial)
    trainer.reset(initial, 0)
    mean_loss = trainer.train(IMAGES, LABELS, plan(steps), 0)

    optimizer = keras.optimizers.Adam(beta_1=0.8, beta_2=0.95, epsilon=1e-7)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = []
    for rows, rate in zip(*plan(steps), strict=True):
        with tf.GradientTape() as tape:
            losses.append(entropy(LABELS[rows], model(IMAGES[rows], training=True)))
        optimizer.learning_rate = rate
        optimizer.apply(tape.gradient(losses[-1], model.trainable_variables), model.trainable_variables)
    assert mean_loss == pytest.approx(np.mean(losses), rel=1e-4)
    for before, mine, theirs in zip(initial, trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
        assert np.abs(mine - before).max() > 1e-4


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)
def test_a_reset_leaves_nothing_of_the_training_before(build: Callable[[], keras.Model]) -> None:
    trainer = trainer_of(build)
    initial = start(trainer.model)
    fresh = trained(trainer, initial)
    other = trained(trainer, initial, seed=1)
    assert trained(trainer, initial) == fresh
    assert trained(trainer_of(build), initial) == fresh
    assert (other != fresh) == (build is not with_statistics)  # the seed is that of shifts and of dropout
    assert trained(trainer, initial, parts=(5, 12)) == fresh  # moments, shifts and dropout go on


def test_every_dropout_has_masks_of_its_own_and_prediction_has_none() -> None:
    trainer = trainer_of(with_dropout)
    initial = start(trainer.model)
    trained(trainer, initial)
    halves = np.split(trainer.model.get_weights()[2] - initial[2], 2)
    assert np.abs(halves[0] - halves[1]).max() > 1e-4
    np.testing.assert_allclose(trainer.predict(FEATURES), trainer.model(FEATURES, training=False), atol=1e-6)


def test_predictions_are_the_model_s_for_any_number_of_images() -> None:
    trainer = trainer_of(convolutional)
    trained(trainer, start(trainer.model))
    many = np.tile(IMAGES, (16, 1, 1, 1))  # in several batches, the last not full
    for count in (1, 7, 256, len(many)):
        np.testing.assert_allclose(trainer.predict(many[:count]), trainer.model(many[:count]), atol=1e-5)


def shifted(images: np.ndarray, seed: list[int]) -> np.ndarray:
    """Moved by up to 2 pixels at random."""
    return shift_images(tf.constant(images), 2, tf.constant(seed)).numpy()


def test_shifted_images_are_the_image_moved_by_every_number_of_pixels() -> None:
    image = np.zeros((1, 9, 8, 2), np.uint8)
    image[0, 4, 3] = 100, 200
    offsets = set()
    for step in range(200):
        moved = shifted(image, [7, step])
        assert moved.shape == image.shape
        [(_, row, column)] = np.argwhere(moved[..., 0])
        assert moved[0, row, column].tolist() == [100, 200]
        assert moved.sum() == 300
        offsets.add((row - 4, column - 3))
    assert offsets == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_images_of_a_batch_move_apart_and_zeros_come_in_at_the_edge() -> None:
    ones = np.ones((64, 9, 9, 1), np.uint8)
    assert len({image.tobytes() for image in shifted(ones, [0, 0])}) > 10
    assert shifted(ones, [0, 0]).min() == 0


def test_fresh_kernels_are_glorot_uniform_and_the_rest_is_as_built() -> None:
    for model in (convolutional(), with_statistics()):
        weights = fresh_weights(model, model.get_weights(), 3)
        for value, built, weight in zip(weights, model.get_weights(), model.weights, strict=True):
            if weight.name == "kernel":
                *area, before, after = value.shape
                bound = np.sqrt(6 / (np.prod(area) * (before + after)))
                assert 0.7 * bound < np.abs(value).max() <= bound
                assert (value != built).any()
            else:
                assert (value == built).all()
        kernels = [weights, fresh_weights(model, model.get_weights(), 4)]
        assert all((a != b).any() for a, b in zip(*kernels, strict=True) if a.ndim > 1)


def test_the_default_cnn_has_about_215_thousand_parameters_and_named_layers() -> None:
    params = read_section("cnn", cnn.Params, ROOT / "params.yaml")
    model = cnn.build(params, image_shape=(28, 28, 1), classes=5)
    assert model.count_params() == 213_909
    assert model.input.dtype == "uint8"
    assert cnn.feature_layers(params) == ["block1", "block2", "dense1"]
    assert {*cnn.feature_layers(params), "logits"} <= {layer.name for layer in model.layers}


def test_a_cnn_may_have_no_dense_layer_but_must_not_eat_up_the_image() -> None:
    bare = ARCHITECTURE.model_copy(update={"dense": ()})
    assert cnn.build(bare, image_shape=(12, 12, 1), classes=3).output.shape == (None, 3)
    assert cnn.feature_layers(bare) == ["block1", "block2"]
    deep = cnn.Params.model_validate({"blocks": [{"filters": 2, "kernel": 5, "pool": 3}] * 3, "dense": []})
    with pytest.raises(UserError, match="block 3 gets 1×1 pixels"):
        cnn.build(deep, image_shape=(28, 28, 1), classes=2)


def pretrained(trainer: Trainer | None = None, **changed: Any) -> list[pretrain.Round]:
    params = PRETRAIN.model_copy(update=changed)
    validation = IMAGES[:10], LABELS[:10]
    return list(pretrain.train_source(trainer or Trainer(convolutional()), IMAGES, LABELS, validation, params))


def test_pretraining_goes_through_its_epochs_and_its_loss_falls() -> None:
    rounds = pretrained(epochs=30)
    assert [done.steps for done in rounds] == [*range(2, 61, 2)]
    assert rounds[-1].loss < 0.7 * rounds[0].loss


def test_a_source_of_few_images_gets_as_many_steps_as_are_asked_for_at_least() -> None:
    rounds = pretrained(epochs=3, least_steps=55)
    assert [(done.steps, done.of) for done in rounds] == [*((steps, 55) for steps in range(5, 56, 5))]


def test_pretraining_stops_and_goes_back_where_validation_images_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, seen = Trainer(convolutional()), []
    right = iter([7, 8, 6, 7, 10])  # images of ten: the second round is the best of the first four

    def predict(_images: np.ndarray) -> np.ndarray:
        seen.append(trainer.model.get_weights())
        return np.eye(2)[np.where(np.arange(10) < next(right), LABELS[:10], 1 - LABELS[:10])]

    monkeypatch.setattr(trainer, "predict", predict)
    assert len(pretrained(trainer, epochs=30, patience=2)) == 4
    for kept, best, last in zip(trainer.model.get_weights(), seen[1], seen[-1], strict=True):
        np.testing.assert_array_equal(kept, best)
        assert not np.array_equal(best, last)


def test_pretraining_that_diverges_is_one_line() -> None:
    with pytest.raises(UserError, match=r"diverged.*lower pretrain\.peak_rate"):
        pretrained(peak_rate=float("nan"))
