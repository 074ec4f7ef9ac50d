"""From a question to a report: finds the entries, reads them page by page in a thread, and puts the report together."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from operations.canonical import canonical_record, now, sha256
from operations.errors import InvalidRequest, LedgerCorrupt, NotFound
from operations.events import ReportStored
from operations.model import Principal
from storage.ledger import Ledger
from storage.reader import Reader
from storage.span import Spans
from storage.verifier.tree import leaf_hash
from triad.analytics.fact import milliseconds
from triad.analytics.fold import Filter, Fold
from triad.analytics.moments import DEFAULT, bucket_of, moment
from triad.analytics.records import (
    Cosigned,
    Lease,
    Live,
    Question,
    Report,
    Scope,
    StoredReport,
    StoredReports,
    Thresholds,
)
from triad.analytics.report import body_of, digest_of, report_of
from triad.law import actor_of

MOST_ENTRIES: Final = 1_000_000
"""Entries that one analysis reads in the service, the range before included: some 15 seconds of one core."""
_TICK: Final = timedelta(milliseconds=1)


class Extent(NamedTuple):
    """How much of the log there is: its size, and the times of its first and last entry."""

    size: int
    first: datetime
    last: datetime


class Analyst:
    """Answers questions about one log.

    Args:
        reader: of the log.
        thresholds: from when on a silence is worth a word.
        origin: the log's identity.
        most: entries that one analysis may read.

    Attributes:
        turn: to be held by whoever shares an analyst: one analysis at a time is enough for one process.
    """

    def __init__(self, reader: Reader, thresholds: Thresholds, origin: str, *, most: int = MOST_ENTRIES) -> None:
        self._reader = reader
        self._spans = Spans(reader)
        self._thresholds = thresholds
        self._origin = origin
        self._most = most
        self.turn = asyncio.Lock()

    async def scope(self, question: Question, at: datetime | None = None) -> Scope:
        """What a question is about, in times and indexes.

        Args:
            question: what is asked.
            at: from when it is seen; otherwise now.

        Raises:
            InvalidRequest: `invalid-field` with the field, or `range-too-large`.
            NotFound: `unknown-operation`, or `ledger-not-begun`.
        """
        log, at = await self._log(), at or now()
        bounds = await self._bounds(question.operation)
        until = _end(question, at)
        if until is None or until >= at:
            until, end = max(at, log.last + _TICK), log.size
        else:
            end = await self._spans.first_at(until, log.size)
        since = await self._begin(question, at, bounds)
        since = max(since, log.first) if since is not None else log.first
        if since >= until:
            raise InvalidRequest(
                "invalid-field", "since: it lies before `until`, and not in the future.", field="since"
            )
        before: datetime | None = since - (until - since) if bounds is None else None
        if before is not None and before < log.first:
            before = None
        first = await self._spans.first_at(since, log.size)
        if end - await self._begun(before, first) > self._most:
            raise InvalidRequest(
                "range-too-large",
                f"An analysis reads at most {self._most:,} entries, the range before included. Take a later `since`.",
                field="since",
            )
        return Scope(
            since=since,
            until=until,
            first=min(first, end),
            end=end,
            before=before,
            bucket_seconds=bucket_of(question.bucket, until - since),
            branch=question.branch,
            operation=question.operation,
            system=question.system,
            playbook=question.playbook,
            principal=question.principal,
        )

    async def report(self, scope: Scope, thresholds: Thresholds | None = None) -> Report:
        """The report on a scope: the same entries and thresholds give the same report.

        Raises:
            LedgerCorrupt: an entry cannot be read; `triad audit verify` says what is wrong with it.
        """
        thresholds = thresholds or self._thresholds
        begun = await self._begun(scope.before, scope.first)
        fold = Fold(
            Filter(
                branch=scope.branch.value if scope.branch else None,
                operation=scope.operation,
                system=scope.system,
                playbook=scope.playbook,
                principal=scope.principal,
            ),
            since=milliseconds(scope.since),
            before=milliseconds(scope.before or scope.since),
            quick=thresholds.quick_seconds * 1000,
            bucket=scope.bucket_seconds * 1000,
            halted=await self._spans.halted(begun),
        )
        try:
            await self._read(fold, scope, begun)
            last = await self._spans.entry(scope.end - 1)
            return await asyncio.to_thread(
                report_of,
                fold,
                scope,
                thresholds,
                origin=self._origin,
                last=leaf_hash(last).hex() if last is not None else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerCorrupt("An entry is not one that can be analysed; `triad audit verify` says more.") from error

    async def _read(self, fold: Fold, scope: Scope, begun: int) -> None:
        if scope.operation is not None:
            pages = self._spans.pages(0, begun, operation=scope.operation)
        else:
            pages = self._spans.leading(begun, scope.before or scope.since)
        if begun:
            async for page in pages:
                await asyncio.to_thread(fold.read, page)
        async for page in self._spans.pages(begun, scope.end, operation=scope.operation):
            await asyncio.to_thread(fold.read, page)

    async def live(self, report: Report) -> Live:
        """What only this moment knows: who holds the operations with open acts, and how far witnesses followed."""
        ended = report.scope.end < await self._spans.size()
        wanted = [] if ended else list(dict.fromkeys(each.operation for each in report.intents))
        rows = await self._spans.leases(wanted)
        leases = tuple(
            Lease(
                operation=row.operation,
                state="none" if not row.held else "alive" if (row.left or 0) > 0 else "dead",
                seconds=row.left if row.held else None,
            )
            for row in rows
        )
        return Live(leases=leases, cosigned=await self._cosigned(report.thresholds))

    async def _cosigned(self, thresholds: Thresholds) -> Cosigned | None:
        row = await self._spans.cosigned()
        if row is None:
            return None
        waiting_since = await self._spans.time(row.size)
        age = max(milliseconds(now()) - milliseconds(waiting_since), 0) if waiting_since is not None else 0
        behind = max(await self._spans.size() - row.size, 0)
        late = age > thresholds.cosigned_seconds * 1000
        return Cosigned(size=row.size, witness=row.witness, behind=behind, age=age, late=late)

    async def stored(self, *, before: int | None = None, limit: int = 50) -> StoredReports:
        """Reports that were stored, newest first, those whose entry lies below the index `before`."""
        rows = await self._spans.stored(before=before, limit=limit)
        return StoredReports(
            items=tuple(
                StoredReport(digest=row.report, index=row.index, time=row.time, first=row.first, end=row.end, by=row.by)
                for row in rows
            )
        )

    async def load(self, digest: str) -> tuple[Report, bytes]:
        """The report that was stored under a digest, and its canonical bytes.

        Raises:
            NotFound: `unknown-report`, or what became of its evidence.
            LedgerCorrupt: what is stored is no report.
        """
        if await self._spans.stored_as(digest) is None:
            raise NotFound("unknown-report", "No report was stored under that digest.")
        body = await self._reader.evidence(digest)
        try:
            report = Report.model_validate_json(body)
        except ValueError as error:
            raise LedgerCorrupt("The stored report is not one of this version.") from error
        if body_of(report) != body:
            raise LedgerCorrupt("The stored report is not in its canonical form.")
        return report, body

    async def recomputed(self, report: Report) -> str:
        """The digest that the entries give today for what a stored report was about."""
        return digest_of(await self.report(report.scope, report.thresholds))

    async def _log(self) -> Extent:
        size = await self._spans.size()
        if not size:
            raise NotFound("ledger-not-begun", "The ledger has no entry yet.")
        first, last = await self._spans.time(0), await self._spans.time(size - 1)
        if first is None or last is None:
            raise LedgerCorrupt("The first or the last entry is missing.")
        return Extent(size, first, last)

    async def _bounds(self, operation: str | None) -> tuple[int, int] | None:
        if operation is None:
            return None
        bounds = await self._spans.bounds(operation)
        if bounds is None:
            raise NotFound("unknown-operation", "There is no operation of that id.")
        return bounds

    async def _begin(self, question: Question, at: datetime, bounds: tuple[int, int] | None) -> datetime | None:
        if question.since is None and bounds is not None:
            return await self._spans.time(bounds[0])
        return moment(question.since or DEFAULT, at, "since")

    async def _begun(self, before: datetime | None, first: int) -> int:
        """Index of the first entry that counts in either range."""
        return first if before is None else await self._spans.first_at(before, first)


def _end(question: Question, at: datetime) -> datetime | None:
    """When the range ends; None: now.

    Raises:
        InvalidRequest: the text names no time after the log's beginning.
    """
    if question.until is None:
        return None
    until = moment(question.until, at, "until")
    if until is None:
        raise InvalidRequest("invalid-field", "until: the range cannot end where the log begins.", field="until")
    return until.astimezone(UTC)


async def store(ledger: Ledger, principal: Principal, report: Report) -> StoredReport:
    """Keep a report: its canonical bytes as evidence under their SHA-256, and an entry that names it.

    Raises:
        LedgerUnavailable: nothing was recorded.
    """
    body = canonical_record(report)
    scope = report.scope
    event = ReportStored(report=sha256(body), first=scope.first, end=scope.end, by=principal.id)
    index = await ledger.note(event, actor_of(principal), attachments=(body,))
    at = await Spans(ledger).time(index)
    return StoredReport(
        digest=event.report, index=index, time=at or now(), first=scope.first, end=scope.end, by=principal.id
    )
