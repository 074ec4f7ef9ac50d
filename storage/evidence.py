"""The evidence store: what entries name by SHA-256. Written only together with the entry that names it."""

from collections.abc import Collection
from typing import Final

import asyncpg

from operations.canonical import canonical_record, instant_text, sha256
from operations.errors import Gone, LedgerCorrupt, NotFound
from operations.events import EvidenceExpired, PlanProposed
from storage.entry import Entry

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


async def read_evidence(
    connection: asyncpg.Connection, digests: Collection[str], *, deleted: bool = False
) -> dict[str, bytes]:
    """The pieces of evidence with these digests, each checked against its name.

    Args:
        connection: of any role that may read.
        digests: their names.
        deleted: leave out what was deleted on the record, instead of saying so.

    Raises:
        Gone: `evidence-expired` or `evidence-erased`; at least one of them was deleted on the record.
        NotFound: `unknown-evidence`; at least one of them never was there.
        LedgerCorrupt: a stored piece is not what its name says.
    """
    if not digests:
        return {}
    rows = await connection.fetch("SELECT digest, body FROM evidence WHERE digest = ANY($1)", list(digests))
    found: dict[str, bytes] = {row["digest"]: row["body"] for row in rows}
    for digest in sorted(set(digests) - found.keys()):
        reason = await _why_gone(connection, digest)
        if not deleted:
            raise reason
    for digest, body in found.items():
        if sha256(body) != digest:
            raise LedgerCorrupt(f"The evidence {digest} is not what its digest says.")
    return found


async def _why_gone(connection: asyncpg.Connection, digest: str) -> Gone:
    """Which entry says that it was deleted.

    Raises:
        NotFound: none does.
    """
    row = await connection.fetchrow(
        "SELECT l.entry FROM evidence_gone g JOIN ledger_leaf l USING (idx) "
        "WHERE g.digest = $1 ORDER BY idx DESC LIMIT 1",
        digest,
    )
    if row is None:
        raise NotFound("unknown-evidence", "There is no evidence under that digest.")
    entry = Entry.decode(row["entry"])
    where = f"entry {entry.index} of {instant_text(entry.time)}"
    if isinstance(entry.event, EvidenceExpired):
        rule = f"evidence of its class is kept for {entry.event.days} days"
        return Gone("evidence-expired", f"It was deleted because its time was over: {rule} ({where}).")
    return Gone("evidence-erased", f"It was deleted because it held something personal ({where}).")
