"""The group-commit writer: all that this process records goes through one coroutine, a batch a transaction.

A batch is composed and signed in memory, then sent in one round trip; the database compares the head and every
operation's version under one lock. A checkpoint signed for a batch that did not commit never leaves this process.
A lost connection leaves open whether the batch stands: the writer asks the head for the batch's token under the lock
before it writes anything again, so nothing is ever written twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import asyncpg

from operations.errors import Conflict, LedgerCorrupt, LedgerUnavailable, StageConflict, TriadError, WarrantRefused
from storage.batch import Batch, HeadRow, Lost, Stale
from storage.draft import Place, Unit
from storage.engine import BROKEN
from storage.nodes import read_nodes
from storage.signer import Signer
from storage.verifier import tree

CAPACITY: Final = 4096
"""Units that may wait; whoever comes next waits for room."""

BATCH_ENTRIES: Final = 1024
"""Entries after which a batch takes no further unit."""

LINGER: Final = 0.02
"""Seconds that units nobody waits for yet may wait for company: an operation's decisions then share a transaction."""

PATIENCE: Final = 10.0
"""Seconds the writer tries to reach the database before those who wait are told that nothing was recorded."""

_CONNECTION_LOST: Final = ("08", "57")  # SQLSTATE classes: connection exceptions, operator intervention


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
        self._queue: asyncio.Queue[Unit] = asyncio.Queue(CAPACITY)
        self._waiting: list[Unit] = []
        self._connection: asyncpg.Connection | None = None
        self._head: HeadRow | None = None
        self._task: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()
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
            await self._prove(connection, self._head)
        except BROKEN as error:
            await self._disconnect()
            raise LedgerUnavailable(f"The ledger cannot be read: {error}") from error
        except LedgerCorrupt:
            await self._disconnect()
            raise
        self._task = asyncio.create_task(self._run(), name="ledger-writer")
        self._task.add_done_callback(self._ended)

    @property
    def seen(self) -> HeadRow | None:
        """The last head this process saw; None when it has to ask again."""
        return self._head

    async def put(self, unit: Unit) -> None:
        """Queue a unit; waits while the queue is full. The answer comes through `unit.place`.

        Raises:
            LedgerUnavailable: the writer is closed.
        """
        if self._task is None or self._task.done():
            raise LedgerUnavailable("The ledger is closed.")
        self._idle.clear()
        await self._queue.put(unit)
        if unit.eager:
            self._hurried.set()
        if self._task.done():  # it ended while this unit waited for room
            self._fail(self._drained(), LedgerUnavailable("The ledger is closed."))

    def hurry(self) -> None:
        """Somebody waits for what is queued: write it now."""
        self._hurried.set()

    async def close(self) -> None:
        """Write what is queued, then stop."""
        self._hurried.set()
        if self._task is not None and not self._task.done():
            await self._idle.wait()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._disconnect()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._fail(self._drained(), LedgerUnavailable("The ledger is closed."))
        self._idle.set()
        if not task.cancelled():
            task.exception()  # a defect: every caller was told, the loop's own report would come too late

    def _drained(self) -> list[Unit]:
        units, self._waiting = self._waiting, []
        while not self._queue.empty():
            units.append(self._queue.get_nowait())
        return units

    def _fail(self, units: Iterable[Unit], error: TriadError) -> None:
        for unit in units:
            unit.fail(error)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._queue.empty():
                    self._idle.set()
                self._waiting.append(await self._queue.get())
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            try:
                await self._write(batch)
            except LedgerUnavailable as error:
                self._fail([*batch, *self._drained()], error)
            except LedgerCorrupt as error:
                self._fail(batch, error)
            except asyncio.CancelledError:
                self._fail(batch, LedgerUnavailable("The writer was stopped; whether it was recorded is not known."))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told and the writer goes on
                unknown = LedgerUnavailable("Writing failed; whether it was recorded is not known.")
                unknown.__cause__ = error
                self._fail(batch, unknown)
                await self._disconnect()

    async def _gather(self) -> None:
        """Give units that nobody waits for a moment to find company, then take up all that is queued."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._hurried.wait()
        self._hurried.clear()
        while not self._queue.empty() and len(self._waiting) < CAPACITY:
            self._waiting.append(self._queue.get_nowait())

    def _take(self) -> list[Unit]:
        """The next batch, in order; what cannot stand in one transaction with it stays waiting, in order."""
        batch: list[Unit] = []
        left: list[Unit] = []
        last: dict[str, Unit] = {}
        epochs: dict[str, int] = {}
        blocked: set[str] = set()
        warrants: set[str] = set()
        entries, full = 0, False
        for unit in self._waiting:
            if _failed(unit):
                continue
            operation, used = unit.operation, unit.consumption
            fits = (
                not full
                and (operation is None or (operation not in blocked and _continues(last.get(operation), unit, epochs)))
                and (used is None or used.warrant not in warrants)
            )
            if not fits:
                left.append(unit)
                if operation is not None:
                    blocked.add(operation)
                continue
            batch.append(unit)
            entries += len(unit.drafts)
            full = entries >= BATCH_ENTRIES or unit.change is not None
            if operation is not None:
                last[operation] = unit
                if unit.standing is not None and unit.standing.epoch is not None:
                    epochs[operation] = unit.standing.epoch
            if used is not None:
                warrants.add(used.warrant)
        self._waiting = left
        if left:
            self._hurried.set()
        return batch

    async def _write(self, units: list[Unit]) -> None:
        """Record or answer every one of these units.

        Raises:
            LedgerUnavailable: the database could not be reached in time.
            LedgerCorrupt: the stored log does not extend what was signed.
        """
        deadline = time.monotonic() + self._patience
        doubts: list[Batch] = []
        head = self._head
        while units:
            connection = self._connection
            if connection is None:
                connection, head = await self._reconnect(deadline), None
            try:
                if head is None or head.size == 0 or units[-1].change is not None or any(u.halting for u in units):
                    sent = await self._send_locked(connection, units, doubts)
                else:
                    sent = await self._send(connection, units, head, doubts)
            except BROKEN as error:
                if connection.is_closed() or _is_lost(error):
                    await self._disconnect()
                    continue
                await self._write_apart(units, error)
                return
            match sent:
                case None:
                    return
                case Stale():
                    head = None  # another process was faster: compose again while holding the lock
                case Lost(answers):
                    for unit, answer in answers.items():
                        unit.fail(answer)
                    units = [unit for unit in units if not _failed(unit)]
                    head = self._head

    async def _send(
        self, connection: asyncpg.Connection, units: list[Unit], head: HeadRow, doubts: list[Batch]
    ) -> Stale | Lost | None:
        if not (units := _fitting(units, head)):
            return None
        batch = Batch(units, head, self._signer)
        doubts.append(batch)
        sent = await batch.send(connection, self._patience)
        doubts.pop()
        if sent is None:
            self._stands(batch)
        return sent

    async def _send_locked(
        self, connection: asyncpg.Connection, units: list[Unit], doubts: list[Batch]
    ) -> Stale | Lost | None:
        """Hold the lock, settle what is in doubt, then compose over the head as it is: nobody can come between."""
        async with connection.transaction():
            head = HeadRow.of(await connection.fetchrow("SELECT * FROM ledger_lock()", timeout=self._patience))
            await self._prove(connection, head)
            for doubt in doubts:
                if await doubt.stands(connection):
                    self._head = head
                    doubt.settle()
                    return None
            self._head = head
            if not (units := _fitting(units, head)):
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
            if not _failed(unit):
                await self._write([unit])

    def _stands(self, batch: Batch) -> None:
        self._head = batch.head
        batch.settle()
        self._committed(batch.head.size)
        try:
            self._signer.committed(batch.head.size, batch.head.root)
        except OSError as error:
            raise LedgerUnavailable(f"The signer's memory cannot be written: {error}") from error

    async def _prove(self, connection: asyncpg.Connection, head: HeadRow) -> None:
        """Check that the stored head extends the last checkpoint this process knows of."""
        known, root = self._signer.head, head.root
        if (known.size, known.root) == (head.size, root):
            return
        wanted = tree.consistency_nodes(known.size, head.size) if known.size <= head.size else []
        nodes = await read_nodes(connection, wanted)
        proof = tree.consistency_proof(known.size, head.size, nodes.get_node) if wanted else []
        self._signer.check_extends(head.size, root, proof)

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
        self._head = None
        if connection is not None:
            connection.terminate()
            await asyncio.sleep(0)  # lets the transport close


def _is_lost(error: BaseException) -> bool:
    """Whether the error leaves open what the server did with the last statement."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_CONNECTION_LOST)
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)


