"""Every key of params.yaml, written as it must not be: a right result, or one line before any work is done."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import random
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from common import REPEATS
from conftest import ROOT, make_study
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from stages import check
from transfer.console import run
from transfer.params import read_params

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
VALUES = {  # that are put in the place of another, as YAML
    "a wrong type": ("three", "[]", "{}", "[1, [2]]", "{a: 1}", "true", "!!set {a, b}", "!!binary aGk="),
    "NaN": (".nan", "[.nan]"),
    "infinite": (".inf", "-.inf", "1e999"),
    "negative": ("-1", "-0.5", "-1e-320"),
    "zero": ("0", "0.0", "-0.0"),
    "huge": (f"1{'0' * 30}", "1e300", f"1{'0' * 400}", f"0x{'f' * 1900}", "9" * 5000, f"'{'long' * 400}'"),
    "tiny": ("1e-320", "1e-17", "0.99999999999999999"),
    "an empty list, text or nothing": ("[]", "''", "", "~"),
    "1e-3, no, 010 and other ways of YAML to write": (
        *("1e-3", "no", "yes", "on", "010", "0o10", "0x10", "1_000", "1:30", "2001-01-01", "2001-99-99", ".5", "+1"),
        *("!!float 3", "!!int three", "!!bool x", "!!str 3", "!foo 3", "%", "@", "`", "{", "]", "*no", "&a"),
    ),
    "text with control characters or marks of direction": (
        *(r'"\e[31m"', r'"\u202e"', r'"a\nb"', r'"a\0b"', r'"\x7f"', "'\u2066x'", "'\u2028'", "\0", "\x1b"),
    ),
    "an alias of itself, or a merge of what is no mapping": ("&a [*a]", "&a {a: *a}", "{<<: 3}", "{<<: &a {<<: *a}}"),
    "a tag that would run code": ("!!python/object/apply:os.mkdir [run]", "!!python/name:os.system"),
    "nested a thousand deep": ("[" * 1000 + "]" * 1000, "{a: " * 1000 + "}" * 1000, "[" * 100_000),
}


@dataclass(frozen=True)
class Place:
    """A value in the text of the file, and where its key, or the value itself in a list, begins."""

    name: str  # dotted
    value: slice
    start: int


def places(node: Node, name: str = "") -> Iterator[Place]:
    if isinstance(node, MappingNode):
        inside = [(f"{name}.{key.value}".lstrip("."), key, value) for key, value in node.value]
    elif isinstance(node, SequenceNode):
        inside = [(f"{name}.{number}", value, value) for number, value in enumerate(node.value)]
    else:
        return
    for dotted, first, value in inside:
        start, end = value.start_mark.index, value.end_mark.index
        end = start + len(TEXT[start:end].rstrip())  # of a block the end is where the next one starts
        yield Place(dotted, slice(start, end), first.start_mark.index)
        yield from places(value, dotted)


PLACES = list(places(YAML().compose(TEXT)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without code, in which the check runs in this process: all that it looks at."""
    root = tmp_path_factory.mktemp("params")
    for name in ("dvc.yaml", "params.yaml", "none"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def checked(folder: Path, text: str | bytes) -> str:
    """What the check says of a file: nothing where it accepts it, and then DVC reads what we read."""
    path = folder / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before, printed, problem, code = files(folder), io.StringIO(), io.StringIO(), None
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(problem):
        try:
            run(check.main)
        except SystemExit as end:
            code = end.code
    assert files(folder) == before
    assert not printed.getvalue()
    if said := problem.getvalue():
        assert code == 2
        assert re.fullmatch(r"error: [^\n]+\n", said)
        assert said.removesuffix("\n").isprintable()
        assert len(said) < 1500
        return said
    from dvc.utils.serialize import parse_yaml

    assert code is None
    assert parse_yaml(path.read_text(encoding="utf-8"), path) == read_params(path)
    return ""


def names_it(said: str, place: Place) -> bool:
    """Whether a line says where the mistake is: its key, that it is in, or its line."""
    section, _, key = place.name.partition(".")
    key = re.sub(r"(\.\d+)+$", "", key).rpartition(".")[2]
    where = re.search(r"params\.yaml(?: is not valid YAML:|,)(?: line (\d+))?", said)
    if where:
        line = TEXT.count("\n", 0, place.start) + 1
        return where[1] is None or int(where[1]) >= line
    return f": {section}: " in said or (section in said and key in said)  # of what is wrong as a whole, or by itself


@pytest.mark.parametrize("kind", VALUES)
def test_a_key_written_wrongly_is_one_line_that_names_it(folder: Path, kind: str) -> None:
    choose = random.Random(kind)
    for place in PLACES * REPEATS:
        said = checked(folder, TEXT[: place.value.start] + choose.choice(VALUES[kind]) + TEXT[place.value.stop :])
        assert not said or names_it(said, place), f"{place.name}: {said}"


ALIASES = "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij"))
MERGES = "".join(f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n" for before, name in pairwise("abcdefg"))
WHOLE = {  # what the file is, and words of the line; none where it is the same in another way
    "Windows line ends": (TEXT.replace("\n", "\r\n"), ""),
    "a byte order mark": ("\ufeff" + TEXT, ""),
    "a key's value by an anchor": (re.sub(r"batch: \d+", "batch: *n", TEXT).replace("*n", "&n 32", 1), ""),
    "empty": ("", "must hold sections"),
    "a list": ("- a", "must hold sections"),
    "UTF-16": (TEXT.encode("utf-16"), "not UTF-8 text"),
    "Latin-1": (TEXT.encode() + b"# \xe9", "not UTF-8 text"),
    "a zero byte": (TEXT + "\0", "not valid YAML"),
    "tabs": (TEXT.replace("  timeout", "\ttimeout"), "not valid YAML: line"),
    "10 MB": (TEXT + "# long\n" * 1_500_000, "larger than 1 MB"),
    "100,000 brackets": ("a: " + "[" * 100_000, "nested more than 20 deep"),
    "billions of values by aliases": ("a: &a [x, x]\n" + ALIASES, "more than 100,000 values"),
    "billions of values by merges": ("a: &a {x: 1}\n" + MERGES, "more than 100,000 values"),
    "two documents": (f"{TEXT}---\n{TEXT}", "single document"),
    "cut off": (TEXT[: len(TEXT) // 2], "missing"),
    "a conflict of Git's": (TEXT.replace("split:\n", "<<<<<<< HEAD\nsplit:\n"), "not valid YAML: line"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_file_that_is_odd_as_a_whole_is_one_line(folder: Path, what: str) -> None:
    text, words = WHOLE[what]
    start = time.monotonic()
    said = checked(folder, text)
    assert words in said
    assert bool(words) == bool(said)
    assert time.monotonic() - start < 20


def test_rates_that_kill_a_training_end_in_numbers_or_in_one_line(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    study.edit_yaml("dvc.yaml", lambda content: content["stages"].pop("dense_head"))
    study.set(**{f"{name}__peak_rate": 1.0 for name in ("pretrain", "end_to_end", "scratch")})
    done = study.run("dvc", "repro", "evaluate", code=None)
    if done.returncode == 0:
        table = list(csv.DictReader(study.read("results/cells.csv").decode().splitlines()))
        assert all(math.isfinite(float(row[name])) for row in table for name in ("accuracy", "log_loss", "brier"))
        assert table
    else:
        assert len(re.findall("^error: .+", done.stderr, re.MULTILINE)) == 1
        assert "Traceback" not in done.stderr
