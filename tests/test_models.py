from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from transfer.basics.console import UserError
from transfer.features import CHUNK, Features, Scaling, extract, read_features, read_taps
from transfer.networks import engines, models
from transfer.networks.backend import keras
from transfer.predictions import softmax

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 1), np.uint8)
ROOT = Path(__file__).resolve().parents[1]

BUILD = """
import sys
import numpy as np
from pathlib import Path
from transfer.networks import models
from transfer.networks.layers import Convolution, Layers, fresh_weights, write_network
layers = Layers((12, 12, 1), (Convolution(3, 3, 2), Convolution(4, 3, 2)), (8,), 5)
weights = fresh_weights(layers.weights, 0)
models.save_model(Path(sys.argv[1]), layers.build("source", weights))
write_network(Path(sys.argv[1]).with_suffix(".npz"), layers, weights)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same model from two processes, side by side."""
    paths = [tmp_path_factory.mktemp("models") / "source.keras" for _ in range(2)]
    builds = [subprocess.Popen([sys.executable, "-c", BUILD, str(path)], cwd=ROOT) for path in paths]
    assert [build.wait() for build in builds] == [0, 0]
    return paths


@pytest.fixture(scope="module")
def source(sources: list[Path]) -> Path:
    return sources[0]


def test_another_process_saves_the_same_bytes(sources: list[Path]) -> None:
    one, other = sources
    assert one.read_bytes() == other.read_bytes()


def test_saving_leaves_one_file_and_no_clock_in_it(source: Path) -> None:
    assert sorted(file.name for file in source.parent.iterdir()) == ["source.keras", "source.npz"]
    with zipfile.ZipFile(source) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


