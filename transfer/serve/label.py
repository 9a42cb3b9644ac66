"""`transfer label`: a page on this machine that shows images one by one, and writes down what they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.console import UserError, counted, say, shown, warn
from transfer.serve.command import add_address, bind, hosts_of, serve

if TYPE_CHECKING:
    from transfer.data.table import Columns

DESCRIPTION = """\
Open a page on this machine that shows the images of a folder one by one: type the name of a class once, then press its
key. After every answer labels.csv in that folder is written, as data.target reads it. Ctrl-C ends it, with exit code
130; started again, it goes on where it was."""
EXAMPLE = "transfer label photos    # then open http://127.0.0.1:8000/"
ORDER = Path("to_label.csv")  # as `transfer choose` calls it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the images")
    parser.add_argument(
        "--order",
        type=Path,
        metavar="FILE",
        help=f"table whose column path names those that come first, row by row (default: {ORDER}, if it is here)",
    )
    add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    folder, host = arguments.folder, arguments.host
    if not folder.is_dir():
        raise UserError(f"{shown(folder)} is not a folder: name the one that your images are in")
    with bind(host, arguments.port) as listener:  # before anything that takes time
        from transfer.serve.label_app import build
        from transfer.serve.labelling import Labelling, read_order

        file = arguments.order or (ORDER if ORDER.is_file() else None)
        labelling = Labelling(folder, read_order(file, warn) if file else {}, columns(), warn)
        *first, (labelled, number) = labelling.state()["counts"]
        order = f"the {first[0][1]:,} in {shown(file)} come first, then the others" if first else "they come"
        say(f"{labelled:,} of {counted(number, 'image')} in {shown(folder)} labelled; {order} by path")
        return serve(build(labelling, hosts_of(host)), listener, host, "labelling page")


def columns() -> Columns:
    """What the columns of `labels.csv` are called, by the study in this folder if there is one."""
    from transfer.data.table import USUAL, Columns
    from transfer.params import PARAMS, parse_section, read_params

    if not PARAMS.is_file():
        return USUAL
    target = read_params().get("data", {}).get("target", {})
    return parse_section("data.target.columns", target.get("columns", USUAL.model_dump()), Columns)
