"""Files of arrays that an attacker wrote: each is refused in one line or passed over, and no code in it ever runs."""

from __future__ import annotations

import io
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from tally import Faults
from test_evaluation import predictions
from test_memory import ALL, compute, entries, log_ship, run, same
from test_memory import fit_and_log as fit
from test_strategies import TARGET

from transfer.basics.arrays import read_arrays, write_arrays
from transfer.basics.console import UserError
from transfer.basics.params import Section
from transfer.cells import run_cells
from transfer.checkpoints import Checkpoint
from transfer.distribute import Team
from transfer.networks.layers import read_network
from transfer.predictions import read_predictions, write_predictions
from transfer.running.memory import FOLDER

pytestmark = pytest.mark.fault("Arrays and models")

ROOM = 2 << 30  # bytes of memory beside what the process has already
GIANT = "{'descr': '<f4', 'fortran_order': False, 'shape': (2684354560,)}"  # 10 GB
SIZELESS = GIANT.replace("<f4", "<U0")  # which NumPy would give a sign each
MARKER = Path("marker")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (MARKER.absolute(),)


@pytest.fixture(autouse=True)
def unharmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with little memory: at the end the attacker's code must not have left its marker."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert MARKER.exists()  # so it would show
    MARKER.unlink()
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert not list(tmp_path.rglob(MARKER.name))


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def stated(header: str) -> bytes:
    line = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + bytes(64)


def altered(path: Path, content: bytes, how: int = zipfile.ZIP_STORED, name: str = "") -> None:
    """Put something in the place of an archive's first array, under its name or another."""
    with zipfile.ZipFile(path) as old:
        members = {member: old.read(member) for member in old.namelist()}
    first = next(iter(members))
    members = {name or member if member == first else member: part for member, part in members.items()}
    members[name or first] = content
    with zipfile.ZipFile(path, "w", how) as new:
        for member, part in members.items():
            new.writestr(member, part)


