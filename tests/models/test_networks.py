"""Models as files: the same bytes, frozen where they must be; features; and what plain Keras makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, refused
from scipy.special import softmax

from transfer.models import networks
from transfer.models.backend import keras
from transfer.models.features import CHUNK, Features, Scaling, chosen_layer, extract, read_features, save_classifier

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 1), np.uint8)
LAYERS = ["block1", "block2", "dense1"]

BUILD = """
import sys
from pathlib import Path
from transfer.models import cnn
from transfer.models import networks
blocks = [{"filters": 3, "kernel": 3, "pool": 2}, {"filters": 4, "kernel": 3, "pool": 2}]
model = cnn.build(cnn.Params(blocks=blocks, dense=[8]), image_shape=(12, 12, 1), classes=5)
model.set_weights(networks.fresh_weights(model, model.get_weights(), 0))
networks.save_model(Path(sys.argv[1]), model)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same model from two processes."""
    paths = [tmp_path_factory.mktemp("models") / "source.keras" for _ in range(2)]
    for seed, path in enumerate(paths):
        env = os.environ | {"PYTHONHASHSEED": str(seed)}
        subprocess.run([sys.executable, "-c", BUILD, str(path)], cwd=ROOT, env=env, check=True)
    return paths


@pytest.fixture(scope="module")
def source(sources: list[Path]) -> Path:
    return sources[0]


@pytest.fixture(scope="module")
def model(source: Path) -> keras.Model:
    return networks.load_model(source)


def test_another_process_saves_the_same_bytes(sources: list[Path]) -> None:
    one, other = sources
    assert one.read_bytes() == other.read_bytes()


def test_plain_keras_loads_it_and_feeds_it_raw_images(source: Path, model: keras.Model) -> None:
    loaded = keras.models.load_model(source)
    assert loaded.input.dtype == "uint8"
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), networks.predictor(model)(IMAGES)[0], atol=1e-6)


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    refused(lambda: networks.load_model(tmp_path / "a.keras"), "a.keras is missing: `dvc repro` makes it")
    (tmp_path / "a.keras").write_text("<html>503</html>")
    refused(lambda: networks.load_model(tmp_path / "a.keras"), "a.keras cannot be read")


def test_a_network_is_built_again_as_it_was_and_its_body_lacks_the_logits_alone(model: keras.Model) -> None:
    again = networks.Network.of(model).build()
    assert networks.predictor(again)(IMAGES)[0].tobytes() == networks.predictor(model)(IMAGES)[0].tobytes()
    body = networks.without_head(again)
    assert body.output.shape == (None, 8)
    assert [layer.name for layer in body.layers] == [layer.name for layer in model.layers[:-1]]


def test_features_are_what_the_layers_give_flat_and_the_same_bytes_every_time(
    model: keras.Model, tmp_path: Path
) -> None:
    many = np.concatenate([IMAGES] * (CHUNK // 20 + 2))  # in several chunks
    for name in "ab":
        extract(tmp_path / name, model, ["dense1", "block1"], "block1", many, IMAGES[:5])
    block1, dense1 = (
        keras.Model(model.inputs[0], model.get_layer(layer).output)(IMAGES).numpy() for layer in LAYERS[::2]
    )
    found = read_features(tmp_path / "a", "auto")
    np.testing.assert_allclose(found.train[[3, len(many) - 1]], block1.reshape(20, -1)[[3, 19]], atol=1e-6)
    assert found.train.shape == (len(many), 75)
    assert found.train.std() > 0
    np.testing.assert_allclose(read_features(tmp_path / "a", "dense1").test, dense1[:5], atol=1e-6)
    names = [f"{layer}_{part}.npy" for layer in ("block1", "dense1") for part in ("test", "train")]
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [*names, "layers.json"]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_layer_that_is_not_there_is_one_line_that_names_it(model: keras.Model, tmp_path: Path) -> None:
    refused(lambda: networks.backbone(model, "block3"), "lacks a layer", "block3", "block1")
    extract(tmp_path / "features", model, ["dense1"], "dense1", IMAGES, IMAGES)
    assert chosen_layer(tmp_path / "features", "auto") == "dense1"
    refused(lambda: read_features(tmp_path / "features", "block2"), "block2_train.npy is missing")


def test_features_that_are_no_numbers_are_refused(source: Path, tmp_path: Path) -> None:
    spoilt = networks.load_model(source)
    spoilt.set_weights([weight * np.float32(1e30) for weight in spoilt.get_weights()])
    take = partial(extract, tmp_path / "features", spoilt, ["block2"], "block2", IMAGES, IMAGES)
    refused(take, "block2 of the source model gives NaN or infinity")
    assert list(tmp_path.iterdir()) == []


def test_scaled_features_have_the_same_length_in_arrays_and_in_layers() -> None:
    features = np.random.default_rng(0).gamma(1, 5, (50, 7)).astype(np.float32) + np.float32(1000)
    features[:, 3] = 2.0  # never changes
    scaling = Scaling.of_pool(features)
    variance = features.var(axis=0, dtype=np.float64)
    np.testing.assert_allclose(scaling.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(scaling.variance, variance + 0.1 * variance.mean(), rtol=1e-6)
    scaled = Features(features, features[:3]).scaled(scaling)
    np.testing.assert_allclose((scaled.train**2).mean(axis=1), 1, rtol=1e-5)
    assert np.abs(scaled.train[:, 3]).max() < 1e-3
    assert (scaled.test == scaled.train[:3]).all()
    model = keras.Sequential([keras.Input((7,)), *scaling.layers()])
    np.testing.assert_allclose(model.predict(features, verbose=0), scaled.train, atol=1e-3)
    constant = np.full((5, 3), 7, np.float32)
    assert not Scaling.of_pool(constant).apply(constant).any()


def test_a_head_is_saved_on_the_frozen_backbone_and_reproduces_its_probabilities(source: Path, tmp_path: Path) -> None:
    extract(tmp_path / "features", networks.load_model(source), ["block2"], "block2", IMAGES, IMAGES)
    features = read_features(tmp_path / "features", "block2")
    scaling = Scaling.of_pool(features.train)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    body = partial(networks.backbone, networks.load_model(source), "block2")
    save_classifier([kernel, bias], tmp_path / "head.keras", body=body, scaling=scaling)
    exported = keras.models.load_model(tmp_path / "head.keras")
    for layer in ("convolution1", "convolution2"):
        before = networks.load_model(source).get_layer(layer).get_weights()
        for old, new in zip(before, exported.get_layer(layer).get_weights(), strict=True):
            assert old.tobytes() == new.tobytes()
    np.testing.assert_allclose(
        exported.predict(IMAGES, verbose=0), softmax(features.scaled(scaling).test @ kernel + bias, axis=1), atol=1e-5
    )


def test_a_source_model_keeps_its_head_for_classes_that_it_knows_in_their_order(model: keras.Model) -> None:
    logits = networks.predictor(model)(IMAGES)[0]
    kept = networks.under_own_head(model, [*"abcde"], [*"dab"])
    assert kept is not None
    np.testing.assert_allclose(networks.predictor(kept.build())(IMAGES)[0], logits[:, [3, 0, 1]], atol=1e-6)
    for known, classes in (([*"abcde"], [*"dax"]), ([*"abcd"], [*"ab"]), ([], [*"ab"])):
        assert networks.under_own_head(model, known, classes) is None
    assert networks.under_own_head(networks.without_head(model), [*"abcdefgh"], [*"ab"]) is None
