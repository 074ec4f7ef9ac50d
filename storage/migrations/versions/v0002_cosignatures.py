"""Cosignatures of witnesses."""

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None

_STATEMENTS: Final = (
    """
    CREATE TABLE ledger_cosignature (
        size bigint NOT NULL REFERENCES ledger_checkpoint (size),
        name text NOT NULL,
        key bytea NOT NULL CHECK (octet_length(key) = 4),
        signature bytea NOT NULL,
        at bigint NOT NULL,
        PRIMARY KEY (size, name, key)
    )
    """,
    "CREATE INDEX ledger_cosignature_key ON ledger_cosignature (name, key, size)",
    "GRANT SELECT, INSERT ON ledger_cosignature TO triad_app",
)


def upgrade() -> None:
    """Create what belongs to it."""
    for statement in _STATEMENTS:
        op.execute(statement)