def _failed(unit: Unit) -> bool:
    """Whether the unit was answered with an error, or is built on one that was; it is answered then."""
    previous = unit.previous
    if previous is not None and previous.error is not None:
        unit.fail(previous.error)
    return unit.done


def _continues(last: Unit | None, unit: Unit, epochs: Mapping[str, int]) -> bool:
    """Whether `unit` may share a transaction with `last`, the unit of its operation before it in the batch.

    `epochs` are those that the batch asks for already; a unit that asks for none goes with any.
    """
    if last is None:
        return True
    if unit.previous is not last or unit.standing is None or last.standing is None:
        return False
    return unit.standing.epoch in {None, epochs.get(unit.standing.operation, unit.standing.epoch)}


def _fitting(units: list[Unit], head: HeadRow) -> list[Unit]:
    """The units that fit the state of the log: a genesis when it is empty, others when it is not.

    Time in the log may be ahead of a caller's clock, and a halt may have ended since a caller saw it.
    """
    fitting: list[Unit] = []
    latest = head.latest
    for unit in units:
        if _failed(unit):
            continue
        at = max(latest, unit.drafts[-1].at)
        genesis = unit.change is not None and unit.change.genesis
        if genesis and head.size:
            unit.settle(Place(0, head.constitution))
        elif not genesis and not head.size:
            unit.fail(LedgerUnavailable("The ledger has not begun."))
        elif unit.until is not None and unit.until <= at:
            unit.fail(_expired(unit))
        elif unit.halting and not head.halted:
            unit.fail(StageConflict(unit.operation or ""))
        else:
            fitting.append(unit)
            latest = at
    return fitting


def _expired(unit: Unit) -> TriadError:
    if unit.consumption is None:
        return Conflict("expired", "The plan or an approval had expired when the decision was to be recorded.")
    return WarrantRefused("expired", "The warrant or an approval it rests on had expired when its use was recorded.")
