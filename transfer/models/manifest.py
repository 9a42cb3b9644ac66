"""What a Keras model file holds, told without Keras: read before anything is loaded, and the guard against its code.

A `.keras` file is a zip archive with a configuration as JSON and weights as HDF5; an `.h5` file holds both, or weights
alone. What is let through names layers, and what belongs to them, of Keras itself and of no one else.
"""

from __future__ import annotations

import ast
import json
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any

from transfer.console import UserError, one_line, shown

if TYPE_CHECKING:
    import h5py

LARGEST = 4 << 30  # bytes that a file may say it holds
LONGEST = 16 << 20  # bytes of its configuration; as objects they take a hundred times that
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
ARCHIVE, HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"  # how the two kinds of file begin
PARTS = ("layers", "initializers", "regularizers", "constraints", "activations", "dtype_policies")
COMPILED = ("optimizers", "losses", "metrics")  # of a model inside another one
MODELS = {"Functional", "Model", "Sequential"}
ARITHMETIC = {"Add", "Divide", "Multiply", "Subtract", "TrueDivide"}  # of `x / 127.5 - 1` and the like
RUNS_CODE = {  # Keras's own, but they run what the file says, or open what it names
    *("ClassMethod", "FlaxLayer", "InstanceMethod", "JaxLayer", "Lambda", "SlicingOpLambda", "TFOpLambda"),
    *("TFSMLayer", "TensorFlowOpLayer", "TorchModuleWrapper", "__lambda__", "__typespec__"),
    *("IntegerLookup", "StringLookup", "TextVectorization"),
}
VALUES = {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__", "__tuple__"}
SCALING = {"Normalization", "Rescaling", *ARITHMETIC}
WIDEST = 2048  # pixels of an image's side, as of `data.size`
WIDTHS = {  # what a layer says of its size, and what is a side of one of its weights
    *("depth_multiplier", "filters", "input_dim", "kernel_size", "key_dim", "num_heads", "output_dim", "units"),
}


@dataclass(frozen=True)
class Manifest:
    """What a model file holds.

    Attributes:
        input_shape: of an image, (height, width, channels) or (height, width), None where any will do; None where
            there are weights alone.
        layers: (class, name) of every layer, those of nested models in their place; none of weights alone.
        scales: whether the first layers bring raw pixels, 0 to 255, to what the others take.
        shapes: of weights alone, theirs, ascending.
    """

    input_shape: tuple[int | None, ...] | None
    layers: tuple[tuple[str, str], ...]
    scales: bool
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def weights_only(self) -> bool:
        """Whether the file does not say what network its weights are of."""
        return self.input_shape is None


def read_manifest(path: Path) -> Manifest:
    """Read what a file says of itself, and check that nothing in it can do more than compute.

    As long as the file stays as it is, it is read only once.

    Args:
        path: of a `.keras` or an `.h5` file.

    Raises:
        UserError: if it is missing, damaged, too large, something else, or names code; says which layer.
    """
    name = shown(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise UserError(f"{path} is {'a folder' if path.is_dir() else 'no file'}: name a .keras or .h5 file")
        return _read(path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        raise UserError(f"{name} is missing: put the model there, or set source.model to none") from None
    except UserError as error:
        raise UserError(shown(error, 400)) from None
    except Exception as error:  # a damaged file makes zipfile, h5py and json raise what they like
        raise UserError(f"{name} cannot be read as a model ({one_line(error)}): save or copy it again") from None


@lru_cache
def _read(path: Path, _size: int, _modified: int) -> Manifest:
    """Kept for the file's state, as all weights must be unpacked to be looked at."""
    with path.open("rb") as file:
        start = file.read(len(HDF5))
        kind = ".keras" if start.startswith(ARCHIVE) else ".h5" if start == HDF5 else ""
        if not kind:
            raise UserError(f"{path} is {'empty' if not start else 'no model file'}: name a .keras or .h5 file")
        if path.suffix not in (kind, ".hdf5" if kind == ".h5" else kind):
            raise UserError(f"{path} is a {kind} file by its content: rename it to {path.stem}{kind}")
        return _of_archive(file, path) if kind == ".keras" else _of_hdf5(file, path)


def _of_archive(file: IO[bytes], path: Path) -> Manifest:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            _check_member(member, path)
        if len({member.filename for member in members}) < len(members):
            raise UserError(f"{path} has two members of one name, which no model has: save it again")
        if missing := {CONFIG, WEIGHTS} - {member.filename for member in members}:
            raise UserError(f"{path} has no {min(missing)}: it is no model file of Keras 3")
        _check_size(sum(member.file_size for member in members), path)
        with tempfile.TemporaryFile() as weights, archive.open(WEIGHTS) as packed:
            while part := packed.read(1 << 20):
                weights.write(part)
            with _open_hdf5(weights, path) as content, archive.open(CONFIG) as config:
                return _of_config(config.read(LONGEST + 1), content, path)


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    name = member.filename
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    climbs = ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if climbs or stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"{path} has a member {name!r}, which leads out of the archive: it is not safe to open")
    if member.flag_bits & 1:
        raise UserError(f"{path} is encrypted: save it without a password")


def _check_size(size: int, path: Path) -> None:
    if size > LARGEST:
        raise UserError(f"{path} says that it holds {size / (1 << 30):.1f} GB, but at most 4 are read")


def _open_hdf5(file: IO[bytes], path: Path) -> h5py.File:
    """Open it, once nothing in it is a link or leads to another file; numbers are not read."""
    import h5py

    content = h5py.File(file, "r")
    size = 0
    ahead = [content]
    seen = set()
    while ahead:
        group = ahead.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"{path} has a link at {where}, which may lead to another file: save it again")
            member = group[name]
            if isinstance(member, h5py.Group):
                if (address := h5py.h5o.get_info(member.id).addr) not in seen:  # a group may be in itself
                    seen.add(address)
                    ahead.append(member)
            elif not isinstance(member, h5py.Dataset):
                raise UserError(f"{path} has something else than numbers at {where}: save it again")
            elif member.external or member.is_virtual:
                raise UserError(f"{path} keeps the numbers of {where} in another file: save it again")
            else:
                held = max(prod(member.shape or ()), prod(member.chunks or ()))  # a chunk is unpacked whole
                size += held * member.dtype.itemsize
    _check_size(size, path)
    return content


def _of_hdf5(file: IO[bytes], path: Path) -> Manifest:
    with _open_hdf5(file, path) as content:
        if "model_config" in content.attrs:
            return _of_config(content.attrs["model_config"], content, path)
        return _of_weights(content)


def _of_weights(content: h5py.File) -> Manifest:
    """What weights alone tell; an optimizer's, and what random layers draw from, are none of the network's."""
    import h5py

    shapes = []

    def see(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name and not name.startswith("optimizer"):
            shapes.append(tuple(item.shape))

    content.visititems(see)
    return Manifest(None, (), scales=False, shapes=tuple(sorted(shapes)))


def _of_config(text: str | bytes, weights: h5py.File, path: Path) -> Manifest:
    if len(text) > LONGEST:
        raise UserError(
            f"{path} has a configuration of more than {LONGEST >> 20} MB, which no model has: save it again"
        )
    config = json.loads(text)
    _check(config, "the model", path, allowed=known_classes(PARTS), top=True)
    _check_widths(
        config, "the model", path, max((side for shape in _of_weights(weights).shapes for side in shape), default=0)
    )
    layers = tuple(_layers(config))
    before: list[str] = []
    for kind, _ in layers:
        if "Conv" in kind or "Dense" in kind:
            break
        before.append(kind)
    return Manifest(_input_shape(config, path), layers, scales=bool(SCALING & set(before)))


def _layers(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for layer in _listed(model):
        if layer["class_name"] in MODELS:
            yield from _layers(layer)
        else:
            yield layer["class_name"], layer["config"].get("name") or layer.get("name", "")


def _listed(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of a model; older files have a bare list in the place of a sequential model's configuration."""
    content = model["config"]
    return content if isinstance(content, list) else content["layers"]


def _input_shape(model: dict[str, Any], path: Path) -> tuple[int | None, ...]:
    """Of one image; raises where there is none, or more than one input."""
    content, layers = model["config"], _listed(model)
    first = layers[0]
    if isinstance(content, dict) and "input_layers" in content:
        named, returned = (_names(content[key]) for key in ("input_layers", "output_layers"))
        for names, what in ((named, "input"), (returned, "output")):
            if len(names) != 1:
                raise UserError(f"{path} has {len(names)} {what}s ({', '.join(names)}): a model of one image has one")
        first = next(layer for layer in layers if layer.get("name", layer["config"].get("name")) == named[0])
    if first["class_name"] in MODELS:
        return _input_shape(first, path)
    built = content.get("build_input_shape") if isinstance(content, dict) else None
    shape = first["config"].get("batch_shape") or first["config"].get("batch_input_shape") or built
    if not shape:
        raise UserError(f"{path} does not say what it takes: build it with an Input layer, and save it again")
    if len(shape) not in (3, 4):
        raise UserError(f"{path} takes {tuple(shape[1:])}, not images of (height, width, channels)")
    if max(side or 0 for side in shape[1:]) > WIDEST:
        raise UserError(f"{path} takes images of {tuple(shape[1:])}, but sides of at most {WIDEST} are read")
    return tuple(shape[1:])


def _names(tensors: Any) -> list[str]:
    """Of the layers that tensors come from, in whatever they are nested."""
    if isinstance(tensors, dict):
        return [name for part in tensors.values() for name in _names(part)]
    if isinstance(tensors, list) and tensors and isinstance(tensors[0], str):
        return [tensors[0]]
    return [name for part in tensors for name in _names(part)]


def _check(value: Any, layer: str, path: Path, *, allowed: frozenset[str], top: bool = False) -> None:
    """Walk through all of a configuration."""
    if isinstance(value, list):
        for part in value:
            _check(part, layer, path, allowed=allowed)
    if not isinstance(value, dict):
        return
    if isinstance(kind := value.get("class_name"), str):
        content = value.get("config")
        layer = (content.get("name") or layer) if isinstance(content, dict) else layer
        _check_class(kind, value, str(layer), path, allowed)
        if isinstance(content, dict) and content.get("data_format") == "channels_first":
            raise UserError(f"{path}: layer {layer} takes channels first, which processors do not: convert the model")
    for name, part in value.items():
        if name == "compile_config":
            if not top:  # Keras compiles what is inside another model even where it is told not to
                _check(part, layer, path, allowed=allowed | known_classes(COMPILED))
            continue
        _check(part, layer, path, allowed=allowed)


def _check_widths(value: Any, layer: str, path: Path, widest: int) -> None:
    """Check that no layer is wider than the widest weights: Keras would fill the memory before it looked at them."""
    if isinstance(value, list):
        for part in value:
            _check_widths(part, layer, path, widest)
    if isinstance(value, dict):
        layer = str(value.get("name") or layer)
        for name, part in value.items():
            said = part if isinstance(part, list) else [part]
            if name in WIDTHS and any(isinstance(number, int) and number > widest for number in said):
                raise UserError(
                    f"{path}: layer {layer} has {name} {part}, but there are no such weights: save it again"
                )
            _check_widths(part, layer, path, widest)


def _check_class(kind: str, value: dict[str, Any], layer: str, path: Path, allowed: frozenset[str]) -> None:
    module, registered = value.get("module"), value.get("registered_name")
    if kind in RUNS_CODE:
        raise UserError(
            f"{path}: layer {layer} is a {kind}, which may run code from the file: replace it and save again"
        )
    if kind in VALUES:
        return
    own = module is None or any(
        str(module) == name or str(module).startswith(f"{name}.") for name in ("keras", "tensorflow.keras", "tf_keras")
    )
    if kind == "function":
        kind, own = str(value.get("config")), own or module == "builtins"
        registered = None if registered == "function" else registered
    plain = registered in (None, kind)
    if plain and own and (kind in allowed | MODELS or (kind in ARITHMETIC and "ops" in str(module))):
        return
    what = f"{kind if plain else registered} of {module or 'an unnamed module'}"
    raise UserError(f"{path}: layer {layer} needs {what}, which is no layer of Keras: replace it and save again")


@cache
def known_classes(parts: tuple[str, ...]) -> frozenset[str]:
    """What the installed Keras calls its own, read off its files: importing it would take seconds."""
    spec = find_spec("keras")
    assert spec is not None
    assert spec.origin is not None
    names = set()
    for part in parts:
        tree = ast.parse(Path(spec.origin).with_name(part).joinpath("__init__.py").read_bytes())
        imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
        names |= {alias.asname or alias.name for node in imported for alias in node.names}
    return frozenset(names - RUNS_CODE - {"deserialize", "serialize", "get"})
