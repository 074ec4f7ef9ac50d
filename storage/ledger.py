"""The ledger: record what happened, fold it back into operations, and hand out what proves it.

No entry, no action: whoever records waits until the entry is under a committed signed checkpoint, unless it pipelines
with `settle=False` and settles before anything leaves the system. When `LedgerUnavailable` is raised the act must not
happen; after a lost connection it may still turn out to be recorded, which reading again tells.
"""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Self

import asyncpg

from operations import events as e
from operations.canonical import new_id, now
from operations.errors import LedgerCorrupt, LedgerUnavailable
from operations.model import Actor, Branch, OperationId, PrincipalId
from operations.operation import Operation, apply, begin
from operations.stages import Stage
from storage.draft import (
    Creation,
    Draft,
    HeadChange,
    Move,
    Place,
    Unit,
    consumption,
    head_change,
    standing,
    until,
)
from storage.engine import BROKEN
from storage.entry import Entry
from storage.evidence import digest_evidence, plan_evidence
from storage.feed import Feed
from storage.leases import Leases
from storage.rotation import Rotations, finish
from storage.signer import Signer
from storage.succession import Rotation
from storage.writer import PATIENCE, Writer

_GRACE: Final = 5.0
"""Seconds that a closing ledger waits for readers."""
_NOT_NOTED: Final = frozenset({"genesis", "key.rotated"})
_SYSTEM: Final = Actor(principal="triad", branch=Branch.PEOPLE)


@dataclass(frozen=True)
class Act:
    """An event, who stands behind it, and evidence that is stored beside the entry under its SHA-256."""

    event: e.AnyEvent
    actor: Actor
    attachments: tuple[bytes, ...] = ()


async def _untouched(_connection: asyncpg.Connection) -> None:
    """Readers leave nothing behind on a connection, so giving it back costs no round trip."""


