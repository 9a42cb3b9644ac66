"""Load a Keras model that somebody made: from a copy whose configuration Keras 3 can read, and without running code."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py

from transfer.console import UserError, shown
from transfer.models.applications import NETWORKS, classes_of
from transfer.models.backend import keras
from transfer.models.legacy import MODELS, Config
from transfer.models.model_file import IMAGENET, Params
from transfer.models.safety import CONFIG, WEIGHTS, ModelFile

CURE = "build the same layers with Keras 3, load the weights of this file into them, and save that model"


def load_given(params: Params, file: ModelFile, shape: tuple[int, ...]) -> keras.Model:
    """The model that a section names, as its file has it.

    Args:
        params: the `source` section.
        file: what its file says of itself.
        shape: of the images that a network of keras.applications is to take.

    Raises:
        UserError: if it cannot be loaded, or is no model of one image and one output; says why, and what to do.
    """
    assert params.file is not None
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        if params.model == IMAGENET:
            return _built(params.network, shape, top=False, weights=IMAGENET)
        if file.config is None:
            classes = classes_of(NETWORKS[params.network], file.parameters) or 1000
            return _with_weights(params.file, params.network, shape, classes, Path(folder))
        return _whole(params.file, file, file.config, Path(folder))


def whole_cause(error: Exception) -> str:
    """Why Keras failed, in one line: what was at the root of it, without configurations and advice to programmers."""
    root = " ".join(str(error).split("Exception encountered:")[-1].split())
    return shown(re.split(r"\.? (?:Please ensure|Make sure) ", root)[0], 400)


def _whole(path: Path, file: ModelFile, config: Config, folder: Path) -> keras.Model:
    keras.utils.clear_session()  # so that names of layers count from the beginning
    try:
        model = keras.models.load_model(_copy(path, file, config, folder), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the part that failed raises
        by = f", written by Keras {shown(file.keras_version, 20)}," if file.keras_version else ""
        fault = next(_faults(config), whole_cause(error))
        raise UserError(f"{path}{by} cannot be loaded: {fault}: {CURE}") from None
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(f"{path} has no single input and output of known shapes: save a part of it that has")
    return model


def _copy(path: Path, file: ModelFile, config: Config, folder: Path) -> Path:
    """A copy of a file that is named as what it is, with a configuration as Keras 3 reads it."""
    if file.archive:
        copied = folder / "model.keras"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copied, "w") as new:
            new.writestr(CONFIG, json.dumps(config))
            new.writestr(WEIGHTS, old.read(WEIGHTS))
        return copied
    copied = folder / "model.h5"
    shutil.copyfile(path, copied)
    with h5py.File(copied, "a") as content:
        content.attrs["model_config"] = json.dumps(config)
    return copied


def _faults(model: Config) -> Iterator[str]:
    """The layers that Keras cannot build, and why."""
    for layer in model["config"]["layers"]:
        if layer["class_name"] in MODELS:
            yield from _faults(layer)
            continue
        try:
            if "module" in layer:
                keras.saving.deserialize_keras_object(copy.deepcopy(layer))
            else:  # as HDF5 files have it
                keras.Sequential.from_config({"name": None, "layers": [copy.deepcopy(layer)]})
        except Exception as error:  # as above
            yield f"layer {layer['config']['name']} ({layer['class_name']}): {whole_cause(error)}"


def _built(
    network: str, shape: tuple[int, ...], *, top: bool, classes: int = 1000, weights: str | None = None
) -> keras.Model:
    """A network of keras.applications, with random weights or those that Keras downloads, checks and keeps."""
    keras.utils.clear_session()  # so that names of layers do not count another form
    build = getattr(keras.applications, network)
    try:
        return build(weights=weights, include_top=top, input_shape=shape, classes=classes)
    except Exception as error:  # of the size, the download, or the disk
        cure = "set data.pixels"
        if weights:
            cure = "check data.pixels and internet access, or name a file of the weights as source.model"
        size = " × ".join(map(str, shape))
        raise UserError(f"{network} cannot be built for images of {size} ({whole_cause(error)}): {cure}") from None


def _with_weights(path: Path, network: str, shape: tuple[int, ...], classes: int, folder: Path) -> keras.Model:
    """A network of keras.applications with the weights of a file, with its head of so many classes or without."""
    with h5py.File(path, "r") as content:
        name = "model.h5" if "layer_names" in content.attrs else "model.weights.h5"  # of Keras 2, or 3
    copied = shutil.copyfile(path, folder / name)
    for top in (True, False):
        model = _built(network, shape, top=top, classes=classes)
        with contextlib.suppress(Exception):
            model.load_weights(copied)  # raises a dozen types for weights of another form
            return model
    raise UserError(
        f"{path} does not hold the weights of {network} in its usual form: set source.network to what they are of, or "
        "save the whole model"
    )
