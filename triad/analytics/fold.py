"""One pass over the entries, in order, in memory that grows with the operations under way and not with the log."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from triad.analytics.course import TERMINAL, Course
from triad.analytics.fact import Fact
from triad.analytics.period import Period
from triad.analytics.rhythm import Rhythms

_TOLD: Final = 20
"""Backward jumps of the time whose places are kept."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are counted; all of them where nothing is named.

    An entry about a step belongs to the step's own playbook and system. Any other entry of an operation belongs to the
    systems and the playbook that its request names, and to those of the steps that were begun before the entry.
    """

    branch: str | None = None
    operation: str | None = None
    system: str | None = None
    playbook: str | None = None
    principal: str | None = None

    def takes(self, fact: Fact, course: Course | None) -> bool:
        """Whether the entry is counted."""
        return (
            (self.branch is None or fact.branch == self.branch)
            and (self.principal is None or fact.principal == self.principal)
            and (self.operation is None or fact.operation == self.operation)
            and self.concerns(fact, course)
        )

    def concerns(self, fact: Fact, course: Course | None) -> bool:
        """Whether the entry has to do with the playbook and the system."""
        if self.system is None and self.playbook is None:
            return True
        if course is None:
            return False
        place = course.place_of(fact)
        if place is None:
            return course.touches(playbook=self.playbook, system=self.system)
        return self.playbook in {None, place[0]} and self.system in {None, place[1]}

    def follows(self, course: Course) -> bool:
        """Whether an operation is one of those that are asked about."""
        return self.operation in {None, course.ident} and course.touches(playbook=self.playbook, system=self.system)


@dataclass(slots=True)
class Clock:
    """What the entries' times show of the clock they come from.

    Attributes:
        backward: entries before whose time the entry before them lies, which no lawful log has.
        held: most entries in a row with one and the same time, and the index of the first of them: a clock that was
            set back makes the log's own time wait until the clock has caught up.
        silence: the longest time between two entries, the index of the second, and whether code had work meanwhile.
    """

    backward: int = 0
    places: list[int] | None = None
    held: tuple[int, int] = (0, 0)
    silence: tuple[int, int] = (0, 0)
    idle: bool = True
    _run: tuple[int, int] = (0, 0)
    _last: int | None = None

    def saw(self, fact: Fact, *, busy: bool) -> None:
        """The next entry."""
        last = self._last
        if last is not None:
            if fact.time < last:
                self.backward += 1
                self.places = [*(self.places or []), fact.index][:_TOLD]
            if fact.time - last > self.silence[0]:
                self.silence, self.idle = (fact.time - last, fact.index), not busy
        self._run = (self._run[0] + 1, self._run[1]) if fact.time == last else (1, fact.index)
        self.held = max(self.held, self._run, key=lambda run: run[0])
        self._last = fact.time


class Fold:
    """Reads entries one by one.

    Args:
        wanted: which of them are counted; all are followed.
        since: where the range begins, in milliseconds since 1970.
        before: where the range before it begins; what lies earlier only leads up to it.
        quick: milliseconds under which a person's decision counts as quick.
        bucket: milliseconds of a slice of the time; 0: none.
        halted: whether the crown's halt was on before the first entry.
    """

    def __init__(
        self, wanted: Filter, *, since: int, before: int, quick: int = 0, bucket: int = 0, halted: bool = False
    ) -> None:
        self.wanted = wanted
        self.within = Period(quick=quick, bucket=bucket)
        self.earlier = Period(quick=quick)
        self.courses: dict[str, Course] = {}
        self.rhythms = Rhythms()
        self.clock = Clock()
        self.halted = halted
        self.halts = 0
        self.halted_for = 0
        self.halted_since = since
        self._since = since
        self._before = before
        self._reading = False

    def read(self, page: Iterable[bytes]) -> None:
        """Read the next entries."""
        for data in page:
            self.add(data)

    def add(self, data: bytes) -> None:
        """Read the next entry."""
        fact = Fact(data)
        if not self._reading and fact.time >= self._before:
            self._reading = True
            self.rhythms.begin(self._before)
        counted = self._reading
        if counted:
            self.rhythms.wrote(fact)
            if fact.time >= self._since:
                self.clock.saw(fact, busy=bool(self.rhythms.of["log"].waiting))
        course = self._course(fact)
        entered = course.entered if course is not None else None
        began = _began(fact, course)
        if course is not None:
            course.apply(fact)
        if counted and self.wanted.takes(fact, course):
            period = self.within if fact.time >= self._since else self.earlier
            period.add(fact, course, entered=entered, began=began)
        if fact.kind in {"crown.halted", "crown.released"}:
            self._halt(fact)
        if course is not None:
            self._stand(course, fact)

    def _course(self, fact: Fact) -> Course | None:
        if fact.operation is None:
            return None
        course = self.courses.get(fact.operation)
        if course is None and fact.after is not None and (fact.before or fact.kind == "operation.requested"):
            course = self.courses[fact.operation] = Course(fact.operation, fact.before or fact.after)
        return course

    def _stand(self, course: Course, fact: Fact) -> None:
        if course.stage in TERMINAL:
            del self.courses[course.ident]
            self.rhythms.ended(course.ident)
        elif fact.after is not None:
            self.rhythms.stands(course, course.waits(fact.time, halted=self.halted), fact.time)

    def _halt(self, fact: Fact) -> None:
        if fact.time >= self._since:
            if fact.kind == "crown.halted":
                self.halts += 1
            elif self.halted:
                self.halted_for += fact.time - max(self.halted_since, self._since)
        self.halted, self.halted_since = fact.kind == "crown.halted", fact.time
        for course in self.courses.values():
            self.rhythms.stands(course, course.waits(fact.time, halted=self.halted), fact.time)

    def halted_until(self, at: int) -> int:
        """Milliseconds of the range, which ends at `at`, in which the crown's halt was on."""
        return self.halted_for + (max(at - max(self.halted_since, self._since), 0) if self.halted else 0)


def _began(fact: Fact, course: Course | None) -> int | None:
    """When the intent was recorded that this entry is the outcome of."""
    if course is None or fact.kind not in {"step.done", "step.failed", "step.in_doubt"}:
        return None
    intent = course.intents.get(fact.event["warrant"])
    return intent.time if intent is not None else None
