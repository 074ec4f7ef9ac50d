"""Direct SQL against the ledger: the service's role is refused by PostgreSQL, a superuser's change is found."""

from pathlib import Path

import asyncpg
import pytest

from storage.integrity import Rule, check_tables, compare
from storage.ledger import Act, Ledger
from storage.signer import Signer
from storage.verifier.checkpoint import VerifierKey
from storage.verifier.policy import Policy
from storage.verifier.verification import verify
from tests.conftest import ORIGIN, Database
from tests.logs import grow
from tests.steps import BY_CODE, intent, issued, running

pytestmark = pytest.mark.anyio
TABLES = ("ledger_leaf", "ledger_node", "ledger_head", "ledger_checkpoint", "ledger_cosignature", "warrant_use")
STATEMENTS = (
    "UPDATE {table} SET {column} = {column}",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "ALTER TABLE {table} ADD COLUMN more text",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "DROP TABLE {table}",
    "CREATE RULE quiet AS ON INSERT TO {table} DO INSTEAD NOTHING",
    "ALTER TABLE {table} OWNER TO CURRENT_USER",
)


OTHERS = ("SET ROLE triad_owner", "ALTER ROLE triad_app SUPERUSER", "SET session_replication_role = replica")


@pytest.mark.parametrize("role", ["app", "operator", "observer"])
async def test_the_roles_of_a_running_service_cannot_change_what_was_recorded(
    ledger: Ledger, database: Database, role: str
) -> None:
    await grow(ledger, 20)
    connection = await asyncpg.connect(getattr(database, role))
    try:
        await connection.execute("SET default_transaction_read_only = off")
        for table in TABLES:
            column = "size" if table in {"ledger_head", "ledger_checkpoint", "ledger_cosignature"} else "idx"
            for statement in STATEMENTS:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(
                        statement.format(table=table, column="warrant" if table == "warrant_use" else column)
                    )
        for statement in (
            "SET ROLE triad_owner",
            "ALTER ROLE triad_app SUPERUSER",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def found(connection: asyncpg.Connection, key: VerifierKey, kept: bytes) -> tuple[int, set[Rule]]:
    """The verifier's exit code over what the database holds, and what the tables say otherwise than the entries."""
    note = await connection.fetchval("SELECT note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1")
    entries = [row["entry"] for row in await connection.fetch("SELECT entry FROM ledger_leaf ORDER BY idx")]
    report = verify(entries, note, Policy.of((key,)), semantics=False, older=(kept,))
    return int(report.code), {each.rule for each in (await compare(connection)).told}


async def consumed(ledger: Ledger) -> None:
    """An operation one of whose warrants is used."""
    op = await running(ledger)
    warrant = issued(op)
    await ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant)


