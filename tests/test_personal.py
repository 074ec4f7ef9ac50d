"""What is personal stands outside the ledger behind commitments, can be proved, and can be erased for good."""

import asyncio
import hashlib
import json
import logging
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from operations.canonical import canonical, sha256
from operations.errors import Conflict, Gone, LedgerUnavailable, NotAllowed, NotFound
from operations.events import KeyRevoked, PersonalErased, PersonalRecorded
from operations.model import PrincipalKind, Role
from operations.stages import Stage
from storage.embedded import Embedded
from storage.engine import make_engine
from storage.expiry import Archive
from storage.export import export
from storage.keys import ApiKeys, fingerprint
from storage.ledger import Ledger
from storage.personal import Opening, People, PersonalField, Secret
from storage.source import LedgerSource
from storage.verifier import tree
from storage.verifier.exported import verify_export
from tests.bench import Bench, bench
from tests.conftest import Database, fresh
from tests.doors import World, world
from tests.samples import ADA, ROOT, person, request
from tests.steps import BY_ANA
from triad.expiry import Expiry
from triad.privacy import Privacy

NAME, EMAIL = "Wilhelmina Zauberflieder", "wilhelmina@zauberflieder.example"
WILLA = person("willa", Role.REQUESTER)
FIELDS = {PersonalField.NAME: NAME, PersonalField.EMAIL: EMAIL}


class Register(NamedTuple):
    """The organs of retention around one Triad."""

    bench: Bench
    database: Database
    people: People
    archive: Archive
    keys: ApiKeys
    privacy: Privacy
    expiry: Expiry

    @property
    def ledger(self) -> Ledger:
        return self.bench.triad.ledger

    async def end(self) -> int:
        """Index of the newest entry."""
        return (await self.ledger.head()).size - 1

    async def kept(self, subject: str) -> list[Any]:
        return await rows(self.database.app, "SELECT * FROM personal WHERE subject = $1", subject)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def at(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Register]:
    """One for all tests, each of which has subjects of its own."""
    database = await fresh(cluster)
    async with bench(database, tmp_path_factory.mktemp("register")) as made:
        engine = make_engine(database.app)
        people, archive, keys = People(engine), Archive(engine), ApiKeys(engine)
        ledger, law = made.triad.ledger, made.triad.law
        privacy = Privacy(ledger, law, people, archive)
        yield Register(made, database, people, archive, keys, privacy, Expiry(ledger, law, archive, people, keys, {}))
        await engine.dispose()


