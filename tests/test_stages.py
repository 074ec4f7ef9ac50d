"""The transition table, row by row, and what each event leaves behind in the operation."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from operations import events as e
from operations import operation, stages
from operations.canonical import sha256
from operations.errors import IllegalMove
from operations.evidence import Effect, Preview
from operations.model import (
    Branch,
    Direction,
    OperationType,
    Plan,
    Principal,
    PrincipalKind,
    Request,
    Ruling,
    RunMode,
    Step,
)
from operations.operation import Operation
from operations.stages import TRANSITIONS, Stage

IDENT = "op_00000000000000000000000001"
AT = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
LATER = AT + timedelta(minutes=1)
LATEST = LATER + timedelta(minutes=1)
LAW = sha256(b"the constitution")
NEW_LAW = sha256(b"the amended constitution")
PLAN = sha256(b"the plan")
ADA = Principal(id="ada", kind=PrincipalKind.PERSON, person="ada")
ASKED = e.OperationRequested(
    request=Request(type=OperationType.MAINTENANCE, description="Rotate the logs.", systems=("shop-logs",)),
    requester=ADA,
)
TERMINAL = {
    Stage.COMPLETED,
    Stage.ROLLED_BACK,
    Stage.REFUSED,
    Stage.DENIED,
    Stage.VETOED,
    Stage.CANCELLED,
    Stage.EXPIRED,
    Stage.FAILED,
}


def proposed(**changes: Any) -> e.PlanProposed:
    fields: dict[str, Any] = {
        "plan": PLAN,
        "version": 1,
        "tier": 2,
        "mode": RunMode.AUTONOMOUS,
        "quorum": 1,
        "assent": False,
        "reasons": ("Tier 2.",),
        "articles": ("a4",),
        "expires": LATER,
        "summary": "Rotate.",
    }
    return e.PlanProposed(**fields | changes)


def given(name: str = "ap_1", **changes: Any) -> e.ApprovalGiven:
    fields: dict[str, Any] = {
        "approval": name,
        "plan": PLAN,
        "approver": "dana",
        "person": "dana",
        "reason": "Fine.",
        "expires": LATER,
        "channel": "console",
    }
    return e.ApprovalGiven(**fields | changes)


def issued(
    warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO, *, attempt: int = 1
) -> e.WarrantIssued:
    return e.WarrantIssued(
        warrant=warrant,
        step=step,
        attempt=attempt,
        direction=direction,
        plan=PLAN,
        arguments=PLAN,
        system="shop-logs",
        expires=LATER,
    )


def intended(
    warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO, *, attempt: int = 1
) -> e.StepIntent:
    return e.StepIntent(
        warrant=warrant,
        step=step,
        attempt=attempt,
        direction=direction,
        playbook="logs.rotate",
        system="shop-logs",
        arguments=PLAN,
        effect=Effect.ONCE_PROBE,
        idempotency_key="key",
        snapshot=PLAN,
    )


def done(warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO, *, attempt: int = 1) -> e.StepDone:
    return e.StepDone(
        warrant=warrant,
        step=step,
        attempt=attempt,
        direction=direction,
        changed=True,
        summary="Rotated.",
        evidence=(PLAN,),
    )


def failed(
    warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO, *, attempt: int = 1
) -> e.StepFailed:
    return e.StepFailed(
        warrant=warrant,
        step=step,
        attempt=attempt,
        direction=direction,
        code="lock-timeout",
        changed=False,
        reasons=("Locked.", "Twice."),
        evidence=(PLAN,),
    )


def doubtful(
    warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO, *, attempt: int = 1
) -> e.StepInDoubt:
    return e.StepInDoubt(
        warrant=warrant, step=step, attempt=attempt, direction=direction, reasons=("The worker died.",)
    )


def skipped(step: int = 2) -> e.StepSkipped:
    return e.StepSkipped(step=step, reasons=("Optional.",))


def reconciled(direction: Direction = Direction.DO, *, happened: bool = True, attempt: int = 1) -> e.StepReconciled:
    return e.StepReconciled(
        step=1, attempt=attempt, direction=direction, happened=happened, by="olga", reasons=("I looked.",)
    )


def checked(direction: Direction = Direction.DO, *, passed: bool = True) -> e.CheckEvaluated:
    return e.CheckEvaluated(step=1, direction=direction, name="rotated", passed=passed, expected="12", observed="12")


def ruled(ruling: Ruling) -> e.RulingGiven:
    return e.RulingGiven(ruling=ruling, plan=PLAN, reasons=("So.",))


def resolved(ruling: str) -> e.EscalationResolved:
    return e.EscalationResolved.model_validate({"ruling": ruling, "by": "cleo", "person": "cleo", "reason": "Decided."})


VERDICT = e.VerdictGiven(
    passed=False, checks_passed=True, judged_passed=False, checks=1, rollback=True, reasons=("Doubtful.",)
)

MOVES: tuple[e.Event, ...] = (
    ASKED,
    proposed(),
    e.PlanRefused(code="nothing-fits", reasons=("No playbook.",), nearest=("logs.rotate",)),
    e.PlanSuperseded(plan=PLAN, code="constitution-changed", reasons=("Amended.",)),
    given(),
    e.ApprovalRefused(approval="ap_2", plan=PLAN, approver="dana", person="dana", reason="Not now.", channel="console"),
    e.ApprovalWithdrawn(approval="ap_1", plan=PLAN, approver="dana", reason="Wait."),
    *(ruled(ruling) for ruling in Ruling),
    e.OperationApproved(plan=PLAN, approvals=("ap_1",), reasons=("Enough.",), articles=("a4",)),
    e.OperationStarted(plan=PLAN, epoch=3),
    issued(),
    intended(),
    done(),
    failed(),
    doubtful(),
    skipped(),
    *(reconciled(direction) for direction in Direction),
    e.ExecutionFinished(outcome="finished", report="All ran."),
    checked(),
    VERDICT,
    e.RollbackOrdered(steps=(2, 1), reasons=("It failed.",)),
    e.RollbackDone(restored=True, reasons=("As before.",)),
    e.RollbackDone(restored=False, reasons=("Differs.",)),
    e.OperationCancelled(by="ada", reason="Changed my mind."),
    e.OperationExpired(code="plan-expired", reasons=("Nobody decided.",)),
    e.OperationHalted(reasons=("The crown halted.",)),
    *(e.OperationResumed(to=direction, reasons=("Released.",)) for direction in Direction),
    *(resolved(ruling) for ruling in ("complete", "rollback", "fail")),
)
BY_SIGNAL = {event.signal: event for event in MOVES}

ANNOTATIONS: tuple[e.Event, ...] = (
    e.WarrantDenied(code="expired", reasons=("Late.",)),
    e.CancelRequested(by="ada", reason="Stop."),
    e.AgentDegraded(role=Branch.CROWN, model="m", fallback="rules/offline-1", code="timeout"),
    e.AccessDenied(action="halt", code="forbidden", reasons=("No.",)),
    e.KeyCreated(subject="ada", roles=(), fingerprint="0" * 16),
    e.KeyRevoked(subject="ada", fingerprint="0" * 16),
    e.Genesis(policies=(), keys=(), code_version="1"),
    e.ConstitutionProposed(amendment="am", previous=LAW, proposed=NEW_LAW, by="cleo", person="cleo", reason="So."),
    e.ConstitutionAmended(
        amendment="am",
        previous=LAW,
        enacted=NEW_LAW,
        proposer="cleo",
        ratifier="rita",
        proposer_person="cleo",
        ratifier_person="rita",
        reason="So.",
    ),
    e.EmergencyRatified(by="rita", person="rita", reason="It was one."),
    e.CrownHalted(by="cleo", reason="Drill."),
    e.CrownReleased(by="cleo", reason="Over."),
    e.LogKeyRotated(previous="log+1+a", key="log+2+b", by="root", person="root", reason="Yearly."),
    e.WitnessRefused(witness="w", code="fork", size=3, reasons=("Another root.",)),
    e.SegmentArchived(first=0, end=256, root=LAW, archive=NEW_LAW, by="root"),
    e.EvidenceExpired(digests=(LAW,), days=30),
    e.PersonalRecorded(subject="ada", field="email", commitment=LAW),
    e.PersonalErased(subject="ada", commitments=(LAW,), by="root", reason="She asked."),
    e.ReportStored(report=LAW, first=0, end=9, by="root"),
)


def asked() -> Operation:
    return operation.begin(IDENT, ASKED, AT, LAW, "a" * 32)


def at_stage(stage: Stage) -> Operation:
    return asked().model_copy(update={"stage": stage})


def folded(*events: e.Event) -> Operation:
    op = asked()
    for event in events:
        op = operation.apply(op, event, LATER)
    return op


def running(*events: e.Event) -> Operation:
    return folded(*RUNNING, *events)


UNDO = Direction.UNDO
BEGUN = (issued(), intended())
UNDOING = (issued("wr_2", direction=UNDO), intended("wr_2", direction=UNDO))
PLANNED = (proposed(), given())
APPROVED = (*PLANNED, BY_SIGNAL["operation.approved"])
RUNNING = (*APPROVED, BY_SIGNAL["operation.started"])
EXECUTED = (*RUNNING, *BEGUN, done(), BY_SIGNAL["execution.finished"])
EVALUATED = (*EXECUTED, checked(), VERDICT)
ROLLING_BACK = (*EVALUATED, ruled(Ruling.ROLLBACK), e.RollbackOrdered(steps=(1,), reasons=("It failed.",)))
HALT = BY_SIGNAL["operation.halted"]

PASTS: dict[Stage, tuple[e.Event, ...]] = {
    Stage.REQUESTED: (),
    Stage.PLANNED: PLANNED,
    Stage.APPROVED: APPROVED,
    Stage.RUNNING: RUNNING,
    Stage.EXECUTED: EXECUTED,
    Stage.EVALUATED: EVALUATED,
    Stage.ESCALATED: (*EVALUATED, ruled(Ruling.ESCALATE)),
    Stage.ROLLING_BACK: ROLLING_BACK,
    Stage.IN_DOUBT: (*RUNNING, *BEGUN, doubtful()),
    Stage.HALTED: (*RUNNING, HALT),
}
"""A lawful past that leads to each stage."""

ROWS: dict[tuple[Stage, str], tuple[e.Event, ...]] = {
    (Stage.RUNNING, "step.intent"): (*RUNNING, issued(), intended()),
    (Stage.RUNNING, "step.done"): (*RUNNING, *BEGUN, done()),
    (Stage.RUNNING, "step.failed"): (*RUNNING, *BEGUN, failed()),
    (Stage.RUNNING, "step.in_doubt"): (*RUNNING, *BEGUN, doubtful()),
    (Stage.RUNNING, "step.reconciled:do"): (*RUNNING, *BEGUN, reconciled()),
    (Stage.EVALUATED, "rollback.ordered"): ROLLING_BACK,
    (Stage.ROLLING_BACK, "warrant.issued"): (*ROLLING_BACK, UNDOING[0]),
    (Stage.ROLLING_BACK, "step.intent"): (*ROLLING_BACK, *UNDOING),
    (Stage.ROLLING_BACK, "step.done"): (*ROLLING_BACK, *UNDOING, done("wr_2", direction=UNDO)),
    (Stage.ROLLING_BACK, "step.failed"): (*ROLLING_BACK, *UNDOING, failed("wr_2", direction=UNDO)),
    (Stage.ROLLING_BACK, "step.in_doubt"): (*ROLLING_BACK, *UNDOING, doubtful("wr_2", direction=UNDO)),
    (Stage.ROLLING_BACK, "step.reconciled:undo"): (*ROLLING_BACK, *UNDOING, reconciled(UNDO)),
    (Stage.ROLLING_BACK, "check.evaluated"): (*ROLLING_BACK, checked(UNDO)),
    (Stage.IN_DOUBT, "step.reconciled:undo"): (
        *ROLLING_BACK,
        *UNDOING,
        doubtful("wr_2", direction=UNDO),
        reconciled(UNDO),
    ),
    (Stage.HALTED, "operation.resumed:undo"): (*ROLLING_BACK, HALT, BY_SIGNAL["operation.resumed:undo"]),
}
"""Where the past of the stage alone does not carry a row: a lawful past, and last the row's own event."""


