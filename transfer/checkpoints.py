"""What a long training has come to, so that a run that was cut off goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transfer.basics.arrays import read_arrays, write_arrays
from transfer.basics.console import UserError, say
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
        """What was written last, or `fresh` if there is nothing or nothing whole; the chief's on every worker.

        Args:
            fresh: the state of a training that begins, float32; all states have its shapes.
        """
        return self.team.from_chief(self._stored(fresh) if self.team.chief and self.path.is_file() else fresh)

    def _stored(self, fresh: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            state = list(read_arrays(self.path).values())
        except UserError:
            state = []
        if [_form(array) for array in state] == [_form(array) for array in fresh]:
            return state
        say(f"{self.path} is damaged: training begins anew")
        return fresh

    def write(self, state: Sequence[np.ndarray]) -> None:
        """Keep a state in the place of the one before."""
        if self.team.chief:
            write_arrays(self.path, **{f"part{number:03}": array for number, array in enumerate(state)})

    def delete(self) -> None:
        """Forget it: the training is done."""
        if self.team.chief:
            self.path.unlink(missing_ok=True)


def _form(array: np.ndarray) -> tuple[np.dtype, tuple[int, ...], bool]:
    return array.dtype, array.shape, bool(np.isfinite(array).all()) if array.dtype.kind == "f" else False