async def rows(dsn: str, query: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_the_ledger_holds_a_commitment_and_never_the_value(at: Register) -> None:
    before = await at.end()
    kept = await at.privacy.keep(ROOT, "lea", FIELDS)
    assert [(datum.field, datum.value) for datum in kept] == [("name", NAME), ("email", EMAIL)]
    entries = await at.ledger.entries(after=before, kinds={"personal.recorded"})
    for entry, datum in zip(entries, kept, strict=True):
        assert isinstance(entry.event, PersonalRecorded)
        assert (entry.event.subject, entry.event.field) == ("lea", datum.field.value)
        assert (entry.event.commitment, entry.index) == (datum.commitment, datum.index)
    everything = b"".join(data for _, data in await at.ledger.raw())
    assert NAME.encode() not in everything
    assert EMAIL.encode() not in everything
    assert (await at.bench.verified()).ok


@pytest.mark.anyio
async def test_salt_and_value_open_the_commitment_and_a_salt_is_never_used_twice(at: Register) -> None:
    await at.privacy.keep(ROOT, "sally", FIELDS)
    await at.privacy.keep(ROOT, "solveig", FIELDS)
    salts = set()
    for subject in ("sally", "solveig"):
        for field, value in FIELDS.items():
            found = await at.privacy.opening(ROOT, subject, field)
            assert isinstance(found, Opening)
            assert found.value == value
            salt = bytes.fromhex(found.salt)
            assert len(salt) == 32
            salts.add(salt)
            assert hashlib.sha256(salt + value.encode()).hexdigest() == found.commitment
            (entry,) = await at.ledger.entries(after=found.index - 1, limit=1)
            assert isinstance(entry.event, PersonalRecorded)
            assert entry.event.commitment == found.commitment
    assert len(salts) == 4


@pytest.mark.anyio
async def test_a_new_value_takes_the_place_of_the_old_one_and_its_salt(at: Register) -> None:
    await at.privacy.keep(ROOT, "nora", {PersonalField.NAME: "An old name"})
    await at.privacy.keep(ROOT, "nora", {PersonalField.NAME: NAME})
    assert [datum.value for datum in await at.people.of("nora")] == [NAME]
    assert len(await at.people.standing("nora")) == 2


@pytest.mark.anyio
async def test_only_an_admin_and_the_subject_keep_see_prove_and_erase(at: Register) -> None:
    await at.privacy.keep(WILLA, "willa", FIELDS)
    robot = WILLA.model_copy(update={"id": "willa-robot", "kind": PrincipalKind.SERVICE})
    for other in (ADA, person("olga", Role.AUDITOR), person("pip", Role.CROWN_OFFICER), robot):
        with pytest.raises(NotAllowed):
            await at.privacy.keep(other, "willa", FIELDS)
        with pytest.raises(NotAllowed):
            await at.privacy.of(other, "willa")
        with pytest.raises(NotAllowed):
            await at.privacy.all(other)
        with pytest.raises(NotAllowed):
            await at.privacy.opening(other, "willa", PersonalField.NAME)
        with pytest.raises(NotAllowed):
            await at.privacy.erase(other, "willa", "Because.")
    for one in (WILLA, ROOT):
        assert len(await at.privacy.of(one, "willa")) == 2
        assert (await at.privacy.opening(one, "willa", PersonalField.NAME)).value == NAME
    assert (await at.privacy.erase(WILLA, "willa", "I am leaving.")).values == 2


@pytest.mark.anyio
async def test_a_crash_between_entry_and_value_leaves_an_entry_that_opens_to_nothing(
    at: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> bool:
        raise LedgerUnavailable("The process died.")

    with monkeypatch.context() as patched:
        patched.setattr(People, "keep", lost)
        with pytest.raises(LedgerUnavailable):
            await at.privacy.keep(ROOT, "cora", FIELDS)
    assert await at.kept("cora") == []
    assert len(await at.people.standing("cora")) == 1
    assert (await at.bench.verified()).ok
    await at.privacy.keep(ROOT, "cora", FIELDS)
    assert len(await at.people.of("cora")) == 2
    done = await at.privacy.erase(ROOT, "cora", "Asked for it.")
    assert (done.commitments, done.values) == (3, 2)


@pytest.mark.anyio
async def test_no_value_is_kept_without_its_entry(at: Register) -> None:
    closed = await Ledger.open(at.database.app, at.bench.triad.signer, origin=at.bench.triad.blueprint.origin)
    await closed.close()
    with pytest.raises(LedgerUnavailable):
        await Privacy(closed, at.bench.triad.law, at.people, at.archive).keep(ROOT, "dora", FIELDS)
    assert await at.kept("dora") == []


@pytest.mark.anyio
async def test_an_error_of_the_database_repeats_no_value(at: Register) -> None:
    recorded = PersonalRecorded(subject="willa", field="name", commitment="0" * 64)
    with pytest.raises(LedgerUnavailable) as refused:
        await at.people.keep(recorded, 1, Secret(b"s" * 32, NAME))
    told = "".join(traceback.format_exception(refused.value))
    assert "23514" in told
    assert NAME not in told


@pytest.mark.anyio
async def test_the_database_refuses_a_value_that_does_not_open_its_commitment(at: Register) -> None:
    for salt, commitment in ((b"s" * 32, "0" * 64), (b"short", sha256(b"shortx"))):
        connection = await asyncpg.connect(at.database.app)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("INSERT INTO personal VALUES ('willa', 'name', $1, 'x', $2, 1)", salt, commitment)
        await connection.close()


@pytest.mark.anyio
async def test_a_crash_between_the_erasure_and_its_deletion_is_finished_by_the_sweep(
    at: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at.privacy.keep(ROOT, "elsa", FIELDS)
    await at.privacy.keep(ROOT, "emil", FIELDS)

    async def lost(*_: object) -> int:
        raise LedgerUnavailable("The process died.")

    with monkeypatch.context() as patched:
        patched.setattr(People, "remove", lost)
        with pytest.raises(LedgerUnavailable):
            await at.privacy.erase(ROOT, "elsa", "Asked for it.")
    assert len(await at.people.of("elsa")) == 2
    assert await at.expiry.sweep() == (2, 0, 0)
    assert await at.people.of("elsa") == ()
    assert len(await at.people.of("emil")) == 2
    assert await at.expiry.sweep() == (0, 0, 0)
    with pytest.raises(NotFound) as caught:
        await at.privacy.erase(ROOT, "elsa", "Again.")
    assert caught.value.code == "nothing-kept"


@pytest.mark.anyio
async def test_a_value_that_arrives_after_its_erasure_is_not_taken_in(at: Register) -> None:
    secret = Secret.of(NAME)
    recorded = PersonalRecorded(subject="lena", field="name", commitment=secret.commitment)
    index = await at.ledger.note(recorded, BY_ANA)
    assert (await at.privacy.erase(ROOT, "lena", "Faster.")).commitments == 1
    assert not await at.people.keep(recorded, index, secret)
    assert await at.kept("lena") == []


@pytest.mark.anyio
async def test_of_two_values_at_once_the_one_with_the_later_entry_stays(at: Register) -> None:
    first, second = Secret.of("first"), Secret.of("second")
    events = [
        PersonalRecorded(subject="twyla", field="name", commitment=secret.commitment) for secret in (first, second)
    ]
    places = [await at.ledger.note(event, BY_ANA) for event in events]
    assert await at.people.keep(events[1], places[1], second)
    assert not await at.people.keep(events[0], places[0], first)
    assert [datum.value for datum in await at.people.of("twyla")] == ["second"]


@pytest.mark.anyio
async def test_more_commitments_than_one_entry_names_are_closed_by_several(at: Register) -> None:
    events = [
        PersonalRecorded(subject="mona", field="name", commitment=sha256(b"%d" % number)) for number in range(101)
    ]
    await asyncio.gather(*(at.ledger.note(event, BY_ANA) for event in events))
    done = await at.privacy.erase(ROOT, "mona", "\U0001f5d1" * 2000)
    assert (len(done.entries), done.commitments) == (2, 101)
    assert await at.people.standing("mona") == ()


@pytest.mark.anyio
async def test_after_an_erasure_the_tree_stands_old_proofs_verify_and_the_value_is_nowhere(
    at: Register, tmp_path: Path, cluster: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    name, email = "Vera of the Vanishing Violets", "vera@vanishing.example"
    (kept, _) = await at.privacy.keep(ROOT, "vera", {PersonalField.NAME: name, PersonalField.EMAIL: email})
    before = await at.ledger.head()
    path = await at.ledger.inclusion(kept.index, before.size)
    (entry,) = await at.ledger.raw(after=kept.index - 1, limit=1)
    opening = await at.privacy.opening(ROOT, "vera", PersonalField.NAME)

    assert name.encode() in await dumped(cluster, at.database)
    before_it = await at.end()
    done = await at.privacy.erase(ROOT, "vera", "Asked for it.")
    assert (done.commitments, done.values) == (2, 2)
    (erased,) = await at.ledger.entries(after=before_it, kinds={"personal.erased"})
    assert isinstance(erased.event, PersonalErased)
    assert kept.commitment in erased.event.commitments

    after = await at.ledger.head()
    assert await at.ledger.raw(after=kept.index - 1, limit=1) == [entry]
    old_root, root = bytes.fromhex(before.root), bytes.fromhex(after.root)
    assert tree.verify_inclusion(tree.leaf_hash(entry[1]), kept.index, before.size, path, old_root)
    consistent = await at.ledger.consistency(before.size, after.size)
    assert tree.verify_consistency(before.size, old_root, after.size, root, consistent)
    assert (await at.bench.verified()).ok
    with pytest.raises(NotFound):
        await at.privacy.opening(ROOT, "vera", PersonalField.NAME)

    exported = tmp_path / "exported"
    await export(LedgerSource(at.ledger), exported)
    report = verify_export(exported)
    assert report.ok, report.text()

    secrets = [name.encode(), email.encode(), opening.salt.encode(), bytes.fromhex(opening.salt)]
    everywhere = [await dumped(cluster, at.database), caplog.text.encode()]
    everywhere += contents(tmp_path) + contents(at.bench.folder)
    assert [secret for secret in secrets if any(secret in place for place in everywhere)] == []
    assert b"personal.erased" in b"".join(data for _, data in await at.ledger.raw())

    connection = await asyncpg.connect(at.database.superuser)
    try:
        await connection.execute("VACUUM (FULL) personal")  # what a plain VACUUM frees is overwritten only later
        place = await connection.fetchval("SELECT pg_relation_filepath('personal')")
        await connection.execute("CHECKPOINT")
        file = await connection.fetchval("SELECT pg_read_binary_file($1)", place)
    finally:
        await connection.close()
    assert [secret for secret in secrets if secret in file] == []


def contents(folder: Path) -> list[bytes]:
    """Every file below a folder."""
    found = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert found
    return found


async def dumped(cluster: Embedded, database: Database) -> bytes:
    """The whole database as pg_dump writes it."""
    process = await asyncio.create_subprocess_exec(
        str(cluster.binaries / "pg_dump"), "--dbname", database.superuser, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"personal" in output
    return output


@pytest.mark.anyio
async def test_evidence_is_erased_only_when_nobody_needs_it_any_more(at: Register) -> None:
    before = await at.end()
    op = await at.bench.submit(request(playbook="note.write_important"))
    op = await at.bench.advance(op)
    assert op.stage is Stage.PLANNED
    plan = op.bound_plan().digest
    constitution = (await at.ledger.head()).constitution
    for digest in (plan, constitution):
        with pytest.raises(Conflict) as caught:
            await at.privacy.erase_evidence(ROOT, digest, "Something slipped in.")
        assert caught.value.code == "evidence-needed"
    with pytest.raises(NotFound):
        await at.privacy.erase_evidence(ROOT, "0" * 64, "Nothing there.")
    with pytest.raises(NotAllowed):
        await at.privacy.erase_evidence(ADA, plan, "Mine.")
    assert await at.ledger.entries(after=before, kinds={"personal.erased"}) == []

    await at.bench.triad.petitions.cancel(ADA, op.id, "Not needed.")
    assert (await at.privacy.erase_evidence(ROOT, plan, "An address stood in it.", "willa")).values == 1
    for read in (at.ledger.evidence, at.ledger.stored_evidence):
        with pytest.raises(Gone) as gone:
            await read(plan)
        assert gone.value.code == "evidence-erased"
        assert re.search(r"entry \d+ of \d{4}-", gone.value.reasons[0])
    with pytest.raises(Gone):
        await at.privacy.erase_evidence(ROOT, plan, "Again.")
    folded = await at.ledger.load(op.id)
    assert (folded.stage, folded.plan) == (Stage.CANCELLED, None)
    assert (await at.bench.verified()).ok


@pytest.mark.anyio
async def test_a_key_whose_revocation_was_cut_short_is_revoked_by_the_sweep(at: Register) -> None:
    cut, other = await at.keys.create(ADA), await at.keys.create(ADA)
    await at.ledger.note(KeyRevoked(subject=ADA.id, fingerprint=fingerprint(cut)), BY_ANA)
    assert await at.keys.find(cut) == ADA
    assert await at.expiry.sweep() == (0, 0, 1)
    assert await at.keys.find(cut) is None
    assert await at.keys.find(other) == ADA
    assert await at.expiry.sweep() == (0, 0, 0)


@pytest.mark.anyio
async def test_the_last_admin_stays_although_the_other_ones_revocation_was_cut_short(at: Register) -> None:
    cut, last = await at.keys.create(ROOT), await at.keys.create(ROOT)
    await at.ledger.note(KeyRevoked(subject=ROOT.id, fingerprint=fingerprint(cut)), BY_ANA)
    with pytest.raises(Conflict) as refused:
        async with at.keys.revoking(fingerprint(last)):
            pass
    assert refused.value.code == "last-admin-key"
    assert await at.keys.find(last) == ROOT
    await at.expiry.sweep()
    assert await at.keys.find(cut) is None


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("people")) as made:
        yield made


PEOPLE = "/api/v1/people"


def test_a_key_is_made_with_a_name_that_stands_in_the_list_and_in_no_entry(doors: World) -> None:
    body = {"principal": "willa", "kind": "person", "person": "willa", "roles": ["requester"]}
    made = doors.post("/api/v1/keys", doors.admin, {**body, "name": NAME, "email": EMAIL})
    assert made.status_code == 201, made.text
    listed = {key["principal"]: key["name"] for key in doors.get("/api/v1/keys", doors.admin).json()["items"]}
    assert listed == {"admin": None, "willa": NAME}
    entries = doors.get("/api/v1/audit?limit=1000", doors.admin).text
    assert "personal.recorded" in entries
    assert NAME not in entries
    assert EMAIL not in entries
    assert doors.sql("SELECT count(*) FROM idempotency") == 0
    own = made.json()["key"]
    seen = doors.get(f"{PEOPLE}/willa", own)
    assert {each["field"]: each["value"] for each in seen.json()["values"]} == {"name": NAME, "email": EMAIL}
    assert seen.headers["cache-control"] == "no-store"
    assert "salt" not in seen.text
    proof = doors.get(f"{PEOPLE}/willa/email/proof", own).json()
    assert sha256(bytes.fromhex(proof["salt"]) + EMAIL.encode()) == proof["commitment"]
    assert doors.get(f"{PEOPLE}/willa", doors.key("rolf", "auditor")).status_code == 403
    assert doors.get(PEOPLE, own).status_code == 403
    assert [each["subject"] for each in doors.get(PEOPLE, doors.admin).json()["items"]] == ["willa"]
    assert doors.get(f"{PEOPLE}/nobody", doors.admin).json()["code"] == "nothing-kept"
    assert doors.get(f"{PEOPLE}/willa/shoe/proof", doors.admin).json()["code"] == "nothing-kept"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"email": "no address"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"contact": 7}, "contact"),
        ({"shoe": "forty-two"}, "shoe"),
    ],
)
def test_what_cannot_be_kept_is_refused_without_being_repeated(doors: World, body: Any, field: str) -> None:
    before = doors.size()
    answer = doors.post(f"{PEOPLE}/ulf", doors.admin, body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert doors.size() == before
    assert all(str(value) not in answer.text for value in body.values() if value)


def test_an_erasure_over_http_leaves_the_value_in_no_file_and_no_table(doors: World) -> None:
    key = doors.key("zoe", "requester")
    secret = "Zoe of the Seven Seas"
    assert doors.post(f"{PEOPLE}/zoe", key, {"name": secret, "contact": "+00 7 777"}).status_code == 200
    assert doors.post(f"{PEOPLE}/zoe/erasure", doors.key("rolf", "auditor"), {"reason": "No."}).status_code == 403
    done = doors.post(f"{PEOPLE}/zoe/erasure", key, {"reason": "I am leaving."})
    assert (done.status_code, done.json()["values"], done.json()["commitments"]) == (200, 2, 2)
    assert doors.get(f"{PEOPLE}/zoe", key).status_code == 404
    assert doors.post(f"{PEOPLE}/zoe/erasure", key, {"reason": "Again."}).json()["code"] == "nothing-kept"
    tables = doors.sql("SELECT string_agg(table_name, ' ') FROM information_schema.tables WHERE table_schema='public'")
    whole = "SELECT coalesce(string_agg(t::text, ' '), '') FROM {} AS t"
    texts = [doors.sql(whole.format(table)) for table in tables.split()]
    assert [text for text in texts if secret in text or secret.encode().hex() in text] == []
    assert any(b"personal.erased".hex() in text for text in texts)
    assert [file for file in contents(doors.home) if secret.encode() in file] == []


def test_a_revocation_that_was_cut_short_is_carried_out_before_the_doors_open_again(
    doors: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"principal": "uwe", "kind": "person", "person": "uwe", "roles": ["requester"]}
    made = doors.post("/api/v1/keys", doors.admin, body).json()

    note = Ledger.note

    async def lost(*arguments: Any) -> int:
        await note(*arguments)
        raise LedgerUnavailable("The process died.")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "note", lost)
        cut = doors.call("DELETE", f"/api/v1/keys/{made['fingerprint']}", doors.admin)
    assert cut.status_code == 503
    revoked = doors.get("/api/v1/audit?kind=auth.key_revoked", doors.admin).json()["items"]
    assert [entry["event"]["fingerprint"] for entry in revoked] == [made["fingerprint"]]
    assert doors.get("/api/v1/me", made["key"]).status_code == 200
    doors.restart()
    assert doors.get("/api/v1/me", made["key"]).status_code == 401
    assert doors.get("/api/verification/audit", doors.admin).json()["intact"]


