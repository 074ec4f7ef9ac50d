"""What an analysis says of logs whose story is known: figures reckoned by hand, gaps, and idleness that is none."""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import product
from math import comb
from pathlib import Path

import pytest

from operations import events as e
from operations.errors import InvalidRequest
from operations.model import Branch, Direction, Ruling, Tokens
from operations.stages import Stage
from storage.entry import Entry
from tests.histories import later
from tests.logbook import ADA, AGENTS, REQUEST, Logbook
from triad.analytics import insights
from triad.analytics.chance import LEVELS, counts_differ, shares_differ
from triad.analytics.fact import milliseconds
from triad.analytics.fold import Filter, Fold
from triad.analytics.markdown import WEIGHTS, document
from triad.analytics.moments import BUCKETS, bucket_of, moment
from triad.analytics.records import Report, Scope, Thresholds
from triad.analytics.report import body_of, digest_of, report_of
from triad.analytics.spelling import count, percent, spell

MINUTE = 60_000
HOUR = 60 * MINUTE
NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)


def analysed(
    book: Logbook,
    *,
    idle: timedelta = timedelta(),
    since: datetime | None = None,
    before: datetime | None = None,
    thresholds: Thresholds | None = None,
    **wanted: str,
) -> Report:
    """The report on a logbook, `idle` after its last entry."""
    limits = thresholds or Thresholds()
    until = Entry.decode(book.entries[-1]).time + idle
    since = since or Entry.decode(book.entries[0]).time
    scope = Scope(since=since, until=until, first=0, end=len(book.entries), before=before, bucket_seconds=3600)
    fold = Fold(
        Filter(**wanted),
        since=milliseconds(since),
        before=milliseconds(before or since),
        quick=limits.quick_seconds * 1000,
        bucket=3_600_000,
    )
    fold.read(book.entries)
    return report_of(fold, scope, limits, origin="a log", last=None)


def rules(report: Report) -> dict[str, str]:
    return {each.rule: each.sentence for each in report.insights}


def kinds(report: Report) -> list[str]:
    return [each.kind for each in report.gaps]


def worked(book: Logbook, times: int = 12, **apart: float) -> None:
    """Operations that were carried out, one after the other."""
    for _ in range(times):
        later(book, **(apart or {"minutes": 1}))
        book.until(Stage.COMPLETED)


def test_the_times_of_one_operation_are_those_of_the_clock() -> None:
    book = Logbook()
    op = book.request()
    later(book, seconds=30)
    book.plan(op)
    later(book, minutes=10)
    book.approve(op, "dana")
    later(book, seconds=1)
    book.approved(op)
    later(book, minutes=2)
    book.start(op)
    later(book, seconds=2)
    warrant = book.warrant(op, 1)
    book.intent(op, warrant)
    later(book, seconds=45)
    book.outcome(op, warrant)
    later(book, seconds=5)
    book.finish(op)
    later(book, seconds=8)
    book.check(op, 1)
    later(book, seconds=2)
    book.verdict(op)
    later(book, seconds=4)
    book.rule(op, Ruling.COMPLETE)
    report = analysed(book)
    assert {each.name: each.most for each in report.stays} == {
        "requested": 30_000,
        "planned": 10 * MINUTE + 1000,
        "approved": 2 * MINUTE,
        "running": 2000 + 7 + 45_000 + 5000,
        "executed": 10_000,
        "evaluated": 4000,
    }
    assert report.whole.most == sum(each.most for each in report.stays)
    (runs,) = report.playbooks
    assert (runs.name, runs.done, runs.doing.most, runs.doing.longest) == ("logs.rotate", 1, 45_000, 8)
    assert report.approving.most == 10 * MINUTE + 1000
    (person,) = report.people
    assert (person.principal, person.deciding.most, person.quick) == ("dana", 10 * MINUTE, 0)
    assert (report.outcomes.ended, report.outcomes.success_per_mille, report.outcomes.open) == (1, 1000, 0)
    assert report.gaps == ()
    assert "not enough data for a rate (n=1)" in rules(report)["success"]
    assert "waiting for approvals" in rules(report)["where-time-goes"]


