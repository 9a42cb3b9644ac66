"""The readers of what a stranger may have made, under coverage-guided fuzzing: a value, or one line.

Each runs in a process of its own, `python tests/faults/fuzzing.py NAME FOLDER RUNS`: Atheris (libFuzzer) changes the
files of the folder, and goes on from what reached something new; by its seed always in the same way.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from common import REPEATS

ROOT = Path(__file__).resolve().parents[2]
CUT = b"\n|cut here|\n"  # between the parts of an input that stands for several files
Target = Callable[[bytes], object]

# Each gives what reads the bytes, and raises nothing but a `UserError`. Imports are inside: they come when the fuzzer
# is ready to see which of their lines are reached.


def params() -> Target:
    from stages.check import check
    from transfer.params import parse_params, read_params

    written("none", b"")
    whole = read_params(ROOT / "params.yaml")
    return lambda content: check(whole | parse_params(content.decode(errors="replace"), "params.yaml"))


def model(suffix: str) -> Target:
    from transfer.models.safety import read_model_file

    number = iter(range(1 << 62))  # a name is read only once

    def target(content: bytes) -> None:
        parts = ("config.json", "model.weights.h5", "metadata.json")
        path = written(f"{next(number)}{suffix}", zipped(content, *parts) if suffix == ".keras" else content)
        try:
            read_model_file(path)
        finally:
            path.unlink()

    return target


def written(name: str, content: bytes) -> Path:
    """Into the current folder, which is one of its own, in memory where there is such."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def zipped(content: bytes, *names: str) -> bytes:
    """The input as it is if it begins like an archive, else its parts in one, as no change of bytes would make it."""
    if content.startswith(b"PK"):
        return content
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, part in zip(names, content.split(CUT), strict=False):
            archive.writestr(name, part)
    return made.getvalue()


def weights() -> bytes:
    import h5py

    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((4, 2), np.float32)
        file.attrs["model_config"] = CONFIG.decode()
    return made.getvalue()


def sections() -> list[bytes]:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    return [part.encode() for part in re.split(r"\n(?=\w)", re.sub(r" *#.*", "", text))]


LAYERS = [
    {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 1]}},
    {"module": "keras.layers", "class_name": "Rescaling", "config": {"name": "r", "scale": 0.1}},
    {"module": "keras.layers", "class_name": "Flatten", "config": {"name": "f"}},
]
NETWORK = {"module": "keras", "class_name": "Sequential", "registered_name": None}
CONFIG = json.dumps(NETWORK | {"config": {"name": "net", "layers": LAYERS}}).encode()

READERS: dict[str, tuple[int, Callable[[], list[bytes]], Callable[[], Target]]] = {  # how often, from what on, what
    "params": (500, sections, params),
    "keras": (10_000, lambda: [CUT.join([CONFIG, weights(), b"{}"])], lambda: model(".keras")),
    "hdf5": (10_000, lambda: [weights()], lambda: model(".h5")),
}


def fuzz(name: str, folder: str, runs: str) -> None:
    """Run one of them to the end, or to the first thing that goes wrong."""
    import atheris

    with atheris.instrument_imports(include=["stages", "transfer", "ruamel"]):
        from transfer.console import UserError

        target = READERS[name][2]()

    def once(content: bytes) -> None:
        with contextlib.suppress(UserError), contextlib.redirect_stdout(io.StringIO()):
            target(content)

    options = {"runs": runs, "seed": 1, "max_len": 8192, "timeout": 20, "rss_limit_mb": 3000}
    atheris.Setup(["fuzz", *(f"-{key}={value}" for key, value in options.items()), folder], once)
    atheris.Fuzz()


@pytest.mark.skipif(not find_spec("atheris"), reason="there is no Atheris for this system or Python")
@pytest.mark.parametrize("name", READERS)
def test_a_reader_never_crashes(tmp_path: Path, name: str) -> None:
    runs, corpus, _ = READERS[name]
    for number, content in enumerate(corpus()):
        (tmp_path / str(number)).write_bytes(content)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        command = [sys.executable, __file__, name, str(tmp_path), str(runs * REPEATS)]
        env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, errors="replace", timeout=900
        )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {runs * REPEATS} runs" in done.stderr


if __name__ == "__main__":
    fuzz(*sys.argv[1:])
