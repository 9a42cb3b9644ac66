"""`transfer completion`: a script that lets a shell complete sub-commands, options and paths."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Print a script that completes this command in your shell. For bash, put the line of the example into ~/.bashrc. For zsh,
write the script into a file _transfer in a folder of $fpath; for tcsh, into a file that ~/.tcshrc sources."""
EXAMPLE = 'eval "$(transfer completion bash)"'
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("shell", choices=SHELLS, help="that is to complete")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from commands.parser import COMMANDS, build

    parser = build(COMMANDS)
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab looks for
    print(shtab.complete(parser, arguments.shell), flush=True)
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All of a parser and of its sub-commands."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    inner = [each for action in subparsers for name in action.choices for each in _actions(action.choices[name])]
    return [*parser._actions, *inner]
