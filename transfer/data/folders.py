"""Images and recordings of one's own in files: which there are, by folder or `labels.csv`, and what is in them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from transfer.console import UserError, counted, one_line, progress, say, shown, some
from transfer.data import images
from transfer.data.preprocessing import Preprocessing
from transfer.data.table import LABELS, USUAL, Columns, read_table

PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")  # folders that are no classes
RECORDINGS = (".wav", ".flac", ".ogg", ".mp3")
READABLE = (*images.SUFFIXES, *RECORDINGS)  # ends of names
KINDS = ", ".join(suffix[1:] for suffix in READABLE)
UNREAD_IMAGES = ".heic .heif .avif .jp2 .jxl .svg .pdf .psd .eps .tga .pbm .pgm .ppm .exr"
UNREAD_PHOTOS = ".dcm .raw .dng .cr2 .cr3 .nef .arw .orf .raf .rw2"
UNREAD_RECORDINGS = ".m4a .aac .aif .aiff .amr .au .caf .opus .wma"
UNREAD = dict.fromkeys(f"{UNREAD_IMAGES} {UNREAD_PHOTOS}".split(), "PNG or JPEG")  # and the cure
UNREAD |= dict.fromkeys(UNREAD_RECORDINGS.split(), "WAV or FLAC")
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
    """Whether a file's name ends as those of images and recordings do, or has no end and the file is an image."""
    return path.suffix.lower() in READABLE or (not path.suffix and images.is_image(path))


def _warn_of_skipped(files: Iterable[Path], what: str, where: str, warn: Callable[[str], None]) -> None:
    """Tell how many files are of kinds that are not read, kind by kind, and of the others that they are `what`."""
    suffixes = {path: path.suffix.lower() for path in sorted(files)}
    for suffix, count in sorted(Counter(suffix for suffix in suffixes.values() if suffix in UNREAD).items()):
        skipped = f"skipped {counted(count, 'file')} ending in {suffix}, which is not read"
        warn(f"{where}: {skipped}: save as {UNREAD[suffix]}")
    if others := [shown(path) for path, suffix in suffixes.items() if suffix not in UNREAD]:
        warn(f"{where}: skipped {counted(len(others), 'file')}, {what}: {some(others)}")


def has_recordings(files: Iterable[Path]) -> bool:
    """Whether the name of any file ends as those of recordings do."""
    return any(path.suffix.lower() in RECORDINGS for path in files)


def list_files(folder: Path, key: str, warn: Callable[[str], None] = say, columns: Columns = USUAL) -> pd.DataFrame:
    """List a folder of images and recordings: those in `labels.csv`, if it is there, else those in a folder per class.

    Args:
        folder: that holds `labels.csv`, with the columns path (inside the folder), label, and group if wanted, and any
            others; or `<class>/…/<file>`.
        key: of the folder in the parameters, for errors, as in `data.target.path`.
        warn: is told of files and columns that are skipped, and of a doubtful encoding.
        columns: what those of `labels.csv` are called.

    Returns:
        path, label, group, which is empty for what belongs to none, and name, the path without all that is before the
        folder; sorted by label, then by path.

    Raises:
        UserError: if the table cannot be read, a file is missing, or there are fewer than two classes.
    """
    table = read_table(folder, key, warn, columns) if (folder / LABELS).is_file() else _by_class(folder, key, warn)
    table["label"] = table.label.str.normalize("NFC")  # some systems write the same letters as other characters
    check_classes(table.label, f"{key}: {shown(folder)}")
    table = table.sort_values(["label", "path"], ignore_index=True)
    called = folder.resolve().name
    return table.assign(path=[folder / path for path in table.path], name=[f"{called}/{path}" for path in table.path])


def _by_class(folder: Path, key: str, warn: Callable[[str], None]) -> pd.DataFrame:
    classes = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))}
    if not classes:
        raise UserError(
            f"{key}: {shown(folder)} has no subfolders: make one per class, or list your files with their classes "
            f"in {LABELS}"
        )
    _check_no_parts(folder, classes, key)
    files = [path.relative_to(folder) for path in find_files(folder)]
    taken = [path for path in files if len(path.parts) > 1 and readable(folder / path)]
    _warn_of_skipped({*files}.difference(taken), "no images or recordings in a class's folder", key, warn)
    if empty := sorted(classes.difference(path.parts[0] for path in taken)):
        raise UserError(f"{key}: {shown(folder / empty[0])} holds no image or recording ({KINDS}): add some")
    return pd.DataFrame(
        {"path": [path.as_posix() for path in taken], "label": [path.parts[0] for path in taken], "group": ""}
    )


