"""The four database roles and what may be granted to them outside a database; table privileges stand in the migrations.

A superuser runs `bootstrap` once for each server. Passwords never travel: the server is given SCRAM verifiers.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

SUPERUSER: Final = "postgres"
"""Used for bootstrap alone."""

DATABASE: Final = "triad"

_ITERATIONS: Final = 4096


class DatabaseRole(StrEnum):
    """Who connects to PostgreSQL."""

    OWNER = "triad_owner"
    """Owns the database and every table; runs the migrations and nothing else."""
    APP = "triad_app"
    """What the service connects as: ledger tables INSERT and SELECT, ordinary tables as needed."""
    OBSERVER = "triad_observer"
    """Statistics only (`pg_monitor`), read-only transactions: what probes and the evaluator connect as."""
    OPERATOR = "triad_operator"
    """What playbooks act as: `pg_maintain`, `pg_read_all_data`, CREATEDB; cannot write the ledger."""


_ATTRIBUTES: Final[dict[DatabaseRole, str]] = {
    DatabaseRole.OWNER: "NOCREATEDB",
    DatabaseRole.APP: "NOCREATEDB",
    DatabaseRole.OBSERVER: "NOCREATEDB",
    DatabaseRole.OPERATOR: "CREATEDB",
}
_MEMBERSHIPS: Final[dict[DatabaseRole, tuple[str, ...]]] = {
    DatabaseRole.OWNER: (),
    DatabaseRole.APP: (),
    DatabaseRole.OBSERVER: ("pg_monitor",),
    DatabaseRole.OPERATOR: ("pg_maintain", "pg_read_all_data"),
}
_SETTINGS: Final[dict[DatabaseRole, tuple[str, ...]]] = {
    DatabaseRole.OWNER: (),
    DatabaseRole.APP: (),
    DatabaseRole.OBSERVER: ("default_transaction_read_only = on", "statement_timeout = '30s'"),
    DatabaseRole.OPERATOR: (),
}


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores for `password` under scram-sha-256 (RFC 5802, RFC 7677), with a fresh salt."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode("ascii") for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt64}${stored64}:{server64}"


def quoted(identifier: str) -> str:
    """An SQL identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def role_statements(verifiers: Mapping[DatabaseRole, str]) -> tuple[str, ...]:
    """SQL that creates each role of `verifiers` with its attributes, memberships and settings."""
    statements: list[str] = []
    for role, verifier in verifiers.items():
        name = quoted(role)
        statements.append(
            f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS {_ATTRIBUTES[role]} "
            f"PASSWORD '{verifier}'"
        )
        statements.extend(f"GRANT {member} TO {name}" for member in _MEMBERSHIPS[role])
        statements.extend(f"ALTER ROLE {name} SET {setting}" for setting in _SETTINGS[role])
    return tuple(statements)


def database_statements(database: str, *, template: str | None = None) -> tuple[str, ...]:
    """SQL that creates a database which only the four roles can enter, and only the owner can create objects in."""
    name = quoted(database)
    copied = f" TEMPLATE {quoted(template)} STRATEGY file_copy" if template else ""
    everyone = ", ".join(quoted(role) for role in DatabaseRole)
    return (
        f"CREATE DATABASE {name} OWNER {quoted(DatabaseRole.OWNER)}{copied}",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO {everyone}",
    )
