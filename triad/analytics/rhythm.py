"""Whether a part of Triad keeps writing while work waits for it. Time in which nothing waits for it never counts."""

from dataclasses import dataclass, field
from typing import Final

from triad.analytics.course import MACHINES, Course, Waits
from triad.analytics.fact import Fact
from triad.analytics.measures import Spread

LOG: Final = "log"
"""The log as a whole: somebody of the four is always expected to write while work waits for one of them."""
_FAMILY: Final = {
    "plan": "kind plan",
    "warrant": "kind step",
    "step": "kind step",
    "execution": "kind step",
    "check": "kind verdict",
    "verdict": "kind verdict",
    "ruling": "kind ruling",
}
_BY_STAGE: Final = {
    "requested": ("branch legislative", "kind plan"),
    "planned": ("branch legislative",),
    "approved": ("branch executive",),
    "running": ("branch executive", "kind step"),
    "rolling_back": ("branch executive", "kind step"),
    "halted": ("branch executive",),
    "executed": ("branch judicial", "kind verdict"),
    "evaluated": ("branch crown", "kind ruling"),
}
NAMES: Final = (
    LOG,
    "branch legislative",
    "branch executive",
    "branch judicial",
    "branch crown",
    "kind plan",
    "kind step",
    "kind verdict",
    "kind ruling",
)


@dataclass(slots=True)
class Rhythm:
    """How long a part was silent, each time, while work waited for it.

    Attributes:
        waiting: operations that wait for it now.
        quiet: since when it has been silent while work waited.
        sure: False while it may have written before what was read.
    """

    waiting: int = 0
    quiet: int = 0
    sure: bool = True
    silences: Spread = field(default_factory=Spread)


def demanded(course: Course, waits: Waits) -> tuple[str, ...]:
    """The parts that an operation waits for."""
    if waits not in MACHINES:
        return ()
    if course.stage == "planned" and waits is Waits.CROWN:
        return (LOG, "branch crown", "kind ruling")
    return (LOG, *_BY_STAGE.get(course.stage, ()))


class Rhythms:
    """The rhythm of each part."""

    def __init__(self) -> None:
        self.of = {name: Rhythm() for name in NAMES}
        self._demands: dict[str, tuple[str, ...]] = {}

    def wrote(self, fact: Fact) -> None:
        """An entry was written: whatever part it comes from is not silent."""
        names = [LOG, f"branch {fact.branch}"]
        family = _FAMILY.get(fact.kind.partition(".")[0])
        if family is not None:
            names.append(family)
        for name in names:
            rhythm = self.of.get(name)
            if rhythm is None:
                continue
            if rhythm.waiting:
                if rhythm.sure:
                    rhythm.silences.add(fact.time - rhythm.quiet, fact.index)
                rhythm.quiet = fact.time
            rhythm.sure = True

    def stands(self, course: Course, waits: Waits, at: int) -> None:
        """An operation waits for other parts now."""
        old = self._demands.get(course.ident, ())
        new = demanded(course, waits)
        if old == new:
            return
        for name in old:
            self.of[name].waiting -= 1
        for name in new:
            rhythm = self.of[name]
            if not rhythm.waiting:
                rhythm.quiet = at
            rhythm.waiting += 1
        self._demands[course.ident] = new

    def ended(self, ident: str) -> None:
        """An operation waits for nobody any more."""
        for name in self._demands.pop(ident, ()):
            self.of[name].waiting -= 1

    def begin(self, at: int) -> None:
        """What was read so far only led up to this time; who wrote what in between is not known."""
        for rhythm in self.of.values():
            if rhythm.waiting:
                rhythm.quiet = max(rhythm.quiet, at)
                rhythm.sure = False
