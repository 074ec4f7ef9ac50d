"""An operation is the fold of its events: what is known of a request and all that happened to it."""

from typing import Literal, Self, assert_never

from pydantic import Field

from operations import events as e
from operations import model as m
from operations.canonical import Digest, Instant, Record
from operations.errors import IllegalMove
from operations.evidence import Effect
from operations.stages import Stage, move


class Approval(Record):
    """A person's yes over one plan digest."""

    id: str
    plan: Digest
    approver: m.PrincipalId
    person: m.PrincipalId
    reason: str
    given: Instant
    expires: Instant
    channel: str


class Attempt(Record):
    """What is known of one attempt at a step, done or undone."""

    step: int
    attempt: int
    direction: m.Direction
    warrant: str
    status: Literal["issued", "intended", "done", "failed", "in_doubt"]
    effect: Effect | None = None
    changed: bool = False
    snapshot: Digest | None = None
    summary: str = ""
    code: str | None = None
    evidence: tuple[Digest, ...] = ()


class CheckRecord(Record):
    """A recorded check of one step."""

    step: int
    direction: m.Direction
    name: str
    passed: bool
    expected: str
    observed: str


class Verdict(Record):
    """The evaluator's judgment as recorded."""

    passed: bool
    checks_passed: bool
    judged_passed: bool
    rollback: bool
    reasons: tuple[str, ...]


class Operation(Record):
    """A request and all that happened to it."""

    id: m.OperationId
    version: int = Field(description="how many events have moved it; what compare-and-set compares")
    stage: Stage
    request: m.Request
    requester: m.Principal
    requested: Instant
    updated: Instant
    constitution: Digest = Field(description="the constitution in force when it was requested or last planned")
    trace: str | None = None
    proposal: e.PlanProposed | None = None
    plans: int = 0
    approvals: tuple[Approval, ...] = ()
    extra_quorum: int = 0
    assented: bool = False
    epoch: int = 0
    attempts: tuple[Attempt, ...] = ()
    skipped: tuple[int, ...] = ()
    execution: e.ExecutionFinished | None = None
    checks: tuple[CheckRecord, ...] = ()
    verdict: Verdict | None = None
    ruling: m.Ruling | None = None
    rollback: tuple[int, ...] | None = None
    reasons: tuple[str, ...] = ()
    code: str | None = None

    @property
    def plan(self) -> m.Plan | None:
        """The plan in hand, if there is one."""
        return self.proposal.body if self.proposal else None

    def bound_plan(self) -> m.Plan:
        """The plan, where the stage implies that there is one.

        Raises:
            IllegalMove: there is none.
        """
        if self.plan is None:
            raise IllegalMove(self.stage.value, "needs a plan")
        return self.plan

    def standing(self, at: Instant | None = None) -> tuple[Approval, ...]:
        """The approvals that count: over the plan in hand, by others than the requester, the latest of each person.

        Args:
            at: only those that are valid at this time; None, for undoing, asks for no date.
        """
        counted = {
            a.person: a
            for a in self.approvals
            if self.proposal is not None
            and a.plan == self.proposal.plan
            and (at is None or a.expires > at)
            and a.person != self.requester.person
        }
        return tuple(counted.values())

    def latest(self, step: int, direction: m.Direction) -> Attempt | None:
        """The newest attempt at a step in one direction."""
        found = [a for a in self.attempts if a.step == step and a.direction is direction]
        return found[-1] if found else None

    def applied(self) -> tuple[int, ...]:
        """Steps that changed or may have changed their system, in the order they ran."""
        return tuple(
            dict.fromkeys(
                a.step
                for a in self.attempts
                if a.direction is m.Direction.DO and (a.changed or a.status in {"intended", "in_doubt"})
            )
        )

    def settled(self, step: int) -> bool:
        """Whether a step needs no more work in the forward direction: it was skipped, or any attempt at it was done."""
        return step in self.skipped or self._done(step, m.Direction.DO)

    def undone(self, step: int) -> bool:
        """Whether any attempt at undoing a step was done."""
        return self._done(step, m.Direction.UNDO)

    def _done(self, step: int, direction: m.Direction) -> bool:
        return any(a.step == step and a.direction is direction and a.status == "done" for a in self.attempts)

    def _with(self, **changes: object) -> Self:
        return self.model_copy(update=changes)


