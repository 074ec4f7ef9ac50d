"""The verifier: a lawful log passes, and every single breach of every rule is found, named and placed."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from operations import events as e
from operations.canonical import sha256
from operations.evidence import Effect
from operations.model import Branch, Ruling, Step
from operations.stages import Stage
from storage.copies import CopyUnreadable, read_copy, write_copy
from storage.entry import MAX_ENTRY, Entry
from storage.rules import BRANCHES, Rule
from storage.verifier.checkpoint import VerifierKey
from storage.verify import Code, Report, verify, verify_copy
from tests.logbook import ADA, AGENTS, DO, KEY, LAW, NEW_LAW, UNDO, Logbook, eventful, ident, step_of

BOOK = eventful()
NOTE = BOOK.note()


def check(book: Logbook, **settings: Any) -> Report:
    return verify(book.entries, book.note(), [KEY], plans=book.plans, **settings)


def broken_rules(book: Logbook) -> list[str]:
    return sorted({problem.rule for problem in check(book).problems})


def test_a_lawful_log_verifies_and_reports_what_is_still_open() -> None:
    report = check(BOOK)
    assert report.ok
    assert report.code is Code.OK
    assert report.problems == ()
    assert (report.size, report.root) == (len(BOOK.entries), BOOK.head().root.hex())
    assert report.signers == (KEY.name,)
    assert [(step.step, step.status) for step in report.open_steps] == [(2, "intended")]
    assert Entry.decode(BOOK.entries[report.open_steps[0].index]).kind == "step.intent"


def test_a_step_in_doubt_is_reported_as_open_and_not_as_a_problem() -> None:
    book = Logbook()
    op = book.until(Stage.RUNNING)
    book.step(op, 1, kind="in_doubt")
    report = check(book)
    assert report.ok
    assert [(step.operation, step.status) for step in report.open_steps] == [(op, "in_doubt")]


def test_the_lawful_log_has_every_kind_that_a_rule_speaks_about() -> None:
    kinds = {Entry.decode(data).kind for data in BOOK.entries}
    assert set(BRANCHES) - kinds == {"approval.refused"}


def test_an_empty_log_under_its_checkpoint_verifies() -> None:
    assert check(Logbook(genesis=False)).ok


# One breach a case: the rule is what the breach must be reported as, and nothing else may be reported.

Breach = Callable[[Logbook], object]
CASES: list[tuple[str, Rule, Breach]] = []


def breach(rule: Rule) -> Callable[[Breach], Breach]:
    def keep(case: Breach) -> Breach:
        CASES.append((case.__name__, rule, case))
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
    book.add(e.StepSkipped(step=1, reasons=("Optional.",)), Branch.EXECUTIVE, AGENTS[Branch.EXECUTIVE], op)


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


@breach(Rule.QUORUM)
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


@breach(Rule.HALT)
def a_step_begins_during_the_halt(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.crown(halt=True)
    book.step(op, 1)


@breach(Rule.HALT)
def an_undo_begins_during_the_halt(book: Logbook) -> None:
    op = book.until(Stage.ROLLING_BACK)
    book.crown(halt=True)
    book.step(op, 2, UNDO)


@breach(Rule.LAW)
def a_step_begins_under_a_constitution_that_the_plan_did_not_know(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.amend(book.propose())
    book.step(op, 1)


@breach(Rule.TURN)
def a_step_is_jumped_over(book: Logbook) -> None:
    book.step(book.until(Stage.RUNNING), 2)


@breach(Rule.TURN)
def a_step_that_is_done_runs_again(book: Logbook) -> None:
    op = book.until(Stage.RUNNING)
    book.step(op, 1)
    book.step(op, 1)


@breach(Rule.TURN)
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


@breach(Rule.TURN)
def the_oldest_step_is_undone_first(book: Logbook) -> None:
    book.step(book.until(Stage.ROLLING_BACK), 1, UNDO)


@breach(Rule.TURN)
def a_step_is_undone_that_nobody_ordered(book: Logbook) -> None:
    book.step(book.until(Stage.ROLLING_BACK), 3, UNDO)


@breach(Rule.ONCE)
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
    book.check(op, 1)
    book.verdict(op, judged_passed=False)


@breach(Rule.VERDICT)
def a_verdict_passes_what_the_checks_did_not(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1, passed=False)
    book.verdict(op, passed=True)


@breach(Rule.CHECKS)
def a_verdict_says_that_failed_checks_passed(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1, passed=False)
    book.verdict(op, checks_passed=True, passed=True)


@breach(Rule.CHECKS)
def a_verdict_counts_checks_that_are_not_recorded(book: Logbook) -> None:
    op = book.until(Stage.EXECUTED)
    book.check(op, 1)
    book.verdict(op, checks=2)


@breach(Rule.CHECKS)
def a_verdict_passes_without_any_check(book: Logbook) -> None:
    book.verdict(book.until(Stage.EXECUTED), checks_passed=True, passed=True)


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


def started(book: Logbook, *steps: Step) -> str:
    """An operation that runs a plan whose body is given."""
    op = book.request()
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


@breach(Rule.PLAN)
def another_playbook_than_planned(book: Logbook) -> None:
    book.step(started(book), 1, playbook="config.apply_change")


@breach(Rule.PLAN)
def another_system_than_planned(book: Logbook) -> None:
    op = started(book)
    book.intent(op, book.warrant(op, 1, system="bank-logs"), system="bank-logs")


@breach(Rule.PLAN)
def other_arguments_than_planned(book: Logbook) -> None:
    op, others = started(book), sha256(b"others")
    book.intent(op, book.warrant(op, 1, arguments=others), arguments=others)


@breach(Rule.PLAN)
def another_effect_than_planned(book: Logbook) -> None:
    book.step(started(book), 1, effect=Effect.READ)


@breach(Rule.PLAN)
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


@breach(Rule.LAW)
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


@pytest.mark.parametrize(("rule", "case"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_breach_is_found_and_nothing_else_is_reported(rule: Rule, case: Breach) -> None:
    book = Logbook()
    case(book)
    report = check(book)
    assert sorted({problem.rule for problem in report.problems}) == [rule.value]
    assert report.code is Code.SEMANTICS
    assert not report.ok
    assert report.found == len(report.problems)
    assert all(p.index is not None and 0 < p.index < len(book.entries) and p.sentence for p in report.problems)


def test_every_rule_has_a_case_that_breaks_it() -> None:
    assert {case[1] for case in CASES} == set(Rule)


@pytest.mark.parametrize("kind", sorted(BRANCHES))
def test_each_kind_is_refused_from_every_other_branch(kind: str) -> None:
    book = eventful()
    if kind == "approval.refused":
        op = book.until(Stage.PLANNED)
        refused = e.ApprovalRefused(
            approval="ap_x", plan=book.in_hand(op), approver="dana", person="dana", reason="No.", channel="console"
        )
        book.add(refused, Branch.PEOPLE, "dana", op)
    place = next(at for at, data in enumerate(book.entries) if Entry.decode(data).kind == kind)
    for branch in Branch:
        entry = Entry.decode(book.entries[place])
        book.entries[place] = entry.model_copy(update={"branch": branch}).encode()
        assert broken_rules(book) == ([] if branch is BRANCHES[kind] else ["branch"])


def test_a_log_without_its_genesis_is_found() -> None:
    book = Logbook(genesis=False)
    book.request()
    assert broken_rules(book) == ["genesis"]


def test_a_clock_that_is_a_little_behind_is_tolerated() -> None:
    book = Logbook()
    book.request(time=book.at - timedelta(seconds=4))
    assert check(book).ok


def test_the_probe_of_a_step_may_settle_what_became_of_it() -> None:
    book = Logbook()
    book.reconcile(in_doubt(book, Effect.ONCE_PROBE), "triad", Branch.EXECUTIVE)
    assert check(book).ok


def test_who_approved_may_approve_again_after_the_first_approval_expired_and_take_both_back() -> None:
    book = Logbook()
    op = book.until(Stage.PLANNED)
    given = [book.approve(op, "dana", minutes=1)]
    book.at += timedelta(minutes=2)
    given.append(book.approve(op, "dana"))
    book.approved(op)
    for approval in given:
        event = e.ApprovalWithdrawn(approval=approval, plan=book.in_hand(op), approver="dana", reason="No.")
        book.add(event, Branch.PEOPLE, "dana", op)
    assert check(book).ok
    assert book.ops[op].stage is Stage.PLANNED
    assert book.ops[op].approvals == ()


def test_an_operation_that_keeps_to_its_plan_verifies_against_it() -> None:
    book = Logbook()
    op = started(book, step_of(1), step_of(2, optional=True), step_of(3, reversible=False))
    book.step(op, 1)
    book.skip(op, 2)
    book.step(op, 3)
    book.finish(op)
    for number in (1, 2, 3):
        book.check(op, number, passed=number != 3)
    book.verdict(op)
    book.rule(op, Ruling.ROLLBACK)
    book.order(op, 1)
    assert check(book).problems == ()


def test_what_was_stopped_may_leave_steps_undone() -> None:
    book = Logbook()
    op = started(book)
    book.step(op, 1, kind="failed")
    book.finish(op, "failed")
    assert check(book).ok


def test_what_is_known_not_to_have_happened_may_be_begun_again() -> None:
    book = Logbook()
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    book.intent(op, warrant, effect=Effect.ONCE_BLIND)
    book.outcome(op, warrant, "failed", changed=False)
    book.step(op, 1, effect=Effect.ONCE_BLIND)
    assert check(book).ok


def test_a_rollback_in_spite_of_an_amendment_is_lawful() -> None:
    book = Logbook()
    op = book.until(Stage.ROLLING_BACK)
    book.amend(book.propose())
    book.step(op, 2, UNDO)
    assert check(book).ok


def test_a_crown_officer_may_complete_what_only_the_evaluator_doubted() -> None:
    book = Logbook()
    op = book.until(Stage.EXECUTED)
    book.check(op, 1)
    book.verdict(op, judged_passed=False, passed=False)
    book.rule(op, Ruling.ESCALATE)
    book.add(
        e.EscalationResolved(ruling="complete", by="cleo", person="cleo", reason="It is fine."),
        Branch.PEOPLE,
        "cleo",
        op,
    )
    assert book.ops[op].stage is Stage.COMPLETED
    assert check(book).ok


def test_a_flood_of_breaches_is_counted_and_cut_off() -> None:
    book = Logbook()
    book.entries += [b"{}"] * 500
    report = check(book)
    assert report.found == 500
    assert len(report.problems) == 200


# Authenticity: signatures, root, and what was seen before.


def test_no_single_flipped_bit_of_the_entries_is_accepted() -> None:
    book, note = BOOK, NOTE
    chance = random.Random(6962)
    for _ in range(1500):
        entries = list(book.entries)
        at = chance.randrange(len(entries))
        changed = bytearray(entries[at])
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        entries[at] = bytes(changed)
        assert verify(entries, note, [KEY], semantics=False).code is Code.ROOT


@given(st.data())
def test_no_flipped_bit_survives_the_whole_verification(data: st.DataObject) -> None:
    entries = list(BOOK.entries)
    at = data.draw(st.integers(0, len(entries) - 1))
    bit = data.draw(st.integers(0, len(entries[at]) * 8 - 1))
    changed = bytearray(entries[at])
    changed[bit // 8] ^= 1 << bit % 8
    entries[at] = bytes(changed)
    report = verify(entries, NOTE, [KEY])
    assert report.code is Code.ROOT
    assert not report.ok


def test_no_single_flipped_bit_of_the_checkpoint_is_accepted() -> None:
    for bit in range(len(NOTE) * 8):
        changed = bytearray(NOTE)
        changed[bit // 8] ^= 1 << bit % 8
        report = verify(BOOK.entries, bytes(changed), [KEY], semantics=False)
        assert report.code in {Code.SIGNATURE, Code.INPUT}


@pytest.mark.parametrize(
    "alter",
    [
        lambda entries: entries[:-1],
        lambda entries: entries[1:],
        lambda entries: [*entries, entries[-1]],
        lambda entries: [*entries[:5], entries[6], entries[5], *entries[7:]],
        lambda entries: [*entries[:5], *entries[6:], entries[5]],
        lambda entries: [],
    ],
    ids=["newest missing", "oldest missing", "one more", "two swapped", "one moved", "none"],
)
def test_missing_added_and_moved_entries_are_found(alter: Callable[[list[bytes]], list[bytes]]) -> None:
    report = verify(alter(list(BOOK.entries)), NOTE, [KEY])
    assert report.code is Code.ROOT
    assert "root" in {problem.rule for problem in report.problems}


def test_a_key_that_is_not_known_is_no_signature() -> None:
    stranger = Ed25519PrivateKey.generate()
    other = VerifierKey(KEY.name, stranger.public_key().public_bytes_raw())
    assert verify(BOOK.entries, NOTE, [other]).code is Code.SIGNATURE
    assert verify(BOOK.entries, NOTE, []).code is Code.SIGNATURE
    assert verify(BOOK.entries, BOOK.note(private=stranger), [KEY]).code is Code.SIGNATURE


def test_a_rewritten_history_signed_by_another_key_is_refused_by_the_known_one() -> None:
    forged = Logbook()
    forged.until(Stage.COMPLETED)
    thief = Ed25519PrivateKey.generate()
    assert verify(forged.entries, forged.note(private=thief), [KEY]).code is Code.SIGNATURE


def test_a_checkpoint_that_is_none_is_input() -> None:
    for note in (b"", b"nonsense", NOTE[:-5]):
        report = verify(BOOK.entries, note, [KEY])
        assert report.code is Code.INPUT
        assert report.size is None


def test_an_older_checkpoint_of_the_same_log_agrees() -> None:
    older = [BOOK.note(size) for size in (0, 1, 17, 64, len(BOOK.entries))]
    report = check(BOOK, older=older)
    assert report.ok
    assert report.compared == 5


def test_a_log_cut_short_and_signed_again_is_a_rollback_for_whoever_remembers() -> None:
    shorter = Logbook(genesis=False)
    shorter.entries = BOOK.entries[:40]
    assert verify(shorter.entries, shorter.note(), [KEY]).ok, "without a memory it cannot be known"
    report = verify(shorter.entries, shorter.note(), [KEY], older=[NOTE])
    assert report.code is Code.FORK
    assert [problem.rule for problem in report.problems] == ["rollback"]


def test_a_log_that_was_rewritten_and_signed_again_is_a_fork_for_whoever_remembers() -> None:
    rewritten = Logbook()
    rewritten.until(Stage.COMPLETED)
    rewritten.until(Stage.COMPLETED)
    genuine = Logbook()
    genuine.until(Stage.ROLLED_BACK)
    size = len(genuine.entries)
    report = verify(rewritten.entries[: size + 4], rewritten.note(size + 4), [KEY], older=[genuine.note()])
    assert (report.code, report.found) == (Code.FORK, 1)
    assert report.problems[0].rule == "fork"
    same_size = verify(rewritten.entries[:size], rewritten.note(size), [KEY], older=[genuine.note()], semantics=False)
    assert same_size.code is Code.FORK


def test_an_older_checkpoint_of_another_key_or_another_log_is_not_ignored() -> None:
    stranger = Ed25519PrivateKey.generate()
    assert check(BOOK, older=[BOOK.note(10, private=stranger)]).code is Code.SIGNATURE
    assert check(BOOK, older=[b"nonsense"]).code is Code.INPUT


def test_the_gravest_finding_decides_the_exit_code() -> None:
    book = Logbook()
    book.request(index=9)
    assert verify([*book.entries, b"more"], book.note(), [KEY]).code is Code.ROOT
    assert verify(book.entries, book.note(), [KEY], older=[NOTE]).code is Code.FORK


def test_meaning_can_be_left_out() -> None:
    book = Logbook()
    book.request(index=9)
    report = check(book, semantics=False)
    assert report.ok
    assert not report.replayed


# Copies in a folder.


def test_a_copy_comes_back_and_verifies(tmp_path: Path) -> None:
    write_copy(tmp_path / "copy", BOOK.entries, NOTE, [KEY])
    copy = read_copy(tmp_path / "copy")
    assert list(copy.entries()) == BOOK.entries
    assert (copy.note, copy.keys) == (NOTE, (KEY,))
    assert verify_copy(tmp_path / "copy").ok
    assert verify_copy(tmp_path / "copy", [KEY], older=[BOOK.note(9)]).ok


def test_no_single_flipped_bit_of_a_copys_entries_is_accepted(tmp_path: Path) -> None:
    write_copy(tmp_path, BOOK.entries, NOTE, [KEY])
    path = tmp_path / "entries"
    whole = path.read_bytes()
    chance = random.Random(9162)
    places = [*range(4), *(chance.randrange(len(whole)) for _ in range(200))]
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert verify_copy(tmp_path, [KEY], semantics=False).code in {Code.ROOT, Code.INPUT}


def test_a_copy_with_other_keys_in_it_does_not_fool_whoever_knows_the_key(tmp_path: Path) -> None:
    forged = Logbook()
    forged.until(Stage.COMPLETED)
    thief = Ed25519PrivateKey.generate()
    key = VerifierKey(KEY.name, thief.public_key().public_bytes_raw())
    write_copy(tmp_path, forged.entries, forged.note(private=thief), [key])
    assert verify_copy(tmp_path, [KEY]).code is Code.SIGNATURE


@pytest.mark.parametrize("missing", ["entries", "checkpoint", "keys"])
def test_an_incomplete_copy_is_input(tmp_path: Path, missing: str) -> None:
    write_copy(tmp_path, BOOK.entries, NOTE, [KEY])
    (tmp_path / missing).unlink()
    report = verify_copy(tmp_path)
    assert report.code is Code.INPUT
    assert missing in report.problems[0].sentence


@pytest.mark.parametrize(
    "tail", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x05abcd", (MAX_ENTRY + 1).to_bytes(4, "big"), b"\xff" * 4]
)
def test_a_copy_whose_entries_break_off_is_unreadable(tmp_path: Path, tail: bytes) -> None:
    write_copy(tmp_path, BOOK.entries, NOTE, [KEY])
    with (tmp_path / "entries").open("ab") as file:
        file.write(tail)
    with pytest.raises(CopyUnreadable):
        list(read_copy(tmp_path).entries())
    assert verify_copy(tmp_path).code is Code.INPUT


def test_a_copys_keys_must_be_keys(tmp_path: Path) -> None:
    write_copy(tmp_path, BOOK.entries, NOTE, [KEY])
    for text in (b"nonsense\n", b"\xff\n", b"\n"):
        (tmp_path / "keys").write_bytes(text)
        assert verify_copy(tmp_path).code is Code.INPUT


def test_the_verifier_needs_neither_a_database_driver_nor_an_orm() -> None:
    code = (
        "import sys, storage.verify, storage.copies; "
        "sys.exit(any(name in sys.modules for name in ('asyncpg', 'sqlalchemy', 'psycopg')))"
    )
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_log_is_verified_while_it_streams_by() -> None:
    taken = 0

    def entries() -> Any:
        nonlocal taken
        for data in BOOK.entries:
            taken += 1
            yield data

    assert verify(entries(), NOTE, [KEY]).ok
    assert taken == len(BOOK.entries)


def test_hashing_a_whole_log_is_fast_enough() -> None:
    """The target is 200,000 entries/s on a quiet machine; a fifth of it is the floor on a busy one."""
    book = Logbook(genesis=False)
    book.entries = BOOK.entries * 200
    note = book.note()
    started = time.process_time()
    assert verify(book.entries, note, [KEY], semantics=False).ok
    assert len(book.entries) / (time.process_time() - started) > 40_000
