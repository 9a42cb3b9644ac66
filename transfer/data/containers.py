"""Take arrays out of the files they are handed round in: IDX, npy, PNG, gzip, xz, zip, tar and Debian packages.

Nothing is unpickled or written to disk, and no memory is taken on the word of a header: sizes are known beforehand.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import math
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO

import numpy as np

MARGIN = 1 << 16  # bytes that headers, a CSV's first line or an archive's other files may add
LARGEST_DICTIONARY = 128 << 20  # bytes of memory that unpacking xz may take; its highest preset takes 65 MiB


class ContentError(Exception):
    """A file does not hold what it should; the text is one short line that says why."""


@dataclass(frozen=True)
class Part:
    """An array as it was published: a name, its shape, and the SHA-256 of it as a raw IDX file of unsigned bytes."""

    file: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """Number of pixels or labels, which is the number of bytes too."""
        return math.prod(self.shape)


def fingerprint(array: np.ndarray) -> str:
    """The SHA-256 of a uint8 array written as a raw IDX file."""
    digest = hashlib.sha256(idx_header(array.shape))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def idx_header(shape: tuple[int, ...]) -> bytes:
    """Header of an IDX file of unsigned bytes: two zeros, type 8, the rank, then each size as 32 bits, big-endian."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def decode_idx(content: bytes, part: Part) -> np.ndarray:
    """Read an IDX file, raw or gzipped, that must hold a uint8 array of the part's shape.

    Raises:
        ContentError: if it is no such file, declares another shape, or its length is not what it declares.
    """
    if content[:2] == b"\x1f\x8b":
        content = gunzip(content, part.size + MARGIN, part.file)
    header = idx_header(part.shape)
    if content[:4] != header[:4]:
        raise ContentError(
            f"{part.file} is no IDX file of {len(part.shape)} dimensions: it starts with {content[:4]!r}"
        )
    if content[: len(header)] != header:
        raise ContentError(f"{part.file} declares another shape than {part.shape}")
    return as_array(content[len(header) :], part)


def decode_npy(content: bytes, part: Part) -> np.ndarray:
    """Take the data of an npy file as uint8 of the part's shape.

    Its header is skipped, not parsed: numpy would allocate what it declares, and the digest tells more than it could.

    Raises:
        ContentError: if it is no npy file or its length is another.
    """
    if content[:6] != b"\x93NUMPY":
        raise ContentError(f"no npy file in place of {part.file}")
    width = 2 if content[6:7] == b"\x01" else 4  # of the header's length, by version
    return as_array(content[8 + width + int.from_bytes(content[8 : 8 + width], "little") :], part)


def decode_png(content: bytes, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """Read a PNG file of 8-bit RGB, (height, width, 3) uint8, which must be of that shape.

    Raises:
        ContentError: if it is of another shape or has other channels. What Pillow raises where it is no PNG file.
    """
    from PIL import Image  # not needed by most sets

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if image.mode != "RGB" or (image.height, image.width, 3) != shape:
            size = f"{image.width} × {image.height}, {image.mode}"
            raise ContentError(f"{name} is an image of {size}, not {shape[1]} × {shape[0]}, RGB")
        return np.asarray(image)


def as_array(content: bytes, part: Part) -> np.ndarray:
    """See bytes as a uint8 array of the part's shape; a `ContentError` if they are too many or too few."""
    if len(content) != part.size:
        raise ContentError(f"{part.file} has {len(content)} bytes of data, not {part.size}")
    return np.frombuffer(content, dtype=np.uint8).reshape(part.shape)


def gunzip(content: bytes, longest: int, name: str) -> bytes:
    """Unpack gzip to at most `longest` bytes; a `ContentError` if there are more, or it is damaged or no gzip."""
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            return _bounded(stream.read(longest + 1), longest, name)
    except (OSError, EOFError, zlib.error):
        raise ContentError(f"{name} is cut short or no gzip file") from None


def unxz(content: bytes, longest: int, name: str) -> bytes:
    """Unpack xz to at most `longest` bytes; a `ContentError` if there are more, or it is damaged or no xz."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_DICTIONARY)
    try:
        unpacked = _bounded(unpacker.decompress(content, longest + 1), longest, name)
    except lzma.LZMAError:
        raise ContentError(f"{name} is damaged or no xz file") from None
    if not unpacker.eof:
        raise ContentError(f"{name} is cut short")
    return unpacked


def _bounded(unpacked: bytes, longest: int, name: str) -> bytes:
    if len(unpacked) > longest:
        raise ContentError(f"{name} unpacks to more bytes than it can have")
    return unpacked


def open_zip_member(archive: zipfile.ZipFile, name: str, longest: int) -> IO[bytes]:
    """Open a member that unpacks to at most `longest` bytes; read it with a bound, as only `read(n)` keeps to one.

    Raises:
        ContentError: if it declares more, or is packed by a method that cannot be unpacked within a bound. A `KeyError`
            where there is none of that name, and what `zipfile` raises where it is damaged.
    """
    member = archive.getinfo(name)
    if member.file_size > longest:
        raise ContentError(f"{name} unpacks to {member.file_size} bytes, more than it can have")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ContentError(f"{name} is compressed by a method that cannot be unpacked within a bound")
    return archive.open(member)


def open_tar(content: bytes) -> tarfile.TarFile:
    """Open a tar archive that was unpacked whole, within a bound: no size that its headers declare is believed."""
    return tarfile.open(fileobj=io.BytesIO(content), mode="r:")


def tar_member(archive: tarfile.TarFile, name: str, longest: int) -> bytes:
    """Read the regular file of exactly that name, of at most `longest` bytes.

    Raises:
        ContentError: if it is larger or no regular file. A `KeyError` where there is none of that name.
    """
    member = archive.getmember(name)
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None:
        raise ContentError(f"{name} is no regular file")
    return _bounded(stream.read(longest + 1), longest, name)


def deb_data(content: bytes, longest: int) -> bytes:
    """Unpack the files of a Debian package, which is an ar archive of three members, to a tar archive; deb(5).

    Raises:
        ContentError: if it is no Debian package, packed by anything but gzip or xz, or unpacks to more than `longest`.
    """
    if content[:8] != b"!<arch>\n":
        raise ContentError("no Debian package")
    start = 8
    while header := content[start : start + 60]:
        name, size = header[:16].decode("ascii").strip(" /"), int(header[48:58])
        start += 60
        if size < 0 or header[58:] != b"`\n" or len(content) < start + size:
            raise ContentError("the Debian package is cut short or damaged")
        if name.startswith("data.tar"):
            unpack = {"data.tar.gz": gunzip, "data.tar.xz": unxz}.get(name)
            if unpack is None:
                raise ContentError(f"{name} is packed by a method that is not known here")
            return unpack(content[start : start + size], longest, name)
        start += size + size % 2
    raise ContentError("the Debian package has no data")
