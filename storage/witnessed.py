"""The log and its witnesses: what they cosigned, what they refused, and which process asks them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from operations import events as e
from storage.cosignatures import Cosignature, Peer, add_cosignature, newest_of, newest_with
from storage.engine import BROKEN
from storage.entry import Entry
from storage.reader import Reader
from storage.verifier.cosignature import CosignerKey

_LOCK: Final = 500069425510
"""The advisory lock of whoever asks the witnesses; the log's own is the number before."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What a witness refused, as the log recorded it."""

    index: int
    at: datetime
    event: e.WitnessRefused


@dataclass(frozen=True, slots=True)
class Standing:
    """How one witness stands to the log.

    Attributes:
        peer: the witness.
        size: of the newest checkpoint that it cosigned; 0: none.
        at: when it did, in seconds since 1970.
        since: the time of the first entry that it has not cosigned; None: there is none.
        refused: what it refused since it last cosigned, newest last.
    """

    peer: Peer
    size: int
    at: int | None
    since: datetime | None
    refused: tuple[Refused, ...]


class Witnessed(Reader):
    """Cosignatures and refusals. Every method raises `LedgerUnavailable` when the database cannot be asked."""

    async def cosign(self, made: Cosignature) -> None:
        """Keep a verified cosignature of a checkpoint of this log."""
        async with self._reading() as connection:
            await add_cosignature(connection, made)

    async def cosigned_by(self, key: CosignerKey) -> int:
        """Size of the newest checkpoint that a key cosigned; 0: none."""
        async with self._reading() as connection:
            found = await newest_of(connection, key)
        return found[0] if found else 0

    async def cosigned(self, keys: Sequence[CosignerKey], quorum: int) -> bytes | None:
        """The newest note that at least `quorum` of these keys cosigned, with all its cosignatures; None: none."""
        async with self._reading() as connection:
            size = await newest_with(connection, keys, quorum)
        return await self.checkpoint(size) if size is not None else None

    async def refused_by(self, witness: str) -> tuple[Refused, ...]:
        """What the witness of that key name refused, newest last."""
        rows = await self._fetch("SELECT entry FROM ledger_leaf WHERE kind = 'witness.refused' ORDER BY idx")
        found: list[Refused] = []
        for row in rows:
            entry = Entry.decode(row["entry"])
            if isinstance(entry.event, e.WitnessRefused) and entry.event.witness == witness:
                found.append(Refused(entry.index, entry.time, entry.event))
        return tuple(found)

    async def standing(self, peer: Peer) -> Standing:
        """How a witness stands to the log now."""
        async with self._reading() as connection:
            found = await newest_of(connection, peer.key)
            size, at = found or (0, None)
            since: datetime | None = await connection.fetchval(
                "SELECT latest FROM ledger_head WHERE size > $1 ORDER BY size LIMIT 1", size
            )
        # A checkpoint of `size` entries covers the indexes below it: what was refused at or after is not settled.
        refused = tuple(each for each in await self.refused_by(peer.key.name) if each.index >= size)
        return Standing(peer, size, at, since, refused)


class Turn:
    """The right to ask the witnesses: one process of those that share a database has it, until it or its link ends.

    Cosignatures are kept once whoever asked for them, so a moment in which two believe to have it does no harm.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._taken = False

    def held(self) -> bool:
        """Whether this process has it, as far as it knows."""
        return self._taken and self._connection is not None and not self._connection.is_closed()

    async def take(self) -> bool:
        """Take it where it is free; whether this process has it now."""
        if self.held():
            return True
        await self.give_back()
        try:
            connection = await asyncpg.connect(
                self._dsn, timeout=10, server_settings={"application_name": "triad-witnesses"}
            )
        except BROKEN:
            return False
        self._connection = connection
        try:
            self._taken = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK, timeout=10)
        except BROKEN:
            self._taken = False
        if not self._taken:
            await self.give_back()
        return self._taken

    async def give_back(self) -> None:
        """Let another process have it."""
        connection, self._connection, self._taken = self._connection, None, False
        if connection is not None:
            connection.terminate()
            await asyncio.sleep(0)  # lets the transport close
