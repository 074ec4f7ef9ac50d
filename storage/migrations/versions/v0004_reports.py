"""Stored analyses of the log."""

from typing import Final

from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    """Let stored reports be listed without reading the whole log."""
    op.execute("CREATE INDEX ledger_leaf_report ON ledger_leaf (idx) WHERE kind = 'report.stored'")
