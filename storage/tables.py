"""Every table, as SQLAlchemy metadata: what the migrations are compared with and ordinary queries are built on.

The ledger's own tables are written only by `ledger_append` and `ledger_commit`; the service's role may INSERT and
SELECT there, never update, delete or truncate.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata: Final = MetaData()

ledger_leaf: Final = Table(
    "ledger_leaf",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("operation", Text),
    Column("kind", Text, nullable=False),
    Index("ledger_leaf_operation", "operation", "idx", postgresql_where=text("operation IS NOT NULL")),
    Index("ledger_leaf_kind", "kind", "idx"),
)
"""One row for each entry: its canonical bytes and its leaf hash."""

ledger_node: Final = Table(
    "ledger_node",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
"""Complete subtrees of every fourth level; level 0 is `ledger_leaf.hash`, the levels between are hashed again."""

ledger_head: Final = Table(
    "ledger_head",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("constitution", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("halted", Boolean, nullable=False),
    Column("latest", DateTime(timezone=True), nullable=False),
    Column("batch", LargeBinary, nullable=False),
)
"""One row for each batch; the largest size is the head. `batch` tells a writer whose commit it was,
`latest` is the last entry's time, before which none may lie, `key` the id of the log's key that signs what follows."""

ledger_checkpoint: Final = Table(
    "ledger_checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
)
"""The signed note of each head."""

ledger_cosignature: Final = Table(
    "ledger_cosignature",
    metadata,
    Column("size", BigInteger, ForeignKey("ledger_checkpoint.size"), primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("signature", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ledger_cosignature_key", "name", "key", "size"),
)
"""What witnesses signed under a checkpoint: the line's name, key id and bytes, and the time it states."""

warrant_use: Final = Table(
    "warrant_use",
    metadata,
    Column("warrant", Text, primary_key=True),
    Column("operation", Text, nullable=False),
)
"""Warrants that were consumed; each at most once."""

evidence: Final = Table(
    "evidence",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
"""What entries name by SHA-256 and what is too large for them."""

operation: Final = Table(
    "operation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("worker", Text),
    Column("leased_until", DateTime(timezone=True)),
    Column("requester", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("tier", SmallInteger),
    Column("emergency", Boolean, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("updated", DateTime(timezone=True), nullable=False),
    Index("operation_stage", "stage", "id"),
    Index("operation_requester", "requester", "id"),
)
"""Where each operation stands: what compare-and-set compares and lists are made from. Entries are the truth."""

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("started", DateTime(timezone=True), nullable=False),
    Column("token", Text, nullable=False),
    Column("status", SmallInteger),
    Column("headers", JSONB),
    Column("body", LargeBinary),
    Index("idempotency_started", "started"),
)
"""Answers to requests with an Idempotency-Key; `status` is empty while the first request is in flight."""

api_key: Final = Table(
    "api_key",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("person", Text, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("expires", DateTime(timezone=True)),
    Column("revoked", DateTime(timezone=True)),
)
"""API keys by their SHA-256; the key itself is shown once and stored nowhere."""

personal: Final = Table(
    "personal",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("value", Text, nullable=False),
    Column("commitment", Text, nullable=False, unique=True),
    Column("idx", BigInteger, nullable=False),
)
"""What is personal about a subject: the ledger's entry `idx` holds only SHA-256(salt || value)."""

evidence_use: Final = Table(
    "evidence_use",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("class", Text, primary_key=True),
    Column("operation", Text),
    Column("at", DateTime(timezone=True), nullable=False),
)
"""Which entry names which evidence, and as what. Derived from the ledger by `evidence_index`, which alone writes it."""

evidence_progress: Final = Table(
    "evidence_progress",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
)
"""One row: how many entries `evidence_use` knows."""

evidence_gone: Final = Table(
    "evidence_gone",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
)
"""Evidence that was deleted, and the entry that says so. Written by `evidence_forget` alone."""

evidence_done: Final = Table(
    "evidence_done",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
)
"""Entries whose deletions have been carried out. Written by `evidence_forget` alone."""
