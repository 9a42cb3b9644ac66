"""Images and recordings of one's own: which there are, by folder, `labels.csv` or npz file, and what is in them."""

from __future__ import annotations

import csv
import io
import math
import os
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import joblib
import numpy as np

from transfer.console import UserError, counted, one_line, progress, say, shown
from transfer.data.opening import called as name_of
from transfer.data.opening import open_file
from transfer.data.pixels import SUFFIXES, check, read_image
from transfer.data.preprocessing import Preprocessing, normalised
from transfer.data.sound import SUFFIX, is_wav, read_sound
from transfer.files import DtypeError, read_header, write_rows

LABELS = "labels.csv"
COLUMNS = ("path", "label", "group")  # the last one may be left out
KNOWN = ("Thumbs.db", "desktop.ini", "__MACOSX", "Icon\r")  # what systems put into folders, beside hidden files
READABLE = (*SUFFIXES, SUFFIX)  # ends of names, of images and of recordings
NAMED = 3  # files that a message names
READING = 5000  # bytes: as long as it takes to decode so many, a file takes in any case
LARGEST = {"images": 8 << 30, "labels": 1 << 30, "groups": 1 << 30}  # bytes of an array
LONGEST = 255  # signs of a class's name, as of a folder's
MOST = 5_000  # classes: what each is taken for takes the square of that
REFUSED = ("Cc", "Cs", "Zl", "Zp")  # kinds of signs: control characters, bytes that are no text, line breaks


@dataclass(frozen=True)
class Listing:
    """Which files there are, sorted by class, then by their path inside the folder.

    Attributes:
        files: their paths.
        labels: name of each one's class.
        groups: what each one belongs to, empty for nothing; files of a group must not be on both sides of a split. None
            where no groups are given.
    """

    files: list[Path]
    labels: list[str]
    groups: list[str] | None


def list_files(folder: Path, called: str) -> Listing:
    """List a folder of images and recordings: those in `labels.csv`, if it is there, else those in a folder per class.

    Args:
        folder: that holds `labels.csv`, with the columns path (inside the folder), label, and group if wanted; or
            `<class>/…/<file>`, where names of files end as those of images do, or in `.wav`.
        called: what names the folder, for errors, as in `data.target.path`.

    Raises:
        UserError: if there is no such folder, it cannot be read, it holds fewer than two classes or one without a file,
            or `labels.csv` is not as it must be; says where and what.
    """
    where = f"{called}: {shown(folder)}"
    try:
        if not folder.is_dir():
            if folder.suffix.lower() == ".csv":
                raise UserError(f"{where} is a CSV file: name its folder; the CSV in it must be called {LABELS}")
            problem = "no folder" if folder.exists() else "missing"
            raise UserError(f"{where} is {problem}: name the folder of your files")
        names = {entry.name for entry in folder.iterdir()}
        if misnamed := sorted(name for name in names if name.lower() == LABELS != name):
            raise UserError(
                f"{called}: {shown(folder / misnamed[0])} must be called {LABELS}: rename it, or take it out"
            )
        rows = _table(folder, f"{called}: {shown(folder / LABELS)}") if LABELS in names else _tree(folder, called)
    except OSError as error:
        name = shown(error.filename or folder)
        raise UserError(f"{called}: {name} cannot be read: {one_line(error)}") from None
    rows.sort(key=lambda row: (row[1], row[0].as_posix()))
    _check_classes([label for _, label, _ in rows], where)
    groups = [group for _, _, group in rows if group is not None]
    return Listing([folder / path for path, _, _ in rows], [label for _, label, _ in rows], groups or None)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], dict[str, bool]]]:
    """Walk through a folder and those in it, past what is hidden and what systems put there.

    Yields:
        A folder's path; names of the folders in it; names of its files, and whether each ends as those of images or
        recordings do.

    Raises:
        OSError: if one of the folders cannot be read.
    """
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not _hidden(name)]
        names = [name for name in files if not _hidden(name)]
        yield Path(root), folders.copy(), {name: PurePosixPath(name).suffix.lower() in READABLE for name in names}


def read_file(source: Path | bytes, preprocessing: Preprocessing, name: str = "") -> np.ndarray:
    """Read an image or a WAV file, whichever it is by its content.

    Args:
        source: path of the file, or its bytes.
        preprocessing: that is wanted.
        name: what the file is called in errors; its path if this is empty.

    Returns:
        (height, width, channels) uint8.

    Raises:
        UserError: as `read_image` and `read_sound` do.
    """
    with open_file(source, name_of(source, name)) as stream:
        head = stream.read(12)
    return (read_sound if is_wav(head) else read_image)(source, preprocessing, name)


