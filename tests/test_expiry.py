"""Evidence expires by policy: on the record first, in bounded batches, and never what somebody may still need."""

import base64
import hashlib
import itertools
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import structlog

from api.settings import Retention
from operations.canonical import canonical, sha256
from operations.errors import Gone, LedgerUnavailable, NotAllowed
from operations.events import EvidenceExpired, PersonalErased, StepDone, StepIntent
from operations.evidence import EvidenceClass
from operations.operation import Operation
from operations.stages import Stage
from storage.embedded import Embedded
from storage.engine import make_engine
from storage.expiry import Archive, Due
from storage.integrity import Rule, compare
from storage.keys import ApiKeys
from storage.ledger import Ledger
from storage.personal import People
from storage.verifier.policy import Policy
from storage.verifier.report import Code
from storage.verifier.verification import verify
from tests.bench import Bench, bench
from tests.conftest import Database, fresh
from tests.doors import PATIENCE, VACUUM, World, world
from tests.samples import ADA, ROOT, request
from tests.steps import BY_ANA
from tests.terminal import Terminal
from triad.expiry import Expiry, batches

_numbers = itertools.count(1)
POLICY = {EvidenceClass.SNAPSHOT: 30, EvidenceClass.STEP: 30}


class Store(NamedTuple):
    """One Triad, its evidence, and the database it lies in."""

    bench: Bench
    archive: Archive
    database: Database

    @property
    def ledger(self) -> Ledger:
        return self.bench.triad.ledger

    async def end(self) -> int:
        """Index of the newest entry."""
        return (await self.ledger.head()).size - 1

    def expiry(self, days: dict[EvidenceClass, int]) -> Expiry:
        engine = self.archive._engine
        return Expiry(self.ledger, self.bench.triad.law, self.archive, People(engine), ApiKeys(engine), days)

    async def sql(self, query: str, *arguments: object, dsn: str | None = None) -> list[Any]:
        connection = await asyncpg.connect(dsn or self.database.superuser)
        try:
            return [row[0] for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    @asynccontextmanager
    async def trying(self, dsn: str) -> AsyncIterator[asyncpg.Connection]:
        """A connection on which nothing lasts."""
        connection = await asyncpg.connect(dsn)
        attempt = connection.transaction()
        await attempt.start()
        try:
            yield connection
        finally:
            await attempt.rollback()
            await connection.close()

    async def years_pass(self) -> None:
        """Let everything that is stored now be 40 days old."""
        await self.archive.read_up()
        await self.sql("UPDATE evidence SET created = created - interval '40 days'")
        await self.sql("UPDATE evidence_use SET at = at - interval '40 days'")

    async def completed(self) -> Operation:
        asked = request(parameters={"text": f"text {next(_numbers)}"})
        op = await self.bench.advance(await self.bench.submit(asked))
        assert op.stage is Stage.COMPLETED
        return op

    async def named(self, op: Operation) -> list[str]:
        """The snapshot and the step evidence of an operation of one step."""
        events = [entry.event for entry in await self.ledger.entries(operation=op.id)]
        snapshots = [event.snapshot for event in events if isinstance(event, StepIntent) and event.snapshot]
        return [*snapshots, *(digest for event in events if isinstance(event, StepDone) for digest in event.evidence)]

    async def stored(self) -> set[str]:
        return set(await self.sql("SELECT digest FROM evidence"))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    database = await fresh(cluster)
    async with bench(database, tmp_path_factory.mktemp("store")) as made:
        engine = make_engine(database.app)
        yield Store(made, Archive(engine), database)
        await engine.dispose()


@pytest.fixture
async def at(shared: Store) -> Store:
    """The store, from which whatever earlier tests left behind has expired as far as it may."""
    await shared.years_pass()
    await shared.expiry(POLICY).expire()
    return shared


@pytest.mark.anyio
async def test_evidence_goes_after_its_time_and_its_digest_stays(at: Store) -> None:
    op = await at.completed()
    named = await at.named(op)
    assert len(named) == 2
    before, end = await at.stored(), await at.end()
    await at.years_pass()
    younger = await at.completed()
    tallies = await at.expiry(POLICY).expire()
    assert [(each.kind, each.days, each.pieces) for each in tallies] == [("snapshot", 30, 1), ("step", 30, 1)]
    stays = {op.bound_plan().digest, *await at.named(younger)}
    assert stays <= await at.stored()
    assert before - await at.stored() == set(named)
    (entry,) = await at.ledger.entries(after=end, kinds={"evidence.expired"})
    assert isinstance(entry.event, EvidenceExpired)
    assert (set(entry.event.digests), entry.event.days, entry.principal) == (set(named), 30, "triad")
    for digest in named:
        for read in (at.ledger.evidence, at.ledger.stored_evidence):
            with pytest.raises(Gone) as gone:
                await read(digest)
            assert gone.value.code == "evidence-expired"
            assert re.search(rf"30 days \(entry {entry.index} of \d{{4}}-", gone.value.reasons[0])
    assert await at.expiry(POLICY).expire() == []
    assert await at.ledger.load(op.id) == op
    assert (await at.bench.verified()).ok


@pytest.mark.anyio
async def test_without_a_policy_everything_is_kept_and_a_class_without_a_number_stays(at: Store) -> None:
    op = await at.completed()
    await at.years_pass()
    before = await at.stored()
    assert await at.expiry({}).expire() == []
    assert await at.expiry({EvidenceClass.REPORT: 1}).expire() == []
    assert await at.expiry({EvidenceClass.STEP: 41}).expire() == []
    assert await at.stored() == before
    assert [each.kind for each in await at.expiry({EvidenceClass.STEP: 39}).expire()] == ["step"]
    snapshot, step = await at.named(op)
    assert before - await at.stored() == {step}
    assert snapshot in before


async def moved(connection: asyncpg.Connection, op: Operation, stage: Stage) -> None:
    """Let an operation stand at a stage, in its newest entry that moved it and in its row."""
    newest = "SELECT max(idx) FROM ledger_leaf WHERE operation = $1 AND convert_from(entry, 'UTF8')::jsonb ? 'after'"
    index = await connection.fetchval(newest, op.id)
    entry = json.loads(await connection.fetchval("SELECT entry FROM ledger_leaf WHERE idx = $1", index))
    entry["after"] = stage.value
    await connection.execute("UPDATE ledger_leaf SET entry = $1 WHERE idx = $2", canonical(entry), index)
    await connection.execute("UPDATE operation SET stage = $1 WHERE id = $2", stage.value, op.id)


@pytest.mark.anyio
async def test_evidence_of_an_operation_that_has_not_ended_never_goes(at: Store) -> None:
    op = await at.completed()
    await at.years_pass()
    named = await at.named(op)
    index = await at.ledger.note(EvidenceExpired(digests=tuple(named), days=1), BY_ANA)
    for stage in Stage:
        async with at.trying(at.database.superuser) as connection:
            await moved(connection, op, stage)
            removed, kept = await connection.fetchrow("SELECT * FROM evidence_forget($1)", index)
        assert (stage, set(removed), set(kept)) == (
            (stage, set(named), set()) if stage.terminal else (stage, set(), set(named))
        )
    await at.sql("UPDATE operation SET stage = 'executing' WHERE id = $1", op.id)
    assert await at.expiry(POLICY).expire() == []
    await at.sql("UPDATE operation SET stage = 'completed' WHERE id = $1", op.id)


@pytest.mark.anyio
async def test_whether_an_operation_has_ended_is_what_its_entries_say_and_not_its_row(at: Store) -> None:
    waiting = await at.bench.advance(await at.bench.submit(request(playbook="note.write_important")))
    plan = waiting.bound_plan().digest
    async with at.trying(at.database.app) as connection:
        await connection.execute("UPDATE operation SET stage = 'completed' WHERE id = $1", waiting.id)
        held = "SELECT o_why FROM evidence_held(ARRAY[$1], true, NULL, NULL)"
        await connection.fetchval("SELECT evidence_index(1000000)")
        assert await connection.fetchval(held, plan) == "unfinished"


@pytest.mark.anyio
async def test_what_a_newer_entry_names_again_is_as_young_as_that_entry(at: Store) -> None:
    op = await at.completed()
    named = await at.named(op)
    await at.years_pass()
    body = await at.ledger.evidence(named[1])
    expired = await at.ledger.note(EvidenceExpired(digests=tuple(named), days=30), BY_ANA)
    newest = (await at.ledger.head()).size
    await at.sql(
        "INSERT INTO evidence_use SELECT digest, $1, 'step', NULL, now() FROM evidence_use WHERE digest = $2 LIMIT 1",
        newest,
        named[1],
    )
    assert [each.kind for each in await at.expiry(POLICY).expire()] == ["snapshot"]
    assert (await at.archive.forget(expired)).kept == (named[1],)
    assert await at.ledger.stored_evidence(named[1]) == body
    await at.sql("DELETE FROM evidence_use WHERE idx = $1", newest)


@pytest.mark.anyio
async def test_a_crash_between_the_entry_and_the_deletion_is_finished_by_the_sweep(
    at: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = await at.completed()
    await at.years_pass()
    before = await at.stored()

    async def lost(*_: object) -> None:
        raise LedgerUnavailable("The process died.")

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "forget", lost)
        with pytest.raises(LedgerUnavailable):
            await at.expiry(POLICY).expire()
    assert await at.stored() == before
    assert await at.expiry({}).sweep() == (0, 2, 0)
    assert before - await at.stored() == set(await at.named(op))
    assert await at.expiry({}).sweep() == (0, 0, 0)


@pytest.mark.anyio
async def test_nothing_is_deleted_when_nothing_can_be_recorded(at: Store) -> None:
    await at.completed()
    await at.years_pass()
    before = await at.stored()
    triad = at.bench.triad
    closed = await Ledger.open(at.database.app, triad.signer, origin=triad.blueprint.origin)
    await closed.close()
    keys, people = ApiKeys(at.archive._engine), People(at.archive._engine)
    with pytest.raises(LedgerUnavailable):
        await Expiry(closed, triad.law, at.archive, people, keys, POLICY).expire()
    assert await at.stored() == before


@pytest.mark.anyio
async def test_of_two_processes_one_lets_evidence_expire(at: Store) -> None:
    await at.completed()
    await at.years_pass()
    async with at.archive.turn() as first:
        assert first
        assert await at.expiry(POLICY).expire() == []
    assert len(await at.expiry(POLICY).expire()) == 2


@pytest.mark.anyio
async def test_looking_changes_nothing_and_only_an_admin_may_let_evidence_expire(at: Store) -> None:
    await at.completed()
    await at.years_pass()
    before, end = await at.stored(), await at.end()
    expiry = at.expiry(POLICY)
    assert sum(each.pieces for each in await expiry.due(ROOT)) == 2
    assert await at.stored() == before
    with pytest.raises(NotAllowed):
        await expiry.due(ADA)
    with pytest.raises(NotAllowed):
        await expiry.expire_now(ADA)
    assert sum(each.pieces for each in await expiry.expire_now(ROOT)) == 2
    (entry,) = await at.ledger.entries(after=end, kinds={"evidence.expired"})
    assert entry.principal == "root"


def test_an_entry_lets_go_at_most_150_pieces_of_one_rule_and_64_mebibytes() -> None:
    small = [Due(sha256(b"%d" % number), 10, 30 if number < 200 else 60, "step") for number in range(400)]
    assert [(len(batch), batch[0].days) for batch in batches(small)] == [(150, 30), (50, 30), (150, 60), (50, 60)]
    large = [Due(sha256(b"%d" % number), 30 * 2**20, 30, "step") for number in range(5)]
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]
    huge = [Due(sha256(b"%d" % number), 70 * 2**20, 30, "step") for number in range(2)]
    assert [len(batch) for batch in batches(huge)] == [1, 1]