def begin(
    ident: m.OperationId, event: e.OperationRequested, at: Instant, constitution: Digest, trace: str | None
) -> Operation:
    """The operation as its first event leaves it."""
    return Operation(
        id=ident,
        version=1,
        stage=Stage.REQUESTED,
        request=event.request,
        requester=event.requester,
        requested=at,
        updated=at,
        constitution=constitution,
        trace=trace,
    )


def apply(op: Operation, event: e.Event, at: Instant) -> Operation:
    """The operation after one more event; annotations leave it as it is.

    Raises:
        IllegalMove: the table does not allow the event at this stage, or the operation's own past does not.
    """
    moved = apply_unguarded(op, event, at)
    if not follows(op, event):
        raise IllegalMove(op.stage.value, f"{event.signal}, after what has happened so far,")
    return moved


def apply_unguarded(op: Operation, event: e.Event, at: Instant) -> Operation:
    """As `apply`, by the table alone: for a verifier, which names the breach by its own rules and reads on after it.

    Raises:
        IllegalMove: the table does not allow the event at this stage.
    """
    stage = move(op.stage, event)
    if not event.moves:
        return op
    return op._with(stage=stage, version=op.version + 1, updated=at, **_changes(op, event, at))  # noqa: SLF001 - the record's own module


def follows(op: Operation, event: e.Event) -> bool:  # noqa: C901, PLR0911 - one case an event
    """Whether the event fits what has happened: what the table, which knows stages only, cannot say.

    Between an issue and its outcome nothing else is issued, skipped or ended. Which step's turn it is, and what a
    warrant must be bound to, is the gate's question.
    """
    undoing = op.rollback is not None
    match event:
        case e.ApprovalWithdrawn():
            return any(a.id == event.approval for a in op.approvals)
        case e.WarrantIssued():
            made = sum(1 for a in op.attempts if a.step == event.step and a.direction is event.direction)
            new = event.attempt == made + 1 and all(a.warrant != event.warrant for a in op.attempts)
            return new and not _open(op) and (event.direction is m.Direction.UNDO) == undoing
        case e.StepIntent():
            return _status(op, event) == "issued"
        case e.StepDone() | e.StepFailed() | e.StepInDoubt():
            return _status(op, event) == "intended"
        case e.StepReconciled():
            last = op.latest(event.step, event.direction)
            return last is not None and last.attempt == event.attempt and last.status in {"intended", "in_doubt"}
        case e.StepSkipped():
            return not _open(op) and not op.settled(event.step) and event.step not in op.applied()
        case e.OperationResumed():
            return (event.to is m.Direction.UNDO) == undoing
        case e.CheckEvaluated():
            return (event.direction is m.Direction.UNDO) == undoing
        case e.ExecutionFinished() | e.RollbackDone():
            return not _open(op)
        case e.RollbackOrdered():
            return op.ruling is m.Ruling.ROLLBACK
        case e.RulingGiven():
            return op.ruling is None
        case _:
            return True


def _open(op: Operation) -> bool:
    return any(a.status in {"issued", "intended", "in_doubt"} for a in op.attempts)


def _status(op: Operation, event: e.StepIntent | e.StepDone | e.StepFailed | e.StepInDoubt) -> str | None:
    """Of the attempt that the event's warrant serves, if the event is about that very attempt."""
    found = next((a for a in op.attempts if a.warrant == event.warrant), None)
    same = found and (found.step, found.attempt, found.direction) == (event.step, event.attempt, event.direction)
    return found.status if found and same else None


