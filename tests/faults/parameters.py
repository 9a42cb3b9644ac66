"""Every key of params.yaml, written as it must not be: a right result, or one line before any work is done."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Study, make_study
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from tally import Faults, repeats

from stages import check
from transfer.basics.console import run
from transfer.basics.params import read_params

pytestmark = pytest.mark.fault("Parameters")

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
    """A value in the text of the file, and the key or the item that it belongs to."""

    name: str  # dotted
    value: slice
    pair: slice
    block: bool  # rather than inside of { } or [ ]


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
        yield Place(dotted, slice(start, end), slice(first.start_mark.index, end), not node.flow_style)
        yield from places(value, dotted)


PLACES = list(places(YAML().compose(TEXT)))


def spliced(part: slice, text: str) -> str:
    return TEXT[: part.start] + text + TEXT[part.stop :]


def rewritten(place: Place) -> dict[str, str]:
    """The file without a key or an item, with another name for it, and with it twice."""
    pair = TEXT[place.pair]
    name = f"{place.name.rpartition('.')[2]}: "
    column = place.pair.start - TEXT.rfind("\n", 0, place.pair.start) - 1
    separator = f"\n{' ' * column}" if place.block else ", "
    of_key = pair.startswith(name.rstrip())
    again = "" if of_key else "- " * place.block
    found = {
        "missing": spliced(place.pair, "" if of_key or not place.block else "~"),
        "there twice": spliced(
            place.pair, f"{pair}{separator.removesuffix('  ') if again else separator}{again}{pair}"
        ),
    }
    return found | ({"of an unknown name": spliced(place.pair, f"x{pair}")} if of_key else {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without code, in which the check runs in this process: all that it looks at."""
    root = tmp_path_factory.mktemp("params")
    for name in ("dvc.yaml", "params.yaml", "pretrain", "data/none"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def checked(folder: Path, text: str | bytes) -> str | None:
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
    return None


def names_it(said: str, place: Place) -> bool:
    """Whether a line says where the mistake is: its key, that it is in, or its line."""
    section, _, key = place.name.partition(".")
    key = re.sub(r"(\.\d+)+$", "", key).rpartition(".")[2]
    where = re.search(r"params\.yaml(?: is not valid YAML:|,)(?: line (\d+))?", said)
    if where:
        line = TEXT.count("\n", 0, place.pair.start) + 1
        return where[1] is None or int(where[1]) >= line
    return f": {section}: " in said or (section in said and key in said)  # of what is wrong as a whole, or by itself


@pytest.mark.parametrize("kind", [*VALUES, "missing", "there twice", "of an unknown name"])
def test_a_key_written_wrongly_is_one_line_that_names_it(folder: Path, faults: Faults, kind: str) -> None:
    choose = random.Random(kind)
    for place in PLACES:
        values = VALUES.get(kind, ())
        texts = [spliced(place.value, value) for value in choose.sample(values, min(2, len(values)))]
        for text in texts or filter(None, [rewritten(place).get(kind)]):
            with faults(f"each key: {kind}"):
                said = checked(folder, text)
                assert said is None or names_it(said, place), f"{place.name}: {said}"


WRITTEN = st.one_of(
    st.sampled_from([value for values in VALUES.values() for value in values]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.text("[]{}:,&*!|>'\"%#-?~.0123456789eE_xn \n\t", max_size=12),
)


@seed(1)
@settings(max_examples=600, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), value=WRITTEN)
def test_a_key_with_any_value_is_a_result_or_one_line(folder: Path, faults: Faults, place: Place, value: str) -> None:
    with faults("any key with values that a generator makes"):
        checked(folder, spliced(place.value, value))


ALIASES = "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij"))
MERGES = "".join(f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n" for before, name in pairwise("abcdefg"))
WHOLE = {  # what the file is, and words of the line; none where it is the same in another way
    "Windows line ends": (TEXT.replace("\n", "\r\n"), ""),
    "a byte order mark": ("\ufeff" + TEXT, ""),
    "a key's value by an anchor": (TEXT.replace("units: 512", "units: &n 32").replace("batch: 256", "batch: *n"), ""),
    "empty": ("", "must hold sections"),
    "a list": ("- a", "must hold sections"),
    "UTF-16": (TEXT.encode("utf-16"), "not UTF-8 text"),
    "Latin-1": (TEXT.encode().replace(b"Rehearsed", b"R\xe9hears\xe9"), "not UTF-8 text"),
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
def test_a_file_that_is_odd_as_a_whole_is_one_line(folder: Path, faults: Faults, what: str) -> None:
    text, words = WHOLE[what]
    start = time.monotonic()
    with faults(f"the whole file: {what}"):
        assert words in (checked(folder, text) or "")
        assert not words or checked(folder, text)
        assert time.monotonic() - start < 20


def test_a_section_that_takes_over_another_s_keys_means_what_it_means_to_dvc(folder: Path, faults: Faults) -> None:
    merged = TEXT.replace("end_to_end:  ", "end_to_end: &same").replace(
        TEXT[TEXT.index("scratch:  ") : TEXT.index("article:  ")], "scratch:\n  <<: *same\n  peak_rate: 0.002\n\n"
    )
    with faults("the whole file: a section merged into another"):
        assert checked(folder, merged) is None
        content = read_params(folder / "params.yaml")
        assert content["scratch"] == content["end_to_end"] | {"peak_rate": 0.002}


def test_the_real_command_ends_before_any_work(
    folder: Path, tmp_path: Path, faults: Faults, pytestconfig: pytest.Config
) -> None:
    study, choose, refused = make_study(tmp_path / "study"), random.Random(0), 0
    before = files(study.root)
    while refused < repeats(pytestconfig, 25):
        text = spliced(choose.choice(PLACES).value, choose.choice(choose.choice(list(VALUES.values()))))
        if (said := checked(folder, text)) is None:
            continue
        refused += 1
        (study.root / "params.yaml").write_text(text, encoding="utf-8")
        with faults("`make repro` with a wrong value"):
            done = study.run(sys.executable, "-m", "commands.repro", code=2)
            assert (done.stdout, done.stderr) == ("", said)
            after = files(study.root)
            assert {name: after.get(name) for name in before} == before | {"params.yaml": text.encode()}
            made = after.keys() - before.keys() - {".cache/turn"}  # which a run waits for
            assert not [name for name in made if "__pycache__" not in name]


EXTREMES: dict[str, dict[str, Any]] = {  # that the check accepts
    "a source model that the highest rate kills": {"pretrain__peak_rate": 1.0},
    "the lowest rate": {"pretrain__peak_rate": 1e-300},
    "the highest rates": {f"{name}__peak_rate": 1.0 for name in ("dense_head", "end_to_end", "scratch")},
    "decays of Adam at both ends": {"end_to_end__beta_1": 0.999999, "end_to_end__beta_2": 0.0},
    "one draw of one label": {"split__seeds": 1, "split__shots": [1]},
    "the largest shifts": {"pretrain__shift": 8, "end_to_end__shift": 8},
    "a report on one strategy": {"report__strategies": ["feature_extraction"]},
    "a report on the baseline alone": {"report__strategies": ["scratch"]},
    "a network that is one number wide": {
        "cnn__blocks": [{"filters": 1, "kernel": 1, "pool": 28}],
        "cnn__dense": [1, 1],
    },
    "more labels than there are": {"split__shots": [5000]},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("extremes") / "study")


@pytest.mark.parametrize("what", EXTREMES)
def test_what_the_check_accepts_ends_in_numbers_or_in_one_line(study: Study, faults: Faults, what: str) -> None:
    study.run("git", "checkout", "-q", "params.yaml")
    study.set(**EXTREMES[what])
    with faults(f"an extreme that is allowed: {what}"):
        done = study.run(sys.executable, "-m", "commands.repro", code=None)
        if done.returncode == 0:
            table = list(csv.DictReader(study.read("results/cells.csv").decode().splitlines()))
            assert table
            assert all(math.isfinite(float(row[name])) for row in table for name in ("accuracy", "log_loss", "brier"))
        else:
            assert len(re.findall("^error: .+", done.stderr, re.MULTILINE)) == 1
            assert "Traceback" not in done.stderr
