"""Files of arrays and models that an attacker wrote, or that are damaged: refused in one line; no code in them runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from common import one_line
from conftest import ROOT, Study, make_study, refused
from small_models import PREPROCESSING, SIDES

from transfer.console import UserError
from transfer.data.folders import read_npz
from transfer.files import read_array, read_arrays, write_arrays
from transfer.models.backend import keras
from transfer.models.manifest import CONFIG
from transfer.models.metadata import Metadata, write_metadata
from transfer.models.model_file import Params
from transfer.models.networks import load_model
from transfer.models.pretrained import load_pretrained
from transfer.training.cache import RunCache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's pipes and limits of memory")
ROOM = 2 << 30  # bytes of memory beside what the process has already
MARKER = "marker"  # a file that attackers' code leaves in the current folder
SUFFIXES = [".keras", ".h5"]


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(MARKER).absolute(),)


@pytest.fixture(autouse=True)
def unharmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, with little memory: at the end the attacker's code must not have left its marker."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    Path(MARKER).unlink()  # so it would show
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert not list(tmp_path.rglob(MARKER))


# --- Arrays ----------------------------------------------------------------------------------------------------------

GIANT = "{'descr': '<f4', 'fortran_order': False, 'shape': (2684354560,)}"  # 10 GB
SIZELESS = GIANT.replace("<f4", "<U0")  # which NumPy would give a sign each


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def stated(header: str) -> bytes:
    line = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + bytes(64)


def altered(path: Path, content: bytes, how: int = zipfile.ZIP_STORED, name: str = "") -> None:
    """Put something in the place of an archive's first array, under its name or another."""
    with zipfile.ZipFile(path) as old:
        members = {member: old.read(member) for member in old.namelist()}
    first = next(iter(members))
    with zipfile.ZipFile(path, "w", how) as new:
        for member, part in (members | {first: content}).items():
            new.writestr(name or member if member == first else member, part)


def overlapping(path: Path) -> None:
    """Many entries for the same bytes of the file, together far more than it has."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    many = bytes(content[start : content.index(b"PK\x01\x02", start + 4)]) * 5000
    end = content[-22:-10] + len(many).to_bytes(4, "little") + start.to_bytes(4, "little") + b"\0\0"
    end[8:10] = end[10:12] = (5000).to_bytes(2, "little")
    path.write_bytes(content[:start] + many + end)


ATTACKS: dict[str, Callable[[Path], object]] = {
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "an array of pickled objects": lambda path: altered(path, npy(np.array([Bomb()], dtype=object))),
    "an array of records with objects": lambda path: altered(path, npy(np.array([(Bomb(),)], dtype=[("a", "O")]))),
    "a header that declares 10 GB": lambda path: altered(path, stated(GIANT)),
    "a header that is code": lambda path: altered(path, stated(f"__import__('pathlib').Path('{MARKER}').touch()")),
    "a header that nests without end": lambda path: altered(path, stated("(" * 110)),
    "a header of thousands of signs": lambda path: altered(path, stated("-" * 9000)),
    "a header that declares entries of no size": lambda path: altered(path, stated(SIZELESS)),
    "a zip bomb": lambda path: altered(path, npy(np.zeros(1 << 25, np.uint8)), zipfile.ZIP_DEFLATED),
    "entries that overlap": overlapping,
    "a name that climbs": lambda path: altered(path, npy(np.zeros(2)), name=f"../../{MARKER}"),
    "a pipe that nobody writes to": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to an endless file": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a file that is cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
}
ARRAYS = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array([0, 1, 0, 1])}


@pytest.mark.parametrize("what", ATTACKS)
def test_a_hostile_file_of_arrays_is_refused(what: str) -> None:
    """Between stages, of one's own images, and among the remembered runs."""
    path, cache = Path("x.npz"), RunCache(partial(write_arrays), 10, Path("runs"))
    write_arrays(path, **ARRAYS)
    cache.write("task", ARRAYS)
    assert len(read_npz(path, "own")[0]) == len(read_arrays(path)["images"]) == len(cache.read("task")["images"])
    ATTACKS[what](path)
    refused(lambda: read_npz(path, "own"), "own")
    refused(lambda: read_arrays(path, "images", "labels"), "x.npz cannot be read")
    ATTACKS[what](cache.path("task"))
    kept = cache.read("task")
    assert kept is None or "images" not in kept


def test_no_code_in_an_npy_file_runs() -> None:
    header = stated(f"__import__('pathlib').Path('{MARKER}').touch()")
    for content in (pickle.dumps(Bomb()), npy(np.array([Bomb()], dtype=object)), header, stated("(" * 110)):
        Path("x.npy").write_bytes(content)
        refused(lambda: read_array(Path("x.npy")), "x.npy cannot be read")


# --- Models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same model as `.keras` and as `.h5`."""
    folder, layers = tmp_path_factory.mktemp("good"), keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="inside")], name="inner")
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(2, activation="softmax", name="told")(x))
    for suffix in SUFFIXES:
        model.save(folder / f"model{suffix}")
    return folder


