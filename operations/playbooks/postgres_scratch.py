"""Scratch databases: made under a name nobody can guess, entered by nobody else, gone whatever happens.

A scratch database is called `triad_scratch_OID_RANDOM` after the database it stands beside. Its maker holds an advisory
lock in that database for as long as it lives; a scratch whose lock is free was left by a run that was killed, and the
next run drops it.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg

from operations.playbooks.backup_set import Manifest
from operations.playbooks.postgres_session import quoted, session, to_the_end

PREFIX: Final = "triad_scratch_"
_ROUNDS: Final = 3

_HERE: Final = "SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
_SCRATCHES: Final = """
    SELECT datname FROM pg_catalog.pg_database
    WHERE pg_catalog.starts_with(datname, $1) AND pg_catalog.pg_has_role(datdba, 'USAGE') ORDER BY datname
"""
_STANDING: Final = "SELECT count(*) FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, $1)"


async def standing(connection: Any) -> int:  # noqa: ANN401 - asyncpg has no types of its own
    """How many scratch databases of the connected database there are; every role may ask."""
    return int(await connection.fetchval(_STANDING, await _prefix(connection)))


async def sweep(connection: Any) -> int:  # noqa: ANN401 - asyncpg has no types of its own
    """Drop the scratch databases that killed runs left; how many."""
    swept = 0
    for row in await connection.fetch(_SCRATCHES, await _prefix(connection)):
        name = row["datname"]
        if await connection.fetchval("SELECT pg_catalog.pg_try_advisory_lock($1)", _lock(name)):
            await _remove(connection, name)
            await connection.execute("SELECT pg_catalog.pg_advisory_unlock($1)", _lock(name))
            swept += 1
    return swept


@contextlib.asynccontextmanager
async def scratch(connection: Any, dsn: str, key: str, like: Manifest) -> AsyncIterator[str]:  # noqa: ANN401 - asyncpg has no types of its own
    """The name of an empty database with the encoding and locale of a backup's; dropped when the block ends.

    Args:
        connection: a session in the database beside which it stands; it holds the lock.
        dsn: for the session of its own that drops it, also when `connection` is broken.
        key: names that session.
        like: where encoding and locale come from.

    Raises:
        PlaybookFailed: it could not be made, or not dropped; in the latter case the next run drops it.
    """
    name = f"{await _prefix(connection)}{secrets.token_hex(16)}"
    await connection.execute("SELECT pg_catalog.pg_advisory_lock($1)", _lock(name))
    try:
        await connection.execute(f"CREATE DATABASE {quoted(name)} {_options(like)}")
        await connection.execute(f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC")
        yield name
    finally:
        await to_the_end(_drop(dsn, key, name))


async def _drop(dsn: str, key: str, name: str) -> None:
    async with session(dsn, key) as opened:
        await _remove(opened.connection, name)


async def _remove(connection: Any, name: str) -> None:  # noqa: ANN401 - asyncpg has no types of its own
    """Drop a database together with whoever is in it.

    FORCE ends clients and may not end an autovacuum worker, which runs as a superuser; the plain form ends just that
    and waits up to five seconds for it (`CountOtherDBBackends` in PostgreSQL's procarray.c).
    """
    drop = f"DROP DATABASE IF EXISTS {quoted(name)}"
    for _ in range(_ROUNDS):
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"{drop} WITH (FORCE)")
            return
        with contextlib.suppress(asyncpg.ObjectInUseError):
            await connection.execute(drop)
            return
    await connection.execute(f"{drop} WITH (FORCE)")


async def _prefix(connection: Any) -> str:  # noqa: ANN401 - asyncpg has no types of its own
    return f"{PREFIX}{await connection.fetchval(_HERE)}_"


def _lock(name: str) -> int:
    return int.from_bytes(bytes.fromhex(name.rpartition("_")[2])[:8], signed=True)


def _options(like: Manifest) -> str:
    provider = {"b": "builtin", "c": "libc", "i": "icu"}[like.locale_provider]
    special = {"b": "BUILTIN_LOCALE", "i": "ICU_LOCALE"}.get(like.locale_provider)
    locale = f" {special} {_literal(like.locale)}" if special and like.locale else ""
    return (
        f"TEMPLATE template0 ENCODING {_literal(like.encoding)} LOCALE_PROVIDER {provider} "
        f"LC_COLLATE {_literal(like.collate)} LC_CTYPE {_literal(like.ctype)}{locale}"
    )


def _literal(text: str) -> str:
    """An SQL string literal; E'' so that it reads the same under any `standard_conforming_strings`."""
    return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