def test_every_ending_counts_under_its_stage_and_every_refusal_under_its_code() -> None:
    book = Logbook()
    for _ in range(3):
        book.until(Stage.COMPLETED)
    book.until(Stage.ROLLED_BACK)
    for code in ("nothing-fits", "nothing-fits", "forbidden"):
        refused = e.PlanRefused(code=code, reasons=("No.",))
        book.add(refused, Branch.LEGISLATIVE, AGENTS[Branch.LEGISLATIVE], book.request())
    op = book.request()
    book.plan(op)
    book.add(e.OperationExpired(code="plan-expired", reasons=("Late.",)), Branch.LEGISLATIVE, "triad", op)
    op = book.request()
    book.plan(op, assent=True)
    book.approve(op)
    book.rule(op, Ruling.VETO)
    report = analysed(book)
    assert {each.name: each.n for each in report.outcomes.by_stage} == {
        "completed": 3,
        "refused": 3,
        "expired": 1,
        "rolled_back": 1,
        "vetoed": 1,
    }
    assert report.outcomes.success_per_mille == 333
    newest = max(n for n, data in enumerate(book.entries) if b'"code":"nothing-fits"' in data)
    assert [(each.kind, each.code, each.n) for each in report.refusals] == [
        ("plan.refused", "nothing-fits", 2),
        ("operation.expired", "plan-expired", 1),
        ("plan.refused", "forbidden", 1),
    ]
    assert report.refusals[0].newest == newest
    assert [(each.name, each.n) for each in report.rollbacks] == [("check", 1)]
    assert (report.restored, report.not_restored) == (1, 0)
    assert "1 after a check that failed" in rules(report)["rollbacks"]
    assert "1 of 9 operations" in rules(report)["expired"]


def test_tokens_are_summed_by_model_and_branch() -> None:
    book = Logbook()
    for read, written in ((100, 10), (200, 20)):
        op = book.request()
        book.plan(op, model="openai-chat:large", tokens=Tokens(input=read, output=written))
    report = analysed(book)
    (line,) = report.tokens
    assert (line.model, line.branch, line.calls, line.input, line.output) == (
        "openai-chat:large",
        "legislative",
        2,
        300,
        30,
    )
    assert "330 tokens in 2 calls" in rules(report)["tokens"]


def test_a_rollback_goes_back_to_what_caused_it() -> None:
    book = Logbook()
    for passed, judged, outcome in ((False, True, "finished"), (False, True, "failed"), (True, False, "finished")):
        op = book.until(Stage.RUNNING)
        book.step(op, 1)
        book.finish(op, outcome)  # type: ignore[arg-type] # one of the literals
        book.check(op, 1, passed=passed)
        book.verdict(op, passed=passed and judged, judged_passed=judged, rollback=True)
        book.rule(op, Ruling.ROLLBACK)
        book.order(op, 1)
    op = book.until(Stage.EVALUATED)
    book.rule(op, Ruling.ESCALATE)
    book.resolve(op, "rollback")
    book.order(op, 1)
    assert {each.name: each.n for each in analysed(book).rollbacks} == {
        "check": 1,
        "execution": 1,
        "judgment": 1,
        "escalation": 1,
    }


@pytest.mark.parametrize(
    ("stage", "seconds", "kind", "waits"),
    [
        (Stage.REQUESTED, 300, "operation-silent", "planner"),
        (Stage.PLANNED, 4 * 3600, "operation-waits", "people"),
        (Stage.APPROVED, 300, "operation-silent", "worker"),
        (Stage.RUNNING, 1800, "operation-silent", "worker"),
        (Stage.EXECUTED, 900, "operation-silent", "evaluator"),
        (Stage.EVALUATED, 300, "operation-silent", "crown"),
        (Stage.ROLLING_BACK, 1800, "operation-silent", "worker"),
    ],
)
def test_an_operation_is_silent_too_long_after_its_stages_limit_and_not_before(
    stage: Stage, seconds: int, kind: str, waits: str
) -> None:
    book = Logbook()
    op = book.until(stage, minutes=600) if stage in {Stage.PLANNED, Stage.APPROVED} else book.until(stage)
    if stage is Stage.APPROVED:
        assert book.ops[op].approvals
    assert analysed(book, idle=timedelta(seconds=seconds)).gaps == ()
    (gap,) = analysed(book, idle=timedelta(seconds=seconds, milliseconds=1)).gaps
    assert (gap.kind, gap.waits_for, gap.operation, gap.stage) == (kind, waits, op, stage.value)
    assert gap.index == len(book.entries) - 1
    assert gap.silent == gap.limit + 1


