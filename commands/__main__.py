"""The command `transfer`: what people run by hand, beside the pipeline."""

from __future__ import annotations

import os
import sys

from commands.parser import build
from transfer.basics.console import run


def main() -> None:
    """Run the sub-command that is asked for."""
    arguments = build(sys.argv[1:2]).parse_args()
    try:
        sys.exit(arguments.run(arguments))
    except BrokenPipeError:  # whoever reads the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    run(main)
