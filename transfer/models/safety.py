"""What a Keras model file says of itself, read without Keras; one that could run code or read other files is refused.

A `.keras` file is a zip archive with the model's configuration as JSON and its weights as HDF5; an `.h5` file holds
both, or weights alone. Loading with Keras' `safe_mode` is the second guard.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from transfer.console import UserError, one_line, shown

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {CONFIG, WEIGHTS, "metadata.json", "transfer.json"}  # others, such as vocabularies, belong to text models
MODELS = {"Functional", "Model", "Sequential"}
SCALING = {"Normalization", "Rescaling", "Add", "Divide", "Multiply", "Subtract", "TrueDivide"}
RUNS_CODE = {  # classes of Keras that run what the file says, or open a file that it names
    *("FlaxLayer", "JaxLayer", "Lambda", "TFOpLambda", "TFSMLayer", "TorchModuleWrapper"),
    *("IntegerLookup", "StringLookup", "TextVectorization", "__lambda__", "__typespec__"),
}
PARTS = "activations|applications|constraints|dtype_policies|engine|initializers|layers|losses|metrics|models|ops"
OF_KERAS = re.compile(
    rf"(keras|tf_keras|tensorflow\.keras)(\.src)?(\.(?P<part>{PARTS}|optimizers|regularizers)(\.\w+)*)?"
)
FUNCTIONS = {"activations", "losses", "metrics"}  # parts of Keras whose functions a configuration may name


@dataclass(frozen=True)
class ModelFile:
    """What a model file says of itself.

    Attributes:
        input_shape: of one image, (height, width, channels) or (height, width), None where any will do; None for a file
            of weights alone.
        layers: (class, name) of every layer, those of nested models in their place; empty for weights alone.
        scales: whether the first layers bring pixels from 0 to 255 to what the others take.
        dense: of weights alone, whether a dense layer is among them.
    """

    input_shape: tuple[int | None, ...] | None
    layers: tuple[tuple[str, str], ...]
    scales: bool
    dense: bool = False


def read_model_file(path: Path) -> ModelFile:
    """Read what a file says of itself, and check that nothing in it can do more than compute.

    Args:
        path: of a `.keras` or an `.h5` file.

    Raises:
        UserError: if it is missing, damaged, something else, or names code; says which layer.
    """
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return _of_archive(archive, path)
        if path.suffix in (".h5", ".hdf5"):
            return _of_hdf5(path, path)
        raise UserError(f"{path} is no .keras or .h5 file: save the whole model as one")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: put the model there, or set source.model to none") from None
    except UserError as error:
        raise UserError(shown(error, 400)) from None
    except Exception as error:  # a damaged file makes zipfile, h5py and json raise a dozen types
        raise UserError(f"{path} cannot be read as a model ({one_line(error)}): save or copy it again") from None


def _of_archive(archive: zipfile.ZipFile, path: Path) -> ModelFile:
    names = set(archive.namelist())
    if missing := {CONFIG, WEIGHTS} - names:
        raise UserError(f"{path} has no {min(missing)}: it is no model file of Keras 3")
    if other := names - MEMBERS:
        raise UserError(f"{path} has a member {min(other)!r}, which no model of images has: save it again")
    _of_hdf5(io.BytesIO(archive.read(WEIGHTS)), path)
    return _of_config(archive.read(CONFIG), path)


def _of_hdf5(file: Path | IO[bytes], path: Path) -> ModelFile:
    """The file, of weights alone or with a configuration, once nothing in it leads to another file."""
    import h5py

    with h5py.File(file, "r") as content:
        shapes: list[tuple[int, ...]] = []

        def leads_away(name: str, link: Any) -> str | None:
            item = content[name] if isinstance(link, h5py.HardLink) else None
            if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
                return name  # which ends the visit
            if isinstance(item, h5py.Dataset):
                shapes.append(item.shape)
            return None

        if name := content.visititems_links(leads_away):
            raise UserError(f"{path} leads to other data than its own at {name}: save it again")
        config = content.attrs.get("model_config")
    if config is not None:
        return _of_config(config, path)
    return ModelFile(None, (), scales=False, dense=any(len(shape) == 2 for shape in shapes))


def _of_config(text: str | bytes, path: Path) -> ModelFile:
    config = json.loads(text)
    config.pop("compile_config", None)  # of training, which Keras is told not to read
    _check(config, "the model", path)
    layers = tuple(_layers(config))
    first = next((place for place, (kind, _) in enumerate(layers) if "Conv" in kind or "Dense" in kind), len(layers))
    scales = any(kind in SCALING for kind, _ in layers[:first])
    return ModelFile(_input_shape(config, path), layers, scales)


def _check(value: Any, layer: str, path: Path) -> None:
    """Refuse what is not Keras' own in any part of a configuration, in one line that names the layer."""
    if isinstance(value, list):
        for part in value:
            _check(part, layer, path)
    if not isinstance(value, dict):
        return
    if "class_name" in value:
        content = value.get("config")
        layer = content.get("name") or layer if isinstance(content, dict) else layer
        if str(kind := value["class_name"]) in RUNS_CODE:
            raise UserError(f"{path}: layer {layer} is a {kind}, which may run code: replace it and save again")
        if foreign := _foreign(value):
            raise UserError(f"{path}: layer {layer} needs {foreign}, which is not of Keras: replace it and save again")
    for part in value.values():
        _check(part, layer, path)


def _foreign(value: dict[str, Any]) -> str:
    """The class or function that an object of a configuration asks for, if it is not Keras' own."""
    kind, module, registered = str(value["class_name"]), value.get("module"), value.get("registered_name")
    function = kind == "function"
    name = str(value.get("config")) if function else kind
    if registered not in (None, kind, name) or ">" in name:  # as `register_keras_serializable` names them
        return str(registered or name)
    if module is None or (function and module == "builtins"):  # of older files, where Keras knows its own names alone
        return ""
    known = OF_KERAS.fullmatch(str(module))
    return "" if known and (known["part"] in FUNCTIONS or not function) else f"{name} of {module}"


def _layers(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for layer in model["config"]["layers"]:
        if layer["class_name"] in MODELS:
            yield from _layers(layer)
        else:
            yield layer["class_name"], layer["config"]["name"]


def _input_shape(model: dict[str, Any], path: Path) -> tuple[int | None, ...]:
    """The shape of one image: what the first layer takes, which is the input of a model that has one."""
    content = model["config"]
    first = content["layers"][0]
    if first["class_name"] in MODELS:
        return _input_shape(first, path)
    built = content.get("build_input_shape")
    shape = first["config"].get("batch_shape") or first["config"].get("batch_input_shape") or built
    if not shape:
        raise UserError(f"{path} does not say what it takes: build it with an Input layer, and save it again")
    if len(shape) not in (3, 4):
        raise UserError(f"{path} takes {tuple(shape[1:])}, not images of (height, width, channels)")
    return tuple(shape[1:])
