"""How an operation must be conducted: each event against what was planned, approved, warranted and begun before it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from operations import events as e
from operations.evidence import Effect
from operations.model import Branch, Direction, Plan, Ruling
from operations.operation import Attempt, Operation
from operations.stages import Stage
from storage.entry import Entry
from storage.plans import Plans
from storage.rules import CLOCK_TOLERANCE, CODE, Report, Rule, is_outside


@dataclass(slots=True)
class Case:
    """One live operation in the replay, and what its fold does not keep.

    Attributes:
        op: the operation so far.
        law: the constitution that its plan was proposed under.
        plan: the body of its plan, where it is given.
        warrants: those issued to it, by id.
        intents: the index of each warrant's intent.
        halted_from: the stage it was halted at.
    """

    op: Operation
    law: str = ""
    plan: Plan | None = None
    warrants: dict[str, e.WarrantIssued] = field(default_factory=dict)
    intents: dict[str, int] = field(default_factory=dict)
    halted_from: Stage | None = None

    def attempt(self, warrant: str) -> Attempt | None:
        """The attempt that a warrant serves."""
        return next((a for a in self.op.attempts if a.warrant == warrant), None)

    def unsettled(self) -> list[Attempt]:
        """Attempts without a known outcome."""
        return [a for a in self.op.attempts if a.status in {"intended", "in_doubt"}]


def check_actor(report: Report, at: int, entry: Entry, named: str) -> None:
    """Report an event that names another as deciding than who recorded it."""
    if entry.principal != named:
        report(at, Rule.ACTOR, f"The event names {named}, but {entry.principal} recorded it.")


class Conduct:
    """Checks one event at a time, before it is folded into its operation.

    What must be unique in the whole log (warrants, approvals) is remembered here.
    """

    def __init__(self, report: Report, plans: Plans) -> None:
        self._report = report
        self._plans = plans
        self._warrants: set[str] = set()
        self._approvals: set[str] = set()

    def _act(self, at: int, entry: Entry, named: str) -> None:
        check_actor(self._report, at, entry, named)

    def check(self, at: int, entry: Entry, case: Case, *, halted: bool) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an event
        """Report what is wrong with the entry at index `at`; `halted` says whether the crown's halt is on."""
        if case.plan is not None:
            self._plans.check(at, entry, case.op, case.plan)
        match entry.event:
            case e.PlanProposed() as event:
                case.plan = self._plans.proposed(at, case.op, event)
                case.law = case.plan.constitution if case.plan else entry.constitution
            case e.ApprovalGiven() as event:
                self._approval(at, entry, case.op, event)
            case e.ApprovalRefused() as event:
                self._act(at, entry, event.approver)
                self._plan(at, case.op, event.plan)
            case e.ApprovalWithdrawn() as event:
                self._act(at, entry, event.approver)
                self._plan(at, case.op, event.plan)
                if event.approval not in {a.id for a in case.op.approvals}:
                    self._report(at, Rule.APPROVAL, "What is withdrawn was never given, or was withdrawn before.")
            case e.PlanSuperseded() | e.OperationStarted() as event:
                self._plan(at, case.op, event.plan)
            case e.OperationApproved() as event:
                self._approved(at, entry.time, case.op, event)
            case e.WarrantIssued() as event:
                self._warrant(at, case, event)
            case e.StepIntent() as event:
                self._intent(at, entry, case, event, halted=halted)
            case e.StepDone() | e.StepFailed() | e.StepInDoubt() as event:
                self._outcome(at, case, event)
            case e.StepReconciled() as event:
                self._reconciled(at, entry, case.op, event)
            case e.ExecutionFinished() as event:
                self._settled(at, case, "execution")
                self._finished(at, case, event)
            case e.VerdictGiven() as event:
                self._verdict(at, case.op, event)
            case e.RulingGiven() as event:
                self._ruling(at, case.op, event)
            case e.EscalationResolved() as event:
                self._act(at, entry, event.by)
                self._resolved(at, case.op, event)
            case e.RollbackOrdered() as event:
                self._rollback(at, case.op, event)
            case e.RollbackDone() as event:
                self._settled(at, case, "rollback")
                self._restored(at, case.op, event)
            case e.OperationCancelled() as event:
                self._act(at, entry, event.by)
            case e.OperationHalted():
                if not halted:
                    self._report(at, Rule.HALT, "The crown had ordered no halt.")
            case e.OperationResumed() as event:
                expected = Direction.UNDO if case.halted_from is Stage.ROLLING_BACK else Direction.DO
                if event.to is not expected:
                    self._report(at, Rule.RESUMED, f"The operation was halted while it worked to {expected.value}.")
            case _:
                pass

    def _plan(self, at: int, op: Operation, plan: str) -> None:
        if op.proposal is None or plan != op.proposal.plan:
            self._report(at, Rule.PLAN, "This is about another plan than the one in hand.")

    def _approval(self, at: int, entry: Entry, op: Operation, event: e.ApprovalGiven) -> None:
        self._act(at, entry, event.approver)
        self._plan(at, op, event.plan)
        if event.approval in self._approvals:
            self._report(at, Rule.APPROVAL, f"The approval {event.approval} was given before.")
        self._approvals.add(event.approval)
        if event.person == op.requester.person or event.approver == op.requester.id:
            self._report(at, Rule.APPROVAL, "The requester approves their own request.")
        valid = [a for a in op.approvals if a.expires > entry.time + CLOCK_TOLERANCE]
        if any(event.person == a.person or event.approver == a.approver for a in valid):
            self._report(at, Rule.APPROVAL, "One person approves twice.")

    def _approved(self, at: int, time: datetime, op: Operation, event: e.OperationApproved) -> None:
        self._plan(at, op, event.plan)
        known = {a.id for a in op.approvals}
        if not known.issuperset(event.approvals):
            self._report(at, Rule.QUORUM, "An approval it rests on was not given, or was withdrawn.")
        self._quorum(at, time, op, event.approvals)
        if op.proposal is not None and op.proposal.assent and not op.assented:
            self._report(at, Rule.ASSENT, "The crown has not assented.")
        if op.proposal is not None and op.proposal.expires <= time - CLOCK_TOLERANCE:
            self._report(at, Rule.QUORUM, "The plan had expired.")

    def _quorum(self, at: int, time: datetime, op: Operation, approvals: Collection[str]) -> None:
        people = {a.person for a in op.approvals if a.id in approvals and a.expires > time - CLOCK_TOLERANCE} - {
            op.requester.person
        }
        needed = op.proposal.quorum + op.extra_quorum if op.proposal else 1
        if len(people) < needed:
            self._report(at, Rule.QUORUM, f"{len(people)} people's approvals stand; {needed} are needed.")

    def _warrant(self, at: int, case: Case, event: e.WarrantIssued) -> None:
        op = case.op
        if event.warrant in self._warrants:
            self._report(at, Rule.WARRANT_ONCE, f"The warrant {event.warrant} was issued before.")
        self._warrants.add(event.warrant)
        case.warrants[event.warrant] = event
        self._plan(at, op, event.plan)
        expected = Direction.UNDO if op.stage is Stage.ROLLING_BACK else Direction.DO
        if event.direction is not expected:
            self._report(at, Rule.DIRECTION, f"At stage {op.stage.value} nothing is to {event.direction.value}.")
        if any(a.status in {"issued", "intended", "in_doubt"} for a in op.attempts):
            self._report(at, Rule.TURN, "Another warrant of this operation is open.")
        made = sum(1 for a in op.attempts if a.step == event.step and a.direction is event.direction)
        if event.attempt != made + 1:
            self._report(at, Rule.ATTEMPT, f"This is attempt {made + 1} at step {event.step}, not {event.attempt}.")

    def _intent(self, at: int, entry: Entry, case: Case, event: e.StepIntent, *, halted: bool) -> None:
        op = case.op
        warrant, attempt = case.warrants.get(event.warrant), case.attempt(event.warrant)
        if warrant is None or attempt is None:
            self._report(at, Rule.WARRANT_USED, f"The warrant {event.warrant} was not issued to this operation.")
            return
        if attempt.status != "issued":
            self._report(at, Rule.WARRANT_USED, f"The warrant {event.warrant} was used before.")
        if (event.step, event.attempt, event.direction, event.arguments, event.system) != (
            warrant.step,
            warrant.attempt,
            warrant.direction,
            warrant.arguments,
            warrant.system,
        ):
            self._report(at, Rule.WARRANT_MATCH, "What begins is not what the warrant allows.")
        if warrant.expires <= entry.time - CLOCK_TOLERANCE:
            self._report(at, Rule.WARRANT_EXPIRED, f"The warrant {event.warrant} had expired.")
        if halted:
            self._report(at, Rule.HALT, "The crown had halted all execution.")
        if case.unsettled():
            self._report(at, Rule.TURN, "Another step of this operation has no known outcome yet.")
        if warrant.direction is Direction.DO:
            self._forward(at, entry, case, event)
        else:
            self._backward(at, op, event)
        case.intents[event.warrant] = at

    def _forward(self, at: int, entry: Entry, case: Case, event: e.StepIntent) -> None:
        op = case.op
        if case.law != entry.constitution:
            self._report(at, Rule.LAW, "The plan was proposed under another constitution.")
        self._quorum(at, entry.time, op, [a.id for a in op.approvals])
        over = {a.step for a in op.attempts if a.direction is Direction.DO and a.status == "done"} | set(op.skipped)
        if event.step in over or not over.issuperset(range(1, event.step)):
            self._report(at, Rule.TURN, f"It is not the turn of step {event.step}.")
        earlier = [
            a
            for a in op.attempts
            if a.step == event.step and a.direction is Direction.DO and a.warrant != event.warrant and a.effect
        ]
        if event.effect is Effect.ONCE_BLIND and any(a.changed or a.status != "failed" for a in earlier):
            self._report(at, Rule.ONCE, f"Step {event.step} must be tried at most once.")

    def _backward(self, at: int, op: Operation, event: e.StepIntent) -> None:
        undone = {a.step for a in op.attempts if a.direction is Direction.UNDO and a.status == "done"}
        if next((step for step in op.rollback or () if step not in undone), None) != event.step:
            self._report(at, Rule.TURN, f"It is not step {event.step} that is to be undone next.")

    def _outcome(self, at: int, case: Case, event: e.StepDone | e.StepFailed | e.StepInDoubt) -> None:
        attempt = case.attempt(event.warrant)
        if attempt is None or attempt.status != "intended":
            self._report(at, Rule.OUTCOME, f"No open intent of the warrant {event.warrant} is recorded.")
        elif (event.step, event.attempt, event.direction) != (attempt.step, attempt.attempt, attempt.direction):
            self._report(at, Rule.OUTCOME, "The outcome is of another step or attempt than its warrant.")

    def _reconciled(self, at: int, entry: Entry, op: Operation, event: e.StepReconciled) -> None:
        self._act(at, entry, event.by)
        last = op.latest(event.step, event.direction)
        if last is None or last.attempt != event.attempt or last.status not in {"intended", "in_doubt"}:
            self._report(at, Rule.RECONCILED, f"The outcome of step {event.step} was not in doubt.")
            return
        probed = last.effect is Effect.ONCE_PROBE and event.direction is Direction.DO
        if entry.branch is Branch.PEOPLE:
            settles = is_outside(entry.principal)
        else:
            settles = probed and entry.branch is Branch.EXECUTIVE and entry.principal == CODE
        if not settles:
            self._report(at, Rule.RECONCILED, f"{entry.principal} cannot settle what became of step {event.step}.")

    def _settled(self, at: int, case: Case, what: str) -> None:
        for attempt in case.unsettled():
            self._report(at, Rule.UNRESOLVED, f"The {what} ended while step {attempt.step} has no known outcome.")

    def _finished(self, at: int, case: Case, event: e.ExecutionFinished) -> None:
        op = case.op
        if event.outcome != "finished" or op.stage is not Stage.RUNNING:
            return
        seen = [*(a.step for a in op.attempts), *op.skipped]
        last = len(case.plan.steps) if case.plan else max(seen, default=1)
        unknown = {a.step for a in case.unsettled()}
        left = [n for n in range(1, last + 1) if not op.settled(n) and n not in unknown]
        if left:
            self._report(at, Rule.FINISHED, f"Step {left[0]} was neither done nor left out.")

    def _verdict(self, at: int, op: Operation, event: e.VerdictGiven) -> None:
        if event.passed != (event.checks_passed and event.judged_passed):
            self._report(at, Rule.VERDICT, "Passed is not what checks and judgment amount to.")
        held = bool(op.checks) and all(check.passed for check in op.checks)
        if event.checks != len(op.checks) or event.checks_passed != held:
            self._report(at, Rule.CHECKS, f"{len(op.checks)} checks are recorded; all passed: {held}.")

    def _ruling(self, at: int, op: Operation, event: e.RulingGiven) -> None:
        self._plan(at, op, event.plan)
        if event.ruling is Ruling.COMPLETE and not (op.verdict and op.verdict.passed):
            self._report(at, Rule.RULING, "What did not pass cannot be completed by the crown.")
        if event.ruling is Ruling.FAIL and op.verdict and op.verdict.rollback:
            self._report(at, Rule.RULING, "The verdict orders a rollback; the crown cannot leave it out.")
        if op.stage is Stage.EVALUATED and op.ruling is not None:
            self._report(at, Rule.RULING, f"The ruling was {op.ruling.value} already.")

    def _resolved(self, at: int, op: Operation, event: e.EscalationResolved) -> None:
        if op.requester.id == event.by or op.requester.person == event.person:
            self._report(at, Rule.RULING, "The requester resolves their own request.")
        if event.ruling == "complete" and not (op.verdict and op.verdict.checks_passed):
            self._report(at, Rule.RULING, "Over a failed check nobody can complete.")

    def _rollback(self, at: int, op: Operation, event: e.RollbackOrdered) -> None:
        if op.ruling is not Ruling.ROLLBACK:
            self._report(at, Rule.ROLLBACK, "No ruling orders a rollback.")
        newest_first = [step for step in reversed(op.applied()) if step in event.steps]
        if list(event.steps) != newest_first:
            self._report(at, Rule.ROLLBACK, "These are not applied steps, newest first.")

    def _restored(self, at: int, op: Operation, event: e.RollbackDone) -> None:
        if not event.restored:
            return
        last = [op.latest(step, Direction.UNDO) for step in op.rollback or ()]
        checks = [check for check in op.checks if check.direction is Direction.UNDO]
        undone = bool(last) and all(attempt is not None and attempt.status == "done" for attempt in last)
        if not undone or not checks or not all(check.passed for check in checks):
            self._report(at, Rule.RESTORED, "Not every step was undone and found to equal its snapshot.")
