"""Files of arrays that an attacker wrote, between stages, of one's own images and among the remembered runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import refused

from transfer.data.npz import list_rows, read_pixels
from transfer.files import read_array, read_arrays, write_arrays
from transfer.training.cache import RunCache

MARKER = "marker"  # a file that attackers' code leaves in the current folder


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(MARKER).absolute(),)


@pytest.fixture(autouse=True)
def unharmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own: at the end the attacker's code must not have left its marker."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    Path(MARKER).unlink()  # so it would show
    yield
    assert not list(tmp_path.rglob(MARKER))


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def altered(path: Path, content: bytes, name: str = "") -> None:
    """Put something in the place of an archive's first array, under its name or another."""
    with zipfile.ZipFile(path) as old:
        members = {member: old.read(member) for member in old.namelist()}
    first = next(iter(members))
    with zipfile.ZipFile(path, "w") as new:
        for member, part in (members | {first: content}).items():
            new.writestr(name or member if member == first else member, part)


CODE = f"__import__('pathlib').Path('{MARKER}').touch()".encode().ljust(117) + b"\n"
HEADER = b"\x93NUMPY\x01\x00" + len(CODE).to_bytes(2, "little") + CODE + bytes(64)
ATTACKS: dict[str, Callable[[Path], object]] = {
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "an array of pickled objects": lambda path: altered(path, npy(np.array([Bomb()], dtype=object))),
    "an array of records with objects": lambda path: altered(path, npy(np.array([(Bomb(),)], dtype=[("a", "O")]))),
    "a header that is code": lambda path: altered(path, HEADER),
    "a name that climbs": lambda path: altered(path, npy(np.zeros(2)), name=f"../../{MARKER}"),
}
ARRAYS = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array([0, 1, 0, 1])}


@pytest.mark.parametrize("what", ATTACKS)
def test_a_hostile_file_of_arrays_is_refused(what: str) -> None:
    path, cache = Path("x.npz"), RunCache(partial(write_arrays), 10, Path("runs"))
    write_arrays(path, **ARRAYS)
    cache.write("task", ARRAYS)
    assert len(read_pixels(path, "own")) == len(read_arrays(path)["images"]) == len(cache.read("task")["images"])
    ATTACKS[what](path)
    refused(lambda: read_pixels(path, "own"), "own")
    refused(lambda: read_arrays(path, "images", "labels"), "x.npz cannot be read")
    ATTACKS[what](cache.path("task"))
    kept = cache.read("task")
    assert kept is None or "images" not in kept
    write_arrays(path, labels=ARRAYS["labels"])
    assert len(list_rows(path, "own")) == 4
    ATTACKS[what](path)
    refused(lambda: list_rows(path, "own"), "own")


def test_no_code_in_an_npy_file_runs() -> None:
    for content in (pickle.dumps(Bomb()), npy(np.array([Bomb()], dtype=object)), HEADER):
        Path("x.npy").write_bytes(content)
        refused(lambda: read_array(Path("x.npy")), "x.npy cannot be read")