@pytest.mark.anyio
async def test_the_services_role_can_delete_no_evidence_but_what_an_entry_lets_go(at: Store) -> None:
    op = await at.completed()
    waiting = await at.bench.advance(await at.bench.submit(request(playbook="note.write_important")))
    await at.years_pass()
    app = at.database.app
    denied_ = [
        "DELETE FROM evidence",
        "UPDATE evidence SET body = ''",
        "TRUNCATE evidence",
        *(
            f"{change} {table}{rest}"
            for table in ("evidence_use", "evidence_progress", "evidence_gone", "evidence_done")
            for change, rest in (("DELETE FROM", ""), ("TRUNCATE", ""), ("INSERT INTO", " DEFAULT VALUES"))
        ),
        "UPDATE evidence_use SET class = 'step'",
        "UPDATE evidence_progress SET size = 9999",
        "ALTER FUNCTION evidence_forget(bigint) RESET search_path",
        "CREATE OR REPLACE FUNCTION evidence_index(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "CREATE TEMPORARY TABLE ledger_leaf (idx bigint)",
        "UPDATE personal SET value = 'x'",
    ]
    for sql in denied_:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await at.sql(sql, dsn=app)
    head = await at.ledger.head()
    before = await at.stored()
    for index in (-1, 0, 1, head.size, head.size + 1, 2**53):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await at.sql("SELECT evidence_forget($1)", index, dsn=app)
        assert refused.value.sqlstate == "TR002"
    protected = (head.constitution, op.bound_plan().digest, waiting.bound_plan().digest)
    index = await at.ledger.note(EvidenceExpired(digests=protected, days=1), BY_ANA)
    assert set((await at.archive.forget(index)).kept) == set(protected)
    index = await at.ledger.note(PersonalErased(evidence=protected, by="ana", reason="All of it."), BY_ANA)
    assert set((await at.archive.forget(index)).removed) == {op.bound_plan().digest}
    assert before - await at.stored() == {op.bound_plan().digest}
    for dsn in (at.database.observer, at.database.operator):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await at.sql("SELECT evidence_forget($1)", index, dsn=dsn)


