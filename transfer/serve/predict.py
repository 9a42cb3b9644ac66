"""`transfer predict`: what a model says of images, from their files as they are."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transfer.cli import add_model
from transfer.console import USER_ERROR, UserError, counted, one_line, shown

DESCRIPTION = """\
Say what images show. Their files are prepared exactly as those that the model was trained on. Of a folder, all images
and recordings are taken, those of its subfolders too."""
EXAMPLE = "transfer predict drawing.png photos/ --top 1"
BATCH = 256  # images in memory at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file, or a folder of files")
    add_model(parser, "ask")
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="classes to tell of each (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print what the model says of every file that can be read; 2 if one could not be."""
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}, but must be at least 1")
    files = find_files(arguments.images)
    import numpy as np

    from transfer.data.folders import read_file
    from transfer.serve.models import open_model, ranked

    model = open_model(arguments.model)
    failures = []

    def read() -> Iterator[tuple[Path, Any]]:
        for file in files:
            try:
                yield file, read_file(file, model.preprocessing)
            except UserError as error:
                failures.append(file)
                print(f"error: {error}", file=sys.stderr, flush=True)

    images, answers = read(), list[tuple[str, list[dict[str, Any]]]]()
    while batch := list(islice(images, BATCH)):
        given = model.probabilities(np.stack([image for _, image in batch]))
        answers += [
            (str(file), ranked(row, model.metadata.classes, arguments.top))
            for (file, _), row in zip(batch, given, strict=True)
        ]
    metadata = model.metadata
    if arguments.json:
        facts = {"strategy": metadata.strategy, "shots": metadata.shots, "classes": metadata.classes}
        listed = [{"file": file, "predictions": predictions} for file, predictions in answers]
        print(json.dumps({"model": facts, "files": listed}, indent=2, allow_nan=False), flush=True)
    elif answers:
        print(table(f"{metadata.strategy}, {counted(metadata.shots, 'label')} per class", answers), end="", flush=True)
    return USER_ERROR if failures else 0


def find_files(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and of folders all images and recordings, by name.

    Raises:
        UserError: if a folder holds none, or cannot be read.
    """
    from transfer.data.folders import READABLE, walk

    files = []
    for path in named:
        if not _is_folder(path):
            files.append(path)
            continue
        try:
            found = sorted(root / name for root, _, names in walk(path) for name in names if names[name])
        except OSError as error:
            raise UserError(f"{shown(error.filename or path)} cannot be read: {one_line(error)}") from None
        if not found:
            raise UserError(f"{shown(path)} holds no image or recording: they end in {', '.join(READABLE)}")
        files += found
    return files


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder above that may not be entered: told when it is read
        return False


def table(title: str, answers: Sequence[tuple[str, list[dict[str, Any]]]]) -> str:
    """What the model says, as a table for the terminal."""
    from transfer.report.blocks import Entry, Section, Table
    from transfer.report.terminal import text

    rows = [
        [
            Entry(shown(file), file),
            Entry(shown(prediction["class"]), prediction["class"]),
            Entry(f"{prediction['probability']:.2%}", prediction["probability"]),
        ]
        for file, predictions in answers
        for prediction in predictions
    ]
    return text(
        [
            Section(
                "answers",
                shown(title),
                [Table("answers", ["file", "class", "probability"], rows, words=2, verbatim=True)],
            )
        ]
    )
