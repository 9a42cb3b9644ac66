"""Networks of keras.applications: weights alone, from a file or as Keras fetches them, and their preprocessing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import refused
from model_files import section

from transfer.models import model_file
from transfer.models.applications import NETWORKS
from transfer.models.backend import keras
from transfer.models.networks import predictor
from transfer.models.pretrained import Pretrained, load_pretrained

SIDE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(weights=None, input_shape=(SIDE, SIDE, 3), include_top=False)


def agrees(network: keras.Model, what: Pretrained) -> None:
    prepared = keras.applications.mobilenet_v2.preprocess_input(IMAGES.astype(np.float32))
    expected = np.asarray(network(prepared, training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(predictor(what.model)(IMAGES)[0], expected, rtol=1e-4, atol=1e-5)


def test_weights_alone_say_which_network_they_fit(tmp_path: Path, network: keras.Model) -> None:
    network.save_weights(tmp_path / "a.weights.h5")
    path = (tmp_path / "a.weights.h5").rename(tmp_path / "a.model")
    refused(lambda: model_file.image_shape(section(path)), "holds weights alone", "set source.network to MobileNetV2")
    params = section(path, "MobileNetV2")
    assert model_file.image_shape(params) == (None, None, 3)
    assert model_file.default_side(params) == 224
    what = load_pretrained(params, (SIDE, SIDE, 3))
    agrees(network, what)
    assert what.head is None
    assert what.layers[-1] == what.layer
    refused(lambda: load_pretrained(section(path, "VGG16"), (SIDE, SIDE, 3)), "does not hold the weights of VGG16")
    refused(
        lambda: model_file.image_shape(section(path, "LeNet")),
        "source.network is 'LeNet', but must be none or one of ResNet50",
    )
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save_weights(tmp_path / "b.weights.h5")
    refused(lambda: model_file.image_shape(section(tmp_path / "b.weights.h5")), "15 numbers: name their network")


@pytest.mark.parametrize("file", ["a.weights.h5", "a.h5"])
def test_weights_of_a_head_of_other_classes_are_taken_with_it(file: str, tmp_path: Path, network: keras.Model) -> None:
    x = keras.layers.GlobalAveragePooling2D()(network.output)
    whole = keras.Model(network.inputs, keras.layers.Dense(5, "softmax", name="predictions")(x))
    if file == "a.h5":
        whole.save(tmp_path / file)  # as Keras 2 lays out weights alone: with their layers, and no configuration
        with h5py.File(tmp_path / file, "a") as saved:
            alone = {name: saved["model_weights"].attrs[name] for name in saved["model_weights"].attrs}
            for name in list(saved["model_weights"]):
                saved.move(f"model_weights/{name}", name)
            del saved["model_weights"], saved.attrs["model_config"]
            saved.attrs.update(alone)
    else:
        whole.save_weights(tmp_path / file)
    refused(lambda: model_file.image_shape(section(tmp_path / file)), "set source.network to MobileNetV2")
    what = load_pretrained(section(tmp_path / file, "MobileNetV2"), (SIDE, SIDE, 3))
    assert (what.head, what.classes) == ("predictions", 5)
    prepared = keras.applications.mobilenet_v2.preprocess_input(IMAGES.astype(np.float32))
    probabilities = keras.ops.softmax(predictor(what.model)(IMAGES)[0])
    np.testing.assert_allclose(probabilities, whole(prepared, training=False), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["MobileNet", "EfficientNetB0"])
def test_the_table_of_networks_is_true(name: str) -> None:
    for top, expected in ((False, NETWORKS[name].body), (True, NETWORKS[name].whole)):
        model = getattr(keras.applications, name)(weights=None, include_top=top)
        assert sum(int(np.prod(weight.shape)) for weight in model.weights if "float" in weight.dtype) == expected
    assert len({count for network in NETWORKS.values() for count in network[2:]}) == 2 * len(NETWORKS)


@pytest.fixture
def server(tmp_path: Path, network: keras.Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """In the place of Keras's own: it has weights of MobileNetV2, whatever is asked for. Keras's cache is empty."""
    network.save(tmp_path / "weights.h5")

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, _path: str) -> str:
            return str(tmp_path / "weights.h5")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    for name in ("mobilenet_v2", "mobilenet_v3"):
        monkeypatch.setattr(sys.modules[f"keras.src.applications.{name}"], "BASE_WEIGHT_PATH", address)
    monkeypatch.setattr(sys.modules["keras.src.backend.config"], "_KERAS_DIR", str(tmp_path))
    yield server
    server.shutdown()
    server.server_close()


def test_a_network_comes_with_its_weights(server: ThreadingHTTPServer, network: keras.Model) -> None:
    params = section("imagenet", "MobileNetV2")
    model_file.check(params)
    assert model_file.image_shape(params) == (None, None, 3)
    assert model_file.default_side(params) == 224
    agrees(network, load_pretrained(params, (SIDE, SIDE, 3)))
    server.shutdown()
    server.server_close()
    agrees(network, load_pretrained(params, (SIDE, SIDE, 3)))  # which Keras has kept


def test_where_weights_cannot_be_downloaded_or_are_others_one_line_says_so(server: ThreadingHTTPServer) -> None:
    wrong = section("imagenet", "MobileNetV3Small")
    refused(lambda: load_pretrained(wrong, (SIDE, SIDE, 3)), "MobileNetV3Small cannot be built", "hash does not match")
    server.shutdown()
    server.server_close()
    params = section("imagenet", "MobileNetV2")
    refused(lambda: load_pretrained(params, (SIDE, SIDE, 3)), "URL fetch failure", "internet access, or name a file")
    words = "MobileNetV2 cannot be built for images of 8 × 8 × 3", "must be at least 32x32", "check data.pixels"
    refused(lambda: load_pretrained(params, (8, 8, 3)), *words)
    refused(lambda: model_file.check(section("imagenet")), "source.model is imagenet: name the network")
    inside = section("imagenet", "EfficientNetB0", range="0-1")
    refused(lambda: model_file.check(inside), "EfficientNetB0 takes pixels from 0 to 255 and scales them itself")