def lawful(stage: Stage, signal: str) -> tuple[Operation, e.Event]:
    """An operation at the stage whose past allows the row's event, and that event."""
    *past, event = ROWS.get((stage, signal), (*PASTS[stage], BY_SIGNAL[signal]))
    op = folded(*past)
    assert (op.stage, event.signal) == (stage, signal)
    return op, event


def changed(before: Operation, after: Operation) -> set[str]:
    """The fields that differ, without those that every move sets."""
    differing = {name for name in Operation.model_fields if getattr(before, name) != getattr(after, name)}
    return differing - {"stage", "version", "updated"}


def test_the_examples_here_are_every_event_there_is() -> None:
    union, _ = get_args(e.AnyEvent)
    kinds = set(get_args(union))
    assert {type(event) for event in (*MOVES, *ANNOTATIONS)} == kinds
    assert all(event.moves for event in MOVES)
    assert not any(event.moves for event in ANNOTATIONS)


def test_every_signal_of_the_table_is_an_event_and_every_moving_event_is_in_the_table() -> None:
    assert {signal for row in TRANSITIONS.values() for signal in row} == set(BY_SIGNAL) - {"operation.requested"}


def test_every_stage_has_a_row_and_the_terminal_ones_are_empty() -> None:
    assert set(TRANSITIONS) == set(Stage)
    assert {stage for stage, row in TRANSITIONS.items() if not row} == TERMINAL
    assert {stage for stage in Stage if stage.terminal} == TERMINAL


