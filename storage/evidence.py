"""The evidence store: what entries name by SHA-256. Written only together with the entry that names it."""

from collections.abc import Collection
from typing import Final

import asyncpg

from operations.canonical import canonical_record, sha256
from operations.errors import LedgerCorrupt, NotFound
from operations.events import PlanProposed

MAX_EVIDENCE: Final = 16 * 1024 * 1024
"""Longest piece of evidence in bytes."""


def digest_evidence(body: bytes) -> str:
    """The name under which a piece of evidence is stored.

    Raises:
        ValueError: over 16 MiB.
    """
    if len(body) > MAX_EVIDENCE:
        raise ValueError(f"a piece of evidence of {len(body)} bytes; the limit is {MAX_EVIDENCE}")
    return sha256(body)


def plan_evidence(event: PlanProposed) -> tuple[str, bytes]:
    """The plan that is proposed, as evidence under its digest.

    Raises:
        ValueError: there is no plan, or its digest is another than the one stated.
    """
    if event.body is None:
        raise ValueError("a plan is proposed with its body")
    body = canonical_record(event.body)
    if digest_evidence(body) != event.plan:
        raise ValueError("the plan's digest is not its body's")
    return event.plan, body


async def read_evidence(connection: asyncpg.Connection, digests: Collection[str]) -> dict[str, bytes]:
    """The pieces of evidence with these digests, each checked against its name.

    Raises:
        NotFound: `unknown-evidence`; at least one of them is not stored, or its retention is over.
        LedgerCorrupt: a stored piece is not what its name says.
    """
    if not digests:
        return {}
    rows = await connection.fetch("SELECT digest, body FROM evidence WHERE digest = ANY($1)", list(digests))
    found: dict[str, bytes] = {row["digest"]: row["body"] for row in rows}
    if len(found) < len(set(digests)):
        raise NotFound("unknown-evidence", "There is no evidence under that digest.")
    for digest, body in found.items():
        if sha256(body) != digest:
            raise LedgerCorrupt(f"The evidence {digest} is not what its digest says.")
    return found
