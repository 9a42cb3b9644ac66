"""Strict parameters: a section of `params.yaml` read into a typed, frozen object."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import ScalarEvent

from transfer.console import UserError, one_line, shown

PARAMS = Path("params.yaml")
# Whole numbers of YAML that Python writes in another way: with leading zeros, an underscore, or a base of their own.
ODD = re.compile(r"(?!-?(0|[1-9]\d*)$)[-+]?(0b[01_]+|0x[\da-fA-F_]+|0o[0-7_]+|\d[\d_]*)$")


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read and parse the whole file.

    Raises:
        UserError: if the file is missing or cannot be read as UTF-8 text, and as `parse_params` does.
    """
    try:
        return parse_params(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing here: run from the repository's root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None


def parse_params(text: str, path: Path | str) -> dict[str, Any]:
    """Parse a file's text as DVC does (ruamel, YAML 1.2, so `1e-3` is a number).

    Args:
        text: of the file.
        path: what it is called in errors.

    Raises:
        UserError: if the text is not YAML, is not a mapping of sections, or has a whole number such as 007, which a
            reader takes for a name.
    """
    try:
        content = YAML(typ="safe").load(text)
        scalars = [event for event in YAML(typ="safe").parse(text) if isinstance(event, ScalarEvent)]
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or one_line(error)
        raise UserError(f"{path} is not valid YAML: {f'line {mark.line + 1}: ' if mark else ''}{problem}") from None
    except ValueError as error:  # a value that looks like a date, but is none
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from None
    for scalar in scalars:
        if scalar.implicit[0] and ODD.match(scalar.value):  # which it is with neither quotes nor a tag
            where = f"{path}, line {scalar.start_mark.line + 1}"
            raise UserError(f'{where}: {scalar.value} is read as a number: write "{scalar.value}" or a plain number')
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold sections such as `split:`, not {type(content).__name__}")
    return content


def read_section(name: str, section: type[SectionType], path: Path = PARAMS) -> SectionType:
    """Read and check one section.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    content = read_params(path)
    if name not in content:
        raise UserError(f"{path}: section {name} is missing: add it (git diff {path} shows what was changed)")
    return parse_section(name, content[name], section, path)


def parse_section(name: str, content: Any, section: type[SectionType], path: Path = PARAMS) -> SectionType:
    """Check a section's content that has been read already; raises as `read_section` does."""
    if not isinstance(content, dict):
        keys = ", ".join(section.model_fields)
        raise UserError(f"{path}: {name} is {written(content)}, but must be a section with: {keys}")
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {shown(_explain(name, error, section))}") from None


def written(value: Any) -> str:
    """A value as it can stand in a line."""
    return shown(repr(value), 60)


def _explain(name: str, error: ValidationError, section: type[Section]) -> str:
    """Pydantic's first complaint, in one line that names the key; an unknown key comes before all else."""
    errors = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    first, *others = errors
    if first["type"] == "literal_error" and isinstance(first["input"], list):  # a word or a list: the list is at fault
        first = next((other for other in others if other["loc"][0] == first["loc"][0]), first)
    place = _place(first["loc"])
    key = shown(".".join([name, *map(str, place)]), 120)
    if first["type"] == "missing":
        return f"{key} is missing: add it (git diff {PARAMS} shows what was changed)"
    if first["type"] == "extra_forbidden":
        return f"{key} is not a parameter; known are {', '.join(_inner(section, place).model_fields)}"
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # of several keys, which the text names
        return f"{key}: {_message(first)}"
    messages = dict.fromkeys(_message(each) for each in errors if _place(each["loc"]) == place)
    return f"{key} is {written(first['input'])}, but must be {', or '.join(messages)}"


def _place(loc: tuple[int | str, ...]) -> list[int | str]:
    """Where a complaint is, without the kinds of value that pydantic tried, such as `list[int]`."""
    return [part for part in loc if "[" not in str(part)]


def _message(problem: Any) -> str:
    """What is allowed, in pydantic's words; of a list's length in ours, as pydantic's are no part of a sentence."""
    if problem["type"] == "too_short":
        return f"a list of at least {problem['ctx']['min_length']}"
    if problem["type"] == "too_long":
        return f"a list of at most {problem['ctx']['max_length']}"
    return problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _inner(section: type[Section], place: list[int | str]) -> type[Section]:
    """The section, inside a section, that a key is in."""
    for part in place:
        field = section.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), section)
    return section
