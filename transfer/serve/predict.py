"""`transfer predict`: what a model says of images, from their files as they are."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transfer.console import USER_ERROR, UserError, counted, shown, warn
from transfer.serve.files import DEFAULT, check_there, model_path, warn_of_others

DESCRIPTION = """\
Say what images and recordings show. Their files are prepared exactly as those that the model was trained on. A folder
stands for all images and recordings in it and its subfolders."""
EXAMPLE = "transfer predict drawing.png photos/ --top 1"
BATCH = 256  # images in memory at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file, or a folder of files")
    parser.add_argument(
        "--model",
        type=model_path,
        default=DEFAULT,
        help="the model to ask: a file, or the name of a strategy (default: %(default)s)",
    )
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="classes to print for each file (default: %(default)s)"
    )
    parser.add_argument("--invert", action="store_true", help="invert light and dark (dark ink on paper)")
    parser.add_argument(
        "--centre", action="store_true", help="crop to the content, then scale and centre it as in training"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document in place of a table")
    form.add_argument("--csv", action="store_true", help="print CSV: a row for each file and class")


def run(arguments: argparse.Namespace) -> int:
    """Print what the model says of every file that can be read; 2 if one could not be."""
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}, but must be at least 1")
    import numpy as np

    from transfer.serve import reading
    from transfer.serve.models import open_model, ranked, unfamiliar

    files = list_files(arguments.images)
    check_there(arguments.model)
    warn_of_others([arguments.model])
    model = open_model(arguments.model)
    metadata = model.metadata
    failures = []

    def read() -> Iterator[tuple[Path, np.ndarray, list[str]]]:
        for file in files:
            try:
                image, doubts = reading.read(file, model, invert=arguments.invert, centre=arguments.centre)
            except UserError as error:
                failures.append(file)
                print(f"error: {error}", file=sys.stderr, flush=True)
                continue
            yield file, image, doubts

    images = read()
    answers: list[dict[str, Any]] = []
    while batch := list(islice(images, BATCH)):
        answered = model.answer(np.stack([image for _, image, _ in batch]))
        for (file, _, doubts), row, p_value, unlike in zip(batch, *answered, strict=True):
            doubts += unlike or unfamiliar([p_value])  # one word for one cause
            for doubt in doubts:
                warn(f"{shown(file)} is {doubt}")
            predictions = ranked(row, metadata.classes, arguments.top)
            answers.append({"file": str(file), "predictions": predictions, "warnings": doubts})
    if arguments.json:
        facts = {"strategy": metadata.strategy, "shots": metadata.shots, "classes": metadata.classes}
        print(json.dumps({"model": facts, "files": answers}, indent=2), flush=True)
    elif arguments.csv:
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(["file", "class", "probability"])
        rows.writerows([each["file"], *said.values()] for each in answers for said in each["predictions"])
    elif answers:
        print(table(f"{metadata.strategy}, {counted(metadata.shots, 'label')} per class", answers), end="", flush=True)
    return USER_ERROR if failures else 0


def list_files(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and of folders all images and recordings; warns of other files.

    Raises:
        UserError: if a folder holds none.
    """
    from transfer.data.folders import list_unlabelled

    return [file for path in named for file in (list_unlabelled(path, shown(path), warn) if path.is_dir() else [path])]


def table(title: str, answers: Sequence[dict[str, Any]]) -> str:
    """What the model says, as a table for the terminal."""
    from transfer.report.blocks import Entry, Section, Table
    from transfer.report.terminal import text

    rows = [
        [
            Entry(shown(answer["file"]), answer["file"]),
            Entry(shown(prediction["class"]), prediction["class"]),
            Entry(f"{prediction['probability']:.2%}", prediction["probability"]),
        ]
        for answer in answers
        for prediction in answer["predictions"]
    ]
    answered = Table("answers", ["file", "class", "probability"], rows, words=2)
    return text([Section("answers", shown(title), [answered])])
