"""Bring the images of both sides, built-in or the user's own, to the size and colour that the source model takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from transfer.console import counted, say, shown
from transfer.data import folders, images, npz, split
from transfer.data.preprocessing import Preprocessing
from transfer.data.section import NO_PATH, Params, Side, TargetSide
from transfer.data.sets import NONE, SETS, fingerprint, read_set
from transfer.data.split import EITHER, TEST, TRAIN, Pool, digests
from transfer.data.table import LABELS
from transfer.files import digest, read_array, write_folder, write_rows, write_whole

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
    preprocessing = Preprocessing(*shape, fit=params.fit, polarity=side.polarity, margin=side.margin)
    shift = params.target.shift if key == "target" else "none"
    arrays, table, published = _read(side, f"data.{key}", raw, warn)
    apart = bool(table.place.any())
    known = SETS[side.name].classes if side.name in SETS else sorted(set(table.label))
    classes = side.choose(known, f"data.{key}")
    table = _own_share(table[table.label.isin(classes)], params.shared, target=key == "target")
    batches: Iterable[np.ndarray]
    if table.empty:
        batches = [np.zeros((0, *shape), np.uint8)]
    elif arrays:
        batches = _converted(arrays, table, preprocessing, shift, warn)
    else:
        if folders.has_recordings(table.path):
            preprocessing = replace(preprocessing, sound=params.sound)
        batches = folders.read_files(table.path.tolist(), preprocessing, key, warn)
    write_folder(
        path,
        {
            "images": lambda file: write_rows(file, batches, len(table)),
            "preprocessing": np.array(preprocessing.to_text()),
            **_facts_of_images(table, classes, apart=apart),
        },
    )
    if side.own:
        _warn_of_two_labels(read_array(path / "images.npy", mapped=True), table, f"data.{key}", warn, apart=apart)
    converted = {"images": {"shape": (len(table), *shape), "sha256": digest(path / "images.npy")}}
    return {"title": _title(side, len(table), shift), "classes": classes, "raw": published or converted}


def convert_unlabelled(
    path: Path, side: TargetSide, preprocessing: Preprocessing, warn: Callable[[str], None] = say
) -> dict[str, Any]:
    """Write the user's images without labels, none where none are given, as an `.npy` file.

    Args:
        path: of the file to write.
        side: says where the images are.
        preprocessing: of the target's other images.
        warn: is told of what is doubtful in them.

    Returns:
        Facts for the report, ready for JSON; none where no images are given.

    Raises:
        UserError: if they cannot be read, or there are none where some are said to be.
    """
    key, place = "data.target.unlabelled", Path(side.unlabelled)
    batches: Iterable[np.ndarray]
    if side.unlabelled == NO_PATH:
        count, batches = 0, [np.zeros((0, *preprocessing.shape), np.uint8)]
    elif side.name == "npz":
        pixels = npz.read_pixels(place, key)
        with np.load(place) as file:
            if "labels" in file:
                warn(f"{key}: the labels in {shown(place)} are not read, as images there are used without")
        count = len(pixels)
        batches = _in_batches(pixels, np.arange(count), preprocessing, key, warn)
    else:
        if (place / LABELS).is_file() and not place.samefile(side.path):
            warn(f"{key}: {shown(place / LABELS)} is not read, as images there are used without labels")
        files = folders.list_unlabelled(place, f"{key}: {shown(place)}", warn)
        count, batches = len(files), folders.read_files(files, preprocessing, "unlabelled", warn)
    write_whole(path, lambda file: write_rows(file, batches, count))
    if side.unlabelled == NO_PATH:
        return {}
    converted = {"shape": (count, *preprocessing.shape), "sha256": digest(path)}
    return {"title": _own_title(side.name, count, [side.unlabelled]), "raw": {"images": converted}}


def check_counts(params: Params, split_params: split.Params) -> None:
    """Check that there are enough of the user's own images, and groups that can be divided, without reading any image.

    Images that are there twice may leave fewer in the end.

    Raises:
        UserError: as the stage `split` would, when all images were converted.
    """
    for key, side in (("target", params.target), ("source", params.source)):
        if not side.own:
            continue
        table = _list_own(side, f"data.{key}", images.untold)  # `convert` will tell
        apart = bool(table.place.any())
        classes = side.choose(sorted(set(table.label)), f"data.{key}")
        table = table[table.label.isin(classes)]
        numbers = np.arange(len(table))[:, np.newaxis]  # in the place of images, each another one
        pool = Pool(numbers, preprocessing=np.array(""), **_facts_of_images(table, classes, apart=apart))
        parts = split.divide(pool, split_params, f"data.{key}")
        (split.split_target if key == "target" else split.split_source)(pool, parts, split_params)
    if params.target.name == "folder" and params.target.unlabelled != NO_PATH:
        place = Path(params.target.unlabelled)
        folders.list_unlabelled(place, f"data.target.unlabelled: {shown(place)}", images.untold)


def _facts_of_images(table: pd.DataFrame, classes: Sequence[str], *, apart: bool) -> dict[str, np.ndarray]:
    """What a `Pool` has of each image, and the names of the classes."""
    parts = np.array([TRAIN, TEST] if apart else [EITHER], np.uint8)
    return {
        "labels": np.array([classes.index(name) for name in table.label], np.int32),
        "part": parts[table.place],
        "groups": pd.factorize(table.group.where(table.group != ""), sort=True)[0].astype(np.int32),
        "classes": np.array(classes, dtype=np.str_),
    }


def _warn_of_two_labels(
    pixels: np.ndarray, table: pd.DataFrame, key: str, warn: Callable[[str], None], *, apart: bool
) -> None:
    """Tell of images with the same pixels, in the form that the model takes, but different labels."""
    table = table.assign(pixels=digests(pixels).tolist())
    table = table[table.groupby("pixels").label.transform("nunique") > 1].drop_duplicates(["pixels", "label"])
    names = (table["name"] + " (" + table.label + ")").groupby(table.pixels, sort=False)
    pairs = [" and ".join(alike[:2]) for _, alike in names]
    if pairs:
        kept = " to train on, unless it is a test image, and every test image" if apart else " and drops the others"
        warn(
            f"{key}: {counted(len(pairs), 'image')} under two labels, with the same pixels: "
            f"{shown('; '.join(pairs[:3]))}: correct the labels, as `split` keeps the first{kept}"
        )


def _list_own(side: Side, key: str, warn: Callable[[str], None]) -> pd.DataFrame:
    """The user's own images: what `list_files` or `list_rows` says, with its place and row as `_read` has them."""
    side.check_paths(key)
    tables = [
        folders.list_files(Path(path), f"{key}.{name}", warn, side.columns)
        if side.name == "folder"
        else npz.list_rows(Path(path), f"{key}.{name}")
        for name, path in side.own_paths.items()
    ]
    return _joined(tables)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, keys=range(len(tables)), names=["place", "row"]).reset_index()