def test_every_stage_can_be_reached_from_a_request_and_every_live_one_can_end() -> None:
    rows = [lawful(stage, signal) for stage, row in TRANSITIONS.items() for signal in row]
    reached = {operation.apply(op, event, LATER).stage for op, event in rows}
    assert reached | {asked().stage} == set(Stage)
    ends = set(TERMINAL)
    while more := {stage for stage, row in TRANSITIONS.items() if stage not in ends and ends & set(row.values())}:
        ends |= more
    assert ends == set(Stage)


@pytest.mark.parametrize(
    ("stage", "signal", "after"),
    [(stage, signal, after) for stage, row in TRANSITIONS.items() for signal, after in row.items()],
    ids=str,
)
def test_each_row_moves_the_operation_to_its_stage(stage: Stage, signal: str, after: Stage) -> None:
    op, event = lawful(stage, signal)
    spelled = op.model_dump_json()
    moved = operation.apply(op, event, LATEST)
    assert (moved.stage, moved.version, moved.updated) == (after, op.version + 1, LATEST)
    assert op.model_dump_json() == spelled
    assert operation.apply_unguarded(op, event, LATEST) == moved


@pytest.mark.parametrize("stage", Stage)
def test_whatever_the_table_does_not_list_raises_and_changes_nothing(stage: Stage) -> None:
    op = at_stage(stage)
    spelled = op.model_dump_json()
    for signal, event in BY_SIGNAL.items():
        if signal in TRANSITIONS[stage]:
            continue
        with pytest.raises(IllegalMove) as refusal:
            operation.apply(op, event, LATER)
        assert (refusal.value.stage, refusal.value.signal) == (stage.value, signal)
        with pytest.raises(IllegalMove):
            stages.move(stage, event)
    assert op.model_dump_json() == spelled


