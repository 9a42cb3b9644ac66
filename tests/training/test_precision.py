from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import synthetic_digits

from transfer.models import cnn
from transfer.models.backend import keras
from transfer.models.networks import fresh_weights, load_model, save_model
from transfer.training.precision import Precision
from transfer.training.schedule import Plan, shuffled_batches, warmup_cosine
from transfer.training.trainer import Trainer


def trained(kind: Precision) -> Trainer:
    blocks = [{"filters": 8, "kernel": 5, "pool": 4}, {"filters": 12, "kernel": 3, "pool": 2}]
    model = cnn.build(cnn.Params(blocks=blocks, dense=[32]), image_shape=(28, 28, 1), classes=10)
    images, labels = synthetic_digits(40, seed=0)
    steps = 120
    trainer = Trainer(model, shift=1, precision=kind)
    trainer.reset(fresh_weights(model, model.get_weights(), 0), 0)
    plan = Plan(shuffled_batches(len(images), 32, steps, 0), warmup_cosine(steps, 0.003, 0.1))
    trainer.train(images[..., np.newaxis], labels.astype(np.int32), plan, 0)
    return trainer


def test_mixed_precision_trains_as_well_and_what_is_predicted_and_saved_is_float32(tmp_path: Path) -> None:
    images, labels = synthetic_digits(100, seed=1)
    images = images[..., np.newaxis]
    plain, mixed = trained("float32"), trained("mixed_bfloat16")
    accuracies = [np.mean(trainer.predict(images).argmax(axis=1) == labels) for trainer in (plain, mixed)]
    assert accuracies[0] > 0.95
    assert abs(accuracies[1] - accuracies[0]) <= 0.01
    distances = [np.abs(a - b).max() for a, b in zip(plain.model.weights, mixed.model.weights, strict=True)]
    assert max(distances) > 1e-4  # it did compute in other numbers

    save_model(tmp_path / "net.keras", mixed.model)
    saved = load_model(tmp_path / "net.keras")
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    assert {weight.dtype for weight in mixed.model.get_weights()} == {np.dtype(np.float32)}
    assert mixed.predict(images).dtype == np.float32
    np.testing.assert_allclose(saved(images[:20]).numpy(), mixed.predict(images[:20]), atol=1e-5)
    assert keras.config.dtype_policy().name == "float32"
