"""Disks that are full: small ones in memory, filled until so much is left, and freed again."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mnist_files
import numpy as np
import pytest
from conftest import ROOT, Study, make_study, mounts, refused
from ruamel.yaml import YAML
from tally import Faults
from test_repro import REPRO, template  # noqa: F401

from transfer.basics.arrays import write_arrays
from transfer.basics.files import unwritten, write_text, write_whole
from transfer.datasets.containers import fingerprint
from transfer.mapped import write_folder, write_side_by_side
from transfer.running.workers import run_in_workers

MADE = ("data", "models", "results", "dvc.lock")
AMOUNT = r"[\d.,]+ (?:bytes|kB|MB)"
LINE = re.compile(
    rf"error: (\S+) cannot be written: it needs more than {AMOUNT}, and (\S+) has {AMOUNT} free: "
    "make room and run again"
)


pytestmark = [pytest.mark.fault("Disk full"), mounts]


class Disk:
    """A disk in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def leave(self, space: int) -> None:
        """Fill it until no more than `space` bytes are free, in whole pages."""
        self.free()
        page = os.statvfs(self.path).f_bsize
        taken = shutil.disk_usage(self.path).free - space // page * page
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, taken)

    def free(self) -> None:
        """Take away what fills it."""
        self.ballast.unlink(missing_ok=True)


Mount = Callable[..., Disk]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts disks for the time of a test: at a folder, with a size, and other options of tmpfs."""
    mounted: list[Path] = []

    def make(path: Path, size: str, *options: str) -> Disk:
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", path], check=True)
        mounted.append(path)
        return Disk(path)

    yield make
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", path], check=True)


def made(root: Path) -> dict[str, bytes]:
    """All that is in a folder; of a study, all that it has made."""
    tops = [root / name for name in MADE if (root / name).exists()] or [root]
    paths = [path for top in tops for path in (top, *top.rglob("*"))]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.is_file()}


def said(printed: str) -> tuple[str, str]:
    """The file that could not be written, and the disk, by the one line that was said."""
    [line] = [line for line in printed.splitlines() if line.startswith("error: ")]
    found = LINE.fullmatch(line)
    assert found, line
    return found[1], found[2]


BIG = np.arange(1 << 19)  # 4 MB
WRITERS: dict[str, Callable[[Path], object]] = {
    "a text": lambda path: write_text(path, "x" * BIG.nbytes),
    "a file of arrays": lambda path: write_arrays(path, small=BIG[:9], big=BIG),
    "a folder of arrays": lambda path: write_folder(path, {"small": BIG[:9], "big": BIG}),
    "a file by a library": lambda path: write_whole(path, lambda partial: partial.write_bytes(BIG.tobytes())),
}


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("space", [0, 40_000, 3_900_000])
def test_a_full_disk_leaves_the_file_that_was_there(
    what: str, space: int, tmp_path: Path, mount: Mount, faults: Faults
) -> None:
    disk = mount(tmp_path / "disk", "16m")
    path = disk.path / "deep" / "made"
    WRITERS[what](path)
    before = made(disk.path)
    with faults(f"where {what} is written"):
        disk.leave(space)
        refused(lambda: WRITERS[what](path), f"{path} cannot be written: ", f"{disk.path} has", "free: make room and")
        disk.free()
        assert made(disk.path) == before
        WRITERS[what](path)
        assert made(disk.path) == before


def test_how_much_is_needed_is_told_where_it_can_be_known(tmp_path: Path, mount: Mount, faults: Faults) -> None:
    disk = mount(tmp_path / "disk", "1m")
    with faults("how much is needed is told"):
        for what in ("a text", "a file of arrays", "a folder of arrays"):
            refused(lambda what=what: WRITERS[what](disk.path / "x"), "needs more than 4.2 MB", "has 1.0 MB free")


def test_an_array_that_does_not_fit_is_not_begun(tmp_path: Path, mount: Mount, faults: Faults) -> None:
    disk = mount(tmp_path / "disk", "1m")
    begun: list[int] = []

    def batches() -> Iterator[list[np.ndarray]]:
        for number in range(100):
            begun.append(number)
            yield [BIG[:5000]]

    def write(partial: Path) -> None:
        partial.mkdir()
        write_side_by_side(partial, ["array"], batches(), 500_000)

    with faults("what batches of an array come to"):
        refused(lambda: write_whole(disk.path / "x", write), "needs more than 4.0 MB", "has 1.0 MB free")
        assert begun == [0]


def test_a_disk_that_can_hold_no_more_files_is_told_from_one_that_is_full(
    tmp_path: Path, mount: Mount, faults: Faults
) -> None:
    disk = mount(tmp_path / "disk", "16m", "nr_inodes=5")
    with faults("no more files, whatever their size"):
        arrays = {f"part{number}": BIG[:9] for number in range(9)}
        refused(lambda: write_folder(disk.path / "x", arrays), "has room for", "more files, whatever their size")
        assert list(disk.path.iterdir()) == []


def test_a_quota_is_told_from_a_full_disk(tmp_path: Path, faults: Faults) -> None:
    with faults("a quota"):
        error = unwritten(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path / "x", 5_000_000)
        assert "it needs more than 5.0 MB, and your quota of /" in str(error)


def test_work_for_worker_processes_that_does_not_fit_is_one_line(
    tmp_path: Path, mount: Mount, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mount(tmp_path / "disk", "1m")
    monkeypatch.setattr("tempfile.tempdir", str(disk.path))
    with faults("where worker processes are handed their work"):
        refused(lambda: list(run_in_workers(BIG.take, [0])), f"and {disk.path} has", "TMPDIR")
        disk.free()
        assert list(run_in_workers(BIG[:9].take, [3], 1)) == [3]


RNG = np.random.default_rng(0)
LARGE = {  # a MNIST of some megabytes, which do not get fewer by compression
    "train_images": RNG.integers(0, 256, (3000, 28, 28), np.uint8),
    "train_labels": RNG.integers(0, 10, 3000, np.uint8),
    "test_images": RNG.integers(0, 256, (500, 28, 28), np.uint8),
    "test_labels": RNG.integers(0, 10, 500, np.uint8),
}
PARTS = {
    name: replace(part, shape=LARGE[name].shape, sha256=fingerprint(LARGE[name]))
    for name, part in mnist_files.PARTS.items()
}
ORIGINALS = {"mnist": replace(mnist_files.ORIGINAL, parts=PARTS)}
FETCH_LARGE = f"""
    import sys
    sys.path[:0] = {[str(ROOT / "tests"), str(ROOT / "tests/faults")]}
    import disk
    download.fetch.__defaults__ = (disk.ORIGINALS,)