def test_evidence_is_read_and_erased_over_http(doors: World) -> None:
    key = doors.key("rita", "requester", "operator")
    request_ = {
        "type": "maintenance",
        "description": "Vacuum and analyze the database",
        "systems": ["triad-db"],
        "playbook": "postgres.vacuum_analyze",
    }
    ident = doors.submit(key, request_, Prefer="wait=25")["id"]
    doors.ended(ident, key)
    entries = doors.get(f"/api/v1/audit?operation={ident}&kind=step.done", key).json()["items"]
    digest = entries[0]["event"]["evidence"][0]
    path = f"/api/v1/evidence/{digest}"
    read = doors.get(path, key)
    assert (read.status_code, sha256(read.content)) == (200, digest)
    assert canonical(json.loads(read.content)) == read.content
    assert doors.get(path, key, If_None_Match=f'"{digest}"').status_code == 304
    assert doors.get(path, doors.key("nobody")).status_code == 403
    unknown = doors.get(f"/api/v1/evidence/{'0' * 64}", key)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-evidence")
    for wrong in ("nonsense", digest.upper()):
        refused = doors.get(f"/api/v1/evidence/{wrong}", key)
        assert (refused.status_code, refused.json()["field"]) == (422, "digest")
    assert doors.post(f"{path}/erasure", key, {"reason": "Mine."}).status_code == 403
    done = doors.post(f"{path}/erasure", doors.admin, {"reason": "A name stood in it."})
    assert (done.status_code, done.json()["values"]) == (200, 1)
    gone = doors.get(path, key)
    assert (gone.status_code, gone.json()["code"]) == (410, "evidence-erased")
    assert f"entry {done.json()['entries'][0]} of " in gone.json()["reasons"][0]
    constitution = doors.get("/api/v1/constitution", key).json()["digest"]
    needed = doors.post(f"/api/v1/evidence/{constitution}/erasure", doors.admin, {"reason": "I dislike it."})
    assert (needed.status_code, needed.json()["code"]) == (409, "evidence-needed")