def _read(
    side: Side, key: str, raw: Path, warn: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], pd.DataFrame, dict[str, Any]]:
    """Everything that a side's data hold.

    Returns:
        Arrays of images by what they are called, none where images are in files; of each image its label, its group
        (empty for none), its place (0, or 1 for test images that are apart), and its row there or its path; and what
        the arrays were published as.
    """
    if side.name == NONE:
        return {}, _joined([pd.DataFrame({"label": [], "group": []}, dtype=str)]), {}
    if side.own:
        table, paths = _list_own(side, key, warn), side.own_paths if side.name == "npz" else {}
        arrays = {
            f"{key}.{name}": npz.read_pixels(Path(path), f"{key}.{name}", np.sum(table.place == place))
            for place, (name, path) in enumerate(paths.items())
        }
        return arrays, table, {}
    given, names = read_set(side.name, raw), np.array(SETS[side.name].classes)
    tables = [
        pd.DataFrame({"label": names[array], "group": ""}) for name, array in given.items() if name.endswith("labels")
    ]
    published = {}
    for name, array in given.items():
        flat = array[..., 0] if array.shape[-1] == 1 else array  # grey images have no axis for channels
        published[name.replace("_", " ")] = {"shape": flat.shape, "sha256": fingerprint(flat)}
    return {name: array for name, array in given.items() if name.endswith("images")}, _joined(tables), published


def _own_share(table: pd.DataFrame, shared: Sequence[str], *, target: bool) -> pd.DataFrame:
    """Of each class that both sides have, the half that is this side's: every other image, in a random order."""
    for _, rows in table[table.label.isin(shared)].groupby(["place", "label"]).groups.items():
        order = np.random.default_rng([0, len(rows)]).permutation(rows.to_numpy())
        table = table.drop(order[int(not target) :: 2])
    return table


def _converted(
    arrays: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    preprocessing: Preprocessing,
    shift: images.Shift,
    warn: Callable[[str], None],
) -> Iterator[np.ndarray]:
    """The images of a table, in batches, converted and then shifted."""
    before = 0
    for place, (name, pixels) in enumerate(arrays.items()):
        rows = table.row[table.place == place].to_numpy()
        for batch in _in_batches(pixels, rows, preprocessing, name, warn):
            yield images.shifted(batch, shift, SHIFT_SEED + before)
            before += len(batch)


def _in_batches(
    pixels: np.ndarray, rows: np.ndarray, preprocessing: Preprocessing, name: str, warn: Callable[[str], None]
) -> Iterator[np.ndarray]:
    """Rows of an array of images, in batches, converted; at the end, what is doubtful of them is told."""
    white = images.white_of(pixels)
    if len(rows) and white < images.WHITES[-1]:
        warn(f"{name}: {counted(len(rows), 'image')} {images.NARROW.format(white)}")
    doubts: list[str] = []
    for start in range(0, len(rows), BATCH):
        yield images.convert(pixels[rows[start : start + BATCH]], preprocessing, white, doubts.append)
    for doubt, count in Counter(doubts).items():
        warn(f"{name}: {counted(count, 'image')} {doubt}")


def _title(side: Side, count: int, shift: images.Shift) -> str:
    """What the data are called; of a path the last part alone, as the report is shared."""
    if side.name in SETS:
        return SETS[side.name].title + ("" if shift == "none" else f", {shift}")
    return _own_title(side.name, count, side.own_paths.values())


def _own_title(kind: str, count: int, paths: Iterable[str]) -> str:
    places = " and ".join(Path(path).resolve().name for path in paths)
    return {"npz": f"arrays of {places}", "folder": f"{counted(count, 'file')} of {places}"}.get(kind, "not known")