"""


class Handler(BaseHTTPRequestHandler):
    """Sends that MNIST."""

    def do_GET(self) -> None:
        content = mnist_files.npz(LARGE)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # whoever has a full disk hangs up
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where that MNIST is served."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/mnist.npz"
        server.shutdown()


def test_a_download_needs_room_in_its_cache_and_in_the_study(
    tmp_path: Path, mount: Mount, address: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, disk = mount(tmp_path / "cache", "16m"), mount(tmp_path / "disk", "32m")
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(cache.path))
    study = make_study(disk.path / "study")
    (study.root / "data/raw/mnist.npz").unlink()
    code = study.root / "stages/download.py"
    code.write_text(code.read_text().replace('"__main__":\n', f'"__main__":{FETCH_LARGE}'))
    stage = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["download"]
    study.edit_yaml("dvc.yaml", lambda content: content["stages"].update(download=stage))
    study.set(download__sources__mnist=[{"npz": address}, {"folder": "nowhere"}])

    def fails(disk: Disk, space: int, file: str) -> None:
        disk.leave(space)
        done = study.run("dvc", "repro", "download", code=None)
        assert done.returncode
        path, full = said(done.stderr)
        assert Path(path).match(file)
        assert full == str(disk.path)
        assert "nowhere" not in done.stdout  # the next source, which would not help
        assert not (study.root / "data/raw").exists()
        disk.free()

    for space in (0, 100_000, 2_000_000):
        with faults("at download, the folder that downloads are kept in"):
            fails(cache, space, f"{cache.path}/*/mnist.npz")
            assert not [path for path in cache.path.rglob("*") if path.is_file()]
    for space in (200_000, 2_500_000):
        with faults("at download, the study's folder"):
            fails(disk, space, "data/raw/mnist.npz")
    assert study.repro("download") == ["download"]
    found = np.load(study.root / "data/raw/mnist.npz")
    assert all((found[name] == array).all() for name, array in LARGE.items())


PLACES: dict[str, tuple[str, str, str, tuple[int, ...]]] = {
    "convert": ("at the conversion of images", "data/images", "", (40_000, 150_000)),
    "pretrain": ("at pretraining", "", "split", (0,)),
    "extract": ("at extraction", "data", "pretrain", (0, 20_000)),
    "dense_head": ("at predictions", "", "extract", (0, 40_000)),
    "report": ("at the report", "results", "evaluate", (0, 300_000)),
}


def test_a_study_ends_with_a_line_where_the_disk_is_full_and_goes_on_when_it_is_not(
    tmp_path: Path, mount: Mount, finished: Study, faults: Faults
) -> None:
    disk = mount(tmp_path / "disk", "64m")
    study, expected = make_study(disk.path / "study"), made(finished.root)
    # Elsewhere, as a full disk may cut DVC's file of locks, which `make repro` mends.
    shutil.move(study.root / ".dvc/tmp", tmp_path / "dvc")
    (study.root / ".dvc/tmp").symlink_to(tmp_path / "dvc")
    for stage, (what, place, before, spaces) in PLACES.items():
        if before:
            study.repro(before)
        for space in spaces:
            with faults(what):
                disk.leave(space)
                done = study.run("dvc", "repro", "--single-item", stage, code=None)
                assert done.returncode
                file, full = said(done.stderr)
                assert file.startswith(place)
                assert full == str(disk.path)
                assert (done.stdout + done.stderr).count("these trainings are not remembered") <= 1
                disk.free()
                there = {name: content for name, content in made(study.root).items() if name != "dvc.lock"}
                assert there.items() <= expected.items()  # what is there is whole
                assert study.run("dvc", "status", "--json", stage).stdout.strip() != "{}"
        assert study.repro("--single-item", stage) == [stage]
    study.repro()
    now = made(study.root)
    locks = [YAML(typ="safe").load(content.pop("dvc.lock")) for content in (now, expected)]
    assert locks[0] == locks[1]  # in another order, as the stages were run one by one
    assert now == expected


def test_a_study_goes_on_without_what_it_could_remember(
    tmp_path: Path, mount: Mount, finished: Study, faults: Faults
) -> None:
    study = Study(tmp_path / "study")
    shutil.copytree(finished.root, study.root, symlinks=True)
    disk, expected = mount(study.root / ".cache", "64m"), made(finished.root)
    for space in (0, 9_000):
        with faults("at the cell store, and where the compiled kernels are kept"):
            disk.leave(space)
            done = study.run("dvc", "repro", "--force", "--single-item", "dense_head")
            assert done.stdout.count("these trainings are not remembered: ") == 1
            assert f"and {disk.path} has" in done.stdout
            assert made(study.root) == expected
    with faults("where parts of the report are kept"):
        study.run("dvc", "repro", "--force", "--single-item", "report")
        assert made(study.root) == expected


def test_make_repro_does_not_try_a_full_disk_again_and_again(
    tmp_path: Path,
    mount: Mount,
    template: Study,  # noqa: F811
    faults: Faults,
) -> None:
    disk = mount(tmp_path / "disk", "4m")
    study = Study(Path(shutil.copytree(template.root, disk.path / "study", symlinks=True)))
    whole = study.read("dvc.lock")
    for left in (0, 4096):
        with faults("DVC's own files, by make repro"):
            for name in ("dvc.lock", ".dvc/tmp/rwlock"):
                (study.root / name).unlink()
            shutil.rmtree(study.root / ".dvc/cache/runs", ignore_errors=True)
            disk.leave(left)
            done = study.run(*REPRO, code=None)
            assert done.returncode
            assert done.stdout.count("Running stage 'first'") <= 2
            assert done.stderr.startswith("ERROR: ")
            disk.free()
            study.run(*REPRO)
            assert study.read("dvc.lock") == whole


def test_dvc_goes_on_when_there_is_room(tmp_path: Path, mount: Mount, finished: Study, faults: Faults) -> None:
    study, expected = make_study(tmp_path / "study"), made(finished.root)
    cache, site = mount(study.root / ".dvc/cache", "16m"), mount(tmp_path / "site", "16m")
    study.run("dvc", "config", "--local", "core.site_cache_dir", str(site.path))
    for disk, what, words in (
        (cache, "where DVC keeps what a stage has made", "No space left on device"),
        (site, "where DVC has its database", "disk I/O error|disk is full"),
    ):
        for space in (0, 60_000):
            with faults(what):
                disk.leave(space)
                done = study.run("dvc", "repro", "convert", code=None)
                disk.free()
                assert done.returncode == 0 or re.search(words, done.stderr)
                study.repro("convert")
                made_now = made(study.root)
                assert {name: made_now[name] for name in expected if name.startswith("data/images/")}.items() <= (
                    expected.items()
                )
                shutil.rmtree(study.root / "data/images")
                shutil.rmtree(study.root / ".dvc/cache/files")
                shutil.rmtree(study.root / ".dvc/cache/runs")
                (study.root / "dvc.lock").unlink()
