"""Images and recordings of one's own: which there are, by folder, `labels.csv` or npz file, and what is in them."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath

import joblib
import numpy as np
import pandas as pd
from PIL import UnidentifiedImageError

from transfer.console import UserError, counted, one_line, progress, say, shown, some
from transfer.data import images
from transfer.data.preprocessing import Preprocessing

LABELS = "labels.csv"
RECORDINGS = (".wav", ".flac", ".ogg", ".mp3")
READABLE = (*images.SUFFIXES, *RECORDINGS)  # ends of names
SYSTEM = ("Thumbs.db", "desktop.ini", "__MACOSX", "Icon\r")  # what systems put into folders, beside hidden files
REFUSED = ("Cc", "Cs", "Zl", "Zp")  # kinds of characters: controls, bytes that are no text, line breaks


def find_files(folder: Path) -> list[Path]:
    """All files in a folder and those in it, sorted, but for hidden ones and what systems put there.

    Raises:
        UserError: if there is a link to a folder, which would not be followed.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") or part in SYSTEM for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink() and path.is_dir():
            raise UserError(f"{shown(path)} is a link, which is not followed: put the folder itself there")
        if not path.is_dir():
            found.append(path)
    return found


def readable(path: Path) -> bool:
    """Whether a file's name ends as those of images and recordings do."""
    return path.suffix.lower() in READABLE


def list_files(folder: Path, key: str, warn: Callable[[str], None] = say) -> pd.DataFrame:
    """List a folder of images and recordings: those in `labels.csv`, if it is there, else those in a folder per class.

    Args:
        folder: that holds `labels.csv`, with the columns path (inside the folder), label, and group if wanted; or
            `<class>/…/<file>`.
        key: of the folder in the parameters, for errors, as in `data.target.path`.
        warn: is told of files that are passed over, and of a doubtful encoding.

    Returns:
        path, label, and group, which is empty for what belongs to none; sorted by label, then by path.

    Raises:
        UserError: if the table cannot be read, a file is missing, or there are fewer than two classes.
    """
    table = _read_table(folder, key, warn) if (folder / LABELS).is_file() else _by_class(folder, key, warn)
    table["label"] = table.label.str.normalize("NFC")  # some systems write the same letters as other characters
    _check_classes(table.label, f"{key}: {shown(folder)}")
    table = table.sort_values(["label", "path"], ignore_index=True)
    return table.assign(path=[folder / path for path in table.path])


def _by_class(folder: Path, key: str, warn: Callable[[str], None]) -> pd.DataFrame:
    classes = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))}
    if not classes:
        raise UserError(
            f"{key}: {shown(folder)} has no folders in it: put your files into one for each class, or list them with "
            f"their classes in {LABELS}"
        )
    files = [path.relative_to(folder) for path in find_files(folder)]
    taken = [path for path in files if readable(path) and len(path.parts) > 1]
    if empty := sorted(classes.difference(path.parts[0] for path in taken)):
        kinds = ", ".join(suffix[1:] for suffix in READABLE)
        raise UserError(f"{key}: {shown(folder / empty[0])} holds no image or recording ({kinds}): add some")
    if others := sorted({*files}.difference(taken)):
        names = some([shown(path) for path in others])
        warn(f"{key}: passed over {counted(len(others), 'file')}, no images or recordings in a class's folder: {names}")
    return pd.DataFrame(
        {"path": [path.as_posix() for path in taken], "label": [path.parts[0] for path in taken], "group": ""}
    )


def _read_table(folder: Path, key: str, warn: Callable[[str], None]) -> pd.DataFrame:
    where = f"{key}: {shown(folder / LABELS)}"

    def read(encoding: str) -> pd.DataFrame:
        table = pd.read_csv(
            folder / LABELS, sep=None, engine="python", encoding=encoding, dtype=str, keep_default_na=False
        )
        return table.fillna("")

    try:
        try:
            table = read("utf-8-sig")
        except UnicodeDecodeError:
            table = read("cp1252")
            warn(f"{where} is not UTF-8, and was read as Windows-1252: save it as CSV UTF-8 if a name looks wrong")
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{where} cannot be read ({one_line(error)}): save it as CSV") from None
    table.columns = table.columns.str.strip()
    if sorted(table.columns) not in (["label", "path"], ["group", "label", "path"]):
        columns = shown(", ".join(table.columns))
        raise UserError(f"{where}: the columns are {columns}, but must be path, label and, if wanted, group")
    table = table.apply(lambda column: column.str.strip())
    table["path"] = [PurePath(path).as_posix() for path in table.path]
    for path in table.path:
        if PurePath(path).is_absolute() or PureWindowsPath(path).drive or ".." in PurePath(path).parts:
            raise UserError(f"{where}: {shown(path)} leads out of the folder, which DVC watches: move the file inside")
        if not (folder / path).is_file():
            raise UserError(f"{where}: {shown(path)} is {'no file' if (folder / path).exists() else 'missing'}")
    if twice := table.path[table.path.duplicated()].tolist():
        raise UserError(f"{where}: {shown(twice[0])} is there more than once: name it once")
    return table if "group" in table else table.assign(group="")


