from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import flipped, refused
from tally import Faults

from transfer.basics.arrays import axes, read_record, write_arrays
from transfer.basics.files import digest
from transfer.mapped import SUMS, Mapped, Rows, read_folder, write_folder, write_side_by_side

ARRAY = np.random.default_rng(0).normal(size=(1000, 30)).astype(np.float32)


@pytest.fixture
def mapped(tmp_path: Path) -> Mapped:
    np.save(tmp_path / "a.npy", ARRAY)
    return Mapped(tmp_path / "a.npy")


def test_rows_are_those_of_the_file(mapped: Mapped) -> None:
    assert (len(mapped), mapped.shape) == (1000, (1000, 30))
    for rows in (slice(3, 7), slice(None), np.array([5, 2, 2])):
        assert (mapped[rows] == ARRAY[rows]).all()
        assert type(mapped[rows]) is np.ndarray


def test_another_process_is_sent_the_path_and_not_the_array(mapped: Mapped) -> None:
    mapped[:].sum()  # nor after it was read
    sent = pickle.dumps(mapped)
    assert len(sent) < 1000
    assert (pickle.loads(sent)[:] == ARRAY).all()


def header(text: str) -> bytes:
    """An `.npy` file that states something and holds 8 numbers."""
    line = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + bytes(32)


@pytest.mark.fault("Arrays and models")
def test_an_npy_file_that_is_damaged_hostile_or_something_else(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "a.npy"
    refused(lambda: len(Mapped(path)), "a.npy is missing: `dvc repro` makes it")
    np.save(path, ARRAY)
    whole = path.read_bytes()
    np.save(path, np.array([Bomb()], dtype=object))
    objects, archive = path.read_bytes(), io.BytesIO()
    np.savez(archive, x=ARRAY)
    stated = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
    for what, wrong in {
        "an empty .npy file": b"",
        "a page of HTML as .npy": b"<html>503</html>",
        "an .npy file cut off": whole[:-1],
        "an .npy file with more behind": whole + b"x",
        "an .npy file of pickled objects": objects,
        "a pickle as .npy": pickle.dumps(Bomb()),
        "an npz file as .npy": archive.getvalue(),
        "an .npy file that declares 10 GB": header(stated % "(2684354560,)"),
        "an .npy file of a size below zero": header(stated % "(-8,)"),
        "an .npy file whose size overflows": header(stated % "(4294967296, 4294967296, 4294967296)"),
        "an .npy file with code for its header": header("__import__('os').abort()"),
        "an .npy file whose header nests without end": header("[" * 100),
    }.items():
        with faults(what):
            path.write_bytes(wrong)
            refused(lambda: Mapped(path)[:5], "a.npy cannot be read")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("a pickle was loaded",)


@dataclass(frozen=True)
class Record:
    images: Rows = axes("float32", "images", "width")
    labels: np.ndarray = axes("int32", "images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "f", {"images": ARRAY, "labels": np.arange(1000, dtype=np.int32)})
    return tmp_path / "f"


def test_a_folder_s_checksums_are_those_that_everybody_can_check(folder: Path) -> None:
    lines = (folder / SUMS).read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in ("images.npy", "labels.npy")
    ]
    record = read_folder(folder, Record, "images")
    assert record.images.content() == digest(folder / "images.npy")


@pytest.mark.fault("Corruption")
def test_a_flipped_bit_in_a_folder_of_arrays_is_named(folder: Path, faults: Faults) -> None:
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for bit in (0, *rng.integers(0, len(whole) * 8, 20), len(whole) * 8 - 1):
            with faults("a bit flipped in a folder of arrays"):
                path.write_bytes(flipped(whole, int(bit)))
                refused(lambda: read_folder(folder, Record, "images"), str(folder))
        path.write_bytes(whole)
    assert read_folder(folder, Record, "images").labels[5] == 5


@pytest.mark.fault("Arrays and models")
def test_arrays_that_are_not_what_they_are_declared_to_be(tmp_path: Path, faults: Faults) -> None:
    right = {"images": ARRAY, "labels": np.arange(1000, dtype=np.int32)}
    for what, wrong in {
        "arrays of another type": right | {"images": ARRAY.astype(np.float64)},
        "arrays of different lengths": right | {"labels": right["labels"][:-1]},
        "arrays with an axis too many": right | {"labels": right["labels"][None]},
        "text in the place of numbers": right | {"labels": right["labels"].astype(str)},
    }.items():
        with faults(what):
            write_folder(tmp_path / "f", wrong)
            refused(lambda: read_folder(tmp_path / "f", Record, "images"), "f cannot be read (")
            write_arrays(tmp_path / "f.npz", **wrong)
            refused(lambda: read_record(tmp_path / "f.npz", Record), "f.npz cannot be read (")


def test_arrays_written_batch_by_batch_have_the_bytes_of_arrays_saved_whole(tmp_path: Path) -> None:
    images = (ARRAY[:, :16] * 9).astype(np.uint8).reshape(1000, 2, 2, 4)
    batches = ((ARRAY[start : start + 300], images[start : start + 300]) for start in range(0, 1000, 300))
    write_side_by_side(tmp_path, ["a", "b"], batches, 1000)
    for name, array in (("a", ARRAY), ("b", images)):
        whole = io.BytesIO()
        np.save(whole, array)
        assert (tmp_path / f"{name}.npy").read_bytes() == whole.getvalue()
