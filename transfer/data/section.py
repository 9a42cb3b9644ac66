"""The section `data`: the images of the source and target tasks, and the shape they are converted to."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from transfer.console import UserError, shown, some
from transfer.data.folders import find_files, has_recordings
from transfer.data.images import Shift
from transfer.data.preprocessing import Fit, Polarity, Sound
from transfer.data.sets import NONE, OWN, SETS
from transfer.data.table import LABELS, Columns
from transfer.params import PARAMS, Section, written

NO_PATH = "none"  # stands where no path is given, as DVC wants every dependency to exist
WANTED = {"folder": "the folder of your images", "npz": "an .npz file of your images"}
COLOURS = {"grey": 1, "rgb": 3}
Length = Annotated[int, Field(ge=4, le=2048)]
ModelShape = tuple[int | None, int | None, int | None]  # height, width, channels; None where a model leaves it open


def _name(value: object) -> object:
    """A name in a list of classes, as YAML reads it."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a name: write it in quotes, as YAML takes it for something else")
    return value


class Side(Section):
    """`data.source` or `data.target`: a data set and the classes of it that make the task."""

    name: Literal["mnist", "fashion_mnist", "cifar10", "digits", "folder", "npz", "none"]
    classes: Literal["all"] | Annotated[list[Annotated[int | str, BeforeValidator(_name)]], Field(min_length=2)]
    path: Annotated[str, Field(min_length=1)]
    test_path: Annotated[str, Field(min_length=1)]
    columns: Columns
    polarity: Polarity
    margin: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.own and self.path == NO_PATH:
            raise ValueError(f"name is {self.name}, so path must be that of your {self.name}")
        if not self.own and self.own_paths:
            raise ValueError(f"name is {self.name}, which needs no path: leave path and test_path at {NO_PATH}")
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"classes names {twice[0]} twice")
        return self

    @property
    def names(self) -> list[str]:
        """The classes that are asked for by name, as text; empty for all."""
        return [] if self.classes == "all" else [unicodedata.normalize("NFC", str(name)) for name in self.classes]

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
        """Check that the user's own images are where the section says.

        Raises:
            UserError: naming the path that leads nowhere, or to something else.
        """
        for name, path in self.own_paths.items():
            self._check_path(f"{key}.{name}", Path(path))

    def _check_path(self, key: str, path: Path) -> None:
        folder = self.name == "folder"
        if not (path.is_dir() if folder else path.is_file()):
            what = f"is no {'folder' if folder else 'file'}" if path.exists() else "is not there"
            raise UserError(f"{PARAMS}: {key} is {shown(path)}, which {what}: name {WANTED[self.name]}")

    def choose(self, found: Sequence[str], key: str) -> list[str]:
        """Names of the classes of the task, in its order.

        Args:
            found: classes that the data have; of no importance where they are not known.
            key: of this section, for the error.

        Raises:
            UserError: naming a class that the data lack, and the like of it that they have.
        """
        if self.name == NONE:
            return self.names
        for name in self.names:
            if name not in found:
                if padded := [each for each in found if each.lstrip("0") == name]:
                    raise UserError(
                        f"{PARAMS}: {key}.classes names {written(name)}, but the data have {shown(padded[0])}: write "
                        f"{written(padded[0])}, in quotes"
                    )
                there = shown(some(difflib.get_close_matches(name, found) or list(found), 10))
                raise UserError(f"{PARAMS}: {key}.classes names {written(name)}, but the data have the classes {there}")
        return self.names or list(found)