DIE = """
import os, signal
from keras.src.saving import saving_lib
saving_lib._save_state = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.fault("Kill", "SIGKILL to a stage while Keras writes a model")
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_saving_that_is_killed_leaves_nothing_that_the_next_does_not_clean(tmp_path: Path) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    path = tmp_path / "models/source.keras"
    for code, status in ((DIE + BUILD, -signal.SIGKILL), (BUILD, 0)):
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)}, check=False)
        assert done.returncode == status
        assert list(temporary.iterdir()) == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["source.keras", "source.npz"]


def test_plain_keras_loads_it_and_feeds_it_raw_images(source: Path) -> None:
    model = keras.models.load_model(source)
    logits = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(logits, models.predictor(models.load_model(source))(IMAGES)[0], atol=1e-6)
    assert model.input.dtype == "uint8"


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.keras is missing"):
        models.load_model(tmp_path / "a.keras")
    (tmp_path / "a.keras").write_text("<html>503</html>")
    with pytest.raises(UserError, match=r"a\.keras is not a model") as caught:
        models.load_model(tmp_path / "a.keras")
    assert "\n" not in str(caught.value)


def test_code_in_a_model_file_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    inputs = keras.Input((2,))
    layer = keras.layers.Lambda(lambda x, path=str(marker): (__import__("pathlib").Path(path).touch(), x)[1])
    keras.Model(inputs, layer(inputs)).save(tmp_path / "evil.keras")
    marker.unlink()
    with pytest.raises(UserError, match="not a model that can be loaded"):
        models.load_model(tmp_path / "evil.keras")
    assert not marker.exists()


def test_taps_give_flat_features_and_unknown_ones_are_refused(source: Path) -> None:
    model = models.load_model(source)
    one, two = models.predictor(models.backbone(model, "block2", "dense1"))(IMAGES)
    assert one.shape == (20, 4)
    assert two.shape == (20, 8)
    assert (one >= 0).all()
    with pytest.raises(UserError, match="tap 'block3' is not in the source model: choose from block1, block2, dense1"):
        take(source, source.parent / "features", ["block3"], IMAGES, IMAGES)


def test_a_weight_that_moved_is_noticed(source: Path) -> None:
    before, after = models.load_model(source), models.load_model(source)
    assert models.check_frozen(before, after) == ["convolution1", "convolution2", "dense1", "logits"]
    kernel, bias = after.get_layer("convolution2").get_weights()
    kernel[0, 0, 0, 0] = np.nextafter(kernel[0, 0, 0, 0], np.float32(9))
    after.get_layer("convolution2").set_weights([kernel, bias])
    with pytest.raises(RuntimeError, match="layer convolution2 was meant to stay frozen"):
        models.check_frozen(before, after)


def take(source: Path, path: Path, taps: list[str] | None, images: np.ndarray, test_images: np.ndarray) -> None:
    extract(
        path,
        taps,
        images,
        test_images,
        source=source.with_suffix(".npz"),
        training=engines.Params(engine="auto", precision="float32"),
    )


def test_features_are_written_per_tap_and_read_back(source: Path, tmp_path: Path) -> None:
    many = np.concatenate([IMAGES] * 30)  # of three batches
    take(source, tmp_path / "features", ["dense1", "block1"], many, IMAGES[:5])
    body = models.backbone(models.load_model(source), "block1", "dense1")
    block1, dense1 = models.predictor(body)(IMAGES)
    again = read_taps(tmp_path / "features")
    assert list(again) == ["dense1", "block1"]
    np.testing.assert_allclose(again["dense1"].train[:], np.concatenate([dense1] * 30), atol=1e-6)
    np.testing.assert_allclose(again["block1"].train[[3, 599]], block1[[3, 19]], atol=1e-6)
    assert again["block1"].train.shape == (600, len(block1[0]))
    np.testing.assert_allclose(read_features(tmp_path / "features", "dense1").test, dense1[:5], atol=1e-6)
    with pytest.raises(UserError, match="no features of tap 'block2', only of dense1, block1"):
        read_features(tmp_path / "features", "block2")
    with pytest.raises(UserError, match=r"elsewhere/taps\.json is missing: `dvc repro` makes it"):
        read_features(tmp_path / "elsewhere", "block1")


def test_features_have_the_same_bytes_every_time(source: Path, tmp_path: Path) -> None:
    for name in "ab":
        take(source, tmp_path / name, None, IMAGES, IMAGES[:5])
    names = [f"{tap}_{part}.npy" for tap in ("block1", "block2", "dense1") for part in ("test", "train")]
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["SHA256SUMS", *names, "taps.json"]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("images", [1, 7, CHUNK, 3 * CHUNK + 5])
def test_the_statistics_of_a_pool_are_those_of_all_its_parts_at_once(images: int) -> None:
    pool = np.random.default_rng(0).gamma(1, 5, (images, 7)).astype(np.float32) + np.float32(1000)
    pool[:, 2] = 3
    variance = pool.var(axis=0, dtype=np.float64)
    for cut in {0, images // 3, images}:
        scaling = Scaling.of_pool(pool[:cut], pool[cut:])
        np.testing.assert_allclose(scaling.mean, pool.mean(axis=0, dtype=np.float64), rtol=1e-7)
        np.testing.assert_allclose(scaling.variance, variance + (0.1 * variance.mean() or 1), rtol=1e-6)


def test_scaled_features_have_the_same_length_whatever_the_image() -> None:
    features = np.random.default_rng(0).gamma(1, 5, (50, 7)).astype(np.float32)
    features[:, 3] = 2.0  # never changes
    scaling = Scaling.of_pool(features)
    scaled = Features(features, features[:3]).scaled(scaling)
    train = scaled.train[:]
    assert train.shape == scaled.train.shape == (len(scaled.train), 7)
    np.testing.assert_allclose((train**2).mean(axis=1), 1, rtol=1e-5)
    assert np.isfinite(train).all()
    assert np.abs(train[:, 3]).max() < 1e-3
    assert (scaled.test == train[:3]).all()
    assert (scaled.train[[4, 2]] == train[[4, 2]]).all()


def test_features_that_never_change_are_scaled_to_nothing() -> None:
    features = np.full((5, 3), 7, np.float32)
    assert not Scaling.of_pool(features).apply(features).any()


def test_the_scaling_layers_do_what_the_arrays_get() -> None:
    features = np.random.default_rng(0).gamma(1, 5, (50, 7)).astype(np.float32)
    scaling = Scaling.of_pool(features)
    model = keras.Sequential([keras.Input((7,)), *scaling.layers()])
    np.testing.assert_allclose(model.predict(features, verbose=0), scaling.apply(features), atol=1e-5)


def test_a_head_is_saved_on_the_backbone_and_reproduces_its_probabilities(source: Path, tmp_path: Path) -> None:
    take(source, tmp_path / "features", ["block2"], IMAGES, IMAGES)
    features = read_features(tmp_path / "features", "block2")
    scaling = Scaling.of_pool(features.train)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    layers = [*scaling.layers(), keras.layers.Dense(3, activation="softmax", name="probabilities")]
    models.save_on_backbone(tmp_path / "head.keras", layers, [kernel, bias], source=source, tap="block2", name="head")
    shipped = keras.models.load_model(tmp_path / "head.keras").predict(IMAGES, verbose=0)
    np.testing.assert_allclose(shipped, softmax(features.scaled(scaling).test @ kernel + bias), atol=1e-5)
