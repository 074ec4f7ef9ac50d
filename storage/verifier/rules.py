"""What entries must keep to: the rules by name, and how a breach is reported."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

Json = dict[str, Any]
"""A JSON object, checked against its shape before a rule reads it."""

CLOCK_TOLERANCE: Final = timedelta(seconds=5)
"""How far an entry's time may lie before an earlier one's, or after an expiry: several hosts write, by their clocks."""

BRANCHES: Final[dict[str, str]] = {
    "plan.proposed": "legislative",
    "plan.refused": "legislative",
    "operation.approved": "legislative",
    "approval.given": "people",
    "approval.refused": "people",
    "approval.withdrawn": "people",
    "escalation.resolved": "people",
    "emergency.ratified": "people",
    "constitution.proposed": "people",
    "constitution.amended": "people",
    "crown.released": "people",
    "key.rotated": "people",
    "personal.erased": "people",
    "warrant.issued": "executive",
    "step.intent": "executive",
    "step.done": "executive",
    "step.failed": "executive",
    "step.in_doubt": "executive",
    "step.skipped": "executive",
    "execution.finished": "executive",
    "check.evaluated": "judicial",
    "verdict.given": "judicial",
    "ruling.given": "crown",
}
"""Which branch alone may record a kind: the division of powers, in the record."""

BY_PEOPLE: Final = frozenset(kind for kind, branch in BRANCHES.items() if branch == "people") | {
    "operation.requested",
    "operation.cancelled",
    "cancel.requested",
    "crown.halted",
}
"""What neither an agent nor code may record in the people's name."""

CODE: Final = "triad"
"""The principal of what code alone decides."""


def is_outside(principal: str) -> bool:
    """Whether this is a person or a service: neither a branch's agent nor Triad's own code."""
    return principal != CODE and not principal.startswith("agent:")


def instant(text: str) -> datetime:
    """The time that an entry spells, in UTC."""
    return datetime.fromisoformat(text)


def passed(end: str, time: str) -> bool:
    """Whether `end` had passed at `time`, beyond the tolerance; both are spelled as in entries, which sort as text."""
    return end <= time and instant(end) <= instant(time) - CLOCK_TOLERANCE


class Rule(StrEnum):
    """What an entry can break. The names are stable; reports and documents use them."""

    ENTRY = "entry"
    """The bytes are the canonical bytes of an entry."""
    INDEX = "index"
    """The index is the position in the log."""
    ORIGIN = "origin"
    """The origin is the checkpoint's."""
    KEY = "key"
    """The entry names the log key in force: the genesis's, then that of each rotation."""
    ROTATION = "rotation"
    """A rotation replaces the key in force by one that was never in force."""
    TIME = "time"
    """Time does not run backwards, beyond the tolerance of several hosts' clocks."""
    GENESIS = "genesis"
    """The first entry is the genesis, and no other is."""
    CONSTITUTION = "constitution"
    """The entry names the constitution in force at its place."""
    TEXT = "text"
    """The text of every constitution that was in force is there, and is the one that its digest names."""
    AMENDMENT = "amendment"
    """Only a recorded proposal changes the constitution, ratified once, by a second person."""
    DEMANDS = "demands"
    """A plan states at least the approvals and the assent that the constitution demands, and lasts no longer."""
    EMERGENCY = "emergency"
    """Who declares an emergency may do so, and no step of it begins after its time."""
    ACTOR = "actor"
    """Who is named in the event as deciding is who recorded it."""
    BRANCH = "branch"
    """The kind belongs to the branch that recorded it."""
    PERSON = "person"
    """What is recorded as the people's decision was recorded by neither an agent nor Triad's own code."""
    OPERATION = "operation"
    """An operation is requested once, before anything else happens to it."""
    MOVE = "move"
    """The transition table allows the event at the operation's stage, and so does what happened to it before."""
    STAGE = "stage"
    """The stages before and after are those of the replay."""
    SEQUENCE = "sequence"
    """The operation's version is that of the replay."""
    PLAN = "plan"
    """What is decided or warranted is about the plan in hand; so is what begins or is left out, if that is given."""
    APPROVAL = "approval"
    """An approval is by another person than the requester and whose approval stands; only the given is withdrawn."""
    QUORUM = "quorum"
    """Enough distinct people's approvals stand, unexpired, when the operation is approved and at every step forward."""
    ASSENT = "assent"
    """The crown has assented where the plan demands it."""
    WARRANT_ONCE = "warrant-once"
    """No warrant's id is issued twice."""
    DIRECTION = "direction"
    """Steps are done while running and undone while rolling back."""
    ATTEMPT = "attempt"
    """Attempts at a step are counted from one, without gaps."""
    WARRANT_USED = "warrant-used"
    """Every intent uses a warrant that was issued to its operation and not used before."""
    WARRANT_MATCH = "warrant-match"
    """Step, attempt, direction, arguments and system are the warrant's."""
    WARRANT_EXPIRED = "warrant-expired"
    """The warrant had not expired when the intent was recorded."""
    HALT = "halt"
    """Nothing begins between the crown's halt and its release, and only then is an operation halted."""
    LAW = "law"
    """A step forward happens under the constitution that its plan was proposed under."""
    TURN = "turn"
    """It is the step's turn: forward in the plan's order, backward in the rollback's; one at a time."""
    ONCE = "once"
    """What must happen at most once is not begun again after it happened, or may have."""
    OUTCOME = "outcome"
    """What ended or is in doubt had begun: its intent is recorded and open."""
    RECONCILED = "reconciled"
    """Only an attempt without a known outcome is reconciled, by a person, or by the probe of a step that has one."""
    UNRESOLVED = "unresolved"
    """Neither a run nor a rollback ends while a step's outcome is unknown."""
    FINISHED = "finished"
    """A run that finished has done or left out every step: of the plan where it is given, else of those seen."""
    VERDICT = "verdict"
    """Passed means that the checks passed and the evaluator agreed."""
    CHECKS = "checks"
    """The verdict's count and outcome of the checks are those of the recorded checks; no check is no pass."""
    RULING = "ruling"
    """The crown completes only what passed, fails nothing that the verdict sends back, and rules once.

    A crown officer completes nothing over a failed check, and resolves no request of their own.
    """
    ROLLBACK = "rollback"
    """A rollback follows a ruling and undoes what was applied, newest first."""
    RESTORED = "restored"
    """Restored means that every step was undone and every check of it passed."""
    RATIFIED = "ratified"
    """An emergency is ratified by another person than the one who asked for it, and nothing else is."""
    RESUMED = "resumed"
    """A halted operation goes on in the direction in which it was halted."""
    ARCHIVE = "archive"
    """An archived segment lies before its entry, and its root is that of the log at its end."""
    EVIDENCE = "evidence"
    """Only evidence that an entry named before expires."""
    PERSONAL = "personal"
    """Only a commitment that was recorded before, about the same person, is erased."""
    REPORT = "report"
    """A stored report is about entries that were there."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One breach: where, of which rule, and in words."""

    index: int | None
    rule: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What is no breach, and somebody should know: where, and in words."""

    index: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class OpenStep:
    """An intent whose outcome the log does not know: still running, interrupted, or in doubt."""

    index: int
    operation: str
    step: int
    attempt: int
    direction: Literal["do", "undo"]
    status: Literal["intended", "in_doubt"]


ReportBreach = Callable[[int, Rule, str], None]
"""Takes the index, the rule and the sentence of a breach."""
