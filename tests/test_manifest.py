"""What a model file says of itself; and that what could run code, lead elsewhere or fill the memory is refused.

`tests/faults/models.py` and `tests/faults/fuzzing.py` try many more such files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from conftest import ROOT, refused

from transfer.models import manifest
from transfer.models.backend import keras
from transfer.models.manifest import CONFIG, WEIGHTS, read_manifest
from transfer.models.model_file import Params
from transfer.models.pretrained import load_pretrained

layers = keras.layers


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same model as `.keras`, as `.h5`, and its weights alone."""
    folder = tmp_path_factory.mktemp("good")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="inside")], name="inner")
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(2, activation="softmax", name="told")(x))
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
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


def change_config(good: Path, folder: Path, suffix: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the model whose configuration is another."""
    path = folder / f"changed{suffix}"
    if suffix == ".keras":

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
    inside = config["config"]["layers"]
    found = [layer for layer in inside if layer["config"].get("name") == name]
    return found[0] if found else named(next(layer for layer in inside if layer["config"]["name"] == "inner"), name)


def params(path: Path) -> Params:
    return Params(model=str(path), network="none", range="auto", layers="auto")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_tells_its_input_and_its_layers_those_inside_others_too(good: Path, name: str) -> None:
    told = read_manifest(good / name)
    assert told.input_shape == (8, 8, 3)
    assert told.scales
    assert not told.weights_only
    kinds = [kind for kind, _ in told.layers if kind != "InputLayer"]
    assert kinds == ["Rescaling", "Conv2D", "GlobalAveragePooling2D", "Dense"]
    assert {"inside", "told"} <= {name for _, name in told.layers}


def test_weights_alone_tell_their_shapes(good: Path) -> None:
    told = read_manifest(good / "model.weights.h5")
    assert told.weights_only
    assert told.shapes == ((2,), (2,), (2, 2), (3, 3, 3, 2))


def test_reading_imports_neither_keras_nor_tensorflow(good: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from transfer.models import model_file\n"
        f"for path in Path({str(good)!r}).iterdir(): model_file.image_shape(model_file.Params(model=str(path), "
        "network='ResNet50', range='auto', layers='auto'))\n"
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


EVIL = {"module": "evil", "class_name": "Evil", "config": {"name": "innocent"}, "registered_name": "Custom>Evil"}
FUNCTION = {"module": "evil", "class_name": "function", "config": "touch", "registered_name": "touch"}
EACH = {"module": "keras.layers", "class_name": "TimeDistributed", "config": {"name": "each", "layer": EVIL}}
CODE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a custom layer": lambda config: named(config, "told").update(EVIL),
    "a custom layer inside a model": lambda config: named(config, "inside").update(EVIL),
    "a custom layer inside a layer": lambda config: named(config, "told").update(EACH),
    "a custom activation": lambda config: named(config, "told")["config"].update(activation=FUNCTION),
    "a custom model": lambda config: config.update(class_name="Evil", module="evil"),
    "a saved model": lambda config: named(config, "told").update(class_name="TFSMLayer"),
    "a pickle": lambda config: named(config, "told").update(class_name="TorchModuleWrapper"),
    "a pickled function": lambda config: named(config, "told").update(class_name="Lambda"),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("what", CODE)
def test_code_is_refused_in_one_line_and_never_runs(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, suffix: str
) -> None:
    (tmp_path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    monkeypatch.syspath_prepend(tmp_path)
    path = change_config(good, tmp_path, suffix, CODE[what])
    for read in (read_manifest, lambda path: load_pretrained(params(path), (8, 8, 3))):
        refused(lambda read=read: read(path), f"changed{suffix}: layer ")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("member", ["../out", "/out", "..\\out", "C:\\out", "assets/../../out", "link"])
def test_a_member_that_leads_out_of_the_archive_is_refused(good: Path, tmp_path: Path, member: str) -> None:
    path = change_archive(good / "model.keras", tmp_path / "a.keras", lambda _: None)
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo(member)
        entry.external_attr = 0o120777 << 16 if member == "link" else 0
        archive.writestr(entry, "/etc/passwd")
    refused(lambda: read_manifest(path), "leads out of the archive")


def outside(file: h5py.File, other: Path) -> None:
    file["x"] = h5py.ExternalLink(str(other), "/x")


def external(file: h5py.File, other: Path) -> None:
    other.write_bytes(bytes(8))
    file.create_dataset("x", (2,), "f4", external=[(str(other), 0, 8)])


def huge(file: h5py.File, _: Path) -> None:
    file.create_dataset("x", (5 << 30,), "i1", chunks=(1 << 20,))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (outside, "a link at /x"),
        (external, "keeps the numbers of /x in another file"),
        (huge, "holds 5.0 GB, but at most 4"),
    ],
)
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_weights_that_lead_elsewhere_or_are_too_large_are_refused(
    good: Path, tmp_path: Path, spoil: Callable[[h5py.File, Path], None], words: str, name: str
) -> None:
    path = inside = tmp_path / name
    path.write_bytes((good / name).read_bytes())
    if name == "model.keras":
        inside = tmp_path / "weights"
        with zipfile.ZipFile(path) as archive:
            inside.write_bytes(archive.read(WEIGHTS))
    with h5py.File(inside, "a") as file:
        spoil(file, tmp_path / "other")
    if inside != path:
        change_archive(good / name, path, lambda members: members.update({WEIGHTS: inside.read_bytes()}))
    refused(lambda: read_manifest(path), words)


def test_what_says_it_is_too_large_is_not_read(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = change_config(good, tmp_path, ".h5", lambda config: config.update(more="x" * (1 << 20)))
    monkeypatch.setattr(manifest, "LONGEST", 1 << 20)
    refused(lambda: read_manifest(path), "has a configuration of more than 1 MB")
    monkeypatch.setattr(manifest, "LARGEST", 1 << 10)
    path = change_archive(good / "model.keras", tmp_path / "a.keras", lambda _: None)
    refused(lambda: read_manifest(path), "but at most 4 are read")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("told", "units", 10**9, "layer told has units 1000000000, but there are no such weights"),
        ("inside", "kernel_size", [3, 10**6], "layer inside has kernel_size "),
        ("", "batch_shape", [None, 60_000, 60_000, 3], "images of (60000, 60000, 3), but sides of at most 2048"),
        ("inside", "data_format", "channels_first", "layer inside takes channels first"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_before_keras_makes_it(
    good: Path, tmp_path: Path, suffix: str, name: str, key: str, value: Any, words: str
) -> None:
    def change(config: dict[str, Any]) -> None:
        layer = named(config, name) if name else config["config"]["layers"][0]
        layer["config"][key] = value

    refused(lambda: read_manifest(change_config(good, tmp_path, suffix, change)), words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.keras", None, "is missing: put the model there"),
        ("a.keras", b"", "is empty: name a .keras or .h5 file"),
        ("a.h5", b"<html>503</html>", "is no model file"),
        ("a.keras", b"\x89HDF\r\n\x1a\n", "is a .h5 file by its content: rename it to a.h5"),
        ("a.h5", b"PK\x03\x04", "is a .keras file by its content"),
        ("a.keras", b"PK\x03\x04", "cannot be read as a model"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "cannot be read as a model"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(lambda: read_manifest(tmp_path / name), words)


def test_other_archives_and_models_of_something_else_than_one_image_are_refused(tmp_path: Path) -> None:
    one, two = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("word/document.xml", "")
    refused(lambda: read_manifest(tmp_path / "a.keras"), "has no config.json")
    for number, (model, words) in enumerate(
        (
            (keras.Model([one, two], layers.Add()([one, two])), "has 2 inputs"),
            (keras.Model(one, [one, layers.ReLU()(one)]), "has 2 outputs"),
            (keras.Sequential([keras.Input((8,)), layers.Dense(2)]), "takes (8,), not images"),
        )
    ):
        model.save(path := tmp_path / f"{number}.keras")
        refused(lambda path=path: read_manifest(path), words)


def test_layers_of_keras_are_known_but_for_those_that_run_code() -> None:
    known = manifest.known_classes(manifest.PARTS)
    assert {"Conv2D", "DepthwiseConv2D", "BatchNormalization", "GlorotUniform", "L2", "MaxNorm", "relu"} <= known
    assert not known & manifest.RUNS_CODE