def _check_classes(labels: Iterable[str], where: str) -> None:
    classes = sorted(set(labels))
    for name in classes:
        if not name.strip() or any(unicodedata.category(character) in REFUSED for character in name):
            raise UserError(f"{where}: a label is {shown(repr(name), 60)}: write a name")
    if len(classes) < 2:
        what = f"only one class, {classes[0]}" if classes else "nothing in it"
        raise UserError(f"{where} has {what}: at least two classes are needed")


def read_npz(path: Path, key: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Read an npz file of one's own.

    Args:
        path: of the file, with the arrays `images`, (n, height, width) or (n, height, width, 1, 3 or 4), `labels`, (n,)
            of integers or text, and, if wanted, `groups`, likewise.
        key: of the file in the parameters, for errors, as in `data.target.path`.

    Returns:
        Images as they are; label and group, as `list_files` has them.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array, or one is not as it must be.
    """
    where = f"{key}: {shown(path)}"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in ("images", "labels", "groups") if name in file}
    except Exception as error:  # of many kinds, on what is damaged
        raise UserError(f"{where} is no npz file of plain arrays, or damaged ({one_line(error)})") from None
    if missing := {"images", "labels"} - arrays.keys():
        raise UserError(f"{where} has no array {min(missing)}: it needs images and labels")
    pixels = arrays.pop("images")
    images.check(pixels, f"{where}: images")
    for name, array in arrays.items():
        if array.dtype.kind not in "iuU" or array.shape != pixels.shape[:1]:
            raise UserError(
                f"{where}: {name} is {array.dtype} {array.shape}, but must be an integer or text for each of "
                f"{counted(len(pixels), 'image')}"
            )
    labels = [unicodedata.normalize("NFC", str(label)) for label in arrays["labels"]]
    _check_classes(labels, where)
    groups = [str(group) for group in arrays["groups"]] if "groups" in arrays else [""] * len(labels)
    return pixels, pd.DataFrame({"label": labels, "group": groups})


def read_file(source: Path | bytes, preprocessing: Preprocessing, name: str = "") -> np.ndarray:
    """Read an image or a recording, whichever it is by its content.

    Args:
        source: path of the file, or its bytes.
        preprocessing: that is wanted; recordings are read if it says how.
        name: what the file is called in errors; its path if this is empty.

    Returns:
        (height, width, channels) uint8.

    Raises:
        UserError: if it is missing, neither image nor recording, damaged or too large.
    """
    name = shown(name or (source if isinstance(source, Path) else "the file"))
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name} is missing") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {one_line(error)}") from None
    if not content:
        raise UserError(f"{name} is empty: replace it, or take it out")
    try:
        return images.read_image(content, preprocessing, name)
    except UnidentifiedImageError:
        if preprocessing.sound is None:
            kinds = ", ".join(images.FORMATS)
            raise UserError(f"{name} is no image of a kind that can be read: {kinds}") from None
    from transfer.data.audio import read_sound  # SciPy takes half a second, which images need not wait for

    spectrogram = read_sound(content, preprocessing.sound, name)
    return images.convert(spectrogram[np.newaxis], replace(preprocessing, fit="stretch"))[0]


def read_files(files: Sequence[Path], preprocessing: Preprocessing, label: str) -> Iterator[np.ndarray]:
    """Read images and recordings one after the other, by one thread per processor core.

    Args:
        files: to read.
        preprocessing: that they are brought to.
        label: stands before the progress.

    Yields:
        (1, height, width, channels) uint8.

    Raises:
        UserError: for a file that cannot be read, as `read_file` does.
    """
    # Pillow decodes outside Python's lock.
    read = joblib.Parallel(-1, backend="threading", return_as="generator")(
        joblib.delayed(read_file)(file, preprocessing) for file in files
    )
    for image in progress(read, label, "file", [1] * len(files)):
        yield image[np.newaxis]
