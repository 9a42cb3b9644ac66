"""Models of older Keras: real files of Keras 2, and files of Keras 3 with what older versions wrote put into them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import ROOT, refused
from model_files import Change, at, change_config, section

from transfer.models import model_file
from transfer.models.backend import keras
from transfer.models.legacy import rewrite
from transfer.models.loading import load_given
from transfer.models.networks import predictor
from transfer.models.pretrained import load_pretrained

layers = keras.layers
SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.float32)


def load(path: Path) -> keras.Model:
    params = section(path)
    file = model_file.read_source_file(params)
    assert file is not None
    return load_given(params, file, SHAPE)


def gives(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


# Real files of Keras 2


@pytest.fixture(scope="module")
def keras2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras2")
    command = [sys.executable, str(ROOT / "tests/models/keras2.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def agrees(given: np.ndarray, folder: Path, name: str) -> None:
    expected = np.load(folder / f"{name}.npy")
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


WHOLE = {
    **{name: name for name in ("convolutions", "functional_in_sequential", "functional_in_functional")},
    **{name: name for name in ("called_twice", "teachable_machine", "augmented", "normalised")},
    **{name: name for name in ("arithmetic", "two_paths")},
    "mixed": "functional_in_functional",  # which is computed in float32
}


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_model_of_keras_2_gives_what_keras_2_gives(keras2: Path, name: str, suffix: str) -> None:
    images = np.load(keras2 / "images.npy")
    agrees(gives(load(keras2 / f"{name}.{suffix}"), images), keras2, WHOLE[name])


@pytest.mark.parametrize(
    ("file", "scale"),
    [
        ("mobilenet_v2.h5", "-1-1"),
        ("mobilenet_v2.keras", "-1-1"),
        ("densenet.h5", "torch"),
        ("densenet.keras", "torch"),
        ("resnet50.h5", "caffe"),
    ],
)
def test_preprocess_input_of_keras_2_becomes_the_range_and_augmentation_nothing(
    keras2: Path, file: str, scale: str
) -> None:
    params = section(keras2 / file)
    told = model_file.read_source_file(params)
    assert told is not None
    assert told.scale == scale
    taken = load_pretrained(params, SHAPE)
    assert not [layer for layer in taken.model.layers if "random" in type(layer).__name__.lower()]
    images = np.load(keras2 / "images.npy").astype(np.uint8)
    agrees(predictor(taken.model)(images)[0], keras2, file.split(".")[0])
    refused(
        lambda: model_file.check(section(keras2 / file, range="-1-1")), "preprocess_input takes pixels from 0 to 255"
    )


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_other_operations_of_tensorflow_are_refused_by_name(keras2: Path, suffix: str) -> None:
    refused(lambda: load(keras2 / f"an_operation.{suffix}"), "layer tf.math.pow", "is a TFOpLambda")


@pytest.mark.parametrize("module", ["mobilenet_v2", "densenet"])
def test_operations_in_hdf5_files_of_keras_3_are_read(module: str, tmp_path: Path) -> None:
    image = keras.Input(SHAPE)
    prepared = getattr(keras.applications, module).preprocess_input(image)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Add()([image, prepared]))))
    model.save(tmp_path / "a.h5")
    np.testing.assert_array_equal(gives(load(tmp_path / "a.h5"), IMAGES), gives(model, IMAGES))


def test_files_are_read_as_what_they_are_by_whatever_name(keras2: Path, tmp_path: Path) -> None:
    for suffix, other in (("h5", "a.keras"), ("keras", "b.h5"), ("keras", "c.model")):
        (tmp_path / other).write_bytes((keras2 / f"convolutions.{suffix}").read_bytes())
        agrees(gives(load(tmp_path / other), np.load(keras2 / "images.npy")), keras2, "convolutions")


# What older versions wrote, in files of Keras 3


def nested() -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(image))
    return keras.Model(image, layers.DepthwiseConv2D(3, name="depthwise")(x), name="inner")


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), nested(), layers.Flatten(), layers.Dense(3, name="dense")])


def plain() -> keras.Model:
    first = layers.Conv2D(4, 3, name="conv")
    return keras.Sequential([keras.Input(SHAPE), first, layers.Flatten(), layers.Dense(3, name="dense")])


def functional() -> keras.Model:
    image = keras.Input(SHAPE, name="image_in")
    x = layers.GlobalAveragePooling2D(name="mean")(nested()(image))
    return keras.Model(image, layers.Dense(3, name="dense")(x))


def without_input(config: dict[str, Any]) -> None:
    shape = config["config"]["layers"].pop(0)["config"]["batch_shape"]
    at(config, "conv")["config"]["batch_input_shape"] = shape
    config["config"].pop("build_input_shape", None)


def as_a_list(config: dict[str, Any]) -> None:
    without_input(config)
    config["config"] = config["config"]["layers"]


def called_as_in_keras_2(config: dict[str, Any]) -> None:
    at(config, "mean")["inbound_nodes"] = [[["inner", 1, 0, {}]]]
    at(config, "inner")["inbound_nodes"] = [[["image_in", 0, 0, {}]]]


def in_the_old_module(config: dict[str, Any]) -> None:
    config["module"] = at(config, "inner")["module"] = "keras.src.engine.functional"


LETTERS: dict[str, tuple[Callable[[], keras.Model], str, Change]] = {
    "a: no input layer": (plain, "h5", without_input),
    "b: a bare list": (plain, "h5", as_a_list),
    "c: groups": (functional, "h5", lambda config: at(config, "depthwise")["config"].update(groups=1)),
    "d: a list of one output inside": (
        *(sequential, "h5"),
        lambda config: at(config, "inner")["config"].update(output_layers=[["depthwise", 0, 0]]),
    ),
    "e: an initializer's dtype": (
        *(functional, "h5"),
        lambda config: at(config, "conv")["config"]["kernel_initializer"]["config"].update(dtype="float32"),
    ),
    "e: an initializer of TensorFlow": (
        *(functional, "keras"),
        lambda config: at(config, "conv")["config"]["bias_initializer"].update(
            module="tensorflow.python.ops.init_ops_v2", class_name="Constant", config={"value": 0}
        ),
    ),
    "f: a list of one axis": (functional, "keras", lambda config: at(config, "norm")["config"].update(axis=[3])),
    "f: a class of TensorFlow 1": (
        *(functional, "h5"),
        lambda config: at(config, "norm").update(class_name="BatchNormalizationV1"),
    ),
    "g: calls counted from 1": (functional, "h5", called_as_in_keras_2),
    "h: the old module": (functional, "keras", in_the_old_module),
    "h: a shape after the input": (
        *(plain, "keras"),
        lambda config: at(config, "conv")["config"].update(batch_input_shape=[None, *SHAPE]),
    ),
    "i: a policy": (
        *(functional, "keras"),
        lambda config: at(config, "conv")["config"].update(
            dtype={"module": "keras.mixed_precision", "class_name": "Policy", "config": {"name": "mixed_float16"}}
        ),
    ),
    "j: a list of one output": (
        *(functional, "keras"),
        lambda config: config["config"].update(output_layers=[["dense", 0, 0]]),
    ),
}


def changed(model: keras.Model, path: Path, change: Change, version: str = "2.4.0") -> Path:
    """Save a model, and change its configuration and, in an HDF5 file, the version of Keras that wrote it."""
    model.save(path)
    change_config(path, path, change)
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            file.attrs["keras_version"] = version
    return path


@pytest.mark.parametrize("letter", LETTERS)
def test_what_older_versions_wrote_is_read(letter: str, tmp_path: Path) -> None:
    build, suffix, change = LETTERS[letter]
    model = build()
    path = changed(model, tmp_path / f"a.{suffix}", change)
    np.testing.assert_array_equal(gives(load(path), IMAGES), gives(model, IMAGES))


@pytest.mark.parametrize("build", [plain, sequential, functional, lambda: keras.applications.MobileNet(weights=None)])
def test_what_today_s_keras_writes_stays_as_it_is(build: Callable[[], keras.Model]) -> None:
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(build())))
    assert rewrite(config) == (config, None)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_what_cannot_be_read_names_the_version_the_layer_the_whole_cause_and_what_to_do(
    tmp_path: Path, suffix: str
) -> None:
    def of_keras_1(config: dict[str, Any]) -> None:
        at(config, "conv")["config"]["nb_filter"] = 4

    path = changed(functional(), tmp_path / f"a.{suffix}", of_keras_1, "1.2.2")
    version = "1.2.2" if suffix == "h5" else keras.__version__
    words = "layer conv (Conv2D): Unrecognized keyword arguments passed to Conv2D: {'nb_filter': 4}"
    refused(lambda: load(path), f"written by Keras {version},", words, "load the weights of this file into them")
    unknown = changed(
        functional(), tmp_path / f"b.{suffix}", lambda all_of: at(all_of, "conv").update(class_name="Gone")
    )
    refused(lambda: load(unknown), "layer conv (Gone): ", "'Gone': build" if suffix == "h5" else ": build")


def test_what_keras_3_computes_in_another_way_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 3, name="conv", activation="hard_sigmoid")])
    for version, of_old in (("2.4.0", True), ("3.1.0", False)):
        path = changed(model, tmp_path / "a.h5", lambda _config: None, version)
        if of_old:
            refused(lambda path=path: load(path), "layer conv is a hard_sigmoid of Keras 2.4.0")
        else:
            load(path)
