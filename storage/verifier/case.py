"""One live operation of the replay: what is known of it, and how each event changes that."""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from .rules import CLOCK_TOLERANCE, Json, instant
from .stages import TRANSITIONS, signal_of


class Approval(NamedTuple):
    """A person's yes over one plan digest."""

    id: str
    plan: str
    approver: str
    person: str
    expires: str


def approval_of(event: Json) -> Approval:
    """What an `approval.given` gives."""
    return Approval(event["approval"], event["plan"], event["approver"], event["person"], event["expires"])


class Attempt:
    """One attempt at a step: `status` is issued, intended, done, failed or in_doubt."""

    __slots__ = (
        "attempt",
        "changed",
        "direction",
        "effect",
        "intent",
        "number",
        "status",
        "step",
        "warrant",
        "warranted",
    )

    def __init__(self, warranted: Json, number: int) -> None:
        self.number = number
        self.warranted = warranted
        self.warrant: str = warranted["warrant"]
        self.step: int = warranted["step"]
        self.attempt: int = warranted["attempt"]
        self.direction: str = warranted["direction"]
        self.status = "issued"
        self.effect: str | None = None
        self.changed = False
        self.intent: int | None = None

    @property
    def unsettled(self) -> bool:
        """Whether it began and its outcome is not known."""
        return self.status in {"intended", "in_doubt"}

    @property
    def open(self) -> bool:
        """Whether it may still begin, or its outcome is not known."""
        return self.status in {"issued", "intended", "in_doubt"}


