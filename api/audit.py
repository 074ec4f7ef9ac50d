"""Verifies the whole ledger without holding it in memory, in a thread of its own, one verification at a time."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from api.schemas import AuditReport, Cosignature, LedgerProblem
from operations.canonical import now
from operations.errors import Gone, NotFound
from storage.cosignatures import policy_of
from storage.integrity import check_tables
from storage.ledger import Ledger
from storage.source import LedgerSource
from storage.verifier.checkpoint import Checkpoint, VerifierKey, parse_note
from storage.verifier.policy import Cosigned, Judged, Policy
from storage.verifier.report import Report
from storage.verifier.rules import Rule
from storage.verifier.verification import verify

_PAGE: Final = 2000
_FRESH: Final = timedelta(seconds=60)
_TEXT: Final = Rule.TEXT.value
_LATEST: Final = 253_402_300_799
"""The last second of the year 9999: what a cosignature says beyond that is no time that can be shown."""


class Auditor:
    """Keeps the newest report. However many ask, one verification runs at a time and answers all who came meanwhile.

    A ledger that did not grow is verified again after a minute at the earliest.

    Args:
        ledger: what is verified.
        keys: the keys that this process trusts for the log, from its own keyring and not from the log.
        source: knows the log's witnesses.
        dsn: of the database, whose other tables and evidence are compared with the entries.
    """

    def __init__(
        self, ledger: Ledger, keys: Callable[[], tuple[VerifierKey, ...]], source: LedgerSource, dsn: str
    ) -> None:
        self._ledger = ledger
        self._keys = keys
        self._source = source
        self._dsn = dsn
        self._report: AuditReport | None = None
        self._running: asyncio.Task[AuditReport] | None = None

    @property
    def last(self) -> AuditReport | None:
        """What the last verification of this process found; None: there was none."""
        return self._report

    async def report(self) -> AuditReport:
        """Whether everything under the newest checkpoint verifies.

        Raises:
            LedgerUnavailable: it cannot be read.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._newest(), name="audit")
        return await asyncio.shield(self._running)

    async def _newest(self) -> AuditReport:
        note = await self._ledger.checkpoint()
        known = self._report
        if known is None or known.size != _size(note) or now() - known.verified > _FRESH:
            known = await self._verified(note)
            lost = any(each.rule == _TEXT for each in known.problems)
            if lost and (newer := await self._ledger.checkpoint()) != note:
                known = await self._verified(newer)  # a text may be gone by an entry after the note
            self._report = known
        return known

    async def _verified(self, note: bytes) -> AuditReport:
        started = time.monotonic()
        policy = policy_of(self._keys(), self._source.peers, self._source.needed)
        entries = _entries(self._ledger, _size(note), asyncio.get_running_loop())
        rotations = await self._rotations()
        log = Policy.of(policy.keys)  # what witnesses still owe is no break; it is reported beside it
        kept = _Kept(self._ledger, asyncio.get_running_loop())
        found = await asyncio.to_thread(
            verify, entries, note, log, rotations=rotations, plans=kept, constitutions=kept, complete=True
        )
        found = (await asyncio.to_thread(asyncio.run, check_tables(self._dsn))).onto(found)
        judged = policy.judge(note, int(time.time())) if found.signers else None
        return _report(found, judged, self._report, time.monotonic() - started)

    async def _rotations(self) -> tuple[bytes, ...]:
        """The checkpoints at which the log's key changed, signed by both keys."""
        found = []
        for period in await self._ledger.keys():
            if period.until is not None:
                try:
                    found.append(await self._ledger.checkpoint(period.until + 1))
                except NotFound:
                    continue
        return tuple(found)


class _Kept(Mapping[str, bytes]):
    """Plans and constitutions from the evidence, piece by piece, for a thread that is not the loop's."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger = ledger
        self._loop = loop

    def __getitem__(self, digest: str) -> bytes:
        try:
            return asyncio.run_coroutine_threadsafe(self._ledger.evidence(digest), self._loop).result()
        except (Gone, NotFound):
            raise KeyError(digest) from None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _size(note: bytes) -> int:
    return Checkpoint.parse(parse_note(note).text).size


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


def _report(found: Report, judged: Judged | None, before: AuditReport | None, seconds: float) -> AuditReport:
    at = now()
    problems = tuple(LedgerProblem(index=each.index, rule=each.rule, sentence=each.sentence) for each in found.problems)
    first = min((each.index for each in problems if each.index is not None), default=None)
    since = before.intact_since if before is not None and before.intact_since is not None else at
    return AuditReport(
        intact=found.ok,
        code=int(found.code),
        size=found.size,
        head=found.root,
        first_bad=first,
        first_bad_rule=next((each.rule for each in problems if each.index == first), None),
        problems=problems,
        found=found.found,
        open_steps=len(found.open_steps),
        omitted=found.omitted,
        unchecked=found.unchecked,
        signatures=found.signers,
        cosignatures=tuple(_cosigned(each) for each in judged.witnesses) if judged else (),
        quorum=judged is not None and judged.quorum_met,
        verified=at,
        intact_since=since if found.ok else None,
        milliseconds=round(seconds * 1000),
    )


def _cosigned(found: Cosigned) -> Cosignature:
    shown = datetime.fromtimestamp(found.time, UTC) if 0 < found.time <= _LATEST else None
    return Cosignature(witness=found.witness.name, time=shown)
