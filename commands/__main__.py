"""The command `transfer`: what people run by hand, beside the pipeline."""

from __future__ import annotations

import argparse
import sys

from commands import compare
from transfer.basics.console import run


def main() -> None:
    """Run the subcommand that is asked for."""
    parser = argparse.ArgumentParser(prog="transfer", description="Look at what a study has found.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare.add_parser(commands)
    arguments = parser.parse_args()
    run(lambda: sys.exit(arguments.run(arguments)))


if __name__ == "__main__":
    main()
