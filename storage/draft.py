"""What callers hand to the writer: entries whose place is not known yet, and the units that stand or fall together."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from operations import events as e
from operations.canonical import SAFE_INTEGER
from operations.errors import TriadError
from operations.model import Actor, Direction
from operations.operation import Operation
from operations.stages import Stage
from storage.entry import Entry

_NO_CONSTITUTION: Final = "0" * 64
_CONSTITUTION: Final = b'"constitution":"' + _NO_CONSTITUTION.encode() + b'"'
_INDEX: Final = f',"index":{SAFE_INTEGER},'.encode()
_TIME: Final = b'"time":"'
_INSTANT: Final = len("2026-11-20T18:00:00.000Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """What an event did to its operation: the stage it left (None at its beginning), the one reached, the version."""

    before: Stage | None
    after: Stage
    version: int


class Draft:
    """An entry but for its index, the constitution in force and a time that is not before the last entry's.

    Only the head at the moment of writing knows these. `at` is when the event happened by this process's clock.

    Raises:
        ValueError: the entry would exceed 16 KiB or has no canonical form.
    """

    __slots__ = ("_end", "_middle", "_start", "_tail", "at", "kind", "operation")

    def __init__(
        self,
        event: e.AnyEvent,
        actor: Actor,
        *,
        at: datetime,
        origin: str,
        key: str,
        operation: str | None = None,
        mission: str | None = None,
        move: Move | None = None,
    ) -> None:
        entry = Entry(
            index=SAFE_INTEGER,
            time=at,
            origin=origin,
            kind=event.kind,
            operation=operation,
            mission=mission,
            branch=actor.branch,
            principal=actor.principal,
            key=key,
            constitution=_NO_CONSTITUTION,
            model=actor.model,
            prompt=actor.prompt,
            trace=actor.trace,
            tokens=actor.tokens,
            before=move.before if move else None,
            after=move.after if move else None,
            seq=move.version if move else None,
            event=event,
        )
        # Top-level keys are sorted and quotes inside strings are escaped, so the first constitution, the last index and
        # the time after it are the entry's own.
        before, _, rest = entry.encode().partition(_CONSTITUTION)
        event_part, _, tail = rest.rpartition(_INDEX)
        tail, _, end = tail.partition(_TIME)
        self.at = entry.time
        self.kind = entry.kind
        self.operation = operation
        self._start = before + b'"constitution":"'
        self._middle = b'"' + event_part + b',"index":'
        self._tail = b"," + tail + _TIME
        self._end = end[_INSTANT:]

    def encode(self, index: int, constitution: bytes, time: bytes) -> bytes:
        """The canonical bytes of the entry at `index`, recorded at `time` under the constitution with that digest."""
        return b"%b%b%b%d%b%b%b" % (self._start, constitution, self._middle, index, self._tail, time, self._end)


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """The row of a new operation."""

    operation: str
    at: datetime
    requester: str
    type: str
    emergency: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """An operation's row before and after a unit: what compare-and-set needs. `epoch` None means: not fenced."""

    operation: str
    from_version: int
    to_version: int
    stage: str
    tier: int | None
    epoch: int | None
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumption:
    """A warrant used in this transaction, and the constitution that must still be in force; None for an undo: any."""

    warrant: str
    operation: str
    constitution: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadChange:
    """What a unit does to the head itself. A batch ends with such a unit."""

    halted: bool | None = None
    constitution: str | None = None
    replaces: str | None = None
    genesis: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit came to stand: the index of its first entry, and the constitution in force there."""

    index: int
    constitution: str


@dataclass(kw_only=True, eq=False, slots=True)
class Unit:
    """Entries that are recorded together or not at all.

    Attributes:
        place: what the caller awaits; a caller that is cancelled cancels it, which changes nothing for the unit.
        until: the time at which what it rests on has expired; it stands before that or not at all.
        halting: whether it may stand only while the crown's halt is on.
        eager: whether somebody waits for it; False lets it wait a moment for others to share its transaction.
        previous: the unit of the same operation that this one was built on before that one was written.
        answered: called once it stands or failed.
        done: whether it stands or failed.
        error: why it failed.
    """

    drafts: tuple[Draft, ...]
    place: "asyncio.Future[Place]"
    standing: Standing | None = None
    creation: Creation | None = None
    consumption: Consumption | None = None
    change: HeadChange | None = None
    evidence: Sequence[tuple[str, bytes]] = ()
    until: datetime | None = None
    halting: bool = False
    eager: bool = True
    previous: "Unit | None" = None
    answered: "Callable[[Unit], None] | None" = None
    done: bool = False
    error: TriadError | None = None
    _watchers: "list[asyncio.Future[None]]" = field(default_factory=list)

    @property
    def operation(self) -> str | None:
        """The operation that this unit begins or moves."""
        row = self.standing or self.creation
        return row.operation if row else None

    def fail(self, error: TriadError) -> None:
        """Give the caller, who may be gone, this answer; the first answer counts."""
        if self.done:
            return
        self.error = error
        if not self.place.done():
            self.place.set_exception(error)
            self.place.exception()  # a caller that never asks is no cause for a warning
        self._finish()

    def settle(self, place: Place) -> None:
        """Tell the caller that the unit stands under a committed checkpoint."""
        if self.done:
            return
        if not self.place.done():
            self.place.set_result(place)
        self._finish()

    def _finish(self) -> None:
        self.done, self.previous = True, None
        if self.answered is not None:
            self.answered(self)
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def wait(self) -> None:
        """Return once the unit stands or failed."""
        if not self.done:
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher


def head_change(events: Sequence[e.AnyEvent]) -> HeadChange | None:
    """What these events do to the head: the halt, the release and the amendment.

    Raises:
        ValueError: more than one of them in one unit.
    """
    changes: list[HeadChange] = []
    for event in events:
        match event:
            case e.CrownHalted():
                changes.append(HeadChange(halted=True))
            case e.CrownReleased():
                changes.append(HeadChange(halted=False))
            case e.ConstitutionAmended():
                changes.append(HeadChange(constitution=event.enacted, replaces=event.previous))
            case _:
                continue
    if len(changes) > 1:
        raise ValueError("one unit changes the head at most once")
    return changes[0] if changes else None


def standing(before: Operation, after: Operation, *, epoch: int | None) -> Standing | None:
    """The move from one operation to a later one; None when nothing moved."""
    if after.version == before.version:
        return None
    return Standing(
        operation=after.id,
        from_version=before.version,
        to_version=after.version,
        stage=after.stage.value,
        tier=after.proposal.tier if after.proposal else None,
        epoch=epoch,
        at=after.updated,
    )


def consumption(
    before: Operation, after: Operation, events: Sequence[e.AnyEvent], warrant: str | None
) -> Consumption | None:
    """The use of `warrant` by the one intent among the events; None when there is neither.

    An undo belongs to the plan that was approved, so it may be begun under another constitution than the plan's.

    Raises:
        ValueError: a warrant is issued without its intent, or an intent recorded without using its own warrant up.
    """
    intents = [event for event in events if isinstance(event, e.StepIntent)]
    if [intent.warrant for intent in intents] != ([warrant] if warrant else []):
        raise ValueError("an intent and the consumption of its warrant are recorded together")
    if any(attempt.status == "issued" for attempt in after.attempts):
        raise ValueError("a warrant is issued together with the intent that uses it")
    if warrant is None:
        return None
    undoing = intents[0].direction is Direction.UNDO
    return Consumption(warrant=warrant, operation=before.id, constitution=None if undoing else before.constitution)


def until(after: Operation, events: Sequence[e.AnyEvent]) -> datetime | None:
    """When what these events rest on expires: the warrant, the plan, the approvals of its quorum; None: never.

    An undo belongs to the plan that was approved, so only its warrant can be too old.
    """
    proposal, ends = after.proposal, list[datetime]()
    for event in events:
        match event:
            case e.WarrantIssued():
                ends.append(event.expires)
                if event.direction is Direction.DO:
                    ends += _quorum_ends(after, [a.id for a in after.approvals])
            case e.OperationApproved():
                ends += [*_quorum_ends(after, event.approvals), *([proposal.expires] if proposal else [])]
            case _:
                continue
    return min(ends, default=None)


def _quorum_ends(op: Operation, approvals: Sequence[str]) -> list[datetime]:
    """When too few distinct people's approvals are left; nothing where none is needed, or too few are there anyway."""
    needed = op.proposal.quorum + op.extra_quorum if op.proposal else 0
    latest: dict[str, datetime] = {}
    for given in op.approvals:
        if given.id in approvals and given.person != op.requester.person:
            latest[given.person] = max(given.expires, latest.get(given.person, given.expires))
    ends = sorted(latest.values(), reverse=True)
    return ends[needed - 1 : needed] if needed else []
