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
import wave
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


def npz() -> Target:
    from transfer.data.folders import read_npz

    return lambda content: read_npz(written("own.npz", zipped(content, "images.npy", "labels.npy", "groups.npy")), "x")


def image() -> Target:
    from transfer.data.folders import read_file
    from transfer.data.preprocessing import Preprocessing

    return lambda content: read_file(content, Preprocessing(8, 8, 3, "pad", "same"), "a file")


def sound() -> Target:
    from transfer.data.folders import read_file
    from transfer.data.preprocessing import Preprocessing, Sound

    form = Preprocessing(
        8, 8, 1, "pad", "same", Sound(rate=1000, seconds=0.2, window=0.03, hop=0.01, mels=8, decibels=60)
    )
    return lambda content: read_file(b"RIFF" + content[:4] + b"WAVE" + content[4:], form, "a file")


def folder() -> Target:
    from transfer.data.folders import list_files

    for name in ("a.png", "b/c.png"):
        written(f"folder/{name}", b"x")
    return lambda content: list_files(written("folder/labels.csv", content).parent, "data.target.path")


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


def npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def pictures() -> list[bytes]:
    from PIL import Image

    def picture(kind: str, mode: str) -> bytes:
        made = io.BytesIO()
        Image.fromarray(np.arange(108, dtype=np.uint8).reshape(6, 6, 3)).convert(mode).save(made, kind)
        return made.getvalue()

    modes = [(kind, mode) for kind in ("PNG", "TIFF") for mode in ("1", "L", "P", "RGBA", "I;16")]
    return [
        picture(kind, mode)
        for kind, mode in [*((kind, "RGB") for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")), *modes]
    ]


def recordings() -> list[bytes]:
    def recording(width: int) -> bytes:
        made = io.BytesIO()
        with wave.open(made, "wb") as file:
            file.setparams((2, width, 2000, 0, "NONE", ""))
            file.writeframes(bytes(range(240)) * 4)
        content = made.getvalue()
        return content[4:8] + content[12:]

    return [recording(width) for width in (1, 2, 3, 4)]


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


SMALL = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
OWN = CUT.join([npy(np.stack([SMALL[0]] * 4)), npy(np.array(["a", "b", "a", "b"])), npy(np.array([1, 1, 2, 2]))])
TABLE = b"path,label,group\na.png,x,1\nb/c.png,y,\n"
LAYERS = [
    {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 1]}},
    {"module": "keras.layers", "class_name": "Rescaling", "config": {"name": "r", "scale": 0.1}},
    {"module": "keras.layers", "class_name": "Flatten", "config": {"name": "f"}},
]
NETWORK = {"module": "keras", "class_name": "Sequential", "registered_name": None}
CONFIG = json.dumps(NETWORK | {"config": {"name": "net", "layers": LAYERS}}).encode()

READERS: dict[str, tuple[int, Callable[[], list[bytes]], Callable[[], Target]]] = {  # how often, from what on, what
    "npz": (4_000, lambda: [OWN, zipped(OWN, "images.npy", "labels.npy")], npz),
    "image": (2_500, pictures, image),
    "sound": (2_500, recordings, sound),
    "folder": (4_000, lambda: [TABLE, TABLE.replace(b"\n", b"\r\n"), b'path,label\n"a.png","x"'], folder),
    "params": (500, sections, params),
    "keras": (10_000, lambda: [CUT.join([CONFIG, weights(), b"{}"])], lambda: model(".keras")),
    "hdf5": (10_000, lambda: [weights()], lambda: model(".h5")),
}


def fuzz(name: str, folder: str, runs: str) -> None:
    """Run one of them to the end, or to the first thing that goes wrong."""
    import atheris

    with atheris.instrument_imports(include=["stages", "transfer", "ruamel", "PIL", "scipy.io"]):
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
