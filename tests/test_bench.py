"""The benchmarks: what is counted, what follows from what was measured, and that the peers do the same work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Study

from benchmarks import __main__ as command
from benchmarks import peers, rounds
from benchmarks.items import ITEMS
from benchmarks.measure import Finished, run_process
from benchmarks.operations import multiply_adds, training_operations
from benchmarks.page import quoted, write_page
from benchmarks.results import Item, Ratio, Rounds, Take, check_equal, spread
from benchmarks.rounds import Bench, Size
from benchmarks.workspace import Workspace
from transfer import cnn
from transfer.basics.console import UserError
from transfer.networks.layers import read_network
from transfer.target import read_target

NET = cnn.Params(blocks=({"filters": 3, "kernel": 3, "pool": 2}, {"filters": 4, "kernel": 2, "pool": 1}), dense=(5,))


def test_multiply_adds_are_those_worked_out_by_hand() -> None:
    # 8×8×1 → 6×6×3 by 3×3×1, pooled to 3×3 → 2×2×4 by 2×2×3, not pooled → 16 → 5 → 2
    assert multiply_adds(NET, (8, 8, 1), 2) == [6 * 6 * 3 * 9, 2 * 2 * 4 * 12, 16 * 5, 5 * 2]
    forward = 972 + 192 + 80 + 10
    assert training_operations(NET, (8, 8, 1), 2) == 2 * (forward + forward + forward - 972)


def test_the_layers_counted_are_those_of_the_network() -> None:
    kernels = [weight.shape for weight in cnn.layers(NET, image_shape=(8, 8, 1), classes=2).build("network").weights][
        ::2
    ]
    places = [6 * 6, 2 * 2, 1, 1]
    counts = [int(np.prod(shape)) * count for shape, count in zip(kernels, places, strict=True)]
    assert multiply_adds(NET, (8, 8, 1), 2) == counts


def test_a_matrix_product_is_measured_in_as_many_processes_as_asked_for() -> None:
    done = run_process(sys.executable, "-m", "benchmarks.operations", "2", "1", "1", cwd=ROOT)
    assert done.said() > 0
    assert done.worker_megabytes > 0


def test_a_process_is_timed_and_its_memory_seen_apart_from_that_of_its_workers() -> None:
    child = "import time; block = b'1' * 300_000_000; time.sleep(0.5)"
    main = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('line'); print('[1]')"
    done = run_process(sys.executable, "-c", main, cwd=ROOT)
    assert 0.5 < done.seconds < 30
    assert done.said() == [1]
    assert done.worker_megabytes > 300
    assert 0 < done.main_megabytes < 150


def test_what_make_was_told_reaches_no_process(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text('all:\n\t@echo "[$(ARGS)]"\n')
    code = "from pathlib import Path; from benchmarks.measure import run_process as run\n"
    code += f"print(run('make', cwd=Path({str(tmp_path)!r})).printed)"
    outer = tmp_path / "outer"
    outer.write_text(f'bench:\n\t@{sys.executable} -c "$$CODE"\n')
    command = ["make", "-s", "-f", str(outer), "bench", "ARGS=--runs 1"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"CODE": code}, capture_output=True, text=True)
    assert done.stdout.split() == ["[]"], done.stderr


def test_a_process_that_fails_is_told_of_by_its_last_line() -> None:
    with pytest.raises(UserError, match=r"^`sh -c echo first; echo why; exit 3` failed: why$"):
        run_process("sh", "-c", "echo first; echo why; exit 3", cwd=ROOT)


def test_ratios_are_taken_within_a_run() -> None:
    assert spread([3, 1, 2]) == (2, 1, 3)
    turns: Rounds = {"a": [{"seconds": 10}, {"seconds": 30}, {"seconds": 8}], "b": [{"seconds": s} for s in (5, 10, 1)]}
    assert Ratio("", Take("a"), Take("b")).of(turns) == (3, 2, 8)  # of medians it would be 2
    assert Ratio("", Take("a"), Take("c")).of(turns) is None


def test_bounds_are_kept_to() -> None:
    least, most = (Ratio("", Take("a"), Take("b"), **bound) for bound in ({"at_least": 4}, {"at_most": 0.8}))
    assert [least.reached(4), least.reached(3.99), most.reached(0.8), most.reached(0.81)] == [True, False, True, False]
    assert [least.aim(), most.aim(), Ratio("", Take("a"), Take("b")).aim()] == ["at least 4", "at most 0.8", ""]


def test_times_of_unequal_accuracy_are_refused() -> None:
    item = Item("", [], lambda _: iter(()), equal="accuracy", tolerance=0.01)

    def turns(accuracy: float) -> Rounds:
        ours = [
            {"seconds": 1.0, "accuracy": 0.9},
            {"seconds": 1.0, "accuracy": 0.1},
            {"seconds": 1.0, "accuracy": 0.91},
        ]
        return {"ours": ours, "peer": [{"seconds": 1.0, "accuracy": accuracy}], "other": [{"seconds": 1.0}]}

    check_equal("item", item, turns(0.891))
    with pytest.raises(
        UserError, match=r"^item: peer reaches an accuracy of 88.90 %, ours 90.00 %, more than 1.0 points"
    ):
        check_equal("item", item, turns(0.889))


class FakeWorkspace(Workspace):
    """Where nothing runs: `pretrain` takes a second for every epoch, `end_to_end` one for 100 steps."""

    def module(self, name: str, *_: object) -> Finished:
        params = self.params()
        seconds = {"stages.pretrain": params["pretrain"]["epochs"], "stages.end_to_end": self.steps() / 100}
        return Finished(seconds.get(name, 1), '{"source_accuracy": 0.99, "target_accuracy": 0.98}', 100, 200)

    def run(self, *command: str) -> Finished:
        return self.module(*command)

    def begin(self) -> None:
        pass

    def divide(self, *, shots: list[int], seeds: int) -> None:
        pass

    def tile(self, times: int) -> None:
        pass

    def steps(self) -> int:
        return self.params()["end_to_end"]["steps"]

    def measured(self) -> dict[str, Any]:
        return {"source": {"accuracy": 0.99}, "low": {"shots_1000": 0.5}, "high": {"shots_1000": 0.9}}

    def accuracy(self, predictions: str) -> float:
        return 0.95 if "peer" in predictions else 0.951

    def examples_seen(self, strategy: str) -> int:
        assert strategy == "end_to_end"
        return self.steps() * 32

    def source_images(self) -> int:
        return 27_000

    def operations(self, _classes: str) -> int:
        return 1_000_000


class FakeBench(Bench):
    @contextmanager
    def fresh(self) -> Iterator[Workspace]:
        shutil.copy(ROOT / "params.yaml", self.folder)
        yield FakeWorkspace(self.folder)

    copy = fresh


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(rounds, "run_process", lambda *_, **__: Finished(1, "50.0", 0, 0))
    monkeypatch.setattr(rounds, "find_spec", lambda _: True)
    monkeypatch.setattr(command, "versions", lambda: {"python": "3.11", "torch": "2.13"})
    return FakeBench(tmp_path, Size())


def test_every_ratio_is_of_something_that_is_measured(fake: Bench) -> None:
    for name, item in ITEMS.items():
        measured = command.measure(fake, name, runs=2)
        assert all(ratio.of(measured) for ratio in item.ratios), name
        assert not item.equal or sum(item.equal in turns[0] for turns in measured.values()) > 1, name


def test_contestants_have_their_turns_round_after_round(fake: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    measured = command.measure(fake, "fine_tuning", runs=2)
    assert [len(turns) for turns in measured.values()] == [2, 2, 2]
    told = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()]
    assert told == ["Keras `fit`", "PyTorch", "stage `end_to_end`"] * 2


def test_without_pytorch_it_is_left_out_with_a_line(
    fake: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounds, "find_spec", lambda _: None)
    measured = command.measure(fake, "fine_tuning", runs=1)
    assert list(measured) == ["Keras `fit`", "stage `end_to_end`"]
    assert "PyTorch is left out" in capsys.readouterr().out
    page = write_page({"machine": {}, "versions": {}, "items": {"fine_tuning": measured}})
    assert len(quoted(page)) == 1
    assert "Not installed, so left out: PyTorch." in page


def test_operations_are_those_of_what_trained_longer(fake: Bench) -> None:
    measured = command.measure(fake, "closeness", runs=1)
    per_epoch = 27_000 // 256 * 256 * 1e6 / 1e9  # and a second for each
    assert measured == {
        "pretraining": [{"gflops": pytest.approx(per_epoch), "gemm": 50}],
        "fine-tuning": [{"gflops": pytest.approx(100 * 32 * 1e6 / 1e9), "gemm": 50}],
    }


@pytest.fixture
def page_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    files = tmp_path / "results.json", tmp_path / "results.md"
    monkeypatch.setattr(command, "RESULTS", files[0])
    monkeypatch.setattr(command, "PAGE", files[1])
    return files


def bench(monkeypatch: pytest.MonkeyPatch, fake: Bench, *arguments: str) -> None:
    monkeypatch.setattr(command, "Bench", lambda _, size: type(fake)(fake.folder, size))
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    command.main()


def test_a_whole_run_writes_a_page_that_follows_from_what_was_measured(
    fake: Bench, page_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(monkeypatch, fake, "--runs", "2")
    results = json.loads(page_files[0].read_text())
    page = page_files[1].read_text()
    assert page == write_page(results)
    assert len(quoted(page)) == sum(len(item.ratios) for item in ITEMS.values())
    assert "| whole study / Keras example | 1.00 | at most 0.8 | no |" in quoted(page)
    assert "torch 2.13" in page
    page_files[1].unlink()
    bench(monkeypatch, fake, "--page")
    assert page_files[1].read_text() == page


@pytest.mark.parametrize("arguments", [["--only", "growth,frozen"], ["--quick"]])
def test_a_run_of_a_part_writes_nothing(
    arguments: list[str],
    fake: Bench,
    page_files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench(monkeypatch, fake, "--runs", "1", *arguments)
    assert not any(path.exists() for path in page_files)
    assert "| ratio | median" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--only", "frozen,frosen"], "'frosen' is not one of study, frozen"), (["--runs", "0"], "at least 1")],
)
def test_a_slip_on_the_command_line_is_told(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        run_process(sys.executable, "-m", "benchmarks", *arguments, cwd=ROOT)


def test_a_page_is_quoted_row_by_row(fake: Bench) -> None:
    page = write_page({"machine": {}, "versions": {}, "items": {"growth": command.measure(fake, "growth", runs=1)}})
    rows = quoted(page)
    assert len(rows) == len(ITEMS["growth"].ratios)
    assert rows[0].startswith("| time of `end_to_end`, seeds × 4 / × 1 | 1.00 | at most 4 | yes |")
    assert quoted("No table here.") == []


whole = pytest.mark.skipif(not command.PAGE.exists(), reason="no whole run of `make bench` has been committed")


@whole
def test_the_committed_page_follows_from_what_was_measured() -> None:
    assert command.PAGE.read_text(encoding="utf-8") == write_page(
        json.loads(command.RESULTS.read_text(encoding="utf-8"))
    )


@whole
def test_the_readme_quotes_the_page() -> None:
    rows = quoted((ROOT / "README.md").read_text(encoding="utf-8"))
    assert rows
    assert set(rows) <= set(quoted(command.PAGE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def small(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The benchmarks over a finished small study."""
    folder = tmp_path_factory.mktemp("bench")
    prepared = Workspace(finished.root).copy(folder / "prepared")
    shutil.copytree(ROOT / "benchmarks", prepared.root / "benchmarks")
    prepared.set({"compute.remember": 0})
    made = Bench(folder, Size())
    made.prepared = prepared
    return made