@pytest.mark.parametrize("stage", Stage)
def test_annotations_leave_the_operation_as_it_is_at_every_stage(stage: Stage) -> None:
    op = at_stage(stage)
    for event in ANNOTATIONS:
        assert stages.move(stage, event) is stage
        assert operation.apply(op, event, LATER) is op


GUARDED: dict[str, tuple[tuple[e.Event, ...], e.Event]] = {
    "an approval withdrawn that was not given": (
        APPROVED,
        BY_SIGNAL["approval.withdrawn"].model_copy(update={"approval": "ap_9"}),
    ),
    "a second warrant while one is issued": ((*RUNNING, issued()), issued("wr_3", 2)),
    "a second warrant while a step is under way": ((*RUNNING, *BEGUN), issued("wr_3", 2)),
    "a warrant issued twice": ((*RUNNING, *BEGUN, failed()), issued(attempt=2)),
    "an attempt left out": ((*RUNNING, *BEGUN, failed()), issued("wr_3", attempt=3)),
    "an attempt counted again": ((*RUNNING, *BEGUN, failed()), issued("wr_3")),
    "an undo while running": ((*RUNNING, *BEGUN, done()), issued("wr_2", direction=UNDO)),
    "a step forward while rolling back": (ROLLING_BACK, issued("wr_3", 2)),
    "an intent without a warrant": (RUNNING, intended()),
    "an intent with another warrant": ((*RUNNING, issued()), intended("wr_9")),
    "an intent of another step": ((*RUNNING, issued()), intended(step=2)),
    "an intent of another attempt": ((*RUNNING, issued()), intended(attempt=2)),
    "an intent of the other direction": ((*RUNNING, issued()), intended(direction=UNDO)),
    "a warrant used twice": ((*RUNNING, *BEGUN), intended()),
    "a warrant used again after a failure": ((*RUNNING, *BEGUN, failed()), intended()),
    "a success that never began": ((*RUNNING, issued()), done()),
    "a failure that never began": ((*RUNNING, issued()), failed()),
    "a doubt about what never began": ((*RUNNING, issued()), doubtful()),
    "a second outcome": ((*RUNNING, *BEGUN, failed()), done()),
    "a failure after the success": ((*RUNNING, *BEGUN, done()), failed()),
    "a doubt about what is done": ((*RUNNING, *BEGUN, done()), doubtful()),
    "an outcome of another step": ((*RUNNING, *BEGUN), done(step=2)),
    "an outcome of another attempt": ((*RUNNING, *BEGUN), done(attempt=2)),
    "an outcome of the other direction": ((*RUNNING, *BEGUN), done(direction=UNDO)),
    "reconciling what never began": ((*RUNNING, issued()), reconciled()),
    "reconciling what failed": ((*RUNNING, *BEGUN, failed()), reconciled()),
    "reconciling another attempt": ((*RUNNING, *BEGUN, doubtful()), reconciled(attempt=2)),
    "reconciling the undo of a run": ((*RUNNING, *BEGUN, doubtful()), reconciled(UNDO)),
    "reconciling the run of a rollback": ((*ROLLING_BACK, *UNDOING, doubtful("wr_2", direction=UNDO)), reconciled()),
    "skipping while a step is under way": ((*RUNNING, *BEGUN), skipped()),
    "skipping what is done": ((*RUNNING, *BEGUN, done()), skipped(1)),
    "skipping what changed something": (
        (*RUNNING, *BEGUN, failed().model_copy(update={"changed": True})),
        skipped(1),
    ),
    "skipping twice": ((*RUNNING, skipped()), skipped()),
    "a halted run resumed as a rollback": ((*RUNNING, HALT), BY_SIGNAL["operation.resumed:undo"]),
    "a halted rollback resumed as a run": ((*ROLLING_BACK, HALT), BY_SIGNAL["operation.resumed:do"]),
    "a run that ends with a warrant issued": ((*RUNNING, issued()), BY_SIGNAL["execution.finished"]),
    "a run that ends with a step under way": ((*RUNNING, *BEGUN), BY_SIGNAL["execution.finished"]),
    "a rollback that ends well with a step under way": ((*ROLLING_BACK, *UNDOING), BY_SIGNAL["rollback.done:restored"]),
    "a rollback that fails with a step under way": ((*ROLLING_BACK, *UNDOING), BY_SIGNAL["rollback.done:incomplete"]),
    "an undo checked before it was ordered": (EXECUTED, checked(UNDO)),
    "a run checked while rolling back": (ROLLING_BACK, checked()),
    "a rollback that no ruling ordered": (EVALUATED, BY_SIGNAL["rollback.ordered"]),
    "a second ruling": ((*EVALUATED, ruled(Ruling.ROLLBACK)), ruled(Ruling.COMPLETE)),
    "a ruling over a crown officer's": (
        (*EVALUATED, ruled(Ruling.ESCALATE), resolved("rollback")),
        ruled(Ruling.FAIL),
    ),
}