def test_a_plan_whose_time_is_over_waits_for_code_and_no_longer_for_people() -> None:
    book = Logbook()
    book.until(Stage.PLANNED, minutes=60)
    assert analysed(book, idle=timedelta(minutes=64)).gaps == ()
    (gap,) = analysed(book, idle=timedelta(minutes=66)).gaps
    assert (gap.kind, gap.waits_for) == ("operation-silent", "worker")


def test_approvals_that_ran_out_are_missing_again_and_the_requesters_own_never_counts() -> None:
    book = Logbook()
    op = book.request()
    book.plan(op, quorum=2, minutes=6000)
    book.approve(op, "dana", minutes=10)
    book.approve(op, "ada", minutes=6000)
    book.approve(op, "eve", minutes=6000)
    (gap,) = analysed(book, idle=timedelta(hours=5)).gaps
    assert gap.kind == "operation-waits"
    assert "1 approval is missing" in gap.sentence


def test_an_operation_waits_for_its_window_without_being_missed() -> None:
    book = Logbook()
    op = "op_" + "1" * 26
    ahead = REQUEST.model_copy(update={"scheduled_time": book.at + timedelta(hours=48)})
    book.add(e.OperationRequested(request=ahead, requester=ADA), Branch.PEOPLE, "ada", op)
    book.plan(op, minutes=6000)
    book.approve(op, minutes=6000)
    book.approved(op)
    assert analysed(book, idle=timedelta(hours=47)).gaps == ()
    (gap,) = analysed(book, idle=timedelta(hours=49)).gaps
    assert (gap.kind, gap.waits_for) == ("operation-silent", "worker")
    assert HOUR - MINUTE < gap.silent < HOUR + MINUTE


def test_under_the_crowns_halt_nothing_is_missed_but_the_release() -> None:
    book = Logbook()
    book.until(Stage.RUNNING)
    worked(book, 30)
    book.crown(halt=True)
    assert analysed(book, idle=timedelta(minutes=50)).gaps == ()
    late = analysed(book, idle=timedelta(hours=2))
    assert kinds(late) == ["operation-waits"]
    assert late.gaps[0].waits_for == "release"
    assert late.halted == 2 * HOUR
    book.at += timedelta(minutes=30)
    book.crown(halt=False)
    assert analysed(book).halted == 30 * MINUTE + 7


def test_an_act_without_an_outcome_is_told_with_its_age_and_whether_it_is_in_doubt() -> None:
    book = Logbook()
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    book.intent(op, warrant)
    index = len(book.entries) - 1
    young = analysed(book, idle=timedelta(minutes=5))
    assert [(each.index, each.in_doubt, each.age) for each in young.intents] == [(index, False, 5 * MINUTE)]
    assert young.gaps == ()
    assert "intent-open" in kinds(analysed(book, idle=timedelta(hours=1)))
    book.outcome(op, warrant, "in_doubt")
    doubtful = analysed(book, idle=timedelta(minutes=5))
    assert [(each.index, each.in_doubt) for each in doubtful.intents] == [(index, True)]
    assert "1 act is in doubt" in rules(doubtful)["in-doubt"]
    book.reconcile(op)
    assert analysed(book).intents == ()


def test_an_idle_system_is_never_alarmed_however_long_it_is_idle() -> None:
    book = Logbook()
    worked(book, 40)
    later(book, days=30)
    book.add(e.AccessDenied(action="halt", code="forbidden", reasons=("No.",)), Branch.PEOPLE, "mallory")
    report = analysed(book, idle=timedelta(days=300))
    assert report.gaps == ()
    assert {each.silent for each in report.silences} == {0}


def test_work_that_only_just_came_to_an_idle_system_is_no_reason_for_alarm() -> None:
    book = Logbook()
    worked(book, 40)
    later(book, days=30)
    book.request()
    assert analysed(book, idle=timedelta(minutes=4)).gaps == ()


def test_a_part_that_stopped_while_work_waited_is_told_once_and_by_its_widest_name() -> None:
    book = Logbook()
    worked(book, 40)
    stuck = book.until(Stage.EXECUTED)
    for _ in range(8):  # the others go on: only what evaluates is silent
        later(book, minutes=3)
        other = book.request()
        book.add(e.PlanRefused(code="nothing-fits", reasons=("No.",)), Branch.LEGISLATIVE, "triad", other)
    report = analysed(book)
    parts = [gap for gap in report.gaps if gap.kind == "part-silent"]
    assert [gap.part for gap in parts] == ["branch judicial"]
    assert parts[0].silent > 15 * MINUTE
    assert [gap.operation for gap in report.gaps if gap.kind == "operation-silent"] == [stuck]
    everything = analysed(book, idle=timedelta(hours=1))
    assert [gap.part for gap in everything.gaps if gap.kind == "part-silent"] == ["log"]
    assert report.insights[0].weight == 4


