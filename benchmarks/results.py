"""What was measured, and what follows from it: medians, ratios, their spread, and whether accuracies are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from transfer.basics.console import UserError
from transfer.reporting.words import number

if TYPE_CHECKING:
    from benchmarks.rounds import Bench

Quantities = dict[str, float]  # seconds, accuracy and so on, by their names
Rounds = dict[str, list[Quantities]]  # of every contestant, in the order of its turns


class Spread(NamedTuple):
    """A median with the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median of some values, and how far they are apart."""
    return Spread(median(values), min(values), max(values))


class Take(NamedTuple):
    """A quantity of a contestant."""

    who: str
    what: str = "seconds"


@dataclass(frozen=True)
class Ratio:
    """One quantity over another, turn by turn, and what it should be.

    Attributes:
        text: what it is.
        over: the dividend.
        under: the divisor.
        at_most, at_least: its bound, if any.
    """

    text: str
    over: Take
    under: Take
    at_most: float | None = None
    at_least: float | None = None

    def of(self, rounds: Rounds) -> Spread | None:
        """Median and spread of the ratios of those turns that belong together; None where one was not measured."""
        try:
            pairs = zip(rounds[self.over.who], rounds[self.under.who], strict=True)
            return spread([over[self.over.what] / under[self.under.what] for over, under in pairs])
        except KeyError:
            return None

    def aim(self) -> str:
        """The bound in words; nothing without one."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"

    def reached(self, ratio: float) -> bool:
        """Whether a ratio keeps to the bound."""
        least, most = self.at_least, self.at_most
        return (least is None or ratio >= least) and (most is None or ratio <= most)


@dataclass(frozen=True)
class Item:
    """Something that is measured.

    Attributes:
        title: of its section.
        about: what is done, and how the work is made equal; a paragraph each.
        round: measures every contestant once, in turn.
        ratios: that matter.
        equal: an accuracy which contestants must share, if any.
        tolerance: how far medians of it may be apart, as a fraction.
    """

    title: str
    about: list[str]
    round: Callable[[Bench], Iterator[tuple[str, Quantities]]]
    ratios: list[Ratio] = field(default_factory=list)
    equal: str = ""
    tolerance: float = 0.0


def check_equal(name: str, item: Item, rounds: Rounds) -> None:
    """Check that what was timed is equally accurate.

    Raises:
        UserError: naming two contestants whose medians are further apart than the tolerance.
    """
    medians = {
        who: median(turn[item.equal] for turn in turns) for who, turns in rounds.items() if item.equal in turns[0]
    }
    if not medians:
        return
    worst, best = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    if medians[best] - medians[worst] > item.tolerance:
        raise UserError(
            f"{name}: {worst} reaches an accuracy of {number(100 * medians[worst])} %, {best} "
            f"{number(100 * medians[best])} %, more than {number(100 * item.tolerance, 1)} points apart: "
            "their times are not of equal work"
        )