def read_files(files: Sequence[Path], preprocessing: Preprocessing, path: Path, label: str) -> None:
    """Read images and recordings and write them as one array; memory holds a few of them at a time.

    They are read by one thread per processor core.

    Args:
        files: to read.
        preprocessing: that they are brought to.
        path: of the `.npy` file to write, (files, height, width, channels) uint8.
        label: stands before the progress.

    Raises:
        UserError: for a file that cannot be read, as `read_file` does.
    """
    # Pillow decodes outside Python's lock.
    images = joblib.Parallel(-1, backend="threading", return_as="generator")(
        joblib.delayed(read_file)(file, preprocessing) for file in files
    )
    efforts = [READING + _size(file) for file in files]
    write_rows(path, (image[np.newaxis] for image in progress(images, label, "file", efforts)), len(files))


def read_npz(path: Path, called: str) -> tuple[np.ndarray, list[str], list[str] | None]:
    """Read an npz file of one's own.

    Args:
        path: of the file, with the arrays `images`, (n, height, width) or (n, height, width, 1, 3 or 4), `labels`, (n,)
            of integers or text, and, if wanted, `groups`, likewise.
        called: what names the file, for errors, as in `data.target.path`.

    Returns:
        Images as they are; names of the classes, integers as text; groups, as `Listing` has them.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array, or one is not as it must be.
    """
    where = f"{called}: {shown(path)}"
    with open_file(path, where) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                there = [name for name in ("labels", "groups", "images") if f"{name}.npy" in archive.namelist()]
                if missing := {"images", "labels"}.difference(there):
                    raise UserError(f"{where} has no array {min(missing)}: it needs images and labels")
                arrays = {name: _array(archive, name, where) for name in there}
        except (UserError, MemoryError):
            raise
        except Exception as error:  # of many kinds, on what is damaged
            raise UserError(f"{where} is no npz file, or damaged ({one_line(error)}): use numpy.savez") from None
    images = arrays.pop("images")
    check(images, f"{where}: images")
    texts = {name: _texts(array, len(images), f"{where}: {name}") for name, array in arrays.items()}
    for name in dict.fromkeys(texts["labels"]):
        if problem := _unfit(name):
            raise UserError(f"{where}: labels: number {texts['labels'].index(name)} {problem}")
    _check_classes(texts["labels"], where)
    return images, texts["labels"], texts.get("groups")


Row = tuple[PurePosixPath, str, str | None]  # path inside the folder, label, group


def _tree(folder: Path, called: str) -> list[Row]:
    rows: list[Row] = []
    others: list[str] = []
    classes: list[str] = []
    for root, folders, files in walk(folder):
        inside = PurePosixPath(root.relative_to(folder).as_posix())
        for name in folders:
            _refuse_link(root / name, called)
        if not inside.parts:
            classes = folders
        for name, readable in files.items():
            if inside.parts and readable:
                rows.append((inside / name, normalised(inside.parts[0]), None))
            else:
                others.append((inside / name).as_posix())
    if not classes:
        raise UserError(
            f"{called}: {shown(folder)} has no folders in it: put your files into one for each class, or list "
            f"them with their classes in {LABELS}"
        )
    for name in sorted(classes):
        if problem := _unfit(name):
            raise UserError(f"{called}: the name of the folder {shown(folder / name)} {problem}: rename it")
    if empty := sorted(set(classes).difference(path.parts[0] for path, _, _ in rows)):
        kinds = ", ".join(suffix[1:] for suffix in READABLE)
        raise UserError(
            f"{called}: {shown(folder / empty[0])} holds no image or recording ({kinds}): add some, or remove it"
        )
    if others:
        names = ", ".join(shown(name) for name in sorted(others)[:NAMED]) + (", …" if len(others) > NAMED else "")
        say(
            f"{called}: passed over {counted(len(others), 'file')} (no image or recording in a class's folder): {names}"
        )
    return rows