def change_archive(source: Path, path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """A copy of a `.keras` file with changed members."""
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def change_config(good: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the model, of the kind that the path's suffix says, with another configuration."""
    if path.suffix == ".keras":

        def edit(members: dict[str, bytes]) -> None:
            config = json.loads(members[CONFIG])
            change(config)
            members[CONFIG] = json.dumps(config).encode()

        return change_archive(good / "model.keras", path, edit)
    path.write_bytes((good / "model.h5").read_bytes())
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def named(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A layer of the model, or of the model inside it, by its name."""
    layers = config["config"]["layers"]
    found = [layer for layer in layers if layer["config"].get("name") == name]
    return found[0] if found else named(next(layer for layer in layers if layer["config"]["name"] == "inner"), name)


EVIL = {"module": "evil", "class_name": "Evil", "config": {"name": "innocent"}, "registered_name": "Custom>Evil"}
FUNCTION = {"module": "evil", "class_name": "function", "config": "touch", "registered_name": "touch"}
UNSAFE = {"class_name": "function", "config": "enable_unsafe_deserialization", "module": "keras.config"}
PICKLED = {"class_name": "__lambda__", "config": {"value": "gAM="}}
WRAPPED = {
    "module": "keras.layers",
    "class_name": "TimeDistributed",
    "config": {"name": "each", "layer": EVIL},
    "registered_name": None,
}
CODE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # the layer, what becomes of it and of its values
    "a custom layer": ("told", EVIL, {}),
    "a custom layer inside a model": ("inside", EVIL, {}),
    "a custom layer inside a layer": ("told", WRAPPED, {}),
    "a custom activation": ("told", {}, {"activation": FUNCTION}),
    "a custom initializer": ("told", {}, {"kernel_initializer": EVIL}),
    "a custom regularizer": ("inside", {}, {"kernel_regularizer": EVIL}),
    "a custom quantisation": ("told", {}, {"quantization_config": EVIL}),
    "a custom layer that bears a name of Keras": ("told", {"registered_name": "Custom>Dense"}, {}),
    "a custom model": ("", {"class_name": "Evil", "module": "evil"}, {}),
    "Keras's own switches": ("told", {}, {"activation": UNSAFE}),
    "a module that only begins as Keras does": ("told", {"module": "keras_evil"}, {}),
    "a saved model": ("told", {"class_name": "TFSMLayer"}, {}),
    "a pickle": ("told", {"class_name": "TorchModuleWrapper"}, {}),
    "an operation of TensorFlow": ("told", {"class_name": "TFOpLambda"}, {}),
    "a pickled function": ("told", {"class_name": "Lambda"}, {}),
    "a pickled function as a value": ("told", {}, {"activation": PICKLED}),
    "a file's vocabulary": ("told", {"class_name": "StringLookup"}, {}),
    "a custom loss of a model inside": ("inner", {"compile_config": {"loss": FUNCTION}}, {}),
}


def planted(good: Path, path: Path, what: str) -> Path:
    """A model file with code in it."""
    name, layer, values = CODE[what]

    def plant(config: dict[str, Any]) -> None:
        place = named(config, name) if name else config
        place["config"].update(values)
        place.update(layer)

    return change_config(good, path, plant)


def source(path: Path) -> Params:
    return Params(model=str(path), network="none", range="0-1", layers="auto")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", CODE)
def test_no_code_that_a_model_names_runs(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, suffix: str
) -> None:
    """As somebody's source model, and as a model of the study that was exchanged between two stages."""
    for module in ("evil", "keras_evil"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / MARKER)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    path = planted(good, tmp_path / f"changed{suffix}", what)
    refused(lambda: load_pretrained(source(path), (8, 8, 3)), path.name)
    if suffix == ".keras":
        try:
            load_model(path)  # which may pass over what it does not need
        except UserError as error:
            one_line(f"error: {error}")


def a_lambda(path: Path) -> Path:
    """A model with a layer that makes a file whenever it runs, as Keras itself saves it."""
    image, marker = keras.Input((8, 8, 3)), Path(MARKER).absolute()
    layer = keras.layers.Lambda(lambda x, path=str(marker): (__import__("pathlib").Path(path).touch(), x)[1])
    keras.Model(image, layer(image)).save(path)
    marker.unlink()
    return path


def attackers(good: Path, folder: Path) -> list[Path]:
    """Model files that run code where they can."""
    climbing = change_archive(
        good / "model.keras", folder / "climbing.keras", lambda all_: all_.update({"../../x": b""})
    )
    custom = planted(good, folder / "custom.keras", "a custom layer")
    return [climbing, custom, *(a_lambda(folder / f"lambda{suffix}") for suffix in SUFFIXES)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("models") / "study")


def test_the_stages_run_no_code_of_a_source_model(study: Study, good: Path, tmp_path: Path) -> None:
    (study.root / "evil.py").write_text(f"open({str(tmp_path / MARKER)!r}, 'w')")
    for path in attackers(good, tmp_path):
        study.set(source__model=str(path), data__source__name="none", source__range="0-1")
        one_line(study.run(sys.executable, "-m", "stages.convert", code=2).stderr, path.name)
    for stage in ("check", "pretrain"):
        one_line(study.run(sys.executable, "-m", f"stages.{stage}", code=2).stderr, path.name)


def test_no_command_runs_code_of_a_model_that_was_taken_away(good: Path, tmp_path: Path) -> None:
    Path("image.png").write_bytes(b"x")
    for number, made in enumerate(path for path in attackers(good, tmp_path) if path.suffix == ".keras"):
        write_metadata(made, Metadata("end_to_end", 3, SIDES, PREPROCESSING.to_text()))
        (tmp_path / str(number)).mkdir()
        path = made.rename(tmp_path / str(number) / made.name)
        for arguments in (
            ["predict", "--model", str(path), str(tmp_path / "image.png")],
            ["serve", "--models", str(path.parent), "--port", "0"],
            ["export", "--model", str(path), "--format", "tflite", "--output", str(tmp_path / "out")],
        ):
            command = [sys.executable, "-m", "transfer.cli", *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
            assert done.returncode == 2
            one_line(done.stderr, path.name)
            assert not (tmp_path / "out").exists()