@pytest.mark.parametrize(("past", "event"), GUARDED.values(), ids=GUARDED)
def test_what_does_not_fit_the_past_raises_and_changes_nothing(past: tuple[e.Event, ...], event: e.Event) -> None:
    op = folded(*past)
    spelled = op.model_dump_json()
    assert event.signal in TRANSITIONS[op.stage], "the table alone would allow it"
    with pytest.raises(IllegalMove, match="after what has happened so far") as refusal:
        operation.apply(op, event, LATEST)
    assert refusal.value.stage == op.stage.value
    assert op.model_dump_json() == spelled
    assert operation.apply_unguarded(op, event, LATEST).stage is TRANSITIONS[op.stage][event.signal]


def test_an_operation_is_never_requested_again() -> None:
    assert not any("operation.requested" in row for row in TRANSITIONS.values())


def test_nothing_is_both_waiting_and_over() -> None:
    for row in TRANSITIONS.values():
        assert all(after in TRANSITIONS for after in row.values())


def test_a_request_begins_an_operation() -> None:
    op = asked()
    assert (op.stage, op.version, op.requested, op.updated) == (Stage.REQUESTED, 1, AT, AT)
    assert (op.request, op.requester, op.constitution, op.trace) == (ASKED.request, ADA, LAW, "a" * 32)
    assert op.plan is None
    with pytest.raises(IllegalMove, match="needs a plan"):
        op.bound_plan()


