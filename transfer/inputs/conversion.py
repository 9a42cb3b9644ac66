"""Bring the images of both sides, built-in or the user's own, to the form that the source model takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.basics.console import counted
from transfer.basics.files import digest
from transfer.datasets.containers import fingerprint
from transfer.datasets.sets import SETS, read_set
from transfer.inputs import own, pixels
from transfer.inputs.data import Params, Side, TargetSide
from transfer.inputs.form import Form
from transfer.inputs.pool import EITHER, TEST, TRAIN, read_pool
from transfer.mapped import write_folder

SHIFT_SEED = 0
Numbers = np.ndarray | Sequence[int]


def convert_side(path: Path, side: Side, key: str, params: Params, form: Form, raw: Path) -> dict[str, Any]:
    """Write the images of one side as a pool.

    Args:
        path: of the folder to write.
        side: which images.
        key: of the side in the parameters, for errors, as in `data.target`.
        params: say what both sides share.
        form: that images are brought to.
        raw: folder of the built-in data sets.

    Returns:
        Facts for the report, ready for JSON.

    Raises:
        UserError: if data cannot be read, or lack a class that is asked for.
    """
    if side.name == "none":
        return _write(path, np.zeros((0, *form.shape), np.uint8), [], [], [], [], form, "not known")
    if side.name == "folder":
        return _convert_folder(path, side, key, form)
    if side.name == "npz":
        return _convert_npz(path, side, key, form)
    return _convert_built_in(path, side, key, params, form, raw)


def _convert_built_in(path: Path, side: Side, key: str, params: Params, form: Form, raw: Path) -> dict[str, Any]:
    found = read_set(side.name, raw)
    known = SETS[side.name].classes
    classes = side.choose(known, key)
    taken = {name: number for number, name in enumerate(classes)}
    number = np.array([taken.get(name, -1) for name in known], np.int32)
    facts: dict[str, Any] = {}
    images, labels, part = [], [], []
    for half, which in (("train", TRAIN), ("test", TEST)):
        given, given_labels = getattr(found, f"{half}_images"), getattr(found, f"{half}_labels")
        if given is None:
            continue
        facts |= {f"{half} {name}": fact for name, fact in _published(given, given_labels, len(known)).items()}
        rows = np.flatnonzero(number[given_labels] >= 0)
        rows = rows[_own_share(number[given_labels[rows]], side is params.target, classes, params.shared)]
        images.append(pixels.convert(given[rows], form))
        labels.append(number[given_labels[rows]])
        part.append(np.full(len(rows), which if found.test_images is not None else EITHER, np.uint8))
    every = np.concatenate(images)
    title = SETS[side.name].title
    if isinstance(side, TargetSide) and side.shift != "none":
        every = pixels.shifted(every, side.shift, SHIFT_SEED)
        title += f", {side.shift}"
    return _write(path, every, np.concatenate(labels), np.concatenate(part), [], classes, form, title, facts)


def _published(images: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, Any]:
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


def _convert_folder(path: Path, side: Side, key: str, form: Form) -> dict[str, Any]:
    listings = [own.list_files(Path(side.path), f"{key}.path")]
    if side.own_test:
        listings.append(own.list_files(side.own_test, f"{key}.test_path"))
    labels, part, groups, classes, kept = _own_rows([(each.labels, each.groups) for each in listings], side, key)
    files = [file for each in listings for file in each.files]

    def images(file: Path) -> None:
        own.read_files([files[row] for row in kept], form, file, key)

    return _write(path, images, labels, part, groups, classes, form, f"{counted(len(kept), 'file')} of {side.path}")


def _convert_npz(path: Path, side: Side, key: str, form: Form) -> dict[str, Any]:
    loaded = [own.read_npz(Path(side.path), f"{key}.path")]
    if side.own_test:
        loaded.append(own.read_npz(side.own_test, f"{key}.test_path"))
    labels, part, groups, classes, kept = _own_rows([(names, groups) for _, names, groups in loaded], side, key)
    images = np.concatenate([pixels.convert(given, form) for given, _, _ in loaded])[kept]
    return _write(path, images, labels, part, groups, classes, form, f"arrays of {side.path}")


def _own_rows(
    given: Sequence[tuple[Sequence[str], Sequence[str] | None]], side: Side, key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Labels, parts, groups and class names of the user's own images, and which of them are of a class of the task."""
    names = np.concatenate([np.array(labels, dtype=object) for labels, _ in given])
    where = [EITHER] if len(given) == 1 else [TRAIN, TEST]
    part = np.concatenate(
        [np.full(len(labels), which, np.uint8) for which, (labels, _) in zip(where, given, strict=True)]
    )
    group = np.concatenate([np.array(groups or [""] * len(labels), dtype=object) for labels, groups in given])
    classes = side.choose(sorted(set(names)), key)
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number.get(name, -1) for name in names], np.int32)
    kept = np.flatnonzero(labels >= 0)
    _, numbered = np.unique(group.astype(str), return_inverse=True)
    groups = np.where(group == "", -1, numbered).astype(np.int32)
    return labels[kept], part[kept], groups[kept], classes, kept


def _write(
    path: Path,
    images: np.ndarray | Callable[[Path], object],
    labels: Numbers,
    part: Numbers,
    groups: Numbers,
    classes: Sequence[str],
    form: Form,
    title: str,
    raw: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a pool, and tell what is in it; `images` are the array, or a function that writes it to a file."""
    arrays = {
        "images": images,
        "labels": np.asarray(labels, np.int32),
        "part": np.asarray(part, np.uint8),
        "groups": np.asarray(groups, np.int32) if len(groups) else np.full(len(labels), -1, np.int32),
        "classes": np.array(classes, dtype=np.str_),
        "form": np.array(form.to_text()),
    }
    write_folder(path, arrays)
    shape = read_pool(path).images.shape
    converted = {"images": {"shape": shape, "sha256": digest(path / "images.npy")}}
    return {"title": title, "classes": list(classes), "raw": raw or converted}
