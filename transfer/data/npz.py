"""Images of one's own in an npz file."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from transfer.console import UserError, counted, one_line, shown
from transfer.data import images
from transfer.data.folders import check_classes


def list_rows(path: Path, key: str) -> pd.DataFrame:
    """List an npz file of one's own, as `read_npz` reads it, without its images.

    Returns:
        label, group and name, as `list_files` has them.
    """
    arrays, where = _arrays(path, key, "labels", "groups"), f"{key}: {shown(path)}"
    for name, array in arrays.items():
        if array.dtype.kind not in "iuU" or array.shape != arrays["labels"].shape[:1]:
            raise UserError(
                f"{where}: {name} is {array.dtype} {array.shape}, but must be an integer or text for each image"
            )
    labels = [unicodedata.normalize("NFC", str(label)) for label in arrays["labels"]]
    check_classes(labels, where)
    groups = [str(group) for group in arrays["groups"]] if "groups" in arrays else [""] * len(labels)
    names = [f"row {row} of {path.name}" for row in range(len(labels))]
    return pd.DataFrame({"label": labels, "group": groups, "name": names})


def read_npz(path: Path, key: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Read an npz file of one's own.

    Args:
        path: of the file, with the arrays `images`, (n, height, width) or (n, height, width, 1, 3 or 4), `labels`, (n,)
            of integers or text, and, if wanted, `groups`, likewise.
        key: of the file in the parameters, for errors, as in `data.target.path`.

    Returns:
        Images as they are; what `list_rows` gives.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array, or one is not as it must be.
    """
    table = list_rows(path, key)
    pixels = read_pixels(path, key)
    if len(pixels) != len(table):
        raise UserError(f"{key}: {shown(path)} has {counted(len(pixels), 'image')}, but {len(table):,} labels")
    return pixels, table


def read_pixels(path: Path, key: str) -> np.ndarray:
    """The images alone of an npz file of one's own, as they are; arguments and errors as those of `read_npz`."""
    pixels = _arrays(path, key, "images")["images"]
    images.check(pixels, f"{key}: {shown(path)}: images")
    return pixels


def _arrays(path: Path, key: str, needed: str, *others: str) -> dict[str, np.ndarray]:
    """Named arrays of an npz file, of which one must be there."""
    where = f"{key}: {shown(path)}"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in (needed, *others) if name in file}
    except Exception as error:  # of many kinds, on what is damaged
        raise UserError(f"{where} is no npz file of plain arrays, or damaged ({one_line(error)})") from None
    if needed not in arrays:
        raise UserError(f"{where} has no array {needed}: add it")
    return arrays