def overlapping(path: Path) -> None:
    """Many entries for the same bytes of the file, together far more than it has."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start, count = archive.start_dir, len(archive.namelist())
    central = bytes(content[start:-22])
    entry = central[: len(central) // count] if count == 1 else central[: central.index(b"PK\x01\x02", 4)]
    many = entry * 5000
    end = content[-22:-10] + len(many).to_bytes(4, "little") + start.to_bytes(4, "little") + b"\0\0"
    end[8:10] = end[10:12] = (5000).to_bytes(2, "little")
    path.write_bytes(content[:start] + many + end)


ATTACKS: dict[str, Callable[[Path], object]] = {
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "an array of pickled objects": lambda path: altered(path, npy(np.array([Bomb()], dtype=object))),
    "an array of records with objects": lambda path: altered(path, npy(np.array([(Bomb(),)], dtype=[("a", "O")]))),
    "a header that declares 10 GB": lambda path: altered(path, stated(GIANT)),
    "a header that is code": lambda path: altered(path, stated("__import__('pathlib').Path('marker').touch()")),
    "a header that nests without end": lambda path: altered(path, stated("(" * 110)),
    "a header of thousands of signs": lambda path: altered(path, stated("-" * 9000)),
    "a header that declares entries of no size": lambda path: altered(path, stated(SIZELESS)),
    "a zip bomb": lambda path: altered(path, npy(np.zeros(1 << 25, np.uint8)), zipfile.ZIP_DEFLATED),
    "entries that overlap": overlapping,
    "a name that climbs": lambda path: altered(path, npy(np.zeros(2)), name="../../marker"),
    "a pipe that nobody writes to": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to an endless file": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_hostile_predictions_are_refused(what: str, faults: Faults) -> None:
    path = Path("x.npz")
    write_predictions(path, predictions([(1, 0), (1, 1)]))
    read_predictions(path)
    with faults(f"predictions: {what}"):
        ATTACKS[what](path)
        refused(lambda: read_predictions(path), "x.npz cannot be read")


@pytest.mark.parametrize("what", ATTACKS)
def test_a_hostile_source_network_is_refused(what: str, faults: Faults) -> None:
    path = Path("x.npz")
    write_arrays(path, layers=np.array("{}"), weight000=np.zeros(3))
    with faults(f"the source network: {what}"):
        ATTACKS[what](path)
        refused(lambda: read_network(path), "x.npz ")


@pytest.mark.parametrize("what", ATTACKS)
def test_a_hostile_checkpoint_is_passed_over(what: str, faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, state = Checkpoint(Path("x.npz"), Team()), [np.zeros(3, np.float32), np.array(1, np.float32)]
    checkpoint.write(state)
    assert checkpoint.read(state)[0] is not state[0]
    with faults(f"a checkpoint: {what}"):
        ATTACKS[what](checkpoint.path)
        assert checkpoint.read(state)[0] is state[0]
        if checkpoint.path.is_file():
            assert "x.npz is damaged: training begins anew" in capsys.readouterr().out


@pytest.fixture
def stage() -> Path:
    """A folder with a stage whose cells are remembered."""
    root = Path.cwd()
    (root / "stages").mkdir()
    (root / "stages/a.py").write_text("import helper\n")
    run(root)
    return root


@pytest.mark.parametrize("what", ATTACKS)
def test_a_hostile_cell_is_a_miss(what: str, stage: Path, faults: Faults) -> None:
    memory = compute().memory(stage / "stages/a.py")
    path = entries(stage)[0]
    assert memory.recall(path.stem)
    with faults(f"a remembered cell: {what}"):
        ATTACKS[what](path)
        assert memory.recall(path.stem) is None
        memory.keep(path.stem, {"x": np.ones(1)})
        assert memory.recall(path.stem)


CELLS: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "probabilities that are no numbers": lambda cell: (
        cell | {"probabilities": cell["probabilities"] * np.float32("nan")}
    ),
    "probabilities that sum to 2": lambda cell: cell | {"probabilities": cell["probabilities"] * 2},
    "probabilities of another class more": lambda cell: cell | {"probabilities": np.eye(3, dtype=np.float32)},
    "probabilities in another shape": lambda cell: cell | {"probabilities": np.array(1, np.float32)},
    "probabilities in another type": lambda cell: cell | {"probabilities": cell["probabilities"].astype(np.float64)},
    "negative counts": lambda cell: cell | {"counts": -cell["counts"]},
    "counts in another shape": lambda cell: cell | {"counts": cell["counts"][None]},
    "weights that are text": lambda cell: cell | {"weight000": np.array("a")},
    "a weight more": lambda cell: cell | {"weight002": np.zeros(1, np.float32)},
    "nothing": lambda _: {},
}


@pytest.mark.parametrize("what", CELLS)
def test_a_cell_of_something_else_is_a_miss(what: str, stage: Path, faults: Faults) -> None:
    cold, _ = run(stage)
    with faults(f"a remembered cell: {what}"):
        for path in entries(stage):
            write_arrays(
                path,
                **CELLS[what](read_arrays(path)),
                **(
                    {}
                    if "key" in read_arrays(path) and CELLS[what](read_arrays(path))
                    else {"key": np.array(path.stem)}
                ),
            )
        again, trained = run(stage)
        assert trained == ALL
        assert same(cold, again)


@pytest.mark.parametrize("what", ["weights of another shape", "probabilities for another image"])
def test_a_cell_that_cannot_be_of_this_study_is_one_line(what: str, stage: Path, faults: Faults) -> None:
    def alter(cell: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if what == "weights of another shape":
            return cell | ({"weight000": cell["weight000"].ravel()} if "weight000" in cell else {})
        return cell | {"probabilities": cell["probabilities"][: -1 if "weight000" in cell else None]}

    how = {"model": Path("model"), "compute": compute(10), "code": stage / "stages/a.py", "label": "x"}
    work = partial(fit, log=str(stage / "log"))
    with faults(f"a remembered cell: {what}"):
        for path in entries(stage):
            write_arrays(path, **alter(read_arrays(path)))
        with pytest.raises(
            UserError, match=r"cells holds a cell that is not of this study: delete it and run"
        ) as caught:
            run_cells(work, log_ship, TARGET, params=Section(), **how)
        assert "\n" not in str(caught.value)


def test_the_pickles_that_an_earlier_release_would_have_read(stage: Path, faults: Faults) -> None:
    with faults("a remembered cell: a pickle of joblib's"):
        for path in entries(stage):
            old = stage / FOLDER / "transfer/running/memory/_result" / path.stem / "output.pkl"
            old.parent.mkdir(parents=True)
            old.write_bytes(pickle.dumps(Bomb()))
            path.unlink()
        assert run(stage)[1] == ALL
        assert not list(stage.rglob("*.pkl"))
