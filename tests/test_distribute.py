"""One training on several devices and processes: the result of one process, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import indent

import numpy as np
import pytest
from conftest import ROOT, SMALL, Study, synthetic_digits

from stages import convert, split
from transfer import distribute
from transfer.basics.arrays import write_arrays
from transfer.basics.console import UserError
from transfer.distribute import Team, members_of
from transfer.networks import engines

STATED = 60  # seconds within which the others end, as docs/distribute.md says

DIE = """
import os, sys
sys.path.insert(0, os.getcwd())
from stages.pretrain import main, pretrain
from transfer.basics.console import run
accuracy, epochs = pretrain.accuracy, [0]
def measure(*arguments):
    epochs[0] += 1
    if epochs[0] == 2:
        os.kill(os.getpid(), {signal})
    return accuracy(*arguments)
pretrain.accuracy = measure
run(main)
"""


def make(root: Path) -> Study:
    """What the stages need, without Git and DVC; everything that trains does so by Keras, on one thread."""
    root.mkdir(parents=True)
    for name in ("stages", "transfer"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "pretrain"):
        shutil.copy(ROOT / name, root)
    study = Study(root)
    study.set(**{key.replace(".", "__"): value for key, value in SMALL.items()})
    study.set(training__engine="keras", pretrain__threads=1, pretrain__epochs=3, compute__workers=1)
    # Decays under which the first steps enlarge rounding the least, where gradients of a head of zeros are tiny.
    study.set(end_to_end__beta_1=0.9, end_to_end__beta_2=0.999)
    (train, train_labels), (test, test_labels) = synthetic_digits(24, seed=0), synthetic_digits(8, seed=1)
    arrays = {"train_images": train, "train_labels": train_labels, "test_images": test, "test_labels": test_labels}
    write_arrays(root / "data" / "raw" / "mnist.npz", **arrays)
    return study


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose source model and end-to-end cells were trained by one process."""
    study = make(tmp_path_factory.mktemp("alone") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study.root)
        convert.main()
        split.main()
    printed = [study.run(sys.executable, "-m", f"stages.{stage}").stdout for stage in ("pretrain", "end_to_end")]
    (study.root / "printed").write_text(printed[0])
    return study


def copy_of(alone: Study, root: Path, **params: object) -> Study:
    """Its data and code in another folder, with nothing trained and nothing remembered."""
    gone = shutil.ignore_patterns("models", "predictions", ".cache", "__pycache__")
    shutil.copytree(alone.root, root, ignore=gone)
    study = Study(root)
    study.set(**params)
    return study


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def start(studies: list[Study], *commands: list[str]) -> tuple[list[subprocess.Popen[str]], list[str]]:
    """A worker in every folder, each with its command, and their addresses."""
    addresses = free_addresses(len(studies))
    workers = []
    for index, (study, command) in enumerate(zip(studies, commands, strict=True)):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task), "PYTHONPATH": ""}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen([sys.executable, *command], cwd=study.root, env=environment, **pipes))
    return workers, addresses


