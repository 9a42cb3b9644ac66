"""The form in which a network takes images, and how any file is brought to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, Self

from pydantic import Field

from transfer.params import Section

Fit = Literal["stretch", "pad", "crop"]
Polarity = Literal["same", "inverted"]


class Sound(Section):
    """How a recording becomes an image, its log-mel spectrogram: time from left to right, low pitches at the bottom."""

    rate: Annotated[int, Field(ge=1000, le=192_000)]  # samples per second that recordings are brought to
    seconds: Annotated[float, Field(gt=0, le=60)]  # length that recordings are cut or padded to
    window: Annotated[float, Field(ge=0.001, le=1)]  # seconds of a frame
    hop: Annotated[float, Field(ge=0.001, le=1)]  # seconds from one frame to the next
    mels: Annotated[int, Field(ge=4, le=512)]  # bands
    decibels: Annotated[float, Field(gt=0, le=200)]  # below the loudest point that still differ from silence


@dataclass(frozen=True)
class Preprocessing:
    """What every image is brought to before a network sees it, in training and in use.

    Attributes:
        height, width: pixels.
        channels: 1, grey, or 3, RGB.
        fit: how another shape is brought to this one.
        polarity: `inverted` turns light and dark round, as the last step.
        sound: how recordings become images; None where there were none to learn from.
        margin: pixels that are left free on every side.
    """

    height: int
    width: int
    channels: int
    fit: Fit
    polarity: Polarity
    sound: Sound | None = None
    margin: int = 0  # of models that were saved before there was one, too

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    def to_text(self) -> str:
        """As JSON."""
        sound = self.sound and self.sound.model_dump(mode="json")
        return json.dumps(asdict(self) | {"sound": sound}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` gave; raises a `ValueError` for anything else."""
        content = json.loads(text)
        return cls(**content | {"sound": content["sound"] and Sound.model_validate(content["sound"])})