async def forged(
    connection: asyncpg.Connection, digests: list[str], *parts: str, index: int | None = None, **changes: object
) -> int:
    """What the service's role can add so that an erasure seems recorded, and every operation ended; its index."""
    size = await connection.fetchval("SELECT max(size) FROM ledger_head")
    index = size if index is None else index
    template = json.loads(await connection.fetchval("SELECT entry FROM ledger_leaf ORDER BY idx DESC LIMIT 1"))
    event = {"kind": "personal.erased", "evidence": digests, "commitments": []}
    made: Any = {**template, "index": index, "kind": "personal.erased", "event": event, **changes}
    entry = canonical(made)
    hashed = b"\0" * 32 if "hash" in parts else hashlib.sha256(b"\0" + entry).digest()
    leaf = "INSERT INTO ledger_leaf (idx, entry, hash, kind) VALUES ($1, $2, $3, 'personal.erased')"
    await connection.execute(leaf, index, entry, hashed)
    await connection.execute("UPDATE operation SET stage = 'completed'")
    if "head" in parts:
        await connection.execute(
            "INSERT INTO ledger_head SELECT size + 1, frontier, constitution, key, halted, latest, batch "
            "FROM ledger_head ORDER BY size DESC LIMIT 1"
        )
    if "checkpoint" in parts:
        note = await connection.fetchval("SELECT note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1")
        text, _, signatures = note.decode().partition("\n\n")
        text = f"{text.splitlines()[0]}\n{size + 1}\n{base64.b64encode(b'r' * 32).decode()}"
        add = "INSERT INTO ledger_checkpoint (size, root, note) VALUES ($1, $2, $3)"
        await connection.execute(add, size + 1, b"r" * 32, f"{text}\n\n{signatures}".encode())
    return index