def finish(workers: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of every worker; none is left behind."""
    try:
        said = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, *each) for worker, each in zip(workers, said, strict=True)]


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


CLOSE = {"weight": 1e-6, "probabilities": 1e-5}


def assert_close(a: Path, b: Path, names: str) -> None:
    """The arrays of two files whose names begin so agree to float rounding."""
    found = arrays(b)
    compared = {name: array for name, array in arrays(a).items() if name.startswith(names)}
    assert compared
    for name, array in compared.items():
        assert np.abs(array - found[name]).max() <= CLOSE[names], name


def test_two_workers_train_what_one_process_does_and_the_chief_alone_writes(tmp_path: Path, alone: Study) -> None:
    studies = [copy_of(alone, tmp_path / name, compute__distribute="multi_worker") for name in ("chief", "other")]
    chief, other = studies
    for code, printed, errors in finish(start(studies, *[["-m", "stages.pretrain"]] * 2)[0]):
        assert code == 0, errors
        assert losses(printed) == losses((alone.root / "printed").read_text())
    source = Path("models/source.npz")
    assert_close(alone.root / source, chief.root / source, "weight")
    assert json.loads(chief.read("models/source.json"))["engine"] == "keras engine, float32, 2 devices"
    assert not (other.root / "models").exists()
    assert not list(tmp_path.glob("*/.cache/checkpoints/*"))

    for study in studies:
        (study.root / source).parent.mkdir(exist_ok=True)
        shutil.copy(alone.root / source, study.root / source)
    for code, _, errors in finish(start(studies, *[["-m", "stages.end_to_end"]] * 2)[0]):
        assert code == 0, errors
    predictions = Path("data/predictions/end_to_end.npz")
    assert_close(alone.root / predictions, chief.root / predictions, "probabilities")
    assert [path.name for path in (other.root / "models").iterdir()] == ["source.npz"]
    assert not (other.root / predictions.parent).exists()


def test_a_worker_that_is_killed_ends_the_others_and_the_rerun_goes_on(tmp_path: Path, alone: Study) -> None:
    studies = [copy_of(alone, tmp_path / name, compute__distribute="multi_worker") for name in ("chief", "other")]
    chief, other = studies
    (other.root / "die.py").write_text(DIE.format(signal=int(signal.SIGKILL)))
    workers, addresses = start(studies, ["-m", "stages.pretrain"], ["die.py"])
    workers[1].wait(120)
    began = time.monotonic()
    (code, _, errors), (killed, _, _) = finish(workers)
    assert time.monotonic() - began < STATED
    assert killed == -signal.SIGKILL
    assert code == 2
    assert errors.splitlines() == [
        f"error: worker 1 ({addresses[1]}) stopped or no longer answers: start every worker again, "
        "training goes on from what was kept"
    ]
    assert not (chief.root / "models").exists()

    (code, printed, errors), _ = finish(start(studies, *[["-m", "stages.pretrain"]] * 2)[0])
    assert code == 0, errors
    assert "epoch 3 of 3" in printed
    assert "epoch 2 of 3" not in printed
    assert_close(alone.root / "models/source.npz", chief.root / "models/source.npz", "weight")
    assert not list(tmp_path.glob("*/.cache/checkpoints/*"))


def test_a_chief_that_falls_silent_ends_the_others(tmp_path: Path, alone: Study) -> None:
    """A stopped process keeps its connections, as a machine that hangs does."""
    studies = [copy_of(alone, tmp_path / name, compute__distribute="multi_worker") for name in ("chief", "other")]
    (studies[0].root / "die.py").write_text(DIE.format(signal=int(signal.SIGSTOP)))
    (chief, other), addresses = start(studies, ["die.py"], ["-m", "stages.pretrain"])
    try:
        os.waitid(os.P_PID, chief.pid, os.WSTOPPED | os.WNOWAIT)
        began = time.monotonic()
        _, errors = other.communicate(timeout=STATED)
    finally:
        chief.kill()
        other.kill()
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert other.returncode == 2
    assert errors.startswith(f"error: worker 0 ({addresses[0]}) stopped or no longer answers")
    assert len(errors.splitlines()) == 1


def test_workers_with_other_parameters_do_not_train_together(tmp_path: Path, alone: Study) -> None:
    studies = [copy_of(alone, tmp_path / name, compute__distribute="multi_worker") for name in ("chief", "other")]
    studies[1].set(pretrain__seed=1)
    (chief, _, _), (code, _, errors) = finish(start(studies, *[["-m", "stages.pretrain"]] * 2)[0])
    assert chief == code == 2
    assert errors.startswith("error: worker 1 has other code, parameters, data")


MIRRORED = """
import functools, os, sys
sys.path.insert(0, os.getcwd())
from transfer.networks.threads import set_threads
set_threads(1)
from transfer.networks.backend import keras, tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import numpy as np
from stages.pretrain import main
from transfer import distribute
from transfer.networks import engines
from transfer.basics.console import UserError
from transfer.networks.schedule import Plan
from transfer.networks.training import Program
distribute._strategy = functools.cache(distribute._strategy)  # one in a process: TensorFlow mixes up those of two
main()

layers, rng = keras.layers, np.random.default_rng(0)
with distribute.team("mirrored", engines.Params(engine="keras", precision="float32")) as team, team.scope():
    assert team.strategy.num_replicas_in_sync == 2
    stack = [layers.Dense(9), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)]
    program = Program(keras.Sequential([keras.Input((6,)), *stack]))
x, y = rng.normal(size=(11, 6)).astype(np.float32), (np.arange(11) % 2).astype(np.int32)
plan = Plan(rng.integers(0, 11, (4, 5)).astype(np.int32), np.full(4, 0.01, np.float32))  # shares of 2 and 3
before = program.weights()
program.train(x, y, plan, seed=0)
moved = [np.abs(a - b).max() for a, b in zip(before, program.weights())]
assert min(moved[:1] + moved[2:]) > 0, moved
for variable in program._variables():
    first, second = (copy.numpy() for copy in variable.values)
    assert (first == second).all(), variable.name
try:
    program.train(x, y, Plan(plan.batches[:, :1], plan.rates), seed=0)
