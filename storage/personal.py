"""What is personal about a subject, outside the ledger: the ledger holds SHA-256(salt || value) and nothing else.

The entry comes first, then the value: a value without its entry cannot be, and an entry whose value never arrived is
like one whose value was erased. A value is not taken in when an erasure of its commitment was recorded meanwhile.
"""

import secrets
from collections.abc import Collection
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple, Self

from sqlalchemy import Row, TextClause, delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from operations.canonical import Digest, Record
from operations.errors import NotFound
from operations.events import PersonalRecorded
from storage.engine import transaction
from storage.tables import personal

SALT: Final = 32
"""Random bytes before the value: as long as the hash, so that no value can be guessed from its commitment."""

_LOCK: Final = text("SELECT pg_advisory_xact_lock(7525912, hashtext(:subject))")
_BODY: Final = "convert_from(entry, 'UTF8')::jsonb #> '{event}'"
_ERASED: Final = (
    f"SELECT jsonb_array_elements_text({_BODY} -> 'commitments') FROM ledger_leaf WHERE kind = 'personal.erased'"  # noqa: S608 - fixed parts
)
_STANDING: Final = text(
    "SELECT r.commitment FROM (SELECT idx, "  # noqa: S608 - fixed parts
    f"{_BODY} ->> 'subject' AS subject, {_BODY} ->> 'commitment' AS commitment "
    "FROM ledger_leaf WHERE kind = 'personal.recorded') AS r "
    f"WHERE r.subject = :subject AND r.commitment NOT IN ({_ERASED}) ORDER BY r.idx"
)
_SINCE: Final = text(f"SELECT :commitment IN ({_ERASED} AND idx > :index)")
_SWEEP: Final = text(f"DELETE FROM personal WHERE commitment IN ({_ERASED})")  # noqa: S608 - fixed parts


class PersonalField(StrEnum):
    """What may be kept about somebody."""

    NAME = "name"
    """What they are called."""
    EMAIL = "email"
    CONTACT = "contact"
    """How else they are reached."""


class Secret(NamedTuple):
    """A value with the salt that hides it in its commitment."""

    salt: bytes
    value: str

    @classmethod
    def of(cls, value: str) -> Self:
        """The value with a fresh salt."""
        return cls(secrets.token_bytes(SALT), value)

    @property
    def commitment(self) -> Digest:
        """SHA-256(salt || value), the value in UTF-8."""
        return sha256(self.salt + self.value.encode()).hexdigest()


class Datum(Record):
    """One thing that is kept about a subject; entry `index` of the ledger holds its commitment."""

    subject: str
    field: PersonalField
    value: str
    commitment: Digest
    index: int


class Opening(Datum):
    """What proves that the commitment held the value: SHA-256 of the salt's bytes followed by the value in UTF-8."""

    salt: str


class People:
    """What one database keeps about people."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def keep(self, event: PersonalRecorded, index: int, secret: Secret) -> bool:
        """Take in a value whose entry was recorded, in the place of an older one.

        Args:
            event: as recorded.
            index: of its entry.
            secret: what the commitment hides.

        Returns:
            False when it is not kept: an erasure, or a newer value, was recorded meanwhile.
        """
        mine = (personal.c.subject == event.subject, personal.c.field == event.field)
        async with transaction(self._engine) as connection:
            await connection.execute(_LOCK, {"subject": event.subject})
            erased = await connection.execute(_SINCE, {"commitment": event.commitment, "index": index})
            newer = await connection.execute(select(personal.c.idx).where(*mine, personal.c.idx > index))
            if erased.scalar_one() or newer.first() is not None:
                return False
            await connection.execute(delete(personal).where(*mine))
            values = {"subject": event.subject, "field": event.field, "commitment": event.commitment, "idx": index}
            await connection.execute(insert(personal).values(**values, salt=secret.salt, value=secret.value))
        return True

    async def of(self, subject: str) -> tuple[Datum, ...]:
        """What is kept about a subject."""
        return await self._found(subject)

    async def all(self) -> tuple[Datum, ...]:
        """What is kept about everybody, by subject."""
        return await self._found(None)

    async def names(self) -> dict[str, str]:
        """The names that are kept, by subject."""
        query = select(personal.c.subject, personal.c.value).where(personal.c.field == PersonalField.NAME.value)
        async with transaction(self._engine) as connection:
            return {row.subject: row.value for row in await connection.execute(query)}

    async def opening(self, subject: str, field: PersonalField) -> Opening:
        """What proves a value.

        Raises:
            NotFound: `nothing-kept`.
        """
        mine = (personal.c.subject == subject, personal.c.field == field.value)
        async with transaction(self._engine) as connection:
            row = (await connection.execute(select(personal).where(*mine))).one_or_none()
        if row is None:
            raise NotFound("nothing-kept", "Nothing of that kind is kept about them.")
        return Opening(**_datum(row).model_dump(), salt=row.salt.hex())

    async def standing(self, subject: str) -> tuple[Digest, ...]:
        """Every commitment about a subject that the ledger records and does not say is erased, oldest first.

        Values that were replaced are among them, and those that never arrived.
        """
        async with transaction(self._engine) as connection:
            found = await self._rows(connection, _STANDING, subject)
        return tuple(row.commitment for row in found)

    async def remove(self, subject: str, commitments: Collection[Digest]) -> int:
        """Delete values and salts behind these commitments; how many there were."""
        async with transaction(self._engine) as connection:
            await connection.execute(_LOCK, {"subject": subject})
            gone = delete(personal).where(personal.c.commitment.in_(commitments)).returning(personal.c.field)
            return len((await connection.execute(gone)).all())

    async def sweep(self) -> int:
        """Delete what the ledger says is erased and a crash left behind; how many there were."""
        async with transaction(self._engine) as connection:
            return (await connection.execute(_SWEEP)).rowcount

    async def _found(self, subject: str | None) -> tuple[Datum, ...]:
        query = select(personal).order_by(personal.c.subject, personal.c.idx)
        if subject is not None:
            query = query.where(personal.c.subject == subject)
        async with transaction(self._engine) as connection:
            return tuple(_datum(row) for row in await connection.execute(query))

    @staticmethod
    async def _rows(connection: AsyncConnection, query: TextClause, subject: str) -> list[Row[tuple[str]]]:
        return list((await connection.execute(query, {"subject": subject})).all())


def _datum(row: Row[tuple[object, ...]]) -> Datum:
    return Datum(
        subject=row.subject,
        field=PersonalField(row.field),
        value=row.value,
        commitment=row.commitment,
        index=row.idx,
    )