def plan_body() -> Plan:
    step = Step(
        number=1,
        playbook="logs.rotate",
        system="shop-logs",
        arguments={},
        why="They grow.",
        expected_effect="Smaller.",
        tier=2,
        effect=Effect.IDEMPOTENT,
        reversible=True,
        playbook_digest=PLAN,
        arguments_digest=PLAN,
        system_digest=PLAN,
        preview=Preview(commands=("rotate",), blast_radius="One folder."),
    )
    return Plan(operation=IDENT, version=1, summary="Rotate.", steps=(step,), tier=2, constitution=NEW_LAW)


def test_a_proposed_plan_is_in_hand_under_its_own_constitution() -> None:
    body = plan_body()
    op = folded(proposed(body=body))
    assert (op.stage, op.plans, op.constitution) == (Stage.PLANNED, 1, NEW_LAW)
    assert op.plan is body
    assert op.bound_plan().step(1).number == 1
    assert folded(proposed()).constitution == LAW


def test_a_new_plan_starts_without_the_old_ones_approvals_and_assent() -> None:
    op = folded(
        proposed(), given(), ruled(Ruling.ASSENT), ruled(Ruling.ESCALATE), BY_SIGNAL["plan.superseded"], proposed()
    )
    assert (op.plans, op.approvals, op.assented, op.extra_quorum) == (2, (), False, 0)


def test_a_superseded_plan_is_out_of_hand() -> None:
    op = folded(proposed(), given(), ruled(Ruling.ASSENT), BY_SIGNAL["plan.superseded"])
    assert (op.stage, op.proposal, op.approvals, op.assented) == (Stage.REQUESTED, None, (), False)


def test_a_refused_plan_leaves_code_and_reasons() -> None:
    op = folded(BY_SIGNAL["plan.refused"])
    assert (op.stage, op.code, op.reasons) == (Stage.REFUSED, "nothing-fits", ("No playbook.",))


def test_approvals_are_kept_in_order_with_their_time_and_withdrawn_by_name() -> None:
    op = folded(proposed(), given("ap_1"), given("ap_2", approver="eve", person="eve"))
    assert [(a.id, a.person, a.given, a.plan) for a in op.approvals] == [
        ("ap_1", "dana", LATER, PLAN),
        ("ap_2", "eve", LATER, PLAN),
    ]
    after = operation.apply(op, BY_SIGNAL["approval.withdrawn"], LATER)
    assert [a.id for a in after.approvals] == ["ap_2"]


def test_withdrawing_an_approval_takes_an_approved_operation_back() -> None:
    op = folded(proposed(), given(), BY_SIGNAL["operation.approved"], BY_SIGNAL["approval.withdrawn"])
    assert (op.stage, op.approvals) == (Stage.PLANNED, ())


def test_a_refused_approval_denies() -> None:
    op = folded(proposed(), BY_SIGNAL["approval.refused"])
    assert (op.stage, op.code, op.reasons) == (Stage.DENIED, "denied", ("Not now.",))


