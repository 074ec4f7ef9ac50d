"""Takes operations up and carries them on, one worker at a time for each.

Nothing is lost when a worker dies: the lease runs out, the sweep finds the operation in the record, and another worker
carries on from the saved stage under a new epoch.
"""

import asyncio
import os
import socket
from typing import Final

import structlog

from operations.canonical import new_id, now
from operations.errors import Conflict, LedgerUnavailable, StageConflict, TriadError
from operations.events import ConstitutionAmended, EvidenceExpired, PersonalErased
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
_FENCE_SECONDS: Final = 5
"""Seconds before the end of a lease that could not be renewed at which the work in hand is stopped."""
_RETRY_SECONDS: Final = 1
_LONGEST_REST: Final = 60
"""Seconds after which the sweep looks again at what waits for people or for its time."""
_RESTING: Final = frozenset({Stage.PLANNED, Stage.APPROVED, Stage.HALTED})
_PAGE: Final = 500


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
        self._rests: dict[str, float] = {}
        self.name = new_id("wk")
        self.where = f"{socket.gethostname()}:{os.getpid()}"

    def poke(self, ident: str) -> None:
        """Say that something may have to be done for an operation."""
        self._rests.pop(ident, None)
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
                        self._rests.clear()
                        await self._find()
                    elif isinstance(entry.event, ConstitutionAmended):
                        self._rests.clear()
                        self._law.expect(entry.event.enacted)
                    elif isinstance(entry.event, EvidenceExpired):
                        self._ledger.forget(entry.event.digests)
                    elif isinstance(entry.event, PersonalErased):
                        self._ledger.forget(entry.event.evidence)
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
        """Poke all that may have something to do, oldest first, but for what is known to rest."""
        at, after = asyncio.get_running_loop().time(), None
        self._rests = {ident: until for ident, until in self._rests.items() if until > at}
        while page := await self._ledger.waiting(WORKABLE, after=after, limit=_PAGE):
            for ident in page:
                if ident not in self._rests:
                    self.poke(ident)
            after = page[-1]

    def _rest(self, op: Operation) -> None:
        """Let the sweep pass by an operation that has nothing to do until a known time, or until somebody acts."""
        if op.stage not in _RESTING:
            return
        times = (op.request.scheduled_time, op.proposal.expires if op.proposal else None)
        ahead = [time for time in times if time is not None and time > now()]
        if op.stage is Stage.APPROVED and op.request.scheduled_time not in ahead:
            return  # its time has come and something else is in its way, which may pass at any moment
        left = min([(time - now()).total_seconds() for time in ahead] + [_LONGEST_REST])
        self._rests[op.id] = asyncio.get_running_loop().time() + left

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
        """Carry one operation as far as it goes; None when another worker holds it.

        Raises:
            Conflict: `lease-lost`: the claim could not be prolonged in time, and what was in hand has been stopped.
        """
        asked = asyncio.get_running_loop().time()
        epoch = await self._ledger.claim(ident, self.name, _LEASE_SECONDS)
        if epoch is None:
            return None
        working = asyncio.create_task(self._resume(ident, epoch))
        holding = asyncio.create_task(self._hold(ident, epoch, asked))
        try:
            await asyncio.wait({working, holding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _to_the_end(asyncio.create_task(self._let_go(ident, epoch, working, holding)))
        if working.cancelled():
            raise Conflict("lease-lost", "The claim ran out; whoever comes next carries on.")
        return working.result()

    async def _resume(self, ident: str, epoch: int) -> Operation:
        before = await self._ledger.load(ident)
        after = await self._flow.resume(before.model_copy(update={"epoch": epoch}))
        if after.version == before.version:
            self._rest(after)
        return after

    async def _hold(self, ident: str, epoch: int, asked: float) -> None:
        """Prolong the claim for as long as that can be done; returns when it is lost or about to run out.

        A renewal that fails is tried again: a short loss of the database costs nothing. Its own clock, read before the
        database's, says when to stop.
        """
        loop = asyncio.get_running_loop()
        held: float | None = asked
        while held is not None:
            await asyncio.sleep(held + _LEASE_SECONDS / 3 - loop.time())
            renewing = asyncio.create_task(self._renewed(ident, epoch))
            try:
                await asyncio.wait({renewing}, timeout=held + _LEASE_SECONDS - _FENCE_SECONDS - loop.time())
            finally:
                renewing.cancel()
            held = renewing.result() if renewing.done() else None
        _LOG.warning("lease lost", operation=ident)

    async def _renewed(self, ident: str, epoch: int) -> float | None:
        """When the renewal that was granted had been asked for; None when another worker has taken over."""
        while True:
            asked = asyncio.get_running_loop().time()
            try:
                held = await self._ledger.renew(ident, self.name, epoch, _LEASE_SECONDS)
            except LedgerUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return asked if held else None

    async def _let_go(
        self, ident: str, epoch: int, working: "asyncio.Task[Operation]", holding: "asyncio.Task[None]"
    ) -> None:
        """Stop what is in hand, see that its last record has landed, and only then give the claim back.

        What does not end in time is not given back: the claim runs out by itself.
        """
        try:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
            async with asyncio.timeout(_LEASE_SECONDS / 2):
                await self._ledger.landed(ident)
                await self._ledger.release(ident, self.name, epoch)
        except (LedgerUnavailable, TimeoutError):
            _LOG.warning("claim left to run out", operation=ident)
        finally:
            holding.cancel()


async def _to_the_end(task: "asyncio.Task[None]") -> None:
    """Wait for a task even when cancelled meanwhile; the cancellation is not lost."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()