FLIP = "set_byte({column}, 3, get_byte({column}, 3) # 1)"
NEWEST = "(SELECT max(size) FROM ledger_head)"
OLDEST = "(SELECT min(size) FROM ledger_head)"
HEAD = "SELECT {size}, frontier, constitution, key, halted, latest, batch FROM ledger_head ORDER BY size DESC LIMIT 1"
FLIPPED = {name: FLIP.format(column=name) for name in ("entry", "hash", "frontier", "root")}
LETTER = "octet_length(note) - 20"
CHANGES = {
    "an entry's bytes": (3, f"UPDATE ledger_leaf SET entry = {FLIPPED['entry']} WHERE idx = 7"),
    "an entry and its hash": (
        3,
        (
            f"UPDATE ledger_leaf SET entry = {FLIPPED['entry']} WHERE idx = 7;"
            "UPDATE ledger_leaf SET hash = sha256('\\x00'::bytea || entry) WHERE idx = 7"
        ),
    ),
    "a hash": (0, f"UPDATE ledger_leaf SET hash = {FLIPPED['hash']} WHERE idx = 7"),
    "a subtree": (0, f"UPDATE ledger_node SET hash = {FLIPPED['hash']} WHERE (level, idx) = (4, 1)"),
    "a removed subtree": (0, "DELETE FROM ledger_node WHERE (level, idx) = (4, 1)"),
    "an invented subtree": (0, "INSERT INTO ledger_node SELECT 8, 5, hash FROM ledger_node LIMIT 1"),
    "a head": (0, f"UPDATE ledger_head SET frontier = {FLIPPED['frontier']} WHERE size = {NEWEST}"),
    "a removed head": (0, f"DELETE FROM ledger_head WHERE size = {NEWEST}"),
    "a removed checkpoint": (4, f"DELETE FROM ledger_checkpoint WHERE size = {NEWEST}"),
    "a checkpoint's root": (0, f"UPDATE ledger_checkpoint SET root = {FLIPPED['root']}"),
    "a checkpoint's note": (
        2,
        (
            f"UPDATE ledger_checkpoint SET note = set_byte(note, {LETTER}, "
            f"CASE get_byte(note, {LETTER}) WHEN 65 THEN 66 ELSE 65 END)"
        ),
    ),
    "two entries that changed places": (
        3,
        (
            "UPDATE ledger_leaf SET idx = -1 WHERE idx = 7;"
            "UPDATE ledger_leaf SET idx = 7 WHERE idx = 8; UPDATE ledger_leaf SET idx = 8 WHERE idx = -1"
        ),
    ),
    "an entry in the middle that is gone": (3, "DELETE FROM ledger_leaf WHERE idx = 7"),
    "the newest entry that is gone": (3, f"DELETE FROM ledger_leaf WHERE idx = {NEWEST} - 1"),
    "an entry too many": (
        3,
        f"INSERT INTO ledger_leaf SELECT {NEWEST}, entry, hash, operation, kind FROM ledger_leaf WHERE idx = 7",
    ),
    "an entry under another kind": (0, "UPDATE ledger_leaf SET kind = 'step.done' WHERE idx = 7"),
    "an entry hidden from its operation": (0, "UPDATE ledger_leaf SET operation = 'op_x' WHERE idx = 7"),
    "the whole newest history that is gone": (
        4,
        (
            f"DELETE FROM ledger_leaf WHERE idx >= {OLDEST};"
            f"DELETE FROM ledger_node WHERE (idx + 1) << level > {OLDEST};"
            f"DELETE FROM ledger_checkpoint WHERE size > {OLDEST}; DELETE FROM ledger_head WHERE size > {OLDEST};"
            "DELETE FROM warrant_use; DELETE FROM operation"
        ),
    ),
    "a removed warrant": (0, "DELETE FROM warrant_use"),
    "a warrant that nobody used": (0, "INSERT INTO warrant_use VALUES ('wr_x', 'op_x')"),
    "an operation at another stage": (0, "UPDATE operation SET stage = 'completed'"),
    "an operation that is gone": (0, "DELETE FROM operation"),
    "an operation that never was": (
        0,
        (
            "INSERT INTO operation (id, version, stage, requester, type, emergency, created, updated) "
            "VALUES ('op_x', 1, 'requested', 'ada', 'maintenance', false, now(), now())"
        ),
    ),
    "a head that no checkpoint signs": (0, f"INSERT INTO ledger_head {HEAD.format(size=NEWEST + ' + 5')}"),
    "a checkpoint that has no head": (
        0,
        f"INSERT INTO ledger_checkpoint SELECT size + 1, root, note FROM ledger_checkpoint WHERE size = {NEWEST}",
    ),
    "an erasure that nobody signed": (
        3,
        (
            f"INSERT INTO ledger_leaf VALUES ({NEWEST}, 'x', sha256('\\x00'::bytea || 'x'), NULL, 'personal.erased');"
            f"INSERT INTO ledger_head {HEAD.format(size=NEWEST + ' + 1')}"
        ),
    ),
    "a halt that is over without a release": (0, f"UPDATE ledger_head SET halted = NOT halted WHERE size = {NEWEST}"),
    "another constitution in force": (0, f"UPDATE ledger_head SET constitution = 'x' WHERE size = {NEWEST}"),
    "a plan that is gone": (0, "DELETE FROM evidence WHERE digest <> (SELECT constitution FROM ledger_head LIMIT 1)"),
    "a constitution that is gone": (
        0,
        "DELETE FROM evidence WHERE digest = (SELECT constitution FROM ledger_head LIMIT 1)",
    ),
    "evidence under a digest that is not its own": (
        0,
        "ALTER TABLE evidence DROP CONSTRAINT evidence_check; UPDATE evidence SET body = body || 'x'",
    ),
}
ONLY_BY_THE_VERIFIER = {"a checkpoint's note", "the whole newest history that is gone"}
"""The tables agree with each other: only a signature, or a checkpoint that somebody kept, tells."""


async def test_what_a_superuser_changes_is_found(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    await consumed(ledger)
    await grow(ledger, 40)
    key = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN).key
    kept = await ledger.checkpoint()
    connection = await asyncpg.connect(database.superuser)
    try:
        async with connection.transaction():
            assert await found(connection, key, kept) == (0, set())
        broken = set()
        for change, (code, statement) in CHANGES.items():
            change_made = connection.transaction()
            await change_made.start()
            await connection.execute(statement)
            exit_code, rules = await found(connection, key, kept)
            await change_made.rollback()
            assert (change, exit_code) == (change, code)
            broken |= rules
            assert (change, bool(rules)) == (change, change not in ONLY_BY_THE_VERIFIER)
        assert set(Rule) - broken == {Rule.RETURNED}  # that needs an entry; tests of expiry have it
    finally:
        await connection.close()


async def test_the_tables_of_a_lawful_ledger_agree_with_its_entries(ledger: Ledger, database: Database) -> None:
    await consumed(ledger)
    await grow(ledger, 300)
    assert (await check_tables(database.app)).found == 0


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("DELETE FROM ledger_leaf WHERE idx = 7", Rule.ENTRIES),
        (f"UPDATE ledger_leaf SET entry = {FLIPPED['entry']} WHERE idx = 7", Rule.HASHES),
    ],
)
async def test_one_changed_row_is_one_finding_that_names_its_entry(
    ledger: Ledger, database: Database, statement: str, rule: Rule
) -> None:
    await grow(ledger, 40)
    connection = await asyncpg.connect(database.superuser)
    try:
        await connection.execute(statement)
        async with connection.transaction():
            told = (await compare(connection)).told
    finally:
        await connection.close()
    assert [each.index for each in told if each.rule is rule] == [7]
    assert min(each.index for each in told if each.index is not None) == 7