def test_the_crown_assents_escalates_and_vetoes_over_a_plan() -> None:
    assert folded(proposed(), ruled(Ruling.ASSENT)).assented
    assert folded(proposed(), ruled(Ruling.ESCALATE), ruled(Ruling.ESCALATE)).extra_quorum == 2
    op = folded(proposed(), ruled(Ruling.VETO))
    assert (op.stage, op.ruling, op.code, op.reasons) == (Stage.VETOED, Ruling.VETO, "vetoed", ("So.",))
    assert folded(proposed(), ruled(Ruling.ESCALATE)).ruling is None


def test_a_start_fences_with_its_epoch() -> None:
    assert running().epoch == 3


def test_an_attempt_is_issued_intended_and_done() -> None:
    op = running(issued())
    assert [(a.step, a.attempt, a.warrant, a.status) for a in op.attempts] == [(1, 1, "wr_1", "issued")]
    assert not op.applied()
    op = operation.apply(op, intended(), LATER)
    assert (op.attempts[0].status, op.attempts[0].effect, op.attempts[0].snapshot) == (
        "intended",
        Effect.ONCE_PROBE,
        PLAN,
    )
    assert op.applied() == (1,)
    assert not op.settled(1)
    op = operation.apply(op, done(), LATER)
    last = op.latest(1, Direction.DO)
    assert last is not None
    assert (last.status, last.changed, last.summary, last.evidence) == ("done", True, "Rotated.", (PLAN,))
    assert op.settled(1)


def test_a_failure_keeps_its_code_and_whether_something_changed() -> None:
    op = running(*BEGUN, failed())
    last = op.attempts[0]
    assert (last.status, last.code, last.changed, last.summary) == ("failed", "lock-timeout", False, "Locked. Twice.")
    assert not op.settled(1)
    assert op.applied() == ()


def test_an_outcome_touches_only_the_attempt_of_its_warrant() -> None:
    op = running(*BEGUN, done(), issued("wr_2", 2), intended("wr_2", 2), failed("wr_2", 2))
    assert [a.status for a in op.attempts] == ["done", "failed"]
    assert op.latest(3, Direction.DO) is None
    assert op.latest(1, Direction.UNDO) is None


def test_a_doubt_parks_the_operation_until_somebody_settles_it() -> None:
    op = running(*BEGUN, doubtful())
    assert (op.stage, op.attempts[0].status, op.applied()) == (Stage.IN_DOUBT, "in_doubt", (1,))
    happened = operation.apply(op, reconciled(), LATER)
    assert (happened.stage, happened.attempts[0].status, happened.applied()) == (Stage.RUNNING, "done", (1,))
    not_happened = operation.apply(op, reconciled(happened=False), LATER)
    assert (not_happened.attempts[0].status, not_happened.applied()) == ("failed", ())


def test_a_skipped_step_needs_no_more_work() -> None:
    op = running(BY_SIGNAL["step.skipped"])
    assert op.skipped == (2,)
    assert op.settled(2)


def test_steps_that_may_have_changed_something_are_listed_once_in_the_order_they_ran() -> None:
    first = (issued("wr_2", 2), intended("wr_2", 2), done("wr_2", 2))
    again = (issued("wr_3", 2, attempt=2), intended("wr_3", 2, attempt=2))
    op = running(*first, *BEGUN, done(), *again)
    assert op.applied() == (2, 1)


def test_a_step_that_was_done_stays_settled_whatever_comes_after() -> None:
    op = running(*BEGUN, done(), issued("wr_3", attempt=2))
    assert op.settled(1)
    op = operation.apply(op, intended("wr_3", attempt=2), LATER)
    op = operation.apply(op, failed("wr_3", attempt=2), LATER)
    assert op.settled(1)
    assert not op.undone(1)
    back = folded(*ROLLING_BACK, *UNDOING, done("wr_2", direction=UNDO))
    assert back.undone(1)
    assert not back.undone(2)


