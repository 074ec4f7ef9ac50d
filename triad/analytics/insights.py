"""What the figures say, in sentences. Fixed rules, no model: each names its figures, its evidence and how it was found.

A difference from the range before is told only when chance alone makes one as large in fewer than 1 of 100 such
comparisons; where there are too few cases for a share, the sentence says how few.
"""

from collections.abc import Iterator
from typing import Final

from operations.stages import Stage
from triad.analytics.chance import WORDS, counts_differ, shares_differ
from triad.analytics.fact import milliseconds
from triad.analytics.measures import Durations
from triad.analytics.period import Period
from triad.analytics.records import Insight, Person, Report
from triad.analytics.spelling import count, percent, spell

MOST: Final = 40
"""Insights that a report lists."""
_ENOUGH: Final = 5
"""Cases from which on a share is told as one."""
_SURE: Final = 2
"""Of `chance.LEVELS`: 0.01."""
_TOLD: Final = 5
"""Examples that a sentence names."""
_NOW, _SOON, _KNOW, _RECORD = 4, 3, 2, 1
_GAPS: Final = {
    "time-backward": _NOW,
    "time-held": _SOON,
    "part-silent": _NOW,
    "intent-open": _NOW,
    "operation-silent": _SOON,
    "operation-waits": _KNOW,
}
_TRIGGERS: Final = {
    "check": "after a check that failed",
    "execution": "after an execution that failed",
    "judgment": "by the evaluator's judgment",
    "crown": "by the crown over a verdict that passed",
    "escalation": "by a crown officer",
}
_NAMES: Final = {
    "requested": "to be planned",
    "planned": "for approvals",
    "approved": "to be started",
    "running": "for its steps",
    "executed": "to be evaluated",
    "evaluated": "for the ruling",
    "rolling_back": "for the rollback",
    "in_doubt": "in doubt",
    "halted": "halted",
    "escalated": "for a crown officer",
}


def insights(report: Report, within: Period, earlier: Period) -> tuple[Insight, ...]:
    """What the report's figures say, the weightiest first; equal weights in the order of the rules."""
    found = [
        *_gaps(report),
        *_witnesses(report),
        *_success(report, within, earlier),
        *_playbooks(report, within, earlier),
        *_refusals(report, within, earlier),
        *_rollbacks(report),
        *_volume(report, within, earlier),
        *_waits(report),
        *_expiry(within),
        *_people(report),
        *_models(report, within, earlier),
        *_halts(report),
        *_nothing(report),
    ]
    return tuple(sorted(found, key=lambda each: -each.weight)[:MOST])


def _gaps(report: Report) -> Iterator[Insight]:
    for kind, weight in _GAPS.items():
        found = [gap for gap in report.gaps if gap.kind == kind]
        if not found:
            continue
        more = f" And {len(found) - 1:,} more of this kind." if len(found) > 1 else ""
        limit = f"; limit {spell(found[0].limit)}" if found[0].limit else ""
        yield Insight(
            rule=kind,
            weight=weight,
            sentence=found[0].sentence + more,
            how=f"the state after entry {report.scope.end - 1} at the end of the range{limit}",
            entries=tuple(gap.index for gap in found[:_TOLD] if gap.index is not None),
            operations=tuple(gap.operation for gap in found[:_TOLD] if gap.operation is not None),
        )
    waiting = [gap for gap in report.gaps if gap.kind == "operation-waits"]
    doubtful = [each for each in report.intents if each.in_doubt]
    if doubtful and not any(gap.kind == "intent-open" for gap in report.gaps):
        oldest = doubtful[0]
        yield Insight(
            rule="in-doubt",
            weight=_SOON,
            sentence=f"{count(len(doubtful), 'act is', 'acts are')} in doubt, the oldest since {spell(oldest.age)}: "
            f"step {oldest.step} of {oldest.operation}.",
            how="intents declared in doubt and not reconciled at the end of the range",
            entries=tuple(each.index for each in doubtful[:_TOLD]),
            operations=tuple(each.operation for each in doubtful[:_TOLD]),
        )
    if not waiting and report.outcomes.open:
        yield Insight(
            rule="open",
            weight=_RECORD,
            sentence=f"{count(report.outcomes.open, 'operation was', 'operations were')} under way at the end.",
            how="operations that had begun and not ended at the end of the range",
        )