def _changes(op: Operation, event: e.Event, at: Instant) -> dict[str, object]:  # noqa: C901, PLR0911, PLR0912 - one case an event
    match event:
        case e.PlanProposed():
            constitution = event.body.constitution if event.body else op.constitution
            return {
                "proposal": event,
                "plans": op.plans + 1,
                "approvals": (),
                "extra_quorum": 0,
                "assented": False,
                "constitution": constitution,
            }
        case e.PlanRefused():
            return {"code": event.code, "reasons": event.reasons}
        case e.PlanSuperseded():
            return {"proposal": None, "approvals": (), "assented": False, "extra_quorum": 0}
        case e.ApprovalGiven():
            given = Approval(
                id=event.approval,
                plan=event.plan,
                approver=event.approver,
                person=event.person,
                reason=event.reason,
                given=at,
                expires=event.expires,
                channel=event.channel,
            )
            return {"approvals": (*op.approvals, given)}
        case e.ApprovalWithdrawn():
            return {"approvals": tuple(a for a in op.approvals if a.id != event.approval)}
        case e.ApprovalRefused():
            return {"code": "denied", "reasons": (event.reason,)}
        case e.RulingGiven():
            return _ruled(op, event)
        case e.OperationStarted():
            return {"epoch": event.epoch}
        case e.WarrantIssued():
            issued = Attempt(
                step=event.step,
                attempt=event.attempt,
                direction=event.direction,
                warrant=event.warrant,
                status="issued",
            )
            return {"attempts": (*op.attempts, issued)}
        case e.StepIntent():
            return _attempted(op, event.warrant, status="intended", effect=event.effect, snapshot=event.snapshot)
        case e.StepDone():
            return _attempted(
                op,
                event.warrant,
                status="done",
                changed=event.changed,
                summary=event.summary,
                evidence=event.evidence,
            )
        case e.StepFailed():
            return _attempted(
                op,
                event.warrant,
                status="failed",
                changed=event.changed,
                summary=" ".join(event.reasons),
                code=event.code,
                evidence=event.evidence,
            )
        case e.StepInDoubt():
            return _attempted(op, event.warrant, status="in_doubt", summary=" ".join(event.reasons))
        case e.StepReconciled():
            last = op.latest(event.step, event.direction)
            warrant = last.warrant if last else ""
            status = "done" if event.happened else "failed"
            code = None if event.happened else "not-happened"
            text = " ".join(event.reasons)
            return _attempted(op, warrant, status=status, changed=event.happened, summary=text, code=code)
        case e.StepSkipped():
            return {"skipped": (*op.skipped, event.step)}
        case e.ExecutionFinished():
            return {"execution": event}
        case e.CheckEvaluated():
            fields = event.model_dump(exclude={"kind"})
            return {"checks": (*op.checks, CheckRecord(**fields))}
        case e.VerdictGiven():
            verdict = Verdict(
                passed=event.passed,
                checks_passed=event.checks_passed,
                judged_passed=event.judged_passed,
                rollback=event.rollback,
                reasons=event.reasons,
            )
            return {"verdict": verdict}
        case e.RollbackOrdered():
            return {"rollback": event.steps, "reasons": event.reasons}
        case e.RollbackDone():
            return {"reasons": event.reasons}
        case e.OperationCancelled():
            return {"code": "cancelled", "reasons": (event.reason,)}
        case e.OperationExpired():
            return {"code": event.code, "reasons": event.reasons}
        case e.EscalationResolved():
            return {"ruling": m.Ruling(event.ruling), "reasons": (event.reason,)}
        case _:
            return {}


def _ruled(op: Operation, event: e.RulingGiven) -> dict[str, object]:
    match event.ruling:
        case m.Ruling.ASSENT:
            return {"assented": True}
        case m.Ruling.ESCALATE if op.stage is Stage.PLANNED:
            return {"extra_quorum": op.extra_quorum + 1}
        case m.Ruling.VETO:
            return {"ruling": event.ruling, "code": "vetoed", "reasons": event.reasons}
        case m.Ruling.ESCALATE | m.Ruling.COMPLETE | m.Ruling.ROLLBACK | m.Ruling.FAIL:
            return {"ruling": event.ruling, "reasons": event.reasons}
        case _:
            assert_never(event.ruling)


def _attempted(op: Operation, warrant: str, **changes: object) -> dict[str, object]:
    return {
        "attempts": tuple(
            a.model_copy(update=changes) if a.warrant == warrant else a  # a warrant serves one attempt
            for a in op.attempts
        )
    }
