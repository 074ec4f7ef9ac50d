"""API keys: 256 random bits, shown once, stored as their SHA-256. A fast hash is right for what nobody can guess."""

import asyncio
import base64
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from operations.canonical import Instant, Record, now, sha256
from operations.errors import Conflict, NotFound
from operations.model import Principal, PrincipalKind, Role
from storage.engine import transaction
from storage.tables import api_key

FINGERPRINT: Final = 16
"""Hexadecimal digits of the SHA-256 that name a key wherever it is spoken of."""

_FINISH: Final = text(
    "UPDATE api_key SET revoked = now() WHERE revoked IS NULL AND left(digest, 16) IN (SELECT "
    "convert_from(entry, 'UTF8')::jsonb #>> '{event,fingerprint}' FROM ledger_leaf WHERE kind = 'auth.key_revoked')"
)
_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(7525914)")
_SHAPE: Final = re.compile(r"triad_[A-Za-z0-9_-]{43}")


class ApiKey(Record):
    """What may be shown of a key."""

    fingerprint: str
    subject: Principal
    created: Instant
    expires: Instant | None
    revoked: Instant | None


def fingerprint(plaintext: str) -> str:
    """The name of a key."""
    return sha256(plaintext.encode())[:FINGERPRINT]


class ApiKeys:
    """The keys of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._revoking = asyncio.Lock()

    async def create(self, subject: Principal, expires: datetime | None = None) -> str:
        """A new key that speaks for `subject`; returned here and never again.

        Args:
            subject: the principal with the roles that the key carries.
            expires: when it stops being valid; None means not by itself.
        """
        plaintext = "triad_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        values = {
            "digest": sha256(plaintext.encode()),
            "subject": subject.id,
            "kind": subject.kind.value,
            "roles": sorted(role.value for role in subject.roles),
            "person": subject.person,
            "created": now(),
            "expires": expires,
        }
        async with self._engine.begin() as connection:
            await connection.execute(insert(api_key).values(values))
        return plaintext

    async def find(self, plaintext: str) -> Principal | None:
        """The principal a valid key speaks for; None for an unknown, expired or revoked one."""
        if not _SHAPE.fullmatch(plaintext):
            return None
        query = select(api_key).where(
            api_key.c.digest == sha256(plaintext.encode()),
            api_key.c.revoked.is_(None),
            api_key.c.expires.is_(None) | (api_key.c.expires > func.now()),
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _principal(row) if row is not None else None

    async def revoke(self, name: str) -> Principal:
        """Make a key invalid from now on; once revoked it stays so.

        Args:
            name: the key's fingerprint.

        Returns:
            The principal it spoke for.

        Raises:
            NotFound: `unknown-key`: there is no valid key of that fingerprint.
        """
        statement = (
            update(api_key)
            .where(func.left(api_key.c.digest, FINGERPRINT) == name, api_key.c.revoked.is_(None))
            .values(revoked=now())
            .returning(api_key)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).first()
        if row is None:
            raise NotFound("unknown-key", "There is no valid key of that fingerprint.")
        return _principal(row)

    @asynccontextmanager
    async def revoking(self, name: str) -> AsyncIterator[Principal]:
        """Revoke a key at the end of the context, whose body records it; if it raises, nothing is revoked.

        One revocation at a time, in all processes: of several admins who revoke each other's keys at once, one remains.
        What the ledger says is revoked counts as revoked, even if a crash left it valid.

        Args:
            name: the key's fingerprint.

        Returns:
            The principal that it speaks for.

        Raises:
            NotFound: `unknown-key`: there is no valid key of that fingerprint.
            Conflict: `last-admin-key`: no other key would be left with which a person can make keys.
            LedgerUnavailable: not now.
        """
        unexpired = api_key.c.expires.is_(None) | (api_key.c.expires > func.clock_timestamp())
        query = select(api_key).where(api_key.c.revoked.is_(None), unexpired)
        async with self._revoking, transaction(self._engine) as connection:  # at most one of this process waits there
            await connection.execute(_ONE_AT_A_TIME)
            await connection.execute(_FINISH)
            valid = {row.digest[:FINGERPRINT]: _principal(row) for row in await connection.execute(query)}
            if name not in valid:
                raise NotFound("unknown-key", "There is no valid key of that fingerprint.")
            if [each for each, subject in valid.items() if _makes_keys(subject)] == [name]:
                raise Conflict("last-admin-key", "Without it nobody could make keys any more.")
            yield valid[name]
            mine = func.left(api_key.c.digest, FINGERPRINT) == name
            await connection.execute(update(api_key).where(mine, api_key.c.revoked.is_(None)).values(revoked=now()))

    async def finish_revocations(self) -> int:
        """Revoke what the ledger says is revoked and a crash left valid; how many keys that were.

        Raises:
            LedgerUnavailable: not now.
        """
        async with transaction(self._engine) as connection:
            return (await connection.execute(_FINISH)).rowcount

    async def all(self) -> list[ApiKey]:
        """Every key there ever was, newest first."""
        async with self._engine.connect() as connection:
            rows = (await connection.execute(select(api_key).order_by(api_key.c.created.desc()))).all()
        return [
            ApiKey(
                fingerprint=row.digest[:FINGERPRINT],
                subject=_principal(row),
                created=row.created,
                expires=row.expires,
                revoked=row.revoked,
            )
            for row in rows
        ]

    async def count(self) -> int:
        """How many keys there ever were: none means that this is the first start."""
        async with self._engine.connect() as connection:
            return (await connection.execute(select(func.count()).select_from(api_key))).scalar_one()


def _makes_keys(subject: Principal) -> bool:
    return Role.ADMIN in subject.roles and subject.kind is PrincipalKind.PERSON


def _principal(row: Row[tuple[object, ...]]) -> Principal:
    return Principal(
        id=row.subject,
        kind=PrincipalKind(row.kind),
        roles=frozenset(Role(role) for role in row.roles),
        person=row.person,
    )
