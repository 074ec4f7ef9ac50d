"""Cosignatures of witnesses."""

from typing import Final

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    """Create what belongs to it."""
