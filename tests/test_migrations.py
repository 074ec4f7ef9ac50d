"""The migrations: applied once, together, and equal to the tables that the queries are built on."""

import asyncio

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from storage import migrate
from storage.embedded import Embedded
from storage.engine import make_engine
from storage.roles import DatabaseRole, database_statements
from storage.tables import metadata
from tests.conftest import Database

pytestmark = pytest.mark.anyio


async def empty(cluster: Embedded, name: str) -> None:
    connection = await asyncpg.connect(cluster.superuser_dsn())
    for statement in database_statements(name):
        await connection.execute(statement)
    await connection.close()


async def test_a_new_database_says_what_is_pending_until_it_is_upgraded(cluster: Embedded) -> None:
    await empty(cluster, "test_pending")
    owner = cluster.dsn(DatabaseRole.OWNER, "test_pending")
    assert await migrate.pending(owner) == ("0001", "0002", "0003")
    await migrate.upgrade(owner)
    assert await migrate.pending(owner) == ()
    assert await migrate.pending(cluster.dsn(DatabaseRole.APP, "test_pending")) == ()
    await migrate.upgrade(owner)


async def test_two_upgrades_at_once_follow_one_another(cluster: Embedded) -> None:
    await empty(cluster, "test_twice")
    owner = cluster.dsn(DatabaseRole.OWNER, "test_twice")
    await asyncio.gather(migrate.upgrade(owner), migrate.upgrade(owner))
    assert await migrate.pending(owner) == ()


async def test_the_service_cannot_migrate(cluster: Embedded) -> None:
    await empty(cluster, "test_refused")
    with pytest.raises(Exception, match="permission denied"):
        await migrate.upgrade(cluster.dsn(DatabaseRole.APP, "test_refused"))


async def test_the_migrated_tables_are_those_of_the_metadata(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    engine = make_engine(database.owner)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