@pytest.mark.anyio
async def test_with_rows_that_the_services_role_can_add_or_change_nothing_is_deleted_unless_the_log_breaks(
    at: Store,
) -> None:
    op = await at.completed()
    waiting = await at.bench.advance(await at.bench.submit(request(playbook="note.write_important")))
    await at.archive.read_up()
    end = await at.end()
    digests = [op.bound_plan().digest, waiting.bound_plan().digest, (await at.ledger.head()).constitution]
    whole = ("head", "checkpoint")
    lies: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
        (("head",), {}, "TR003"),
        ((), {}, "TR003"),
        ((), {"index": -1}, "TR003"),
        ((), {"index": end + 8}, "TR003"),
        (("checkpoint",), {}, "TR003"),
        ((*whole, "hash"), {}, "TR002"),
        (whole, {"kind": "auth.denied"}, "TR002"),
    ]
    for parts, changes, state in lies:
        async with at.trying(at.database.app) as connection:
            index = await forged(connection, digests, *parts, **changes)
            with pytest.raises(asyncpg.PostgresError) as refused:
                await connection.fetchrow("SELECT * FROM evidence_forget($1)", index)
            assert (parts, changes, refused.value.sqlstate) == (parts, changes, state)
    async with at.trying(at.database.app) as connection:
        index = await forged(connection, digests, *whole)
        removed, kept = await connection.fetchrow("SELECT * FROM evidence_forget($1)", index)
        assert (removed, set(kept)) == (digests[:1], set(digests[1:]))
        told = {each.rule for each in (await compare(connection)).told}
        assert {Rule.CHECKPOINTS, Rule.OPERATIONS} <= told
        note = await connection.fetchval("SELECT note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1")
        entries = [row["entry"] for row in await connection.fetch("SELECT entry FROM ledger_leaf ORDER BY idx")]
    assert verify(entries, note, Policy.of((at.bench.triad.signer.key,)), semantics=False).code is Code.SIGNATURE


