"""What a long training has come to, so that a run that was cut off goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transfer.basics.files import read_arrays, write_arrays
from transfer.distribute import Team

FOLDER = Path(".cache", "checkpoints")


class Checkpoint:
    """The state of one training in a file that can be deleted at any time; of a team, the chief alone has it.

    Args:
        path: of the file; named by all that the training depends on, so that none goes on with what another has left.
        team: that trains.
    """

    def __init__(self, path: Path, team: Team) -> None:
        self.path = path
        self.team = team

    def read(self, fresh: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What was written last, or `fresh` if there is nothing; the chief's on every worker.

        Args:
            fresh: the state of a training that begins, float32; all states have its shapes.
        """
        stored = self.team.chief and self.path.is_file()
        return self.team.from_chief(list(read_arrays(self.path).values()) if stored else fresh)

    def write(self, state: Sequence[np.ndarray]) -> None:
        """Keep a state in the place of the one before."""
        if self.team.chief:
            write_arrays(self.path, **{f"part{number:03}": array for number, array in enumerate(state)})

    def delete(self) -> None:
        """Forget it: the training is done."""
        if self.team.chief:
            self.path.unlink(missing_ok=True)
