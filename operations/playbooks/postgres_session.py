"""Sessions on PostgreSQL as playbooks need them: named, bounded, always closed, with failures that have a code."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg
from pydantic import Field

from operations.errors import PlaybookFailed
from operations.playbook import Arguments

T = TypeVar("T")

CONNECT_SECONDS: Final = 10
"""How long a connection may take to be made or to be closed in an orderly way."""

CLEANING_SECONDS: Final = 60
"""How long cleaning up may go on after a step was cancelled."""

POLL_SECONDS: Final = 0.05
"""How often a bounded wait looks again."""


class Timeouts(Arguments):
    """Arguments of every playbook that waits for PostgreSQL."""

    lock_timeout_seconds: int = Field(default=5, ge=1, le=300, description="longest wait for one lock, in seconds")
    statement_timeout_seconds: int = Field(
        default=1800, ge=1, le=86_400, description="longest run of one statement, in seconds"
    )


OBSERVING: Final = Timeouts(lock_timeout_seconds=2, statement_timeout_seconds=30)
"""The bounds of previews, pre-checks and probes."""


@dataclass(slots=True)
class Session:
    """One open connection. A playbook sets `changed` as soon as the system is no longer as it was."""

    connection: Any
    changed: bool = False


def quoted(*names: str) -> str:
    """An SQL identifier, each part quoted: `"schema"."table"`."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def required(credential: str | None) -> str:
    """The DSN.

    Raises:
        PlaybookFailed: `no-credential`; the target came without one.
    """
    if not credential:
        raise PlaybookFailed("no-credential", "The database came without a credential.")
    return credential


@asynccontextmanager
async def session(
    dsn: str | None,
    key: str,
    timeouts: Timeouts = OBSERVING,
    settings: Mapping[str, str] | None = None,
    *,
    database: str | None = None,
) -> AsyncIterator[Session]:
    """A connection called `triad KEY` with statement and lock time-outs, closed whatever happens.

    Args:
        dsn: where and as whom; the text never appears in an error.
        key: the idempotency key, or a word for the purpose of a read.
        timeouts: both bounds, set for the whole session.
        settings: further server settings.
        database: another database of the same server.

    Raises:
        PlaybookFailed: `database-unreachable`, `lock-timeout`, `statement-timeout`, `not-permitted`,
            `connection-lost` or `database-error`, with `changed` as the session says.
    """
    opened: Session | None = None
    try:
        opened = Session(await _connect(required(dsn), key, timeouts, settings or {}, database))
        yield opened
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:
        raise failure(error, changed=opened is not None and opened.changed) from None
    finally:
        if opened is not None:
            await to_the_end(_close(opened.connection))


async def _connect(dsn: str, key: str, timeouts: Timeouts, settings: Mapping[str, str], database: str | None) -> Any:  # noqa: ANN401 - asyncpg has no types of its own
    try:
        return await asyncpg.connect(
            dsn,
            database=database,
            timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={
                "application_name": f"triad {key}"[:63],
                "statement_timeout": f"{timeouts.statement_timeout_seconds}s",
                "lock_timeout": f"{timeouts.lock_timeout_seconds}s",
                **settings,
            },
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        said = f" ({error.sqlstate})" if isinstance(error, asyncpg.PostgresError) else ""
        raise PlaybookFailed("database-unreachable", f"The database accepted no session{said}.") from None


async def _close(connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types of its own
    try:
        await connection.close(timeout=CONNECT_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


def failure(error: BaseException, *, changed: bool) -> PlaybookFailed:
    """What a database error means for a step. No value from the database is in the message."""
    match error:
        case asyncpg.LockNotAvailableError():
            return PlaybookFailed("lock-timeout", "Another session held a lock for too long.", changed=changed)
        case asyncpg.QueryCanceledError():
            return PlaybookFailed("statement-timeout", "A statement took longer than allowed.", changed=changed)
        case asyncpg.InsufficientPrivilegeError():
            return PlaybookFailed("not-permitted", "The database role may not do this.", changed=changed)
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.AdminShutdownError()
            | asyncpg.InterfaceError()
            | ConnectionError()
        ):
            return PlaybookFailed("connection-lost", "The connection to the database broke.", changed=changed)
        case asyncpg.PostgresError():
            return PlaybookFailed("database-error", f"PostgreSQL refused ({error.sqlstate}).", changed=changed)
        case _:
            return PlaybookFailed("database-error", "PostgreSQL refused.", changed=changed)


async def to_the_end(work: Awaitable[T], seconds: float = CLEANING_SECONDS) -> T:
    """Await `work` even while the caller is being cancelled, at most `seconds`; then let the cancellation go on.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(asyncio.wait_for(work, seconds))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001, S110 - `task.result()` below raises it
            pass
    if cancelled is not None and not task.cancelled():
        task.exception()
        raise cancelled
    return task.result()


async def until(
    read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], seconds: float, every: float = POLL_SECONDS
) -> T:
    """Read again and again until `holds` or `seconds` are over; the last thing read."""
    deadline = time.monotonic() + seconds
    value = await read()
    while not holds(value) and time.monotonic() < deadline:
        await asyncio.sleep(every)
        value = await read()
    return value
