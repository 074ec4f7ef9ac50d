"""The verifier: a lawful log passes, and every single breach of every rule is found, named and placed."""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from operations import events as e
from operations.evidence import Effect
from operations.model import Branch, Principal, PrincipalKind, Ruling
from operations.stages import Stage
from storage.entry import Entry
from storage.verifier.checkpoint import VerifierKey
from storage.verifier.policy import Policy
from storage.verifier.replay import Replay
from storage.verifier.report import Code, Report
from storage.verifier.rules import BRANCHES, BY_CODE, BY_PEOPLE, Rule
from storage.verifier.verification import verify as verify_by_policy
from tests.breaches import CASES, Case, in_doubt, started
from tests.logbook import DOCUMENT, KEY, ORIGIN, UNDO, Logbook, administered, complete, eventful, step_of

BOOK = eventful()
COMPLETE = complete()
NOTE = BOOK.note()


def verify(entries: Iterable[bytes], note: bytes, keys: Sequence[VerifierKey], **settings: Any) -> Report:
    return verify_by_policy(entries, note, Policy.of(keys), **settings)


def check(book: Logbook, **settings: Any) -> Report:
    known: dict[str, Any] = {"plans": book.plans, "constitutions": book.constitutions, "rotations": book.kept}
    return verify(book.entries, book.note(), [KEY, book.key], **known | settings)


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
    kinds = {Entry.decode(data).kind for data in COMPLETE.entries}
    assert set(BRANCHES) <= kinds
    assert check(COMPLETE).problems == ()


def test_an_empty_log_under_its_checkpoint_verifies() -> None:
    assert check(Logbook(genesis=False)).ok


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_breach_is_found_where_it_is_and_nothing_else_is_reported(case: Case) -> None:
    book = case.book()
    report = check(book)
    assert sorted({problem.rule for problem in report.problems}) == [case.rule.value]
    assert report.code is Code.SEMANTICS
    assert not report.ok
    assert report.found == len(report.problems)
    assert all(problem.sentence for problem in report.problems)
    assert report.problems[0].index == len(book.entries) - 1 - case.back


def test_every_rule_has_a_case_that_breaks_it() -> None:
    assert {case.rule for case in CASES} == set(Rule)


def test_a_lawful_log_under_the_real_constitution_verifies_with_all_that_is_kept_beside_it() -> None:
    book = administered()
    report = check(book)
    assert report.problems == ()
    assert [remark.sentence.split()[1] for remark in report.remarks] == ["witness", "log"]


def broken_by(kind: str, **changes: Any) -> list[str]:
    """The rules that are broken when the first entry of a kind is changed in a log that is lawful otherwise."""
    entries = list(Logbook().entries if kind == "genesis" else COMPLETE.entries)
    place = next(at for at, data in enumerate(entries) if Entry.decode(data).kind == kind)
    entries[place] = Entry.decode(entries[place]).model_copy(update=changes).encode()
    replay = Replay(ORIGIN)
    for at, data in enumerate(entries):
        replay.feed(at, data)
    return sorted({problem.rule for problem in replay.problems})


@pytest.mark.parametrize("kind", sorted(BRANCHES))
def test_each_kind_is_refused_from_every_other_branch(kind: str) -> None:
    for branch in Branch:
        assert broken_by(kind, branch=branch) == ([] if branch.value == BRANCHES[kind] else ["branch"])


@pytest.mark.parametrize("kind", sorted(set(BRANCHES) - BY_PEOPLE))
def test_each_kind_that_is_not_the_peoples_is_refused_from_whoever_does_not_act_for_its_branch(kind: str) -> None:
    strangers = {"agent:crown", "agent:executive"} - {f"agent:{BRANCHES[kind]}"}
    if BRANCHES[kind] != "people":
        strangers.add("ada")
    if kind in BY_CODE:
        strangers.add(f"agent:{BRANCHES[kind]}")
    for stranger in strangers:
        assert "branch" in broken_by(kind, principal=stranger)


@pytest.mark.parametrize("kind", sorted(BY_PEOPLE))
@pytest.mark.parametrize("principal", ["triad", "agent:crown"])
def test_each_kind_that_is_the_peoples_is_refused_from_code_and_agents(kind: str, principal: str) -> None:
    assert "person" in broken_by(kind, principal=principal)


def test_an_emergency_that_is_ratified_twice_is_remarked() -> None:
    book = Logbook()
    op = book.request(emergency=True)
    book.ratify(op)
    book.ratify(op)
    report = check(book)
    assert report.ok
    assert [remark.sentence for remark in report.remarks] == [f"The emergency {op} was ratified before."]


def test_an_alias_of_the_approver_may_withdraw_the_approval() -> None:
    book = Logbook()
    op = book.until(Stage.PLANNED)
    book.request(requester=Principal(id="dana.alias", kind=PrincipalKind.PERSON, person="dana"))
    given = book.approve(op, "dana")
    event = e.ApprovalWithdrawn(approval=given, plan=book.in_hand(op), approver="dana.alias", reason="No.")
    book.add(event, Branch.PEOPLE, "dana.alias", op)
    assert check(book).ok


def test_the_judicial_branch_may_refuse_what_checks_and_judgment_let_pass() -> None:
    book = Logbook()
    op = book.until(Stage.EXECUTED)
    for number in (1, 2):
        book.check(op, number)
    book.verdict(op, passed=False, rollback=True)
    assert check(book).ok


def test_a_halt_that_comes_while_a_start_is_decided_is_no_breach() -> None:
    book = Logbook()
    op = book.until(Stage.APPROVED)
    book.crown(halt=True)
    book.start(op)
    assert check(book).ok


def test_a_comment_beside_a_rule_hides_it_not_and_a_rule_that_is_not_recognised_is_remarked() -> None:
    rule = "unless { principal is Person && principal in Role::"
    commented = Logbook(text=DOCUMENT.replace(rule, f'// who: "an officer"\n{rule}'))
    assert check(commented).remarks == ()
    other = Logbook(text=DOCUMENT.replace(rule, rule.replace("principal is Person && ", "")))
    assert check(other).ok
    (remark,) = check(other).remarks
    assert "who may declare an emergency" in remark.sentence


def test_a_request_for_the_last_day_that_there_is_breaks_nothing() -> None:
    book = Logbook(text=DOCUMENT)
    op = book.request(asked={"scheduled_time": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)})
    book.plan(op)
    assert check(book).ok


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


def test_a_log_is_verified_while_it_streams_by() -> None:
    taken = 0

    def entries() -> Any:
        nonlocal taken
        for data in BOOK.entries:
            taken += 1
            yield data

    assert verify(entries(), NOTE, [KEY]).ok
    assert taken == len(BOOK.entries)


def test_a_warrant_that_is_used_again_is_open_again() -> None:
    book = Logbook()
    op = book.until(Stage.RUNNING)
    warrant = book.step(op, 1)
    book.intent(op, warrant)
    report = check(book)
    assert [(step.step, step.status) for step in report.open_steps] == [(1, "intended")]
    book.finish(op)
    assert "unresolved" in broken_rules(book)
