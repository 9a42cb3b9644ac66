from __future__ import annotations

import gzip
import io
import json
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import mnist_files as files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transfer.basics.arrays import write_arrays
from transfer.basics.console import UserError
from transfer.datasets import containers, originals
from transfer.datasets.containers import (
    ContentError,
    Part,
    deb_data,
    decode_png,
    fingerprint,
    gunzip,
    open_tar,
    tar_member,
    unxz,
)
from transfer.datasets.originals import ORIGINALS, Original, read_original
from transfer.datasets.sets import SETS, read_set

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
DRAWINGS = RNG.integers(0, 1001, (3, 2, 784)) / 1000


def drawings(values: np.ndarray = DRAWINGS) -> bytes:
    members = {
        f"package/src/drawings/{name}.ndjson.gz": gzip.compress(
            "".join(f"{json.dumps(drawing.tolist())}\n" for drawing in drawings).encode()
        )
        for name, drawings in zip(NAMES, values, strict=True)
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


def small(name: str, arrays: files.Arrays) -> Original:
    parts = {key: Part(key, array.shape, fingerprint(array)) for key, array in arrays.items()}
    return replace(ORIGINALS[name], parts=parts)


FASHION = replace(ORIGINALS["fashion_mnist"], parts=files.PARTS)
SKETCHES = replace(
    small("quickdraw", {"train_images": np.rint(255 * DRAWINGS).astype(np.uint8).reshape(6, 28, 28)}),
    readers={"npm": partial(originals.read_drawings, classes=NAMES)},
)
CIFAR = small("cifar10", COLOURS)
CONTAINERS: dict[str, tuple[Original, str, bytes]] = {
    "Debian package": (FASHION, "apt", deb()),
    "drawings": (SKETCHES, "npm", drawings()),
    "PNG files": (CIFAR, "npm", cifar_npm()),
    "binary version": (CIFAR, "tar", cifar_tar()),
}


def read(name: str, content: bytes, folder: Path) -> files.Arrays:
    original, kind, _ = CONTAINERS[name]
    return read_original(original, kind, files.write(folder, {"package.file": content}))


# --- What containers hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [(lzma.compress, "xz"), (gzip.compress, "gz")], ids=["xz", "gz"])
def test_a_debian_package_gives_the_four_arrays(tmp_path: Path, pack) -> None:
    assert files.equal(read("Debian package", deb(files.ARRAYS, *pack), tmp_path), files.ARRAYS)


def test_drawings_become_bytes_and_are_labelled_by_the_order_of_the_classes(tmp_path: Path) -> None:
    arrays = read("drawings", drawings(), tmp_path)
    assert arrays["train_images"].dtype == np.uint8
    assert arrays["train_images"].shape == (6, 28, 28)
    assert np.abs(arrays["train_images"].reshape(3, 2, 784) / 255 - DRAWINGS).max() <= 0.5 / 255 + 1e-9
    assert arrays["train_labels"].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["PNG files", "binary version"])
def test_both_copies_of_cifar_give_the_same_arrays(tmp_path: Path, name: str) -> None:
    assert files.equal(read(name, CONTAINERS[name][2], tmp_path), COLOURS)


@pytest.mark.parametrize("change", range(4))
def test_one_changed_value_is_noticed(tmp_path: Path, change: int) -> None:
    for name, make, arrays in (
        ("Debian package", deb, files.ARRAYS),
        ("PNG files", cifar_npm, COLOURS),
        ("binary version", cifar_tar, COLOURS),
    ):
        key = list(arrays)[change]
        changed = {**arrays, key: arrays[key].copy()}
        changed[key].flat[-1] ^= 1
        with pytest.raises(ContentError, match="has SHA-256"):
            read(name, make(changed), tmp_path)
    with pytest.raises(ContentError, match="has SHA-256"):
        read("drawings", drawings(DRAWINGS[:, ::-1]), tmp_path)


