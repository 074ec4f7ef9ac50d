"""A draft spells an entry without building one: its bytes are the entry's own, and it refuses what an entry refuses."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from operations import events as e
from operations.canonical import MAX_DEPTH, instant_text
from operations.model import Actor, Branch, Tokens
from operations.stages import Stage
from storage.draft import Draft, Move
from storage.entry import MAX_ENTRY, Entry
from tests.logbook import ADA, LAW, ORIGIN, REQUEST, START, eventful, ident

BY_ADA = Actor(principal="ada", branch=Branch.PEOPLE)
REQUESTED = e.OperationRequested(request=REQUEST, requester=ADA)
BEGINNING = Move(before=None, after=Stage.REQUESTED, version=1)
HALT = e.CrownHalted(by="cleo", reason="Drill.")


def spelled(draft: Draft, entry: Entry) -> bytes:
    """The draft's bytes at the place and under the constitution, key and time of `entry`."""
    return draft.encode(entry.index, entry.constitution.encode(), entry.key.encode(), instant_text(entry.time).encode())


def redrawn(entry: Entry) -> Draft:
    actor = Actor(
        principal=entry.principal,
        branch=entry.branch,
        model=entry.model,
        prompt=entry.prompt,
        tokens=entry.tokens,
        trace=entry.trace,
    )
    move = Move(before=entry.before, after=entry.after, version=entry.seq) if entry.after and entry.seq else None
    return Draft(
        entry.event,
        actor,
        at=entry.time,
        origin=entry.origin,
        operation=entry.operation,
        mission=entry.mission,
        move=move,
    )


def test_a_draft_of_every_entry_of_an_eventful_ledger_has_the_entrys_own_bytes() -> None:
    for data in eventful().entries:
        entry = Entry.decode(data)
        assert spelled(redrawn(entry), entry) == data


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": 'a "quoted" model\n'},
        {"prompt": LAW},
        {"tokens": Tokens(input=2**53 - 1, output=0)},
        {"trace": "c" * 32},
        {"model": "\u00e4\U0001f600", "prompt": LAW, "tokens": Tokens(), "trace": "0" * 32},
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", [None, ident(7)])
@pytest.mark.parametrize("mission", [None, "quarter-end"])
def test_whatever_an_actor_brings_stands_where_an_entry_has_it(
    changes: dict[str, Any], operation: str | None, mission: str | None
) -> None:
    actor = BY_ADA.model_copy(update=changes)
    draft = Draft(HALT, actor, at=START, origin='an "origin"', operation=operation, mission=mission)
    data = draft.encode(12, LAW.encode(), b"89abcdef", instant_text(START).encode())
    entry = Entry.decode(data)
    assert entry.encode() == data
    assert spelled(redrawn(entry), entry) == data
    assert (entry.origin, entry.operation, entry.mission) == ('an "origin"', operation, mission)
    assert (entry.model, entry.tokens, entry.trace) == (actor.model, actor.tokens, actor.trace)


def test_a_drafts_time_is_utc_in_milliseconds() -> None:
    at = datetime(2026, 1, 1, 2, 0, 0, 1999, tzinfo=timezone(timedelta(hours=2)))
    assert Draft(HALT, BY_ADA, at=at, origin=ORIGIN).at == datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
    with pytest.raises(ValueError, match="zone"):
        Draft(HALT, BY_ADA, at=at.replace(tzinfo=None), origin=ORIGIN)


@pytest.mark.parametrize(
    ("event", "place"),
    [
        (HALT, {"move": BEGINNING}),
        (HALT, {"operation": "op_1"}),
        (HALT, {"operation": ident(1) + "\n"}),
        (REQUESTED, {"operation": ident(1)}),
        (REQUESTED, {"move": BEGINNING}),
        (REQUESTED, {"operation": ident(1), "move": Move(before=Stage.PLANNED, after=Stage.REQUESTED, version=1)}),
        (REQUESTED, {"operation": ident(1), "move": Move(before=None, after=Stage.REQUESTED, version=0)}),
    ],
    ids=str,
)
def test_what_could_not_be_read_back_is_not_drafted(event: e.AnyEvent, place: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"names|moves|operation"):
        Draft(event, BY_ADA, at=START, origin=ORIGIN, **place)


def test_an_event_that_the_ledger_does_not_know_is_not_drafted() -> None:
    class Invented(e.CrownHalted):
        """Another class of a known kind."""

    with pytest.raises(ValueError, match="not an event"):
        Draft(Invented(by="cleo", reason="Drill."), BY_ADA, at=START, origin=ORIGIN)


def parameters(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("depth", [MAX_DEPTH - 3, MAX_DEPTH - 2])
def test_a_draft_may_nest_as_deep_as_an_entry(depth: int) -> None:
    event = REQUESTED.model_copy(update={"request": REQUEST.model_copy(update={"parameters": parameters(depth)})})

    def drafted() -> Draft:
        return Draft(event, BY_ADA, at=START, origin=ORIGIN, operation=ident(1), move=BEGINNING)

    entry = Entry(
        index=1,
        time=START,
        origin=ORIGIN,
        kind=event.kind,
        operation=ident(1),
        branch=Branch.PEOPLE,
        principal="ada",
        key="0" * 8,
        constitution=LAW,
        after=Stage.REQUESTED,
        seq=1,
        event=event,
    )
    try:
        data = entry.encode()
    except ValueError:
        with pytest.raises(ValueError, match="nested"):
            drafted()
    else:
        assert spelled(drafted(), entry) == data


def test_the_longest_draft_fits_into_an_entry_wherever_it_comes_to_stand() -> None:
    def drafted(length: int) -> Draft:
        return Draft(HALT, BY_ADA, at=START, origin="o" * length, operation=ident(1))

    last = (LAW.encode(), b"89abcdef", instant_text(START).encode())
    longest = MAX_ENTRY - len(drafted(0).encode(2**53 - 1, *last))
    assert len(drafted(longest).encode(2**53 - 1, *last)) == MAX_ENTRY
    with pytest.raises(ValueError, match=str(MAX_ENTRY)):
        drafted(longest + 1)
