"""What witnesses said about this log's checkpoints: their cosignatures, and the policy that asks for them.

Cosignatures are kept beside the checkpoints and are no entries: an entry for each would make a checkpoint to cosign.
The service's role may insert and read them, as it may the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from storage.verifier.checkpoint import Signature, VerifierKey, cosigned
from storage.verifier.cosignature import CosignerKey
from storage.verifier.policy import Group, Log, Policy, Witness

QUORUM: Final = "enough"
"""The group of all witnesses in the policy; no witness is called so."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A witness that this log asks.

    Attributes:
        name: by which the settings and the policy call it.
        key: which signs for it.
        url: its submission prefix, without a final slash.
    """

    name: str
    key: CosignerKey
    url: str


@dataclass(frozen=True, slots=True)
class Cosignature:
    """One witness's line under one checkpoint.

    Attributes:
        size: of the checkpoint.
        signature: the line.
        at: the time it states, in seconds since 1970.
    """

    size: int
    signature: Signature
    at: int


async def read_note(connection: asyncpg.Connection, size: int | None) -> bytes | None:
    """The signed note of the newest checkpoint or of the one at `size`, with its cosignatures; None: there is none."""
    rows = await connection.fetch(
        "SELECT c.note, w.name, w.key, w.signature FROM (SELECT size, note FROM ledger_checkpoint "
        "WHERE $1::bigint IS NULL OR size = $1 ORDER BY size DESC LIMIT 1) c "
        "LEFT JOIN ledger_cosignature w USING (size) ORDER BY w.name, w.key",
        size,
    )
    if not rows:
        return None
    note: bytes = rows[0]["note"]
    lines = [Signature(row["name"], row["key"], row["signature"]) for row in rows if row["name"] is not None]
    return cosigned(note, lines) if lines else note


async def add_cosignature(connection: asyncpg.Connection, made: Cosignature) -> None:
    """Keep a verified cosignature; one of the same key under the same checkpoint stays as it is."""
    await connection.execute(
        "INSERT INTO ledger_cosignature (size, name, key, signature, at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING",
        made.size,
        made.signature.name,
        made.signature.key_id,
        made.signature.signature,
        made.at,
    )


async def newest_of(connection: asyncpg.Connection, key: CosignerKey) -> tuple[int, int] | None:
    """Size of the newest checkpoint that a key cosigned, and when, in seconds since 1970; None: it never did."""
    row = await connection.fetchrow(
        "SELECT size, at FROM ledger_cosignature WHERE name = $1 AND key = $2 ORDER BY size DESC LIMIT 1",
        key.name,
        key.key_id,
    )
    return (row["size"], row["at"]) if row else None


async def newest_with(connection: asyncpg.Connection, keys: Sequence[CosignerKey], quorum: int) -> int | None:
    """Size of the newest checkpoint that at least `quorum` of these keys cosigned; None: there is none."""
    size: int | None = await connection.fetchval(
        "SELECT size FROM ledger_cosignature JOIN unnest($1::text[], $2::bytea[]) AS k(name, key) USING (name, key) "
        "GROUP BY size HAVING count(*) >= $3 ORDER BY size DESC LIMIT 1",
        [key.name for key in keys],
        [key.key_id for key in keys],
        quorum,
    )
    return size


def policy_of(logs: Sequence[VerifierKey], peers: Sequence[Peer] = (), quorum: int = 0) -> Policy:
    """Which keys may sign for the log, and how many of which witnesses must have cosigned.

    The maker's claim: whoever verifies decides for themselves whom to trust.

    Args:
        logs: every key that the log ever signed with.
        peers: its witnesses.
        quorum: how many of them it takes; 0: none.

    Raises:
        ValueError: the quorum is larger than the number of witnesses.
    """
    if not 0 <= quorum <= len(peers):
        raise ValueError("a quorum counts some of the witnesses")
    witnesses = tuple(Witness(peer.name, peer.key, peer.url) for peer in peers)
    known = tuple(Log(key) for key in dict.fromkeys(logs))
    if not quorum:
        return Policy(known, witnesses)
    group = Group(QUORUM, quorum, tuple(peer.name for peer in peers))
    return Policy(known, witnesses, (group,), QUORUM)


def policy_text(logs: Sequence[VerifierKey], peers: Sequence[Peer] = (), quorum: int = 0) -> bytes:
    """The same as a policy file; arguments and errors as of `policy_of`. Source: https://c2sp.org/tlog-policy."""
    return policy_of(logs, peers, quorum).encode()
