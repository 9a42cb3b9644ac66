"""The command `transfer`: what people run by hand, beside the pipeline."""

from __future__ import annotations

import sys

from commands.parser import build
from transfer.basics.console import run


def main() -> None:
    """Run the sub-command that is asked for."""
    arguments = build(sys.argv[1:2]).parse_args()
    sys.exit(arguments.run(arguments))


if __name__ == "__main__":
    run(main)
