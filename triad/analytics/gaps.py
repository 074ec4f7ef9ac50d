"""What should have gone on and did not, told apart from what waits for people, for its window or for a release."""

from collections.abc import Iterator
from typing import Final

from triad.analytics.course import MACHINES, Course, Waits
from triad.analytics.fold import Fold
from triad.analytics.records import Gap, OpenIntent, Silence, Thresholds
from triad.analytics.rhythm import LOG, NAMES, Rhythm
from triad.analytics.spelling import count, spell

MOST: Final = 200
"""Gaps, and open intents, that a report lists; the most serious, then the longest."""
_EXPECTED: Final = {
    Waits.PLANNER: "the planner is to answer",
    Waits.WORKER: "a worker is to carry it on",
    Waits.EVALUATOR: "the evaluator is to answer",
    Waits.CROWN: "the crown is to rule",
    Waits.PEOPLE: "people are to decide",
    Waits.WINDOW: "its time has not come",
    Waits.RELEASE: "the crown's halt is to be released",
}
_SERIOUS: Final = (
    "time-backward",
    "time-held",
    "part-silent",
    "intent-open",
    "operation-silent",
    "operation-waits",
)


def limit_of(course: Course, waits: Waits, thresholds: Thresholds) -> int:
    """Milliseconds of silence that are nothing special."""
    match course.stage:
        case "requested":
            seconds = thresholds.requested_seconds
        case "planned":
            seconds = thresholds.planned_seconds if waits is Waits.PEOPLE else thresholds.approved_seconds
        case "approved":
            seconds = thresholds.asked_seconds if waits is Waits.RELEASE else thresholds.approved_seconds
        case "running" | "rolling_back":
            seconds = thresholds.asked_seconds if waits is Waits.RELEASE else thresholds.running_seconds
        case "halted":
            seconds = thresholds.asked_seconds if waits is Waits.RELEASE else thresholds.approved_seconds
        case "executed":
            seconds = thresholds.executed_seconds
        case "evaluated":
            seconds = thresholds.evaluated_seconds
        case _:
            seconds = thresholds.asked_seconds
    return seconds * 1000


def intents(fold: Fold, at: int) -> list[OpenIntent]:
    """Acts without a known outcome, oldest first."""
    found = [
        OpenIntent(
            operation=course.ident,
            index=each.index,
            step=each.step,
            attempt=each.attempt,
            direction=each.direction,
            playbook=each.playbook,
            system=each.system,
            effect=each.effect,
            age=max(at - each.time, 0),
            in_doubt=warrant in course.doubtful,
        )
        for course in followed(fold)
        for warrant, each in course.intents.items()
        if fold.wanted.playbook in {None, each.playbook} and fold.wanted.system in {None, each.system}
    ]
    return sorted(found, key=lambda intent: intent.index)


def followed(fold: Fold) -> list[Course]:
    """The operations under way that are asked about."""
    return [course for course in fold.courses.values() if fold.wanted.follows(course)]


def silences(fold: Fold, at: int, thresholds: Thresholds) -> list[Silence]:
    """The rhythm of each part that had work; none where only one operation's entries were read."""
    if fold.wanted.operation is not None:
        return []
    names = [name for name in NAMES if fold.wanted.branch is None or name == f"branch {fold.wanted.branch}"]
    return [
        _silence(name, rhythm, at, thresholds)
        for name in names
        if (rhythm := fold.rhythms.of[name]).waiting or rhythm.silences.n
    ]


def _silence(name: str, rhythm: Rhythm, at: int, thresholds: Thresholds) -> Silence:
    known = rhythm.silences
    return Silence(
        name=name,
        waiting=rhythm.waiting,
        silent=max(at - rhythm.quiet, 0) if rhythm.waiting else 0,
        limit=max(thresholds.stopped_seconds * 1000, thresholds.stopped_times * known.at(990)),
        n=known.n,
        p50=known.at(500),
        p99=known.at(990),
        most=known.most,
        longest=known.longest,
    )