def test_a_part_is_not_said_to_have_stopped_from_too_few_silences_or_within_its_own_habits() -> None:
    thin = Logbook()
    thin.until(Stage.EXECUTED)
    assert "part-silent" not in kinds(analysed(thin, idle=timedelta(days=2)))
    slow = Logbook()
    for _ in range(40):
        op = slow.until(Stage.EXECUTED)
        later(slow, hours=1)
        slow.check(op, 1)
        slow.verdict(op)
        slow.rule(op, Ruling.COMPLETE)
    slow.until(Stage.EXECUTED)
    assert "part-silent" not in kinds(analysed(slow, idle=timedelta(hours=2)))
    assert "part-silent" in kinds(analysed(slow, idle=timedelta(hours=4)))


def test_a_clock_that_was_set_back_shows_and_a_quiet_night_does_not() -> None:
    book = Logbook()
    later(book, hours=9)
    for _ in range(30):
        book.add(
            e.AccessDenied(action="halt", code="forbidden", reasons=("No.",)), Branch.PEOPLE, "mallory", time=book.at
        )
        book.at -= timedelta(milliseconds=7)
    assert analysed(book).gaps == ()
    (gap,) = analysed(book, thresholds=Thresholds(held_entries=20)).gaps
    assert gap.kind == "time-held"
    denied = e.AccessDenied(action="halt", code="forbidden", reasons=("No.",))
    index = book.add(denied, Branch.PEOPLE, "mallory", time=book.at - timedelta(hours=1))
    book.add(denied, Branch.PEOPLE, "mallory")
    back = analysed(book)
    assert [(gap.kind, gap.index) for gap in back.gaps] == [("time-backward", index)]
    assert back.insights[0].rule == "time-backward"


def test_small_differences_do_not_shout_and_large_ones_are_told_with_their_test() -> None:
    def book_of(first: int, second: int) -> tuple[Logbook, datetime, datetime]:
        book = Logbook()
        start = book.at
        for _ in range(first):
            book.add(e.AccessDenied(action="halt", code="forbidden", reasons=("No.",)), Branch.PEOPLE, "mallory")
        book.at = start + timedelta(hours=1)
        for _ in range(second):
            book.add(e.AccessDenied(action="halt", code="forbidden", reasons=("No.",)), Branch.PEOPLE, "mallory")
        return book, start, start + timedelta(hours=1)

    book, before, since = book_of(2, 6)
    assert "refusals-rose" not in rules(analysed(book, since=since, before=before))
    book, before, since = book_of(2, 30)
    report = analysed(book, since=since, before=before)
    assert rules(report)["refusals-rose"].startswith("auth.denied forbidden rose to 30 from 2;")
    (told,) = (each for each in report.insights if each.rule == "refusals-rose")
    assert "p < 0.001" in told.how
    assert told.entries == (len(book.entries) - 1,)
    assert report.before is not None
    assert report.before.refusals == 2


def test_a_success_rate_that_fell_is_told_with_both_counts() -> None:
    book = Logbook()
    start = book.at
    worked(book, 20, seconds=1)
    book.at = start + timedelta(hours=1)
    for _ in range(10):
        book.until(Stage.ROLLED_BACK)
    report = analysed(book, since=start + timedelta(hours=1), before=start)
    assert "fell to 0.0 % (0 of 10) from 100.0 % (20 of 20)" in rules(report)["success-changed"]


def test_a_playbook_that_fails_more_than_the_others_is_named() -> None:
    book = Logbook()
    op = book.until(Stage.RUNNING)
    for playbook, kind in [("logs.rotate", "done")] * 30 + [("cache.clear", "failed")] * 6:
        warrant = book.warrant(op, 1)
        book.intent(op, warrant, playbook=playbook)
        book.outcome(op, warrant, kind)
    report = analysed(book)
    assert rules(report)["playbook-fails"].startswith("cache.clear fails more often than the others: 6 of 6 attempts")
    assert "retries" in rules(report)