except UserError as error:
    assert str(error).startswith("a batch of 1 cannot be shared by 2 devices"), error
else:
    sys.exit("a share was empty")
"""


def test_two_devices_train_what_one_does_and_stay_the_same_as_each_other(tmp_path: Path, alone: Study) -> None:
    study = copy_of(alone, tmp_path / "study", compute__distribute="mirrored")
    (study.root / "mirrored.py").write_text(f"if __name__ == '__main__':{indent(MIRRORED, '    ')}")
    study.run(sys.executable, "mirrored.py")
    assert_close(alone.root / "models/source.npz", study.root / "models/source.npz", "weight")


def losses(printed: str) -> list[str]:
    """Of all epochs; gradients that are too large would not show in the weights, as Adam divides by their size."""
    found = re.findall(r"^pretrain: epoch .* loss (\S+),", printed, re.MULTILINE)
    assert len(found) == 3
    return found


def epochs_of(study: Study) -> list[str]:
    """The epochs that pretraining goes through."""
    printed = study.run(sys.executable, "-m", "stages.pretrain").stdout
    return re.findall(r"^pretrain: epoch (\d+) of", printed, re.MULTILINE)


@pytest.mark.parametrize("engine", ["keras", "native"])
def test_pretraining_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, alone: Study, engine: str) -> None:
    """And another pretraining, of which the checkpoint is not, does not go on from it; with no cell remembered."""
    study = copy_of(alone, tmp_path / "study", training__engine=engine, compute__remember=0)
    (study.root / "die.py").write_text(DIE.format(signal=int(signal.SIGKILL)))
    study.run(sys.executable, "die.py", code=-signal.SIGKILL)
    checkpoints = study.root / ".cache/checkpoints"
    assert len(list(checkpoints.iterdir())) == 1
    whole = alone
    if engine == "native":
        study.set(pretrain__seed=1)
        assert epochs_of(study) == ["1", "2", "3"]
        assert len(list(checkpoints.iterdir())) == 1
        study.set(pretrain__seed=0)
        whole = copy_of(alone, tmp_path / "whole", training__engine=engine)
        assert epochs_of(whole) == ["1", "2", "3"]
    assert epochs_of(study) == ["3"]
    for name in ("source.npz", "source.keras", "source.json"):
        assert study.read(f"models/{name}") == whole.read(f"models/{name}"), name
    assert not list(checkpoints.iterdir())


GOOD = {"cluster": {"worker": ["a:1", "b.c:2"]}, "task": {"type": "worker", "index": 1}}


def test_a_team_is_read_from_tf_config() -> None:
    assert members_of(json.dumps(GOOD)) == Team(("a:1", "b.c:2"), 1)
    assert not members_of(json.dumps(GOOD)).chief


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{",
        "[]",
        "{}",
        json.dumps(GOOD | {"task": {"type": "worker", "index": 2}}),
        json.dumps(GOOD | {"task": {"type": "worker", "index": "0"}}),
        json.dumps(GOOD | {"task": {"type": "chief", "index": 0}}),
        json.dumps(GOOD | {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}),
        json.dumps(GOOD | {"cluster": {"worker": ["a", "b:1"]}}),
        json.dumps(GOOD | {"cluster": {"worker": 3}}),
    ],
)
def test_a_wrong_tf_config_is_one_line_with_an_example(wrong: str) -> None:
    with pytest.raises(UserError, match=r"TF_CONFIG is .*must be such as") as caught:
        members_of(wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ["auto", "native"])
def test_only_the_keras_engine_is_distributed_and_only_if_it_is_asked_for(engine: str) -> None:
    training = engines.Params(engine=engine, precision="float32")
    with pytest.raises(UserError, match=r"distribute is mirrored, so training\.engine must be keras"):
        distribute.team("mirrored", training).__enter__()
    with distribute.team("none", training) as team:
        assert team == Team()


def test_a_worker_whose_others_do_not_come_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(distribute, "HINT", 0.01)
    monkeypatch.setattr(distribute, "PATIENCE", 0.02)
    monkeypatch.setattr(os, "_exit", codes.append)
    distribute._end_if_alone(Team(("a:1", "b:2", "c:3"), 1), threading.Event())
    assert codes == [2]
    printed = capsys.readouterr()
    assert printed.out == "worker 1 waits for worker 0 (a:1), worker 2 (c:3)\n"
    assert printed.err.startswith("error: not all of worker 0 (a:1), worker 2 (c:3) came in")
    come = threading.Event()
    come.set()
    distribute._end_if_alone(Team(("a:1", "b:2"), 0), come)
    assert codes == [2]
    assert capsys.readouterr().out == ""