def _check_no_parts(folder: Path, classes: Iterable[str], key: str) -> None:
    """Refuse folders such as `train` and `val` that hold the same folders, which are the classes."""
    parts = [name for part in PARTS for name in sorted(classes) if name.lower() == part]
    inner = {name: {path.name for path in (folder / name).iterdir() if path.is_dir()} for name in parts}
    alike = [name for name in parts if any(inner[name] & inner[other] for other in parts if other != name)]
    if alike:
        side = key.rpartition(".")[0]
        raise UserError(
            f"{key}: {' and '.join(alike)} in {shown(folder)} hold the same folders, so they are no classes: set "
            f"{side}.path to {shown(folder / alike[0])} and {side}.test_path to {shown(folder / alike[-1])}"
        )


def check_classes(labels: Iterable[str], where: str) -> None:
    """Check the labels of one's own; raises a `UserError` if one is no name, or all are the same."""
    classes = sorted(set(labels))
    for name in classes:
        check_name(name, where)
    if len(classes) < 2:
        what = f"only one class, {classes[0]}" if classes else "nothing in it"
        raise UserError(f"{where} has {what}: at least two classes are needed")


def check_name(name: str, where: str) -> None:
    """Check that a label is a name that can be shown; raises a `UserError` if not."""
    if not name.strip() or any(unicodedata.category(character) in REFUSED for character in name):
        raise UserError(f"{where}: a label is {shown(repr(name), 60)}: write a name")


def list_unlabelled(folder: Path, where: str, warn: Callable[[str], None]) -> list[Path]:
    """All images and recordings in a folder and those in it, sorted, whatever their folders are called.

    Args:
        folder: to look into.
        where: what it is called in errors and warnings, fit to stand in a line.
        warn: is told of files that are skipped.

    Raises:
        UserError: if there are none.
    """
    files = [path for path in find_files(folder) if path != folder / LABELS]
    taken = [path for path in files if readable(path)]
    others = [path.relative_to(folder) for path in {*files}.difference(taken)]
    _warn_of_skipped(others, "no images or recordings", where, warn)
    named = [path for path in taken if _is_text(path)]
    if unnamed := [shown(path.relative_to(folder)) for path in taken if not _is_text(path)]:
        warn(f"{where}: skipped {counted(len(unnamed), 'file')}, not named in UTF-8: {some(unnamed)}")
    if not named:
        raise UserError(f"{where} holds no image or recording ({KINDS}): add some")
    return named


def _is_text(path: Path) -> bool:
    """Whether a name can be written into a table, which its bytes may not allow."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_file(
    source: Path | bytes,
    preprocessing: Preprocessing,
    name: str = "",
    doubt: Callable[[str], object] = images.untold,
    adjust: Callable[[Image.Image], Image.Image] | None = None,
) -> np.ndarray:
    """Read an image or a recording, whichever it is by its content.

    Args:
        source: path of the file, or its bytes.
        preprocessing: that is wanted; recordings are read if it says how.
        name: what the file is called in errors; its path if this is empty.
        doubt: is told what is doubtful of an image, as `images.read_image` does.
        adjust: changes an image before it is brought to size, likewise.

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
        return images.read_image(content, preprocessing, name, doubt, adjust)
    except UnidentifiedImageError:
        if preprocessing.sound is None:
            kinds = ", ".join(images.FORMATS)
            raise UserError(
                f"{name} is no image of a kind that can be read ({kinds}): save it as one of these"
            ) from None
    from transfer.data.audio import read_sound  # SciPy takes half a second, which images need not wait for

    spectrogram = read_sound(content, preprocessing.sound, name)
    return images.convert(spectrogram[np.newaxis], replace(preprocessing, fit="stretch"))[0]


def read_files(
    files: Sequence[Path], preprocessing: Preprocessing, label: str, warn: Callable[[str], None] = say
) -> Iterator[np.ndarray]:
    """Read images and recordings one after the other, by one thread per processor core.

    Args:
        files: to read.
        preprocessing: that they are brought to.
        label: stands before the progress.
        warn: is told of images of which something is doubtful.

    Yields:
        (1, height, width, channels) uint8, of the files that can be read.

    Raises:
        UserError: at the end, if files cannot be read, as `read_file` does.
    """
    doubts: list[tuple[str, str]] = []  # of which file

    def attempt(file: Path) -> np.ndarray | UserError:
        try:
            return read_file(file, preprocessing, doubt=lambda doubt: doubts.append((doubt, shown(file))))
        except UserError as error:
            return error

    # Pillow decodes outside Python's lock.
    threads = joblib.Parallel(-1, backend="threading", return_as="generator")
    bad = []
    for image in progress(threads(joblib.delayed(attempt)(file) for file in files), label, "file", [1] * len(files)):
        if isinstance(image, UserError):
            bad.append(str(image))
        else:
            yield image[np.newaxis]
    if len(bad) == 1:
        raise UserError(bad[0])
    if bad:
        raise UserError(f"{len(bad)} of {counted(len(files), 'file')} cannot be used. The first: {'; '.join(bad[:3])}")
    for doubt, pairs in groupby(sorted(doubts), key=itemgetter(0)):
        names = [name for _, name in pairs]
        warn(f"{label}: {counted(len(names), 'image')} ({some(names)}) {doubt}")
