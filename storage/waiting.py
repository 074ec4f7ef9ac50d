"""The units that wait to be written: in order, bounded, and taken so that those taken can stand together."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

from operations.errors import Conflict, LedgerUnavailable, StageConflict, TriadError, WarrantRefused
from storage.batch import HeadRow
from storage.draft import Place, Unit

CAPACITY: Final = 4096
"""Units that may wait; whoever comes next waits for room."""

BATCH_ENTRIES: Final = 1024
"""Entries after which a batch takes no further unit."""

LINGER: Final = 0.02
"""Seconds that units nobody waits for yet may wait for company: an operation's decisions then share a transaction."""


class Waiting:
    """A queue whose head can be looked through: what cannot go yet keeps its place."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Unit] = asyncio.Queue(CAPACITY - BATCH_ENTRIES)
        self._units: list[Unit] = []
        self._hurried = asyncio.Event()

    def __len__(self) -> int:
        return self._queue.qsize() + len(self._units)

    async def put(self, unit: Unit) -> None:
        """Add a unit; waits while the queue is full."""
        await self._queue.put(unit)
        if unit.eager:
            self._hurried.set()

    def put_back(self, units: Iterable[Unit]) -> None:
        """These were taken and wait again, before all others."""
        self._units[:0] = units
        self._hurried.set()

    def hurry(self) -> None:
        """Somebody waits for what is here."""
        self._hurried.set()

    def gathered(self) -> int:
        """Take up what is queued; how many wait now."""
        while not self._queue.empty() and len(self._units) < BATCH_ENTRIES:
            self._units.append(self._queue.get_nowait())
        return len(self._units)

    async def gather(self) -> int:
        """Wait for a unit, and where nobody waits for it yet, a moment for its company; how many wait then."""
        if not self._units:
            self._units.append(await self._queue.get())
        if not self._hurried.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._hurried.wait()
        self._hurried.clear()
        return self.gathered()

    def drained(self) -> list[Unit]:
        """All of them; none waits any more."""
        units, self._units = self._units, []
        while not self._queue.empty():
            units.append(self._queue.get_nowait())
        return units

    def take(self, limit: int) -> list[Unit]:
        """The next units, at most so many; what cannot stand in one transaction with them stays, in order."""
        taken: list[Unit] = []
        left: list[Unit] = []
        last: dict[str, Unit] = {}
        epochs: dict[str, int] = {}
        blocked: set[str] = set()
        warrants: set[str] = set()
        entries, full = 0, False
        for number, unit in enumerate(self._units):
            if full:
                left += self._units[number:]
                break
            if failed(unit):
                continue
            operation, used = unit.operation, unit.consumption
            fits = (
                operation is None or (operation not in blocked and _continues(last.get(operation), unit, epochs))
            ) and (used is None or used.warrant not in warrants)
            if not fits:
                left.append(unit)
                if operation is not None:
                    blocked.add(operation)
                continue
            taken.append(unit)
            entries += len(unit.drafts)
            full = len(taken) >= limit or entries >= BATCH_ENTRIES or unit.change is not None
            if operation is not None:
                last[operation] = unit
                if unit.standing is not None and unit.standing.epoch is not None:
                    epochs[operation] = unit.standing.epoch
            if used is not None:
                warrants.add(used.warrant)
        self._units = left
        if left:
            self._hurried.set()
        return taken


def failed(unit: Unit) -> bool:
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


def fitting(units: list[Unit], head: HeadRow) -> list[Unit]:
    """The units that fit the state of the log: a genesis when it is empty, others when it is not.

    Time in the log may be ahead of a caller's clock, and a halt may have ended since a caller saw it.
    """
    fitting: list[Unit] = []
    latest = head.latest
    for unit in units:
        if failed(unit):
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
        elif unit.change is not None and unit.change.retires not in {None, head.key}:
            unit.fail(Conflict("key-stale", "Another key of the log is in force than the one to be replaced."))
        else:
            fitting.append(unit)
            latest = at
    return fitting


def _expired(unit: Unit) -> TriadError:
    if unit.consumption is None:
        return Conflict("expired", "The plan or an approval had expired when the decision was to be recorded.")
    return WarrantRefused("expired", "The warrant or an approval it rests on had expired when its use was recorded.")
