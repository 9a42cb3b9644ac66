"""The `compute` section: where and how trainings run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator

from transfer.basics.console import UserError
from transfer.basics.params import PARAMS, Section
from transfer.running.cluster import NO_RAY, run_on_ray
from transfer.running.memory import FOLDER, Memory
from transfer.running.workers import run_in_workers

Distribute = Literal["none", "mirrored", "multi_worker"]
Task = TypeVar("Task")
Result = TypeVar("Result")


def check_engine(distribute: Distribute, engine: str) -> None:
    """Check that `training.engine` can train as wanted; raises UserError if not."""
    if distribute != "none" and engine != "keras":
        raise UserError(
            f"{PARAMS}: compute.distribute is {distribute}, so training.engine must be keras, which alone can"
        )


class Compute(Section):
    """The `compute` section: how trainings are run. It changes no result but by rounding, so no stage depends on it."""

    engine: Literal["local", "ray"]
    address: str
    workers: Annotated[int, Field(ge=0, le=1024)]
    distribute: Distribute
    remember: Annotated[int, Field(ge=0, le=1_000_000)]  # megabytes

    @field_validator("address")
    @classmethod
    def _is_one(cls, address: str) -> str:
        if not re.fullmatch(r"auto|[^\s/]+:\d+|", address):
            raise ValueError("empty for a Ray of our own, auto, or host:port of a running cluster")
        return address

    def check(self, engine: str) -> None:
        """Check what a run could only find out when it has trained for a while.

        Args:
            engine: `training.engine`.

        Raises:
            UserError: if Ray is wanted and not installed, or the engine cannot train on many devices.
        """
        if self.engine == "ray" and find_spec("ray") is None:
            raise UserError(NO_RAY)
        check_engine(self.distribute, engine)

    def memory(self, code: Path) -> Memory:
        """What is remembered of a stage's trainings.

        Args:
            code: the file of its module, which lies in a folder of the repository's root.
        """
        root = code.resolve().parents[1]
        return Memory(root / FOLDER, code=code.resolve(), root=root, megabytes=self.remember)

    def results(
        self, work: Callable[[Task], Result], tasks: Sequence[Task], name: Callable[[Task], str] = str
    ) -> Iterator[Result]:
        """Yield the result of every task as it comes; arguments and errors as in `run_in_workers`, `run_on_ray`."""
        if self.engine == "ray":
            return run_on_ray(work, tasks, self.workers, self.address)
        return run_in_workers(work, tasks, self.workers, name)
