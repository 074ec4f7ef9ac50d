"""What entries must keep to: the rules by name, and how a breach is reported."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

Json = dict[str, Any]
"""A JSON object, checked against its shape before a rule reads it."""

CLOCK_TOLERANCE: Final = timedelta(seconds=5)
"""How far an entry's time may lie before an earlier one's, or after an expiry: several hosts write, by their clocks."""

UNFENCED: Final = timedelta(minutes=1)
"""How long a decision may take to its entry where nothing but the deciding process looks: a halt may come between."""

SETTLED: Final = timedelta(hours=1)
"""How old what the log says must be before a deletion has to know it: what is due is looked up before."""

_OWNED: Final[dict[str, tuple[str, ...]]] = {
    "people": (
        "genesis",
        "operation.requested",
        "operation.cancelled",
        "cancel.requested",
        "approval.given",
        "approval.refused",
        "approval.withdrawn",
        "escalation.resolved",
        "emergency.ratified",
        "constitution.proposed",
        "constitution.amended",
        "crown.halted",
        "crown.released",
        "auth.key_created",
        "auth.key_revoked",
        "key.rotated",
        "witness.refused",
        "segment.archived",
        "evidence.expired",
        "personal.recorded",
        "personal.erased",
        "report.stored",
    ),
    "legislative": ("plan.proposed", "plan.refused", "plan.superseded", "operation.approved", "operation.expired"),
    "executive": (
        "operation.started",
        "warrant.issued",
        "warrant.denied",
        "step.intent",
        "step.done",
        "step.failed",
        "step.in_doubt",
        "step.skipped",
        "execution.finished",
        "rollback.done",
    ),
    "judicial": ("check.evaluated", "verdict.given", "rollback.ordered"),
    "crown": ("ruling.given", "operation.halted", "operation.resumed"),
}

BRANCHES: Final = {kind: branch for branch, kinds in _OWNED.items() for kind in kinds}
"""Which branch alone may record a kind: the division of powers, in the record.

Of the kinds that are not here, `step.reconciled` is recorded by people or by code, `agent.degraded` in the branch whose
model failed, and `auth.denied` in the branch of who was refused.
"""

BY_MIND: Final = frozenset({"plan.proposed", "execution.finished", "verdict.given", "ruling.given"})
"""What rests on a model's answer: recorded as the branch's own agent."""

BY_CODE: Final = frozenset(
    {"genesis", "witness.refused", "agent.degraded"}
    | {kind for kind, branch in BRANCHES.items() if branch != "people" and kind not in BY_MIND}
) - {"plan.refused"}
"""What code alone records."""

BY_PEOPLE: Final = frozenset(kind for kind, branch in BRANCHES.items() if branch == "people") - {
    "genesis",
    "witness.refused",
    "segment.archived",
    "evidence.expired",
}
"""What neither an agent nor code may record."""

CODE: Final = "triad"
"""The principal of what code alone decides."""

SCHEDULER: Final = "scheduler"
"""The principal of what a timetable asks for; it decides nothing."""

_EARLIEST: Final = "1970"
_LATEST: Final = "9000"


def is_outside(principal: str) -> bool:
    """Whether this is a person or a service: neither a branch's agent, nor Triad's own code, nor the scheduler."""
    return principal not in {CODE, SCHEDULER} and not principal.startswith("agent:")


def is_sensible(time: str) -> bool:
    """Whether a clock can have said this: nothing is counted from years that leave no room to count in."""
    return _EARLIEST <= time < _LATEST


def instant(text: str) -> datetime:
    """The time that an entry spells, in UTC; the years before 1970 and from 9000 on are one point each."""
    if not is_sensible(text):
        return _FIRST if text < _EARLIEST else _LAST
    return datetime.fromisoformat(text)


_FIRST: Final = datetime(1969, 12, 31, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


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
    """Time does not run backwards, beyond the tolerance of several hosts' clocks, and is that of a clock."""
    GENESIS = "genesis"
    """The first entry is the genesis, and no other is."""
    CONSTITUTION = "constitution"
    """The entry names the constitution in force at its place."""
    TEXT = "text"
    """The text of every constitution that was in force is there, is the one that its digest names, and can be in force.

    Its numbers are all there and within the bounds that no amendment leaves.
    """
    AMENDMENT = "amendment"
    """Only a recorded proposal changes the constitution, ratified once, by a second person."""
    DEMANDS = "demands"
    """A plan states at least the approvals and the assent that the constitution demands, and lasts no longer."""
    EMERGENCY = "emergency"
    """Who declares an emergency may do so, and no step of it begins after its time."""
    ACTOR = "actor"
    """Who is named in the event as deciding is who recorded it."""
    BRANCH = "branch"
    """The kind belongs to the branch, and was recorded by who acts for it: its own agent, code, or people."""
    PERSON = "person"
    """What people decide was recorded by neither an agent, Triad's own code nor the scheduler, nor as one of them."""
    IDENTITY = "identity"
    """A principal stands for one person, in the whole log."""
    OPERATION = "operation"
    """An operation is requested once, before anything else happens to it or is said of it."""
    MOVE = "move"
    """The transition table allows the event at the operation's stage, and so does what happened to it before."""
    STAGE = "stage"
    """The stages before and after are those of the replay."""
    SEQUENCE = "sequence"
    """The operation's version is that of the replay."""
    PLAN = "plan"
    """What is decided or warranted is about the plan in hand; so is what begins or is left out, if that is given.

    Without it, what begins touches a system of the request, and is at each attempt what it was at the first.
    """
    APPROVAL = "approval"
    """An approval is by another person than the requester and whose approval stands; only one's own is withdrawn."""
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
    """Every intent uses a warrant that was issued to its operation and neither used nor refused before."""
    WARRANT_MATCH = "warrant-match"
    """Step, attempt, direction, arguments and system are the warrant's."""
    WARRANT_EXPIRED = "warrant-expired"
    """The warrant had not expired when the intent was recorded."""
    STARTED = "started"
    """An operation starts no earlier than asked for, and before its plan expires."""
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
    """A run that finished has done or left out every step: of the plan where it is given, else of those seen.

    One that is said to have failed or stopped has not, and has a failed attempt or none.
    """
    VERDICT = "verdict"
    """Passed means a finished run, passed checks and an evaluator who agreed; only what did not pass is sent back."""
    CHECKS = "checks"
    """The verdict's count and outcome of the checks are those of the recorded checks; no check is no pass.

    A check passes only of a step that was done or left out, and of none that is not there.
    """
    RULING = "ruling"
    """The crown completes only what passed, fails nothing that the verdict sends back, and rules once.

    A crown officer completes nothing over a failed check, and resolves no request of their own.
    """
    ROLLBACK = "rollback"
    """A rollback follows a ruling and undoes what was applied, newest first."""
    RESTORED = "restored"
    """Restored means that every step was undone, checked, and passed every check."""
    RATIFIED = "ratified"
    """An emergency is ratified by another person than the one who asked for it, and nothing else is."""
    RESUMED = "resumed"
    """A halted operation goes on in the direction in which it was halted."""
    ARCHIVE = "archive"
    """An archived segment lies before its entry, and its root is that of the log at its end."""
    EVIDENCE = "evidence"
    """Only evidence that an entry named before is deleted: no constitution, and nothing of an operation under way."""
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
