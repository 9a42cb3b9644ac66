"""Two at once: in one clone, with one DVC cache, with one store of cells; in all a hundred times."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Study, make_study
from tally import Faults, repeats
from test_memory import compute
from test_repro import REPRO, start, template, tiny  # noqa: F401

from transfer.running.memory import Memory

pytestmark = pytest.mark.fault("Two at once")
PLAIN = ("dvc", "repro")
CLONES, CACHES, STORES = 40, 20, 18  # repeats, the second for each command; two more are whole studies
NOBODY, DAEMON = 65534, 1
TURNS = 40


def whole(cache: Path) -> bool:
    """Whether the content of everything in a DVC cache has the digest that is its name."""
    objects = [path for path in (cache / "files/md5").rglob("*") if path.is_file()]
    assert objects
    return all(
        hashlib.md5(path.read_bytes()).hexdigest() == (path.parent.name + path.name).removesuffix(".dir")
        for path in objects
    )


def both(command: tuple[str, ...], *studies: Study) -> None:
    """The same in each folder at once, with success, but for what DVC says of a record that another DVC has taken."""
    processes = [start(study, *command) for study in studies]
    printed = [process.communicate(timeout=600)[0] for process in processes]
    for study, process, text in zip(studies, processes, printed, strict=True):
        if process.returncode and command == PLAIN:
            assert "No such file or directory" in text.splitlines()[-1], text
            assert "/runs/" in text.splitlines()[-1], text
            study.run(*command)
        else:
            assert process.returncode == 0, text


def anew(study: Study) -> None:
    """As before the first run, but for what DVC has in its cache."""
    for name in ("a", "b", "dvc.lock"):
        (study.root / name).unlink(missing_ok=True)


def change(study: Study, turn: int) -> None:
    """Two stages whose commands DVC has never seen."""
    text = study.read("dvc.yaml").decode()
    (study.root / "dvc.yaml").write_text(text.replace("python -c", f"python -W ignore -X dev{turn}=1 -c"))


def test_two_make_repro_in_one_clone(
    tiny: Study,  # noqa: F811
    faults: Faults,
    pytestconfig: pytest.Config,
) -> None:
    original = tiny.read("dvc.yaml")
    for turn in range(repeats(pytestconfig, CLONES)):
        with faults("two make repro in one clone"):
            (tiny.root / "dvc.yaml").write_bytes(original)
            change(tiny, turn)
            anew(tiny)
            both(REPRO, tiny, tiny)
            assert (tiny.read("a"), tiny.read("b")) == (b"1", b"12")
            assert tiny.read("dvc.lock").count(b"md5: c4ca4238a0b923820dcc509a6f75849b") == 2
            assert whole(tiny.root / ".dvc/cache")
    assert tiny.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


@pytest.mark.parametrize("command", [PLAIN, REPRO], ids=["dvc repro", "make repro"])
def test_two_clones_with_one_dvc_cache(
    command: tuple[str, ...],
    tmp_path: Path,
    template: Study,  # noqa: F811
    faults: Faults,
    pytestconfig: pytest.Config,
) -> None:
    clones = [Study(Path(shutil.copytree(template.root, tmp_path / name, symlinks=True))) for name in ("one", "two")]
    for clone in clones:
        clone.run("dvc", "cache", "dir", str(tmp_path / "cache"))
    original, name = clones[0].read("dvc.yaml"), "dvc repro" if command == PLAIN else "make repro"
    for turn in range(repeats(pytestconfig, CACHES)):
        with faults(f"two clones with one DVC cache: {name}"):
            for place, clone in enumerate(clones):
                (clone.root / "dvc.yaml").write_bytes(original)
                change(clone, turn if turn % 2 else 2 * turn + place)  # the same in both, or in each another
                anew(clone)
            both(command, *clones)
            for clone in clones:
                assert (clone.read("a"), clone.read("b")) == (b"1", b"12")
            assert turn % 2 == 0 or clones[0].read("dvc.lock") == clones[1].read("dvc.lock")
            assert whole(tmp_path / "cache")
    for clone in clones:
        assert clone.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_two_whole_studies_with_one_dvc_cache(tmp_path: Path, faults: Faults) -> None:
    studies = [make_study(tmp_path / name / "study") for name in ("one", "two")]
    for study in studies:
        study.run("dvc", "cache", "dir", str(tmp_path / "cache"))
    for seeds in (2, 3):
        with faults("two whole studies with one DVC cache"):
            for study in studies:
                study.set(split__seeds=seeds)
            both(PLAIN, *studies)
            for name in ("dvc.lock", "results/cells.csv", "results/report.html"):
                assert studies[0].read(name) == studies[1].read(name)
            assert whole(tmp_path / "cache")


def use(memory: Memory, user: int, mask: int, seed: int) -> None:
    """Keep and recall results as a user; what comes back must be what was kept."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    os.umask(mask)
    rng = np.random.default_rng(seed)
    for key in rng.integers(6, size=TURNS).tolist():
        found = memory.recall(f"{key:032}")
        assert found is None or (found["array"] == key).all(), found
        memory.keep(f"{key:032}", {"array": np.full(30_000, key)})
        memory.trim()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter; those of pytest are for its own user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root may be two users")
def test_two_users_with_one_store_of_cells(shared: Path, faults: Faults, pytestconfig: pytest.Config) -> None:
    (shared / "stages").mkdir()
    (shared / "stages/a.py").write_text("")
    cells = shared / ".cache/cells"
    cells.mkdir(parents=True)
    cells.chmod(0o777)
    memory = compute(1).memory(shared / "stages/a.py")
    memory.trim()  # with what it imports, which these users may not read where it lies
    context = multiprocessing.get_context("fork")
    for turn in range(repeats(pytestconfig, STORES)):
        with faults("two users with one store of cells"):
            mask = (0o022, 0o077)[turn % 2]
            users = [context.Process(target=use, args=(memory, user, mask, turn)) for user in (NOBODY, DAEMON)]
            for process in users:
                process.start()
            for process in users:
                process.join(120)
            assert [process.exitcode for process in users] == [0, 0]
            assert not list(cells.glob(".*"))
