"""Requests with an Idempotency-Key: the first is carried out, its answer is kept, every repetition gets that answer.

Rows survive a restart. A request whose process died is open again after `stale` seconds: it may have had its effect,
so whoever carries it out looks for the operation that was requested under this key before it submits another.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from sqlalchemy import Delete, Update, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from operations.errors import Conflict, InvalidRequest
from storage.tables import idempotency

STALE: Final = timedelta(seconds=60)
"""How long a request may be in flight before its process is believed dead."""

KEPT: Final = timedelta(hours=24)
"""How long an answer is kept."""


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """Carry it out, then `finish` or `abandon`. `again`: an earlier request with this key died without an answer."""

    principal: str
    key: str
    token: str
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Replay:
    """It was carried out: give the same answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Idempotency:
    """The kept answers of one database.

    Args:
        engine: of the service's role.
        stale: see `STALE`.
    """

    def __init__(self, engine: AsyncEngine, *, stale: timedelta = STALE) -> None:
        self._engine = engine
        self._stale = stale

    async def begin(self, principal: str, key: str, body_sha256: str) -> Fresh | Replay:
        """Ask whether to carry a request out. Of several at once exactly one is told `Fresh`.

        Raises:
            Conflict: `idempotency-in-progress`: the first one has no answer yet.
            InvalidRequest: `idempotency-key-reused`: the key came with another body before.
        """
        fresh = Fresh(principal=principal, key=key, token=secrets.token_hex(16))
        values = {"principal": principal, "key": key, "body_sha256": body_sha256, "token": fresh.token}
        first = insert(idempotency).values(**values, started=func.now()).on_conflict_do_nothing()
        async with self._engine.begin() as connection:
            if (await connection.execute(first.returning(idempotency.c.key))).first() is not None:
                return fresh
            return await self._repeated(connection, fresh, body_sha256)

    async def _repeated(self, connection: AsyncConnection, fresh: Fresh, body_sha256: str) -> Fresh | Replay:
        mine = (idempotency.c.principal == fresh.principal) & (idempotency.c.key == fresh.key)
        row = (await connection.execute(select(idempotency).where(mine))).one_or_none()
        if row is not None and row.body_sha256 != body_sha256:
            raise InvalidRequest(
                "idempotency-key-reused", "This key came with another body before.", field="Idempotency-Key"
            )
        if row is not None and row.status is not None:
            return Replay(status=row.status, headers=row.headers, body=row.body)
        taken = (
            update(idempotency)
            .where(mine, idempotency.c.status.is_(None), idempotency.c.started < func.now() - self._stale)
            .values(token=fresh.token, started=func.now())
            .returning(idempotency.c.key)
        )
        if (await connection.execute(taken)).first() is not None:
            return replace(fresh, again=True)
        raise Conflict("idempotency-in-progress", "The first request with this key has no answer yet.")

    async def finish(self, fresh: Fresh, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep the answer; False when another request took the key over in the meantime."""
        return await self._close(
            update(idempotency)
            .where(idempotency.c.principal == fresh.principal, idempotency.c.key == fresh.key)
            .where(idempotency.c.token == fresh.token, idempotency.c.status.is_(None))
            .values(status=status, headers=dict(headers), body=body)
        )

    async def abandon(self, fresh: Fresh) -> bool:
        """Nothing was changed: the key may be used again, as if it never came."""
        return await self._close(
            delete(idempotency)
            .where(idempotency.c.principal == fresh.principal, idempotency.c.key == fresh.key)
            .where(idempotency.c.token == fresh.token, idempotency.c.status.is_(None))
        )

    async def forget(self, *, kept: timedelta = KEPT) -> int:
        """Delete answers older than `kept`; how many there were."""
        old = delete(idempotency).where(idempotency.c.started < func.now() - kept)
        async with self._engine.begin() as connection:
            return (await connection.execute(old)).rowcount

    async def _close(self, statement: Update | Delete) -> bool:
        async with self._engine.begin() as connection:
            return (await connection.execute(statement)).rowcount == 1
