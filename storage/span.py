"""Parts of the ledger by time: entries never lie before the one in front of them, so a time is found by bisection.

Reading only; what is asked here needs no index over times.
"""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from operations.canonical import Digest, Record
from operations.errors import LedgerCorrupt
from operations.stages import TRANSITIONS, Stage
from storage.reader import Reader

PAGE: Final = 2000
"""Entries read at a time."""
_MARGIN: Final = timedelta(hours=1)
"""An operation's row has the time of the host that moved it, which may lie that far before the entry's."""
_OPEN: Final = [stage.value for stage in Stage if TRANSITIONS[stage]]


class LeaseRow(Record):
    """The claim on an operation; `left` is in seconds, negative when it ran out."""

    operation: str
    held: bool
    left: int | None


class CosignedRow(Record):
    """A cosigned head."""

    size: int
    witness: str
    at: datetime


class StoredRow(Record):
    """An entry that says that a report was stored."""

    index: int
    time: datetime
    report: Digest
    first: int
    end: int
    by: str


class Spans:
    """Reads parts of a ledger. Every method raises `LedgerUnavailable` when the database cannot be read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def _rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._reader._fetch(sql, *arguments)  # noqa: SLF001 - a part of the reader, in a file of its own

    async def size(self) -> int:
        """How many entries there are."""
        rows = await self._rows("SELECT idx FROM ledger_leaf ORDER BY idx DESC LIMIT 1")
        return int(rows[0]["idx"]) + 1 if rows else 0

    async def entry(self, index: int) -> bytes | None:
        """The canonical bytes of one entry."""
        rows = await self._rows("SELECT entry FROM ledger_leaf WHERE idx = $1", index)
        return bytes(rows[0]["entry"]) if rows else None

    async def time(self, index: int) -> datetime | None:
        """When an entry was recorded; None where there is no such entry.

        Raises:
            LedgerCorrupt: what is stored there is no entry.
        """
        data = await self.entry(index)
        return _entry(data)[0] if data is not None else None

    async def first_at(self, at: datetime, size: int) -> int:
        """Index of the first of `size` entries that does not lie before `at`; `size` when all of them do."""
        low, high = 0, size
        while low < high:
            middle = (low + high) // 2
            time = await self.time(middle)
            if time is None or time >= at:
                high = middle
            else:
                low = middle + 1
        return low

    async def bounds(self, operation: str) -> tuple[int, int] | None:
        """Indexes of the first and the last entry of an operation; None when it has none."""
        rows = await self._rows(
            "SELECT min(idx) AS first, max(idx) AS last FROM ledger_leaf WHERE operation = $1", operation
        )
        return None if rows[0]["first"] is None else (rows[0]["first"], rows[0]["last"])

    async def pages(self, first: int, end: int, *, operation: str | None = None) -> AsyncIterator[list[bytes]]:
        """Canonical bytes of the entries `first` up to, not including, `end`, page by page; of one operation alone."""
        after = first - 1
        while after < end - 1:
            rows = await self._rows(
                "SELECT idx, entry FROM ledger_leaf WHERE idx > $1 AND idx < $2 "
                "AND ($3::text IS NULL OR operation = $3) ORDER BY idx LIMIT $4",
                after,
                end,
                operation,
                PAGE,
            )
            if not rows:
                return
            after = rows[-1]["idx"]
            yield [row["entry"] for row in rows]

    async def leading(self, first: int, since: datetime) -> AsyncIterator[list[bytes]]:
        """Entries before `first` of the operations that were under way at `since`, in order, page by page.

        Operations that had ended by then, and entries beside operations, are left out.
        """
        rows = await self._rows(
            "SELECT id FROM operation WHERE created <= $1 AND (updated >= $2 OR stage = ANY($3))",
            since,
            since - _MARGIN,
            _OPEN,
        )
        wanted, after = [row["id"] for row in rows], -1
        while wanted:
            rows = await self._rows(
                "SELECT idx, entry FROM ledger_leaf WHERE operation = ANY($1) AND idx > $2 AND idx < $3 "
                "ORDER BY idx LIMIT $4",
                wanted,
                after,
                first,
                PAGE,
            )
            if not rows:
                return
            after = rows[-1]["idx"]
            yield [row["entry"] for row in rows]

    async def halted(self, size: int) -> bool:
        """Whether the crown's halt was on after the first `size` entries: a batch ends with what changes that."""
        rows = await self._rows("SELECT halted FROM ledger_head WHERE size <= $1 ORDER BY size DESC LIMIT 1", size)
        return bool(rows and rows[0]["halted"])

    async def leases(self, operations: Collection[str]) -> list[LeaseRow]:
        """The claims on operations, as they are now."""
        rows = await self._rows(
            "SELECT id, worker IS NOT NULL AS held, extract(epoch FROM leased_until - now())::integer AS remaining "
            "FROM operation WHERE id = ANY($1) ORDER BY id",
            list(operations),
        )
        return [LeaseRow(operation=row["id"], held=row["held"], left=row["remaining"]) for row in rows]

    async def stored(self, *, before: int | None = None, limit: int = 50) -> list[StoredRow]:
        """Entries of stored reports, newest first, those below the index `before`."""
        rows = await self._rows(
            "SELECT entry FROM ledger_leaf WHERE kind = 'report.stored' AND ($1::bigint IS NULL OR idx < $1) "
            "ORDER BY idx DESC LIMIT $2",
            before,
            limit,
        )
        return [_stored(row["entry"]) for row in rows]

    async def stored_as(self, digest: str) -> StoredRow | None:
        """The newest entry that names a report's digest."""
        before: int | None = None
        while page := await self.stored(before=before, limit=500):
            for row in page:
                if row.report == digest:
                    return row
            before = page[-1].index
        return None

    async def cosigned(self) -> CosignedRow | None:
        """The newest head that a witness cosigned; None where none ever was."""
        rows = await self._rows("SELECT size, name, at FROM ledger_cosignature ORDER BY size DESC, at DESC LIMIT 1")
        if not rows:
            return None
        return CosignedRow(size=rows[0]["size"], witness=rows[0]["name"], at=datetime.fromtimestamp(rows[0]["at"], UTC))


def _entry(data: bytes) -> tuple[datetime, dict[str, Any]]:
    """An entry's time and all of it."""
    try:
        entry: dict[str, Any] = orjson.loads(data)
        return datetime.fromisoformat(entry["time"]), entry
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerCorrupt("A stored entry is not one; `triad audit verify` says which.") from error


def _stored(data: bytes) -> StoredRow:
    time, entry = _entry(data)
    event = entry["event"]
    return StoredRow(
        index=entry["index"],
        time=time,
        report=event["report"],
        first=event["first"],
        end=event["end"],
        by=event["by"],
    )
