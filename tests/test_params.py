from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from stages import check
from transfer.console import UserError
from transfer.params import Section, parse_section, read_params, read_section

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


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {count: 3, cuont: 4}", "a.cuont is not a parameter; known are count, rate, names, inner"),
        ("a: {rate: 0.1}", "a.count is missing"),
        ("a: {count: three}", "a.count is 'three', but must be a valid integer"),
        ("a: {count: 3.0}", "a.count is 3.0"),
        ("a: {count: true}", "a.count is True"),
        ("a: {count: 3, rate: .nan}", "a.rate is nan"),
        ("a: {count: 3, names: []}", "a.names is [], but must be a list of at least 1"),
        ("a: {count: 3, names: x}", "a.names is 'x', but must be a valid list"),
        ("a: 3", "a is 3, but must be a section with: count, rate, names, inner"),
        ("b: {}", "section a is missing"),
        ("a: {count: 3, count: 4}", "not valid YAML: line 1"),
        ("a: {count: [}", "not valid YAML: line 1"),
        ("a: {count: !!python/object/apply:os.abort []}", "could not determine a constructor for the tag"),
        ("a: 1\n---\na: 2", "but found another document"),
        ("a: {count: 3, names: [x, y, z]}", "must be a list of at most 2"),
        ("a: {count: 3, inner: {smal: 1}}", "a.inner.smal is not a parameter; known are small"),
        ('a: {count: "\\e[31m"}', r"a.count is '\x1b[31m', but must be"),
        ('a: {"c\\n": 3}', r"a.c\n is not a parameter"),
        ("- a", "must hold sections"),
        ("", "must hold sections"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_section("a", Small, write(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
WHOLE = {  # what the file is, and words of the line; none where it is the same in another way
    "Windows line ends": (TEXT.replace("\n", "\r\n").encode(), ""),
    "UTF-16": (TEXT.encode("utf-16"), "cannot be read: 'utf-8' codec"),
    "Latin-1": (TEXT.encode() + b"# \xe9", "cannot be read: 'utf-8' codec"),
    "cut off": (TEXT.partition("\nreport:")[0].encode(), "section report is missing"),
    "a conflict of Git's": (TEXT.replace("split:\n", "<<<<<<< HEAD\nsplit:\n").encode(), "not valid YAML: line"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_file_that_is_odd_as_a_whole_is_one_line(tmp_path: Path, what: str) -> None:
    content, words = WHOLE[what]
    (tmp_path / "params.yaml").write_bytes(content)
    if not words:
        assert read_params(tmp_path / "params.yaml") == PARAMS
        return
    with pytest.raises(UserError, match=words):
        check.check(read_params(tmp_path / "params.yaml"))


def test_a_missing_file_says_where_to_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the repository's root"):
        read_section("a", Small, tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "value", ["1e-3", "1E3", "no", "yes", "on", "-7", "0", "'007'", "~", "1:30", ".5", "2001-01-01", "'x'"]
)
def test_scalars_mean_what_they_mean_to_dvc(tmp_path: Path, value: str) -> None:
    from dvc.utils.serialize import parse_yaml

    path = write(tmp_path, f"a:\n  b: {value}\n")
    assert read_params(path) == parse_yaml(path.read_text(), path)


@pytest.mark.parametrize("value", ["007", "0x10", "0o17", "1_000", "+5", "-01"])
def test_a_whole_number_that_may_be_a_name_must_be_in_quotes(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"a:\n  b: [x, {{c: {value}}}]\n")
    with pytest.raises(UserError) as caught:
        read_params(path)
    assert str(caught.value) == f'{path}, line 2: {value} is read as a number: write "{value}" or a plain number'


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
