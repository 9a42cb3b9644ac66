"""The `source` section: a Keras model of one's own in the place of the source CNN; what is known without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Strict

from transfer.console import UserError, shown
from transfer.models.applications import NETWORKS, fitting
from transfer.models.legacy import Pixels, Scale
from transfer.models.safety import ModelFile, read_model_file
from transfer.params import PARAMS, Section, written

NONE = "none"  # no file: the stage `pretrain` trains the source CNN; no network
AUTO = "auto"
IMAGENET = "imagenet"  # no file of the user's: the network's weights, which Keras fetches


class Params(Section):
    """The `source` section."""

    model: Annotated[str, Field(min_length=1)]
    network: str
    range: Literal["auto"] | Pixels
    head: Annotated[str, Field(min_length=1)]
    layers: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1), Strict(False)]

    @property
    def file(self) -> Path | None:
        """The model's file; None where the source CNN is trained."""
        return None if self.model == NONE else Path(self.model)


def image_shape(params: Params) -> tuple[int | None, int | None, int | None] | None:
    """What the source model requires, where its file tells.

    Returns:
        (height, width, channels), None for each that is free to choose; None where the source CNN is trained.

    Raises:
        UserError: if the file is no model, or no model that can be used; says why.
    """
    if (file := read_source_file(params)) is None:
        return None
    if file.input_shape is None:
        side = NETWORKS[params.network].side if file.dense else None
        return side, side, 3
    height, width, *channels = file.input_shape
    return height, width, channels[0] if channels else 1


def default_side(params: Params) -> int | None:
    """Pixels in a side of the images that the named network was made for; None where none is named."""
    return None if params.network == NONE else NETWORKS[params.network].side


def check(params: Params) -> None:
    """Check the section against the model's file.

    Raises:
        UserError: for what can be known to fail before anything runs.
    """
    if (file := read_source_file(params)) is None:
        for name, value in (("network", NONE), ("range", AUTO), ("head", AUTO), ("layers", AUTO)):
            if getattr(params, name) != value:
                raise UserError(f"{PARAMS}: source.{name} is for a model of yours: set it to {value}, or source.model")
        return
    scale_of(params, file)


def read_source_file(params: Params) -> ModelFile | None:
    """What the model's file says of itself, if there is one; raises as `image_shape` does."""
    if params.file is None:
        return None
    if params.network not in (NONE, *NETWORKS):
        known = ", ".join(NETWORKS)
        raise UserError(f"{PARAMS}: source.network is {written(params.network)}, but must be none or one of {known}")
    if params.model == IMAGENET:
        if params.network == NONE:
            raise UserError(f"{PARAMS}: source.model is {IMAGENET}: name the network as source.network, as MobileNetV2")
        return ModelFile(archive=False)
    try:
        file = read_model_file(params.file)
    except UserError as error:
        raise UserError(f"{PARAMS}: source.model: {shown(error)}") from None
    if file.input_shape is None and params.network == NONE:
        fits = fitting(file.parameters)
        name = f"set source.network to {fits}, which they fit" if fits else "name their network as source.network"
        raise UserError(
            f"{params.file} holds weights alone, {file.parameters:,} numbers: {name}, or save the whole model"
        )
    return file


def scale_of(params: Params, file: ModelFile) -> Scale:
    """What is to be done to raw pixels.

    Raises:
        UserError: if neither the section nor the file tells, or if they contradict each other.
    """
    scale, scaled_by = file.scale, f"its layer {file.scaled_by}" if file.scaled_by else ""
    if scale is None and params.network != NONE:
        scale = NETWORKS[params.network].scale
        scaled_by = params.network if scale == "inside" else ""
    if params.range == "auto":
        if scale is None:
            raise UserError(
                f"{params.file} does not say what pixels it takes: set source.range to 0-255, 0-1 or -1-1, as it was "
                "trained"
            )
        return scale
    if scale is None or not scaled_by or scale == "0-1":
        return params.range
    if params.range != "0-255":
        raise UserError(
            f"{PARAMS}: source.range is {params.range}, but {scaled_by} takes pixels from 0 to 255 and scales them "
            f"itself, so that {params.file} would scale twice: leave source.range at auto"
        )
    return scale