def _table(folder: Path, where: str) -> list[Row]:
    content = (folder / LABELS).read_bytes()
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")  # which some programs put before UTF-8
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}, line {line}: no UTF-8 text: save the file as UTF-8") from None
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    lines: dict[PurePosixPath, int] = {}
    line = 1
    try:
        columns = [name.strip() for name in next(table, [])]
        if len(set(columns)) < len(columns) or not set(COLUMNS[:2]) <= set(columns) <= set(COLUMNS):
            raise UserError(
                f"{where}, line 1: the columns are {shown(', '.join(columns)) or 'none'}, but must be path, label and, "
                "if wanted, group, with commas between them"
            )
        line = table.line_num + 1
        for cells in table:
            start, line = line, table.line_num + 1
            at = f"{where}, line {start}"
            if not cells:
                continue
            if len(cells) != len(columns):
                raise UserError(f"{at}: {counted(len(cells), 'value')}, but line 1 names {len(columns)} columns")
            row = _row(dict(zip(columns, cells, strict=True)), folder, at)
            if row[0] in lines:
                raise UserError(f"{at}: {shown(row[0])} stands in line {lines[row[0]]} already: name it once")
            lines[row[0]] = start
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{where}, line {line}: {one_line(error)}: mend the quotes") from None
    return rows


def _row(cells: Mapping[str, str], folder: Path, at: str) -> Row:
    text, label, group = cells["path"], cells["label"].strip(), cells.get("group")
    if not text.strip():
        raise UserError(f"{at}: the path is empty")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or ".." in PureWindowsPath(text).parts:
        raise UserError(f"{at}: {shown(text)} leads out of the folder, where DVC sees no change: move the file inside")
    path = PurePosixPath(text)
    for parent in path.parents[:-1]:
        _refuse_link(folder / parent, at)
    if not (folder / path).is_file():
        raise UserError(f"{at}: {shown(text)} is {'no file' if (folder / path).exists() else 'missing'}")
    if problem := _unfit(label):
        raise UserError(f"{at}: the label {problem}")
    return path, normalised(label), group and group.strip()


def _refuse_link(folder: Path, where: str) -> None:
    if folder.is_symlink():
        raise UserError(
            f"{where}: {shown(folder)} is a link to a folder, where DVC sees no change: put the folder there"
        )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in KNOWN


def _unfit(label: str) -> str | None:
    """What is wrong with the name of a class, to stand behind what it is called."""
    if not label.strip():
        return "is empty"
    if len(label) > LONGEST:
        return f"has {len(label):,} signs, but at most {LONGEST} are read ({shown(label, 40)})"
    if any(unicodedata.category(sign) in REFUSED for sign in label):
        return f"holds control characters or bytes that are no text ({shown(label)})"
    return None


def _check_classes(labels: Sequence[str], where: str) -> None:
    if len(classes := set(labels)) < 2:
        what = f"only one class, {shown(min(classes))}" if classes else "nothing in it"
        raise UserError(f"{where} has {what}: at least two classes are needed")
    if len(classes) > MOST:
        raise UserError(f"{where} has {len(classes):,} classes, but at most {MOST:,} are compared: group them")


def _raise(error: OSError) -> None:
    raise error


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):  # told when it is read
        return 0


def _array(archive: zipfile.ZipFile, name: str, where: str) -> np.ndarray:
    """Read an array; what its header says is looked at before any memory is asked for."""
    with archive.open(f"{name}.npy") as member:
        try:
            shape, dtype, _ = read_header(member)
        except DtypeError as error:
            raise UserError(f"{where}: {name} {error}: make it numbers or text") from None
        size = math.prod(shape) * dtype.itemsize
        if size > LARGEST[name]:
            raise UserError(
                f"{where}: {name} has {size / 2**30:,.1f} GB, but may have {LARGEST[name] >> 30}: use a folder of files"
            )
        if min(shape, default=0) < 0 or member.tell() + size != archive.getinfo(f"{name}.npy").file_size:
            raise ValueError(f"{name} is not of the size that it states")
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _texts(array: np.ndarray, count: int, where: str) -> list[str]:
    if array.dtype.kind not in "iuU":
        raise UserError(f"{where} is of type {array.dtype}, but must be integers or text")
    if array.shape != (count,):
        shape = " × ".join(map(str, array.shape)) or "a single one"
        raise UserError(f"{where} has the shape {shape}, but must have one entry for each of {counted(count, 'image')}")
    try:
        return [normalised(str(value)) for value in array.tolist()]
    except (ValueError, SystemError):  # numbers that stand for no sign
        raise UserError(f"{where} holds what is no text: write it anew") from None