def test_a_load_that_lies_on_one_person_and_quick_decisions_are_told_as_numbers() -> None:
    book = Logbook()
    for number in range(12):
        op = book.request()
        book.plan(op)
        later(book, seconds=2)
        book.approve(op, "eve" if number == 5 else "dana")
    report = analysed(book)
    assert "dana decided 91.6 %" in rules(report)["one-approver"]
    assert "half of them within 2.0 s" in rules(report)["quick-decisions"]
    assert "11 within 10 s" in rules(report)["quick-decisions"]
    slow = Logbook()
    for _ in range(12):
        op = slow.request()
        slow.plan(op)
        later(slow, minutes=2)
        slow.approve(op, "dana")
    assert not {"one-approver", "quick-decisions"} & rules(analysed(slow)).keys()


def test_what_only_a_model_or_a_witness_did_is_told() -> None:
    book = Logbook()
    fell = e.AgentDegraded(role=Branch.LEGISLATIVE, model="openai-chat:large", fallback="rules", code="timeout")
    book.add(fell, Branch.LEGISLATIVE, AGENTS[Branch.LEGISLATIVE])
    refused = e.WitnessRefused(witness="w.example", code="fork", size=3, seen=2, reasons=("Another root.",))
    book.add(refused, Branch.PEOPLE, "triad")
    report = analysed(book)
    assert report.insights[0].rule == "witness-refused"
    assert "most often for timeout (1)" in rules(report)["degraded"]


def test_an_empty_range_says_so_and_nothing_else() -> None:
    book = Logbook()
    worked(book, 3)
    report = analysed(book, since=book.at + timedelta(hours=1), idle=timedelta(hours=2))
    assert list(rules(report)) == ["nothing"]
    assert (report.entries, report.kinds, report.slices, report.outcomes.success_per_mille) == (0, (), (), None)


def test_filters_count_what_they_name_and_nothing_else() -> None:
    book = Logbook()
    op = book.until(Stage.COMPLETED)
    other = book.until(Stage.RUNNING)
    warrant = book.warrant(other, 1, system="shop-cache")
    book.intent(other, warrant, playbook="cache.clear", system="shop-cache")
    book.outcome(other, warrant)
    assert [(each.name, each.done) for each in analysed(book, playbook="cache.clear").playbooks] == [("cache.clear", 1)]
    assert [(each.name, each.done) for each in analysed(book, system="shop-logs").systems] == [("shop-logs", 2)]
    assert {each.name for each in analysed(book, branch="judicial").branches} == {"judicial"}
    assert {each.name for each in analysed(book, principal="dana").principals} == {"dana"}
    mine = analysed(book, operation=op)
    assert mine.entries == sum(op.encode() in data for data in book.entries)
    assert (mine.outcomes.open, mine.silences) == (0, ())


def test_the_same_entries_give_the_same_bytes_and_the_bytes_are_the_report() -> None:
    book = Logbook()
    worked(book, 3)
    book.until(Stage.RUNNING)
    one, two = analysed(book, idle=timedelta(hours=1)), analysed(book, idle=timedelta(hours=1))
    assert digest_of(one) == digest_of(two)
    assert Report.model_validate_json(body_of(one)) == one
    assert digest_of(analysed(book, idle=timedelta(hours=2))) != digest_of(one)


def test_text_from_the_record_cannot_pass_for_the_documents_own() -> None:
    book = Logbook()
    op = book.until(Stage.RUNNING)
    warrant = book.warrant(op, 1)
    book.intent(op, warrant)
    evil = e.StepFailed(
        warrant=warrant,
        step=1,
        attempt=1,
        direction=Direction.DO,
        code="x |\n# All is well <script>",
        changed=False,
        reasons=("No.",),
    )
    book.add(evil, Branch.EXECUTIVE, "triad", op)
    text = document(analysed(book), "0" * 64)
    assert "\n# All is well" not in text
    assert r"x \| \# All is well \<script\>" in text
    assert text.count("\n# ") == 0
    assert text.startswith("# ")


@pytest.mark.parametrize(("one", "two"), [*product(range(12), repeat=2), (3, 30), (200, 260), (499, 401)])
def test_counts_are_compared_by_the_exact_binomial_test(one: int, two: int) -> None:
    n = one + two
    tail = 2 * sum(Fraction(comb(n, k), 2**n) for k in range(min(one, two) + 1))
    assert counts_differ(one, two) == sum(tail < Fraction(1, level) for level in LEVELS) == counts_differ(two, one)


