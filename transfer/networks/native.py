"""The training loop for plain CNNs and dense heads on a processor: `native.c`, compiled for it.

A `Program` here does what `transfer.networks.training.Program` does, several times as fast and without TensorFlow.
What one thread computes depends on the compiler and the kind of processor, and on nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from transfer.basics.console import UserError
from transfer.basics.files import is_full, unwritten
from transfer.basics.temporary import temporary_folder
from transfer.networks.layers import Layers
from transfer.networks.provenance import processor
from transfer.networks.schedule import BETAS, Plan

SOURCE = Path(__file__).with_suffix(".c")
FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "native"
FLAGS = (
    *("-O3", "-mcpu=native", "-mprefer-vector-width=512", "-ffp-contract=fast", "-fno-math-errno"),
    *("-shared", "-nostdlib", "-fPIC", "-fno-sanitize=undefined"),
)
LANES, PANEL = 16, 32  # as in native.c
BATCH = 32  # images of a prediction that go from layer to layer together


def padded(count: int) -> int:
    """The same number in whole vectors."""
    return -(-count // LANES) * LANES


def pack(matrix: np.ndarray) -> np.ndarray:
    """A weight as native.c keeps it: (…, columns) in panels of columns, padded; a bias is padded.

    Returns:
        Float32, flat.
    """
    rows = matrix.reshape(-1, matrix.shape[-1])
    filled = np.zeros((len(rows), padded(rows.shape[1])), np.float32)
    filled[:, : rows.shape[1]] = rows
    starts = range(0, filled.shape[1], PANEL)
    return np.concatenate([filled[:, start : start + PANEL].ravel() for start in starts])


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of that shape in what `pack` made."""
    columns, rows = padded(shape[-1]), prod(shape[:-1])
    starts = range(0, columns, PANEL)
    panels = [packed[rows * start :][: rows * min(PANEL, columns - start)].reshape(rows, -1) for start in starts]
    return np.concatenate(panels, axis=1)[:, : shape[-1]].reshape(shape).copy()