def _witnesses(report: Report) -> Iterator[Insight]:
    for each in report.refusals:
        if each.kind == "witness.refused":
            yield Insight(
                rule="witness-refused",
                weight=_NOW,
                sentence=f"A witness refused this log's checkpoint {count(each.n, 'time')} ({each.code}).",
                how="entries witness.refused; docs/runbooks/ledger-does-not-verify.md",
                entries=(each.newest,),
            )


def _success(report: Report, within: Period, earlier: Period) -> Iterator[Insight]:
    done, ended = within.endings[Stage.COMPLETED], within.ended
    if not ended:
        return
    before, ended_before = earlier.endings[Stage.COMPLETED], earlier.ended
    level = shares_differ(done, ended, before, ended_before) if report.before else 0
    others = ", ".join(f"{line.n} {line.name}" for line in report.outcomes.by_stage if line.name != Stage.COMPLETED)
    rest = f"; the others: {others}" if others else ""
    if level >= _SURE:
        fell = done * ended_before < before * ended
        yield Insight(
            rule="success-changed",
            weight=_SOON if fell else _KNOW,
            sentence=f"The share of operations that were completed {'fell' if fell else 'rose'} to "
            f"{percent(done, ended)} ({done} of {ended}) from {percent(before, ended_before)} ({before} of "
            f"{ended_before}){rest}.",
            how=f"Fisher's exact test against the range before, two-sided: {WORDS[level]}",
        )
    elif ended < _ENOUGH:
        yield Insight(
            rule="success",
            weight=_RECORD,
            sentence=f"{done} of {count(ended, 'operation')} that ended were completed{rest}; not enough data for a "
            f"rate (n={ended}).",
            how=f"endings in the range; a rate is told from n={_ENOUGH} on",
        )
    else:
        compared = _compared(ended_before) if report.before else ""
        yield Insight(
            rule="success",
            weight=_RECORD,
            sentence=f"{percent(done, ended)} of the operations that ended were completed ({done} of {ended}){rest}"
            f"{compared}.",
            how="endings in the range",
        )


def _compared(ended_before: int) -> str:
    if ended_before < _ENOUGH:
        return f"; the range before is too thin to compare with (n={ended_before})"
    return f"; the range before does not differ beyond chance (n={ended_before})"


def _playbooks(report: Report, within: Period, earlier: Period) -> Iterator[Insight]:
    for line in report.playbooks:
        tried = line.done + line.failed
        if not line.failed:
            continue
        then = earlier.playbooks[line.name].outcomes if line.name in earlier.playbooks else None
        failed_then, tried_then = (then["failed"], then["done"] + then["failed"]) if then else (0, 0)
        level = shares_differ(line.failed, tried, failed_then, tried_then)
        worse = line.failed * tried_then > failed_then * tried
        rest_failed = sum(each.failed for each in report.playbooks) - line.failed
        rest_tried = sum(each.done + each.failed for each in report.playbooks) - tried
        against = shares_differ(line.failed, tried, rest_failed, rest_tried)
        if level >= _SURE and worse:
            yield Insight(
                rule="playbook-worse",
                weight=_SOON,
                sentence=f"{line.name} fails more often than before: {line.failed} of {tried} attempts "
                f"({percent(line.failed, tried)}) after {failed_then} of {tried_then}.",
                how=f"Fisher's exact test against the range before, two-sided: {WORDS[level]}",
                entries=_newest_failures(report),
            )
        elif against >= _SURE and line.failed * rest_tried > rest_failed * tried:
            yield Insight(
                rule="playbook-fails",
                weight=_SOON,
                sentence=f"{line.name} fails more often than the others: {line.failed} of {tried} attempts "
                f"({percent(line.failed, tried)}), the others {rest_failed} of {rest_tried}.",
                how=f"Fisher's exact test against the other playbooks, two-sided: {WORDS[against]}",
                entries=_newest_failures(report),
            )
    retried = sum(line.retries for line in report.playbooks)
    attempts = sum(runs.outcomes.n for runs in within.playbooks.values())
    if attempts >= 4 * _ENOUGH and retried * 10 >= attempts:
        yield Insight(
            rule="retries",
            weight=_KNOW,
            sentence=f"{percent(retried, attempts)} of the attempts at steps were not the first ({retried} of "
            f"{attempts}).",
            how="intents with an attempt above 1, of all outcomes; told from 10 % and n=20 on",
        )