@pytest.mark.anyio
async def test_evidence_is_deleted_only_by_what_sees_the_newest_entries(at: Store) -> None:
    index = await at.ledger.note(PersonalErased(evidence=("0" * 64,), by="ana", reason="Nothing."), BY_ANA)
    connection = await asyncpg.connect(at.database.app)
    try:
        for isolation in ("repeatable_read", "serializable"):
            with pytest.raises(asyncpg.PostgresError, match="read committed"):
                async with connection.transaction(isolation=isolation):
                    await connection.fetchrow("SELECT * FROM evidence_forget($1)", index)
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_no_place_is_passed_over_when_it_is_noted_what_entries_name(at: Store) -> None:
    await at.archive.read_up()
    end = await at.end()
    async with at.trying(at.database.app) as connection:
        add = "INSERT INTO ledger_checkpoint SELECT $1, root, note FROM ledger_checkpoint LIMIT 1"
        await connection.execute(add, end + 100)
        with pytest.raises(asyncpg.PostgresError, match="are missing"):
            await connection.fetchval("SELECT evidence_index(1000000)")


@pytest.mark.anyio
async def test_what_is_younger_than_the_entrys_own_rule_stays(at: Store) -> None:
    named = await at.named(await at.completed())
    index = await at.ledger.note(EvidenceExpired(digests=tuple(named), days=1), BY_ANA)
    assert set((await at.archive.forget(index)).kept) == set(named)


@pytest.mark.anyio
async def test_the_audit_finds_evidence_that_is_gone_unlawfully_and_what_came_back(at: Store) -> None:
    op = await at.completed()
    waiting = await at.bench.advance(await at.bench.submit(request(playbook="note.write_important")))
    snapshot, step = await at.named(op)
    body = await at.ledger.evidence(step)
    await at.years_pass()
    await at.expiry({EvidenceClass.STEP: 30}).expire()
    plans = (op.bound_plan().digest, waiting.bound_plan().digest)
    await at.ledger.note(EvidenceExpired(digests=plans[:1], days=1), BY_ANA)
    await at.ledger.note(PersonalErased(evidence=plans[1:], by="ana", reason="Mine."), BY_ANA)

    async def told(change: str, *arguments: object) -> list[tuple[Rule, str]]:
        async with at.trying(at.database.superuser) as connection:
            await connection.execute(change, *arguments)
            return [(each.rule, each.sentence) for each in (await compare(connection)).told]

    assert await told("SELECT 1") == []
    gone = "DELETE FROM evidence WHERE digest = $1"
    for digest, why in (
        (snapshot, "no entry says that it was deleted"),
        (plans[0], "a plan does not expire"),
        (plans[1], "its operation has not ended"),
    ):
        ((rule, sentence),) = await told(gone, digest)
        assert (rule, digest in sentence, why in sentence) == (Rule.MISSING, True, True)
    ((rule, sentence),) = await told("INSERT INTO evidence (digest, body) VALUES ($1, $2)", step, body)
    assert (rule, step in sentence) == (Rule.RETURNED, True)