class Case:
    """An operation between its request and its end.

    Attributes:
        law: the constitution that its plan was proposed under.
        body: its plan, where that is given.
        proposal: the event that proposed the plan in hand.
        approvals: those that were given and not withdrawn, by their ids.
        begun: what began at a step when it was first tried.
        outcome: how the run ended, by its own report.
        halted_from: the stage it was halted at.
    """

    __slots__ = (
        "_done",
        "_latest",
        "_made",
        "_pending",
        "_standing",
        "_under",
        "approvals",
        "assented",
        "attempts",
        "begun",
        "body",
        "checks",
        "extra_quorum",
        "halted_from",
        "id",
        "law",
        "outcome",
        "plans",
        "proposal",
        "request",
        "requested",
        "requester",
        "rollback",
        "ruling",
        "skipped",
        "stage",
        "verdict",
        "version",
    )

    def __init__(self, ident: str, event: Json, time: str) -> None:
        self.id = ident
        self.stage = "requested"
        self.version = 1
        self.requested = time
        self.request: Json = event["request"]
        self.requester: Json = event["requester"]
        self.law = ""
        self.body: Json | None = None
        self.proposal: Json | None = None
        self.plans = 0
        self.approvals: dict[str, Approval] = {}
        self.begun: dict[int, tuple[str, ...]] = {}
        self.outcome: str | None = None
        self.extra_quorum = 0
        self.assented = False
        self.attempts: list[Attempt] = []
        self.skipped: list[int] = []
        self.checks: list[Json] = []
        self.verdict: Json | None = None
        self.ruling: str | None = None
        self.rollback: list[int] | None = None
        self.halted_from: str | None = None
        self._under: dict[str, list[Attempt]] = {}
        self._standing: dict[tuple[str, str], dict[str, str]] = {}
        self._latest: dict[tuple[int, str], Attempt] = {}
        self._made: Counter[tuple[int, str]] = Counter()
        self._pending: dict[int, Attempt] = {}
        self._done: dict[str, Counter[int]] = {"do": Counter(), "undo": Counter()}

    def issue(self, warranted: Json) -> None:
        """One more attempt, under a warrant."""
        attempt = Attempt(warranted, len(self.attempts))
        place = (attempt.step, attempt.direction)
        self._pending[attempt.number] = attempt
        self._made[place] += 1
        self._latest[place] = attempt
        self._under.setdefault(attempt.warrant, []).append(attempt)
        self.attempts.append(attempt)

    def settle(self, warrant: str, status: str, *, changed: bool | None = None, effect: str | None = None) -> None:
        """Another status of what a warrant serves, and what goes with it."""
        for attempt in self._under.get(warrant, ()):
            done = self._done[attempt.direction]
            done[attempt.step] += (status == "done") - (attempt.status == "done")
            attempt.status = status
            attempt.changed = attempt.changed if changed is None else changed
            attempt.effect = effect or attempt.effect
            if attempt.open:
                self._pending[attempt.number] = attempt
            else:
                self._pending.pop(attempt.number, None)

    def under(self, warrant: str) -> Attempt | None:
        """The attempt that a warrant serves."""
        found = self._under.get(warrant)
        return found[0] if found else None

    def latest(self, step: int, direction: str) -> Attempt | None:
        """The newest attempt at a step in one direction."""
        return self._latest.get((step, direction))

    def made(self, step: int, direction: str) -> int:
        """How many attempts at a step there were in one direction."""
        return self._made[step, direction]

    def unsettled(self) -> list[Attempt]:
        """Attempts without a known outcome, oldest first."""
        return [a for a in self._pending.values() if a.unsettled]

    def open(self) -> bool:
        """Whether a warrant is neither used up nor settled."""
        return bool(self._pending)

    def applied(self) -> list[int]:
        """Steps that changed or may have changed their system, in the order they ran."""
        return list(
            dict.fromkeys(a.step for a in self.attempts if a.direction == "do" and (a.changed or a.unsettled)),
        )

    def done(self, direction: str) -> set[int]:
        """The steps at which an attempt in one direction was done."""
        return {step for step, count in self._done[direction].items() if count > 0}

    def last_step(self) -> int:
        """The highest number of a step that was tried or left out; 0 where there is none."""
        return max(*(step for step, _ in self._made), *self.skipped, 0, 0)

    def give(self, approval: Approval) -> None:
        """One more approval."""
        self.approvals[approval.id] = approval
        for key in _keys(approval):
            self._standing.setdefault(key, {})[approval.id] = approval.expires

    def take_back(self, ident: str) -> None:
        """An approval less."""
        approval = self.approvals.pop(ident, None)
        for key in _keys(approval) if approval else ():
            self._standing.get(key, {}).pop(ident, None)

    def forget_approvals(self) -> None:
        """Begin anew under another plan, or none."""
        self.approvals, self._standing = {}, {}
        self.extra_quorum, self.assented = 0, False

    def stands(self, given: Approval, time: str) -> bool:
        """Whether an approval of the same person or principal had not expired, beyond the tolerance.

        What has expired is forgotten, so that no approval is looked at twice in vain.
        """
        now = instant(time) + CLOCK_TOLERANCE
        for key in _keys(given):
            held = self._standing.get(key, {})
            for ident, expires in list(held.items()):
                if instant(expires) > now:
                    return True
                del held[ident]
        return False

    def settled(self, step: int) -> bool:
        """Whether a step needs no more work forward."""
        return step in self.skipped or self._done["do"][step] > 0

    def next_stage(self, kind: str, event: Json) -> str | None:
        """Where the table leads from here; None where it has no such row."""
        return TRANSITIONS[self.stage].get(signal_of(kind, event))

    def follows(self, kind: str, event: Json) -> bool:
        """Whether the event fits what has happened: what the table, which knows stages only, cannot say."""
        fits = _FITS.get(kind)
        return fits is None or fits(self, event)

    def move(self, stage: str, kind: str, event: Json) -> None:
        """Take the event in; `follows` is not asked."""
        change = _CHANGES.get(kind)
        if change is not None:
            change(self, event)
        self.stage = stage
        self.version += 1


def _keys(approval: Approval) -> tuple[tuple[str, str], ...]:
    return ("person", approval.person), ("approver", approval.approver)


def _same(case: Case, event: Json, status: str) -> bool:
    found = case.under(event["warrant"])
    return (
        found is not None
        and found.status == status
        and found.step == event["step"]
        and found.attempt == event["attempt"]
        and found.direction == event["direction"]
    )


def _undoing(case: Case, direction: str) -> bool:
    return (direction == "undo") == (case.rollback is not None)