def test_what_failed_or_did_not_happen_may_be_tried_again() -> None:
    for ending in ((failed(),), (doubtful(), reconciled(happened=False)), (reconciled(happened=False),)):
        op = running(*BEGUN, *ending, issued("wr_3", attempt=2), intended("wr_3", attempt=2), done("wr_3", attempt=2))
        assert [a.status for a in op.attempts] == ["failed", "done"]
        assert op.settled(1)


def test_a_halt_leaves_a_step_under_way_to_be_settled_after_the_release() -> None:
    op = running(*BEGUN, HALT, BY_SIGNAL["operation.resumed:do"], failed())
    assert (op.stage, op.attempts[0].status) == (Stage.RUNNING, "failed")


def test_a_finished_run_keeps_its_report_and_is_then_checked_and_judged() -> None:
    op = running(*BEGUN, done(), BY_SIGNAL["execution.finished"], checked(), checked(passed=False), VERDICT)
    assert op.execution == BY_SIGNAL["execution.finished"]
    assert [(c.step, c.name, c.passed, c.expected) for c in op.checks] == [
        (1, "rotated", True, "12"),
        (1, "rotated", False, "12"),
    ]
    assert op.verdict is not None
    assert (op.verdict.passed, op.verdict.checks_passed, op.verdict.judged_passed) == (False, True, False)
    assert (op.verdict.rollback, op.verdict.reasons) == (True, ("Doubtful.",))


@pytest.mark.parametrize(
    ("ruling", "stage"),
    [
        (Ruling.COMPLETE, Stage.COMPLETED),
        (Ruling.ROLLBACK, Stage.EVALUATED),
        (Ruling.ESCALATE, Stage.ESCALATED),
        (Ruling.FAIL, Stage.FAILED),
    ],
)
def test_the_ruling_over_a_finished_run_is_kept(ruling: Ruling, stage: Stage) -> None:
    op = folded(*EVALUATED, ruled(ruling))
    assert (op.stage, op.ruling, op.reasons, op.extra_quorum) == (stage, ruling, ("So.",), 0)


@pytest.mark.parametrize(
    ("ruling", "stage"), [("complete", Stage.COMPLETED), ("rollback", Stage.EVALUATED), ("fail", Stage.FAILED)]
)
def test_a_crown_officer_settles_an_escalation(ruling: str, stage: Stage) -> None:
    op = folded(*EVALUATED, ruled(Ruling.ESCALATE), resolved(ruling))
    assert (op.stage, op.ruling, op.reasons) == (stage, Ruling(ruling), ("Decided.",))


@pytest.mark.parametrize(("restored", "stage"), [(True, Stage.ROLLED_BACK), (False, Stage.FAILED)])
def test_a_rollback_goes_step_by_step_and_says_whether_all_is_back(restored: bool, stage: Stage) -> None:
    op = folded(*ROLLING_BACK)
    assert (op.stage, op.rollback, op.reasons) == (Stage.ROLLING_BACK, (1,), ("It failed.",))
    op = operation.apply(op, issued("wr_9", 2, UNDO), LATER)
    op = operation.apply(op, intended("wr_9", 2, UNDO), LATER)
    assert op.applied() == (1,), "undoing is not applying"
    op = operation.apply(op, done("wr_9", 2, UNDO), LATER)
    op = operation.apply(op, e.RollbackDone(restored=restored, reasons=("Looked.",)), LATER)
    assert (op.stage, op.reasons) == (stage, ("Looked.",))


def test_cancelled_and_expired_operations_say_why() -> None:
    cancelled = folded(BY_SIGNAL["operation.cancelled"])
    assert (cancelled.stage, cancelled.code, cancelled.reasons) == (
        Stage.CANCELLED,
        "cancelled",
        ("Changed my mind.",),
    )
    expired = folded(proposed(), BY_SIGNAL["operation.expired"])
    assert (expired.stage, expired.code, expired.reasons) == (Stage.EXPIRED, "plan-expired", ("Nobody decided.",))


@pytest.mark.parametrize(
    "signal", ["operation.approved", "operation.halted", "operation.resumed:do", "operation.resumed:undo"]
)
def test_events_that_only_move_leave_everything_else(signal: str) -> None:
    stage = next(stage for stage, row in TRANSITIONS.items() if signal in row)
    op, event = lawful(stage, signal)
    assert changed(op, operation.apply(op, event, LATER)) == set()
