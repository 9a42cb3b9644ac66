from __future__ import annotations

import copy
import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from stages import check
from transfer.basics.console import UserError
from transfer.basics.params import Section, parse_section, read_params, read_section

ROOT = Path(__file__).resolve().parents[1]
PARAMS = read_params(ROOT / "params.yaml")
SECTIONS = check.SECTIONS | check.strategy_sections()


class Inner(Section):
    small: float


class Small(Section):
    count: Annotated[int, Field(ge=1, le=8)]
    rate: float = 0.5
    names: list[str] = Field(default_factory=list, min_length=1, max_length=2)
    inner: Inner = Inner(small=0.0)


def doubled(form: str) -> str:
    """Twenty lines, each of which stands for twice as much as the one before."""
    return "".join(f"{new}: &{new} {form.replace('a', old)}\n" for old, new in pairwise("abcdefghijklmnopqrstuv"))


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_in_the_repository_is_accepted() -> None:
    check.check(PARAMS)


def test_a_section_is_read_and_frozen(tmp_path: Path) -> None:
    section = read_section("a", Small, write(tmp_path, "a: {count: 3, rate: 1e-3}"))
    assert section == Small(count=3, rate=0.001)
    with pytest.raises(ValueError, match="frozen"):
        section.count = 4


@pytest.mark.fault("Parameters", "a mistake in a section, or in YAML")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {count: 3, cuont: 4}", "a.cuont is not a parameter; known are count, rate, names, inner"),
        ("a: {rate: 0.1}", "a.count is missing"),
        ("a: {count: three}", "a.count is 'three', but must be a valid integer"),
        ("a: {count: 3.0}", "a.count is 3.0"),
        ("a: {count: true}", "a.count is True"),
        ("a: {count: 3, rate: .nan}", "a.rate is nan"),
        ("a: {count: 3, rate: .inf}", "a.rate is inf"),
        ("a: {count: 3, names: []}", "a.names is [], but must be a list of at least 1"),
        ("a: {count: 3, names: x}", "a.names is 'x', but must be a list"),
        ("a: 3", "a is 3, but must be a section with: count, rate, names, inner"),
        ("a:", "a is None, but must be a section"),
        ("b: {}", "section a is missing"),
        ("a: {count: 3, count: 4}", "not valid YAML: line 1"),
        ("a: {count: [}", "not valid YAML: line 1"),
        ("a: {count: 2001-99-99}", "not valid YAML: line 1: 2001-99-99: month must be in 1..12"),
        ("a: {count: !!int x}", "not valid YAML: line 1: !!int x: invalid literal"),
        ("a: {count: !!python/object/apply:os.abort []}", "could not determine a constructor for the tag"),
        (f"a: {{count: {'9' * 5000}}}", "line 1: 999"),
        (f"a: {'[' * 100_000}", "line 1: values are nested more than 20 deep"),
        ("a: &a {count: *a}", "line 1: *a stands inside of what it stands for"),
        (
            "a: &a [x]\n" + doubled("[*a, *a]"),
            "with what aliases stand for, there are more than 100,000",
        ),
        ("a: &a {x: 1}\n" + doubled("{<<: [*a, *a]}"), "with what aliases stand for, there are more than"),
        ("a: 1\n---\na: 2", "expected a single document in the stream"),
        ("# long\n" * 200_000, "is larger than 1 MB"),
        ("a: 9999-12-31 23:59:59.9999999", "is not valid YAML: line 1: 9999-12-31 23:59:59.9999999: "),
        ("a: {count: x}", "must be a valid integer, at least 1 and at most 8"),
        ("a: {count: 3, names: [x, y, z]}", "must be a list of at most 2"),
        ("a: {count: 3, inner: {smal: 1}}", "a.inner.smal is not a parameter; known are small"),
        ('a: {count: "\\e[31m"}', r"a.count is '\x1b[31m', but must be"),
        ('a: {"c\\n": 3}', r"a.c\n is not a parameter"),
        ("a: {1: 3, count: 3}", "a.1 is not a parameter; known are"),
        ("- a", "must hold sections"),
        ("", "must hold sections"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_section("a", Small, write(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_to_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the repository's root"):
        read_section("a", Small, tmp_path / "params.yaml")


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_params(tmp_path)


@pytest.mark.fault("Parameters", "a pipe in the place of params.yaml")
@pytest.mark.skipif(os.name == "nt", reason="has no pipes")
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="is no file"):
        read_params(tmp_path / "params.yaml")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"a: {count: \xff}")
    with pytest.raises(UserError, match="not UTF-8"):
        read_section("a", Small, tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "value", ["1e-3", "1E3", "no", "yes", "on", "010", "0o10", "0x10", "1_000", "~", "1:30", ".5", "2001-01-01", "'x'"]
)
def test_scalars_mean_what_they_mean_to_dvc(tmp_path: Path, value: str) -> None:
    from dvc.utils.serialize import parse_yaml

    path = write(tmp_path, f"a:\n  b: {value}\n")
    assert read_params(path) == parse_yaml(path.read_text(), path)


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("dense_head", {"tap": "blok2"}, "tap is 'blok2', but must be auto or one of block1, block2, dense1"),
        ("cnn", {"dense": [8, 8], "blocks": [{"filters": 4, "kernel": 9, "pool": 21}]}, "block 1 gets 28×28 pixels"),
    ],
)
def test_layers_that_cannot_be_are_refused_before_anything_runs(section: str, change: dict, words: str) -> None:
    with pytest.raises(UserError) as caught:
        check.check(PARAMS | {section: PARAMS[section] | change})
    assert words in str(caught.value)