@pytest.mark.parametrize(
    "value", [-0.001, 1.001, float("nan"), float("inf")], ids=["below", "above", "not a number", "infinite"]
)
def test_drawings_of_anything_but_shades_are_refused(tmp_path: Path, value: float) -> None:
    wrong = DRAWINGS.copy()
    wrong[1, 1, 5] = value
    with pytest.raises(ContentError, match="ant is not 2 drawings of 784 numbers from 0 to 1"):
        read("drawings", drawings(wrong), tmp_path)


@pytest.mark.parametrize(
    "lines", [b"[0]\n[0]\n", b"[" * 9000, b"", b'{"a": 1}\n' * 2, b'["x"]\n' * 2, b"[[0.5]]\n" * 2]
)
def test_lines_of_anything_but_drawings_are_refused(tmp_path: Path, lines: bytes) -> None:
    members = {f"package/src/drawings/{name}.ndjson.gz": gzip.compress(lines) for name in NAMES}
    with pytest.raises(ContentError) as caught:
        read("drawings", files.tarball(members), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [b"9", b"[300]", b"[-1]", b'["a"]', b"[1, 2]", b"{}", b"99999999999", b"[1.5]"])
def test_labels_of_anything_but_classes_are_refused(tmp_path: Path, labels: bytes) -> None:
    members = {f"package/{name}.png": png(images.reshape(2, 16, 3)) for name, images, _ in batches(COLOURS)}
    members |= {f"package/{half}_lables.json": labels for half in ("train", "test")}
    with pytest.raises(ContentError):
        read("PNG files", files.tarball(members), tmp_path)


def test_a_number_in_the_place_of_labels_allocates_nothing(tmp_path: Path) -> None:
    members = {f"package/{name}.png": png(images.reshape(2, 16, 3)) for name, images, _ in batches(COLOURS)}
    with pytest.raises(ContentError, match="'int' object is not iterable"):
        read("PNG files", files.tarball(members | {"package/train_lables.json": b"10"}), tmp_path)


# --- Hostile containers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
@given(data=st.data())
def test_damage_is_refused_by_one_error_or_harmless(name: str, data: st.DataObject, tmp_path_factory) -> None:
    original, _, whole = CONTAINERS[name]
    content = bytearray(whole)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read(name, bytes(content), tmp_path_factory.getbasetemp())
    except ContentError:
        return
    originals.verify(arrays, original.parts)


@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"!<arch>\n", b"\x1f\x8b\x08\x00", b"\x89PNG\r\n"]))
def test_arbitrary_bytes_raise_nothing_else(content: bytes, start: bytes, tmp_path_factory) -> None:
    for name in CONTAINERS:
        with pytest.raises(ContentError):
            read(name, start + content, tmp_path_factory.getbasetemp())


@pytest.mark.fault("Arrays and models", "an archive that unpacks to more than it may")
def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    zeros = bytes(30 << 20)
    for unpack, bomb in ((gunzip, gzip.compress(zeros, 1)), (unxz, lzma.compress(zeros, preset=0))):
        assert unpack(bomb, len(zeros), "x") == zeros
        with pytest.raises(ContentError, match="x unpacks to more"):
            unpack(bomb, len(zeros) - 1, "x")
    for name in ("drawings", "PNG files", "binary version"):
        with pytest.raises(ContentError, match="unpacks to more"):
            read(name, gzip.compress(zeros, 1), tmp_path)
    packages = ar({"data.tar.xz": lzma.compress(zeros, preset=0)}), ar({"data.tar.gz": gzip.compress(zeros, 1)})
    for content in packages:
        with pytest.raises(ContentError, match="unpacks to more"):
            read("Debian package", content, tmp_path)
    inner = {f"package/src/drawings/{name}.ndjson.gz": gzip.compress(zeros, 9) for name in NAMES}
    with pytest.raises(ContentError, match="unpacks to more"):
        read("drawings", files.tarball(inner), tmp_path)


def test_xz_that_asks_for_more_memory_than_is_meant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = lzma.compress(b"little", preset=6)  # with a dictionary of 8 MiB
    assert unxz(content, 100, "x") == b"little"
    monkeypatch.setattr(containers, "LARGEST_DICTIONARY", 1 << 20)
    with pytest.raises(ContentError, match="damaged or no xz"):
        unxz(content, 100, "x")


