"""A folder's `labels.csv`, as spreadsheets and scripts write it: which file has which label."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from pathlib import Path, PurePath, PureWindowsPath

import numpy as np
import pandas as pd

from transfer.console import UserError, counted, one_line, shown, some
from transfer.params import Section

LABELS = "labels.csv"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Columns(Section):
    """Names of the columns of `labels.csv`, whose case does not count."""

    path: str
    label: str
    group: str  # needed if it is not called group


USUAL = Columns(path="path", label="label", group="group")


def read_table(folder: Path, key: str, warn: Callable[[str], None], columns: Columns) -> pd.DataFrame:
    """Read the table of a folder; arguments as those of `folders.list_files`.

    Returns:
        path, inside the folder and with slashes, label and group, as they are written.

    Raises:
        UserError: if it cannot be read, lacks a column, or names a file that is missing or outside the folder.
    """
    where = f"{key}: {shown(folder / LABELS)}"
    table = parse_table(folder / LABELS, where, warn)
    called = columns.model_dump()
    wanted = {name.strip().casefold(): column for column, name in called.items()}
    headers = [*table]
    table.columns = [wanted.get(name.casefold(), "") for name in headers]
    for column, name in called.items():
        found = [*table].count(column)
        if found > 1 or (not found and (column, name) != ("group", USUAL.group)):
            there = shown(some([header or "(none)" for header in headers], 10))
            raise UserError(
                f"{where}: the columns are {there}, but one must be {shown(name)}: correct it, or name "
                f"yours as {key.rpartition('.')[0]}.columns.{column}"
            )
    if others := [name for name, column in zip(headers, table, strict=True) if name and not column]:
        read = ", ".join(shown(name) for name in called.values())
        warn(f"{where}: skipped {counted(len(others), 'column')}, {shown(some(others))}: only {read} are read")
    table = table[["path", "label"]].assign(group=table.get("group", ""))
    table[["label", "group"]] = table[["label", "group"]].apply(lambda column: column.str.strip())
    table["path"] = [_inside(folder, path, where) for path in table.path]
    if unlabelled := table.path[table.label == ""].tolist():
        raise UserError(
            f"{where}: {counted(len(unlabelled), 'row')} without a label, {shown(some(unlabelled))}: add it"
        )
    if twice := table.path[table.path.duplicated()].tolist():
        raise UserError(f"{where}: {shown(twice[0])} is listed twice: remove one")
    return table


def parse_table(file: Path, where: str, warn: Callable[[str], None]) -> pd.DataFrame:
    """A table as spreadsheets save it: UTF-8, UTF-16 or Windows-1252; commas, semicolons or tabs; rows of nothing.

    Args:
        file: to read.
        where: what it is called in errors and warnings.
        warn: is told of a doubtful encoding.

    Returns:
        All columns, named as they are but for space around the names, and rows, as text.

    Raises:
        UserError: if it cannot be read, is empty, or a row is longer than the header.
    """
    try:
        content = file.read_bytes()
        try:
            text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252")
            warn(f"{where} is not UTF-8, and was read as Windows-1252: save it as CSV UTF-8 if a name looks wrong")
        lines = text.strip("\r\n").splitlines() or [""]
        separator = max(",;\t", key=lines[0].count)
        width = 1 + max(line.count(separator) for line in lines)  # rows may be longer than the header
        table = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, names=range(width), dtype=str, keep_default_na=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{where} cannot be read ({one_line(error)}): save it as CSV") from None
    table = table.fillna("")
    filled = table.apply(lambda column: column.str.strip()).ne("")
    table, filled = table[filled.any(axis=1)], filled[filled.any(axis=1)]
    if table.empty:
        raise UserError(f"{where} has nothing in it: list your files, with the columns path and label")
    header, table = table.iloc[0].str.strip(), table.iloc[1:]
    last = 1 + int(np.flatnonzero(header)[-1])
    if len(longer := table[filled.iloc[1:, last:].any(axis=1)]):
        row = separator.join(longer.iloc[0])
        raise UserError(f"{where}: row {shown(row, 60)} is too long: put what has a {separator!r} in it into quotes")
    return table.iloc[:, :last].set_axis(header[:last], axis=1)


def _inside(folder: Path, path: str, where: str) -> str:
    """A path of a table, inside its folder, with slashes and without space around it where that file exists."""
    usual, slashed = PurePath(path.strip()), PureWindowsPath(path.strip())
    if usual.is_absolute() or slashed.drive or slashed.root or ".." in (*usual.parts, *slashed.parts):
        raise UserError(f"{where}: {shown(path)} is outside the folder: write it relative to the folder, as cat/1.png")
    for inside in (PurePath(path), usual, slashed):
        if (folder / inside).is_file():
            return inside.as_posix()
    what = "no file" if (folder / path).exists() else "missing"
    raise UserError(f"{where}: {shown(path.strip()) or 'an empty path'} is {what}")
