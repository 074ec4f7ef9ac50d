"""Which evidence may go, and its deletion: by the database's own function, only after the entry that says so.

A piece of evidence is as old as the newest entry that names it, and belongs to the classes that its entries name it as.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from operations.canonical import Digest
from operations.evidence import EvidenceClass
from operations.stages import Stage
from storage.engine import transaction

READ_AT_A_TIME: Final = 5000
"""Entries whose evidence is noted in one transaction."""
ONE_AT_A_TIME: Final = 7525913
"""Lock under which evidence expires: of several processes, one does it."""

_TERMINAL: Final = sorted(stage.value for stage in Stage if stage.terminal)
_DUE: Final = text(
    "WITH due AS (SELECT e.digest, octet_length(e.body) AS bytes, max(r.days) AS days, min(u.class) AS class, "
    "min(e.created) AS created "
    "FROM evidence e JOIN evidence_use u USING (digest) "
    "LEFT JOIN unnest(CAST(:classes AS text[]), CAST(:days AS int[])) AS r(class, days) ON r.class = u.class "
    "LEFT JOIN operation o ON o.id = u.operation "
    "WHERE e.created < :youngest GROUP BY e.digest "
    "HAVING bool_and(r.days IS NOT NULL AND u.at < CAST(:now AS timestamptz) - make_interval(days => r.days)) "
    "AND bool_and(u.operation IS NULL OR coalesce(o.stage = ANY(CAST(:terminal AS text[])), false)) "
    "ORDER BY days, min(e.created), e.digest LIMIT :most) "
    "SELECT digest, bytes, days, class FROM due WHERE digest NOT IN (SELECT o_digest FROM "
    "evidence_held(ARRAY(SELECT digest FROM due), true, NULL, NULL)) ORDER BY days, created, digest"
)
_HELD: Final = text("SELECT o_digest, o_why FROM evidence_held(CAST(:digests AS text[]), true, NULL, NULL)")
_INDEX: Final = text("SELECT evidence_index(:most)")
_FORGET: Final = text("SELECT o_removed, o_kept FROM evidence_forget(:index)")
_UNDONE: Final = text(
    "SELECT idx FROM ledger_leaf WHERE (kind = 'evidence.expired' OR (kind = 'personal.erased' AND "
    "jsonb_array_length(convert_from(entry, 'UTF8')::jsonb #> '{event,evidence}') > 0)) "
    "AND kind IN ('evidence.expired', 'personal.erased') "
    "AND idx BETWEEN 0 AND (SELECT max(size) - 1 FROM ledger_checkpoint) "
    "AND NOT EXISTS (SELECT FROM evidence_done d WHERE d.idx = ledger_leaf.idx) ORDER BY idx LIMIT 1000"
)
_TRY: Final = text("SELECT pg_try_advisory_xact_lock(:lock)")


class Due(NamedTuple):
    """A piece of evidence whose time is over."""

    digest: Digest
    bytes: int
    days: int
    kind: str


class Forgotten(NamedTuple):
    """What became of the evidence that an entry says is deleted."""

    removed: tuple[Digest, ...]
    kept: tuple[Digest, ...]


class Archive:
    """The evidence of one database, as far as it can be let go."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read_up(self) -> None:
        """Note which evidence the entries since the last time name, in bounded transactions."""
        left = 1
        while left > 0:
            async with transaction(self._engine) as connection:
                left = (await connection.execute(_INDEX, {"most": READ_AT_A_TIME})).scalar_one()

    async def due(self, days: Mapping[EvidenceClass, int], at: datetime, *, most: int) -> list[Due]:
        """Evidence whose time is over and that nobody needs, the oldest of each rule first.

        Args:
            days: how old a piece of a class may become; what a class without a number names stays.
            at: the time of asking.
            most: at most that many.
        """
        if not days:
            return []
        parameters = {
            "classes": [each.value for each in days],
            "days": list(days.values()),
            "terminal": _TERMINAL,
            "youngest": at - timedelta(days=min(days.values())),
            "now": at,
            "most": most,
        }
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_DUE, parameters)).all()
        return [Due(row.digest, row.bytes, row.days, getattr(row, "class")) for row in rows]

    async def held(self, digest: Digest) -> str | None:
        """Why a piece of evidence may not be erased: `constitution` or `unfinished`; None when it may."""
        await self.read_up()
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_HELD, {"digests": [digest]})).first()
        return str(row.o_why) if row is not None else None

    async def forget(self, index: int) -> Forgotten:
        """Delete what entry `index` says is deleted; nothing happens when that was done before."""
        await self.read_up()
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FORGET, {"index": index})).one()
        return Forgotten(tuple(row.o_removed), tuple(row.o_kept))

    async def undone(self) -> list[int]:
        """Entries whose deletions a crash prevented, oldest first."""
        async with transaction(self._engine) as connection:
            return [row.idx for row in await connection.execute(_UNDONE)]

    def turn(self) -> "Turn":
        """A context whose value says whether it is this process that lets evidence expire."""
        return Turn(self._engine)


class Turn:
    """Held by one process at a time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._open = transaction(engine)

    async def __aenter__(self) -> bool:
        connection = await self._open.__aenter__()
        try:
            return bool((await connection.execute(_TRY, {"lock": ONE_AT_A_TIME})).scalar_one())
        except BaseException as error:  # cancelled, perhaps: nobody else gives the connection back
            await self._open.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *error: object) -> None:
        await self._open.__aexit__(None, None, None)