@pytest.mark.anyio
async def test_the_deleting_function_is_the_owners_with_a_fixed_search_path_and_the_ledgers_lock(at: Store) -> None:
    facts = "SELECT proowner::regrole || ' ' || prosecdef || ' ' || array_to_string(proconfig, ';') FROM pg_proc "
    for name in ("evidence_forget", "evidence_index"):
        (found,) = await at.sql(facts + "WHERE proname = $1", name)
        assert found == "triad_owner true search_path=pg_catalog, pg_temp"
    source = "SELECT prosrc FROM pg_proc WHERE proname = $1"
    locks = {
        re.search(r"pg_advisory_xact_lock\((\d+)\)", (await at.sql(source, name))[0])[1]  # type: ignore[index] # it is there
        for name in ("ledger_lock", "ledger_commit", "evidence_forget")
    }
    assert len(locks) == 1
    (held,) = await at.sql(source, "evidence_held")
    listed = re.search(r"\) IN \((.*?)\)", held, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"'([a-z_]+)'", listed[1])) == {stage.value for stage in Stage if stage.terminal}


def test_the_settings_give_days_by_class_and_one_number_for_the_rest() -> None:
    assert Retention().days == {}
    assert Retention(evidence_days=90, step_days=30).days == {
        EvidenceClass.SNAPSHOT: 90,
        EvidenceClass.STEP: 30,
        EvidenceClass.REPORT: 90,
    }
    with pytest.raises(ValueError, match="evidence_days"):
        Retention(evidence_days=0)


def test_every_rule_of_the_audit_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs/operations/retention.md").read_text()
    assert [rule.value for rule in Rule if f"`{rule}`" not in page] == []


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("expiry")
    (folder / "triad.toml").write_text("[retention]\nevidence_days = 30\n")
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)  # commands of this process share its output
    structlog.configure(wrapper_class=silent)
    try:
        with world(cluster, folder) as made:
            yield made
    finally:
        structlog.reset_defaults()


def test_an_admin_looks_lets_expire_and_reads_why_over_http_and_on_the_command_line(
    doors: World, tmp_path: Path
) -> None:
    rita = doors.key("rita", "requester", "operator")
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    doors.ended(ident, rita)
    admin = Terminal(tmp_path, url=doors.settings.url, token=doors.admin)
    assert "0 pieces of evidence would go" in admin("audit", "expire", "--dry-run").err
    doors.sql("UPDATE evidence SET created = created - interval '40 days'")
    doors.sql("UPDATE evidence_use SET at = at - interval '40 days'")
    entry = doors.get(f"/api/v1/audit?operation={ident}&kind=step.done", rita).json()["items"][0]
    digest = entry["event"]["evidence"][0]
    assert '"summary"' in admin("audit", "evidence", digest).out
    path = "/api/v1/evidence/expiry"
    looked = doors.post(path, doors.admin, {})
    assert (looked.status_code, looked.json()["dry_run"]) == (200, True)
    assert {each["kind"] for each in looked.json()["classes"]} == {"snapshot", "step"}
    assert doors.post(path, rita, {"dry_run": False}).status_code == 403
    shown = admin("audit", "expire", "--dry-run")
    assert shown.code == 0
    assert "30 days" in shown.out
    said = admin("audit", "expire", "--yes", "--json")
    assert [{**each, "bytes": 0} for each in said.json] == [{**each, "bytes": 0} for each in looked.json()["classes"]]
    gone = doors.get(f"/api/v1/evidence/{digest}", rita)
    assert (gone.status_code, gone.json()["code"]) == (410, "evidence-expired")
    told = admin("audit", "evidence", digest)
    assert told.code == 1
    assert "kept for 30 days" in told.err
    audit = doors.get("/api/verification/audit", doors.admin).json()
    assert audit["intact"], audit["problems"]


