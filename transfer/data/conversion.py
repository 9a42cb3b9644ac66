"""Bring the images of both sides, built-in or the user's own, to the size and colour that the source model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from transfer.console import counted, say
from transfer.data import folders, images
from transfer.data.preprocessing import Preprocessing
from transfer.data.section import Params, Side
from transfer.data.sets import NONE, SETS, fingerprint, read_set
from transfer.data.split import EITHER, TEST, TRAIN
from transfer.files import digest, write_folder, write_rows

SHIFT_SEED = 0
BATCH = 1024  # images that are converted together


def convert_side(
    path: Path,
    key: Literal["source", "target"],
    params: Params,
    shape: tuple[int, int, int],
    raw: Path,
    warn: Callable[[str], None] = say,
) -> dict[str, Any]:
    """Write the images of one side as a pool, which `transfer.data.split.read_pool` reads.

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
    shift = params.target.shift if key == "target" else "none"
    arrays, table, published = _read(side, f"data.{key}", raw, warn)
    parts = np.array([TRAIN, TEST] if table.place.any() else [EITHER], np.uint8)
    known = SETS[side.name].classes if side.name in SETS else sorted(set(table.label))
    classes = side.choose(known, f"data.{key}")
    table = _own_share(table[table.label.isin(classes)], params.shared, target=key == "target")
    batches: Iterable[np.ndarray]
    if table.empty:
        batches = [np.zeros((0, *shape), np.uint8)]
    elif arrays:
        batches = _converted(arrays, table, preprocessing, shift)
    else:
        if any(file.suffix.lower() in folders.RECORDINGS for file in table.path):
            preprocessing = replace(preprocessing, sound=params.sound)
        batches = folders.read_files(table.path.tolist(), preprocessing, key)
    write_folder(
        path,
        {
            "images": lambda file: write_rows(file, batches, len(table)),
            "labels": np.array([classes.index(name) for name in table.label], np.int32),
            "part": parts[table.place],
            "groups": pd.factorize(table.group.where(table.group != ""), sort=True)[0].astype(np.int32),
            "classes": np.array(classes, dtype=np.str_),
            "preprocessing": np.array(preprocessing.to_text()),
        },
    )
    converted = {"images": {"shape": (len(table), *shape), "sha256": digest(path / "images.npy")}}
    return {"title": _title(side, len(table), shift), "classes": classes, "raw": published or converted}


def _read(
    side: Side, key: str, raw: Path, warn: Callable[[str], None]
) -> tuple[Sequence[np.ndarray], pd.DataFrame, dict[str, Any]]:
    """Everything that a side's data hold.

    Returns:
        Arrays of images, none where images are in files; of each image its label, its group (empty for none), its place
        (0, or 1 for test images that are apart), and its row there or its path; and what the arrays were published as.
    """
    arrays: Sequence[np.ndarray] = []
    published: dict[str, Any] = {}
    if side.name == NONE:
        tables = [pd.DataFrame({"label": [], "group": []}, dtype=str)]
    elif side.own:
        side.check_paths(key)
        paths = {f"{key}.{name}": Path(path) for name, path in side.own_paths.items()}
        if side.name == "npz":
            found = [folders.read_npz(path, name) for name, path in paths.items()]
            arrays, tables = [pixels for pixels, _ in found], [table for _, table in found]
        else:
            tables = [folders.list_files(path, name, warn) for name, path in paths.items()]
    else:
        given, names = read_set(side.name, raw), np.array(SETS[side.name].classes)
        arrays = [array for name, array in given.items() if name.endswith("images")]
        tables = [
            pd.DataFrame({"label": names[array], "group": ""})
            for name, array in given.items()
            if name.endswith("labels")
        ]
        for name, array in given.items():
            flat = array[..., 0] if array.shape[-1] == 1 else array  # grey images have no axis for channels
            published[name.replace("_", " ")] = {"shape": flat.shape, "sha256": fingerprint(flat)}
    return arrays, pd.concat(tables, keys=range(len(tables)), names=["place", "row"]).reset_index(), published


def _own_share(table: pd.DataFrame, shared: Sequence[str], *, target: bool) -> pd.DataFrame:
    """Of each class that both sides have, the half that is this side's: every other image, in a random order."""
    for _, rows in table[table.label.isin(shared)].groupby(["place", "label"]).groups.items():
        order = np.random.default_rng([0, len(rows)]).permutation(rows.to_numpy())
        table = table.drop(order[int(not target) :: 2])
    return table


def _converted(
    arrays: Sequence[np.ndarray], table: pd.DataFrame, preprocessing: Preprocessing, shift: images.Shift
) -> Iterator[np.ndarray]:
    """The images of a table, in batches, converted and then shifted."""
    before = 0
    for place, pixels in enumerate(arrays):
        rows = table.row[table.place == place].to_numpy()
        for start in range(0, len(rows), BATCH):
            batch = images.convert(pixels[rows[start : start + BATCH]], preprocessing)
            yield images.shifted(batch, shift, SHIFT_SEED + before)
            before += len(batch)


def _title(side: Side, count: int, shift: images.Shift) -> str:
    """What the data are called; of a path the last part alone, as the report is shared."""
    if side.name in SETS:
        return SETS[side.name].title + ("" if shift == "none" else f", {shift}")
    places = " and ".join(Path(path).resolve().name for path in side.own_paths.values())
    return {"npz": f"arrays of {places}", "folder": f"{counted(count, 'file')} of {places}"}.get(side.name, "not known")
