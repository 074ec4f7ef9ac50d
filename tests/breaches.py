"""Every way to break a rule of the ledger, one function each, and the rule that it breaks."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from operations import events as e
from operations.canonical import sha256
from operations.evidence import Effect
from operations.model import (
    Authority,
    Branch,
    OperationType,
    Principal,
    PrincipalKind,
    Role,
    Ruling,
    RunMode,
    Step,
    agent_principal,
)
from operations.stages import Stage
from storage.entry import MAX_ENTRY, Entry
from storage.verifier.checkpoint import VerifierKey
from storage.verifier.rules import Rule
from tests.logbook import (
    ADA,
    AGENTS,
    DO,
    DOCUMENT,
    KEY,
    LAW,
    NEW_LAW,
    ORIGIN,
    REQUEST,
    UNDO,
    Logbook,
    ident,
    person,
    step_of,
)

Breach = Callable[[Logbook], object]


class Case(NamedTuple):
    """One breach: it is reported of the entry so many before the last, and nothing but its rule is."""

    name: str
    rule: Rule
    commit: Breach
    text: str | None
    back: int

    def book(self) -> Logbook:
        book = Logbook(text=self.text)
        self.commit(book)
        return book


CASES: Final[list[Case]] = []


def breach(rule: Rule, *, text: str | None = None, back: int = 0) -> Callable[[Breach], Breach]:
    def keep(case: Breach) -> Breach:
        CASES.append(Case(case.__name__, rule, case, text, back))
        return case

    return keep


@breach(Rule.ENTRY)
def an_entry_is_not_canonical(book: Logbook) -> None:
    book.entries.append(book.entries[0].replace(b'"index":0', b'"index": 0'))


@breach(Rule.ENTRY)
def an_entry_is_no_entry(book: Logbook) -> None:
    book.entries.append(b"{}")


@breach(Rule.INDEX)
def an_index_is_left_out(book: Logbook) -> None:
    book.request(index=2)


@breach(Rule.ORIGIN)
def an_entry_of_another_log(book: Logbook) -> None:
    book.request(origin="other.example/log")


@breach(Rule.KEY)
def an_entry_under_an_unknown_key(book: Logbook) -> None:
    book.request(key="00000000")


@breach(Rule.TIME)
def time_runs_backwards(book: Logbook) -> None:
    book.request(time=book.at - timedelta(seconds=6))


@breach(Rule.GENESIS)
def the_genesis_comes_twice(book: Logbook) -> None:
    book.add(e.Genesis(policies=(), keys=(), code_version="1"), Branch.PEOPLE, "triad")


@breach(Rule.CONSTITUTION)
def an_entry_under_another_constitution(book: Logbook) -> None:
    book.until(Stage.REQUESTED)
    book.add(e.AccessDenied(action="halt", code="no", reasons=()), Branch.PEOPLE, "mallory", constitution=NEW_LAW)


@breach(Rule.CONSTITUTION)
def the_constitution_does_not_change_after_the_amendment(book: Logbook) -> None:
    book.amend(book.propose())
    book.request(constitution=LAW)


@breach(Rule.AMENDMENT)
def an_amendment_nobody_proposed(book: Logbook) -> None:
    book.amend("am_unheard")


@breach(Rule.AMENDMENT)
def an_amendment_comes_into_force_twice(book: Logbook) -> None:
    amendment = book.propose()
    book.amend(amendment)
    book.amend(amendment)


@breach(Rule.AMENDMENT)
def another_text_than_the_proposed_one_comes_into_force(book: Logbook) -> None:
    book.amend(book.propose(), enacted=sha256(b"something else"))


@breach(Rule.AMENDMENT)
def proposer_and_ratifier_are_one_person(book: Logbook) -> None:
    book.amend(book.propose(), ratifier="cleo.alias", ratifier_person="cleo")


@breach(Rule.AMENDMENT)
def proposer_and_ratifier_are_one_principal(book: Logbook) -> None:
    book.amend(book.propose(), ratifier="cleo", ratifier_person="somebody")


@breach(Rule.AMENDMENT)
def the_proposer_is_not_who_proposed(book: Logbook) -> None:
    book.amend(book.propose(), proposer="rob", proposer_person="rob")


@breach(Rule.AMENDMENT)
def the_amendment_replaces_another_constitution(book: Logbook) -> None:
    book.amend(book.propose(), previous=sha256(b"an older one"))


@breach(Rule.ACTOR)
def a_request_in_anothers_name(book: Logbook) -> None:
    book.request(principal="mallory")


@breach(Rule.ACTOR)
def an_approval_in_anothers_name(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), entry={"principal": "mallory"})


@breach(Rule.ACTOR)
def a_halt_in_anothers_name(book: Logbook) -> None:
    book.add(e.CrownHalted(by="cleo", reason="So."), Branch.PEOPLE, "mallory")


@breach(Rule.BRANCH)
def a_plan_by_the_executive(book: Logbook) -> None:
    book.plan(book.until(Stage.REQUESTED), branch=Branch.EXECUTIVE)


@breach(Rule.BRANCH)
def an_approval_by_an_agent(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    book.approve(op, AGENTS[Branch.CROWN], entry={"branch": Branch.CROWN})


@breach(Rule.OPERATION)
def something_happens_to_an_operation_nobody_requested(book: Logbook) -> None:
    op = book.until(Stage.REQUESTED)
    book.ops[ident(77)] = book.ops[op]
    book.plan(ident(77))


@breach(Rule.OPERATION)
def an_operation_is_requested_twice(book: Logbook) -> None:
    book.request(book.until(Stage.REQUESTED))


@breach(Rule.OPERATION)
def an_operation_that_ended_is_requested_again(book: Logbook) -> None:
    book.request(book.until(Stage.COMPLETED))


@breach(Rule.MOVE)
def a_move_that_the_table_does_not_have(book: Logbook) -> None:
    book.finish(book.until(Stage.PLANNED))


@breach(Rule.MOVE)
def a_move_of_an_operation_that_ended(book: Logbook) -> None:
    book.check(book.until(Stage.COMPLETED), 1)


@breach(Rule.MOVE)
def a_step_that_is_done_is_said_to_be_skipped(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1)
    book.skip(op, 1)


@breach(Rule.MOVE)
def a_rollback_is_checked_before_it_is_ordered(book: Logbook) -> None:
    book.check(book.until(Stage.EXECUTED), 1, UNDO)


@breach(Rule.STAGE)
def the_stage_after_is_another(book: Logbook) -> None:
    book.plan(book.until(Stage.REQUESTED), after=Stage.APPROVED)


@breach(Rule.STAGE)
def the_stage_before_is_another(book: Logbook) -> None:
    book.plan(book.until(Stage.REQUESTED), before=Stage.PLANNED)


@breach(Rule.SEQUENCE)
def a_version_is_left_out(book: Logbook) -> None:
    book.plan(book.until(Stage.REQUESTED), seq=3)


@breach(Rule.PLAN)
def an_approval_of_another_plan(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), plan=sha256(b"another plan"))


@breach(Rule.PLAN)
def a_warrant_for_another_plan(book: Logbook) -> None:
    book.warrant(book.until(Stage.RUNNING), 1, plan=sha256(b"another plan"))


@breach(Rule.PLAN)
def a_ruling_on_another_plan(book: Logbook) -> None:
    book.rule(book.until(Stage.EVALUATED), Ruling.COMPLETE, plan=sha256(b"another plan"))


@breach(Rule.PLAN)
def a_start_of_another_plan(book: Logbook) -> None:
    op = book.until(Stage.APPROVED)
    book.add(e.OperationStarted(plan=sha256(b"another plan"), epoch=1), Branch.EXECUTIVE, "triad", op)


@breach(Rule.APPROVAL)
def the_requester_approves(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), ADA.id)


@breach(Rule.APPROVAL)
def an_alias_of_the_requester_approves(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), "ada.alias", person=ADA.person)


@breach(Rule.APPROVAL)
def one_person_approves_twice(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    book.approve(op, "dana")
    book.approve(op, "dana.alias", person="dana")


@breach(Rule.APPROVAL)
def one_approval_serves_two_operations(book: Logbook) -> None:
    approval = book.approve(book.until(Stage.PLANNED))
    book.approve(book.until(Stage.PLANNED), approval=approval)


@breach(Rule.APPROVAL)
def an_approval_is_withdrawn_that_was_never_given(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    event = e.ApprovalWithdrawn(approval="ap_unheard", plan=book.in_hand(op), approver="dana", reason="No.")
    book.add(event, Branch.PEOPLE, "dana", op)


@breach(Rule.QUORUM)
def approved_with_too_few(book: Logbook) -> None:
    op = book.until(Stage.PLANNED, quorum=2)
    book.approve(op)
    book.approved(op)


@breach(Rule.QUORUM)
def approved_without_the_one_more_that_the_crown_asked_for(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    book.approve(op)
    book.rule(op, Ruling.ESCALATE)
    book.approved(op)


@breach(Rule.QUORUM)
def approved_on_an_expired_approval(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    book.approve(op, minutes=1)
    book.at += timedelta(minutes=2)
    book.approved(op)


@breach(Rule.QUORUM)
def approved_on_a_withdrawn_approval(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    kept, withdrawn = book.approve(op, "eve"), book.approve(op, "dana")
    event = e.ApprovalWithdrawn(approval=withdrawn, plan=book.in_hand(op), approver="dana", reason="No.")
    book.add(event, Branch.PEOPLE, "dana", op)
    book.approved(op, kept, withdrawn)


@breach(Rule.QUORUM)
def approved_after_the_plan_expired(book: Logbook) -> None:
    op = book.until(Stage.PLANNED, minutes=1)
    book.approve(op)
    book.at += timedelta(minutes=2)
    book.approved(op)


@breach(Rule.QUORUM, back=1)
def a_step_begins_on_an_expired_approval(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    book.approve(op, minutes=1)
    book.approved(op)
    book.start(op)
    book.at += timedelta(minutes=2)
    book.step(op, 1)


@breach(Rule.ASSENT)
def approved_without_the_assent(book: Logbook) -> None:
    op = book.until(Stage.PLANNED, assent=True)
    book.approve(op)
    book.approved(op)


@breach(Rule.WARRANT_ONCE)
def a_warrant_is_issued_twice(book: Logbook) -> None:
    warrant = book.step(book.until(Stage.RUNNING), 1)
    book.warrant(book.until(Stage.RUNNING), 1, warrant=warrant)


@breach(Rule.DIRECTION)
def an_undo_while_running(book: Logbook) -> None:
    book.warrant(book.until(Stage.RUNNING), 1, UNDO)


@breach(Rule.DIRECTION)
def a_step_forward_while_rolling_back(book: Logbook) -> None:
    book.warrant(book.until(Stage.ROLLING_BACK), 3)


@breach(Rule.ATTEMPT)
def an_attempt_is_counted_wrong(book: Logbook) -> None:
    book.warrant(book.until(Stage.RUNNING), 1, attempt=2)


@breach(Rule.WARRANT_USED)
def a_step_begins_without_a_warrant(book: Logbook) -> None:
    book.intent(book.until(Stage.RUNNING), "wr_unheard")


@breach(Rule.WARRANT_USED)
def a_step_begins_with_the_warrant_of_another_operation(book: Logbook) -> None:
    warrant = book.warrant(book.until(Stage.RUNNING), 1)
    book.intent(book.until(Stage.RUNNING), warrant)


@breach(Rule.WARRANT_USED)
def a_warrant_is_used_again(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    warrant = book.step(op, 1, kind="failed")
    book.intent(op, warrant)


@breach(Rule.WARRANT_MATCH)
def other_arguments_than_warranted(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.intent(op, book.warrant(op, 1), arguments=sha256(b"others"))


@breach(Rule.WARRANT_MATCH)
def another_system_than_warranted(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.intent(op, book.warrant(op, 1), system="bank-logs")


@breach(Rule.WARRANT_MATCH)
def another_attempt_than_warranted(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.intent(op, book.warrant(op, 1), attempt=2)


@breach(Rule.WARRANT_MATCH)
def another_direction_than_warranted(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.intent(op, book.warrant(op, 1), direction=UNDO)


@breach(Rule.WARRANT_EXPIRED)
def a_step_begins_with_an_expired_warrant(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    book.at += timedelta(seconds=66)
    book.intent(op, warrant)


@breach(Rule.HALT, back=1)
def a_step_begins_during_the_halt(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.crown(halt=True)
    book.step(op, 1)


@breach(Rule.HALT, back=1)
def an_undo_begins_during_the_halt(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    book.crown(halt=True)
    book.step(op, 2, UNDO)


@breach(Rule.LAW, back=1)
def a_step_begins_under_a_constitution_that_the_plan_did_not_know(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.amend(book.propose())
    book.step(op, 1)


@breach(Rule.TURN, back=1)
def a_step_is_jumped_over(book: Logbook) -> None:
    book.step(book.until(Stage.RUNNING), 2)


@breach(Rule.TURN, back=1)
def a_step_that_is_done_runs_again(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1)
    book.step(op, 1)


@breach(Rule.TURN, back=2)
def a_step_begins_while_another_is_open(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    first, second = book.warrant(op, 1), book.warrant(op, 1)
    book.intent(op, first)
    book.intent(op, second)


@breach(Rule.TURN)
def a_second_warrant_is_issued_while_the_first_is_open(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.warrant(op, 1)
    book.warrant(op, 1)


@breach(Rule.TURN, back=1)
def the_oldest_step_is_undone_first(book: Logbook) -> None:
    book.step(book.until(Stage.ROLLING_BACK), 1, UNDO)


@breach(Rule.TURN, back=1)
def a_step_is_undone_that_nobody_ordered(book: Logbook) -> None:
    book.step(book.until(Stage.ROLLING_BACK), 3, UNDO)


@breach(Rule.ONCE, back=1)
def what_must_happen_at_most_once_is_begun_again(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1, kind="failed", effect=Effect.ONCE_BLIND)
    book.step(op, 1, effect=Effect.ONCE_BLIND)


@breach(Rule.OUTCOME)
def an_outcome_without_an_intent(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.outcome(op, book.warrant(op, 1))


@breach(Rule.OUTCOME)
def a_failure_without_a_warrant(book: Logbook) -> None:
    book.outcome(book.until(Stage.RUNNING), "wr_unheard", "failed")


@breach(Rule.OUTCOME)
def a_doubt_about_what_is_done(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.outcome(op, book.step(op, 1), "in_doubt")


@breach(Rule.OUTCOME)
def two_outcomes_of_one_intent(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.outcome(op, book.step(op, 1, kind="failed"))


@breach(Rule.OUTCOME)
def the_outcome_of_another_step(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    book.intent(op, warrant)
    book.outcome(op, warrant, step=2)


@breach(Rule.RECONCILED)
def what_failed_is_said_to_have_happened(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1, kind="failed")
    event = e.StepReconciled(step=1, attempt=1, direction=DO, happened=True, by="olga", reasons=("I looked.",))
    book.add(event, Branch.PEOPLE, "olga", op)


@breach(Rule.RECONCILED)
def what_never_began_is_said_to_have_happened(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    event = e.StepReconciled(step=1, attempt=1, direction=DO, happened=True, by="olga", reasons=("I looked.",))
    book.add(event, Branch.PEOPLE, "olga", op)


@breach(Rule.UNRESOLVED)
def a_run_ends_with_an_open_intent(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.intent(op, book.warrant(op, 1))
    book.finish(op)


@breach(Rule.UNRESOLVED)
def a_rollback_ends_with_an_open_intent(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    book.intent(op, book.warrant(op, 2, UNDO))
    book.undone(op, restored=False)


@breach(Rule.VERDICT)
def a_verdict_passes_what_the_evaluator_did_not(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    for number in (1, 2):
        book.check(op, number)
    book.verdict(op, judged_passed=False)


@breach(Rule.VERDICT)
def a_verdict_passes_what_the_checks_did_not(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    for number in (1, 2):
        book.check(op, number, passed=number == 2)
    book.verdict(op, passed=True)


@breach(Rule.CHECKS)
def a_verdict_says_that_failed_checks_passed(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1, passed=False)
    book.verdict(op, checks_passed=True, passed=True, rollback=False)


@breach(Rule.CHECKS)
def a_verdict_counts_checks_that_are_not_recorded(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1)
    book.verdict(op, checks=2)


@breach(Rule.CHECKS)
def a_verdict_passes_without_any_check(book: Logbook) -> None:
    book.verdict(book.until(Stage.EXECUTED), checks_passed=True, passed=True, rollback=False)


@breach(Rule.RULING)
def the_crown_completes_what_did_not_pass(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1, passed=False)
    book.verdict(op)
    book.rule(op, Ruling.COMPLETE)


@breach(Rule.RULING)
def the_crown_completes_what_the_evaluator_doubted(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1)
    book.verdict(op, judged_passed=False, passed=False)
    book.rule(op, Ruling.COMPLETE)


@breach(Rule.RULING)
def the_crown_completes_what_it_ordered_to_be_rolled_back(book: Logbook) -> None:
    op = book.until(Stage.EVALUATED)
    book.rule(op, Ruling.ROLLBACK)
    book.rule(op, Ruling.COMPLETE)


@breach(Rule.ROLLBACK)
def a_rollback_without_a_ruling(book: Logbook) -> None:
    book.order(book.until(Stage.EVALUATED), 2, 1)


@breach(Rule.ROLLBACK)
def a_rollback_of_a_step_that_never_ran(book: Logbook) -> None:
    op = book.until(Stage.EVALUATED)
    book.rule(op, Ruling.ROLLBACK)
    book.order(op, 3, 2, 1)


@breach(Rule.ROLLBACK)
def a_rollback_oldest_first(book: Logbook) -> None:
    op = book.until(Stage.EVALUATED)
    book.rule(op, Ruling.ROLLBACK)
    book.order(op, 1, 2)


@breach(Rule.RESTORED)
def restored_though_a_step_was_not_undone(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    book.step(op, 2, UNDO)
    book.check(op, 2, UNDO)
    book.undone(op)


@breach(Rule.RESTORED)
def restored_though_a_check_failed(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    for number in (2, 1):
        book.step(op, number, UNDO)
        book.check(op, number, UNDO, passed=number == 2)
    book.undone(op)


@breach(Rule.RESTORED)
def restored_without_a_check(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    for number in (2, 1):
        book.step(op, number, UNDO)
    book.undone(op)


@breach(Rule.RULING)
def an_escalation_completes_what_did_not_pass(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1, passed=False)
    book.verdict(op)
    book.rule(op, Ruling.ESCALATE)
    book.add(
        e.EscalationResolved(ruling="complete", by="cleo", person="cleo", reason="Fine."), Branch.PEOPLE, "cleo", op
    )


@breach(Rule.RATIFIED)
def who_declared_an_emergency_ratifies_it(book: Logbook) -> None:
    book.ratify(book.request(emergency=True), ADA.id)


@breach(Rule.RATIFIED)
def an_alias_of_who_declared_an_emergency_ratifies_it_after_its_end(book: Logbook) -> None:
    op = book.request(emergency=True)
    book.add(e.OperationCancelled(by="ada", reason="Over."), Branch.PEOPLE, "ada", op)
    book.ratify(op, "ada.alias", person=ADA.person)


@breach(Rule.RATIFIED)
def what_was_no_emergency_is_ratified(book: Logbook) -> None:
    book.ratify(book.until(Stage.REQUESTED))


@breach(Rule.RATIFIED)
def an_emergency_that_nobody_declared_is_ratified(book: Logbook) -> None:
    book.ratify(ident(77))


@breach(Rule.ACTOR)
def a_cancellation_in_anothers_name(book: Logbook) -> None:
    book.add(e.OperationCancelled(by="ada", reason="Over."), Branch.PEOPLE, "mallory", book.until(Stage.REQUESTED))


@breach(Rule.RESUMED)
def a_halted_run_goes_on_as_a_rollback(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.crown(halt=True)
    book.halt(op)
    book.add(e.OperationResumed(to=UNDO, reasons=("On.",)), Branch.CROWN, "triad", op)


@breach(Rule.RESUMED)
def a_halted_rollback_goes_on_as_a_run(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    book.crown(halt=True)
    book.halt(op)
    book.add(e.OperationResumed(to=DO, reasons=("On.",)), Branch.CROWN, "triad", op)


def in_doubt(book: Logbook, effect: Effect) -> str:
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    book.intent(op, warrant, effect=effect)
    book.outcome(op, warrant, "in_doubt")
    return op


def escalated(book: Logbook) -> str:
    op = book.until(Stage.EVALUATED)
    book.rule(op, Ruling.ESCALATE)
    return op


def started(book: Logbook, *steps: Step, **request: Any) -> str:
    """An operation that runs a plan whose body is given."""
    op = book.request(**request)
    book.plan_of(op, *steps)
    book.approve(op)
    book.approved(op)
    book.start(op)
    return op


@breach(Rule.RECONCILED)
def code_says_what_became_of_a_step_without_a_probe(book: Logbook) -> None:
    book.reconcile(in_doubt(book, Effect.ONCE_BLIND), "triad", Branch.EXECUTIVE, happened=False)


@breach(Rule.RECONCILED)
def an_agent_says_what_became_of_a_step(book: Logbook) -> None:
    book.reconcile(in_doubt(book, Effect.ONCE_PROBE), "agent:executive", Branch.EXECUTIVE)


@breach(Rule.RECONCILED)
def the_crowns_agent_says_what_became_of_a_step(book: Logbook) -> None:
    book.reconcile(in_doubt(book, Effect.ONCE_PROBE), "agent:crown", Branch.CROWN)


@breach(Rule.RECONCILED)
def an_agent_says_in_the_peoples_name_what_became_of_a_step(book: Logbook) -> None:
    book.reconcile(in_doubt(book, Effect.ONCE_PROBE), "agent:executive")


@breach(Rule.RECONCILED)
def code_says_in_the_peoples_name_what_became_of_a_step(book: Logbook) -> None:
    book.reconcile(in_doubt(book, Effect.ONCE_PROBE), "triad")


@breach(Rule.RECONCILED)
def a_person_says_in_the_executives_name_what_became_of_a_step(book: Logbook) -> None:
    book.reconcile(in_doubt(book, Effect.ONCE_PROBE), "olga", Branch.EXECUTIVE)


@breach(Rule.PERSON)
def an_agent_approves_in_the_peoples_name(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), "agent:executive")


@breach(Rule.PERSON)
def code_approves_in_the_peoples_name(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), "triad")


@breach(Rule.PERSON)
def an_agent_resolves_an_escalation_in_the_peoples_name(book: Logbook) -> None:
    book.resolve(escalated(book), "complete", "agent:crown")


@breach(Rule.PERSON)
def an_agent_releases_the_halt_in_the_peoples_name(book: Logbook) -> None:
    book.crown(halt=True)
    book.add(e.CrownReleased(by="agent:crown", reason="On."), Branch.PEOPLE, "agent:crown")


@breach(Rule.PERSON)
def code_halts_in_the_peoples_name(book: Logbook) -> None:
    book.add(e.CrownHalted(by="triad", reason="Stop."), Branch.PEOPLE, "triad")


@breach(Rule.PERSON)
def an_agent_ratifies_an_emergency_in_the_peoples_name(book: Logbook) -> None:
    book.ratify(book.request(emergency=True), "agent:crown")


@breach(Rule.RULING)
def the_requester_resolves_their_own_escalation(book: Logbook) -> None:
    book.resolve(escalated(book), "complete", ADA.id)


@breach(Rule.RULING)
def the_crown_fails_what_the_verdict_sends_back(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1, passed=False)
    book.verdict(op)
    book.rule(op, Ruling.FAIL)


@breach(Rule.HALT)
def an_operation_is_halted_though_nobody_ordered_a_halt(book: Logbook) -> None:
    book.halt(book.until(Stage.RUNNING))


@breach(Rule.HALT)
def an_operation_is_halted_after_the_release(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.crown(halt=True)
    book.crown(halt=False)
    book.halt(op)


@breach(Rule.FINISHED)
def a_run_finished_in_which_nothing_ran(book: Logbook) -> None:
    book.finish(book.until(Stage.RUNNING))


@breach(Rule.FINISHED)
def a_run_finished_though_its_last_step_failed(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1)
    book.step(op, 2, kind="failed")
    book.finish(op)


@breach(Rule.FINISHED)
def a_run_finished_though_a_step_of_the_plan_never_ran(book: Logbook) -> None:
    op = started(book)
    book.step(op, 1)
    book.finish(op)


@breach(Rule.MOVE)
def a_step_that_changed_something_is_left_out(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1, kind="failed")
    book.skip(op, 1)


@breach(Rule.PLAN)
def a_step_that_the_plan_demands_is_left_out(book: Logbook) -> None:
    book.skip(started(book), 1)


@breach(Rule.PLAN)
def a_step_is_left_out_that_the_plan_does_not_have(book: Logbook) -> None:
    op = started(book)
    book.step(op, 1)
    book.step(op, 2)
    book.skip(op, 3)


@breach(Rule.PLAN, back=1)
def another_playbook_than_planned(book: Logbook) -> None:
    book.step(started(book), 1, playbook="config.apply_change")


@breach(Rule.PLAN)
def another_system_than_planned(book: Logbook) -> None:
    op = started(book, asked={"systems": ("shop-logs", "bank-logs")})
    book.intent(op, book.warrant(op, 1, system="bank-logs"), system="bank-logs")


@breach(Rule.PLAN)
def other_arguments_than_planned(book: Logbook) -> None:
    op, others = started(book), sha256(b"others")
    book.intent(op, book.warrant(op, 1, arguments=others), arguments=others)


@breach(Rule.PLAN, back=1)
def another_effect_than_planned(book: Logbook) -> None:
    book.step(started(book), 1, effect=Effect.READ)


@breach(Rule.PLAN, back=1)
def a_step_more_than_planned(book: Logbook) -> None:
    op = started(book)
    for number in (1, 2, 3):
        book.step(op, number)


@breach(Rule.PLAN)
def the_plans_body_is_not_the_one_proposed(book: Logbook) -> None:
    digest = book.plan_of(book.request())
    book.plans[digest] += b" "


@breach(Rule.PLAN)
def the_plans_body_is_no_plan(book: Logbook) -> None:
    body = b"{}"
    book.plans[sha256(body)] = body
    book.plan(book.request(), digest=sha256(body))


@breach(Rule.PLAN)
def the_plans_body_is_of_another_operation(book: Logbook) -> None:
    book.plan_of(book.request(), operation=ident(77))


@breach(Rule.PLAN)
def the_plans_steps_are_not_numbered_in_order(book: Logbook) -> None:
    book.plan_of(book.request(), step_of(2), step_of(1))


@breach(Rule.PLAN)
def the_plans_arguments_are_not_what_their_digest_says(book: Logbook) -> None:
    book.plan_of(book.request(), step_of(1, arguments={"step": 9}))


@breach(Rule.LAW, back=6)
def a_step_begins_under_another_constitution_than_the_plans_own(book: Logbook) -> None:
    op = book.request()
    book.plan_of(op, constitution=NEW_LAW)
    book.approve(op)
    book.approved(op)
    book.start(op)
    book.step(op, 1)


@breach(Rule.CHECKS)
def a_verdict_passes_a_step_without_a_check(book: Logbook) -> None:
    op = started(book)
    for number in (1, 2):
        book.step(op, number)
    book.finish(op)
    book.check(op, 1)
    book.verdict(op)


@breach(Rule.ROLLBACK)
def a_rollback_leaves_out_a_step_that_can_be_undone(book: Logbook) -> None:
    op = started(book)
    for number in (1, 2):
        book.step(op, number)
    book.finish(op)
    book.check(op, 1, passed=False)
    book.verdict(op)
    book.rule(op, Ruling.ROLLBACK)
    book.order(op, 2)


def changed(old: str, new: str) -> str:
    """The real constitution with one passage changed."""
    assert old in DOCUMENT
    return DOCUMENT.replace(old, new)


OFFICER = person("cleo", Role.CROWN_OFFICER)


@breach(Rule.GENESIS)
def the_genesis_comes_as_the_last_entry(book: Logbook) -> None:
    book.until(Stage.COMPLETED)
    book.add(e.Genesis(policies=(), keys=(KEY.text(),), code_version="1"), Branch.PEOPLE, "triad")


@breach(Rule.KEY)
def an_entry_names_the_old_key_after_the_rotation(book: Logbook) -> None:
    book.rotate()
    book.request(key=KEY.key_id.hex())


@breach(Rule.KEY)
def an_entry_names_the_new_key_before_the_rotation(book: Logbook) -> None:
    before = book.key
    book.rotate()
    new, book.key = book.key, before
    entry = Entry.decode(book.entries.pop())
    book.entries.append(entry.model_copy(update={"key": new.key_id.hex()}).encode())
    book.key = new
    book.kept.clear()


@breach(Rule.ROTATION)
def a_key_is_replaced_that_was_not_in_force(book: Logbook) -> None:
    book.rotate()
    book.rotate(2, previous=KEY.text())


@breach(Rule.ROTATION)
def a_retired_key_comes_back(book: Logbook) -> None:
    book.rotate(1)
    first = book.key, book.private
    book.rotate(2)
    book.rotate(1)
    book.key, book.private = first


@breach(Rule.ROTATION)
def the_new_key_is_none(book: Logbook) -> None:
    previous = book.key, book.private
    book.rotate(key="nonsense")
    book.key, book.private = previous


@breach(Rule.ROTATION)
def the_new_key_is_another_logs(book: Logbook) -> None:
    previous = book.key, book.private
    book.rotate(key=VerifierKey("other.example/log", KEY.public).text())
    book.key, book.private = previous


@breach(Rule.BRANCH)
def the_crown_rotates_the_key(book: Logbook) -> None:
    book.rotate(entry={"branch": Branch.CROWN})


@breach(Rule.PERSON)
def an_agent_rotates_the_key_in_the_peoples_name(book: Logbook) -> None:
    book.rotate(by="agent:crown")


@breach(Rule.ACTOR)
def a_key_is_rotated_in_anothers_name(book: Logbook) -> None:
    book.rotate(entry={"principal": "mallory"})


@breach(Rule.TEXT, text=DOCUMENT)
def the_text_of_an_amendment_is_missing(book: Logbook) -> None:
    book.amend(book.propose())


@breach(Rule.TEXT, text=DOCUMENT)
def the_text_of_an_amendment_is_another(book: Logbook) -> None:
    book.amend(book.propose())
    book.constitutions = {**(book.constitutions or {}), NEW_LAW: b"something else"}


@breach(Rule.AMENDMENT)
def the_proposal_replaces_another_constitution_than_the_amendment(book: Logbook) -> None:
    law, book.law = book.law, sha256(b"an older one")
    event = e.ConstitutionProposed(
        amendment="am", previous=book.law, proposed=NEW_LAW, by="cleo", person="cleo", reason="Tighter."
    )
    book.law = law
    book.add(event, Branch.PEOPLE, "cleo")
    book.amend("am")


@breach(Rule.AMENDMENT)
def the_proposers_person_is_another(book: Logbook) -> None:
    book.amend(book.propose(), proposer_person="somebody")


@breach(Rule.PERSON)
def an_agent_ratifies_an_amendment(book: Logbook) -> None:
    book.amend(book.propose(), ratifier="agent:crown", ratifier_person="agent:crown")


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_states_fewer_approvers_than_its_tier_needs(book: Logbook) -> None:
    book.plan(book.request(), quorum=0)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_of_the_highest_tier_states_no_assent(book: Logbook) -> None:
    book.plan(book.request(), tier=3, quorum=2)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_of_the_highest_tier_states_one_approver(book: Logbook) -> None:
    book.plan(book.request(), tier=3, quorum=1, assent=True)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_states_a_tier_that_there_is_not(book: Logbook) -> None:
    book.plan(book.request(), tier=4, quorum=9, assent=True)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_change_in_review_mode_states_no_approver(book: Logbook) -> None:
    book.plan(book.request(), tier=1, quorum=0, mode=RunMode.REVIEW)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_change_is_planned_in_observe_mode(book: Logbook) -> None:
    book.plan(book.request(), tier=1, quorum=1, mode=RunMode.OBSERVE)


@breach(Rule.DEMANDS, text=DOCUMENT)
def judicial_authority_adds_no_approver(book: Logbook) -> None:
    book.plan(book.request(asked={"authority": Authority.JUDICIAL}), tier=1, quorum=0)


@breach(Rule.DEMANDS, text=DOCUMENT)
def crown_authority_adds_no_assent(book: Logbook) -> None:
    book.plan(book.request(asked={"authority": Authority.CROWN}))


@breach(Rule.DEMANDS, text=DOCUMENT)
def an_emergency_states_no_assent(book: Logbook) -> None:
    book.plan(book.request(requester=OFFICER, emergency=True), quorum=0)


@breach(Rule.DEMANDS, text=DOCUMENT)
def an_emergency_waives_more_than_one_approver(book: Logbook) -> None:
    book.plan(book.request(requester=OFFICER, emergency=True), tier=3, quorum=0, assent=True)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_outlasts_the_emergency(book: Logbook) -> None:
    book.plan(book.request(requester=OFFICER, emergency=True), quorum=0, assent=True, minutes=61)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_waits_too_long(book: Logbook) -> None:
    book.plan(book.request(), minutes=1441)


@breach(Rule.DEMANDS, text=DOCUMENT)
def an_approval_lasts_too_long(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), minutes=481)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_warrant_lasts_too_long(book: Logbook) -> None:
    book.warrant(book.until(Stage.RUNNING), 1, seconds=126)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_goes_ahead_without_the_way_back_that_its_tier_needs(book: Logbook) -> None:
    book.plan(book.request(asked={"rollback_plan": None}))


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_deployment_goes_ahead_without_a_way_back(book: Logbook) -> None:
    asked = {"rollback_plan": None, "type": OperationType.DEPLOYMENT}
    book.plan(book.request(asked=asked), tier=1, quorum=0)


@breach(Rule.DEMANDS, text=DOCUMENT)
def a_plan_has_more_steps_than_a_plan_may_have(book: Logbook) -> None:
    book.plan_of(book.request(), *(step_of(number) for number in range(1, 22)))


@breach(Rule.DEMANDS, text=DOCUMENT, back=1)
def a_step_begins_on_a_plan_that_only_the_constitution_before_allowed(book: Logbook) -> None:
    stricter = book.text(changed("quorum = 1\nassent = false\nplan", "quorum = 2\nassent = false\nplan"))
    book.amend(book.propose(stricter), stricter)
    book.step(book.until(Stage.RUNNING), 1)


@breach(Rule.LAW, text=DOCUMENT)
def a_plan_is_made_under_a_constitution_that_was_never_in_force(book: Logbook) -> None:
    book.plan_of(book.request(), constitution=NEW_LAW)


@breach(Rule.EMERGENCY, text=DOCUMENT)
def somebody_declares_an_emergency_who_is_no_crown_officer(book: Logbook) -> None:
    book.request(emergency=True)


@breach(Rule.EMERGENCY, text=DOCUMENT)
def a_crown_officers_service_declares_an_emergency(book: Logbook) -> None:
    service = OFFICER.model_copy(update={"kind": PrincipalKind.SERVICE})
    book.request(requester=service, emergency=True)


@breach(Rule.EMERGENCY, text=DOCUMENT, back=1)
def a_step_begins_after_the_emergencys_time(book: Logbook) -> None:
    op = book.request(requester=OFFICER, emergency=True)
    book.plan(op, quorum=0, assent=True)
    book.rule(op, Ruling.ASSENT)
    book.approved(op)
    book.start(op)
    book.at += timedelta(minutes=63)
    book.step(op, 1)


@breach(Rule.EMERGENCY)
def an_emergency_uses_a_playbook_that_is_not_marked_for_it(book: Logbook) -> None:
    book.plan_of(book.request(emergency=True))


@breach(Rule.PLAN)
def a_plan_touches_a_system_that_nobody_named(book: Logbook) -> None:
    book.plan_of(book.request(), step_of(1, system="bank-logs"))


@breach(Rule.PLAN)
def a_plan_has_a_lower_tier_than_its_step(book: Logbook) -> None:
    book.plan_of(book.request(), step_of(1, tier=3))


@breach(Rule.PLAN)
def a_plans_number_is_left_out(book: Logbook) -> None:
    book.plan(book.request(), version=2)


@breach(Rule.ARCHIVE)
def an_archive_of_entries_that_are_not_there_yet(book: Logbook) -> None:
    book.archive(0, 9, root=sha256(b"others"))


@breach(Rule.ARCHIVE)
def an_archive_of_nothing(book: Logbook) -> None:
    book.archive(1, 1)


@breach(Rule.ARCHIVE)
def an_archive_of_other_entries(book: Logbook) -> None:
    book.until(Stage.COMPLETED)
    book.archive(0, 9, root=sha256(b"others"))


@breach(Rule.ACTOR)
def an_archive_in_anothers_name(book: Logbook) -> None:
    book.archive(by="eve")


@breach(Rule.EVIDENCE)
def evidence_expires_that_nobody_named(book: Logbook) -> None:
    book.until(Stage.COMPLETED)
    book.expire(sha256(b"outcome"), sha256(b"unheard"))


@breach(Rule.EVIDENCE)
def evidence_expires_before_it_is_named(book: Logbook) -> None:
    book.until(Stage.RUNNING)
    book.expire(sha256(b"outcome"))


@breach(Rule.PERSONAL)
def a_commitment_is_erased_that_nobody_recorded(book: Logbook) -> None:
    book.forget(sha256(b"unheard"))


@breach(Rule.PERSONAL)
def a_commitment_about_somebody_else_is_erased(book: Logbook) -> None:
    book.forget(book.know("eve"))


@breach(Rule.PERSON)
def an_agent_erases_what_is_personal_in_the_peoples_name(book: Logbook) -> None:
    book.forget(book.know(), by="agent:crown")


@breach(Rule.ACTOR)
def personal_data_is_erased_in_anothers_name(book: Logbook) -> None:
    book.forget(book.know(), principal="mallory")


@breach(Rule.REPORT)
def a_report_about_entries_that_are_not_there_yet(book: Logbook) -> None:
    book.report(0, 2)


@breach(Rule.REPORT)
def a_report_whose_range_runs_backwards(book: Logbook) -> None:
    book.until(Stage.COMPLETED)
    book.report(5, 4)


def raw(book: Logbook, old: str, new: str) -> None:
    """An entry more, whose bytes are those of an honest one but for one passage."""
    book.request()
    data = book.entries.pop()
    book.ops.popitem()
    assert old.encode() in data
    book.entries.append(data.replace(old.encode(), new.encode(), 1))


@breach(Rule.ENTRY)
def an_entry_has_a_field_more(book: Logbook) -> None:
    raw(book, '"index":', '"ignored":1,"index":')


@breach(Rule.ENTRY)
def an_entry_has_a_key_twice(book: Logbook) -> None:
    raw(book, '"index":1', '"index":7,"index":1')


@breach(Rule.ENTRY)
def an_entry_has_its_fields_in_another_order(book: Logbook) -> None:
    raw(book, f'"origin":"{ORIGIN}","principal":"ada"', f'"principal":"ada","origin":"{ORIGIN}"')


@breach(Rule.ENTRY)
def an_entry_escapes_what_needs_no_escape(book: Logbook) -> None:
    raw(book, "Rotate the logs", "Rotate\\u0020the logs")


@breach(Rule.ENTRY)
def an_entry_has_a_nul_in_its_text(book: Logbook) -> None:
    raw(book, "Rotate the logs", "Rotate\\u0000the logs")


@breach(Rule.ENTRY)
def an_entry_has_half_a_character(book: Logbook) -> None:
    raw(book, "Rotate the logs", "Rotate\\ud800the logs")


@breach(Rule.ENTRY)
def an_entry_is_not_utf_8(book: Logbook) -> None:
    book.request()
    book.entries[-1] = book.entries[-1].replace(b"Rotate", b"Rot\xffate")


@breach(Rule.ENTRY)
def an_entry_has_a_fraction(book: Logbook) -> None:
    raw(book, '"keep":7', '"keep":7.5')


@breach(Rule.ENTRY)
def an_entry_has_a_number_that_rounds(book: Logbook) -> None:
    raw(book, '"keep":7', '"keep":9007199254740992')


@breach(Rule.ENTRY)
def an_entry_has_minus_zero(book: Logbook) -> None:
    raw(book, '"keep":7', '"keep":-0')


@breach(Rule.ENTRY)
def an_entry_is_nested_too_deeply(book: Logbook) -> None:
    raw(book, '"keep":7', '"keep":' + "[" * 14 + "]" * 14)


@breach(Rule.ENTRY)
def an_entry_is_nested_beyond_reason(book: Logbook) -> None:
    raw(book, '"keep":7', '"keep":' + "[" * 7500 + "]" * 7500)


@breach(Rule.ENTRY)
def an_entry_is_too_long(book: Logbook) -> None:
    raw(book, '"keep":7', '"keep":"' + "x" * MAX_ENTRY + '"')


@breach(Rule.ENTRY)
def an_entry_has_a_day_that_is_not(book: Logbook) -> None:
    raw(book, "2026-11-20", "2026-11-31")


@breach(Rule.ENTRY)
def an_entry_has_its_time_in_another_zone(book: Logbook) -> None:
    raw(book, '"time":"2026-11-20T18:00:00.014Z"', '"time":"2026-11-20T18:00:00.014+00:00"')


@breach(Rule.ENTRY)
def an_entry_is_followed_by_a_line_break(book: Logbook) -> None:
    book.request()
    book.entries[-1] += b"\n"


@breach(Rule.ENTRY)
def an_annotation_moves_an_operation(book: Logbook) -> None:
    book.know()
    book.entries[-1] = book.entries[-1].replace(b'{"branch"', b'{"after":"planned","branch"')


@breach(Rule.ENTRY)
def an_entrys_kind_is_not_its_events(book: Logbook) -> None:
    raw(book, '"key":"', '"key":"')
    book.entries[-1] = (
        book.entries[-1]
        .replace(b'"kind":"operation.requested","mission"', b'"kind":"plan.proposed","mission"')
        .replace(b'"kind":"operation.requested","operation"', b'"kind":"plan.proposed","operation"')
    )


@breach(Rule.ENTRY)
def an_entry_spells_out_what_is_absent(book: Logbook) -> None:
    raw(book, '"index":1', '"index":1,"aa":null')
    book.entries[-1] = book.entries[-1].replace(b',"aa":null', b"").replace(b'"origin":', b'"model":null,"origin":')


# Who may record what, and as whom.


def said(book: Logbook, event: e.Event, branch: Branch, principal: str, op: str | None = None) -> None:
    book.add(event, branch, principal, op)


def verdict_by(book: Logbook, principal: str) -> None:
    op = book.until(Stage.EXECUTED)
    for number in (1, 2):
        book.check(op, number)
    verdict = e.VerdictGiven(
        passed=True, checks_passed=True, judged_passed=True, checks=2, rollback=False, reasons=("Mine.",)
    )
    said(book, verdict, Branch.JUDICIAL, principal, op)


@breach(Rule.BRANCH)
def the_requester_gives_the_verdict(book: Logbook) -> None:
    verdict_by(book, ADA.id)


@breach(Rule.BRANCH)
def the_executives_agent_gives_the_verdict(book: Logbook) -> None:
    verdict_by(book, "agent:executive")


@breach(Rule.BRANCH)
def code_gives_the_verdict(book: Logbook) -> None:
    verdict_by(book, "triad")


@breach(Rule.BRANCH)
def the_requester_assents_for_the_crown(book: Logbook) -> None:
    op = book.until(Stage.PLANNED, assent=True)
    said(book, e.RulingGiven(ruling=Ruling.ASSENT, plan=book.in_hand(op), reasons=("I.",)), Branch.CROWN, ADA.id, op)


@breach(Rule.BRANCH)
def the_executives_agent_assents_for_the_crown(book: Logbook) -> None:
    op = book.until(Stage.PLANNED, assent=True)
    event = e.RulingGiven(ruling=Ruling.ASSENT, plan=book.in_hand(op), reasons=("I.",))
    said(book, event, Branch.CROWN, "agent:executive", op)


@breach(Rule.BRANCH)
def the_requester_records_that_it_is_approved(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    approval = book.approve(op)
    event = e.OperationApproved(plan=book.in_hand(op), approvals=(approval,), reasons=(), articles=())
    said(book, event, Branch.LEGISLATIVE, ADA.id, op)


@breach(Rule.BRANCH)
def an_agent_records_that_it_is_approved(book: Logbook) -> None:
    op = book.until(Stage.PLANNED)
    approval = book.approve(op)
    event = e.OperationApproved(plan=book.in_hand(op), approvals=(approval,), reasons=(), articles=())
    said(book, event, Branch.LEGISLATIVE, "agent:legislative", op)


@breach(Rule.BRANCH)
def the_requester_issues_a_warrant(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.warrant(op, 1)
    entry = Entry.decode(book.entries[-1])
    book.entries[-1] = entry.model_copy(update={"principal": ADA.id}).encode()


@breach(Rule.BRANCH)
def the_requester_starts_it(book: Logbook) -> None:
    op = book.until(Stage.APPROVED)
    said(book, e.OperationStarted(plan=book.in_hand(op), epoch=1), Branch.PEOPLE, ADA.id, op)


@breach(Rule.BRANCH)
def the_requester_ends_the_rollback(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    for number in (2, 1):
        book.step(op, number, UNDO)
    for number in (2, 1):
        book.check(op, number, UNDO)
    said(book, e.RollbackDone(restored=True, reasons=("Done.",)), Branch.PEOPLE, ADA.id, op)


@breach(Rule.BRANCH)
def an_agent_requests_an_operation(book: Logbook) -> None:
    agent = agent_principal(Branch.EXECUTIVE)
    said(book, e.OperationRequested(request=REQUEST, requester=agent), Branch.EXECUTIVE, agent.id, ident(1))


@breach(Rule.BRANCH)
def an_agent_cancels_an_operation(book: Logbook) -> None:
    op = book.request()
    said(book, e.OperationCancelled(by="agent:executive", reason="No."), Branch.EXECUTIVE, "agent:executive", op)


@breach(Rule.BRANCH)
def an_agent_halts_everything(book: Logbook) -> None:
    said(book, e.CrownHalted(by="agent:executive", reason="Stop."), Branch.EXECUTIVE, "agent:executive")


@breach(Rule.BRANCH)
def an_agent_makes_a_key(book: Logbook) -> None:
    event = e.KeyCreated(subject="ada", roles=(Role.ADMIN,), fingerprint="0" * 16)
    said(book, event, Branch.EXECUTIVE, "agent:executive")


@breach(Rule.BRANCH)
def an_agent_speaks_for_another_branch(book: Logbook) -> None:
    said(book, e.AccessDenied(action="halt", code="no", reasons=()), Branch.JUDICIAL, "agent:executive")


@breach(Rule.BRANCH)
def another_branchs_model_is_said_to_have_failed(book: Logbook) -> None:
    event = e.AgentDegraded(role=Branch.CROWN, model="m", fallback="rules/offline-1", code="down")
    said(book, event, Branch.EXECUTIVE, "triad", book.request())


@breach(Rule.BRANCH)
def the_genesis_is_an_agents(book: Logbook) -> None:
    book.entries.clear()
    said(book, e.Genesis(policies=(), keys=(KEY.text(),), code_version="1"), Branch.EXECUTIVE, "agent:executive")


@breach(Rule.PERSON)
def the_scheduler_approves(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), "scheduler")


@breach(Rule.PERSON)
def an_approvers_person_is_an_agent(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), "dana", person="agent:crown")


@breach(Rule.PERSON)
def an_approvers_person_is_the_scheduler(book: Logbook) -> None:
    book.approve(book.until(Stage.PLANNED), "dana", person="scheduler")


@breach(Rule.IDENTITY)
def an_approver_becomes_somebody_else(book: Logbook) -> None:
    book.until(Stage.COMPLETED)
    book.approve(book.until(Stage.PLANNED), "dana", person="somebody")


@breach(Rule.IDENTITY)
def a_requesters_service_approves_as_a_person_of_its_own(book: Logbook) -> None:
    service = Principal(id="dana.bot", kind=PrincipalKind.SERVICE, person="dana")
    book.request(requester=service)
    op = book.until(Stage.PLANNED, quorum=2)
    book.approve(op, "dana")
    book.approve(op, "dana.bot")


@breach(Rule.RATIFIED)
def who_declared_an_emergency_ratifies_it_as_somebody_else(book: Logbook) -> None:
    op = book.request(emergency=True)
    book.add(e.OperationCancelled(by="ada", reason="Over."), Branch.PEOPLE, "ada", op)
    book.ratify(op, ADA.id, person="rita")


@breach(Rule.APPROVAL)
def somebody_withdraws_anothers_approval(book: Logbook) -> None:
    op = book.until(Stage.PLANNED, quorum=2)
    book.approve(op, "eve")
    given = book.approve(op, "dana")
    event = e.ApprovalWithdrawn(approval=given, plan=book.in_hand(op), approver="eve", reason="No.")
    book.add(event, Branch.PEOPLE, "eve", op)


# What was done before it is said to have passed.


@breach(Rule.CHECKS)
def a_check_passes_of_a_step_that_never_ran(book: Logbook) -> None:
    op = started(book)
    book.finish(op, "stopped")
    book.check(op, 1)


@breach(Rule.CHECKS)
def a_check_passes_of_a_step_that_failed(book: Logbook) -> None:
    op = started(book)
    book.step(op, 1)
    book.step(op, 2, kind="failed")
    book.finish(op, "failed")
    book.check(op, 1)
    book.check(op, 2)


@breach(Rule.CHECKS)
def a_check_passes_of_a_step_that_is_not_there(book: Logbook) -> None:
    book.check(book.until(Stage.EXECUTED), 99)


@breach(Rule.CHECKS)
def a_check_fails_of_a_step_that_the_plan_does_not_have(book: Logbook) -> None:
    op = started(book)
    book.finish(op, "stopped")
    book.check(op, 3, passed=False)


@breach(Rule.CHECKS)
def an_undo_is_checked_that_did_not_happen(book: Logbook) -> None:
    book.check(book.until(Stage.ROLLING_BACK), 2, UNDO)


@breach(Rule.CHECKS)
def a_step_without_a_check_passes_where_the_plan_is_not_given(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1)
    book.verdict(op)


@breach(Rule.VERDICT)
def a_run_that_was_stopped_passes(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1)
    book.finish(op, "stopped")
    book.check(op, 1)
    book.verdict(op)


@breach(Rule.VERDICT)
def a_verdict_sends_back_what_changed_nothing(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.finish(op, "stopped")
    book.check(op, 1, passed=False)
    book.verdict(op)


@breach(Rule.VERDICT)
def a_verdict_keeps_what_can_be_undone_and_did_not_pass(book: Logbook) -> None:
    op = started(book)
    for number in (1, 2):
        book.step(op, number)
    book.finish(op)
    for number in (1, 2):
        book.check(op, number, passed=number == 1)
    book.verdict(op, rollback=False)


@breach(Rule.FINISHED)
def a_run_failed_in_which_nothing_failed(book: Logbook) -> None:
    book.finish(book.until(Stage.RUNNING), "failed")


@breach(Rule.FINISHED)
def a_run_stopped_in_which_a_step_failed(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1, kind="failed")
    book.finish(op, "stopped")


@breach(Rule.FINISHED)
def a_run_stopped_though_the_whole_plan_was_done(book: Logbook) -> None:
    op = started(book)
    for number in (1, 2):
        book.step(op, number)
    book.finish(op, "stopped")


@breach(Rule.RESTORED)
def restored_with_fewer_checks_than_steps(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    for number in (2, 1):
        book.step(op, number, UNDO)
    book.check(op, 1, UNDO)
    book.undone(op)


@breach(Rule.PLAN)
def a_warrant_for_a_system_that_nobody_named(book: Logbook) -> None:
    book.warrant(book.until(Stage.RUNNING), 1, system="bank-logs")


@breach(Rule.PLAN, back=1)
def a_step_is_of_another_effect_when_it_is_tried_again(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1, kind="failed", effect=Effect.ONCE_BLIND)
    book.step(op, 1, effect=Effect.IDEMPOTENT)


@breach(Rule.WARRANT_USED)
def a_step_begins_with_a_warrant_that_was_refused(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    event = e.WarrantDenied(
        warrant=warrant, step=1, attempt=1, direction=DO, system="shop-logs", code="no", reasons=("No.",)
    )
    book.add(event, Branch.EXECUTIVE, "triad", op)
    book.intent(op, warrant)


@breach(Rule.KEY)
def the_genesis_names_its_key_as_another_logs(book: Logbook) -> None:
    book.entries.clear()
    keys = (VerifierKey("other.example/log", KEY.public).text(),)
    book.key = VerifierKey("other.example/log", KEY.public)
    book.add(e.Genesis(policies=(), keys=keys, code_version="1"), Branch.PEOPLE, "triad")
    book.key = KEY


# When it may start.


@breach(Rule.STARTED)
def a_start_before_its_time(book: Logbook) -> None:
    op = book.request(asked={"scheduled_time": book.at + timedelta(hours=1)})
    book.plan(op)
    book.approve(op)
    book.approved(op)
    book.start(op)


@breach(Rule.STARTED)
def a_start_after_the_plan_expired(book: Logbook) -> None:
    op = book.until(Stage.APPROVED)
    book.at += timedelta(days=3)
    book.start(op)


@breach(Rule.HALT)
def a_start_during_the_halt(book: Logbook) -> None:
    op = book.until(Stage.APPROVED)
    book.crown(halt=True)
    book.at += timedelta(minutes=2)
    book.start(op)


@breach(Rule.HALT)
def an_operation_goes_on_during_the_halt(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.crown(halt=True)
    book.halt(op)
    book.at += timedelta(minutes=2)
    book.add(e.OperationResumed(to=DO, reasons=("On.",)), Branch.CROWN, "triad", op)


@breach(Rule.OPERATION)
def something_is_said_of_an_operation_nobody_requested(book: Logbook) -> None:
    book.add(e.CancelRequested(by="ada", reason="Stop."), Branch.PEOPLE, "ada", ident(77))


# What may be deleted.


def erase(book: Logbook, *evidence: str) -> None:
    book.add(e.PersonalErased(evidence=evidence, by="ada", reason="She asked."), Branch.PEOPLE, "ada")


@breach(Rule.EVIDENCE)
def evidence_is_erased_that_nobody_named(book: Logbook) -> None:
    erase(book, sha256(b"unheard"))


@breach(Rule.EVIDENCE)
def the_constitution_of_the_genesis_is_erased(book: Logbook) -> None:
    erase(book, book.law)


@breach(Rule.EVIDENCE)
def the_constitution_in_force_is_erased(book: Logbook) -> None:
    book.amend(book.propose())
    book.at += timedelta(hours=2)
    erase(book, book.law)


@breach(Rule.EVIDENCE)
def evidence_of_an_operation_under_way_expires(book: Logbook) -> None:
    book.step(book.until(Stage.RUNNING), 1)
    book.at += timedelta(hours=2)
    book.expire(sha256(b"snapshot"))


# Constitutions that the server refuses, and times that no clock says.


def amended(book: Logbook, text: str) -> None:
    enacted = book.text(text)
    book.amend(book.propose(enacted), enacted)


@breach(Rule.TEXT, text=DOCUMENT)
def a_constitution_without_numbers(book: Logbook) -> None:
    amended(book, "# Anything goes\n")


@breach(Rule.TEXT, text="# Anything goes\n")
def a_genesis_under_a_constitution_without_numbers(_: Logbook) -> None:
    """Nothing more has to happen."""


@breach(Rule.TEXT, text=DOCUMENT)
def a_constitution_that_asks_nobody(book: Logbook) -> None:
    amended(book, re.sub(r"quorum = \d+", "quorum = 0", DOCUMENT).replace("assent = true", "assent = false"))


@breach(Rule.TEXT, text=DOCUMENT)
def a_constitution_without_tiers(book: Logbook) -> None:
    amended(book, "```toml\ntiers = []\n```\n")


@breach(Rule.TEXT, text=DOCUMENT)
def a_constitution_with_a_number_that_nobody_can_read(book: Logbook) -> None:
    amended(book, DOCUMENT + "\n```toml\nx = " + "9" * 5000 + "\n```\n")


@breach(Rule.TEXT, text=DOCUMENT)
def a_constitution_that_is_not_utf_8(book: Logbook) -> None:
    data = DOCUMENT.encode() + b"\xff"
    book.constitutions = {**(book.constitutions or {}), sha256(data): data}
    book.amend(book.propose(sha256(data)), sha256(data))


@breach(Rule.TIME, text=DOCUMENT)
def an_entry_of_the_last_day(book: Logbook) -> None:
    book.at = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    book.request()