class TargetSide(Side):
    """`data.target`."""

    name: Literal["mnist", "fashion_mnist", "cifar10", "digits", "folder", "npz"]
    unlabelled: Annotated[str, Field(min_length=1)]
    shift: Shift

    @model_validator(mode="after")
    def _own_or_built_in(self) -> Self:
        if self.own and self.shift != "none":
            raise ValueError(f"shift is {self.shift}, but images of your own are taken as they are: set it to none")
        if not self.own and self.unlabelled != NO_PATH:
            raise ValueError(f"name is {self.name}, which needs no path: leave unlabelled at {NO_PATH}")
        return self

    def check_paths(self, key: str) -> None:
        """Check the images without labels, too, and that their folder is not one of the classes."""
        super().check_paths(key)
        if self.unlabelled == NO_PATH:
            return
        path, labelled = Path(self.unlabelled), Path(self.path)
        self._check_path(f"{key}.unlabelled", path)
        by_class = self.classes == "all" and not (labelled / LABELS).is_file()
        if self.name == "folder" and by_class and labelled.resolve() in path.resolve().parents:
            raise UserError(
                f"{PARAMS}: {key}.unlabelled is {shown(path)}, a folder in {key}.path, where folders are classes: put "
                f"it beside {shown(labelled)}, or name the classes in {key}.classes"
            )


class Params(Section):
    """The `data` section."""

    pixels: Literal["auto"] | Annotated[list[Length], Field(min_length=2, max_length=2)]
    colour: Literal["auto", "grey", "rgb"]
    fit: Fit
    sound: Sound
    source: Side
    target: TargetSide

    @model_validator(mode="after")
    def _two_tasks(self) -> Self:
        if (shared := self.shared) and self.target.shift == "none":
            raise ValueError(
                f"source and target are both {self.source.name}, and {', '.join(shared)} is a class of both: leave it "
                "on one side only, or set target.shift"
            )
        return self

    @property
    def shared(self) -> list[str]:
        """Classes that source and target take from the same built-in data set; their images are divided."""
        if self.source.name != self.target.name or self.source.own:
            return []
        every = SETS[self.source.name].classes
        return [name for name in every if all(name in (side.names or every) for side in (self.source, self.target))]

    def shape(self, model: ModelShape | None, side: int | None = None) -> tuple[int, int, int]:
        """(height, width, channels) of what networks see.

        Args:
            model: what the given source model takes; None where it is yet to be trained.
            side: height and width that it was made for, if it takes any.

        Raises:
            UserError: if it can be told from nothing, the model takes another, or margins leave nothing of it.
        """
        if model is None and self.source.name == NONE:
            raise UserError(
                f"{PARAMS}: data.source.name is none, but source.model is none, too: name the data to learn from"
            )
        source: ModelShape = SETS[self.source.name].shape if self.source.name in SETS else (None, None, None)
        known = model or source
        heard = self._spectrogram() if None in known else (None, None, None)
        each = zip(known, (side, side, None), heard, source, strict=True)
        height, width, channels = (next(filter(None, lengths), None) for lengths in each)
        if self.pixels != "auto":
            height, width = self.pixels
        if self.colour != "auto":
            channels = COLOURS[self.colour]
        if height is None or width is None:
            raise UserError(f"{PARAMS}: data.pixels is auto, but cannot be inferred: set it, as to [28, 28]")
        if channels is None:
            raise UserError(f"{PARAMS}: data.colour is auto, but cannot be inferred: set it to grey or rgb")
        shape = height, width, channels
        if model and any(takes not in (None, asked) for takes, asked in zip(model, shape, strict=True)):
            asked, takes = (" × ".join(str(length or "any") for length in lengths) for lengths in (shape, model))
            raise UserError(
                f"{PARAMS}: data.pixels and data.colour ask for {asked}, but the source model takes {takes} "
                "(height × width × channels): leave them at auto"
            )
        for key, margin in (("data.source", self.source.margin), ("data.target", self.target.margin)):
            if 2 * margin >= min(height, width):
                raise UserError(f"{PARAMS}: {key}.margin is {margin}, too large for {height}×{width} pixels")
        return shape

    def _spectrogram(self) -> ModelShape:
        """The shape of recordings, of the source or else of the target; unknown where there are none."""
        for side in (self.source, self.target):
            if side.name == "folder" and has_recordings(find_files(Path(side.path))):
                from transfer.data.audio import spectrogram  # SciPy takes half a second, which images need not wait for

                silence = np.zeros(round(self.sound.seconds * self.sound.rate))
                return *spectrogram(silence, self.sound).shape, 1
        return None, None, None
