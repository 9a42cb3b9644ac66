"""Cells on a Ray cluster of two nodes on this machine, which gives what the processes of this machine give."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # which DVC brings
import pytest
import test_strategies
from conftest import ROOT, SMALL, Study, synthetic_digits

from transfer import cnn
from transfer.basics.console import UserError
from transfer.basics.params import parse_section
from transfer.cells import Cell, run_cells
from transfer.networks.engines import Engine
from transfer.networks.layers import fresh_weights, write_network
from transfer.networks.threads import thread_settings
from transfer.predictions import Predictions
from transfer.running import cluster
from transfer.running.cluster import RETRIES, run_on_ray
from transfer.running.compute import Compute
from transfer.strategies import end_to_end
from transfer.target import Draw, Target, few_shot

os.environ |= cluster.SETTINGS  # which Ray reads when it is imported
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no two nodes on one machine, no SIGKILL")
ENVIRONMENT = {  # of the nodes
    "PYTHONPATH": str(ROOT / "tests"),  # and not the library, which must come with the work
    **dict.fromkeys(thread_settings(1), "3"),  # which must not count
}


def add_node(nodes: Any, **how: Any) -> Any:
    """Add a node of one processor to a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        return nodes.add_node(**how)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes."""
    from ray.cluster_utils import Cluster

    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,  # a short path, for sockets
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        found = Cluster()
        add_node(found, include_dashboard=False)
        add_node(found)
        yield found
        found.shutdown()


def source_model(path: Path) -> Path:
    """A source CNN with random weights."""
    architecture = cnn.Params(blocks=SMALL["cnn.blocks"], dense=SMALL["cnn.dense"])
    layers = cnn.layers(architecture, image_shape=(28, 28, 1), classes=5)
    write_network(path, layers, fresh_weights(layers.weights, 0))
    return path


def small_target() -> Target:
    images, labels = synthetic_digits(6, seed=0)
    few = labels < 3
    return few_shot(images[few, :, :, np.newaxis], labels[few].astype(np.int32), [0, 1, 2], [1, 2, 3], 2)


TARGET = small_target()
SCHEDULE = {"steps": 4, "steps_growth": 0.3, "batch": 8, "peak_rate": 0.01, "warmup": 0.1, "beta_1": 0.9, "beta_2": 0.9}
PARAMS = end_to_end.Params(shift=1, **SCHEDULE)


def run_where(
    model: Path, wrap: Callable[[Any], Any] = lambda fit: fit, remember: int = 0, **how: Any
) -> tuple[Predictions, bytes]:
    """Fine-tune all cells end to end; the predictions, and the shipped model."""
    source = model.parent / "source.npz"
    network = partial(end_to_end.network, source, 3, PARAMS, Engine("native"))
    to_predict = TARGET.to_predict(TARGET.images, TARGET.images)
    fit = partial(end_to_end.fit, network=network, images=TARGET.images, to_predict=to_predict, params=PARAMS)
    compute = Compute(
        **{"engine": "local", "address": "", "workers": 0, "distribute": "none", "remember": remember} | how
    )
    ship, code = (
        partial(end_to_end.ship, layers=end_to_end.layers(source, 3), source=source, name="end_to_end"),
        model.parent / "stages" / "end_to_end.py",
    )
    code.parent.mkdir(exist_ok=True)
    code.touch()
    done = run_cells(
        wrap(fit), ship, TARGET, params=PARAMS, model=model, compute=compute, code=code, label=how.get("engine", "")
    )
    return done, model.read_bytes()


def same(a: tuple[Predictions, bytes], b: tuple[Predictions, bytes]) -> bool:
    arrays = ([array.tobytes() for array in vars(done).values()] for done, _ in (a, b))
    return next(arrays) == next(arrays) and a[1] == b[1]


def fit_unless_doomed(draw: Draw, *, fit: Callable[[Draw], Cell], doomed: str, marks: str) -> Cell:
    """Train a cell once both nodes have one; on the node that is to die, never."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    Path(marks, node).touch()
    deadline = time.monotonic() + 60
    while node == doomed or not Path(marks, doomed).exists():
        assert time.monotonic() < deadline, "nobody has killed the node"
        time.sleep(0.05)
    return fit(draw)


