"""`transfer export`: a model in a format that other programs run, checked against the original."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

from transfer.cli import add_model
from transfer.console import UserError, say

DESCRIPTION = """\
Write a model in a format that other programs run. It takes what the model takes, raw uint8 images, and gives what the
model gives, probabilities. It is written only if it answers as the original does, on 66 made-up images. Names of
classes and how images are prepared go into its metadata (ONNX), else into a JSON file beside it."""
EXAMPLE = "transfer export --format onnx --output digits.onnx"
FORMATS = ("onnx", "tflite", "savedmodel")
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_model(parser, "write")
    parser.add_argument("--format", choices=FORMATS, required=True, help="in which to write it")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="what to write; must not exist yet")


def run(arguments: argparse.Namespace) -> int:
    """Write it and print how well it matches; 1 if it does not."""
    from transfer.serve import export

    if missing := export.missing_modules(arguments.format):
        wanted = " ".join(f"'{each}'" for each in requirements(arguments.format))
        raise UserError(f"--format {arguments.format} needs {', '.join(missing)}: run `pip install {wanted}`")
    try:
        difference = export.export(arguments.model, arguments.format, arguments.output)
    except export.ParityError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    say(f"{arguments.output}: probabilities differ from the Keras model's by at most {difference:.1g}")
    return 0


def requirements(extra: str) -> list[str]:
    """The packages of an extra with their bounds, as in `pip install`."""
    extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return [re.sub(r"\s", "", each) for each in extras[extra]]
