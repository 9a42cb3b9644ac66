"""What a Keras model file says of itself, read without Keras; one that could run code or read other files is refused.

A `.keras` file is a zip archive with the model's configuration as JSON and its weights as HDF5; an `.h5` file holds
both, or weights alone. The first bytes tell which it is. Loading with Keras' `safe_mode` is the second guard.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

from transfer.console import UserError, one_line, shown
from transfer.models.legacy import INITIALIZERS, MODELS, OPERATIONS, Config, Scale, rewrite

CONFIG, WEIGHTS, VERSION = "config.json", "model.weights.h5", "metadata.json"
OURS = {"transfer.json", "familiarity.npz"}
MEMBERS = {CONFIG, WEIGHTS, VERSION, *OURS}  # others, such as vocabularies, belong to text models
ZIP, HDF5, POINTER = b"PK", b"\x89HDF\r\n\x1a\n", b"version https://git-lfs"  # what files begin with
SCALING = {"Normalization", "Rescaling", "Add", "Divide", "Multiply", "Subtract", "TrueDivide"}
RUNS_CODE = {  # classes of Keras that run what the file says, or open a file that it names
    *("FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TensorFlowOpLayer", "TorchModuleWrapper", *OPERATIONS),
    *("IntegerLookup", "StringLookup", "TextVectorization", "__lambda__", "__typespec__"),
}
PARTS = "activations|applications|constraints|dtype_policies|engine|initializers|layers|losses|metrics|models|ops"
OF_KERAS = re.compile(
    rf"(keras|tf_keras|tensorflow\.keras)(\.src)?(\.(?P<part>{PARTS}|mixed_precision|optimizers|regularizers)(\.\w+)*)?"
    rf"|{re.escape(INITIALIZERS)}"
)
SEQUENCES = {"Bidirectional", "Embedding", "GRU", "LSTM", "MultiHeadAttention", "RNN", "SimpleRNN"}
LARGEST = 10  # that pixels are after a layer which brings them to what networks take: about 1, at most 5
FUNCTIONS = {"activations", "losses", "metrics"}  # parts of Keras whose functions a configuration may name


@dataclass(frozen=True)
class ModelFile:
    """What a model file says of itself.

    Attributes:
        archive: whether it is a zip archive, and not HDF5.
        keras_version: that wrote it; empty where it does not say.
        config: of the model, as Keras 3 reads it; None for a file of weights alone.
        input_shape: of one image, (height, width, channels) or (height, width), None where any will do.
        scale: what is to be done to raw pixels, where the file says so; `inside` where its own layers do it.
        scaled_by: the name of the first of these layers; empty where they are arithmetic whose range nobody knows.
        parameters: of weights alone, how many numbers they are.
        dense: of weights alone, whether a dense layer is among them.
    """

    archive: bool
    keras_version: str = ""
    config: Config | None = None
    input_shape: tuple[int | None, ...] | None = None
    scale: Scale | None = None
    scaled_by: str = ""
    parameters: int = 0
    dense: bool = False


def read_model_file(path: Path) -> ModelFile:
    """Read what a file says of itself, and check that nothing in it can do more than compute.

    Args:
        path: of a zip archive or an HDF5 file, by whatever name.

    Raises:
        UserError: if it is missing, damaged, something else, or names code; says which layer.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(POINTER))
        if start.startswith(ZIP):
            with zipfile.ZipFile(path) as archive:
                return _of_archive(archive, path)
        if start.startswith(HDF5):
            return _of_hdf5(path, path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: put the model there, or set source.model to none") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: save the whole model as one .keras or .h5 file") from None
    except UserError as error:
        raise UserError(shown(error, 400)) from None
    except Exception as error:  # a damaged file makes zipfile, h5py and json raise a dozen types
        raise UserError(f"{path} cannot be read as a model ({one_line(error)}): save or copy it again") from None
    if start == POINTER:
        raise UserError(f"{path} only points to a file that Git LFS has not fetched: run git lfs pull")
    raise UserError(f"{path} is not a .keras or .h5 file: save the whole model as one")


def _of_archive(archive: zipfile.ZipFile, path: Path) -> ModelFile:
    names = set(archive.namelist())
    if inside := [name for name in sorted(names) if name.endswith((".h5", ".keras")) and name != WEIGHTS]:
        raise UserError(f"{path} is an archive with {inside[0]}: unpack it, and set source.model to that file")
    if missing := {CONFIG, WEIGHTS} - names:
        raise UserError(f"{path} has no {min(missing)}: it is not a model file of Keras 3")
    if other := names - MEMBERS:
        raise UserError(f"{path} contains {min(other)!r}, which does not belong in an image model: save it again")
    _of_hdf5(io.BytesIO(archive.read(WEIGHTS)), path)
    version = json.loads(archive.read(VERSION))["keras_version"] if VERSION in names else ""
    return _of_config(archive.read(CONFIG), path, archive=True, version=str(version))


