"""Runs on a Ray cluster of two nodes on this machine, which gives what the threads of this machine give."""

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

import psutil  # which DVC brings
import pytest
from conftest import ROOT, Study, refused
from small_runs import bits, study

from transfer.console import UserError
from transfer.data.target import Draw
from transfer.training import cluster
from transfer.training.cluster import RETRIES, run_on_ray
from transfer.training.compute import run_in_threads
from transfer.training.runs import Run

os.environ |= cluster.SETTINGS  # which Ray reads when it is imported
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no two nodes on one machine, no SIGKILL")
TESTS = str(ROOT / "tests")  # all that the nodes can import of ours; the library must come with the work


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes."""
    from ray.cluster_utils import Cluster

    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,  # a short path, for sockets
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([TESTS, str(Path(__file__).parent)]))
        found = Cluster()
        found.add_node(include_dashboard=False)
        found.add_node()
        yield found
        found.shutdown()


def start_unless_doomed(start: Callable[[], Callable[[Draw], Run]], doomed: str, marks: str) -> Callable[[Draw], Run]:
    """Trains a run once both nodes have one; on the node that is to die, never."""
    train = start()

    def train_later(draw: Draw) -> Run:
        import ray

        node = ray.get_runtime_context().get_node_id()
        Path(marks, node).touch()
        deadline = time.monotonic() + 60
        while node == doomed or not Path(marks, doomed).exists():
            assert time.monotonic() < deadline, "nobody has killed the node"
            time.sleep(0.05)
        return train(draw)

    return train_later


@pytest.mark.slow
def test_a_node_that_dies_costs_only_its_runs_and_no_byte(nodes: Any, tmp_path: Path) -> None:
    target, starts = study()
    start, draws = starts("end_to_end"), target.runs()
    [node] = nodes.worker_nodes

    def kill() -> None:
        while not (tmp_path / node.node_id).exists():
            time.sleep(0.05)
        nodes.remove_node(node, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    wrapped = partial(start_unless_doomed, start, node.node_id, str(tmp_path))
    far = [bits(run) for run in run_on_ray(wrapped, draws, address=nodes.address)]
    assert len(list(tmp_path.iterdir())) == 2  # the node had begun a run
    assert not nodes.worker_nodes
    assert far == [bits(run) for run in run_in_threads(start, draws, 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([TESTS, str(Path(__file__).parent)]))
        nodes.add_node()


@pytest.mark.slow
def test_a_real_stage_gives_the_same_files_on_a_ray_of_its_own(finished: Study) -> None:
    made = ["data/predictions/end_to_end.npz", "models/end_to_end.keras", "dvc.lock"]
    before = {name: finished.read(name) for name in made}
    finished.set(compute__engine="ray", compute__remember=0)
    printed = finished.run("dvc", "repro", "--force", "--single-item", "end_to_end").stdout
    assert "end_to_end: 6 of 6 runs" in printed
    assert {name: finished.read(name) for name in made} == before
    finished.run("git", "checkout", "-q", "params.yaml")
    assert finished.run("git", "status", "--porcelain").stdout == ""


def double(number: int) -> int:
    return 2 * number


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> int:
    raise UserError(f"{number} will not do")


def always(work: Callable[[int], Any]) -> Callable[[int], Any]:
    """What starts with nothing to prepare."""
    return work


@pytest.mark.slow
def test_a_task_that_kills_every_process_comes_to_an_end(nodes: Any) -> None:
    with pytest.raises(UserError, match=rf"given up after {RETRIES + 1} tries: "):
        list(run_on_ray(partial(always, die), [0], address=nodes.address))


@pytest.mark.slow
def test_an_error_in_a_process_is_the_error(nodes: Any) -> None:
    with pytest.raises(UserError, match=r"^0 will not do$"):
        list(run_on_ray(partial(always, refuse), [0, 1], address=nodes.address))


@pytest.mark.slow
def test_a_machine_with_other_libraries_is_refused(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = cluster.versions()
    monkeypatch.setattr(cluster, "versions", lambda: here | {"scipy": "0.1"})
    with pytest.raises(UserError, match=rf"^the machine \S+ has scipy {re.escape(here['scipy'])}: install"):
        list(run_on_ray(partial(always, double), [0], address=nodes.address))


def test_no_cluster_at_an_address_is_one_line_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    before = time.monotonic()
    refused(
        lambda: list(run_on_ray(partial(always, double), [0], address=address)),
        f"compute.address is '{address}', but no Ray cluster can be joined: Connection refused",
    )
    assert time.monotonic() - before < 5


def test_without_ray_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match="Ray is not installed: ") as caught:
        list(run_on_ray(partial(always, double), [0]))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [str(caught.value).split("'")[1]] == extras["ray"]


ONE_TASK = """
import sys
from functools import partial
from test_cluster import always, sleep_long
from transfer.console import run
from transfer.training.compute import Compute
if __name__ == "__main__":
    compute = Compute(engine="ray", address="", workers=1, remember=0)
    run(lambda: list(compute.train([sys.argv[1]], start=partial(always, sleep_long))))
"""


def sleep_long(folder: str) -> None:
    Path(folder, "begun").touch()
    time.sleep(60)


def rays() -> set[int]:
    """Numbers of Ray's processes that run."""
    found = psutil.process_iter(["pid", "cmdline", "status"])
    ours = (process.info for process in found if process.info["status"] != psutil.STATUS_ZOMBIE)
    return {info["pid"] for info in ours if re.search(r"/ray/|^ray::", " ".join(info["cmdline"] or []))}


@pytest.mark.slow
def test_ctrl_c_ends_the_tasks_and_a_ray_of_ours(tmp_path: Path) -> None:
    before = rays()
    script = tmp_path / "script.py"
    script.write_text(ONE_TASK)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), TESTS, str(Path(__file__).parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert (process.returncode, printed, errors) == (130, "", "interrupted\n")
    deadline = time.monotonic() + 20
    while rays() - before:
        assert time.monotonic() < deadline, rays() - before
        time.sleep(0.1)
