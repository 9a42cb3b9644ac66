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
    """List an npz file of one's own, without its images.

    Args:
        path: of the file, with the arrays `images`, (n, height, width) or (n, height, width, 1, 3 or 4), `labels`, (n,)
            of integers or text, and, if wanted, `groups`, likewise.
        key: of the file in the parameters, for errors, as in `data.target.path`.

    Returns:
        label, group and name, as `list_files` has them.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array, or one is not as it must be.
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


def read_pixels(path: Path, key: str, labels: int | None = None) -> np.ndarray:
    """Read the images of an npz file of one's own, as they are; arguments and errors as those of `list_rows`.

    If it is told how many labels there are, there must be as many images.
    """
    pixels, where = _arrays(path, key, "images")["images"], f"{key}: {shown(path)}"
    images.check(pixels, f"{where}: images")
    if labels is not None and len(pixels) != labels:
        raise UserError(f"{where} has {counted(len(pixels), 'image')}, but {labels:,} labels")
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
