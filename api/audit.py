"""Verifies the whole ledger without holding it in memory, once for each size, in a thread of its own."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from api.schemas import AuditReport
from operations.canonical import now
from storage.ledger import Ledger
from storage.verifier.checkpoint import Checkpoint, VerifierKey, parse_note
from storage.verify import Report, verify

_PAGE: Final = 2000
_FRESH: Final = timedelta(seconds=60)


class Auditor:
    """Keeps the newest report: a ledger that did not grow is verified again after a minute at the earliest."""

    def __init__(self, ledger: Ledger, key: VerifierKey) -> None:
        self._ledger = ledger
        self._key = key
        self._turn = asyncio.Lock()
        self._report: AuditReport | None = None

    async def report(self) -> AuditReport:
        """Whether everything under the newest checkpoint verifies. One verification runs at a time.

        Raises:
            LedgerUnavailable: it cannot be read.
        """
        async with self._turn:
            note = await self._ledger.checkpoint()
            size = Checkpoint.parse(parse_note(note).text).size
            known = self._report
            if known is None or known.size != size or now() - known.verified > _FRESH:
                started = time.monotonic()
                found = await asyncio.to_thread(
                    verify, _entries(self._ledger, size, asyncio.get_running_loop()), note, (self._key,)
                )
                known = self._report = _report(found, time.monotonic() - started)
            return known


def _entries(ledger: Ledger, size: int, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The entries under a checkpoint, page by page, for a thread that is not the loop's."""
    after = -1
    while after < size - 1:
        limit = min(_PAGE, size - 1 - after)
        page = asyncio.run_coroutine_threadsafe(ledger.raw(after=after, limit=limit), loop).result()
        if not page:
            return
        for index, data in page:
            after = index
            yield data


def _report(found: Report, seconds: float) -> AuditReport:
    return AuditReport(
        intact=found.ok,
        code=int(found.code),
        size=found.size,
        head=found.root,
        first_bad=min((each.index for each in found.problems if each.index is not None), default=None),
        problems=found.problems,
        found=found.found,
        open_steps=len(found.open_steps),
        verified=now(),
        milliseconds=round(seconds * 1000),
    )
