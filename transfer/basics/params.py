"""Strict parameters: a section of `params.yaml` read into a typed, frozen object."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from transfer.basics.console import UserError, shown

PARAMS = Path("params.yaml")


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read and parse the whole file.

    Raises:
        UserError: if the file is missing or is not UTF-8 text, and as `parse_params` does.
    """
    try:
        return parse_params(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing here: run from the repository's root") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None


def parse_params(text: str, path: Path | str) -> dict[str, Any]:
    """Parse a file's text as DVC does (ruamel, YAML 1.2, so `1e-3` is a number).

    Args:
        text: of the file.
        path: what it is called in errors.

    Raises:
        UserError: if the text is not YAML, or is not a mapping of sections.
    """
    try:
        content = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {_yaml_problem(error)}") from None
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
        raise UserError(f"{path}: section `{name}` is missing: add it (git diff {path} shows what was changed)")
    return parse_section(name, content[name], section, path)


def parse_section(name: str, content: Any, section: type[SectionType], path: Path = PARAMS) -> SectionType:
    """Check a section's content that has been read already; raises as `read_section` does."""
    if not isinstance(content, dict):
        raise UserError(f"{path}: {name} is {content!r}, but must be a section with: {_keys(section)}")
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(name, error, section)}") from None


def _keys(section: type[Section]) -> str:
    return ", ".join(section.model_fields)


def _explain(name: str, error: ValidationError, section: type[Section]) -> str:
    """Turn pydantic's first complaint into `key is value, but …`."""
    first, *others = error.errors(include_url=False)
    if first["type"] == "literal_error" and isinstance(
        first["input"], list
    ):  # a word or a list: it is the list's fault
        first = next((other for other in others if other["loc"][0] == first["loc"][0]), first)
    places = [part for part in first["loc"] if "[" not in str(part)]  # without the kinds of value that were tried
    key = ".".join([name, *map(str, places)])
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "extra_forbidden":
        return f"{key} is not a parameter" + (f"; known are {_keys(section)}" if len(first["loc"]) == 1 else "")
    of_section = isinstance(first["input"], dict) and not (first["loc"] and isinstance(first["loc"][-1], int))
    if first["type"] == "value_error" and of_section:  # as a whole; the text names the keys
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    match first["type"]:
        case "too_short":
            message = f"a list of at least {first['ctx']['min_length']}"
        case "list_type" | "tuple_type":
            message = "a list"
        case "model_type":
            message = "a mapping of keys to values"
        case _:
            message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{key} is {shown(repr(first['input']), 60)}, but must be {message}"


def _yaml_problem(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)