def _of_hdf5(file: Path | IO[bytes], path: Path) -> ModelFile:
    """The file, of weights alone or with a configuration, once nothing in it leads to another file."""
    import h5py

    with h5py.File(file, "r") as content:
        shapes: list[tuple[int, ...]] = []  # of weights, without whole numbers such as seeds

        def leads_away(name: str, link: Any) -> str | None:
            item = content[name] if isinstance(link, h5py.HardLink) else None
            if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
                return name  # which ends the visit
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                shapes.append(item.shape)
            return None

        if name := content.visititems_links(leads_away):
            raise UserError(f"{path} has a link to other data at {name}: save it again")
        config, version = (content.attrs.get(key) for key in ("model_config", "keras_version"))
    if config is not None:
        return _of_config(config, path, archive=False, version=_text(version))
    parameters, dense = sum(map(prod, shapes)), any(len(shape) == 2 for shape in shapes)
    return ModelFile(archive=False, keras_version=_text(version), parameters=parameters, dense=dense)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _of_config(text: str | bytes, path: Path, *, archive: bool, version: str) -> ModelFile:
    config = json.loads(text)
    config.pop("compile_config", None)  # of training, which Keras is told not to read
    _check(config, "the model", path, RUNS_CODE - OPERATIONS)  # what the file says, before anything becomes another
    if config["class_name"] not in MODELS:
        raise UserError(f"{path} is a {config['class_name']}: only sequential and functional models can be used")
    config, scale = rewrite(config)
    _check(config, "the model", path, RUNS_CODE)
    layers = list(_layers(config))
    if bent := [content["name"] for _, content in layers if "hard_sigmoid" in content.values() and version < "3"]:
        raise UserError(
            f"{path}: layer {bent[0]} is a hard_sigmoid of Keras {version or 2}, which Keras 3 computes otherwise: "
            "use a model without it"
        )
    told = (scale, "preprocess_input") if scale else _own_scale(layers)
    shape = _input_shape(config, path)
    _check_takes_images(shape, [kind for kind, _ in layers], path)
    return ModelFile(archive, version, config, shape, *told)


def _own_scale(layers: Sequence[tuple[str, Config]]) -> tuple[Scale | None, str]:
    """What the first layers take, `inside` for 0 to 255; and the name of the `Rescaling` that says so, if one does."""
    first = next((place for place, (kind, _) in enumerate(layers) if "Conv" in kind or "Dense" in kind), len(layers))
    scaling = [(kind, content) for kind, content in layers[:first] if kind in SCALING]
    rescaling = [content for kind, content in scaling if kind == "Rescaling"]
    factor = prod(max(map(abs, _numbers(content["scale"]))) for content in rescaling)
    if rescaling and 255 * factor <= LARGEST:
        return "inside", rescaling[0]["name"]
    if rescaling and 1 < factor <= LARGEST:
        return "0-1", rescaling[0]["name"]
    return "inside" if len(scaling) > len(rescaling) else None, ""


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


def _check(value: Any, layer: str, path: Path, runs_code: Set[str]) -> None:
    """Refuse what is not Keras' own in any part of a configuration, in one line that names the layer."""
    if isinstance(value, list):
        for part in value:
            _check(part, layer, path, runs_code)
    if not isinstance(value, dict):
        return
    if "class_name" in value:
        content = value.get("config")
        layer = content.get("name") or layer if isinstance(content, dict) else layer
        if str(kind := value["class_name"]) in runs_code:
            raise UserError(f"{path}: layer {layer} is a {kind}, which may run code: replace it and save again")
        if foreign := _foreign(value):
            raise UserError(f"{path}: layer {layer} needs {foreign}, which is not of Keras: replace it and save again")
    for part in value.values():
        _check(part, layer, path, runs_code)


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


def _layers(model: Config) -> Iterator[tuple[str, Config]]:
    for layer in model["config"]["layers"]:
        if layer["class_name"] in MODELS:
            yield from _layers(layer)
        else:
            yield layer["class_name"], layer["config"]


def _input_shape(model: Config, path: Path) -> tuple[int | None, ...]:
    """The shape of one image: what the first layer takes, which is the input of a model that has one."""
    content = model["config"]
    first = content["layers"][0]
    if first["class_name"] in MODELS:
        return _input_shape(first, path)
    shape = first["config"].get("batch_shape") or content.get("build_input_shape")
    if not shape:
        raise UserError(f"{path} does not say what it takes: build it with an Input layer, and save it again")
    return tuple(shape[1:])


def _check_takes_images(shape: tuple[int | None, ...], kinds: Sequence[str], path: Path) -> None:
    takes = " × ".join(str(length or "any") for length in shape)
    first = next((kind for kind in kinds if "Conv" in kind or "Dense" in kind or _of_sequences(kind)), "")
    if len(shape) not in (2, 3) or (len(shape) == 2 and _of_sequences(first)):
        raise UserError(f"{path} takes {takes}, not images of height × width × channels: use a model of images")
    if len(shape) == 3 and shape[2] not in (None, 1, 3):
        raise UserError(
            f"{path} takes {takes} (height × width × channels), but images have 1 or 3 channels, in the last place: "
            "use a model that takes such"
        )


def _of_sequences(kind: str) -> bool:
    return kind in SEQUENCES or kind.endswith("1D")
