"""From what was counted to the report: every line in a fixed order, so that its bytes are the same again."""

from collections.abc import Mapping
from typing import Final

from operations.canonical import canonical_record, sha256
from operations.stages import Stage
from triad.analytics import period as p
from triad.analytics.fact import instant, milliseconds
from triad.analytics.fold import Fold
from triad.analytics.gaps import MOST, followed, gaps, intents, silences
from triad.analytics.insights import insights
from triad.analytics.measures import SHOWN
from triad.analytics.records import (
    Before,
    ModelTokens,
    Outcomes,
    Person,
    Refusals,
    Report,
    Runs,
    Scope,
    Slice,
    Thresholds,
)
from triad.analytics.spelling import per_mille

_STAYS: Final = tuple(stage.value for stage in Stage)


def report_of(fold: Fold, scope: Scope, thresholds: Thresholds, *, origin: str, last: str | None) -> Report:
    """The report on everything that `fold` read.

    Args:
        fold: has read all entries before `scope.end`.
        scope: what was asked.
        thresholds: from when on a silence is worth a word.
        origin: the log's identity.
        last: leaf hash of the last entry that was read.
    """
    at, within = milliseconds(scope.until), fold.within
    plain = Report(
        origin=origin,
        scope=scope,
        last=last,
        thresholds=thresholds,
        entries=within.entries,
        kinds=within.kinds.named(),
        branches=within.branches.named(),
        principals=within.principals.named(),
        models=within.models.named(),
        types=within.types.named(),
        outcomes=_outcomes(fold),
        stays=tuple(within.stays[name].named(name) for name in _STAYS if name in within.stays),
        whole=within.whole.named("whole"),
        approving=within.approving.named("approving"),
        playbooks=_runs(within.playbooks),
        systems=_runs(within.systems),
        refusals=_refusals(within.refusals),
        degraded=_refusals(within.degraded),
        tokens=_tokens(within),
        rollbacks=within.triggers.named(),
        restored=within.undone["restored"],
        not_restored=within.undone["incomplete"],
        people=_people(within.people),
        halts=fold.halts,
        halted=fold.halted_until(at),
        slices=_slices(within),
        silences=tuple(silences(fold, at, thresholds)),
        intents=tuple(intents(fold, at)[:MOST]),
        gaps=tuple(gaps(fold, at, thresholds)[:MOST]),
        before=_before(fold, scope),
        insights=(),
    )
    return plain.model_copy(update={"insights": insights(plain, within, fold.earlier)})


def body_of(report: Report) -> bytes:
    """The report's canonical bytes: what is stored, and what its digest is over."""
    return canonical_record(report)


def digest_of(report: Report) -> str:
    """SHA-256 of its canonical bytes."""
    return sha256(body_of(report))


def _outcomes(fold: Fold) -> Outcomes:
    within = fold.within
    return Outcomes(
        requested=within.requested,
        emergencies=within.emergencies,
        ended=within.ended,
        by_stage=within.endings.named(),
        success_per_mille=per_mille(within.endings[Stage.COMPLETED], within.ended),
        open=len(followed(fold)),
        checks_failed=within.checks["failed"],
        verdicts_failed=within.verdicts["failed"],
    )


def _runs(group: Mapping[str, p.Runs]) -> tuple[Runs, ...]:
    found = [
        Runs(
            name=name,
            done=runs.outcomes["done"],
            failed=runs.outcomes["failed"],
            in_doubt=runs.outcomes["in_doubt"] + runs.outcomes["undo_in_doubt"],
            retries=runs.retries,
            undone=runs.outcomes["undo_done"],
            undo_failed=runs.outcomes["undo_failed"],
            doing=runs.doing.named("do"),
            undoing=runs.undoing.named("undo"),
        )
        for name, runs in group.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.done - each.failed - each.undone, each.name))[:SHOWN])


def _refusals(group: Mapping[tuple[str, str], p.Example]) -> tuple[Refusals, ...]:
    found = [
        Refusals(kind=kind, code=code, n=each.n, newest=each.index, operation=each.operation)
        for (kind, code), each in group.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.n, each.kind, each.code))[:SHOWN])


def _tokens(within: p.Period) -> tuple[ModelTokens, ...]:
    found = [
        ModelTokens(model=model, branch=branch, calls=calls, input=read, output=written)
        for (model, branch), (calls, read, written) in within.tokens.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.input - each.output, each.model, each.branch))[:SHOWN])


def _people(group: Mapping[str, p.Load]) -> tuple[Person, ...]:
    found = [
        Person(
            principal=name, decisions=load.decisions.named(), deciding=load.deciding.named("deciding"), quick=load.quick
        )
        for name, load in group.items()
    ]
    return tuple(sorted(found, key=lambda each: (-sum(line.n for line in each.decisions), each.principal))[:SHOWN])


def _slices(within: p.Period) -> tuple[Slice, ...]:
    return tuple(
        Slice(
            start=instant(start),
            entries=each.entries,
            requested=each.requested,
            ended=each.ended,
            completed=each.completed,
            refusals=each.refusals,
            steps=each.steps,
            tokens=each.tokens,
        )
        for start, each in sorted(within.buckets.items())
    )


def _before(fold: Fold, scope: Scope) -> Before | None:
    if scope.before is None:
        return None
    earlier = fold.earlier
    return Before(
        since=scope.before,
        entries=earlier.entries,
        requested=earlier.requested,
        ended=earlier.ended,
        completed=earlier.endings[Stage.COMPLETED],
        refusals=earlier.refused,
        steps_failed=sum(runs.outcomes["failed"] for runs in earlier.playbooks.values()),
    )
