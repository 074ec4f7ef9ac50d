"""What every test may ask for: one PostgreSQL cluster a test process, and a fresh migrated database a test."""

import asyncio
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic_ai import models

from operations.events import Genesis
from storage import migrate
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.roles import DATABASE, DatabaseRole, database_statements
from storage.signer import Signer

_numbers = itertools.count(1)


def pytest_configure() -> None:
    """No test reaches another machine, asks a name server, or a model unless it says so."""
    models.ALLOW_MODEL_REQUESTS = False
    sys.addaudithook(_stay_on_this_machine)


def _stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket."):
        return
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"} and arguments[0].family != socket.AF_UNIX:
        host = arguments[1][0] if arguments[1] else None
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        host = arguments[0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if name not in {None, "", "localhost", "::1"} and not str(name).startswith("127."):
        raise PermissionError(f"tests reach only this machine, not {name}")


@dataclass(frozen=True)
class Database:
    """A database of one test, or one module: fresh, migrated, with a DSN for each role."""

    name: str
    owner: str
    app: str
    observer: str
    operator: str
    superuser: str


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Embedded]:
    """A server of this test process. Its database `triad` is the template of the others: do not connect to it."""
    home = Path(tempfile.mkdtemp(dir="/tmp", prefix="triad-test-"))
    if os.geteuid() == 0:
        home.chmod(0o711)  # the account the server runs as must pass through
    server = Embedded.start(home, durable=False)
    try:
        asyncio.run(migrate.upgrade(server.dsn(DatabaseRole.OWNER)))
        yield server
    finally:
        server.stop()
        # Each database has hundreds of files: nobody waits until they are gone.
        os.spawnv(os.P_NOWAIT, "/bin/rm", ["rm", "-rf", str(home)])


async def _create(server: Embedded, name: str) -> None:
    connection = await asyncpg.connect(server.superuser_dsn())
    try:
        for statement in database_statements(name, template=DATABASE):
            await connection.execute(statement)
    finally:
        await connection.close()


async def fresh(cluster: Embedded) -> Database:
    """A database that nobody else uses, with every migration applied."""
    name = f"test_{next(_numbers)}"
    await _create(cluster, name)
    return Database(
        name=name,
        owner=cluster.dsn(DatabaseRole.OWNER, name),
        app=cluster.dsn(DatabaseRole.APP, name),
        observer=cluster.dsn(DatabaseRole.OBSERVER, name),
        operator=cluster.dsn(DatabaseRole.OPERATOR, name),
        superuser=cluster.superuser_dsn(name),
    )


@pytest.fixture
def database(cluster: Embedded) -> Database:
    """A fresh database of one test."""
    return asyncio.run(fresh(cluster))


CONSTITUTION = b"# The constitution of the tests\n"
ORIGIN = "triad.test/ledger"


@pytest.fixture
async def ledger(database: Database, tmp_path: Path) -> AsyncIterator[Ledger]:
    """An open ledger that has begun: entry 0 is the genesis."""
    signer = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN)
    opened = await Ledger.open(database.app, signer, origin=ORIGIN)
    try:
        await opened.begin(Genesis(policies=("test",), keys=(signer.vkey,), code_version="0"), CONSTITUTION)
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of its own, and for the test's time a process whom permissions bind: root becomes nobody."""
    home = Path(tempfile.mkdtemp(dir="/tmp", prefix="triad-nobody-"))
    root = os.geteuid() == 0
    if root:
        os.chown(home, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield home
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        subprocess.run(["chmod", "-R", "u+rwX", str(home)], check=True)
        shutil.rmtree(home)
