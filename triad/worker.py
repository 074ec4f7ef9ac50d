"""Takes operations up and carries them on, one worker at a time for each.

Nothing is lost when a worker dies: the lease runs out, the sweep finds the operation in the record, and another worker
carries on from the saved stage under a new epoch.
"""

import asyncio
import os
import socket
from typing import Final

import structlog

from operations.canonical import new_id
from operations.errors import LedgerUnavailable, StageConflict, TriadError
from operations.events import ConstitutionAmended
from operations.operation import Operation
from operations.stages import Stage
from storage.ledger import Ledger
from triad.flow import Flow
from triad.law import Law

_LOG: Final = structlog.get_logger("triad.worker")
WORKABLE: Final = frozenset(
    stage for stage in Stage if not stage.terminal and stage not in {Stage.IN_DOUBT, Stage.ESCALATED}
)
"""Stages in which an operation may have something to do."""
_WAKING: Final = frozenset(
    {
        "operation.requested",
        "approval.given",
        "approval.withdrawn",
        "plan.superseded",
        "step.reconciled",
        "escalation.resolved",
    }
)
_LEASE_SECONDS: Final = 30


class Worker:
    """Advances operations until told to stop."""

    def __init__(
        self, flow: Flow, ledger: Ledger, law: Law, *, concurrency: int = 4, sweep_seconds: float = 5.0
    ) -> None:
        self._flow = flow
        self._ledger = ledger
        self._law = law
        self._concurrency = concurrency
        self._sweep_seconds = sweep_seconds
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._again: set[str] = set()
        self._busy: set[str] = set()
        self.name = new_id("wk")
        self.where = f"{socket.gethostname()}:{os.getpid()}"

    def poke(self, ident: str) -> None:
        """Say that something may have to be done for an operation."""
        if ident in self._busy:
            self._again.add(ident)
        elif ident not in self._waiting:
            self._waiting.add(ident)
            self._queue.put_nowait(ident)

    @property
    def queued(self) -> int:
        """Operations waiting for a hand."""
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """Operations in hand."""
        return len(self._busy)

    async def run(self) -> None:
        """Work until cancelled; what is in hand is then carried on by whoever comes next."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._sweep())
            for _ in range(self._concurrency):
                group.create_task(self._work())

    async def _listen(self) -> None:
        after = (await self._ledger.head()).size - 1
        while True:
            try:
                async for entry in self._ledger.follow(after):
                    after = entry.index
                    if entry.kind in _WAKING and entry.operation:
                        self.poke(entry.operation)
                    elif entry.kind == "crown.released":
                        await self._find()
                    elif isinstance(entry.event, ConstitutionAmended):
                        self._law.expect(entry.event.enacted)
            except LedgerUnavailable:
                _LOG.warning("ledger unavailable, listening again")
                await asyncio.sleep(1)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._find()
            except LedgerUnavailable:
                _LOG.warning("ledger unavailable, sweeping later")
            await asyncio.sleep(self._sweep_seconds)

    async def _find(self) -> None:
        for op in await self._ledger.operations(stages=WORKABLE, limit=1000):
            self.poke(op.id)

    async def _work(self) -> None:
        while True:
            ident = await self._queue.get()
            self._waiting.discard(ident)
            self._busy.add(ident)
            try:
                await self.advance(ident)
            except StageConflict:
                self._again.add(ident)
            except TriadError as error:
                _LOG.warning("operation waits", operation=ident, error=type(error).__name__, detail=str(error))
            except Exception:  # noqa: BLE001 - a defect in one operation must not stop the others; it is logged and seen
                _LOG.exception("operation waits after a defect", operation=ident)
            finally:
                self._busy.discard(ident)
                if ident in self._again:
                    self._again.discard(ident)
                    self.poke(ident)

    async def advance(self, ident: str) -> Operation | None:
        """Carry one operation as far as it goes; None when another worker holds it."""
        epoch = await self._ledger.claim(ident, self.name, _LEASE_SECONDS)
        if epoch is None:
            return None
        renewing = asyncio.create_task(self._renew(ident, epoch))
        try:
            op = await self._ledger.load(ident)
            return await self._flow.resume(op.model_copy(update={"epoch": epoch}))
        finally:
            renewing.cancel()
            await self._ledger.release(ident, self.name, epoch)

    async def _renew(self, ident: str, epoch: int) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            if not await self._ledger.renew(ident, self.name, epoch, _LEASE_SECONDS):
                _LOG.warning("lease lost", operation=ident)
                return
