"""The command line of `transfer`: its sub-commands, of which only the one that is asked for is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from transfer.console import UserError, run

COMMANDS = {  # the module of each, and what it does
    "compare": ("transfer.compare.command", "compare the results of revisions"),
    "choose": ("transfer.serve.choose", "choose the images of a folder to label first"),
    "label": ("transfer.serve.label", "open a page where you say what your images show"),
    "predict": ("transfer.serve.predict", "say what images show"),
    "export": ("transfer.serve.export", "write a model as ONNX, TFLite or SavedModel"),
    "serve": ("transfer.serve.command", "open a page where models answer what you draw or drop"),
}
DESCRIPTION = "Look at what a study has found, and use the models that it made."
EXAMPLE = "transfer predict drawing.png"
EXIT_CODES = """\
exit codes:
  0    fine
  1    a regression, or a model that its export does not match
  2    a mistake that you can fix; one line names it
  130  ended by Ctrl-C"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as every other of this command."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line as a `UserError`."""
        raise UserError(f"{' '.join(message.split())}: see {self.prog} --help")


def build(wanted: Collection[str]) -> Parser:
    """The parser; of sub-commands that are not wanted it knows the name and what they do, no more."""
    parser = Parser(prog="transfer", description=DESCRIPTION)
    _explain(parser, EXAMPLE)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('transfer-study')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in wanted:
            module = import_module(module_name)
            command.description = module.DESCRIPTION
            module.add_arguments(command)
            command.set_defaults(run=module.run)
            _explain(command, module.EXAMPLE)
    return parser


def _explain(parser: argparse.ArgumentParser, example: str) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"example:\n  {example}\n\n{EXIT_CODES}"


def main() -> None:
    """The command `transfer`."""
    run(_run_command)


def _run_command() -> None:
    arguments = build(sys.argv[1:2]).parse_args()
    sys.exit(arguments.run(arguments))


if __name__ == "__main__":
    main()
