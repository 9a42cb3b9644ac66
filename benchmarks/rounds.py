"""One round of every benchmark: each contestant has its turn, and yields what was measured of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Finished, run_process
from benchmarks.results import Quantities
from benchmarks.workspace import Workspace, cores
from transfer.basics.console import say

Turn = tuple[str, Quantities]  # whose it was, and what was measured


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        params: of the study, where they are not those of `params.yaml`.
        example_epochs: of the Keras example, on each of its tasks.
        idle: how often in a round nothing is done.
        draws: how many of the study's the cells are that are fine-tuned beside peers.
        pretraining: a smaller and a larger number of epochs, whose difference is timed.
        fine_tuning: the same of `end_to_end.steps`.
        shots: labelled images per class of the cells whose fine-tuning is timed so.
        gemm: seconds that matrices are multiplied for.
        seeds: draws of the smallest run that grows.
        images: by how much the target's images grow.
    """

    params: dict[str, Any] = field(default_factory=dict)
    example_epochs: int = 5
    idle: int = 3
    draws: int = 5
    pretraining: tuple[int, int] = (1, 5)
    fine_tuning: tuple[int, int] = (100, 400)
    shots: int = 1000
    gemm: int = 4
    seeds: int = 4
    images: tuple[int, ...] = (1, 4, 16)


QUICK = Size(
    params={"split.seeds": 1, "split.shots": [1, 10], "pretrain.epochs": 1},
    example_epochs=1,
    idle=1,
    draws=1,
    pretraining=(1, 2),
    fine_tuning=(5, 20),
    shots=100,
    gemm=1,
    seeds=1,
    images=(1, 2),
)


@dataclass
class Bench:
    """Where it is measured.

    Attributes:
        folder: for all that is made on the way.
        size: how much is measured.
    """

    folder: Path
    size: Size

    @contextmanager
    def fresh(self) -> Iterator[Workspace]:
        """A workspace in which nothing is done yet, for a while."""
        with TemporaryDirectory(dir=self.folder) as folder:
            workspace = Workspace.fresh(Path(folder, "study"))
            workspace.set(self.size.params)
            yield workspace

    @contextmanager
    def copy(self) -> Iterator[Workspace]:
        """A workspace in which features are there already, for a while."""
        with TemporaryDirectory(dir=self.folder) as folder:
            yield self.prepared.copy(Path(folder, "study"))

    @cached_property
    def prepared(self) -> Workspace:
        """What `copy` copies; made once."""
        say("bench: prepare the source CNN and its features for what follows")
        with self.fresh() as workspace:
            workspace.prepare()
            return Workspace(Path(shutil.move(workspace.root, self.folder / "prepared")))


def study(bench: Bench) -> Iterator[Turn]:
    """The classic example, the whole study, the study after a small edit, and after none."""
    with bench.fresh() as workspace:
        workspace.begin()
        done = workspace.module("benchmarks.keras_example", bench.size.example_epochs)
        yield "Keras example", _seconds(done) | done.said()
        done = workspace.run("dvc", "repro")
        results, most = workspace.measured(), max(workspace.params()["split"]["shots"])
        best = max(means[f"shots_{most}"] for name, means in results.items() if name != "source")
        yield (
            "whole study",
            _seconds(done) | {"source_accuracy": results["source"]["accuracy"], "target_accuracy": best},
        )
        workspace.set({"dense_head.units": workspace.params()["dense_head"]["units"] - 8})
        yield "study after an edit of `dense_head.units`", _seconds(workspace.run("dvc", "repro"))
        workspace.run("make", "repro")  # checks the parameters, which no later one does until they change
        with one_stage(bench.folder) as project:
            for _ in range(bench.size.idle):
                yield "`make repro`, nothing to do", _seconds(workspace.run("make", "repro"))
                yield "`dvc repro` of one stage, nothing to do", _seconds(run_process("dvc", "repro", cwd=project))


@contextmanager
def one_stage(folder: Path) -> Iterator[Path]:
    """A DVC project of one stage that has run, for a while."""
    with TemporaryDirectory(dir=folder) as temporary:
        project = Path(temporary)
        for command in ("git init -q", "dvc init -q", "dvc config core.analytics false"):
            run_process(*command.split(), cwd=project)
        (project / "input").touch()
        (project / "dvc.yaml").write_text("stages: {only: {cmd: cp input output, deps: [input], outs: [output]}}\n")
        run_process("dvc", "repro", cwd=project)
        yield project


