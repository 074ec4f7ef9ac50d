"""What is counted within one stretch of time. Each figure belongs to the entry that ends what it measures."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from operations.stages import Stage
from triad.analytics.course import TERMINAL, Course
from triad.analytics.fact import Fact
from triad.analytics.measures import MOST_NAMES, Spread, Tally

OTHERS = "others"
_DECISIONS = {"approval.given": "approved", "approval.refused": "refused", "approval.withdrawn": "withdrew"}
_REFUSALS = frozenset(
    {"plan.refused", "warrant.denied", "auth.denied", "approval.refused", "step.failed", "operation.expired"}
    | {"witness.refused"}
)


@dataclass(slots=True)
class Example:
    """How often something was refused, and where the newest of it stands."""

    n: int = 0
    index: int = 0
    operation: str | None = None


@dataclass(slots=True)
class Load:
    """What one person, or another principal outside the branches, decided."""

    decisions: Tally = field(default_factory=Tally)
    deciding: Spread = field(default_factory=Spread)
    quick: int = 0


@dataclass(slots=True)
class Runs:
    """How attempts at the steps of one playbook, or on one system, ended."""

    outcomes: Tally = field(default_factory=Tally)
    doing: Spread = field(default_factory=Spread)
    undoing: Spread = field(default_factory=Spread)
    retries: int = 0


@dataclass(slots=True)
class Bucket:
    """A slice of the time."""

    entries: int = 0
    requested: int = 0
    ended: int = 0
    completed: int = 0
    refusals: int = 0
    steps: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Period:
    """Everything that is counted; `quick` is the time, in milliseconds, under which a decision counts as quick."""

    quick: int = 0
    bucket: int = 0
    entries: int = 0
    kinds: Tally = field(default_factory=Tally)
    branches: Tally = field(default_factory=Tally)
    principals: Tally = field(default_factory=Tally)
    models: Tally = field(default_factory=Tally)
    types: Tally = field(default_factory=Tally)
    requested: int = 0
    emergencies: int = 0
    endings: Tally = field(default_factory=Tally)
    stays: defaultdict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    whole: Spread = field(default_factory=Spread)
    approving: Spread = field(default_factory=Spread)
    playbooks: defaultdict[str, Runs] = field(default_factory=lambda: defaultdict(Runs))
    systems: defaultdict[str, Runs] = field(default_factory=lambda: defaultdict(Runs))
    refusals: defaultdict[tuple[str, str], Example] = field(default_factory=lambda: defaultdict(Example))
    degraded: defaultdict[tuple[str, str], Example] = field(default_factory=lambda: defaultdict(Example))
    tokens: defaultdict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    triggers: Tally = field(default_factory=Tally)
    undone: Tally = field(default_factory=Tally)
    people: defaultdict[str, Load] = field(default_factory=lambda: defaultdict(Load))
    verdicts: Tally = field(default_factory=Tally)
    checks: Tally = field(default_factory=Tally)
    buckets: defaultdict[int, Bucket] = field(default_factory=lambda: defaultdict(Bucket))

    def add(self, fact: Fact, course: Course | None, *, entered: int | None, began: int | None) -> None:
        """Count an entry.

        Args:
            fact: the entry.
            course: its operation after it.
            entered: when the operation had come to the stage it left; None when it left none, or when is not known.
            began: when the intent was recorded whose outcome this is; None when it is no outcome.
        """
        self.entries += 1
        self.kinds.add(fact.kind)
        self.branches.add(fact.branch)
        self.principals.add(fact.principal)
        if fact.model is not None:
            self.models.add(fact.model)
            used = fact.tokens or (0, 0)
            sums = self.tokens[_pair(self.tokens, (fact.model, fact.branch))]
            sums[0] += 1
            sums[1] += used[0]
            sums[2] += used[1]
        if fact.moved and fact.before is not None and entered is not None:
            self.stays[fact.before].add(fact.time - entered, fact.index)
        if fact.kind in _REFUSALS:
            _count(self.refusals, fact, fact.event.get("code", "approval-refused"))
        self._add_kind(fact, course, began)
        if self.bucket:
            self._add_bucket(fact)

    def _add_kind(self, fact: Fact, course: Course | None, began: int | None) -> None:  # noqa: C901, PLR0912 - one case a kind
        event = fact.event
        match fact.kind:
            case "operation.requested":
                self.requested += 1
                self.types.add(event["request"]["type"])
                self.emergencies += bool(event["request"]["emergency"])
            case "approval.given" | "approval.refused" | "approval.withdrawn":
                self._decided(fact, course)
            case "step.reconciled" | "escalation.resolved" | "emergency.ratified" | "crown.halted" | "crown.released":
                if not fact.principal.startswith("agent:"):
                    self._load(fact).decisions.add(fact.kind)
            case "step.intent" | "step.done" | "step.failed" | "step.in_doubt":
                self._stepped(fact, course, began)
            case "check.evaluated":
                self.checks.add("passed" if event["passed"] else "failed")
            case "verdict.given":
                self.verdicts.add("passed" if event["passed"] else "failed")
            case "rollback.ordered" if course is not None:
                self.triggers.add(course.trigger())
            case "rollback.done":
                self.undone.add("restored" if event["restored"] else "incomplete")
            case "operation.approved" if course is not None and course.asked is not None and course.quorum:
                self.approving.add(fact.time - course.asked, fact.index)
            case "agent.degraded":
                _count(self.degraded, fact, event["code"])
            case _:
                pass
        if fact.moved and fact.after in TERMINAL:
            self.endings.add(fact.after)
            if course is not None and course.requested is not None:
                self.whole.add(fact.time - course.requested, fact.index)

    def _load(self, fact: Fact) -> Load:
        return self.people[_name(self.people, fact.principal)]

    def _decided(self, fact: Fact, course: Course | None) -> None:
        load = self._load(fact)
        load.decisions.add(_DECISIONS[fact.kind])
        if course is not None and course.asked is not None and fact.kind != "approval.withdrawn":
            took = fact.time - course.asked
            load.deciding.add(took, fact.index)
            load.quick += took < self.quick

    def _stepped(self, fact: Fact, course: Course | None, began: int | None) -> None:
        place = course.place_of(fact) if course is not None else None
        if place is None:
            return
        direction = fact.event["direction"]
        for group, name in ((self.playbooks, place[0]), (self.systems, place[1])):
            runs = group[_name(group, name)]
            if fact.kind == "step.intent":
                runs.retries += fact.event["attempt"] > 1
                continue
            outcome = fact.kind.removeprefix("step.")
            runs.outcomes.add(outcome if direction == "do" else f"undo_{outcome}")
            if began is not None:
                (runs.doing if direction == "do" else runs.undoing).add(fact.time - began, fact.index)

    def _add_bucket(self, fact: Fact) -> None:
        slot = self.buckets[fact.time // self.bucket * self.bucket]
        slot.entries += 1
        slot.requested += fact.kind == "operation.requested"
        slot.steps += fact.kind == "step.done"
        slot.refusals += fact.kind in _REFUSALS
        if fact.moved and fact.after in TERMINAL:
            slot.ended += 1
            slot.completed += fact.after == Stage.COMPLETED
        if fact.tokens is not None:
            slot.tokens += sum(fact.tokens)

    @property
    def ended(self) -> int:
        """Operations that came to an end."""
        return self.endings.n

    @property
    def refused(self) -> int:
        """Refusals of every kind."""
        return sum(each.n for each in self.refusals.values())


def _count(examples: defaultdict[tuple[str, str], Example], fact: Fact, code: str) -> None:
    example = examples[_pair(examples, (fact.kind, code))]
    example.n += 1
    example.index, example.operation = fact.index, fact.operation


def _name(group: Mapping[str, object], name: str) -> str:
    """The name to count under: a new one beyond the limit counts with the others."""
    return name if name in group or len(group) < MOST_NAMES else OTHERS


def _pair(group: Mapping[tuple[str, str], object], pair: tuple[str, str]) -> tuple[str, str]:
    """See `_name`."""
    return pair if pair in group or len(group) < MOST_NAMES else (pair[0], OTHERS)