def gaps(fold: Fold, at: int, thresholds: Thresholds) -> list[Gap]:
    """Everything that is worth a word, the most serious first."""
    found = [*_of_time(fold, thresholds), *_of_parts(fold, at, thresholds)]
    found += _of_intents(fold, at, thresholds)
    found += [gap for course in followed(fold) if (gap := _of_operation(fold, course, at, thresholds))]
    found.sort(key=lambda gap: (_SERIOUS.index(gap.kind), -gap.silent, gap.index or 0))
    return found


def _of_time(fold: Fold, thresholds: Thresholds) -> Iterator[Gap]:
    clock = fold.clock
    if clock.backward:
        yield Gap(
            kind="time-backward",
            sentence=f"{count(clock.backward, 'entry lies', 'entries lie')} before the entry in front of it.",
            silent=0,
            limit=0,
            index=(clock.places or [0])[0],
        )
    if clock.held[0] >= thresholds.held_entries:
        yield Gap(
            kind="time-held",
            sentence=f"{count(clock.held[0], 'entry', 'entries')} in a row have one and the same time: a clock was set "
            "back, and the log waited for it.",
            silent=0,
            limit=0,
            index=clock.held[1],
        )


def _of_parts(fold: Fold, at: int, thresholds: Thresholds) -> Iterator[Gap]:
    """Parts that stopped. When the whole log did, or a branch, what belongs to it is not told again."""
    stopped = [
        each
        for each in silences(fold, at, thresholds)
        if each.waiting and each.n >= thresholds.stopped_samples and each.silent > each.limit
    ]
    whole = any(each.name == LOG for each in stopped)
    branches = any(each.name.startswith("branch ") for each in stopped)
    for each in stopped:
        if (whole and each.name != LOG) or (branches and each.name.startswith("kind ")):
            continue
        part = "The whole log" if each.name == LOG else f"The part `{each.name}`"
        yield Gap(
            kind="part-silent",
            sentence=f"{part} has been silent for {spell(each.silent)} while {count(each.waiting, 'operation')} waited "
            f"for it; 99 of 100 of its silences with work were at most {spell(each.p99)} (n={each.n}).",
            silent=each.silent,
            limit=each.limit,
            part=each.name,
        )


def _of_intents(fold: Fold, at: int, thresholds: Thresholds) -> Iterator[Gap]:
    limit = thresholds.intent_seconds * 1000
    for each in intents(fold, at):
        if each.age > limit:
            state = "has been in doubt" if each.in_doubt else "has had no outcome"
            yield Gap(
                kind="intent-open",
                sentence=f"Step {each.step} of {each.operation} ({each.playbook} on {each.system}) {state} for "
                f"{spell(each.age)}.",
                silent=each.age,
                limit=limit,
                waits_for=Waits.PEOPLE if each.in_doubt else Waits.WORKER,
                operation=each.operation,
                index=each.index,
            )


def _of_operation(fold: Fold, course: Course, at: int, thresholds: Thresholds) -> Gap | None:
    waits = course.waits(at, halted=fold.halted)
    since = max(course.since(at), fold.halted_since) if waits is Waits.RELEASE else course.since(at)
    silent, limit = at - since, limit_of(course, waits, thresholds)
    if silent <= limit or waits is Waits.WINDOW:
        return None
    missing = count(course.missing(at), "approval is missing", "approvals are missing")
    why = missing if course.stage == "planned" and waits is Waits.PEOPLE else _EXPECTED[waits]
    return Gap(
        kind="operation-silent" if waits in MACHINES else "operation-waits",
        sentence=f"{course.ident} has been silent at stage {course.stage} for {spell(silent)}: {why}.",
        silent=silent,
        limit=limit,
        waits_for=waits,
        operation=course.ident,
        stage=course.stage,
        index=course.last[1],
    )
