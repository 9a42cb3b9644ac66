"""The command `transfer`: its help, its complaints, and what it imports."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from transfer.cli import COMMANDS, build

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("numpy", "pandas", "scipy", "sklearn", "tensorflow", "keras", "PIL", "rich", "jinja2", "starlette", "uvicorn")


def transfer(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "transfer.cli", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def test_the_help_names_every_command_and_what_exit_codes_mean() -> None:
    done = transfer("--help")
    assert done.stderr == ""
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^    {name}\s+{summary}$", done.stdout, re.MULTILINE)
    for code in (0, 1, 2, 130):
        assert re.search(rf"^  {code} +\w", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_with_an_example_and_exit_codes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(COMMANDS[name][0])
    monkeypatch.setenv("COLUMNS", "120")
    helped = transfer(name, "--help").stdout
    assert helped.startswith(f"usage: transfer {name} ")
    assert module.DESCRIPTION in helped
    assert f"example:\n  {module.EXAMPLE}\n" in helped
    assert "exit codes:" in helped
    assert max(map(len, helped.splitlines())) <= 120


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_parsed(name: str) -> None:
    example = import_module(COMMANDS[name][0]).EXAMPLE
    words = example.partition("#")[0].split()
    assert words[:2] == ["transfer", name]
    assert callable(build([name]).parse_args(words[1:]).run)


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["export", "-h"], ["serve", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr))\n"
        f"sys.argv[1:] = {arguments}\n"
        "runpy.run_module('transfer.cli', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND: see transfer --help"),
        (["predict"], "the following arguments are required: IMAGE: see transfer predict --help"),
        (["predict", "--top", "many", "x.png"], "argument --top: invalid int value: 'many'"),
        (["serve", "--port", "65536"], "--port is 65536, but must be from 0 to 65535"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = transfer(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "transfer.cli", "--help"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()