def _issue_fits(case: Case, event: Json) -> bool:
    new = event["attempt"] == case.made(event["step"], event["direction"]) + 1 and not case.under(event["warrant"])
    return new and not case.open() and _undoing(case, event["direction"])


def _reconciled_fits(case: Case, event: Json) -> bool:
    last = case.latest(event["step"], event["direction"])
    return last is not None and last.attempt == event["attempt"] and last.unsettled


def _skip_fits(case: Case, event: Json) -> bool:
    step = event["step"]
    return not case.open() and not case.settled(step) and step not in case.applied()


_FITS: Final[dict[str, Callable[[Case, Json], bool]]] = {
    "approval.withdrawn": lambda case, event: event["approval"] in case.approvals,
    "warrant.issued": _issue_fits,
    "step.intent": lambda case, event: _same(case, event, "issued"),
    "step.done": lambda case, event: _same(case, event, "intended"),
    "step.failed": lambda case, event: _same(case, event, "intended"),
    "step.in_doubt": lambda case, event: _same(case, event, "intended"),
    "step.reconciled": _reconciled_fits,
    "step.skipped": _skip_fits,
    "operation.resumed": lambda case, event: _undoing(case, event["to"]),
    "check.evaluated": lambda case, event: _undoing(case, event["direction"]),
    "execution.finished": lambda case, _: not case.open(),
    "rollback.done": lambda case, _: not case.open(),
    "rollback.ordered": lambda case, _: case.ruling == "rollback",
    "ruling.given": lambda case, _: case.ruling is None,
}


def _planned(case: Case, event: Json) -> None:
    case.proposal = event
    case.plans += 1
    case.forget_approvals()


def _superseded(case: Case, _: Json) -> None:
    case.proposal = None
    case.forget_approvals()


def _approved(case: Case, event: Json) -> None:
    case.give(approval_of(event))


def _withdrawn(case: Case, event: Json) -> None:
    case.take_back(event["approval"])


def _ruled(case: Case, event: Json) -> None:
    ruling = event["ruling"]
    if ruling == "assent":
        case.assented = True
    elif ruling == "escalate" and case.stage == "planned":
        case.extra_quorum += 1
    else:
        case.ruling = ruling


def _issued(case: Case, event: Json) -> None:
    case.issue(event)


def _intended(case: Case, event: Json) -> None:
    case.settle(event["warrant"], "intended", effect=event["effect"])


def _done(case: Case, event: Json) -> None:
    case.settle(event["warrant"], "done", changed=event["changed"])


def _failed(case: Case, event: Json) -> None:
    case.settle(event["warrant"], "failed", changed=event["changed"])


def _in_doubt(case: Case, event: Json) -> None:
    case.settle(event["warrant"], "in_doubt")


def _reconciled(case: Case, event: Json) -> None:
    last = case.latest(event["step"], event["direction"])
    if last is not None:
        happened = event["happened"]
        case.settle(last.warrant, "done" if happened else "failed", changed=happened)


def _set_rollback(case: Case, event: Json) -> None:
    case.rollback = event["steps"]


def _set_verdict(case: Case, event: Json) -> None:
    case.verdict = event


def _set_ruling(case: Case, event: Json) -> None:
    case.ruling = event["ruling"]


def _ran(case: Case, event: Json) -> None:
    case.outcome = event["outcome"]


def _halted(case: Case, _: Json) -> None:
    case.halted_from = case.stage


_CHANGES: Final[dict[str, Callable[[Case, Json], None]]] = {
    "plan.proposed": _planned,
    "plan.superseded": _superseded,
    "approval.given": _approved,
    "approval.withdrawn": _withdrawn,
    "ruling.given": _ruled,
    "warrant.issued": _issued,
    "step.intent": _intended,
    "step.done": _done,
    "step.failed": _failed,
    "step.in_doubt": _in_doubt,
    "step.reconciled": _reconciled,
    "step.skipped": lambda case, event: case.skipped.append(event["step"]),
    "execution.finished": _ran,
    "check.evaluated": lambda case, event: case.checks.append(event),
    "verdict.given": _set_verdict,
    "rollback.ordered": _set_rollback,
    "escalation.resolved": _set_ruling,
    "operation.halted": _halted,
}