def frozen(bench: Bench) -> Iterator[Turn]:
    """New dense layers on a frozen backbone."""
    with bench.copy() as workspace:
        yield _peer(workspace, "frozen", "Keras `fit`, backbone in the model")
        yield "stage `extract`, once for all cells", _seconds(workspace.module("stages.extract"))
        yield _ours(workspace, "dense_head")


def fine_tuning(bench: Bench) -> Iterator[Turn]:
    """Every layer of the source CNN."""
    with bench.copy() as workspace:
        workspace.divide(shots=workspace.params()["split"]["shots"], seeds=bench.size.draws)
        yield _peer(workspace, "fit", "Keras `fit`")
        if find_spec("torch"):
            yield _peer(workspace, "pytorch", "PyTorch")
        else:
            say("fine_tuning: PyTorch is left out, as it is not installed: `pip install torch` into .venv adds it")
        yield _ours(workspace, "end_to_end")


def _peer(workspace: Workspace, recipe: str, name: str) -> Turn:
    done = workspace.module("benchmarks.peers", recipe, "data/peer.npz")
    return name, _seconds(done) | {"accuracy": workspace.accuracy("data/peer.npz")}


def _ours(workspace: Workspace, stage: str) -> Turn:
    done = workspace.module(f"stages.{stage}")
    return f"stage `{stage}`", _seconds(done) | {"accuracy": workspace.accuracy(f"data/predictions/{stage}.npz")}


def closeness(bench: Bench) -> Iterator[Turn]:
    """Operations per second of training, from two runs of a stage of which one trains longer; those of a product."""
    with bench.copy() as workspace:
        params = workspace.params()
        length, batch = bench.size.pretraining, params["pretrain"]["batch"]
        first = _timed(workspace, "pretrain", "epochs", length[0])
        gemm = _gemm(bench, 1, params["pretrain"]["threads"])
        seconds = _timed(workspace, "pretrain", "epochs", length[1]) - first
        images = (length[1] - length[0]) * (workspace.source_images() // batch * batch)
        gflop = workspace.operations("source") * images / 1e9
        yield "pretraining", {"gflops": gflop / seconds, "gemm": gemm}

    with bench.copy() as workspace:
        length = bench.size.fine_tuning
        workspace.divide(shots=[bench.size.shots], seeds=2 * cores())
        first = _timed(workspace, "end_to_end", "steps", length[0])
        fewer = workspace.examples_seen("end_to_end")
        gemm = _gemm(bench, cores(), 1)
        seconds = _timed(workspace, "end_to_end", "steps", length[1]) - first
        images = workspace.examples_seen("end_to_end") - fewer
        gflop = workspace.operations("target") * images / 1e9
        yield "fine-tuning", {"gflops": gflop / seconds, "gemm": gemm}


def _timed(workspace: Workspace, stage: str, key: str, length: int) -> float:
    workspace.set({f"{stage}.{key}": length})
    return workspace.module(f"stages.{stage}").seconds


def _gemm(bench: Bench, processes: int, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.operations", processes, threads, bench.size.gemm]
    return run_process(*map(str, command), cwd=Path(__file__).parents[1]).said()


SEEDS, SHOTS = (1, 2, 4), (1, 10, 100)


def growth(bench: Bench) -> Iterator[Turn]:
    """Stages with more to do."""
    with bench.copy() as workspace:

        def grown(stage: str, axis: str, factor: int) -> Turn:
            done = workspace.module(f"stages.{stage}")
            memory = {"main_megabytes": done.main_megabytes, "worker_megabytes": done.worker_megabytes}
            return grown_name(stage, axis, factor), _seconds(done) | memory

        for factor in SEEDS:
            workspace.divide(shots=[1, 10, 100], seeds=bench.size.seeds * factor)
            yield grown("end_to_end", "seeds", factor)
        for factor in SHOTS:
            workspace.divide(shots=[factor], seeds=bench.size.seeds)
            yield grown("end_to_end", "shots", factor)
        for factor in bench.size.images:
            workspace.divide(shots=[10], seeds=bench.size.seeds)
            workspace.tile(factor)
            for stage in ("extract", "dense_head", "end_to_end"):
                yield grown(stage, "images", factor)


def grown_name(stage: str, axis: str, factor: int) -> str:
    """What a run of a stage that has grown is called."""
    return f"`{stage}`, {axis} × {factor}"


def _seconds(done: Finished) -> Quantities:
    return {"seconds": done.seconds}
