"""Analyses of a real ledger: over HTTP, at a terminal without a service, stored on the record, and computed again."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from operations.canonical import canonical, now, sha256
from operations.errors import InvalidRequest, LedgerCorrupt, NotFound
from operations.events import AccessDenied, OperationRequested
from operations.model import Actor, Branch, OperationType, Request
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.span import Spans
from tests.bench import bench
from tests.conftest import Database
from tests.doors import VACUUM, World, world
from tests.samples import ADA
from tests.terminal import Said, Terminal
from triad.analytics.analysis import Analyst, store
from triad.analytics.records import OpenIntent, Question, Thresholds
from triad.analytics.report import body_of, digest_of

ANALYTICS = "/api/v1/audit/analytics"
REPORTS = "/api/v1/audit/reports"
NOTE = Request(type=OperationType.MAINTENANCE, description="Write a note", systems=("notes",), playbook="note.write")


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("analytics")) as made:
        yield made


@pytest.fixture(scope="module")
def ann(doors: World) -> str:
    return doors.key("ann", "auditor")


@pytest.fixture(scope="module")
def done(doors: World) -> str:
    """An operation that was carried out."""
    rita = doors.key("rita", "requester", "operator")
    ident: str = doors.submit(rita, VACUUM)["id"]
    assert doors.ended(ident, rita)["stage"] == "completed"
    return ident


def test_the_analysis_is_of_what_was_recorded(doors: World, ann: str, done: str) -> None:
    found = doors.get(ANALYTICS, ann).json()
    report = found["report"]
    assert report["scope"]["first"] == 0
    assert report["entries"] == report["scope"]["end"] <= doors.size()
    assert report["outcomes"]["by_stage"] == [{"name": "completed", "n": 1}]
    assert [each["name"] for each in report["playbooks"]] == ["postgres.vacuum_analyze"]
    assert found["live"] == {"leases": [], "cosigned": None}
    assert found["digest"] == sha256(canonical(_without_nulls(report)))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def test_filters_and_ranges_go_through_the_door(doors: World, ann: str, done: str) -> None:
    one = doors.get(f"{ANALYTICS}?operation={done}&bucket=1min", ann).json()["report"]
    assert one["entries"] == doors.sql("SELECT count(*) FROM ledger_leaf WHERE operation = $1", done)
    assert one["scope"]["bucket_seconds"] == 60
    mine = doors.get(f"{ANALYTICS}?branch=judicial&system=triad-db&playbook=postgres.vacuum_analyze&since=1h", ann)
    assert {each["name"] for each in mine.json()["report"]["branches"]} == {"judicial"}


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("since=yesterday", 422, "invalid-field", "since"),
        ("until=begin", 422, "invalid-field", "until"),
        ("since=1h&until=2h", 422, "invalid-field", "since"),
        ("branch=press", 422, "invalid-field", "branch"),
        ("operation=op_1", 422, "invalid-field", "operation"),
        ("operation=op_00000000000000000000000000", 404, "unknown-operation", None),
        ("system=Not%20One", 422, "invalid-field", "system"),
        ("playbook=rm%20-rf", 422, "invalid-field", "playbook"),
        ("bucket=2h", 422, "invalid-field", "bucket"),
        ("colour=red", 422, "invalid-field", "colour"),
        ("since=" + "9" * 41, 422, "invalid-field", "since"),
    ],
)
def test_bad_questions_are_refused_by_the_name_of_their_field(
    doors: World, ann: str, query: str, status: int, code: str, field: str | None
) -> None:
    answer = doors.get(f"{ANALYTICS}?{query}", ann)
    assert (answer.status_code, answer.json()["code"], answer.json().get("field")) == (status, code, field)
    assert "yesterday" not in answer.text
    assert "rm -rf" not in answer.text


def test_who_may_not_read_the_ledger_gets_no_analysis_and_stores_none(doors: World) -> None:
    quinn = doors.key("quinn", "requester")
    for method, path, body in (
        ("GET", ANALYTICS, None),
        ("GET", REPORTS, None),
        ("GET", f"{REPORTS}/{'0' * 64}", None),
    ):
        assert doors.call(method, path, quinn, body).status_code == 403
        assert doors.call(method, path, None, body).status_code == 401
    before = doors.size()
    assert doors.post(REPORTS, quinn, {}).json()["code"] == "not-permitted"
    assert doors.size() == before + 1  # the refusal is on the record


def test_a_report_is_stored_listed_shown_and_the_same_again(doors: World, ann: str, done: str) -> None:
    made = doors.post(REPORTS, ann, {"operation": done}, Idempotency_Key="one")
    assert made.status_code == 201, made.text
    stored = made.json()
    assert doors.post(REPORTS, ann, {"operation": done}, Idempotency_Key="one").json() == stored
    listed = doors.get(f"{REPORTS}?limit=1", ann)
    assert listed.json()["items"] == [stored]
    assert f"cursor={stored['index']}" in listed.headers["link"]
    assert doors.get(f"{REPORTS}?cursor={stored['index']}", ann).json()["items"] == []
    shown = doors.get(made.headers["location"], ann)
    assert sha256(shown.content) == stored["digest"]
    assert shown.headers["etag"] == f'"{stored["digest"]}"'
    text = doors.get(made.headers["location"], ann, Accept="text/markdown")
    assert text.headers["content-type"].startswith("text/markdown")
    assert text.text.startswith("# The log ")
    entry = doors.get(f"/api/v1/audit?kind=report.stored&cursor={stored['index'] - 1}", ann).json()["items"][0]
    assert entry["principal"] == "ann"
    assert entry["event"]["report"] == stored["digest"]


@pytest.mark.parametrize("name", ["0" * 64, "abc", "F" * 64, "%2e%2e"])
def test_a_report_that_was_never_stored_is_not_found(doors: World, ann: str, name: str) -> None:
    assert doors.get(f"{REPORTS}/{name}", ann).status_code == 404


def test_other_evidence_is_no_report(doors: World, ann: str) -> None:
    law = doors.get("/api/v1/constitution", ann).json()["digest"]
    assert doors.get(f"{REPORTS}/{law}", ann).json()["code"] == "unknown-report"


@pytest.mark.parametrize("body", [{"since": 5}, {"sinse": "24h"}, {"branch": ["crown"]}, []])
def test_a_body_that_is_no_question_stores_nothing(doors: World, ann: str, body: Any) -> None:
    before = doors.size()
    assert doors.post(REPORTS, ann, body).json()["code"] == "invalid-field"
    assert doors.size() == before


def parsed(said: Said) -> Any:
    """The JSON that a command printed: the service in this process may have logged a line before it."""
    return json.loads(said.out[f"\n{said.out}".index("\n{") :])


def test_the_terminal_shows_what_the_service_says(doors: World, ann: str, done: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, doors.settings.url, ann)
    said = terminal("audit", "analyse", "--remote", "--operation", done)
    assert said.code == 0, said.err
    assert "How operations ended" in said.out
    assert "postgres.vacuum_analyze" in said.out
    stored = terminal("audit", "analyse", "--operation", done, "--store", "--json=digest,by")
    assert stored.code == 0, stored.err
    found = parsed(stored)
    assert found["by"] == "ann"
    assert found["digest"] in terminal("audit", "reports", "--remote", "-o", "id").out
    shown = terminal("audit", "report", found["digest"], "--remote", "--markdown")
    assert "# The log " in shown.out
    refused = terminal("audit", "analyse", "--remote", "--since", "yesterday")
    assert refused.code == 2
    assert "since" in refused.err
    assert terminal("audit", "report", found["digest"], "--remote", "--check").code == 2


@pytest.fixture
def home(doors: World, done: str) -> Path:
    """A home whose database is that of the running service: commands read it by themselves."""
    (doors.home / "triad.toml").write_text(f'[database]\nurl = "{doors.settings.database.url}"\n')
    return doors.home


def test_the_terminal_reads_the_database_of_a_home_by_itself(
    doors: World, ann: str, home: Path, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path)
    said = terminal("audit", "analyse", "--home", str(home), "--json=report,digest")
    assert said.code == 0, said.err
    assert parsed(said)["report"]["outcomes"]["by_stage"] == [{"name": "completed", "n": 1}]
    digest = doors.post(REPORTS, ann, {"since": "begin"}).json()["digest"]
    listed = terminal("audit", "reports", "--home", str(home), "-o", "id")
    assert digest in listed.out
    checked = terminal("audit", "report", digest, "--check", "--home", str(home))
    assert (checked.code, digest in checked.out) == (0, True), checked.err
    assert parsed(terminal("audit", "report", digest, "--home", str(home), "--json"))["version"] == 1
    for options, words in (
        (("--since", "soon"), "field: since"),
        (("--branch", "press"), "field: branch"),
        (("--operation", "op_1"), "field: operation"),
        (("--bucket", "1ms"), "field: bucket"),
    ):
        refused = terminal("audit", "analyse", "--home", str(home), *options)
        assert refused.code == 2
        assert words in refused.err
    unknown = terminal("audit", "report", "0" * 64, "--home", str(home))
    assert (unknown.code, "unknown-report" in unknown.err) == (1, True)


@pytest.mark.anyio
async def test_a_time_is_found_by_bisection_wherever_it_lies(ledger: Ledger) -> None:
    actor = Actor(principal="ada", branch=Branch.PEOPLE)
    for _ in range(20):
        await ledger.note(AccessDenied(action="halt", code="forbidden", reasons=("No.",)), actor)
    spans = Spans(ledger)
    size = await spans.size()
    times = [entry.time for entry in await ledger.entries(limit=size)]
    for at in {
        *times,
        times[0] - timedelta(days=1),
        times[-1] + timedelta(days=1),
        times[3] + timedelta(microseconds=1),
    }:
        assert await spans.first_at(at, size) == sum(time < at for time in times)


@pytest.mark.anyio
async def test_a_report_of_a_later_range_knows_the_operations_that_began_before_it(
    database: Database, tmp_path: Path
) -> None:
    async with bench(database, tmp_path) as made:
        op = await made.submit(NOTE)
        began = (await made.triad.ledger.entries(operation=op.id))[0].time
        while now() <= began + timedelta(milliseconds=2):  # noqa: ASYNC110 - the clock tells nobody
            await asyncio.sleep(0)
        done = await made.advance(op)
        assert done.stage.terminal
        analyst = Analyst(made.triad.ledger, Thresholds(), "triad.test/ledger")
        late = (began + timedelta(milliseconds=1)).isoformat().replace("+00:00", "Z")
        report = await analyst.report(await analyst.scope(Question(since=late)))
        assert (report.outcomes.requested, report.outcomes.ended) == (0, 1)
        assert report.whole.n == 1
        assert report.scope.first > 0
        stored = await store(made.triad.ledger, ADA, report)
        loaded, body = await analyst.load(stored.digest)
        assert (loaded, body) == (report, body_of(report))
        await made.advance(await made.submit(NOTE))
        assert await analyst.recomputed(loaded) == stored.digest
        assert (await made.verified()).ok


@pytest.mark.anyio
async def test_an_act_in_hand_shows_whether_its_worker_lives(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as made:
        op = await made.submit(NOTE)
        ledger = made.triad.ledger
        analyst = Analyst(ledger, Thresholds(), "triad.test/ledger")
        spans = Spans(ledger)
        assert [(row.held, row.left) for row in await spans.leases([op.id])] == [(False, None)]
        await ledger.claim(op.id, "wk_1", 30)
        (held,) = await spans.leases([op.id])
        assert held.held
        assert 0 < (held.left or 0) <= 30
        report = await analyst.report(await analyst.scope(Question()))
        assert (await analyst.live(report)).leases == ()
        assert report.outcomes.open == 1


@pytest.mark.anyio
async def test_a_range_with_too_many_entries_is_refused_before_it_is_read(ledger: Ledger) -> None:
    actor = Actor(principal="ada", branch=Branch.PEOPLE)
    for _ in range(5):
        await ledger.note(AccessDenied(action="halt", code="forbidden", reasons=("No.",)), actor)
    with pytest.raises(InvalidRequest, match="range-too-large") as caught:
        await Analyst(ledger, Thresholds(), "triad.test/ledger", most=5).scope(Question(since="begin"))
    assert caught.value.field == "since"


@pytest.mark.anyio
async def test_an_entry_that_was_tampered_with_stops_the_analysis_and_not_the_process(
    ledger: Ledger, database: Database
) -> None:
    analyst = Analyst(ledger, Thresholds(), "triad.test/ledger")
    scope = await analyst.scope(Question(since="begin"))
    connection = await asyncpg.connect(database.superuser)
    try:
        await connection.execute("UPDATE ledger_leaf SET entry = '{}'")
    finally:
        await connection.close()
    with pytest.raises(LedgerCorrupt):
        await analyst.report(scope)
    with pytest.raises(LedgerCorrupt):
        await analyst.scope(Question())


@pytest.mark.anyio
async def test_a_report_whose_evidence_is_not_there_is_not_made_up(ledger: Ledger) -> None:
    analyst = Analyst(ledger, Thresholds(), "triad.test/ledger")
    with pytest.raises(NotFound, match="unknown-report"):
        await analyst.load("0" * 64)
    report = await analyst.report(await analyst.scope(Question(since="begin")))
    assert await analyst.recomputed(report) == digest_of(report)


@pytest.mark.anyio
async def test_what_this_moment_knows_stands_beside_the_report_and_not_in_it(
    ledger: Ledger, database: Database
) -> None:
    actor = Actor(principal="ada", branch=Branch.PEOPLE)
    analyst = Analyst(ledger, Thresholds(), "triad.test/ledger")
    op = await ledger.submit(OperationRequested(request=NOTE, requester=ADA), actor)
    report = await analyst.report(await analyst.scope(Question()))
    act = OpenIntent(
        operation=op.id,
        index=1,
        step=1,
        attempt=1,
        direction="do",
        playbook="note.write",
        system="notes",
        effect="idempotent",
        age=5,
        in_doubt=False,
    )
    busy = report.model_copy(update={"intents": (act,)})
    assert [each.state for each in (await analyst.live(busy)).leases] == ["none"]
    await ledger.claim(op.id, "wk_1", 30)
    assert [each.state for each in (await analyst.live(busy)).leases] == ["alive"]
    connection = await asyncpg.connect(database.superuser)
    try:
        await connection.execute("UPDATE operation SET leased_until = now() - interval '1 minute'")
        size = await Spans(ledger).size()
        await connection.execute(
            "INSERT INTO ledger_cosignature (size, name, key, signature, at) VALUES ($1, 'w.example', $2, $3, 1)",
            size,
            bytes(4),
            bytes(72),
        )
    finally:
        await connection.close()
    (lease,) = (await analyst.live(busy)).leases
    assert (lease.state, (lease.seconds or 0) < 0) == ("dead", True)
    cosigned = (await analyst.live(report)).cosigned
    assert cosigned is not None
    assert (cosigned.size, cosigned.witness, cosigned.behind, cosigned.age, cosigned.late) == (
        size,
        "w.example",
        0,
        0,
        False,
    )
    await ledger.note(AccessDenied(action="halt", code="forbidden", reasons=("No.",)), actor)
    behind = (await analyst.live(report)).cosigned
    assert behind is not None
    assert behind.behind == 1
    assert digest_of(report) == await analyst.recomputed(report)