@pytest.mark.parametrize("name", ["frozen", "fine_tuning"])
def test_peers_train_every_cell_of_a_small_study(small: Bench, name: str) -> None:
    measured = command.measure(small, name, runs=1)
    assert len(measured) >= 2
    assert ("PyTorch" in measured) == (name == "fine_tuning" and find_spec("torch") is not None)
    for (turn,) in measured.values():
        assert turn["seconds"] > 0
        assert 0 <= turn.get("accuracy", 0) <= 1


def test_a_workspace_divides_anew_and_tiles_the_target(small: Bench) -> None:
    with small.copy() as workspace:
        workspace.divide(shots=[2], seeds=3)
        before = read_target(workspace.root / "data/target_train")
        images = before.images[:].copy()
        workspace.tile(3)
        after = read_target(workspace.root / "data/target_train")
        assert [draw.shots for draw in after.cells()] == [2, 2, 2]
        assert len(after.images) == 3 * len(images)
        for draw, same in zip(before.cells(), after.cells(), strict=True):
            assert (images[draw.rows] == after.images[same.rows]).all()


def test_pytorch_starts_from_the_source_network(small: Bench) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from transfer.networks import models
    from transfer.networks.backend import keras

    with small.copy() as workspace:
        source = models.load_model(workspace.root / "models/source.keras")
        layers, weights = read_network(workspace.root / "models/source.npz")
    network = peers._torch_network(layers, weights, 5)
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype(np.uint8)
    expected = keras.Model(source.inputs[0], source.layers[-1].input)(images).numpy()
    with torch.inference_mode():
        found = network[:-1](torch.from_numpy(images).permute(0, 3, 1, 2) / 255).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pytorch_shifts_whole_images_by_whole_pixels() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    image = torch.arange(1, 37, dtype=torch.uint8).reshape(1, 1, 6, 6)
    torch.manual_seed(0)
    moved = peers._torch_shift(image.expand(200, 1, 6, 6), 1).numpy()[:, 0]
    padded = np.pad(image.numpy()[0, 0], 1)
    possible = {padded[down : down + 6, right : right + 6].tobytes() for down in range(3) for right in range(3)}
    assert {each.tobytes() for each in moved} == possible
