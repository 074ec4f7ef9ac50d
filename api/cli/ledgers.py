"""The ledger of a home folder, read directly: without the service, and without trusting it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import asyncpg

from api.cli.exits import Exit, Stop
from api.cli.occupation import occupant_of, occupying
from api.settings import Settings, SettingsInvalid, load_settings
from operations.errors import LedgerUnavailable, NotFound, Refusal
from operations.systems import resolve_secret
from storage.binaries import EmbeddedFailed
from storage.embedded import Embedded
from storage.engine import BROKEN
from storage.reader import Reader
from storage.roles import DatabaseRole
from storage.signer import Signer, memory_path
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, VerifierKey
from triad.home import Home

T = TypeVar("T")

_BATCH: Final = 1000


def settings_of(home: Path | None, config: Path | None = None, **flags: object) -> Settings:
    """The settings of a local command.

    Raises:
        Stop: one of them is wrong.
    """
    try:
        return load_settings(flags={**({"home": home.absolute()} if home else {}), **flags}, config=config)
    except SettingsInvalid as error:
        raise Stop(Exit.USAGE, "A setting cannot be used.", f"field: {error.field}", f"why: {error.reason}") from error


@contextmanager
def database_of(settings: Settings, command: str) -> Iterator[str]:
    """A DSN of `triad_app`, with the home's own server running for the time of the context where it does not run yet.

    Raises:
        Stop: there is no database, or it does not start.
    """
    home = Home(settings.home)
    if settings.database.url is not None:
        try:
            yield resolve_secret(settings.database.url)
        except Refusal as error:
            raise Stop(Exit.ERROR, "The DSN of the database cannot be read.", *error.reasons) from error
        return
    dsn = home.secrets / "app.dsn"
    if not dsn.exists():
        raise Stop(
            Exit.ERROR,
            f"There is no ledger in {home.path}.",
            following="`triad up` or `triad demo` makes one; --home or TRIAD_HOME names another folder.",
        )
    if occupant_of(home.path):
        yield dsn.read_text().strip()
        return
    with occupying(home.path, command), running(home.path) as server:
        yield server.dsn(DatabaseRole.APP)


@contextmanager
def running(home: Path) -> Iterator[Embedded]:
    """The home's own server, stopped afterwards if it was started here.

    Raises:
        Stop: it does not start.
    """
    try:
        server = Embedded.start(home)
    except (EmbeddedFailed, OSError) as error:
        raise Stop(
            Exit.ERROR,
            "The embedded PostgreSQL does not start.",
            str(error),
            following="docs/runbooks/embedded-postgresql.md",
        ) from error
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def _reading(dsn: str) -> AsyncIterator[Reader]:
    try:
        pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    except BROKEN as error:
        raise Stop(Exit.ERROR, "The database takes no connections.", str(error), following="triad doctor") from error
    try:
        yield Reader(pool)
    except NotFound as error:
        raise Stop(Exit.ERROR, "The ledger has no entry yet.", following="`triad up` begins it.") from error
    except LedgerUnavailable as error:
        raise Stop(Exit.ERROR, "The ledger cannot be read.", str(error), following="triad doctor") from error
    finally:
        await pool.close()


def ask_ledger(dsn: str, question: Callable[[Reader], Awaitable[T]]) -> T:
    """Ask the ledger of a database one thing.

    Raises:
        Stop: it cannot be read.
    """

    async def asked() -> T:
        async with _reading(dsn) as reader:
            return await question(reader)

    return asyncio.run(asked())


def entries_of(dsn: str, size: int) -> Iterator[bytes]:
    """The bytes of the first `size` entries, batch by batch.

    Raises:
        LedgerUnavailable: while reading.
    """
    with asyncio.Runner() as runner:
        pool = runner.run(_pool(dsn))
        reader = Reader(pool)
        try:
            after = -1
            while after + 1 < size:
                rows = runner.run(reader.raw(after=after, limit=min(_BATCH, size - after - 1)))
                if not rows:
                    return
                for index, data in rows:
                    after = index
                    yield data
        finally:
            runner.run(pool.close())


async def _pool(dsn: str) -> asyncpg.Pool:
    return await asyncpg.create_pool(dsn, min_size=1, max_size=1)


def log_key(home: Home, origin: str) -> VerifierKey | None:
    """The public half of the home's log key; None where there is no key.

    Raises:
        LedgerUnavailable, LedgerCorrupt: the key or its memory cannot be used.
    """
    path = home.secrets / "ledger.key"
    return Signer.load_or_create(path, origin).key if path.exists() else None


def remembered(home: Home) -> Checkpoint | None:
    """The last checkpoint that the home's signer remembers; None where it remembers none."""
    try:
        return Checkpoint.parse(memory_path(home.secrets / "ledger.key").read_text())
    except (OSError, NoteMalformed, UnicodeDecodeError):
        return None