def _newest_failures(report: Report) -> tuple[int, ...]:
    return tuple(each.newest for each in report.refusals if each.kind == "step.failed")[:_TOLD]


def _refusals(report: Report, within: Period, earlier: Period) -> Iterator[Insight]:
    for each in report.refusals:
        if each.kind == "witness.refused" or report.before is None:
            continue
        then = earlier.refusals[each.kind, each.code].n if (each.kind, each.code) in earlier.refusals else 0
        level = counts_differ(each.n, then)
        if level >= _SURE and each.n > then:
            yield Insight(
                rule="refusals-rose",
                weight=_SOON,
                sentence=f"{each.kind} {each.code} rose to {each.n} from {then}; the newest is entry {each.newest}.",
                how=f"exact test of two counts over equal times, two-sided: {WORDS[level]}",
                entries=(each.newest,),
                operations=(each.operation,) if each.operation else (),
            )
    if within.refused and report.refusals:
        first = report.refusals[0]
        yield Insight(
            rule="refusals",
            weight=_RECORD,
            sentence=f"{count(within.refused, 'refusal')}, most often {first.kind} {first.code} ({first.n} of "
            f"{within.refused}).",
            how="entries that say no, by kind and code",
            entries=(first.newest,),
        )


def _rollbacks(report: Report) -> Iterator[Insight]:
    ordered = sum(line.n for line in report.rollbacks)
    if report.not_restored:
        yield Insight(
            rule="not-restored",
            weight=_NOW,
            sentence=f"{count(report.not_restored, 'rollback')} did not bring every system back "
            f"({report.restored} did).",
            how="entries rollback.done with restored false",
        )
    if ordered:
        by = ", ".join(f"{line.n} {_TRIGGERS.get(line.name, line.name)}" for line in report.rollbacks)
        yield Insight(
            rule="rollbacks",
            weight=_KNOW,
            sentence=f"{count(ordered, 'rollback was', 'rollbacks were')} ordered: {by}; {report.restored} restored "
            "everything.",
            how="entries rollback.ordered, by the verdict, report or escalation they go back to",
        )


def _volume(report: Report, within: Period, earlier: Period) -> Iterator[Insight]:
    if report.before is None:
        return
    level = counts_differ(within.requested, earlier.requested)
    if level >= _SURE:
        word = "More" if within.requested > earlier.requested else "Fewer"
        yield Insight(
            rule="volume-changed",
            weight=_KNOW,
            sentence=f"{word} operations were requested: {within.requested} after {earlier.requested}.",
            how=f"exact test of two counts over equal times, two-sided: {WORDS[level]}",
        )


def _waits(report: Report) -> Iterator[Insight]:
    total = sum(line.total for line in report.stays)
    if not total:
        return
    longest = max(report.stays, key=lambda line: (line.total, line.name))
    name = _NAMES.get(longest.name, longest.name)
    few = "" if longest.n >= _ENOUGH else f"; not enough data for more (n={longest.n})"
    yield Insight(
        rule="where-time-goes",
        weight=_KNOW if longest.n >= _ENOUGH else _RECORD,
        sentence=f"{percent(longest.total, total)} of the operations' time was spent {_doing(name)}: "
        f"{spell(longest.total)} in all, half at most {spell(longest.p50)}, 95 of 100 at most {spell(longest.p95)} "
        f"(n={longest.n}){few}.",
        how="time in each stage, counted when it was left",
        entries=(longest.longest,),
    )


def _doing(name: str) -> str:
    return f"waiting {name}" if name.startswith(("to ", "for ")) else name


