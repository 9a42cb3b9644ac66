"""What a model file says of itself; and that nothing in somebody's file runs code or leads to other files."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from conftest import ROOT, make_study, refused
from model_files import at, change_archive, change_config, section
from small_models import PREPROCESSING, SIDES

from transfer.console import UserError
from transfer.models.backend import keras
from transfer.models.metadata import Metadata, write_metadata
from transfer.models.networks import load_model
from transfer.models.pretrained import load_pretrained
from transfer.models.safety import WEIGHTS, read_model_file

layers = keras.layers
MARKER = "marker"  # a file that attackers' code leaves in the current folder
SUFFIXES = [".keras", ".h5"]


@pytest.fixture(autouse=True)
def unharmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, where the attackers' modules can be imported: at the end none has left its marker."""
    for module in ("evil", "keras_evil"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / MARKER)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob(MARKER))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same model as `.keras`, as `.h5`, and its weights alone."""
    folder = tmp_path_factory.mktemp("good")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="inside")], name="inner")
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(layers.Rescaling(1 / 255, name="rescaling")(image)))
    model = keras.Model(image, layers.Dense(2, activation="softmax", name="told")(x))
    for suffix in (*SUFFIXES, ".weights.h5"):
        save = model.save_weights if "weights" in suffix else model.save
        save(folder / f"model{suffix}")
    return folder


# What a file says


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_tells_what_it_takes_and_which_keras_wrote_it(good: Path, suffix: str) -> None:
    told = read_model_file(good / f"model{suffix}")
    assert told.input_shape == (8, 8, 3)
    assert (told.scale, told.scaled_by) == ("inside", "rescaling")
    assert told.keras_version == keras.__version__


def test_reading_imports_neither_keras_nor_tensorflow(good: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from transfer.models import model_file\n"
        f"for path in Path({str(good)!r}).iterdir(): model_file.image_shape(model_file.Params(model=str(path), "
        "network='ResNet50', range='auto', head='auto', layers='auto'))\n"
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.keras", None, "is missing: put the model there"),
        ("a.pb", b"", "is not a .keras or .h5 file"),
        ("a.keras", b"PK\x03\x04", "cannot be read as a model"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "cannot be read as a model"),
        ("a.h5", b"<html>503</html>", "is not a .keras or .h5 file"),
        ("a.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(lambda: read_model_file(tmp_path / name), words)


def test_a_model_of_a_class_of_its_own_is_refused(good: Path, tmp_path: Path) -> None:
    path = change_config(
        good / "model.h5", tmp_path / "a.h5", lambda config: config.update(class_name="Net", config={})
    )
    refused(lambda: read_model_file(path), "a.h5 is a Net: only sequential and functional models")


def test_other_archives_and_models_of_something_else_than_one_image_are_refused(tmp_path: Path) -> None:
    one, two = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("word/document.xml", "")
    refused(lambda: read_model_file(tmp_path / "a.keras"), "has no config.json")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:  # as Teachable Machine gives them
        archive.writestr("keras_model.h5", "")
        archive.writestr("labels.txt", "")
    refused(lambda: read_model_file(tmp_path / "a.zip"), "is an archive with keras_model.h5: unpack it")
    for number, (model, words) in enumerate(
        (
            (keras.Model([one, two], layers.Add()([one, two])), "has no single input and output"),
            (keras.Model(one, [one, layers.ReLU()(one)]), "has no single input and output"),
            (keras.Sequential([keras.Input((8,)), layers.Dense(2)]), "takes 8, not images"),
            (keras.Sequential([keras.Input((8, 9)), layers.Conv1D(2, 3)]), "takes 8 × 9, not images"),
            (keras.Sequential([keras.Input((None, 9)), layers.LSTM(2)]), "takes any × 9, not images"),
            (keras.Sequential([keras.Input((8, 8, 5)), layers.Conv2D(2, 3)]), "but images have 1 or 3 channels"),
        )
    ):
        model.save(path := tmp_path / f"{number}.keras")
        refused(lambda path=path: load_pretrained(section(path, range="0-1"), (8, 8, 1)), words)


# Exploits


EVIL = {"module": "evil", "class_name": "Evil", "config": {"name": "innocent"}, "registered_name": "Custom>Evil"}
FUNCTION = {"module": "evil", "class_name": "function", "config": "touch", "registered_name": "touch"}
UNSAFE = {"class_name": "function", "config": "enable_unsafe_deserialization", "module": "keras.config"}
PICKLED = {"class_name": "__lambda__", "config": {"value": "gAM="}}
WRAPPED = {"module": "keras.layers", "class_name": "TimeDistributed", "config": {"name": "each", "layer": EVIL}}
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
    "a slice": ("told", {"class_name": "SlicingOpLambda"}, {}),
    "a custom augmentation, which would be left out": ("inside", EVIL | {"class_name": "RandomFlip"}, {}),
    "a custom precision, which would be left out": ("told", {}, {"dtype": EVIL | {"class_name": "Policy"}}),
    "a pickled function inside augmentation": ("inside", {"class_name": "RandomFlip"}, {"factor": PICKLED}),
    "a pickled function": ("told", {"class_name": "Lambda"}, {}),
    "a pickled function as a value": ("told", {}, {"activation": PICKLED}),
    "a file's vocabulary": ("told", {"class_name": "StringLookup"}, {}),
    "a custom loss of a model inside": ("inner", {"compile_config": {"loss": FUNCTION}}, {}),
}


def planted(good: Path, path: Path, what: str) -> Path:
    """A model file with code in it."""
    name, layer, values = CODE[what]

    def plant(config: dict[str, Any]) -> None:
        place = at(config, name) if name else config
        place["config"].update(values)
        place.update(layer)

    return change_config(good / f"model{path.suffix}", path, plant)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", CODE)
def test_code_that_a_model_names_is_refused_in_one_line_and_never_runs(
    good: Path, tmp_path: Path, what: str, suffix: str
) -> None:
    """As somebody's source model, and as a model of the study that was exchanged between two stages."""
    path = planted(good, tmp_path / f"changed{suffix}", what)
    refused(lambda: read_model_file(path), f"changed{suffix}: ")
    refused(lambda: load_pretrained(section(path, range="0-1"), (8, 8, 3)), f"changed{suffix}: ")
    if suffix == ".keras":
        with contextlib.suppress(UserError):
            load_model(path)  # which may pass over what it does not need


