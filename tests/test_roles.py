"""What each database role can and, above all, cannot do."""

import asyncpg
import pytest

from storage.ledger import Ledger
from storage.roles import DatabaseRole, quoted, scram_verifier
from tests.conftest import Database
from tests.steps import BY_ANA, denied, running

pytestmark = pytest.mark.anyio

LEDGER = ("ledger_leaf", "ledger_node", "ledger_head", "ledger_checkpoint", "warrant_use", "evidence")
CHANGES = (
    "UPDATE {table} SET {column} = {column}",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "DROP TABLE {table}",
    "ALTER TABLE {table} ADD COLUMN more text",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "CREATE INDEX ON {table} ({column})",
    "CREATE RULE quiet AS ON INSERT TO {table} DO INSTEAD NOTHING",
    "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
)
FIRST_COLUMN = {
    "ledger_leaf": "idx",
    "ledger_node": "level",
    "ledger_head": "size",
    "ledger_checkpoint": "size",
    "warrant_use": "warrant",
    "evidence": "digest",
}


async def refused(dsn: str, sql: str) -> str:
    """The SQLSTATE with which the server refuses; it must refuse."""
    connection = await asyncpg.connect(dsn)
    try:
        with pytest.raises(asyncpg.PostgresError) as error:
            await connection.execute(sql)
    finally:
        await connection.close()
    return str(error.value.sqlstate)


@pytest.mark.parametrize("table", LEDGER)
async def test_the_service_can_neither_change_nor_remove_what_the_ledger_holds(
    table: str, ledger: Ledger, database: Database
) -> None:
    await ledger.note(denied(), BY_ANA)
    for change in CHANGES:
        sql = change.format(table=table, column=FIRST_COLUMN[table])
        assert await refused(database.app, sql) == "42501", sql
    connection = await asyncpg.connect(database.app)
    try:
        await connection.execute(f"GRANT ALL ON {table} TO triad_app")  # only a warning, and nothing granted
        rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")
        held = [
            right for right in rights if await connection.fetchval(f"SELECT has_table_privilege('{table}', $1)", right)
        ]
    finally:
        await connection.close()
    assert held == ["SELECT", "INSERT"]


@pytest.mark.parametrize(
    "sql",
    [
        "SET ROLE triad_owner",
        "SET SESSION AUTHORIZATION triad_owner",
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE friend",
        "CREATE DATABASE mine",
        "CREATE OR REPLACE FUNCTION ledger_lock() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION ledger_lock",
        "COPY ledger_leaf FROM PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET session_replication_role = replica",
        "DELETE FROM operation",
        "DELETE FROM api_key",
        "UPDATE alembic_version SET version_num = '0'",
    ],
)
async def test_the_service_cannot_widen_its_own_rights(sql: str, database: Database) -> None:
    assert await refused(database.app, sql) == "42501"


async def test_the_observer_sees_statistics_and_no_ledger(ledger: Ledger, database: Database) -> None:
    connection = await asyncpg.connect(database.observer)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_stat_user_tables") > 0
        assert await connection.fetchval("SELECT pg_database_size(current_database())") > 0
        assert await connection.fetchval("SHOW default_transaction_read_only") == "on"
    finally:
        await connection.close()
    for table in (*LEDGER, "operation", "api_key", "idempotency"):
        assert await refused(database.observer, f"SELECT * FROM {table}") == "42501"
        assert await refused(database.observer, f"BEGIN READ WRITE; DELETE FROM {table}") == "42501"


async def test_the_operator_maintains_and_reads_but_cannot_write_the_ledger(ledger: Ledger, database: Database) -> None:
    await running(ledger)
    connection = await asyncpg.connect(database.operator)
    try:
        await connection.execute("VACUUM (ANALYZE) ledger_leaf")
        await connection.execute("REINDEX INDEX ledger_leaf_operation")
        assert await connection.fetchval("SELECT count(*) FROM ledger_leaf") > 0
    finally:
        await connection.close()
    for table in LEDGER:
        column = FIRST_COLUMN[table]
        for sql in (
            f"INSERT INTO {table} SELECT * FROM {table}",
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
        ):
            assert await refused(database.operator, sql) == "42501", sql
    for sql in ("UPDATE operation SET stage = 'completed'", "INSERT INTO api_key SELECT * FROM api_key"):
        assert await refused(database.operator, sql) == "42501"
    assert await refused(database.operator, "SELECT ledger_lock()") == "42501"


async def test_the_operator_may_make_and_drop_databases_of_its_own(database: Database) -> None:
    connection = await asyncpg.connect(database.operator)
    try:
        await connection.execute(f"CREATE DATABASE {database.name}_restored")
        await connection.execute(f"DROP DATABASE {database.name}_restored")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DROP DATABASE triad")
    finally:
        await connection.close()


async def test_nobody_but_the_four_roles_enters_the_database(database: Database) -> None:
    connection = await asyncpg.connect(database.superuser)
    try:
        allowed = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper "
            "AND has_database_privilege(oid, current_database(), 'CONNECT')"
        )
        assert {row["rolname"] for row in allowed} == {role.value for role in DatabaseRole}
        strong = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'triad%' "
            "AND (rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls)"
        )
        assert strong == []
    finally:
        await connection.close()


async def test_the_server_is_given_a_verifier_that_differs_each_time_and_hides_the_password() -> None:
    first, second = scram_verifier("a password"), scram_verifier("a password")
    assert first != second
    assert first.startswith("SCRAM-SHA-256$4096:")
    assert "a password" not in first


async def test_an_identifier_cannot_leave_its_quotes() -> None:
    assert quoted('a"; DROP TABLE x; --') == '"a""; DROP TABLE x; --"'