def _expiry(within: Period) -> Iterator[Insight]:
    expired, ended = within.endings[Stage.EXPIRED], within.ended
    if expired:
        example = max(
            (each.index for (kind, _), each in within.refusals.items() if kind == "operation.expired"), default=None
        )
        yield Insight(
            rule="expired",
            weight=_KNOW,
            sentence=f"{expired} of {count(ended, 'operation')} that ended ran out of time because nobody decided.",
            how="endings at stage expired",
            entries=(example,) if example is not None else (),
        )


def _people(report: Report) -> Iterator[Insight]:
    loads = [(each, _approvals(each)) for each in report.people]
    total = sum(n for _, n in loads)
    if total >= 2 * _ENOUGH:
        person, most = max(loads, key=lambda item: (item[1], item[0].principal))
        if most * 10 >= total * 7 and len(loads) > 1:
            yield Insight(
                rule="one-approver",
                weight=_KNOW,
                sentence=f"{person.principal} decided {percent(most, total)} of the plans that people decided "
                f"({most} of {total}).",
                how="entries approval.given and approval.refused, by principal; told from 70 % and n=10 on",
            )
    for person, _ in loads:
        took: Durations = person.deciding
        if took.n >= _ENOUGH and took.p50 < report.thresholds.quick_seconds * 1000:
            yield Insight(
                rule="quick-decisions",
                weight=_KNOW,
                sentence=f"{person.principal} decided {count(took.n, 'plan')}, half of them within {spell(took.p50)} "
                f"of the plan; {person.quick} within {report.thresholds.quick_seconds} s.",
                how="from plan.proposed to the decision; a figure about time, not about care",
                entries=(took.longest,),
            )
    if report.approving.n:
        waited = report.approving
        few = "" if waited.n >= _ENOUGH else f"; not enough data for more (n={waited.n})"
        yield Insight(
            rule="approvals",
            weight=_RECORD,
            sentence=f"Approvals took {spell(waited.p50)} for half of the plans, {spell(waited.p95)} for 95 of 100, "
            f"{spell(waited.most)} at most (n={waited.n}){few}.",
            how="from plan.proposed to operation.approved, where people were needed",
            entries=(waited.longest,),
        )


def _approvals(person: Person) -> int:
    return sum(line.n for line in person.decisions if line.name in {"approved", "refused"})


def _models(report: Report, within: Period, earlier: Period) -> Iterator[Insight]:
    degraded = sum(each.n for each in report.degraded)
    if degraded:
        first = report.degraded[0]
        yield Insight(
            rule="degraded",
            weight=_SOON,
            sentence=f"{count(degraded, 'time')} a model did not answer and the offline rules did, most often for "
            f"{first.code} ({first.n}).",
            how="entries agent.degraded, by code",
            entries=(first.newest,),
        )
    used = sum(each.input + each.output for each in report.tokens)
    then = sum(read + written for _, read, written in earlier.tokens.values())
    calls, calls_then = within.models.n, earlier.models.n
    if used:
        compared = f"; {then:,} in the range before ({calls_then} calls)" if report.before else ""
        dearest = report.tokens[0]
        yield Insight(
            rule="tokens",
            weight=_RECORD,
            sentence=f"{used:,} tokens in {calls} calls, most of them {dearest.model} for the {dearest.branch} branch "
            f"({percent(dearest.input + dearest.output, used)}){compared}.",
            how="tokens that entries name, by model and branch",
        )


def _halts(report: Report) -> Iterator[Insight]:
    if report.halts or report.halted:
        length = milliseconds(report.scope.until) - milliseconds(report.scope.since)
        yield Insight(
            rule="halts",
            weight=_KNOW,
            sentence=f"The crown halted everything {count(report.halts, 'time')}; {spell(report.halted)} of the range "
            f"({percent(report.halted, length)}) were under a halt.",
            how="from crown.halted to crown.released",
        )


def _nothing(report: Report) -> Iterator[Insight]:
    if not report.entries:
        yield Insight(
            rule="nothing",
            weight=_RECORD,
            sentence="Nothing was recorded in this range that was asked for.",
            how="entries in the range",
        )
