"""The `source` section: a Keras model of one's own in the place of the source CNN; what is known without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Strict

from transfer.console import UserError, shown
from transfer.models.safety import ModelFile, read_model_file
from transfer.params import PARAMS, Section, written

NONE = "none"  # no file: the stage `pretrain` trains the source CNN; no network
AUTO = "auto"
Pixels = Literal["0-255", "0-1", "-1-1"]
Scale = Pixels | Literal["caffe", "torch", "inside"]

NETWORKS: dict[str, tuple[int, Scale]] = {  # of keras.applications: pixels in a side, and its preprocessing
    **dict.fromkeys(("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"), (224, "caffe")),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), (224, "-1-1")),
    **dict.fromkeys(("MobileNet", "MobileNetV2", "NASNetMobile"), (224, "-1-1")),
    **dict.fromkeys(("InceptionResNetV2", "InceptionV3", "Xception"), (299, "-1-1")),
    "NASNetLarge": (331, "-1-1"),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), (224, "torch")),
    **dict.fromkeys(("MobileNetV3Large", "MobileNetV3Small"), (224, "inside")),
    **{f"EfficientNetB{n}": (side, "inside") for n, side in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
    **{f"EfficientNetV2B{n}": (side, "inside") for n, side in enumerate((224, 240, 260, 300))},
    **{f"EfficientNetV2{size}": (side, "inside") for size, side in (("S", 384), ("M", 480), ("L", 480))},
}


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
    """What the source model takes, where its file tells.

    Returns:
        (height, width, channels), None for each that is free to choose; None where the source CNN is trained.

    Raises:
        UserError: if the file is no model, or no model that can be used; says why.
    """
    if (file := told(params)) is None:
        return None
    if file.input_shape is None:
        side = NETWORKS[params.network][0] if file.dense else None
        return side, side, 3
    height, width, *channels = file.input_shape
    return height, width, channels[0] if channels else 1


def check(params: Params) -> None:
    """Check the section against the model's file.

    Raises:
        UserError: for what can be known to fail before anything runs.
    """
    if (file := told(params)) is None:
        for name, value in (("network", NONE), ("range", AUTO), ("head", AUTO), ("layers", AUTO)):
            if getattr(params, name) != value:
                raise UserError(f"{PARAMS}: source.{name} is for a model of yours: set it to {value}, or source.model")
        return
    scale_of(params, file)


def known_layers(params: Params, trained: list[str]) -> list[str] | None:
    """The layers that a strategy can name; None where only Keras can tell, when it has the model.

    Args:
        params: the `source` section.
        trained: those of the source CNN that is trained where no model is given.
    """
    if params.file is None:
        return trained
    return None if params.layers == AUTO else list(params.layers)


def told(params: Params) -> ModelFile | None:
    """What the model's file says of itself, if there is one; raises as `image_shape` does."""
    if params.file is None:
        return None
    if params.network not in (NONE, *NETWORKS):
        known = ", ".join(NETWORKS)
        raise UserError(f"{PARAMS}: source.network is {written(params.network)}, but must be none or one of {known}")
    try:
        file = read_model_file(params.file)
    except UserError as error:
        raise UserError(f"{PARAMS}: source.model: {shown(error)}") from None
    if file.input_shape is None and params.network == NONE:
        raise UserError(
            f"{params.file} holds weights alone: name their keras.applications network as source.network, or save the "
            "whole model"
        )
    return file


def scale_of(params: Params, file: ModelFile) -> Scale:
    """What is to be done to raw pixels.

    Raises:
        UserError: if neither the section nor the file tells.
    """
    if params.range != "auto":
        return params.range
    if file.scales:
        return "inside"
    if params.network != NONE:
        return NETWORKS[params.network][1]
    raise UserError(
        f"{params.file} does not say what pixels it takes: set source.range to 0-255, 0-1 or -1-1, as it was trained"
    )
