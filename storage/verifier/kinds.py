"""Which kinds of entries are decisions: those that an export gives a proof of its own."""

from typing import Final

DECISIONS: Final = frozenset(
    {
        "plan.proposed",
        "plan.refused",
        "approval.given",
        "approval.refused",
        "approval.withdrawn",
        "ruling.given",
        "operation.approved",
        "warrant.issued",
        "warrant.denied",
        "verdict.given",
        "rollback.ordered",
        "escalation.resolved",
        "emergency.ratified",
        "constitution.proposed",
        "constitution.amended",
        "crown.halted",
        "crown.released",
        "key.rotated",
        "personal.erased",
    }
)
"""Kinds in which somebody, or the code in their name, said yes or no."""
