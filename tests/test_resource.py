"""What the constitution is told of an operation: the facts come from the ledger's fold, counted as the articles say."""

from datetime import timedelta
from typing import Any, Final

from operations import events
from operations.canonical import now
from operations.evidence import Effect, Preview
from operations.model import Direction, Plan, RunMode, Step
from operations.operation import Approval, CheckRecord, Operation, Verdict, begin
from operations.policy import Resource
from operations.stages import Stage
from operations.systems import Environment
from tests.policy_cases import CONSTITUTION, EXECUTIVE, FAVOURABLE, NOW, RITA, A
from tests.samples import request

AT: Final = now()
ZERO: Final = "0" * 64
STEP: Final = Step(
    number=1,
    playbook="note.write",
    system="notes",
    arguments={},
    why="w",
    expected_effect="e",
    tier=2,
    effect=Effect.IDEMPOTENT,
    reversible=True,
    playbook_digest=ZERO,
    arguments_digest=ZERO,
    system_digest=ZERO,
    preview=Preview(commands=("write",), blast_radius="One file."),
)
PLAN: Final = Plan(operation="op_" + "0" * 26, version=1, summary="s", steps=(STEP, STEP), tier=2, constitution=ZERO)


def asked(stage: Stage = Stage.PLANNED, **changes: Any) -> Operation:
    op = begin(PLAN.operation, events.OperationRequested(request=request(), requester=RITA), AT, ZERO, None)
    return op.model_copy(update={"stage": stage, **changes})


def approval(who: str, plan: str, minutes: int) -> Approval:
    return Approval(
        id=f"ap_{who}",
        plan=plan,
        approver=who,
        person=who,
        reason="fine",
        given=AT,
        expires=AT + timedelta(minutes=minutes),
        channel="test",
    )


def proposal(plan: str) -> events.PlanProposed:
    return events.PlanProposed(
        plan=plan,
        version=1,
        tier=2,
        mode=RunMode.AUTONOMOUS,
        quorum=1,
        assent=False,
        reasons=(),
        articles=(),
        expires=AT + timedelta(minutes=30),
        summary="s",
        body=PLAN,
    )


def test_an_operation_counts_the_approvals_of_this_plan_that_are_valid_and_not_the_requesters() -> None:
    one, two = "1" * 64, "2" * 64
    given_ = (approval("zoe", one, 5), approval("yan", one, -1), approval("xia", two, 5), approval("rita", one, 5))
    op = asked(proposal=proposal(one), approvals=given_, extra_quorum=1)
    waiting = Resource.of(op, AT, [Environment.STAGING, Environment.PRODUCTION, Environment.DEVELOPMENT])
    assert waiting.approvers == frozenset({"zoe"})
    assert (waiting.tier, waiting.steps, waiting.quorum, waiting.expired) == (2, 2, 2, False)
    assert waiting.environment is Environment.PRODUCTION
    running = Resource.of(op.model_copy(update={"stage": Stage.RUNNING}), AT + timedelta(hours=2))
    assert running.approvers == frozenset({"zoe", "yan"})
    assert (running.age_minutes, running.expired) == (120, False)
    assert Resource.of(op, AT + timedelta(minutes=30)).expired is True


def test_an_operation_without_a_plan_is_decided_on_by_nobody_starting_it() -> None:
    op = asked(Stage.REQUESTED)
    resource = Resource.of(op, AT)
    assert resource.tier is None
    assert CONSTITUTION.decide(EXECUTIVE, A.START, resource, NOW).code == "undecidable"
    assert CONSTITUTION.decide(RITA, A.CANCEL, resource, NOW).allowed


def test_a_step_keeps_what_its_operation_knows() -> None:
    step = FAVOURABLE.step(2, Direction.UNDO, playbook_emergency=True)
    assert (step.kind, step.id, step.undo, step.playbook_emergency) == ("step", "op_1/2", True, True)
    assert step.approvers == FAVOURABLE.approvers


def check(*, passed: bool, direction: Direction = Direction.DO) -> CheckRecord:
    return CheckRecord(step=1, direction=direction, name="holds", passed=passed, expected="x", observed="y")


def test_checks_have_passed_when_all_did_and_there_was_one() -> None:
    def passed(*checks: CheckRecord) -> bool | None:
        return Resource.of(asked(Stage.EXECUTED, checks=checks), AT).checks_passed

    assert passed(check(passed=True))
    assert not passed(check(passed=True), check(passed=False))
    assert not passed()
    assert not passed(check(passed=True, direction=Direction.UNDO))


def test_the_recorded_verdict_is_what_counts_once_it_is_there() -> None:
    verdict = Verdict(passed=False, checks_passed=True, judged_passed=False, rollback=False, reasons=("no",))
    resource = Resource.of(asked(Stage.ESCALATED, verdict=verdict, checks=(check(passed=False),)), AT)
    assert (resource.checks_passed, resource.verdict_passed, resource.escalated) == (True, False, True)


def test_an_id_that_is_empty_is_an_id_that_is_not_known() -> None:
    assert Resource(kind="constitution", id="constitution", requester="", requester_person="").requester_person is None