def test_xz_that_is_cut_short_is_noticed() -> None:
    with pytest.raises(ContentError, match="x is cut short"):
        unxz(lzma.compress(bytes(1000))[:-9], 1000, "x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04", "no Debian package"),
        (b"!<arch>\n", "has no data"),
        (ar({"debian-binary": b"2.0\n"}), "has no data"),
        (ar({"data.tar.zst": b"1234"}), "data.tar.zst is packed by a method that is not known here"),
        (ar({"data.tar.xz": b"1234"})[:-3], "cut short or damaged"),
        (ar({"data.tar.xz": b"1234"}).replace(b"`\n", b"!\n"), "cut short or damaged"),
        (b"!<arch>\n" + b"debian-binary   0           0     0     100644  -10       `\n", "cut short or damaged"),
    ],
)
def test_what_is_no_debian_package_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ContentError, match=words):
        deb_data(content, 1000)


@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 16), np.uint8), np.zeros((2, 16, 4), np.uint8), np.zeros((16, 2, 3), np.uint8)],
    ids=["grey", "transparent", "turned"],
)
def test_an_image_of_another_form_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ContentError, match="not 16 × 2, RGB"):
        decode_png(png(image), (2, 16, 3), "x.png")


def test_an_image_that_declares_a_large_size_takes_no_memory() -> None:
    content = bytearray(png(np.zeros((2, 16, 3), np.uint8)))
    content[16:24] = (9000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(ContentError, match="an image of 9000 × 9000"):
        decode_png(bytes(content), (2, 16, 3), "x.png")


def test_only_png_is_read_in_the_place_of_png(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((2, 16, 3), np.uint8)).save(stream, "BMP")
    members = {f"package/{name}.png": stream.getvalue() for name, *_ in batches(COLOURS)}
    with pytest.raises(ContentError, match="cannot identify image file"):
        read("PNG files", files.tarball(members), tmp_path)


def test_members_must_be_regular_files_and_within_their_bound() -> None:
    content = gzip.decompress(files.tarball({"a": b"12345"}))
    with open_tar(content) as archive:
        assert tar_member(archive, "a", 5) == b"12345"
        with pytest.raises(ContentError, match="a unpacks to more"):
            tar_member(archive, "a", 4)
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


@contextmanager
def refused(words: str) -> Iterator[None]:
    with pytest.raises(UserError, match=words) as caught:
        yield
    assert "\n" not in str(caught.value)


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


def test_a_data_set_that_is_missing_or_something_else_is_one_line(tmp_path: Path) -> None:
    with refused(r"mnist\.npz is missing: `dvc repro` makes it"):
        read_set("mnist", tmp_path)
    ten = np.arange(10, dtype=np.uint8)
    for shape, labels, words in (
        ((28, 27), ten, r"\(images \(10, 28, 27\) uint8\): delete it and run `dvc repro`"),
        ((28, 28, 1), ten, "images"),
        ((28, 28), ten + 1, "labels from 1 to 10"),
        ((28, 28), ten.astype(np.int8) - 1, "labels from -1 to 8"),
        ((28, 28), ten / 2, r"labels \(10,\) float64"),
        ((28, 28), ten[:, None], r"labels \(10, 1\)"),
    ):
        write_set(tmp_path, "mnist", shape, labels)
        with refused(words):
            read_set("mnist", tmp_path)
    write_set(tmp_path, "mnist", (28, 28), ten, halves=("train",))
    with refused("cannot be read"):
        read_set("mnist", tmp_path)


def test_digits_come_with_scikit_learn_and_fill_the_range_of_bytes(tmp_path: Path) -> None:
    raw = read_set("digits", tmp_path / "nowhere")
    assert raw.train_images.shape == (1797, 8, 8, 1)
    assert raw.train_images.dtype == np.uint8
    assert np.unique(raw.train_images).tolist() == [round(level * 255 / 16) for level in range(17)]
    assert np.bincount(raw.train_labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert raw.test_images is None


def test_the_table_needs_no_network_code_and_no_heavy_library() -> None:
    code = (
        "import sys, transfer.datasets.sets; sys.exit(bool({'requests', 'pooch', 'sklearn', 'PIL'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
