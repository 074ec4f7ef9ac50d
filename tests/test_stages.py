"""The transition table, row by row, and what each event leaves behind in the operation."""

from collections import deque
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


def issued(warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO) -> e.WarrantIssued:
    return e.WarrantIssued(
        warrant=warrant,
        step=step,
        attempt=1,
        direction=direction,
        plan=PLAN,
        arguments=PLAN,
        system="shop-logs",
        expires=LATER,
    )


def intended(warrant: str = "wr_1", step: int = 1, direction: Direction = Direction.DO) -> e.StepIntent:
    return e.StepIntent(
        warrant=warrant,
        step=step,
        attempt=1,
        direction=direction,
        playbook="logs.rotate",
        system="shop-logs",
        arguments=PLAN,
        effect=Effect.ONCE_PROBE,
        idempotency_key="key",
        snapshot=PLAN,
    )


ONE: dict[str, Any] = {"warrant": "wr_1", "step": 1, "attempt": 1, "direction": Direction.DO}
DONE = e.StepDone(**ONE, changed=True, summary="Rotated.", evidence=(PLAN,))
FAILED = e.StepFailed(**ONE, code="lock-timeout", changed=False, reasons=("Locked.", "Twice."), evidence=(PLAN,))
DOUBT = e.StepInDoubt(**ONE, reasons=("The worker died.",))


def reconciled(direction: Direction = Direction.DO, *, happened: bool = True) -> e.StepReconciled:
    return e.StepReconciled(
        step=1, attempt=1, direction=direction, happened=happened, by="olga", reasons=("I looked.",)
    )


def checked(*, passed: bool = True) -> e.CheckEvaluated:
    return e.CheckEvaluated(step=1, direction=Direction.DO, name="rotated", passed=passed, expected="12", observed="12")


def ruled(ruling: Ruling) -> e.RulingGiven:
    return e.RulingGiven(ruling=ruling, plan=PLAN, reasons=("So.",))


def resolved(ruling: str) -> e.EscalationResolved:
    return e.EscalationResolved.model_validate({"ruling": ruling, "by": "cleo", "reason": "Decided."})


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
    DONE,
    FAILED,
    DOUBT,
    e.StepSkipped(step=2, reasons=("Optional.",)),
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
    return folded(proposed(), given(), BY_SIGNAL["operation.approved"], BY_SIGNAL["operation.started"], *events)


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
    reached, waiting = {Stage.REQUESTED}, deque([asked()])
    while waiting:
        op = waiting.popleft()
        for signal in TRANSITIONS[op.stage]:
            after = operation.apply(op, BY_SIGNAL[signal], LATER)
            if after.stage not in reached:
                reached.add(after.stage)
                waiting.append(after)
    assert reached == set(Stage)
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
    op = at_stage(stage)
    moved = operation.apply(op, BY_SIGNAL[signal], LATER)
    assert (moved.stage, moved.version, moved.updated) == (after, op.version + 1, LATER)
    assert (op.stage, op.version, op.updated) == (stage, 1, AT)


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
    op = operation.apply(op, DONE, LATER)
    last = op.latest(1, Direction.DO)
    assert last is not None
    assert (last.status, last.changed, last.summary, last.evidence) == ("done", True, "Rotated.", (PLAN,))
    assert op.settled(1)


def test_a_failure_keeps_its_code_and_whether_something_changed() -> None:
    op = running(issued(), intended(), FAILED)
    last = op.attempts[0]
    assert (last.status, last.code, last.changed, last.summary) == ("failed", "lock-timeout", False, "Locked. Twice.")
    assert not op.settled(1)
    assert op.applied() == ()


def test_an_outcome_touches_only_the_attempt_of_its_warrant() -> None:
    op = running(issued("wr_1"), intended("wr_1"), issued("wr_2", 2), intended("wr_2", 2), DONE)
    assert [a.status for a in op.attempts] == ["done", "intended"]
    assert op.latest(3, Direction.DO) is None
    assert op.latest(1, Direction.UNDO) is None


def test_a_doubt_parks_the_operation_until_somebody_settles_it() -> None:
    op = running(issued(), intended(), DOUBT)
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
    op = running(
        issued("wr_2", 2), intended("wr_2", 2), issued("wr_1"), intended(), DONE, issued("wr_3", 2), intended("wr_3", 2)
    )
    assert op.applied() == (2, 1)


def test_a_finished_run_keeps_its_report_and_is_then_checked_and_judged() -> None:
    op = running(BY_SIGNAL["execution.finished"], checked(), checked(passed=False), VERDICT)
    assert op.execution == BY_SIGNAL["execution.finished"]
    assert [(c.step, c.name, c.passed, c.expected) for c in op.checks] == [
        (1, "rotated", True, "12"),
        (1, "rotated", False, "12"),
    ]
    assert op.verdict is not None
    assert (op.verdict.passed, op.verdict.checks_passed, op.verdict.judged_passed) == (False, True, False)
    assert (op.verdict.rollback, op.verdict.reasons) == (True, ("Doubtful.",))


EVALUATED: tuple[e.Event, ...] = (BY_SIGNAL["execution.finished"], VERDICT)


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
    op = running(*EVALUATED, ruled(ruling))
    assert (op.stage, op.ruling, op.reasons, op.extra_quorum) == (stage, ruling, ("So.",), 0)


@pytest.mark.parametrize(
    ("ruling", "stage"), [("complete", Stage.COMPLETED), ("rollback", Stage.EVALUATED), ("fail", Stage.FAILED)]
)
def test_a_crown_officer_settles_an_escalation(ruling: str, stage: Stage) -> None:
    op = running(*EVALUATED, ruled(Ruling.ESCALATE), resolved(ruling))
    assert (op.stage, op.ruling, op.reasons) == (stage, Ruling(ruling), ("Decided.",))


@pytest.mark.parametrize(("restored", "stage"), [(True, Stage.ROLLED_BACK), (False, Stage.FAILED)])
def test_a_rollback_goes_step_by_step_and_says_whether_all_is_back(restored: bool, stage: Stage) -> None:
    op = running(*EVALUATED, ruled(Ruling.ROLLBACK), BY_SIGNAL["rollback.ordered"])
    assert (op.stage, op.rollback, op.reasons) == (Stage.ROLLING_BACK, (2, 1), ("It failed.",))
    op = operation.apply(op, issued("wr_9", 2, Direction.UNDO), LATER)
    op = operation.apply(op, intended("wr_9", 2, Direction.UNDO), LATER)
    assert op.applied() == (), "undoing is not applying"
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
    op = at_stage(stage)
    assert changed(op, operation.apply(op, BY_SIGNAL[signal], LATER)) == set()
