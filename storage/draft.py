"""What callers hand to the writer: entries whose place is not known yet, and the units that stand or fall together."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, get_args

from operations import events as e
from operations.canonical import SAFE_INTEGER, canonical, canonical_record, instant
from operations.errors import TriadError
from operations.model import Actor, Branch, Direction, OperationId
from operations.operation import Operation
from operations.stages import Stage
from storage.entry import MAX_ENTRY
from storage.verifier.checkpoint import VerifierKey

_OPERATION: Final = re.compile(get_args(OperationId)[1].pattern)
_EVENTS: Final[dict[str, type]] = {cls.model_fields["kind"].default: cls for cls in get_args(get_args(e.AnyEvent)[0])}
_LATER: Final = len(str(SAFE_INTEGER)) + len("0" * 64) + len("0" * 8) + len("2026-11-20T18:00:00.000Z")
"""Most bytes of what is filled in when the entry is written: index, constitution, key and time."""
_KEY: Final = b',"key":"'
_PLAIN_END: Final = b'","version":1}'
_CHANGING: Final = frozenset({"crown.halted", "crown.released", "constitution.amended", "key.rotated"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """What an event did to its operation: the stage it left (None at its beginning), the one reached, the version."""

    before: Stage | None
    after: Stage
    version: int


class Draft:
    """An entry but for its index, the constitution and the key in force, and a time not before the last entry's.

    Only the head at the moment of writing knows these. `at` is when the event happened by this process's clock.

    Raises:
        ValueError: the entry would exceed 16 KiB, has no canonical form, or could not be read back as an entry.
    """

    __slots__ = ("_end", "_middle", "_start", "_tail", "at", "kind", "operation")

    def __init__(
        self,
        event: e.AnyEvent,
        actor: Actor,
        *,
        at: datetime,
        origin: str,
        operation: str | None = None,
        mission: str | None = None,
        move: Move | None = None,
    ) -> None:
        _check(event, operation, move)
        # Keys in RFC 8785's order; what only the head knows is filled in by `encode`.
        self.at = instant(at)
        self.kind = event.kind
        self.operation = operation
        self._start = _start(actor.branch) if move is None else _moving(move, actor.branch)
        self._middle = b'","event":%b,"index":' % canonical_record(event, depth=1)
        self._tail = b"".join(
            (
                b'","kind":"%b",' % self.kind.encode(),
                b"" if mission is None else b'"mission":%b,' % canonical(mission),
                b"" if actor.model is None else b'"model":%b,' % _quoted(actor.model),
                b"" if operation is None else b'"operation":"%b",' % operation.encode(),
                _named(origin, actor.principal, actor.prompt),
                b"" if move is None else b'"seq":%d,' % move.version,
                b'"time":"',
            )
        )
        self._end = _PLAIN_END if actor.tokens is None and actor.trace is None else _end(actor)
        length = _LATER + len(_KEY) + len(self._start) + len(self._middle) + len(self._tail) + len(self._end)
        if length > MAX_ENTRY:
            raise ValueError(f"an entry of {length} bytes; the limit is {MAX_ENTRY}")

    def encode(self, index: int, constitution: bytes, key: bytes, time: bytes) -> bytes:
        """The canonical bytes of the entry at `index`, recorded at `time`: constitution and key are those in force."""
        start, middle, tail, end = self._start, self._middle, self._tail, self._end
        return b"%b%b%b%d%b%b%b%b%b" % (start, constitution, middle, index, _KEY, key, tail, time, end)


def _check(event: e.AnyEvent, operation: str | None, move: Move | None) -> None:
    """Refuse what `Entry` would not take."""
    if _EVENTS.get(event.kind) is not type(event):
        raise ValueError("not an event of the ledger")
    if operation is not None and _OPERATION.fullmatch(operation) is None:
        raise ValueError("not the id of an operation")
    if event.moves is (move is None):
        raise ValueError("a move names its stage and its version, an annotation moves nothing")
    if move is not None and (operation is None or move.version < 1):
        raise ValueError("a move names its operation and its version")
    if move is not None and (move.before is None) is not isinstance(event, e.OperationRequested):
        raise ValueError("only an operation's first event has no stage before it")


@lru_cache(maxsize=1024)
def _quoted(text: str) -> bytes:
    """A string that many entries share, as JSON."""
    return canonical(text)


@lru_cache(maxsize=1024)
def _named(origin: str, principal: str, prompt: str | None) -> bytes:
    named = b'"origin":%b,"principal":%b,' % (_quoted(origin), _quoted(principal))
    return named if prompt is None else named + b'"prompt":%b,' % _quoted(prompt)


@lru_cache(maxsize=16)
def _start(branch: Branch) -> bytes:
    return b'{"branch":"%b","constitution":"' % branch.encode()


def _moving(move: Move, branch: Branch) -> bytes:
    before = b"" if move.before is None else b'"before":"%b",' % move.before.encode()
    return b'{"after":"%b",%b' % (move.after.encode(), before) + _start(branch)[1:]


def _end(actor: Actor) -> bytes:
    tokens = b"" if actor.tokens is None else b',"tokens":%b' % canonical_record(actor.tokens)
    trace = b"" if actor.trace is None else b',"trace":%b' % canonical(actor.trace)
    return b'"%b%b,"version":1}' % (tokens, trace)


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
    """What a unit does to the head itself. A batch ends with such a unit.

    Attributes:
        halted: whether everything is halted from here on; None: as before.
        constitution: digest of the constitution in force from here on; None: as before.
        replaces: digest of the constitution that must be in force until here; None: any.
        key: id of the key that signs from here on; None: as before.
        retires: id of the key that must be in force until here; None: any.
        genesis: whether it begins the log.
    """

    halted: bool | None = None
    constitution: str | None = None
    replaces: str | None = None
    key: str | None = None
    retires: str | None = None
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
    """What these events do to the head: the halt, the release, the amendment and the key's rotation.

    Raises:
        ValueError: more than one of them in one unit, or a rotation that is not the last, or not between keys.
    """
    if all(event.kind not in _CHANGING for event in events):
        return None
    changes: list[HeadChange] = []
    for event in events:
        match event:
            case e.CrownHalted():
                changes.append(HeadChange(halted=True))
            case e.CrownReleased():
                changes.append(HeadChange(halted=False))
            case e.ConstitutionAmended():
                changes.append(HeadChange(constitution=event.enacted, replaces=event.previous))
            case e.LogKeyRotated():
                following, previous = VerifierKey.parse(event.key), VerifierKey.parse(event.previous)
                changes.append(HeadChange(key=following.key_id.hex(), retires=previous.key_id.hex()))
            case _:
                continue
    if len(changes) > 1:
        raise ValueError("one unit changes the head at most once")
    if any(isinstance(event, e.LogKeyRotated) for event in events[:-1]):
        raise ValueError("a rotation is the last entry of its unit: the checkpoint over it ends with it")
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
