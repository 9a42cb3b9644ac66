"""Arrays and models that are damaged, enormous, or hold code, through the commands that read them."""

# ruff: noqa: F811  # `good` is a fixture of another module
from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import Study, make_study, refused
from images import measured, one_line
from small_models import FORM, SIDES, write_sides
from tally import Faults
from test_manifest import CODE, change_archive, change_config, good  # noqa: F401

from transfer.basics.console import UserError
from transfer.networks.about import About, write_about
from transfer.networks.backend import keras
from transfer.networks.manifest import CONFIG, WEIGHTS, read_manifest
from transfer.networks.models import load_model

pytestmark = [
    pytest.mark.fault("Arrays and models"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's pipes and counts of memory"),
]
KINDS = {".keras": "a .keras file", ".h5": "an .h5 file"}
MEMORY = 1000  # MB, of which TensorFlow takes half where it is imported
SECONDS = 100
PLANTED = ["a custom layer", "a custom initializer", "a custom layer inside a model", "a saved model", "a pickle"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study without its first run; whoever imports `evil` there leaves a file called `ran`."""
    made = make_study(tmp_path_factory.mktemp("models") / "study")
    (made.root / "evil.py").write_text(f"open({str(made.root / 'ran')!r}, 'w')")
    return made


def a_lambda(path: Path, marker: Path) -> Path:
    """A model with a layer that makes a file whenever it runs, as Keras itself saves it."""
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Lambda(lambda x, path=str(marker): (__import__("pathlib").Path(path).touch(), x)[1])
    keras.Model(image, layer(image)).save(path)
    marker.unlink()
    return path


def climbing(good: Path, path: Path) -> Path:
    return change_archive(good / "model.keras", path, lambda members: members.update({"../../ran": b""}))


def planted(study: Study, good: Path, folder: Path, suffix: str) -> dict[str, Path]:
    """Files of models with code in them, by what it is."""
    files = {}
    for number, what in enumerate(PLANTED):
        files[what] = change_config(good, folder, suffix, CODE[what]).rename(folder / f"{number}{suffix}")
    files["a Lambda layer"] = a_lambda(folder / f"lambda{suffix}", study.root / "ran")
    if suffix == ".keras":
        files["a path that climbs out of the archive"] = climbing(good, folder / "climbing.keras")
    return files


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_no_code_in_a_source_model_runs(
    study: Study,
    good: Path,
    tmp_path: Path,
    suffix: str,
    faults: Faults,
) -> None:
    for what, path in planted(study, good, tmp_path, suffix).items():
        study.set(source__model=str(path), data__source__name="none", source__range="0-1")
        for module in ("commands.repro", "stages.convert", "stages.pretrain"):
            with faults(f"{what} in {KINDS[suffix]}"):
                done = study.run(sys.executable, "-m", module, code=2)
                one_line(done.stderr, path.name)
                assert not (study.root / "ran").exists()
    study.run("git", "checkout", "-q", "params.yaml")


def test_no_code_in_a_model_that_was_taken_away_runs(
    study: Study,
    good: Path,
    tmp_path: Path,
    faults: Faults,
) -> None:
    image = study.root / "image.png"
    image.write_bytes(b"")
    for what, path in planted(study, good, tmp_path, ".keras").items():
        write_about(path, About("end_to_end", 3, SIDES, FORM.to_text()))
        alone = tmp_path / f"alone-{path.stem}"
        alone.mkdir()
        path = path.rename(alone / path.name)
        for command in (
            ["predict", "--model", str(path), str(image)],
            ["serve", "--models", str(alone), "--port", "0"],
            ["export", "--model", str(path), "--format", "tflite", "--output", str(tmp_path / "out")],
        ):
            with faults(f"{what} in a .keras file"):
                done = study.run(sys.executable, "-m", "commands", *command, code=2)
                one_line(done.stderr, path.name)
                assert not (study.root / "ran").exists()
                assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", CODE)
def test_no_code_in_a_model_of_the_study_runs(
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    faults: Faults,
) -> None:
    """The stages load `models/source.keras` by the function that is called here."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "keras_evil.py").write_text((tmp_path / "evil.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    path = change_config(good, tmp_path, ".keras", CODE[what])
    with faults("code in models/source.keras, put there between two stages"):
        try:
            load_model(path)
        except UserError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert not (tmp_path / "ran").exists()


def declared_member(path: Path, name: str, size: int = 10 << 30) -> None:
    """Let a member of a zip file say that it unpacks to 10 GB."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(name.encode()) - 46  # in the list of members at the end
    assert content[entry : entry + 4] == b"PK\x01\x02"
    extra = struct.pack("<HHQ", 1, 8, size)
    content[entry + 24 : entry + 28] = b"\xff" * 4
    content[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    place = entry + 46 + len(name)
    content[place:place] = extra
    end = content.rindex(b"PK\x05\x06")
    (length,) = struct.unpack_from("<I", content, end + 12)
    content[end + 12 : end + 16] = struct.pack("<I", length + len(extra))
    path.write_bytes(content)


def deep(members: dict[str, bytes]) -> None:
    members[CONFIG] = b"[" * 1_000_000


def long(members: dict[str, bytes]) -> None:
    members[CONFIG] = b"[" + b"[]," * 30_000_000 + b"[]]"


def wide(config: dict[str, Any]) -> None:
    config["config"]["layers"][-1]["config"]["units"] = 1 << 31


def large(config: dict[str, Any]) -> None:
    for layer in config["config"]["layers"][:1]:
        layer["config"]["batch_shape"] = [None, 60_000, 60_000, 3]


def chunk(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for number in range(10):
            file.create_dataset(f"x{number}", (1,), "f4", maxshape=(None,), chunks=(1 << 28,), compression="gzip")


def dataset(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("x", (10 << 30,), "i1", chunks=(1 << 20,))


def packed(good: Path, path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """A changed `.keras` file whose members are compressed."""
    change_archive(good / "model.keras", path, change)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def test_a_model_that_says_it_is_enormous_is_refused_before_memory_is_taken(
    study: Study,
    good: Path,
    tmp_path: Path,
    faults: Faults,
) -> None:
    files: dict[str, tuple[Path, str]] = {}
    for name in (WEIGHTS, CONFIG):
        path = change_archive(good / "model.keras", tmp_path / f"member-{name}.keras", lambda _: None)
        declared_member(path, name)
        files[f"10 GB declared of {name} in a .keras file"] = path, "holds 10.0 GB, but at most 4 are read"
    for what, spoil in (("10 GB declared", dataset), ("10 GB of chunks declared", chunk)):
        path = tmp_path / f"{spoil.__name__}.h5"
        path.write_bytes((good / "model.h5").read_bytes())
        spoil(path)
        files[f"{what} in an .h5 file"] = path, "GB, but at most 4 are read"
    files["a configuration that unpacks to 90 MB"] = packed(good, tmp_path / "long.keras", long), "of more than 16 MB"
    files["a configuration a million levels deep"] = packed(good, tmp_path / "deep.keras", deep), "cannot be read as a"
    for suffix in (".keras", ".h5"):
        for what, edit, words in (
            ("a layer of 2 billion units", wide, "but there are no such weights"),
            ("images of 60,000 × 60,000 pixels", large, "sides of at most 2048 are read"),
        ):
            path = change_config(good, tmp_path, suffix, edit).rename(tmp_path / f"{edit.__name__}{suffix}")
            files[f"{what} in {KINDS[suffix]}"] = path, words
    for what, (path, words) in files.items():
        with faults(what):
            study.set(source__model=str(path), data__source__name="none", source__range="0-1")
            line, memory = measured(study, "stages.convert", code=2)
            one_line(line, path.name, words)
            assert memory < MEMORY
    study.run("git", "checkout", "-q", "params.yaml")


def test_a_pipe_in_the_place_of_a_model_is_one_line(tmp_path: Path, faults: Faults) -> None:
    os.mkfifo(tmp_path / "a.keras")
    with faults("a pipe in the place of a model"):
        signal.alarm(20)  # in place of waiting for ever
        try:
            refused(lambda: read_manifest(tmp_path / "a.keras"), "a.keras is no file")
        finally:
            signal.alarm(0)


def test_an_array_file_that_says_it_is_enormous_is_refused_before_memory_is_taken(
    study: Study, tmp_path: Path, faults: Faults
) -> None:
    for what, images, words in (
        ("10 GB declared by an array", (10 << 20, 32, 32), "images has 10.0 GB, but may have 8"),
        ("7 GB declared by an array of four images", (7 << 20, 32, 32), "not of the size that it states"),
    ):
        with faults(what):
            path = tmp_path / "own.npz"
            with zipfile.ZipFile(path, "w") as archive:
                for name, shape in (("images", images), ("labels", (4,))):
                    with archive.open(f"{name}.npy", "w") as stream:
                        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(stream, header)
                        stream.write(bytes(4))
            study.set(data__target__name="npz", data__target__path=str(path), data__target__classes="all")
            line, memory = measured(study, "stages.convert", code=2)
            one_line(line, "own.npz", words)
            assert memory < MEMORY
    study.run("git", "checkout", "-q", "params.yaml")


class Bomb:
    """What leaves a marker where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "an array of pickled objects": (
        lambda root: {"labels": np.array([Bomb(root / "ran")] * 4, object)},
        "Python objects",
    ),
    "images of another shape": (lambda _: {"images": np.zeros((4, 3), np.uint8)}, "images has the shape 4 × 3"),
    "labels of another shape": (lambda _: {"labels": np.zeros((4, 2), int)}, "labels has the shape 4 × 2"),
    "fewer labels than images": (lambda _: {"labels": [0, 1, 0]}, "must have one entry for each of 4 images"),
    "labels that are floats": (lambda _: {"labels": [0.0, 1.0, 0.0, 1.0]}, "labels is of type float64"),
    "pixels that are NaN": (lambda _: {"images": np.full((4, 8, 8), np.nan)}, "floats that are not from 0 to 1"),
    "pixels beyond their range": (lambda _: {"images": np.full((4, 8, 8), 255.0)}, "floats that are not from 0 to 1"),
    "one class only": (lambda _: {"labels": [7, 7, 7, 7]}, "only one class, 7"),
    "signs that are none": (
        lambda _: {"labels": np.full(4, 0xFFFF_FFFF, np.uint32).view("<U1")},
        "labels holds what is no text",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_an_array_file_that_cannot_be_used_is_one_line(study: Study, what: str, faults: Faults) -> None:
    make, words = BAD[what]
    path = study.root / "own.npz"
    arrays = {"images": np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8), "labels": [0, 1, 0, 1]}
    np.savez(path, **arrays | make(study.root))
    study.set(data__target__name="npz", data__target__path="own.npz", data__target__classes="all")
    with faults(what):
        done = study.run(sys.executable, "-m", "stages.convert", code=2)
        one_line(done.stderr, "own.npz", words)
        assert not (study.root / "ran").exists()
    study.run("git", "checkout", "-q", "params.yaml")


def test_labels_may_be_any_integers(study: Study, faults: Faults) -> None:
    labels = [-1, 2**63 - 1, -1, 2**63 - 1]
    np.savez(study.root / "own.npz", images=np.zeros((4, 8, 8), np.uint8), labels=labels)
    study.set(data__target__name="npz", data__target__path="own.npz", data__target__classes="all")
    with faults("labels beyond the number of classes, which are names"):
        study.run(sys.executable, "-m", "stages.convert")
        assert np.load(study.root / "data/images/target/classes.npy").tolist() == ["-1", str(2**63 - 1)]
    study.run("git", "checkout", "-q", "params.yaml")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_that_is_cut_off_is_one_line(
    study: Study,
    good: Path,
    tmp_path: Path,
    suffix: str,
    faults: Faults,
) -> None:
    content = (good / f"model{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for left in (0, 3, 100, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:left])
        study.set(source__model=str(path), data__source__name="none", source__range="0-1")
        with faults(f"{KINDS[suffix]} that is cut off"):
            one_line(study.run(sys.executable, "-m", "stages.convert", code=2).stderr, path.name)
    study.run("git", "checkout", "-q", "params.yaml")


def test_a_shipped_model_that_is_cut_off_is_one_line(tmp_path: Path, faults: Faults) -> None:
    path = write_sides(tmp_path / "model.keras")
    content = path.read_bytes()
    for left in (0, 100, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:left])
        command = [sys.executable, "-m", "commands", "predict", "--model", str(path), str(tmp_path / "x.png")]
        with faults("a .keras file that is cut off"):
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == 2
            one_line(done.stderr, path.name)
