"""The section `data`: which images the source and the target task are made of, and the form that all are brought to."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from transfer.console import UserError, one_line, shown
from transfer.data.opening import refuse_endless
from transfer.data.pixels import Shift
from transfer.data.preprocessing import Fit, Polarity, Preprocessing, Sound, normalised
from transfer.data.sets import NONE, OWN, SETS
from transfer.params import PARAMS, Section, written

NO_PATH = "none"  # stands where no path is given, as DVC wants every dependency to exist
_WANTED = {"folder": "the folder of your images", "npz": "an .npz file with arrays images and labels"}
COLOURS = {"grey": 1, "rgb": 3}
Pixels = Annotated[int, Field(ge=4, le=2048)]
ModelShape = tuple[int | None, int | None, int | None]  # height, width, channels; None where a model leaves it open


class Side(Section):
    """`data.source` or `data.target`: a data set and the classes of it that make the task."""

    name: str
    classes: Literal["all"] | Annotated[list[int | str], Field(min_length=2)]
    path: Annotated[str, Field(min_length=1)]
    test_path: Annotated[str, Field(min_length=1)]
    polarity: Polarity

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (known := cls.known()):
            raise ValueError(f"one of {', '.join(known)}")
        return name

    @classmethod
    def known(cls) -> list[str]:
        """Names of data sets."""
        return [*SETS, *OWN]

    @field_validator("classes", mode="before")
    @classmethod
    def _named(cls, classes: Any) -> Any:
        names = [name for name in classes if type(name) in (int, str)] if isinstance(classes, list) else []
        if classes != "all" and (len(names) < 2 or len(names) < len(classes)):
            raise ValueError("all, or a list of two classes or more")
        return classes if classes == "all" else [normalised(name) if type(name) is str else name for name in names]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.own and self.path == NO_PATH:
            raise ValueError(f"name is {self.name}, so path must be that of your {self.name}")
        if not self.own and (self.path, self.test_path) != (NO_PATH, NO_PATH):
            raise ValueError(f"name is {self.name}, which needs no path: leave path and test_path at {NO_PATH}")
        if self.classes != "all":
            names = [str(name) for name in self.classes]
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"classes names {', '.join(repeated)} more than once")
        if len(paths := self.own_paths) == 2:
            if _same(*paths.values()):
                raise ValueError(
                    f"path and test_path are both {self.path}: leave test_path at {NO_PATH}, or name another"
                )
            _check_apart("path", self.path, "test_path", self.test_path)
        return self

    @property
    def own(self) -> bool:
        """Whether the images are the user's own."""
        return self.name in OWN

    @property
    def own_paths(self) -> dict[str, str]:
        """Where the user's own images are, by parameter: `path`, and `test_path` if test images are given apart."""
        paths = {"path": self.path, "test_path": self.test_path}
        return {name: path for name, path in paths.items() if path != NO_PATH}

    def check_paths(self, key: str) -> None:
        """Check that the user's own images are where the section says, and can be read to their end.

        Raises:
            UserError: naming the path that leads nowhere, or to something else.
        """
        for name, text in self.own_paths.items():
            path, kind = Path(text), "folder" if self.name == "folder" else "file"
            try:
                if path.is_dir() if kind == "folder" else path.is_file():
                    if kind == "folder":
                        refuse_endless(path, f"{PARAMS}: {key}.{name}")
                    continue
                what = f"is no {kind}" if path.exists() else "is not there"
            except OSError as error:
                what = f"cannot be read ({one_line(error)})"
            raise UserError(f"{PARAMS}: {key}.{name} is {shown(path, 200)}, which {what}: name {_WANTED[self.name]}")

    def choose(self, found: Sequence[str], key: str) -> list[str]:
        """Names of the classes of the task, in its order.

        Args:
            found: classes that the data have.
            key: of this section, for the error.

        Raises:
            UserError: naming a class that the data lack, and the like of it that they have.
        """
        if self.classes == "all":
            return list(found)
        names = [str(name) for name in self.classes]
        if absent := [name for name in names if name not in set(found)]:
            raise UserError(
                f"{PARAMS}: {key}.classes names {written(absent[0])}, which is no class of it{_like(absent, found)}"
            )
        return names


