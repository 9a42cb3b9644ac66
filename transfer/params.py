"""Strict parameters: a section of `params.yaml` read into a typed, frozen object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from transfer.console import UserError, one_line, shown

PARAMS = Path("params.yaml")
LARGEST = 1 << 20  # characters of a file
DEEPEST = 20  # values in each other; on some thousand the parser, which is in C, ends the process
MOST = 100_000  # values, those that an alias stands for counted anew: a few lines of aliases can stand for billions
LONGEST = 2000  # characters of a value; Python prints no integer of more than twice as many


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read and parse the whole file.

    Raises:
        UserError: if the file is missing, cannot be read, or is not UTF-8 text, and as `parse_params` does.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is no file")
        with path.open(encoding="utf-8") as file:
            return parse_params(file.read(LARGEST + 1), path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing here: run from the repository's root") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None


def parse_params(text: str, path: Path | str) -> dict[str, Any]:
    """Parse a file's text as DVC does (ruamel, YAML 1.2, so `1e-3` is a number).

    Args:
        text: of the file.
        path: what it is called in errors.

    Raises:
        UserError: if the text is not YAML, is not a mapping of sections, or would take a parser too much of anything.
    """
    if len(text) > LARGEST:
        raise UserError(f"{path} is larger than {LARGEST >> 20} MB: a file of parameters has a few kilobytes")
    try:
        _check_extent(text, path)
        content = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {_yaml_problem(error)}") from None
    except (
        ArithmeticError,
        LookupError,
        ValueError,
    ) as error:  # of a value that looks like a date, or is tagged as what it is not
        raise UserError(f"{path} is not valid YAML: {_culprit(text)}{one_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold sections such as `split:`, not {type(content).__name__}")
    return content


def _check_extent(text: str, path: Path | str) -> None:
    """Refuse what a parser could not take, while nothing is built of it."""
    started: list[tuple[str | None, int]] = []  # lists and mappings: the anchor, and the values before
    sizes: dict[str | None, int] = {}  # by anchor
    count = 0
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, CollectionEndEvent):
            anchor, before = started.pop()
            sizes[anchor] = count - before
        if not isinstance(event, NodeEvent):
            continue
        at = f"{path}, line {event.start_mark.line + 1}"
        if isinstance(event, AliasEvent):
            if event.anchor in (anchor for anchor, _ in started):
                raise UserError(f"{at}: *{shown(event.anchor, 60)} stands inside of what it stands for: write it out")
            count += sizes.get(event.anchor, 1)
        else:
            sizes[event.anchor] = 1
            count += 1
        if isinstance(event, CollectionStartEvent):
            started.append((event.anchor, count - 1))
            if len(started) > DEEPEST:
                raise UserError(f"{at}: values are nested more than {DEEPEST} deep: the parameters need 5 levels")
        elif isinstance(event, ScalarEvent) and len(event.value) > LONGEST:
            long = f"{shown(event.value, 60)} has {len(event.value):,} characters"
            raise UserError(f"{at}: {long}, but a value may have {LONGEST:,}")
        if count > MOST:
            raise UserError(f"{at}: with what aliases stand for, there are more than {MOST:,} values up to here")


def _culprit(text: str) -> str:
    """Line and text of the first value that cannot be read by itself."""
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, ScalarEvent):
            written = text[event.start_mark.index : event.end_mark.index]
            try:
                YAML(typ="safe").load(written)
            except Exception:
                return f"line {event.start_mark.line + 1}: {shown(written, 60)}: "
    return ""


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
        raise UserError(f"{path}: {name} is {written(content)}, but must be a section with: {_keys(section)}")
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {shown(_explain(name, error, section))}") from None


def _keys(section: type[Section]) -> str:
    return ", ".join(section.model_fields)


def written(value: Any) -> str:
    """A value as it can stand in a line."""
    return shown(repr(value), 60)


def _explain(name: str, error: ValidationError, section: type[Section]) -> str:
    """Turn pydantic's first complaint into `key is value, but …`; of a key that is misspelt: unknown."""
    first, *others = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    if first["type"] == "literal_error" and isinstance(first["input"], list):  # a word or a list: the list's fault
        first = next((other for other in others if other["loc"][0] == first["loc"][0]), first)
    places = _places(first["loc"])
    key = shown(".".join([name, *map(str, places)]), 120)
    if first["type"] == "missing":
        return f"{key} is missing: add it (git diff {PARAMS} shows what was changed)"
    if first["type"] in ("extra_forbidden", "invalid_key"):
        return f"{key} is not a parameter; known are {_keys(_inner(section, places))}"
    of_section = isinstance(first["input"], dict) and not (first["loc"] and isinstance(first["loc"][-1], int))
    if first["type"] == "value_error" and of_section:  # as a whole; the text names the keys
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    others = [other for other in others if _places(other["loc"]) == places]  # what else it could be
    allowed = dict.fromkeys(_allowed(each, section, places) for each in (first, *others))
    return f"{key} is {written(first['input'])}, but must be {', or '.join(allowed)}"


def _places(loc: Sequence[int | str]) -> list[int | str]:
    """Where a complaint is, without the kinds of value that were tried."""
    return [part for part in loc if "[" not in str(part)]


def _allowed(problem: Any, section: type[Section], places: Sequence[int | str]) -> str:
    match problem["type"]:
        case "too_short":
            return f"a list of at least {problem['ctx']['min_length']}"
        case "too_long":
            return f"a list of at most {problem['ctx']['max_length']}"
        case "list_type" | "tuple_type":
            return "a list"
        case "model_type":
            return f"a mapping of keys to values: {_keys(_inner(section, places))}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return message + (_range(section, places) if problem["type"] in NUMBERS else "")


NUMBERS = ("int_type", "float_type", "finite_number")
BOUNDS = {  # in a schema, and as words
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _inner(section: type[Section], places: Sequence[int | str]) -> type[Section]:
    """The section inside a section that a key, or its last part, is in."""
    for place in places:
        field = section.model_fields.get(str(place))
        section = next(_sections(field.annotation), section) if field else section
    return section


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _range(section: type[Section], places: Sequence[int | str]) -> str:
    """The bounds of a number, as in ` at least 1, at most 8`."""
    last = next((str(place) for place in reversed(places) if not isinstance(place, int)), "")
    schema = _inner(section, places[:-1]).model_json_schema()["properties"].get(last, {})
    options = [schema, *schema.get("anyOf", [])]
    options += [option["items"] for option in options if "items" in option]
    found = [f"{word} {option[bound]}" for option in options for bound, word in BOUNDS.items() if bound in option]
    return f", {' and '.join(found)}" if found else ""


def _yaml_problem(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    told = [getattr(error, "context", None) or "while", getattr(error, "problem", None) or str(error).splitlines()[0]]
    problem = shown(", ".join(part for part in told if not part.startswith("while")), 200)
    return f"line {mark.line + 1}: {problem}" if mark else problem