class Program:
    """A network's training and prediction.

    Args:
        layers: the network.
        shift: training images are moved by up to this many pixels each way at random, anew in every step.
        betas: decay of Adam's moments (Kingma & Ba 2015, algorithm 1).
        threads: side by side, each on its share of a batch; another number gives other bits in training.
    """

    def __init__(self, layers: Layers, *, shift: int = 0, betas: tuple[float, float] = BETAS, threads: int = 1) -> None:
        self.layers = layers
        self.shift = shift
        self.betas = betas
        self._shapes = layers.weights
        self._sizes = [prod(shape[:-1]) * padded(shape[-1]) for shape in self._shapes]
        self._state = aligned(3, sum(self._sizes))  # weights, Adam's first moments, its second
        self._threads = threads
        self._rooms: list[Room] = []

    def start(self, weights: Sequence[np.ndarray], seed: int) -> None:
        """Set the trainable weights, forget the optimizer's moments, and seed dropout."""
        self._state[:] = 0
        self._state[0] = np.concatenate([pack(weight) for weight in weights])
        self._seed = seed

    def weights(self) -> list[np.ndarray]:
        """The trainable weights as they are now."""
        parts = np.split(self._state[0], np.cumsum(self._sizes)[:-1])
        return [unpack(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def state(self) -> list[np.ndarray]:
        """All that training goes on from beside the seeds and the number of steps, float32: weights and moments."""
        return [self._state.copy()]

    def restore(self, state: Sequence[np.ndarray], seed: int) -> None:
        """Go on from what `state` gave; `seed` as in `start`."""
        self._state[:] = state[0]
        self._seed = seed

    def train(self, images: np.ndarray, labels: np.ndarray, plan: Plan, *, seed: int, first_step: int = 0) -> float:
        """Take gradient steps, as `transfer.networks.engines.Program` explains.

        Raises:
            ValueError: if images are not what the network takes, or a label or a row is none; C would not notice.
        """
        images, labels = self._checked(images), np.ascontiguousarray(labels, np.int32)
        steps, batch = plan.batches.shape
        for name, numbers, count in (("label", labels, self.layers.classes), ("row", plan.batches, len(images))):
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
                raise ValueError(f"a {name} is outside 0 … {count - 1}")
        number = np.arange(first_step + 1, first_step + steps + 1)
        beta_1, beta_2 = self.betas
        rates = (plan.rates * np.sqrt(1 - beta_2**number) / (1 - beta_1**number)).astype(np.float32)
        keys = np.random.default_rng(self._seed).integers(1, 2**32, first_step + steps, np.uint32)[first_step:]
        likely = np.empty((steps, batch), np.float32)
        moves = self._moves(seed, first_step + steps, batch)[first_step:] if self.shift else None
        rooms = self._rooms_for(min(batch, -(-batch // self._threads)))
        if self._threads == 1:
            room = rooms[0]
            arguments = (images, labels, plan.batches, steps, batch, moves, keys, rates, *self.betas)
            room.call("train", *arguments, np.empty(batch, np.int32), likely)
        else:
            self._train_side_by_side(images, labels, plan.batches, moves, keys, rates, likely)
        return float(-np.log(np.maximum(likely, np.float32(1e-37))).mean())

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits of every image, (n, classes) float32."""
        return self._outputs(images, [len(self.layers.taps)])[0]

    def features(self, images: np.ndarray, taps: list[str]) -> list[np.ndarray]:
        """What some layers make of every image, (n, width) float32 each."""
        return self._outputs(images, [self.layers.taps.index(tap) for tap in taps])

    def _outputs(self, images: np.ndarray, wanted: list[int]) -> list[np.ndarray]:
        """What some layers give, counted from the first block or dense layer on."""
        images = self._checked(images)
        widths = [*(prod(side) for side in self.layers.sides[1:]), *self.layers.widths[1:]]
        made = [np.empty((len(images), widths[number]), np.float32) for number in wanted]
        starts = range(0, len(images), BATCH)

        def run(room: Room, starts: Sequence[int]) -> None:
            for start in starts:
                rows = np.arange(start, min(start + BATCH, len(images)), dtype=np.int32)
                room.call("forward", images, rows, len(rows), None, 0)
                for array, number in zip(made, wanted, strict=True):
                    array[start : start + BATCH] = room.outputs[number][: len(rows), : array.shape[1]]

        shares = [starts[part :: self._threads] for part in range(self._threads)]
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(run, self._rooms_for(BATCH), shares))
        return made

    def _train_side_by_side(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batches: np.ndarray,
        moves: np.ndarray | None,
        keys: np.ndarray,
        rates: np.ndarray,
        likely: np.ndarray,
    ) -> None:
        rooms, batch = self._rooms, batches.shape[1]
        bounds = [batch * part // self._threads for part in range(self._threads + 1)]
        with ThreadPoolExecutor(self._threads) as pool:
            for step, rows in enumerate(batches):

                def differentiate(room: Room, start: int, end: int, step: int = step, rows: np.ndarray = rows) -> None:
                    chosen, moved = np.empty(end - start, np.int32), None if moves is None else moves[step, start:end]
                    arguments = (rows[start:end], end - start, moved, int(keys[step]) ^ start, 1 / batch, chosen)
                    room.call("differentiate", images, labels, *arguments, likely[step, start:end])

                list(pool.map(differentiate, rooms, bounds, bounds[1:]))
                for room in rooms[1:]:
                    rooms[0].gradient += room.gradient
                rooms[0].call("adam", float(rates[step]), *self.betas)

    def _moves(self, seed: int, steps: int, batch: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(-self.shift, self.shift + 1, (steps, batch, 2), np.int8)

    def _rooms_for(self, images: int) -> list[Room]:
        if not self._rooms or self._rooms[0].images < images:
            self._rooms = [Room(self.layers, self._state, images) for _ in range(self._threads)]
        return self._rooms

    def _checked(self, images: np.ndarray) -> np.ndarray:
        kind = np.uint8 if len(self.layers.shape) == 3 else np.float32
        if images.dtype != kind or images.shape[1:] != self.layers.shape:
            raise ValueError(f"images are {images.dtype} {images.shape[1:]}, not {kind.__name__} {self.layers.shape}")
        return np.ascontiguousarray(images)


class Room:
    """Where one thread computes: a `Network` of native.c for batches of up to some images, and its memory."""

    def __init__(self, layers: Layers, state: np.ndarray, images: int) -> None:
        self.images = images
        self.gradient = aligned(1, state.shape[1])[0]
        self.outputs: list[np.ndarray] = []
        self._memory: list[np.ndarray] = [state]
        (height, width, channels), *pooled = sides = layers.sides
        size = height * width * channels
        net = self._network = _Network(blocks=len(layers.blocks), layers=len(layers.dense) + 1)
        net.height, net.width, net.channels, net.floats = height, width, channels, len(layers.shape) == 1
        net.dropout, net.parameters = layers.dropout, state.shape[1]
        net.weights, net.first, net.second = (pointer(part) for part in state)
        net.gradient = pointer(self.gradient)
        net.input_stride = padded(size) + LANES * 2
        net.input = self._take(images * net.input_stride)
        lanes, widths = padded(images), layers.widths
        net.across = self._take(max(widths[:-1]) * lanes)
        net.turned = self._take(max(padded(units) for units in widths[1:]) * lanes)
        place = 0
        for number, block in enumerate(layers.blocks):
            below, above, made = sides[number], pooled[number], net.block[number]
            made.height, made.width, made.channels = below
            made.kernel, made.pool, made.filters = block.kernel, block.pool, block.filters
            made.pooled_height, made.pooled_width = above[:2]
            made.weights = place
            made.bias = place + block.kernel**2 * below[2] * padded(block.filters)
            place = made.bias + padded(block.filters)
            made.stride = padded(prod(above)) + LANES * 2
            made.row = padded(block.kernel * below[2])
            made.output, made.choice = self._take(images * made.stride), self._take(images * made.stride)
            self.outputs.append(self._memory[-2].reshape(images, -1))
            made.input_gradient = self._take(prod(below) + made.row + LANES)
            made.turned, made.gradient = (self._take(block.filters * block.kernel * made.row + LANES) for _ in "ab")
        if layers.blocks:
            rows = zip(pooled, layers.blocks, strict=True)
            net.rowbuffer = self._take(max(side[1] * block.pool**2 * padded(block.filters) for side, block in rows))
            net.top_gradient = self._take(images * net.block[len(layers.blocks) - 1].stride)
        for number, (inputs, units) in enumerate(pairwise(widths)):
            layer = net.layer[number]
            layer.inputs, layer.units, layer.weights = inputs, units, place
            layer.bias = place + inputs * padded(units)
            place = layer.bias + padded(units)
            layer.stride = padded(units)
            layer.output, layer.gradient = (self._take(images * layer.stride) for _ in "ab")
            self.outputs.append(self._memory[-2].reshape(images, -1))

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of native.c with the network; other threads go on meanwhile."""
        getattr(library(), function)(ctypes.byref(self._network), *(_as_c(argument) for argument in arguments))

    def _take(self, count: int) -> int:
        self._memory.append(aligned(1, count)[0])
        return pointer(self._memory[-1])


def aligned(count: int, size: int) -> np.ndarray:
    """Zeros that start at a vector's boundary, (count, size) float32; `size` in whole vectors keeps every row there."""
    raw = np.zeros(count * size + LANES, np.float32)
    start = -raw.ctypes.data // raw.itemsize % LANES
    return raw[start : start + count * size].reshape(count, size)


def pointer(array: np.ndarray) -> int:
    """Where an array's numbers are."""
    return array.ctypes.data


def _as_c(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.ctypes.data)
    return ctypes.c_float(argument) if isinstance(argument, float) else argument


class _Block(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("height", "width", "channels", "kernel", "pool", "filters")),
        *((name, ctypes.c_int) for name in ("pooled_height", "pooled_width")),
        *((name, ctypes.c_long) for name in ("weights", "bias")),
        *((name, ctypes.c_void_p) for name in ("output", "choice", "input_gradient", "turned", "gradient")),
        ("stride", ctypes.c_long),
        ("row", ctypes.c_int),
    ]


class _Dense(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("inputs", "units")),
        *((name, ctypes.c_long) for name in ("weights", "bias")),
        *((name, ctypes.c_void_p) for name in ("output", "gradient")),
        ("stride", ctypes.c_long),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("blocks", "layers", "height", "width", "channels", "floats")),
        ("dropout", ctypes.c_float),
        ("parameters", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("weights", "gradient", "first", "second", "input")),
        ("input_stride", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("across", "turned", "rowbuffer", "top_gradient")),
        ("block", _Block * 8),
        ("layer", _Dense * 9),
    ]


def hindrance(layers: Layers) -> str:
    """Why a network cannot be trained by this module, here; nothing if it can.

    Raises:
        UserError: if the disk is too full to compile it, which must not make another engine of it.
    """
    largest = [(len(layers.blocks), 8, "blocks"), (len(layers.dense), 8, "dense layers")]
    for block in layers.blocks:
        largest += [(block.pool, 8, "pixels in a pool's side"), (block.filters, 4096, "filters in a block")]
    for count, most, what in largest:
        if count > most:
            return f"there are {count} {what}, and it takes at most {most}"
    try:
        library()
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        if is_full(error) or re.search("NoSpaceLeft|No space left", told):
            raise unwritten(OSError(errno.ENOSPC, ""), FOLDER, elsewhere="name another folder in TMPDIR") from None
        return f"native.c cannot be compiled here ({told.strip().splitlines()[-1]})"
    return ""


@cache
def library() -> ctypes.CDLL:
    """native.c, compiled for this processor: once, then kept in a folder beside the code.

    Raises:
        OSError: if there is no place for it.
        CalledProcessError: if the compiler fails.
    """
    parts = [SOURCE.read_bytes(), FLAGS, version("ziglang"), processor()]
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        loaded = _load(FOLDER, name)
    except (OSError, UserError, subprocess.CalledProcessError):  # its disk is full or read-only, or forbids to execute
        with temporary_folder() as folder:
            loaded = _load(folder, name)
    for function in ("forward", "differentiate", "adam", "train"):
        getattr(loaded, function).restype = None
    return loaded


def _load(kept: Path, name: str) -> ctypes.CDLL:
    """The library from a folder, where its file bears the digest of its content, as a damaged one computes anything."""
    for path in kept.glob(f"{name}-*.so"):
        if path.name == _named(name, path):
            return ctypes.CDLL(str(path))
    with temporary_folder(kept) as folder:
        # From inside the folder, by plain names: the compiler takes no path with quotes, $ or #, and keeps it.
        made = folder / "made.so"
        shutil.copyfile(SOURCE, folder / SOURCE.name)
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-fdebug-compilation-dir=.", SOURCE.name]
        command += ["-o", made.name]
        caches = dict.fromkeys(("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR"), "cache")
        subprocess.run(command, cwd=folder, env=os.environ | caches, check=True, capture_output=True, text=True)
        path = made.replace(kept / _named(name, made))
    return ctypes.CDLL(str(path))


def _named(name: str, path: Path) -> str:
    return f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.so"
