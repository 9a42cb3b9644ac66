"""Bring the images of both sides, built-in or the user's own, to the form that the source model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transfer.console import counted
from transfer.data import folders, pixels, sound
from transfer.data.containers import fingerprint
from transfer.data.pool import EITHER, TEST, TRAIN, read_pool
from transfer.data.preprocessing import Preprocessing
from transfer.data.section import Params, Side
from transfer.data.sets import SETS, read_set
from transfer.files import digest, write_folder, write_rows

SHIFT_SEED = 0
BATCH = 1024  # images that are converted together


@dataclass(frozen=True)
class Found:
    """What a side's data hold of its classes.

    Attributes:
        write: writes the images to an `.npy` file, in their preprocessing.
        labels, part, groups, classes: as in `transfer.data.pool.Pool`.
        preprocessing: of the images.
        title: what the data are called.
        raw: shape and SHA-256 of published arrays; None of the user's own.
    """

    write: Callable[[Path], object]
    labels: np.ndarray
    part: np.ndarray
    groups: np.ndarray
    classes: list[str]
    preprocessing: Preprocessing
    title: str
    raw: dict[str, Any] | None = None


def convert_side(
    path: Path, key: Literal["source", "target"], params: Params, shape: tuple[int, int, int], raw: Path
) -> dict[str, Any]:
    """Write the images of one side as a pool.

    Args:
        path: of the folder to write.
        key: which side.
        params: say what it is made of.
        shape: that images are brought to, (height, width, channels).
        raw: folder of the built-in data sets.

    Returns:
        Facts for the report, ready for JSON.

    Raises:
        UserError: if data cannot be read, or lack a class that is asked for.
    """
    side: Side = getattr(params, key)
    preprocessing = params.preprocessing(side, shape)
    finders = {"none": _nothing, "folder": _find_in_folder, "npz": _find_in_arrays}
    found = finders.get(side.name, _find_built_in)(side, key, params, preprocessing, raw)
    arrays = {name: getattr(found, name) for name in ("labels", "part", "groups")}
    named = {
        "classes": np.array(found.classes, dtype=np.str_),
        "preprocessing": np.array(found.preprocessing.to_text()),
    }
    write_folder(path, {"images": found.write, **arrays, **named})
    if (raw_facts := found.raw) is None:
        raw_facts = {"images": {"shape": read_pool(path).images.shape, "sha256": digest(path / "images.npy")}}
    return {"title": found.title, "classes": found.classes, "raw": raw_facts}


def _nothing(_side: Side, _key: str, _params: Params, preprocessing: Preprocessing, _raw: Path) -> Found:
    none = np.zeros((0, *preprocessing.shape), np.uint8)
    numbers = np.zeros(0, np.int32)
    return Found(
        lambda file: np.save(file, none), numbers, numbers.astype(np.uint8), numbers, [], preprocessing, "not known"
    )


def _find_built_in(side: Side, key: str, params: Params, preprocessing: Preprocessing, raw: Path) -> Found:
    given, known = read_set(side.name, raw), SETS[side.name]
    classes = side.choose(known.classes, f"data.{key}")
    taken = {name: number for number, name in enumerate(classes)}
    number = np.array([taken.get(name, -1) for name in known.classes], np.int32)
    published: dict[str, Any] = {}
    chosen, labels, part = [], [], []
    for half, which in (("train", TRAIN), ("test", TEST)):
        images, every = getattr(given, f"{half}_images"), getattr(given, f"{half}_labels")
        if images is None:
            continue
        published |= {f"{half} {name}": fact for name, fact in _fingerprints(images, every, len(number)).items()}
        rows = np.flatnonzero(number[every] >= 0)
        rows = rows[_own_share(number[every[rows]], key == "target", classes, params.shared)]
        chosen.append((images, rows))
        labels.append(number[every[rows]])
        part.append(np.full(len(rows), which if known.split else EITHER, np.uint8))
    shift = params.target.shift if key == "target" else "none"

    def convert(images: np.ndarray, before: int) -> np.ndarray:
        return pixels.shifted(pixels.convert(images, preprocessing), shift, SHIFT_SEED + before)

    return Found(
        write=lambda file: _write_converted(file, chosen, convert),
        labels=np.concatenate(labels),
        part=np.concatenate(part),
        groups=np.full(sum(map(len, labels)), -1, np.int32),
        classes=classes,
        preprocessing=preprocessing,
        title=known.title + ("" if shift == "none" else f", {shift}"),
        raw=published,
    )


def _fingerprints(images: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, Any]:
    """Shapes of arrays, and the SHA-256 that they are published by, as IDX files."""
    arrays = {"images": images[..., 0] if images.shape[-1] == 1 else images}
    if classes <= 256:
        arrays["labels"] = labels.astype(np.uint8)
    return {name: {"shape": array.shape, "sha256": fingerprint(array)} for name, array in arrays.items()}


def _own_share(labels: np.ndarray, target: bool, classes: Sequence[str], shared: Sequence[str]) -> np.ndarray:
    """Which images of a class that both sides have are for one of them: a mask; every other one, in a random order."""
    mine = np.ones(len(labels), bool)
    for name in shared:
        rows = np.flatnonzero(labels == classes.index(name))
        mine[np.random.default_rng([0, len(rows)]).permutation(rows)[int(not target) :: 2]] = False
    return mine


def _find_in_folder(side: Side, key: str, params: Params, preprocessing: Preprocessing, _raw: Path) -> Found:
    listings = [folders.list_files(Path(path), f"data.{key}.{name}") for name, path in side.own_paths.items()]
    labelled = [(each.labels, each.groups) for each in listings]
    labels, part, groups, classes, kept = _own_rows(labelled, side, key)
    every = [file for each in listings for file in each.files]
    files = [every[row] for row in kept]
    if any(file.suffix.lower() == sound.SUFFIX for file in files):
        preprocessing = replace(preprocessing, sound=params.sound)
    title = f"{counted(len(files), 'file')} of {_places(side)}"
    return Found(
        lambda file: folders.read_files(files, preprocessing, file, key),
        labels,
        part,
        groups,
        classes,
        preprocessing,
        title,
    )


def _find_in_arrays(side: Side, key: str, _params: Params, preprocessing: Preprocessing, _raw: Path) -> Found:
    loaded = [folders.read_npz(Path(path), f"data.{key}.{name}") for name, path in side.own_paths.items()]
    labels, part, groups, classes, kept = _own_rows([(names, groups) for _, names, groups in loaded], side, key)
    starts = np.cumsum([0, *(len(images) for images, _, _ in loaded)])
    chosen = [
        (images, kept[(kept >= start) & (kept < end)] - start)
        for (images, _, _), start, end in zip(loaded, starts, starts[1:], strict=False)
    ]

    def write(file: Path) -> None:
        _write_converted(file, chosen, lambda images, _before: pixels.convert(images, preprocessing))

    return Found(write, labels, part, groups, classes, preprocessing, f"arrays of {_places(side)}")


def _places(side: Side) -> str:
    """What the user's folders or files are called, without where they are: the report is shared."""
    return " and ".join(Path(path).resolve().name for path in side.own_paths.values())