def a_lambda(path: Path) -> Path:
    """A model with a layer that makes a file whenever it runs, as Keras itself saves it."""
    image, marker = keras.Input((8, 8, 3)), Path(MARKER).absolute()
    layer = layers.Lambda(lambda x, path=str(marker): (__import__("pathlib").Path(path).touch(), x)[1])
    keras.Model(image, layer(image)).save(path)
    marker.unlink()
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_lambda_never_runs(tmp_path: Path, suffix: str) -> None:
    path = a_lambda(tmp_path / f"evil{suffix}")
    refused(
        lambda: load_pretrained(section(path, range="0-1"), (8, 8, 3)),
        "layer lambda",
        "is a Lambda, which may run code",
    )
    refused(lambda: load_model(path), "cannot be read (Requested the deserialization")


@pytest.mark.parametrize("member", ["../out", "/out", "..\\out", "assets/../../out", "assets/layers/vocabulary.txt"])
def test_a_member_that_is_none_of_a_model_is_refused(good: Path, tmp_path: Path, member: str) -> None:
    path = change_archive(good / "model.keras", tmp_path / "a.keras", {member: b"/etc/passwd"})
    refused(lambda: read_model_file(path), "a.keras contains ", "does not belong in an image model")


def by_link(file: h5py.File, other: Path) -> None:
    file["x"] = h5py.ExternalLink(str(other), "/x")


def by_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("x", (2,), "f4", external=[(str(other), 0, 8)])


def by_view(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (2,))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("spoil", [by_link, by_storage, by_view])
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_weights_that_lead_to_another_file_are_refused(
    good: Path, tmp_path: Path, spoil: Callable[[h5py.File, Path], None], name: str
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
        change_archive(good / name, path, {WEIGHTS: inside.read_bytes()})
    refused(lambda: read_model_file(path), "has a link to other data at x")


def attackers(good: Path, folder: Path) -> list[Path]:
    """Model files that run code where they can."""
    climbing = change_archive(good / "model.keras", folder / "climbing.keras", {"../../x": b""})
    custom = planted(good, folder / "custom.keras", "a custom layer")
    return [climbing, custom, *(a_lambda(folder / f"lambda{suffix}") for suffix in SUFFIXES)]


def one_line(text: str, name: str) -> None:
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    assert name in text


@pytest.mark.slow
def test_the_stages_run_no_code_of_a_source_model(good: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    (study.root / "evil.py").write_text(f"open({str(tmp_path / MARKER)!r}, 'w')")
    for path in attackers(good, tmp_path):
        study.set(source__model=str(path), data__source__name="none", source__range="0-1")
        one_line(study.run(sys.executable, "-m", "stages.convert", code=2).stderr, path.name)
    for stage in ("check", "pretrain"):
        one_line(study.run(sys.executable, "-m", f"stages.{stage}", code=2).stderr, path.name)


@pytest.mark.slow
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
