"""Bring the images of both sides, built-in or the user's own, to the form that the source model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from transfer.console import counted, say
from transfer.data import folders, images
from transfer.data.pool import EITHER, TEST, TRAIN, read_pool
from transfer.data.preprocessing import Preprocessing
from transfer.data.section import Params, Side
from transfer.data.sets import NONE, SETS, fingerprint, read_set
from transfer.files import digest, write_folder, write_rows

SHIFT_SEED = 0
BATCH = 1024  # images that are converted together


@dataclass(frozen=True)
class Found:
    """What a side's data hold of its classes.

    Attributes:
        batches: the images, in their preprocessing.
        labels, part, groups, classes: as in `transfer.data.pool.Pool`.
        preprocessing: of the images.
        title: what the data are called.
        raw: shape and SHA-256 of published arrays; None of the user's own.
    """

    batches: Iterable[np.ndarray]
    labels: np.ndarray
    part: np.ndarray
    groups: np.ndarray
    classes: list[str]
    preprocessing: Preprocessing
    title: str
    raw: dict[str, Any] | None = None


def convert_side(
    path: Path,
    key: Literal["source", "target"],
    params: Params,
    shape: tuple[int, int, int],
    raw: Path,
    warn: Callable[[str], None] = say,
) -> dict[str, Any]:
    """Write the images of one side as a pool.

    Args:
        path: of the folder to write.
        key: which side.
        params: say what it is made of.
        shape: that images are brought to, (height, width, channels).
        raw: folder of the built-in data sets.
        warn: is told of what is doubtful in the user's own.

    Returns:
        Facts for the report, ready for JSON.

    Raises:
        UserError: if data cannot be read, or lack a class that is asked for.
    """
    side: Side = getattr(params, key)
    preprocessing = Preprocessing(*shape, fit=params.fit, polarity=side.polarity)
    if side.name == NONE:
        found = _nothing(preprocessing)
    elif side.own:
        side.check_paths(f"data.{key}")
        found = _find_own(side, key, params, preprocessing, warn)
    else:
        found = _find_built_in(side, key, params, preprocessing, raw)
    write_folder(
        path,
        {
            "images": lambda file: write_rows(file, found.batches, len(found.labels)),
            "labels": found.labels,
            "part": found.part,
            "groups": found.groups,
            "classes": np.array(found.classes, dtype=np.str_),
            "preprocessing": np.array(found.preprocessing.to_text()),
        },
    )
    own = {"images": {"shape": read_pool(path).images.shape, "sha256": digest(path / "images.npy")}}
    return {"title": found.title, "classes": found.classes, "raw": found.raw or own}


def _nothing(preprocessing: Preprocessing) -> Found:
    batches = [np.zeros((0, *preprocessing.shape), np.uint8)]
    numbers = np.zeros(0, np.int32)
    return Found(batches, numbers, numbers.astype(np.uint8), numbers, [], preprocessing, "not known")


def _find_built_in(side: Side, key: str, params: Params, preprocessing: Preprocessing, raw: Path) -> Found:
    given, known = read_set(side.name, raw), SETS[side.name]
    classes = side.choose(known.classes, f"data.{key}")
    number = np.array([classes.index(name) if name in classes else -1 for name in known.classes], np.int32)
    published: dict[str, Any] = {}
    chosen, labels, part = [], [], []
    for half, which in (("train", TRAIN), ("test", TEST)):
        pixels, every = getattr(given, f"{half}_images"), getattr(given, f"{half}_labels")
        if pixels is None:
            continue
        published[f"{half} images"] = _fact(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        published[f"{half} labels"] = _fact(every.astype(np.uint8))
        rows = np.flatnonzero(number[every] >= 0)
        rows = rows[_own_share(number[every[rows]], key == "target", classes, params.shared)]
        chosen.append((pixels, rows))
        labels.append(number[every[rows]])
        part.append(np.full(len(rows), which if known.split else EITHER, np.uint8))
    shift = params.target.shift if key == "target" else "none"

    def batches() -> Iterator[np.ndarray]:
        before = 0
        for batch in _batches(chosen):
            yield images.shifted(images.convert(batch, preprocessing), shift, SHIFT_SEED + before)
            before += len(batch)

    return Found(
        batches=batches(),
        labels=np.concatenate(labels),
        part=np.concatenate(part),
        groups=np.full(sum(map(len, labels)), -1, np.int32),
        classes=classes,
        preprocessing=preprocessing,
        title=known.title + ("" if shift == "none" else f", {shift}"),
        raw=published,
    )


def _fact(array: np.ndarray) -> dict[str, Any]:
    """Shape, and the SHA-256 that an array is published by."""
    return {"shape": array.shape, "sha256": fingerprint(array)}


def _own_share(labels: np.ndarray, target: bool, classes: Sequence[str], shared: Sequence[str]) -> np.ndarray:
    """Which images of a class that both sides have are for one of them: a mask; every other one, in a random order."""
    mine = np.ones(len(labels), bool)
    for name in shared:
        rows = np.flatnonzero(labels == classes.index(name))
        mine[np.random.default_rng([0, len(rows)]).permutation(rows)[int(not target) :: 2]] = False
    return mine


def _find_own(side: Side, key: str, params: Params, preprocessing: Preprocessing, warn: Callable[[str], None]) -> Found:
    def read(path: Path, name: str) -> tuple[np.ndarray | None, pd.DataFrame]:
        return folders.read_npz(path, name) if side.name == "npz" else (None, folders.list_files(path, name, warn))

    arrays, tables = zip(
        *(read(Path(path), f"data.{key}.{name}") for name, path in side.own_paths.items()), strict=True
    )
    table: pd.DataFrame = pd.concat(tables, keys=range(len(tables)), names=["place", "row"]).reset_index()
    classes = side.choose(sorted(set(table.label)), f"data.{key}")
    table["group"] = pd.factorize(table.group.where(table.group != ""), sort=True)[0]  # -1 where there is none
    table = table[table.label.isin(classes)]
    places = " and ".join(Path(path).resolve().name for path in side.own_paths.values())  # the report is shared
    if side.name == "npz":
        chosen = [(pixels, table.row[table.place == place].to_numpy()) for place, pixels in enumerate(arrays)]
        batches: Iterable[np.ndarray] = (images.convert(batch, preprocessing) for batch in _batches(chosen))
        title = f"arrays of {places}"
    else:
        if any(path.suffix.lower() in folders.RECORDINGS for path in table.path):
            preprocessing = replace(preprocessing, sound=params.sound)
        batches = folders.read_files(table.path.tolist(), preprocessing, key)
        title = f"{counted(len(table), 'file')} of {places}"
    parts = np.array([EITHER] if len(tables) == 1 else [TRAIN, TEST], np.uint8)
    return Found(
        batches=batches,
        labels=np.array([classes.index(name) for name in table.label], np.int32),
        part=parts[table.place],
        groups=table.group.to_numpy(np.int32),
        classes=classes,
        preprocessing=preprocessing,
        title=title,
    )


def _batches(chosen: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """Some rows of arrays, one array after the other, a batch at a time."""
    for pixels, rows in chosen:
        for start in range(0, len(rows), BATCH):
            yield pixels[rows[start : start + BATCH]]
