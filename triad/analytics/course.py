"""The course of one operation as far as the log was read: where it stands, since when, and who is to act next."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from operations.model import Ruling
from operations.stages import TRANSITIONS, Stage
from triad.analytics.fact import Fact, milliseconds_of

TERMINAL: Final = frozenset(stage.value for stage in Stage if not TRANSITIONS[stage])
UNKNOWN: Final = "unknown"
"""Stands for a playbook or system that was named before the part of the log that was read."""


class Waits(StrEnum):
    """Whose turn it is: four parts of Triad, or somebody or something that code cannot hurry."""

    PLANNER = "planner"
    WORKER = "worker"
    EVALUATOR = "evaluator"
    CROWN = "crown"
    PEOPLE = "people"
    WINDOW = "window"
    RELEASE = "release"


MACHINES: Final = frozenset({Waits.PLANNER, Waits.WORKER, Waits.EVALUATOR, Waits.CROWN})
"""Who never has a reason to be silent while work is there."""


@dataclass(frozen=True, slots=True)
class Intent:
    """An act that was begun."""

    index: int
    time: int
    step: int
    attempt: int
    direction: str
    playbook: str
    system: str
    effect: str


@dataclass(slots=True)
class Course:
    """The state of one operation.

    Attributes:
        requested: when it was asked for; None when that lies before what was read.
        entered: when it came to its stage; None likewise.
        last: time and index of the newest entry that moved it; annotations, like a denied warrant, are no progress.
        asked: when the plan in hand was proposed: approvers can decide from then on.
        approvals: of the plan in hand: id to person and expiry.
        steps: playbook and system of each step that was begun.
        intents: acts without a known outcome, by warrant.
        doubtful: those of them that were declared in doubt.
    """

    ident: str
    stage: str
    requested: int | None = None
    entered: int | None = None
    last: tuple[int, int] = (0, 0)
    asked: int | None = None
    person: str | None = None
    request_systems: tuple[str, ...] = ()
    request_playbook: str | None = None
    scheduled: int | None = None
    quorum: int = 0
    assent: bool = False
    assented: bool = False
    expires: int | None = None
    approvals: dict[str, tuple[str, int]] = field(default_factory=dict)
    steps: dict[int, tuple[str, str]] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    outcome: str | None = None
    checks_passed: bool | None = None
    judged_passed: bool | None = None
    resolved: bool = False

    def missing(self, at: int) -> int:
        """How many more people have to approve."""
        people = {person for person, expires in self.approvals.values() if expires > at and person != self.person}
        return max(0, self.quorum - len(people))

    def waits(self, at: int, *, halted: bool) -> Waits:  # noqa: PLR0911 - one case a stage
        """Who is to act next."""
        match self.stage:
            case "requested":
                return Waits.PLANNER
            case "planned":
                if self.expires is not None and self.expires <= at:
                    return Waits.WORKER
                if self.missing(at):
                    return Waits.PEOPLE
                return Waits.CROWN if self.assent and not self.assented else Waits.WORKER
            case "approved" if self.scheduled is not None and self.scheduled > at:
                return Waits.WINDOW
            case "approved" | "running" | "rolling_back" | "halted":
                return Waits.RELEASE if halted else Waits.WORKER
            case "executed":
                return Waits.EVALUATOR
            case "evaluated":
                return Waits.CROWN
            case _:
                return Waits.PEOPLE

    def since(self, at: int) -> int:
        """Since when whoever is to act could have acted."""
        if self.stage == "planned" and self.expires is not None and self.expires <= at:
            return max(self.last[0], self.expires)
        if self.stage == "approved" and self.scheduled is not None and self.scheduled <= at:
            return max(self.last[0], self.scheduled)
        return self.last[0]

    def trigger(self) -> str:
        """What a rollback that is ordered now goes back to."""
        if self.resolved:
            return "escalation"
        if self.checks_passed is False:
            return "check" if self.outcome != "failed" else "execution"
        return "judgment" if self.judged_passed is False else "crown"

    def apply(self, fact: Fact) -> None:  # noqa: C901, PLR0912 - one case a kind
        """Follow an entry of this operation."""
        event = fact.event
        match fact.kind:
            case "operation.requested":
                request = event["request"]
                self.requested = fact.time
                self.person = event["requester"]["person"]
                self.request_systems = tuple(request["systems"])
                self.request_playbook = request.get("playbook")
                when = request.get("scheduled_time")
                self.scheduled = milliseconds_of(when) if when else None
            case "plan.proposed":
                self.asked, self.expires = fact.time, milliseconds_of(event["expires"])
                self.quorum, self.assent, self.assented = event["quorum"], event["assent"], False
                self.approvals.clear()
            case "plan.superseded":
                self.asked = self.expires = None
                self.quorum, self.assent, self.assented = 0, False, False
                self.approvals.clear()
            case "approval.given":
                self.approvals[event["approval"]] = (event["person"], milliseconds_of(event["expires"]))
            case "approval.withdrawn":
                self.approvals.pop(event["approval"], None)
            case "ruling.given" if event["ruling"] == Ruling.ASSENT:
                self.assented = True
            case "ruling.given" if event["ruling"] == Ruling.ESCALATE and fact.before == Stage.PLANNED:
                self.quorum += 1
            case "step.intent":
                self.steps[event["step"]] = (event["playbook"], event["system"])
                self.intents[event["warrant"]] = Intent(
                    index=fact.index,
                    time=fact.time,
                    step=event["step"],
                    attempt=event["attempt"],
                    direction=event["direction"],
                    playbook=event["playbook"],
                    system=event["system"],
                    effect=event["effect"],
                )
            case "step.done" | "step.failed":
                self.intents.pop(event["warrant"], None)
                self.doubtful.discard(event["warrant"])
            case "step.in_doubt":
                self.doubtful.add(event["warrant"])
            case "step.reconciled":
                self._settle(event["step"], event["attempt"], event["direction"])
            case "execution.finished":
                self.outcome = event["outcome"]
            case "verdict.given":
                self.checks_passed, self.judged_passed = event["checks_passed"], event["judged_passed"]
            case "escalation.resolved":
                self.resolved = True
            case _:
                pass
        if fact.after is not None:
            self.last = (fact.time, fact.index)
            if fact.moved:
                self.entered = fact.time
            self.stage = fact.after

    def place_of(self, fact: Fact) -> tuple[str, str] | None:
        """Playbook and system of the step that the entry is about; None when it is about none."""
        number = fact.event.get("step")
        if number is None:
            return None
        if fact.kind == "step.intent":
            return fact.event["playbook"], fact.event["system"]
        playbook, system = self.steps.get(number, (UNKNOWN, UNKNOWN))
        return playbook, fact.event.get("system", system)

    def touches(self, *, playbook: str | None, system: str | None) -> bool:
        """Whether the operation has to do with a playbook or a system: by its request, or by a step that was begun."""
        used = self.steps.values()
        return (playbook is None or playbook == self.request_playbook or any(p == playbook for p, _ in used)) and (
            system is None or system in self.request_systems or any(s == system for _, s in used)
        )

    def _settle(self, step: int, attempt: int, direction: str) -> None:
        wanted = (step, attempt, direction)
        for warrant, each in list(self.intents.items()):
            if (each.step, each.attempt, each.direction) == wanted:
                del self.intents[warrant]
                self.doubtful.discard(warrant)