class Ledger(Leases):
    """The log of one database. Open it once a process; every coroutine shares it."""

    def __init__(self, pool: asyncpg.Pool, writer: Writer, feed: Feed, *, origin: str, signer: Signer) -> None:
        super().__init__(pool)
        self._writer = writer
        self._feed = feed
        self._origin = origin
        self._flying: dict[str, Unit] = {}
        self._unsettled: dict[int, Unit] = {}
        self._rotations = Rotations(signer, self.key_in_force, self._annotated)

    def may_be_halted(self) -> bool:
        """False when the last head this process saw was not halted: a quick look without asking the database.

        Another process may have ordered a halt since; the transaction that consumes a warrant asks the database.
        """
        seen = self._writer.seen
        return seen is None or seen.halted

    def queued(self) -> int:
        """Units of this process that wait to be written; from `storage.waiting.CAPACITY` on, whoever records waits."""
        return self._writer.queued

    def clock(self) -> datetime:
        """The time by which to give and judge expiry: this host's, but never before the newest entry this process saw.

        Entries never lie before the one before them, so after a clock was set back the log's own time goes on.
        """
        seen = self._writer.seen
        return max(now(), seen.latest) if seen is not None else now()

    @classmethod
    async def open(cls, dsn: str, signer: Signer, *, origin: str, patience: float = PATIENCE) -> Self:
        """Connect, and prove that the stored log extends what the signer remembers.

        Args:
            dsn: of `triad_app`.
            signer: this ledger's own; its name is the origin.
            origin: the log's identity.
            patience: seconds the writer tries to reach a lost database before it says no.

        Raises:
            LedgerUnavailable: the database cannot be reached.
            LedgerCorrupt: the stored log shrank or forked.
        """
        if signer.key.name != origin:
            raise LedgerCorrupt(f"The key signs for {signer.key.name}, not for {origin}.")
        settings = {"default_transaction_isolation": "read committed", "jit": "off"}
        named = {"application_name": "triad-ledger", **settings}
        connect = partial(asyncpg.connect, dsn, server_settings=named, timeout=patience)
        feed = Feed(connect)
        writer = Writer(connect, signer, patience=patience, committed=lambda _size: feed.grew())
        await writer.start()
        try:
            pool = await asyncpg.create_pool(dsn, min_size=1, max_size=8, reset=_untouched, server_settings=settings)
        except BROKEN as error:
            await writer.close()
            raise LedgerUnavailable(f"The database cannot be reached: {error}") from error
        finish(signer)
        return cls(pool, writer, feed, origin=origin, signer=signer)

    async def close(self) -> None:
        """Write what is queued, then let go of the database."""
        await self._rotations.close()
        await self._writer.close()
        await self._feed.close()
        with contextlib.suppress(TimeoutError):  # which ends the connections of those who still read
            async with asyncio.timeout(_GRACE):
                await self._pool.close()

    async def begin(self, genesis: e.Genesis, constitution_text: bytes) -> None:
        """Record entry 0, with the constitution's text as evidence; nothing happens when the ledger has begun.

        Raises:
            LedgerUnavailable: nothing could be recorded.
        """
        digest = digest_evidence(constitution_text)
        await self._place(
            Unit(
                drafts=(self._draft(Act(genesis, _SYSTEM), at=self.clock()),),
                place=asyncio.get_running_loop().create_future(),
                change=HeadChange(constitution=digest, genesis=True),
                evidence=((digest, constitution_text),),
            )
        )

    async def submit(
        self, event: e.OperationRequested, actor: Actor, *, operation: OperationId | None = None
    ) -> Operation:
        """Record a request; the operation exists from here on.

        Args:
            event: what is asked for.
            actor: who asks.
            operation: the operation's id, where the caller needs to know it before.

        Raises:
            StageConflict: an operation of that id exists.
            LedgerUnavailable: nothing was recorded.
            ValueError: the entry would exceed 16 KiB.
        """
        ident, at = operation or new_id("op"), self.clock()
        move = Move(before=None, after=Stage.REQUESTED, version=1)
        request = event.request
        place = await self._place(
            Unit(
                drafts=(self._draft(Act(event, actor), at=at, operation=ident, mission=request.mission, move=move),),
                place=asyncio.get_running_loop().create_future(),
                creation=Creation(
                    operation=ident,
                    at=at,
                    requester=event.requester.id,
                    type=request.type.value,
                    emergency=request.emergency,
                ),
            )
        )
        return begin(ident, event, at, place.constitution, actor.trace)

    async def record(
        self,
        op: Operation,
        *acts: Act,
        consume: str | None = None,
        epoch: int | None = None,
        settle: bool = True,
    ) -> Operation:
        """Record acts on an operation as one unit: all of them or none.

        Args:
            op: the operation as the caller saw it; the unit is written only if it still stands so.
            acts: in order; annotations may be among them.
            consume: the warrant of the intent among the acts, used up in the same transaction.
            epoch: the epoch that the caller holds by `claim`: refused when another worker took over. With `consume`
                the operation's own epoch counts unless another is given.
            settle: False returns as soon as the unit is queued; the returned operation may be recorded upon at once,
                and `settled` waits for it. Do not copy it before it is settled.

        Returns:
            The operation after the acts.

        Raises:
            IllegalMove: the table or the operation's past does not allow an event; nothing was queued.
            StageConflict: somebody else recorded first, or the operation is to be halted and no halt is on.
            WarrantRefused: `warrant-used`, `halted`, `constitution-changed`, `epoch-stale` or `expired`.
            Conflict: `expired`: what an approval of the operation rests on had expired.
            LedgerUnavailable: nothing was recorded.
            ValueError: no acts, an entry over 16 KiB, a plan whose digest is not the one stated, a warrant without its
                intent, or an intent without the consumption of its warrant.
        """
        unit, after = self._unit(op, acts, consume=consume, epoch=epoch)
        unit.eager = settle
        unit.previous = await self._predecessor(op)
        if unit.standing is not None:
            self._flying[op.id] = unit
            unit.answered = self._landed
        if settle:
            await self._place(unit)
            return after
        try:
            await self._writer.put(unit)
        except BaseException:
            unit.fail(LedgerUnavailable("It was never queued."))
            raise
        if after is op:
            after = op.model_copy()
        self._unsettled[id(after)] = unit
        weakref.finalize(after, self._unsettled.pop, id(after), None).atexit = False
        return after

    async def settled(self, op: Operation) -> None:
        """Wait until what `record(settle=False)` returned is under a committed checkpoint; raises what went wrong."""
        unit = self._unsettled.get(id(op)) or self._flying.get(op.id)
        if unit is not None:
            self._writer.hurry()
            await unit.wait()
            if unit.error is not None:
                raise unit.error

    async def landed(self, ident: str) -> None:
        """Wait until nothing of the operation is under way in this process, whether it came to stand or failed."""
        while (flying := self._flying.get(ident)) is not None:
            self._writer.hurry()
            await flying.wait()

    async def note(
        self,
        event: e.AnyEvent,
        actor: Actor,
        *,
        operation: OperationId | None = None,
        attachments: tuple[bytes, ...] = (),
    ) -> int:
        """Record an annotation, beside an operation or beside none; a halt, release or amendment takes effect with it.

        Returns:
            The entry's index.

        Raises:
            Conflict: `constitution-changed`: an amendment replaces a constitution that is not the one in force.
            LedgerUnavailable: nothing was recorded.
            ValueError: the event is no annotation, or the entry would exceed 16 KiB.
        """
        if event.moves or event.kind in _NOT_NOTED:
            raise ValueError(f"{event.kind} is no annotation")
        return await self._annotated(event, actor, operation=operation, attachments=attachments)

    async def rotate_key(
        self, actor: Actor, *, person: PrincipalId, reason: str, compromised: bool = False
    ) -> Rotation:
        """Let the log sign with another key from the next entry on, and destroy the private half of the one before.

        The entry is the last of its batch, so the checkpoint that ends with it is signed by both keys. A caller that
        goes away does not stop a rotation half-way.

        Args:
            actor: who orders it.
            person: the person behind the actor.
            reason: why, in words.
            compromised: whether the key may be in somebody else's hands.

        Raises:
            Conflict: `rotation-under-way`, `no-next-key`, or `key-stale`: the key was rotated elsewhere meanwhile.
            LedgerUnavailable: it was not recorded, or that is not known; the head says which key is in force.
        """
        return await self._rotations.rotate(actor, person, reason, compromised=compromised)

    async def follow(self, after: int, *, operation: str | None = None) -> AsyncGenerator[Entry, None]:
        """Every entry above `after`, in order, as it is recorded; never ends by itself and never misses one."""
        while True:
            mark = self._feed.mark()
            page = await self.entries(after=after, operation=operation)
            for entry in page:
                yield entry
                after = entry.index
            if not page:
                await self._feed.wait(mark)

    async def grown(self, size: int) -> None:
        """Return once the log has more than `size` entries."""
        while True:
            mark = self._feed.mark()
            if (await self.head()).size > size:
                return
            await self._feed.wait(mark)

    async def _annotated(
        self,
        event: e.AnyEvent,
        actor: Actor,
        *,
        operation: OperationId | None = None,
        attachments: tuple[bytes, ...] = (),
    ) -> int:
        place = await self._place(
            Unit(
                drafts=(Draft(event, actor, at=self.clock(), origin=self._origin, operation=operation),),
                place=asyncio.get_running_loop().create_future(),
                change=head_change((event,)),
                evidence=[(digest_evidence(body), body) for body in attachments],
            )
        )
        return place.index

    def _draft(
        self,
        act: Act,
        *,
        at: datetime,
        operation: str | None = None,
        mission: str | None = None,
        move: Move | None = None,
    ) -> Draft:
        return Draft(act.event, act.actor, at=at, origin=self._origin, operation=operation, mission=mission, move=move)

    def _unit(
        self, op: Operation, acts: Sequence[Act], *, consume: str | None, epoch: int | None
    ) -> tuple[Unit, Operation]:
        if not acts:
            raise ValueError("nothing to record")
        at, after = self.clock(), op
        drafts: list[Draft] = []
        evidence: list[tuple[str, bytes]] = []
        for act in acts:
            before, after = after, apply(after, act.event, at)
            moved = Move(before=before.stage, after=after.stage, version=after.version) if act.event.moves else None
            drafts.append(self._draft(act, at=at, operation=op.id, mission=op.request.mission, move=moved))
            attached = [(digest_evidence(body), body) for body in act.attachments]
            self._keep(attached)
            evidence.extend(attached)
            if isinstance(act.event, e.PlanProposed):
                evidence.append(plan_evidence(act.event))
        if consume is not None and epoch is None:
            epoch = op.epoch
        events = [act.event for act in acts]
        used = consumption(op, after, events, consume)
        row = standing(op, after, epoch=epoch)
        unit = Unit(
            drafts=tuple(drafts),
            place=asyncio.get_running_loop().create_future(),
            standing=row,
            consumption=used,
            change=head_change(events),
            evidence=evidence,
            until=until(after, events),
            halting=any(isinstance(event, e.OperationHalted) for event in events),
        )
        return unit, after

    async def _predecessor(self, op: Operation) -> Unit | None:
        """The unsettled unit that `op` came from. Another unit of the operation that is under way is waited for."""
        mine = self._unsettled.get(id(op))
        if mine is not None and mine.done:
            if mine.error is not None:
                raise mine.error
            mine = None
        while (flying := self._flying.get(op.id)) is not None:
            if flying is mine or (flying.standing is not None and flying.standing.to_version == op.version):
                return flying
            self._writer.hurry()
            await flying.wait()
        return mine

    def _landed(self, unit: Unit) -> None:
        if unit.operation is not None and self._flying.get(unit.operation) is unit:
            del self._flying[unit.operation]

    async def _place(self, unit: Unit) -> Place:
        try:
            await self._writer.put(unit)
        except BaseException:
            unit.fail(LedgerUnavailable("It was never queued."))
            raise
        return await unit.place