def test_a_node_that_dies_costs_only_its_cells_and_no_byte(
    nodes: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source_model(tmp_path / "source.npz")
    local = run_where(tmp_path / "model.keras")
    [node], marks = nodes.worker_nodes, tmp_path / "marks"
    marks.mkdir()

    def kill() -> None:
        while not (marks / node.node_id).exists():
            time.sleep(0.05)
        nodes.remove_node(node, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    capfd.readouterr()
    wrap = partial(partial, fit_unless_doomed, doomed=node.node_id, marks=str(marks))
    far = run_where(tmp_path / "far.keras", lambda fit: wrap(fit=fit), engine="ray", address=nodes.address)
    printed = capfd.readouterr()
    assert len(list(marks.iterdir())) == 2  # the node had begun a cell
    assert not nodes.worker_nodes
    assert same(local, far)
    assert printed.out.splitlines()[0] == "ray: 6 cells of up to 3 shots"
    assert printed.out.splitlines()[-1] == "ray: 6 of 6 cells"
    assert all(line.startswith("ray: ") for line in printed.out.splitlines())
    assert printed.err == ""
    add_node(nodes)


def test_cells_that_were_trained_on_a_cluster_are_remembered_here(
    nodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source_model(tmp_path / "source.npz")
    far = run_where(tmp_path / "model.keras", engine="ray", address=nodes.address, remember=10)
    (tmp_path / "model.keras").unlink()
    near = run_where(tmp_path / "model.keras", remember=10)
    assert "6 of them remembered" in capsys.readouterr().out
    assert same(far, near)


def test_a_real_stage_gives_the_same_files_on_a_ray_of_its_own(finished: Study) -> None:
    made = ["data/predictions/end_to_end.npz", "models/end_to_end.keras", "dvc.lock"]
    before = {name: finished.read(name) for name in made}
    finished.set(compute__engine="ray", compute__remember=0)
    printed = finished.run("dvc", "repro", "--force", "--single-item", "end_to_end").stdout
    assert "end_to_end: 6 of 6 cells" in printed
    assert {name: finished.read(name) for name in made} == before
    finished.run("git", "checkout", "-q", "params.yaml")
    assert finished.run("git", "status", "--porcelain").stdout == ""


def look_around(_: int) -> tuple[list[str], set[str | None], set[int]]:
    settings = {os.environ.get(name) for name in thread_settings(1)}
    ours = [path.name for path in ROOT.iterdir() if Path(path.name).exists() and path.name != ".cache"]  # of the engine
    return ours, settings, test_strategies.blas_threads(0)


def test_a_worker_has_one_thread_and_the_library_alone(nodes: Any) -> None:
    assert list(run_on_ray(look_around, [0], address=nodes.address)) == [(["transfer"], {"1"}, {1})]


def name_process(_: int) -> tuple[str, int]:
    import ray

    time.sleep(0.2)
    return ray.get_runtime_context().get_node_id(), os.getpid()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_is_kept_for_further_tasks(nodes: Any, workers: int) -> None:
    places = set(run_on_ray(name_process, range(12), workers, nodes.address))
    assert len({process for _, process in places}) == (workers or 2)
    assert len({node for node, _ in places}) == (workers or 2)


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_first(number: int, mark: str) -> int:
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        die(number)
    return number


def test_a_worker_that_is_killed_costs_its_task_alone(nodes: Any, tmp_path: Path) -> None:
    work = partial(die_at_first, mark=str(tmp_path / "died"))
    assert sorted(run_on_ray(work, range(8), address=nodes.address)) == list(range(8))
    assert (tmp_path / "died").exists()


def test_a_task_that_kills_every_worker_comes_to_an_end(nodes: Any) -> None:
    with pytest.raises(UserError, match=rf"given up after {RETRIES + 1} tries: .* set compute\.workers"):
        list(run_on_ray(die, [0], address=nodes.address))


def divide(number: int) -> float:
    return 1 / number


@pytest.mark.parametrize("work", [test_strategies.refuse, divide])
def test_an_error_in_a_worker_is_the_error(nodes: Any, work: Callable[[int], Any]) -> None:
    with pytest.raises((UserError, ZeroDivisionError), match=r"^(0 will not do|division by zero)$"):
        list(run_on_ray(work, [0, 1], address=nodes.address))


def test_a_machine_that_would_give_other_bits_is_refused(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = cluster.surroundings()
    monkeypatch.setattr(cluster, "surroundings", lambda: here | {"processor": ["another"]})
    with pytest.raises(UserError, match=r"differs from this one in its processor, .*: use machines of one kind"):
        list(run_on_ray(test_strategies.double, [0], address=nodes.address))


def test_no_cluster_at_an_address_is_one_line_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(UserError, match=r"compute.address is '127.* can be joined there: waited 5 s"):
            list(run_on_ray(test_strategies.double, [0], address=f"127.0.0.1:{silent.getsockname()[1]}"))
    assert time.monotonic() - start < 15


def test_without_ray_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed: python -m pip install 'ray>="):
        list(run_on_ray(test_strategies.double, [0]))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [cluster.INSTALL.split("'")[1]] == extras["ray"]
    assert extras["ray"][0] in extras["dev"]


def test_the_default_never_imports_ray() -> None:
    code = (
        "import sys\n"
        "from stages import article, dense_head, end_to_end, feature_extraction, scratch\n"
        "from transfer.running.compute import Compute\n"
        "from transfer.basics.params import read_section\n"
        "looks = \"'ray' in __import__('sys').modules\"\n"
        "if __name__ == '__main__':\n"
        "    print(*read_section('compute', Compute).results(eval, [looks]), eval(looks))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", "auto ", "a b:1", 7])
def test_an_address_of_another_kind_is_refused(address: Any) -> None:
    content = {"engine": "ray", "address": address, "workers": 0, "distribute": "none", "remember": 0}
    with pytest.raises(UserError, match=r"compute\.address is "):
        parse_section("compute", content, Compute)


@pytest.mark.parametrize("address", ["", "auto", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_an_address_of_a_cluster_is_accepted(address: str) -> None:
    parse_section(
        "compute", {"engine": "ray", "address": address, "workers": 0, "distribute": "none", "remember": 0}, Compute
    )


def left_behind() -> set[str]:
    """Numbers of Ray's processes, and files and folders of runs."""
    found = psutil.process_iter(["pid", "cmdline"])
    processes = {f"{process.pid}" for process in found if "/ray/" in " ".join(process.info["cmdline"] or [])}
    return processes | {str(path) for path in [*Path("/tmp").glob("transfer-*"), *Path.home().glob(".ray/*")]}


@pytest.mark.parametrize("own", [False, True])
def test_ctrl_c_ends_the_tasks_and_a_ray_of_ours_but_no_other(nodes: Any, tmp_path: Path, own: bool) -> None:
    before = left_behind()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", nodes.address)  # which does not count where a Ray of our own is asked for
        process, workers = test_strategies.start_sleepers(tmp_path, "ray", "" if own else "auto")
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    errors = re.sub(r"^\[20.* task_manager\.cc:.*\n", "", errors, flags=re.MULTILINE)  # Ray's, as tasks end under it
    assert (process.returncode, printed, errors) == (130, "", "interrupted\n")
    deadline = time.monotonic() + 20
    while any(map(test_strategies.runs, workers)) or left_behind() - before:
        assert time.monotonic() < deadline, left_behind() - before
        time.sleep(0.1)
    assert list(run_on_ray(test_strategies.double, [1], address=nodes.address)) == [2]
