"""The `compute` section: where and how trainings run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from transfer.memory import FOLDER, Memory
from transfer.params import Section

Distribute = Literal["none", "mirrored", "multi_worker"]


class Compute(Section):
    """The `compute` section: how trainings are run. It changes no result, so no stage depends on it."""

    workers: Annotated[int, Field(ge=0, le=1024)]
    distribute: Distribute
    remember: Annotated[int, Field(ge=0, le=1_000_000)]  # megabytes

    def memory(self, stage: str) -> Memory:
        """What is remembered of a stage's trainings.

        Args:
            stage: the file of its module, which lies in a folder of the repository's root.
        """
        root = Path(stage).resolve().parents[1]
        return Memory(root / FOLDER, code=Path(stage).resolve(), root=root, megabytes=self.remember)
