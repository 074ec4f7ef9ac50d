"""The ledger of a home folder, read directly: without the service, and without trusting it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import asyncpg

from api.cli.exits import Exit, Stop
from api.cli.occupation import occupant_of, occupying
from api.settings import Settings, SettingsInvalid, load_settings
from operations.errors import Gone, LedgerUnavailable, NotFound, Refusal
from operations.systems import resolve_secret
from storage.binaries import EmbeddedFailed
from storage.embedded import Embedded
from storage.engine import BROKEN
from storage.keyring import Keyring
from storage.reader import Reader
from storage.roles import DatabaseRole
from storage.signer import memory_path
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, VerifierKey
from storage.witnessed import Witnessed
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
            found = resolve_secret(settings.database.url)
        except Refusal as error:
            raise Stop(Exit.ERROR, "The DSN of the database cannot be read.", *error.reasons) from error
        yield found
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
async def _reading(dsn: str) -> AsyncIterator[Witnessed]:
    try:
        pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    except BROKEN as error:
        raise Stop(Exit.ERROR, "The database takes no connections.", str(error), following="triad doctor") from error
    try:
        yield Witnessed(pool)
    except NotFound as error:
        raise Stop(Exit.ERROR, "The ledger has no entry yet.", following="`triad up` begins it.") from error
    except LedgerUnavailable as error:
        raise Stop(Exit.ERROR, "The ledger cannot be read.", str(error), following="triad doctor") from error
    finally:
        await pool.close()


def ask_ledger(dsn: str, question: Callable[[Witnessed], Awaitable[T]]) -> T:
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


class _Kept(Mapping[str, bytes]):
    """Plans and constitutions from the evidence by their digest, read when they are asked for."""

    def __init__(self, runner: asyncio.Runner, reader: Reader) -> None:
        self._runner = runner
        self._reader = reader

    def __getitem__(self, digest: str) -> bytes:
        try:
            return self._runner.run(self._reader.evidence(digest))
        except (Gone, NotFound):
            raise KeyError(digest) from None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@contextmanager
def kept_pieces(dsn: str) -> Iterator[Mapping[str, bytes]]:
    """Plans and constitutions of a database's ledger by their digest.

    Raises:
        LedgerUnavailable: while reading.
    """
    with asyncio.Runner() as runner:
        pool = runner.run(_pool(dsn))
        try:
            yield _Kept(runner, Reader(pool))
        finally:
            runner.run(pool.close())


async def _pool(dsn: str) -> asyncpg.Pool:
    return await asyncpg.create_pool(dsn, min_size=1, max_size=1)


def log_keys(known: Settings) -> tuple[VerifierKey, ...]:
    """Every key of the log that the home knows by itself, those that signed before included; none where there is none.

    Raises:
        LedgerUnavailable: one of them cannot be used.
    """
    path = Home(known.home).secrets / "ledger.key"
    ring = Keyring(path, known.origin, current=known.ledger.key, following=known.ledger.next_key)
    return ring.known() if ring.exists() else ()


def remembered(home: Home) -> Checkpoint | None:
    """The last checkpoint that the home's signer remembers; None where it remembers none."""
    try:
        return Checkpoint.parse(memory_path(home.secrets / "ledger.key").read_text())
    except (OSError, NoteMalformed, UnicodeDecodeError):
        return None
