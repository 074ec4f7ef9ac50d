"""Memory: PostgreSQL, the ledger and its proofs."""
