"""One training on several devices or machines, for one that is too large for one process.

Every worker runs the same steps on its share of each batch, and gradients are summed (synchronous data parallelism,
Goyal et al. 2017, section 2): a strategy of TensorFlow is current, and the loop of `transfer.networks.training` heeds
it. At the same batches the result is that of one process, but for rounding.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from transfer.basics.console import USER_ERROR, UserError, say
from transfer.networks import engines
from transfer.running.compute import Distribute, check_engine

if TYPE_CHECKING:
    import tensorflow as tf

Draw = TypeVar("Draw")
Result = TypeVar("Result")

HINT = 10  # seconds after which a worker says that it waits for the others to come
PATIENCE = 1800  # seconds after which it ends
END = np.array(-1, np.float32)  # in the place of a cell's number
EXAMPLE = """{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}"""


@dataclass(frozen=True)
class Team:
    """The processes of one training; all do the same, and the chief alone writes.

    Attributes:
        addresses: host:port of every worker; empty where there is one process.
        number: of this worker; 0 is the chief.
        strategy: of TensorFlow; None for a process on its own.
    """

    addresses: tuple[str, ...] = ()
    number: int = 0
    strategy: tf.distribute.Strategy | None = None

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.number == 0

    @property
    def devices(self) -> int:
        """How many replicas of the network are trained."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, all workers make the networks that they train together, and nothing that one makes alone."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def from_chief(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The chief's arrays on every worker.

        Args:
            arrays: float32; of the other workers, only the shapes count.
        """
        strategy = self.strategy
        if strategy is None or not self.addresses:
            return list(arrays)
        from transfer.networks.backend import tf

        def add() -> list[tf.Tensor]:
            replica = tf.distribute.get_replica_context()
            mine = replica.replica_id_in_sync_group == 0
            return replica.all_reduce("sum", [tf.where(mine, array, tf.zeros_like(array)) for array in arrays])

        sums = tf.function(lambda: strategy.run(add), autograph=False)()
        return [strategy.experimental_local_results(array)[0].numpy() for array in sums]

    def agree(self, key: str) -> None:
        """Check that every worker is about to do the same.

        Args:
            key: of all that the training depends on, in hexadecimal digits.

        Raises:
            UserError: if it is another than the chief's.
        """
        mine = np.frombuffer(key.encode(), np.uint8).astype(np.float32)
        if (self.from_chief([mine])[0] != mine).any():
            raise UserError(
                f"worker {self.number} has other code, parameters, data, library versions or another processor than "
                f"worker 0 ({self.addresses[0]}): make them the same, and start every worker again"
            )

    def lead(self, work: Callable[[Any], Result], tasks: Sequence[tuple[int, Draw]]) -> Iterator[Result]:
        """Yield the result of every task, done in this process, one by one; as chief, tell the others which.

        Args:
            work: called with a task.
            tasks: number of a cell, and its draw.
        """
        for task in tasks:
            self.from_chief([np.array(task[0], np.float32)])
            yield work(task)
        self.from_chief([END])

    def follow(self, fit: Callable[[Draw], object], draws: Sequence[Draw]) -> None:
        """Train along with the chief what it trains, cell by cell."""
        while (cell := int(self.from_chief([END])[0])) >= 0:
            fit(draws[cell])


@contextlib.contextmanager
def team(distribute: Distribute, training: engines.Params) -> Iterator[Team]:
    """The processes of a training, while it goes on.

    Args:
        distribute: `none`: this process; `mirrored`: all GPUs of this machine; `multi_worker`: this process and all
            others that `TF_CONFIG` names, with all their GPUs.
        training: must name the engine that can, as `compute` decides nothing that shows in a result.

    Raises:
        UserError: if it names another, if `TF_CONFIG` is wrong, or if a worker stops, which the others notice within
            seconds.
    """
    check_engine(distribute, training.engine)
    if distribute == "none":
        yield Team()
        return
    members = Team() if distribute == "mirrored" else members_of(os.environ.get("TF_CONFIG", ""))
    from transfer.networks.backend import tf

    try:
        yield replace(members, strategy=_strategy(members))
    except (
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.UnavailableError,
    ) as error:
        raise UserError(_lost(members, str(error))) from None


def members_of(config: str) -> Team:
    """The team that TensorFlow's `TF_CONFIG` describes.

    Raises:
        UserError: if it is not what it must be; shows an example.
    """
    try:
        content = json.loads(config)
        (addresses,) = content["cluster"].values()  # of one job, for a strategy of equal workers
        number = content["task"]["index"]
        right = [*content["cluster"]] == [content["task"]["type"]] == ["worker"] and number in range(len(addresses))
        right = right and all(re.fullmatch(r"[^\s/]+:\d+", address) for address in addresses)
    except (ValueError, TypeError, LookupError, AttributeError):
        right = False
    if not right:
        raise UserError(f"the environment variable TF_CONFIG is {config!r}, but must be such as {EXAMPLE}")
    return Team(tuple(addresses), number)


def _strategy(members: Team) -> tf.distribute.Strategy:
    from transfer.networks.backend import tf

    if not members.addresses:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    come = threading.Event()
    threading.Thread(target=_end_if_alone, args=(members, come), daemon=True).start()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # returns when every worker has come
    come.set()
    return strategy


def _end_if_alone(members: Team, come: threading.Event) -> None:
    """End this process if some workers do not come: what waits for them cannot be stopped otherwise."""
    others = [f"worker {number} ({address})" for number, address in enumerate(members.addresses)]
    del others[members.number]
    if come.wait(HINT):
        return
    say(f"worker {members.number} waits for {', '.join(others)}")
    if not come.wait(PATIENCE):
        print(
            f"error: not all of {', '.join(others)} came in {PATIENCE} s: start every worker again",
            file=sys.stderr,
            flush=True,
        )
        os._exit(USER_ERROR)


def _lost(members: Team, error: str) -> str:
    """What a failed collective operation means; TensorFlow names the tasks that it misses, if it knows."""
    numbers = {int(number) for number in re.findall(r"/job:worker(?:/replica:\d+)?/task:(\d+)", error)}
    lost = sorted(numbers - {members.number}) or [number for number in (0,) if number != members.number]
    names = ", ".join(f"worker {number} ({members.addresses[number]})" for number in lost) or "another worker"
    return f"{names} stopped or no longer answers: start every worker again, training goes on from what was kept"