@pytest.mark.parametrize(("one", "two"), [*product(range(0, 9, 2), range(0, 13, 3))])
def test_shares_are_compared_by_fishers_exact_test(one: int, two: int) -> None:
    def chance(k: int) -> Fraction:
        return Fraction(comb(8, k) * comb(12, one + two - k), comb(20, one + two))

    all_of_them = [chance(k) for k in range(min(8, one + two) + 1) if one + two - k <= 12]
    tail = sum(each for each in all_of_them if each <= chance(one))
    assert shares_differ(one, 8, two, 12) == sum(tail < Fraction(1, level) for level in LEVELS)


def test_beyond_a_thousand_events_the_statistic_takes_over_without_a_jump() -> None:
    assert [counts_differ(500 + d, 500 - d) for d in (0, 25, 35, 45, 60)] == [0, 0, 1, 2, 3]
    assert [counts_differ(501 + d, 500 - d) for d in (0, 25, 35, 45, 60)] == [0, 0, 1, 2, 3]
    assert shares_differ(90, 1000, 100, 1000) == 0
    assert shares_differ(50, 1000, 100, 1000) == 3
    assert shares_differ(1, 2, 0, 0) == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("90min", NOW - timedelta(minutes=90)),
        (" 7D ", NOW - timedelta(days=7)),
        ("30s", NOW - timedelta(seconds=30)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T17:00:00Z", NOW - timedelta(hours=1)),
        ("2026-11-20t18:30+02:00", NOW - timedelta(minutes=90)),
        ("2026-11-20 17:59:59.123456", datetime(2026, 11, 20, 17, 59, 59, 123_000, tzinfo=UTC)),
        ("begin", None),
    ],
)
def test_times_are_read_as_people_write_them(text: str, found: datetime | None) -> None:
    assert moment(text, NOW, "since") == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "-24h", "24", "1y", "999999w", "1.5h", "2026-13-01", "2026-11-20T25:00:00Z"),
        *("\u0662\u0664h", "20261120", "0001-01-01T00:00:00+23:00", "24h; drop", "2026-W01-1"),
    ],
)
def test_other_texts_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        moment(text, NOW, "until")
    assert (caught.value.code, caught.value.field) == ("invalid-field", "until")
    assert not text or text not in caught.value.reasons[0].replace("24h, 7d", "")


def test_a_range_has_few_buckets_by_itself_and_never_too_many() -> None:
    for hours in (1, 5, 24, 24 * 7, 24 * 60, 24 * 365, 24 * 3650):
        assert hours * 3600 / bucket_of(None, timedelta(hours=hours)) <= 500
    assert bucket_of(None, timedelta(hours=1)) == 60
    assert bucket_of(None, timedelta(hours=24)) == 3600
    for name, seconds in BUCKETS.items():
        assert bucket_of(name, timedelta(seconds=seconds * 500)) == seconds
        with pytest.raises(InvalidRequest, match="bucket"):
            bucket_of(name, timedelta(seconds=seconds * 500 + 1))
    with pytest.raises(InvalidRequest, match="bucket"):
        bucket_of("2h", timedelta(hours=1))


def test_figures_are_spelled_as_people_say_them() -> None:
    spelled = [spell(n) for n in (0, 999, 1000, 59_999, MINUTE, 5 * MINUTE + 20_000, 2 * HOUR, 26 * HOUR, 50 * HOUR)]
    assert spelled == ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min", "5 min 20 s", "2 h", "1 d 2 h", "2 d 2 h"]
    assert (percent(1, 3), percent(0, 0), count(1, "entry", "entries"), count(2000, "time")) == (
        "33.3 %",
        "-",
        "1 entry",
        "2,000 times",
    )


PAGE = (Path(__file__).parent.parent / "docs" / "operations" / "analytics.md").read_text()


def test_the_page_names_every_rule_with_its_weight_and_every_gap() -> None:
    source = Path(str(insights.__file__)).read_text()
    table = PAGE[PAGE.index("## Rules") : PAGE.index("## Stored reports")]
    written = {rule for row in table.splitlines() for rule in re.findall(r"`([a-z-]+)`", row)}
    assert written == {*re.findall(r'rule="([a-z-]+)"', source), *insights._GAPS}
    for kind, weight in insights._GAPS.items():
        assert re.search(rf"^\| {WEIGHTS[weight]} \|.*`{kind}`", table, re.MULTILINE)
        assert f"\n| `{kind}` | " in PAGE


def test_the_page_names_every_bucket_and_only_thresholds_that_exist() -> None:
    assert all(f"`{name}`" in PAGE for name in BUCKETS)
    assert set(re.findall(r"`analytics\.([a-z_]+)`", PAGE)) <= Thresholds.model_fields.keys()