def test_the_running_service_lets_evidence_expire_by_itself(doors: World) -> None:
    rita = doors.key("rita", "requester", "operator")
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    doors.ended(ident, rita)
    entry = doors.get(f"/api/v1/audit?operation={ident}&kind=step.done", rita).json()["items"][0]
    path = f"/api/v1/evidence/{entry['event']['evidence'][0]}"
    assert doors.get(path, rita).status_code == 200
    doors.post("/api/v1/evidence/expiry", doors.admin, {"dry_run": True})  # notes what the entries name
    doors.sql("UPDATE evidence SET created = created - interval '40 days'")
    doors.sql("UPDATE evidence_use SET at = at - interval '40 days'")
    doors.restart()
    deadline = time.monotonic() + PATIENCE
    while (answer := doors.get(path, rita)).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (answer.status_code, answer.json()["code"]) == (410, "evidence-expired")
    newest = doors.get("/api/v1/audit?kind=evidence.expired", doors.admin).json()["items"][-1]
    assert newest["principal"] == "triad"


def test_the_services_own_verification_finds_a_plan_that_somebody_deleted(doors: World) -> None:
    plan = doors.waiting(doors.key("rita", "requester", "operator"))["plan"]
    body = doors.sql("DELETE FROM evidence WHERE digest = $1 RETURNING body", plan)
    doors.key("rolf", "auditor")  # the log has grown, so it is verified again
    found = doors.get("/api/verification/audit", doors.admin).json()
    assert (found["intact"], found["code"]) == (False, 5)
    assert "evidence-missing" in {each["rule"] for each in found["problems"]}
    doors.sql("INSERT INTO evidence (digest, body) VALUES ($1, $2)", plan, body)
    doors.key("ruth", "auditor")
    assert doors.get("/api/verification/audit", doors.admin).json()["intact"]


def test_people_are_kept_proved_and_erased_on_the_command_line(doors: World, tmp_path: Path) -> None:
    admin = Terminal(tmp_path, url=doors.settings.url, token=doors.admin)
    made = admin("key", "create", "willa", "-r", "requester", "--name", "Willa Weiss", "--email", "w@w.example")
    assert made.code == 0
    willa = Terminal(tmp_path, url=doors.settings.url, token=made.out.strip())
    assert willa("people", "set", "willa", "--contact", "room 7").code == 0
    assert "Willa Weiss" in admin("key", "list").out
    listed = admin("people", "list").out
    assert all(text in listed for text in ("willa", "Willa Weiss", "w@w.example", "room 7"))
    assert "room 7" in willa("people", "show", "willa").out
    proof = willa("people", "reveal", "willa", "name", "--json").json
    assert sha256(bytes.fromhex(proof["salt"]) + b"Willa Weiss") == proof["commitment"]
    assert willa("people", "list").code == 4
    assert willa("people", "set", "willa").code == 2
    assert willa("audit", "erase", "--reason", "x", "--yes").code == 2
    assert willa("audit", "erase", "willa", "--reason", "I leave.", "--no-input").code == 2
    erased = willa("audit", "erase", "willa", "--reason", "I leave.", "--yes")
    assert erased.code == 0
    assert "3 open no more" in erased.out
    assert willa("people", "show", "willa").code == 1
    assert "Willa" not in admin("key", "list").out
    digest = doors.get("/api/v1/constitution", doors.admin).json()["digest"]
    assert admin("audit", "erase", "--evidence", digest, "--reason", "No.", "--yes").code == 1