def _write_converted(
    file: Path, chosen: Sequence[tuple[np.ndarray, np.ndarray]], convert: Callable[[np.ndarray, int], np.ndarray]
) -> None:
    """Write some rows of arrays, one array after the other and converted, as one file; memory holds a batch of them.

    Args:
        file: to write.
        chosen: raw images, and which of them.
        convert: called with some images, and how many went before.
    """

    def converted() -> Iterator[np.ndarray]:
        before = 0
        for images, rows in chosen:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                yield convert(images[batch], before)
                before += len(batch)

    write_rows(file, converted(), sum(len(rows) for _, rows in chosen))


def _own_rows(
    given: Sequence[tuple[Sequence[str], Sequence[str] | None]], side: Side, key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Labels, parts, groups and class names of the user's own images, and which of them are of a class of the task."""
    names = np.concatenate([np.array(labels, dtype=object) for labels, _ in given])
    where = [EITHER] if len(given) == 1 else [TRAIN, TEST]
    part = np.repeat(np.array(where, np.uint8), [len(labels) for labels, _ in given])
    group = np.concatenate([np.array(groups or [""] * len(labels), dtype=object) for labels, groups in given])
    classes = side.choose(sorted(set(names)), f"data.{key}")
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number.get(name, -1) for name in names], np.int32)
    kept = np.flatnonzero(labels >= 0)
    _, numbered = np.unique(group.astype(str), return_inverse=True)
    groups = np.where(group == "", -1, numbered).astype(np.int32)
    return labels[kept], part[kept], groups[kept], classes, kept