def test_a_section_that_nobody_reads_is_refused() -> None:
    with pytest.raises(UserError, match="studdy is not a section"):
        check.check(PARAMS | {"studdy": {}})


def test_predictions_that_no_stage_makes_are_named(tmp_path: Path) -> None:
    plain, with_options, stray = (tmp_path / f"{name}.npz" for name in "abc")
    stages = {"a": {"outs": [plain.as_posix()]}, "b": {"outs": [{with_options.as_posix(): {"cache": False}}]}, "c": {}}
    for file in (plain, with_options, tmp_path / ".9.c.npz"):
        file.touch()
    check.check_predictions(check.made_by(stages), tmp_path)
    stray.touch()
    with pytest.raises(UserError, match=r"c\.npz is made by no stage of dvc\.yaml"):
        check.check_predictions(check.made_by(stages), tmp_path)


@pytest.mark.fault("Parameters", "a section that is missing")
@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_section_is_named(section: str) -> None:
    with pytest.raises(UserError, match=f"section {section} is missing"):
        check.check({name: content for name, content in PARAMS.items() if name != section})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("pretrain", "seed", 2**31), ("feature_extraction", "l2", [1e308]), ("feature_extraction", "l2_default", 1e-300)],
)
def test_numbers_that_no_computation_can_take_are_refused(section: str, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{section}.{key}"):
        parse_section(section, PARAMS[section] | {key: value}, SECTIONS[section])


KEYS = [(section, key) for section, content in PARAMS.items() for key in content]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-3, 12), st.floats(), st.text(max_size=2), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(key=st.sampled_from(KEYS), value=ODD)
def test_any_value_is_accepted_whole_or_refused_in_one_line(key: tuple[str, str], value: Any) -> None:
    section, name = key
    content = copy.deepcopy(PARAMS[section])
    content[name] = value
    problem = None
    try:
        parsed = parse_section(section, content, SECTIONS[section])
    except UserError as error:
        problem = str(error)
    if problem is None:
        assert name in type(parsed).model_fields
    else:
        assert f"params.yaml: {section}" in problem
        assert len(problem.splitlines()) == 1


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_is_needed(section: str, key: str) -> None:
    content = {name: value for name, value in PARAMS[section].items() if name != key}
    with pytest.raises(UserError, match=f"{section}.{key} is missing"):
        parse_section(section, content, SECTIONS[section])
