"""The group-commit writer: all that this process records goes through one coroutine, a batch a transaction.

A batch is composed and signed in memory, then sent in one round trip; the database compares the head and every
operation's version under one lock. A checkpoint signed for a batch that did not commit never leaves this process.
A lost connection leaves open whether the batch stands: the writer asks the head for the batch's token under the lock
before it writes anything again, so nothing is ever written twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import asyncpg

from operations.errors import LedgerCorrupt, LedgerUnavailable, TriadError
from storage.batch import Batch, HeadRow, Lost, Stale
from storage.draft import Unit
from storage.engine import BROKEN, is_lost
from storage.extension import await_turn, prove
from storage.signer import Signer
from storage.waiting import BATCH_ENTRIES, Waiting, failed, fitting

SPLIT: Final = 24
"""Fewest units of which a half may go first, so that the other half is composed while the first is on its way."""

UNIT_SECONDS: Final = 30e-6
"""What a unit costs this process, roughly. Halves pay where that, for all who wait, is longer than a commit takes."""

PATIENCE: Final = 10.0
"""Seconds the writer tries to reach the database before those who wait are told that nothing was recorded."""

TURN: Final = 0.005
"""Seconds after which a process that others write beside gives its turn up, although more of its own units wait."""

_LET_GO: Final = "SELECT pg_advisory_unlock_all()"


class Writer:
    """Writes units in the order they come in. Starts with `start`, ends with `close`.

    Args:
        connect: opens the writer's own connection.
        signer: signs each batch's checkpoint.
        patience: see `PATIENCE`.
        committed: called with the new size after each batch.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        signer: Signer,
        *,
        patience: float = PATIENCE,
        committed: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._connect = connect
        self._signer = signer
        self._patience = patience
        self._committed = committed
        self._waiting = Waiting()
        self._connection: asyncpg.Connection | None = None
        self._head: HeadRow | None = None
        self._task: asyncio.Task[None] | None = None
        self._contested = False
        self._turn_ends: float | None = None
        self._commit_seconds = 0.0
        self._ahead: Batch | None = None
        self._standing: Batch | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Connect, prove that the stored log extends what the signer remembers, and begin to write.

        Raises:
            LedgerUnavailable: the database cannot be reached.
            LedgerCorrupt: the stored log shrank or forked.
        """
        connection = await self._reconnect(time.monotonic() + self._patience)
        try:
            self._head = HeadRow.of(await connection.fetchrow("SELECT * FROM ledger_lock()", timeout=self._patience))
            await prove(connection, self._signer, self._head)
            if self._head.key:
                self._signer.use(self._head.key)
        except BROKEN as error:
            await self._disconnect()
            raise LedgerUnavailable(f"The ledger cannot be read: {error}") from error
        except (LedgerCorrupt, LedgerUnavailable):
            await self._disconnect()
            raise
        self._task = asyncio.create_task(self._run(), name="ledger-writer")
        self._task.add_done_callback(self._ended)

    @property
    def seen(self) -> HeadRow | None:
        """The last head this process saw; None when it has to ask again."""
        return self._head

    @property
    def queued(self) -> int:
        """Units that wait; those under way are not counted."""
        return len(self._waiting)

    async def put(self, unit: Unit) -> None:
        """Queue a unit; waits while the queue is full. The answer comes through `unit.place`.

        Raises:
            LedgerUnavailable: the writer is closed.
        """
        if self._task is None or self._task.done():
            raise LedgerUnavailable("The ledger is closed.")
        self._idle.clear()
        await self._waiting.put(unit)
        if self._task.done():  # it ended while this unit waited for room
            self._fail(self._waiting.drained(), LedgerUnavailable("The ledger is closed."))

    def hurry(self) -> None:
        """Somebody waits for what is queued: write it now."""
        self._waiting.hurry()

    async def close(self) -> None:
        """Write what is queued, then stop."""
        self._waiting.hurry()
        if self._task is not None and not self._task.done():
            await self._idle.wait()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._disconnect()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._settle()
        if self._ahead is not None:
            self._waiting.put_back(self._ahead.units)
        self._fail(self._waiting.drained(), LedgerUnavailable("The ledger is closed."))
        self._idle.set()
        if not task.cancelled():
            task.exception()  # a defect: every caller was told, the loop's own report would come too late

    def _fail(self, units: Iterable[Unit], error: TriadError) -> None:
        for unit in units:
            unit.fail(error)

    async def _run(self) -> None:
        while True:
            ahead, self._ahead = self._ahead, None
            if ahead is None:
                if not self._waiting.gathered():
                    self._idle.set()
                waiting = await self._waiting.gather()
                split = waiting >= SPLIT and waiting * UNIT_SECONDS > self._commit_seconds
                units = self._waiting.take(waiting // 2 if split else waiting)
            else:
                units = list(ahead.units)
            if not units:
                continue
            try:
                await self._write(units, ahead)
            except LedgerUnavailable as error:
                self._fail([*units, *self._waiting.drained()], error)
            except LedgerCorrupt as error:
                self._fail(units, error)
            except asyncio.CancelledError:
                self._fail(units, LedgerUnavailable("The writer was stopped; whether it was recorded is not known."))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told and the writer goes on
                unknown = LedgerUnavailable("Writing failed; whether it was recorded is not known.")
                unknown.__cause__ = error
                self._fail(units, unknown)
                await self._disconnect()
            if not self._waiting.gathered():
                await self._let_go()

    async def _write(self, units: list[Unit], ahead: Batch | None = None) -> None:
        """Record or answer every one of these units; `ahead` is what they were composed to while others travelled.

        Raises:
            LedgerUnavailable: the database could not be reached in time.
            LedgerCorrupt: the stored log does not extend what was signed.
        """
        deadline = time.monotonic() + self._patience
        doubts: list[Batch] = []
        head = self._head
        if ahead is None or ahead.base is not head:
            self._settle()
        while units:
            connection = self._connection
            if connection is None:
                connection, head = await self._reconnect(deadline), None
            try:
                ahead, composed = None, ahead
                sent = await self._dispatch(connection, units, head, doubts, composed)
            except BROKEN as error:
                if connection.is_closed() or is_lost(error):
                    await self._disconnect()
                    continue
                await self._write_apart(units, error)
                return
            match sent:
                case None:
                    return
                case Stale():  # another process was faster: compose again while holding the lock
                    head = None if doubts or self._contested else head
                    self._contested = True
                case Lost(answers):
                    for unit, answer in answers.items():
                        unit.fail(answer)
                    units = [unit for unit in units if not failed(unit)]
                    head = self._head

    async def _dispatch(
        self,
        connection: asyncpg.Connection,
        units: list[Unit],
        head: HeadRow | None,
        doubts: list[Batch],
        composed: Batch | None,
    ) -> Stale | Lost | None:
        """Send them by the cheapest of the ways that are safe here."""
        if head is None or not head.size or any(unit.change or unit.halting for unit in units):
            return await self._send_locked(connection, units, doubts)
        if self._contested and self._turn_ends is None and not doubts:
            head = await self._take_turn(connection, head)
        return await self._send(connection, units, head, doubts, composed)

    async def _send(
        self,
        connection: asyncpg.Connection,
        units: list[Unit],
        head: HeadRow,
        doubts: list[Batch],
        batch: Batch | None,
    ) -> Stale | Lost | None:
        """Send them over the head as this process saw it; where many write, compose the next ones meanwhile."""
        if batch is None or batch.base is not head:
            if not (units := fitting(units, head)):
                return None
            batch = Batch(units, head, self._signer)
        doubts.append(batch)
        more, begun = self._waiting.gathered(), time.monotonic()
        goes_on = more > 0 or self._standing is not None  # those who are told now may have more
        last = self._turn_ends is not None and (begun >= self._turn_ends or not goes_on)
        if self._standing is None and (last or not more):
            sent = await batch.send(connection, self._patience, last=last)
        else:
            sent = await self._send_and_compose(connection, batch, last=last)
        doubts.pop()
        self._commit_seconds += (time.monotonic() - begun - self._commit_seconds) / 8
        if sent is None:
            if last:
                self._turn_ends = None
            self._stands(batch)
        return sent

    async def _send_and_compose(
        self, connection: asyncpg.Connection, batch: Batch, *, last: bool
    ) -> Stale | Lost | None:
        """Send it, tell those of the batch before meanwhile, and compose what follows unless the turn ends with it."""
        sending = asyncio.create_task(batch.send(connection, self._patience, last=last))
        ahead = None
        try:
            self._settle()
            await asyncio.sleep(0)  # it leaves now; those who were just settled may queue their next
            ahead = None if last else self._composed(batch)
            sent = await sending
            if sent is None:
                self._ahead, ahead = ahead, None
        finally:
            sending.cancel()
            if ahead is not None:  # it builds on what does not stand
                self._waiting.put_back(ahead.units)
        return sent

    def _composed(self, before: Batch) -> Batch | None:
        """The batch to follow `before`, which is under way; None where too few wait, or the order to write matters."""
        if self._waiting.gathered() < max(SPLIT // 3, len(before.units) // 2):
            return None
        units = self._waiting.take(BATCH_ENTRIES)
        if not units or any(unit.change or unit.halting or unit.until for unit in units):
            self._waiting.put_back(units)
            return None
        try:
            return Batch(units, before.head, self._signer)
        except TriadError:  # the same again, with its consequences, when it is their turn
            self._waiting.put_back(units)
            return None

    async def _take_turn(self, connection: asyncpg.Connection, known: HeadRow) -> HeadRow:
        """Wait for this session's turn at the lock, and prove the head as it is then.

        The turn lasts for as many batches as are ready within `TURN`, and ends with the commit of the last of them.
        The lock is handed on in the order of asking, so nobody waits longer than the others' turns.
        """
        try:
            head = await await_turn(connection, self._signer, known, self._patience)
        except BaseException:  # whatever happened: the session's lock must not outlive it
            await self._disconnect()
            raise
        self._turn_ends = time.monotonic() + TURN
        self._contested = head.size != known.size
        self._head = head if self._contested else known
        return self._head

    async def _let_go(self) -> None:
        """Give up a turn that no batch ended, unless the next batch is ready."""
        if self._turn_ends is None or self._ahead is not None:
            return
        connection, self._turn_ends = self._connection, None
        if connection is not None:
            try:
                await connection.execute(_LET_GO, timeout=self._patience)
            except BROKEN:
                await self._disconnect()

    async def _send_locked(
        self, connection: asyncpg.Connection, units: list[Unit], doubts: list[Batch]
    ) -> Stale | Lost | None:
        """Hold the lock, settle what is in doubt, then compose over the head as it is: nobody can come between."""
        async with connection.transaction():
            head = HeadRow.of(await connection.fetchrow("SELECT * FROM ledger_lock()", timeout=self._patience))
            await prove(connection, self._signer, head)
            for doubt in doubts:
                if await doubt.stands(connection):
                    self._head = head
                    doubt.settle()
                    return None
            self._head = head
            if not (units := fitting(units, head)):
                return None
            batch = Batch(units, head, self._signer)
            doubts.append(batch)
            sent = await batch.send(connection, self._patience)
        doubts.pop()
        if sent is None:
            self._stands(batch)
        return sent

    async def _write_apart(self, units: list[Unit], error: BaseException) -> None:
        """The database refuses the batch as such: find out whose fault it is, so that the others are recorded."""
        if len(units) == 1:
            units[0].fail(LedgerUnavailable(f"The database refused the entry: {error}"))
            return
        for unit in units:
            if not failed(unit):
                await self._write([unit])

    def _stands(self, batch: Batch) -> None:
        self._head, self._standing = batch.head, batch
        try:
            self._signer.use(batch.head.key)
            self._signer.committed(batch.head.size, batch.head.root)
        except OSError as error:
            self._settle()
            raise LedgerUnavailable(f"The signer's memory cannot be written: {error}") from error
        except TriadError:
            self._settle()
            raise
        if self._ahead is None:
            self._settle()

    def _settle(self) -> None:
        """Tell those whose batch stands: at once, or as soon as the next one has left."""
        batch, self._standing = self._standing, None
        if batch is not None:
            batch.settle()
            self._committed(batch.head.size)

    async def _reconnect(self, deadline: float) -> asyncpg.Connection:
        pause = 0.05
        while True:
            try:
                self._connection = await self._connect()
            except BROKEN as error:
                if time.monotonic() + pause > deadline:
                    raise LedgerUnavailable(f"The database cannot be reached: {error}") from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._head = self._turn_ends = None
        if connection is not None:
            connection.terminate()
            await asyncio.sleep(0)  # lets the transport close