def _like(absent: Sequence[str], found: Collection[str]) -> str:
    close = difflib.get_close_matches(absent[0], found, n=3, cutoff=0.5)
    near = close if close and len(found) > 10 else [*close, *sorted(set(found) - set(close))][:10]
    more = ", …" if len(near) < len(found) else ""
    return f": there are {', '.join(map(shown, near))}{more}"


def _same(one: str, other: str) -> bool:
    """Whether two paths lead to one place, however they are written."""
    return os.path.realpath(one) == os.path.realpath(other)


def _check_apart(name: str, one: str, other_name: str, other: str) -> None:
    """Refuse a folder inside of another, whose images would be taken for images of that one too."""
    paths = [Path(os.path.realpath(path)) for path in (one, other)]
    if paths[0] in paths[1].parents or paths[1] in paths[0].parents:
        raise ValueError(f"{name} {one} and {other_name} {other} lie inside of each other: put them apart")


class SourceSide(Side):
    """`data.source`, which is `none` where a model is given and nobody knows what it was trained on."""

    @classmethod
    def known(cls) -> list[str]:
        """Names of data sets."""
        return [*super().known(), NONE]


class TargetSide(Side):
    """`data.target`."""

    shift: Shift

    @model_validator(mode="after")
    def _shift_of_built_in(self) -> Self:
        if self.own and self.shift != "none":
            raise ValueError(f"shift is {self.shift}, but images of your own are taken as they are: set it to none")
        return self


class Params(Section):
    """The `data` section."""

    size: Literal["auto"] | Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    colour: Literal["auto", "grey", "rgb"]
    fit: Fit
    sound: Sound
    source: SourceSide
    target: TargetSide

    @model_validator(mode="after")
    def _two_tasks(self) -> Self:
        if (shared := self.shared) and self.target.shift == "none":
            raise ValueError(
                f"source and target are both {self.source.name}, and {', '.join(shared)} is a class of both: leave it "
                "on one side only, or set target.shift"
            )
        named = [set() if side.classes == "all" else set(map(str, side.classes)) for side in self.sides]
        for one, other in product(self.source.own_paths.values(), self.target.own_paths.values()):
            if _same(one, other) and (not all(named) or named[0] & named[1]):
                both = f"source and target are both {one}"
                raise ValueError(f"{both}: give each a list of classes, and no class to both")
            _check_apart("source", one, "target", other)
        return self

    @property
    def shared(self) -> list[str]:
        """Classes that source and target take from the same built-in data set; their images are divided."""
        if self.source.own or self.source.name != self.target.name:
            return []
        every = SETS[self.source.name].classes
        chosen = [{str(name) for name in (every if side.classes == "all" else side.classes)} for side in self.sides]
        return [name for name in every if name in chosen[0] & chosen[1]]

    @property
    def sides(self) -> tuple[Side, Side]:
        """Source and target."""
        return self.source, self.target

    def shape(self, model: ModelShape | None) -> tuple[int, int, int]:
        """(height, width, channels) of what networks see.

        Args:
            model: what the given source model takes; None where it is yet to be trained.

        Raises:
            UserError: if it can be told from nothing, or the model takes another.
        """
        if model is None and self.source.name == NONE:
            raise UserError(
                f"{PARAMS}: data.source.name is none, but source.model is none, too: name the data to learn from"
            )
        source = SETS.get(self.source.name)
        told = model or (source.shape if source else (None, None, None))
        sides = [*told[:2]] if self.size == "auto" else [*self.size]
        channels = told[2] if self.colour == "auto" else COLOURS[self.colour]
        whose = "the source model" if model else "the source's data"
        for key, value, form in (
            ("size", sides[0], "[28, 28]"),
            ("size", sides[1], "[28, 28]"),
            ("colour", channels, "grey or rgb"),
        ):
            if value is None:
                raise UserError(f"{PARAMS}: data.{key} is auto, but {whose} does not tell it: set it, as to {form}")
        asked = (*sides, channels)
        if model and any(known not in (None, want) for known, want in zip(model, asked, strict=True)):
            takes = " × ".join("any" if known is None else str(known) for known in model)
            raise UserError(
                f"{PARAMS}: data.size and data.colour ask for {' × '.join(map(str, asked))}, but the source model "
                f"takes {takes} (height × width × channels): leave them at auto"
            )
        return asked

    def preprocessing(self, side: Side, shape: tuple[int, int, int]) -> Preprocessing:
        """The form that the images of one side are brought to."""
        return Preprocessing(*shape, fit=self.fit, polarity=side.polarity)
