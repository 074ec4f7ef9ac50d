"""The log asks its witnesses: cosigned after each batch, never slowed by one, refused when it is not what it was."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import pytest

from operations import events as e
from operations.canonical import now
from operations.model import Actor, Branch
from storage.cosignatures import Cosignature, Peer, policy_text
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.roles import DatabaseRole, database_statements
from storage.signer import Signer
from storage.verifier.checkpoint import Checkpoint, VerifierKey, parse_note
from storage.verifier.cosignature import CosignerKey
from storage.verifier.policy import Policy
from storage.witness import Witness
from storage.witnessed import Turn
from tests.conftest import CONSTITUTION, ORIGIN, Database
from tests.witnessing import PATIENCE, WitnessProcess, WitnessThread
from triad.witnesses import LATE, Pace, Witnesses, complaint

pytestmark = pytest.mark.anyio

FAST = Pace(between=0.01, round=2.0, deadline=5.0, again=0.01, most=0.05, refused=0.01, standby=0.02)
ADA = Actor(principal="ada", branch=Branch.PEOPLE)


def noted(number: int) -> e.AnyEvent:
    return e.KeyRevoked(subject="ada", fingerprint=f"{number:016x}")


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until an async predicate holds; fails after the patience of these tests."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():  # noqa: ASYNC110 - what is waited for happens in other processes
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def size_of(note: bytes) -> int:
    return Checkpoint.parse(parse_note(note).text).size


@asynccontextmanager
async def asking(
    ledger: Ledger, dsn: str, *peers: Peer, quorum: int | None = None, pace: Pace = FAST
) -> AsyncIterator[Witnesses]:
    witnesses = Witnesses(ledger, Turn(dsn), peers, len(peers) if quorum is None else quorum, pace=pace)
    task = asyncio.create_task(witnesses.run())
    try:
        yield witnesses
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task


@asynccontextmanager
async def opened(database: str, folder: Path) -> AsyncIterator[Ledger]:
    signer = Signer.load_or_create(folder / "ledger.key", ORIGIN)
    ledger = await Ledger.open(database, signer, origin=ORIGIN)
    try:
        await ledger.begin(e.Genesis(policies=("test",), keys=(signer.vkey,), code_version="0"), CONSTITUTION)
        yield ledger
    finally:
        await ledger.close()
        signer.close()


def log_key(folder: Path) -> VerifierKey:
    return Signer.load_or_create(folder / "ledger.key", ORIGIN).key


@pytest.fixture
def process(tmp_path: Path) -> Iterator[WitnessProcess]:
    running = WitnessProcess(tmp_path / "w1", log_key(tmp_path))
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def near(tmp_path: Path) -> Iterator[WitnessThread]:
    running = WitnessThread(tmp_path / "w1", log_key(tmp_path))
    try:
        yield running
    finally:
        running.stop()


async def cosigned_all(ledger: Ledger, peer: Peer) -> bool:
    return await ledger.cosigned_by(peer.key) == (await ledger.head()).size


async def test_each_batch_is_cosigned_and_a_killed_witness_carries_on(
    database: Database, tmp_path: Path, process: WitnessProcess
) -> None:
    peer = process.peer()
    async with opened(database.app, tmp_path) as ledger, asking(ledger, database.app, peer) as witnesses:
        for number in range(3):
            await ledger.note(noted(number), ADA)
            await eventually(lambda: cosigned_all(ledger, peer), "cosigned")
        note = await ledger.checkpoint()
        assert await ledger.checkpoint(size_of(note)) == note
        policy = Policy.parse(policy_text([log_key(tmp_path)], [peer], 1))
        judged = policy.judge(note, int(now().timestamp()))
        assert judged.quorum_met
        assert [each.witness.name for each in judged.witnesses] == ["w1"]

        process.kill()
        for number in range(50):
            await ledger.note(noted(number), ADA)

        async def troubled() -> bool:
            return "cannot be reached" in witnesses.trouble.get("w1", "")

        await eventually(troubled, "unreachable")
        process.start()
        await eventually(lambda: cosigned_all(ledger, peer), "cosigned after the kill")
        assert witnesses.trouble == {}
        assert size_of(await witnesses.newest() or b"") == (await ledger.head()).size
        assert await ledger.entries(kinds={"witness.refused"}) == []
        standing = await ledger.standing(peer)
        assert (standing.since, standing.refused, complaint(standing, now())) == (None, (), None)


async def test_with_one_of_two_down_the_log_goes_on_and_the_policy_says_who_is_missing(
    database: Database, tmp_path: Path, near: WitnessThread
) -> None:
    other = Witness.create(tmp_path / "w2", "witness.example/w2", ml_dsa=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Peer("w2", CosignerKey.parse(other.vkeys[0]), url)
        peers = (near.peer(), settings)
        async with (
            opened(database.app, tmp_path) as ledger,
            asking(ledger, database.app, *peers, pace=_patient(0.3)) as witnesses,
        ):
            for number in range(20):
                await ledger.note(noted(number), ADA)
            await eventually(lambda: cosigned_all(ledger, peers[0]), "cosigned by one")
            policy = Policy.parse(policy_text([log_key(tmp_path)], peers, 2))
            judged = policy.judge(await ledger.checkpoint())
            assert not judged.quorum_met
            assert "w2" in " ".join(judged.missing)
            assert await witnesses.newest() is None
            standing = await ledger.standing(settings)
            assert (standing.size, standing.at) == (0, None)
            assert standing.since is not None
            assert complaint(standing, standing.since) is None
            assert "has not cosigned" in (complaint(standing, standing.since + 2 * LATE) or "")


def _patient(deadline: float) -> Pace:
    return Pace(between=0.01, round=0.2, deadline=deadline, again=0.02, most=0.1, refused=0.02, standby=0.05)


async def copied(cluster: Embedded, database: Database, name: str) -> str:
    """A copy of a database as it is now, under another name; its DSN for the service."""
    connection = await asyncpg.connect(cluster.superuser_dsn())
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database.name
        )
        for statement in database_statements(name, template=database.name):
            await connection.execute(statement)
    finally:
        await connection.close()
    return cluster.dsn(DatabaseRole.APP, name)


async def test_a_log_that_was_put_back_is_refused_and_says_so_once(
    cluster: Embedded, database: Database, tmp_path: Path, near: WitnessThread
) -> None:
    peer = near.peer()
    async with opened(database.app, tmp_path) as ledger, asking(ledger, database.app, peer):
        await ledger.note(noted(1), ADA)
        await eventually(lambda: cosigned_all(ledger, peer), "cosigned")
    older = await copied(cluster, database, f"{database.name}_older")
    memory = tmp_path / "ledger.key.head"
    remembered = memory.read_bytes()
    async with opened(database.app, tmp_path) as ledger, asking(ledger, database.app, peer):
        for number in range(20):
            await ledger.note(noted(number), ADA)
        await eventually(lambda: cosigned_all(ledger, peer), "cosigned further")
    before = near.witness.logs()

    memory.write_bytes(remembered)  # whoever can restore both deceives the signer, and nobody else

    async def refusals(ledger: Ledger) -> list[str]:
        return [entry.event.code for entry in await ledger.entries(kinds={"witness.refused"})]  # type: ignore[union-attr] # of that kind

    async with opened(older, tmp_path) as ledger, asking(ledger, older, peer) as witnesses:

        async def rolled_back() -> bool:
            return bool(await refusals(ledger))

        await eventually(rolled_back, "refused")
        standing = await ledger.standing(peer)
        assert standing.refused[-1].event.seen == before[0].latest.size
        assert "refuses the log (rollback)" in (complaint(standing, now()) or "")
        asked = [0]

        async def often() -> bool:
            asked[0] += witnesses.trouble.pop("w1", None) is not None
            return asked[0] >= 5

        await eventually(often, "asked again and again")
        assert await refusals(ledger) == ["rollback"]

    async with opened(older, tmp_path) as ledger, asking(ledger, older, peer):
        for number in range(40):  # it grows past what the witness saw
            await ledger.note(noted(100 + number), ADA)

        async def inconsistent() -> bool:
            return "not-consistent" in await refusals(ledger)

        await eventually(inconsistent, "refused as another log")
        standing = await ledger.standing(peer)
        codes = [each.event.code for each in standing.refused]
        assert codes in (
            ["rollback", "not-consistent"],
            ["rollback", "fork", "not-consistent"],
        )  # asked at that very size
    assert near.witness.logs() == before
    assert {each.finding for each in near.witness.evidence()} >= {"unproved"}


async def test_two_processes_on_one_database_ask_in_turn(
    database: Database, tmp_path: Path, near: WitnessThread
) -> None:
    peer = near.peer()
    async with opened(database.app, tmp_path) as ledger:
        async with asking(ledger, database.app, peer) as first:

            async def one_asks() -> bool:
                return first.asking

            await eventually(one_asks, "one asks")
            async with asking(ledger, database.app, peer) as second:
                await ledger.note(noted(1), ADA)
                await eventually(lambda: cosigned_all(ledger, peer), "cosigned")
                assert not second.asking
                await first._turn.give_back()  # its link ends

                async def other_asks() -> bool:
                    await ledger.note(noted(2), ADA)
                    return second.asking or first.asking

                await eventually(other_asks, "somebody asks again")
                await ledger.note(noted(3), ADA)
                await eventually(lambda: cosigned_all(ledger, peer), "cosigned again")
        note = await ledger.checkpoint()
        (line,) = parse_note(note).signatures[1:]
        made = Cosignature(size_of(note), line, 5)
        await ledger.cosign(made)  # twice does no harm
        assert await ledger.checkpoint() == note


@dataclass
class Answer:
    status: int
    body: bytes
    kind: str = "text/plain"


@contextmanager
def answering(answers: list[Answer]) -> Iterator[tuple[str, list[bytes]]]:
    """A witness that answers as the list says, its last answer again and again: its address, and what it was sent."""
    sent = list[bytes]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


STRANGE = {
    "no cosignature": (Answer(200, b""), "does not count"),
    "somebody else's": (Answer(200, "\u2014 other AAAAAAAAAA==\n".encode()), "no cosignature of the key"),
    "too long": (Answer(200, b"x" * 100_000), "too long"),
    "403": (Answer(403, b""), "does not trust the log's key"),
    "404": (Answer(404, b""), "does not know this log"),
    "500": (Answer(500, b""), "status 500"),
    "a redirect": (Answer(307, b""), "status 307"),
    "a conflict with itself": (Answer(409, b"0\n", "text/x.tlog.size"), "said itself"),
    "a size that is none": (Answer(409, b"-1\n", "text/x.tlog.size"), "said itself"),
}


async def test_an_answer_that_is_no_cosignature_is_trouble_and_no_entry(database: Database, tmp_path: Path) -> None:
    key = CosignerKey.parse(Witness.create(tmp_path / "w", "witness.example/w1", ml_dsa=False).vkeys[0])
    answers = [Answer(500, b"")]
    with answering(answers) as (url, sent):
        async with (
            opened(database.app, tmp_path) as ledger,
            asking(ledger, database.app, Peer("w1", key, url)) as witnesses,
        ):
            for case, (answer, reason) in STRANGE.items():
                answers[0] = answer
                before = len(sent)

                async def asked_again(before: int = before) -> bool:
                    return len(sent) >= before + 2  # the first of them was answered so, and the second follows upon it

                await eventually(asked_again, case)
                assert reason in witnesses.trouble["w1"], case
            assert (await ledger.head()).size == 1
            assert await ledger.cosigned_by(key) == 0


async def test_a_fork_of_the_same_size_is_recorded_once(database: Database, tmp_path: Path) -> None:
    witness = Witness.create(tmp_path / "w", "witness.example/w1", ml_dsa=False)
    key = CosignerKey.parse(witness.vkeys[0])
    first = [Answer(409, b"1\n", "text/x.tlog.size"), Answer(409, b"conflict\n")]
    with answering(first) as (url, sent):
        async with opened(database.app, tmp_path) as ledger, asking(ledger, database.app, Peer("w1", key, url)):

            async def asked_often() -> bool:
                return len(sent) >= 6

            await eventually(asked_often, "asked often")
            (entry,) = await ledger.entries(kinds={"witness.refused"})
            assert isinstance(entry.event, e.WitnessRefused)
            assert (entry.event.code, entry.event.size, entry.event.seen) == ("fork", 1, 1)


async def test_a_witness_that_forgot_what_it_cosigned_counts_no_more(
    database: Database, tmp_path: Path, near: WitnessThread
) -> None:
    peer = near.peer()
    async with opened(database.app, tmp_path) as ledger:
        async with asking(ledger, database.app, peer):
            await ledger.note(noted(1), ADA)
            await eventually(lambda: cosigned_all(ledger, peer), "cosigned")
        size = await ledger.cosigned_by(peer.key)
        with answering([Answer(409, b"1\n", "text/x.tlog.size")]) as (url, _):
            forgetful = Peer("w1", peer.key, url)
            async with asking(ledger, database.app, forgetful) as witnesses:

                async def troubled() -> bool:
                    return "forgotten" in witnesses.trouble.get("w1", "")

                await eventually(troubled, "seen to have forgotten")
        assert await ledger.cosigned_by(peer.key) == size
        assert await ledger.entries(kinds={"witness.refused"}) == []


async def test_the_services_role_may_add_cosignatures_and_change_none(
    database: Database, tmp_path: Path, near: WitnessThread
) -> None:
    peer = near.peer()
    async with opened(database.app, tmp_path) as ledger, asking(ledger, database.app, peer):
        await eventually(lambda: cosigned_all(ledger, peer), "cosigned")
    connection = await asyncpg.connect(database.app)
    try:
        for forbidden in (
            "UPDATE ledger_cosignature SET at = 0",
            "DELETE FROM ledger_cosignature",
            "TRUNCATE ledger_cosignature",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute("INSERT INTO ledger_cosignature VALUES (999, 'w', '\\x00000000', '', 0)")
    finally:
        await connection.close()


async def test_the_newest_with_a_quorum_is_found_behind_newer_ones(database: Database, tmp_path: Path) -> None:
    keys = [
        CosignerKey.parse(Witness.create(tmp_path / name, f"witness.example/{name}", ml_dsa=False).vkeys[0])
        for name in ("a", "b", "c")
    ]
    async with opened(database.app, tmp_path) as ledger:
        for number in range(5):
            await ledger.note(noted(number), ADA)
        assert await ledger.cosigned(keys, 1) is None
        text = parse_note(await ledger.checkpoint()).text
        for size, number in ((2, 0), (2, 1), (3, 2), (4, 0), (5, 2), (6, 2)):
            private = Witness.open(tmp_path / "abc"[number])._keys[number * 0]
            line = private.cosign(Checkpoint.parse(text), size)
            assert line is not None
            await ledger.cosign(Cosignature(size, line, size))
        assert [size_of(await ledger.cosigned(keys, quorum) or b"") for quorum in (1, 2)] == [6, 2]
        assert await ledger.cosigned(keys, 3) is None
        assert size_of(await ledger.cosigned(keys[:1], 1) or b"") == 4
        assert len(parse_note(await ledger.checkpoint(2)).signatures) == 3
        assert len(parse_note(await ledger.checkpoint(1)).signatures) == 1


def test_a_policy_counts_some_of_its_witnesses(tmp_path: Path) -> None:
    key = log_key(tmp_path)
    assert Policy.parse(policy_text([key, key])).keys == (key,)
    with pytest.raises(ValueError, match="quorum"):
        policy_text([key], (), 1)
