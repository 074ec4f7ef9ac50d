"""The witness: what it cosigns, what it refuses and with which answer, and that it never contradicts itself."""

import http.client
import json
import select
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from api import witness as door
from api.witness_connections import PLACE, Bounds, _placed
from operations.errors import LedgerUnavailable
from storage import witness_keys, witness_memory
from storage.verifier.checkpoint import Checkpoint, Note, VerifierKey, parse_note, sign, verify_note
from storage.verifier.cosignature import ED25519_V1, ML_DSA_44, CosignerKey
from storage.verifier.tree import empty_root
from storage.witness import MAX_LOG_KEYS, MAX_PROOF, MAX_REQUEST, AddCheckpoint, Cosigned, Decline, Declined, Witness
from storage.witness_memory import FORKS, HISTORY, LONGEST_NOTE, MEMORY_FILE, UNPROVED, Evidence, Finding
from tests.terminal import ROOT, Terminal
from tests.witnessing import PATIENCE, Log, WitnessProcess, WitnessThread
from triad.witnesses import _REASONS, LATE, Pace

NOW = 1_800_000_000
NAME = "witness.example/w1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "witness"


@pytest.fixture
def witness(home: Path) -> Witness:
    return Witness.create(home, NAME, ml_dsa=False)


@pytest.fixture
def log(witness: Witness) -> Log:
    made = Log(5)
    witness.trust(made.key)
    return made


def declined(answer: Cosigned | Declined) -> Decline:
    assert isinstance(answer, Declined)
    return answer.code


def cosigned(answer: Cosigned | Declined) -> Cosigned:
    assert isinstance(answer, Cosigned), answer
    return answer


def cosigner(witness: Witness, number: int = 0) -> CosignerKey:
    return CosignerKey.parse(witness.vkeys[number])


def test_it_cosigns_a_first_checkpoint_and_what_extends_it(witness: Witness, log: Log) -> None:
    for old, size in ((0, 5), (5, 5), (5, 9), (9, 300)):
        log.grow(size - len(log.leaves))
        answer = cosigned(witness.add_checkpoint(log.request(old), NOW))
        (line,) = parse_note(log.note() + answer.lines.encode()).signatures[1:]
        assert cosigner(witness).verify(line, log.checkpoint().text()) == NOW
    assert witness.logs()[0].latest == log.checkpoint()


def test_with_ml_dsa_it_cosigns_twice_and_says_nothing_about_extension_lines(home: Path) -> None:
    witness = Witness.create(home, NAME, ml_dsa=True)
    log = Log(3)
    witness.trust(log.key)
    answer = cosigned(witness.add_checkpoint(log.request(0), NOW))
    text = log.checkpoint().text()
    lines = parse_note(text.encode() + b"\n" + answer.lines.encode()).signatures
    keys = [cosigner(witness, number) for number in (0, 1)]
    assert [key.kind for key in keys] == [ED25519_V1, ML_DSA_44]
    assert [key.verify(line, text) for key, line in zip(keys, lines, strict=True)] == [NOW, NOW]

    extended = AddCheckpoint(3, (), log.note(3, "more")).encode()
    answer = cosigned(witness.add_checkpoint(extended, NOW))
    assert answer.lines.count("\n") == 1
    assert Witness.open(home).vkeys == witness.vkeys


MALFORMED = {
    "nothing": b"",
    "no empty line": b"old 0\nlog.example/one\n",
    "no old size": b"\n\nlog.example/one\n5\n",
    "a leading zero": b"old 00\n\n%b",
    "a sign": b"old +0\n\n%b",
    "two spaces": b"old  0\n\n%b",
    "a size too large": b"old 99999999999999999999\n\n%b",
    "a carriage return": b"old 0\r\n\r\n%b",
    "a short hash": b"old 1\nAAAA\n\n%b",
    "loose base64": b"old 1\n" + b"A" * 42 + b"B=\n\n%b",
    "64 lines of proof": b"old 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\n%b",
    "no ASCII": "old 0\n\u00e4\n\n".encode() + b"%b",
    "no note": b"old 0\n\njust text\n",
    "a note that is no checkpoint": b"old 0\n\nlog.example/one\n\n\xe2\x80\x94 log.example/one AAAAAAAA\n",
    "a body over the limit": b"old 0\n\n%b" + b"x" * MAX_REQUEST,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_in_the_format_is_malformed(witness: Witness, log: Log, body: bytes) -> None:
    assert declined(witness.add_checkpoint(body.replace(b"%b", log.note()), NOW)) is Decline.MALFORMED
    assert witness.logs()[0].at is None


def test_each_rule_has_its_refusal_and_a_refusal_changes_nothing(witness: Witness, log: Log) -> None:
    stranger, impostor = Log(5, origin="log.example/two"), Log(5)
    assert declined(witness.add_checkpoint(stranger.request(0), NOW)) is Decline.UNKNOWN_LOG
    assert declined(witness.add_checkpoint(impostor.request(0), NOW)) is Decline.NOT_SIGNED
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    before = witness.logs()
    log.grow(5)
    fork = Log(10, branch="other")
    fork.private = log.private

    def answer(old: int, proof: tuple[bytes, ...], note: bytes) -> Declined:
        found = witness.add_checkpoint(AddCheckpoint(old, proof, note).encode(), NOW)
        assert isinstance(found, Declined)
        assert witness.logs() == before
        return found

    right = log.proof(5, 10)
    assert answer(11, (), log.note()).code is Decline.OLD_BEYOND_SIZE
    other = answer(3, log.proof(3, 10), log.note())
    assert (other.code, other.known) == (Decline.OTHER_SIZE, 5)
    assert answer(0, (), log.note()).code is Decline.OTHER_SIZE
    assert answer(3, (), log.note(3)).known == 5
    assert answer(5, (), fork.note(5)).code is Decline.FORK
    assert answer(5, fork.proof(5, 10), fork.note()).code is Decline.NOT_CONSISTENT
    assert answer(5, (), log.note()).code is Decline.NOT_CONSISTENT
    assert answer(5, right[:-1], log.note()).code is Decline.NOT_CONSISTENT
    assert answer(5, (*right, right[0]), log.note()).code is Decline.NOT_CONSISTENT
    assert answer(5, right[:1], log.note(5)).code is Decline.NOT_CONSISTENT
    cosigned(witness.add_checkpoint(AddCheckpoint(5, right, log.note()).encode(), NOW))


def test_from_nothing_on_there_is_no_proof_and_one_empty_tree(witness: Witness) -> None:
    log = Log(0)
    witness.trust(log.key)
    text = f"{log.origin}\n0\n{'A' * 43}=\n"
    wrong = Note(text, (sign(text, log.origin, log.private),)).encode()
    assert declined(witness.add_checkpoint(AddCheckpoint(0, (), wrong).encode(), NOW)) is Decline.FORK
    assert cosigned(witness.add_checkpoint(log.request(0), NOW)).checkpoint.root == empty_root()
    log.grow(2)
    body = AddCheckpoint(0, (empty_root(),), log.note()).encode()
    assert declined(witness.add_checkpoint(body, NOW)) is Decline.NOT_CONSISTENT
    cosigned(witness.add_checkpoint(log.request(0), NOW))


def test_a_broken_signature_of_a_trusted_key_spoils_the_note(witness: Witness, log: Log) -> None:
    text = log.checkpoint().text()
    good = sign(text, log.origin, log.private)
    other = Log(5)
    witness.trust(other.key, beside=True)
    bad = sign(text + "x\n", other.origin, other.private)
    body = AddCheckpoint(0, (), Note(text, (good, bad)).encode()).encode()
    assert declined(witness.add_checkpoint(body, NOW)) is Decline.NOT_SIGNED
    strange = sign(text + "x\n", "somebody.else/one", other.private)
    cosigned(witness.add_checkpoint(AddCheckpoint(0, (), Note(text, (strange, good)).encode()).encode(), NOW))


def test_a_second_key_of_a_log_is_asked_for_and_either_may_sign(witness: Witness, log: Log) -> None:
    after = Log(9)
    with pytest.raises(LedgerUnavailable, match="another trusted key"):
        witness.trust(after.key)
    assert witness.trust(after.key, beside=True)
    assert not witness.trust(after.key)
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    cosigned(witness.add_checkpoint(after.request(5), NOW))
    for _ in range(MAX_LOG_KEYS - 2):
        witness.trust(Log().key, beside=True)
    with pytest.raises(LedgerUnavailable, match="at most"):
        witness.trust(Log().key, beside=True)


def test_a_log_that_was_removed_and_added_again_is_still_remembered(witness: Witness, log: Log) -> None:
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    assert witness.distrust(log.origin) == 1
    assert witness.distrust(log.origin) == 0
    assert declined(witness.add_checkpoint(log.request(5), NOW)) is Decline.UNKNOWN_LOG
    witness.trust(log.key)
    assert witness.logs()[0].latest == log.checkpoint()


def forked(log: Log, branch: str = "other") -> Log:
    """Another history under the same key."""
    other = Log(len(log.leaves), branch=branch)
    other.private = log.private
    return other


def refused(answer: Cosigned | Declined) -> tuple[Decline, bool, bool]:
    assert isinstance(answer, Declined), answer
    return answer.code, answer.forked, answer.kept


def two_histories(piece: Evidence, log: Log) -> bool:
    """Whether a piece of evidence alone, with the log's public key, proves a fork."""
    heads = [Checkpoint.parse(verify_note(note, log.key).text) for note in (piece.note, piece.against)]
    return len({head.size for head in heads}) == 1 and len({head.root for head in heads}) == 2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Bounds of forks and of what is unproved that are soon reached."""
    bounds = (5, 4)
    monkeypatch.setattr(witness_memory, "FORKS", bounds[0])
    monkeypatch.setattr(witness_memory, "UNPROVED", bounds[1])
    return bounds


def test_a_stranger_without_a_key_neither_accuses_a_log_nor_hides_its_fork(
    witness: Witness, log: Log, small: tuple[int, int]
) -> None:
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    log.grow(3)
    for number in range(sum(small) + 1):  # what the log published, with made-up proofs
        made_up = (bytes([number]) * 32,)
        same = witness.add_checkpoint(AddCheckpoint(5, made_up, log.note(5)).encode(), NOW)
        assert refused(same) == (Decline.NOT_CONSISTENT, False, False)
        larger = witness.add_checkpoint(AddCheckpoint(5, made_up, log.note()).encode(), NOW)
        assert refused(larger) == (Decline.NOT_CONSISTENT, False, number == 0)
    assert [(each.finding, each.size) for each in witness.evidence()] == [(Finding.UNPROVED, 8)]
    fork = witness.add_checkpoint(AddCheckpoint(5, (), forked(log).note(5)).encode(), NOW)
    assert refused(fork) == (Decline.FORK, True, True)
    assert two_histories(witness.evidence()[-1], log)
    cosigned(witness.add_checkpoint(log.request(5), NOW))
    assert [(each.finding, each.size) for each in witness.evidence()] == [(Finding.FORK, 5)]


def test_a_fork_is_kept_once_whatever_the_answer_is(witness: Witness, log: Log) -> None:
    log.grow(5)
    for old, size in ((0, 5), (5, 8)):
        cosigned(witness.add_checkpoint(log.request(old, size), NOW))
    other = forked(log)
    first = AddCheckpoint(8, (), other.note(8)).encode()
    assert [refused(witness.add_checkpoint(first, NOW + n)) for n in (1, 2)] == [
        (Decline.FORK, True, True),
        (Decline.FORK, True, False),
    ]
    again = AddCheckpoint(8, (bytes(32),), other.note(8, "more")).encode()
    assert refused(witness.add_checkpoint(again, NOW)) == (Decline.FORK, True, False)
    smaller, beyond = AddCheckpoint(0, (), other.note(5)), AddCheckpoint(9, (), forked(log, "third").note(5))
    assert refused(witness.add_checkpoint(smaller.encode(), NOW + 3)) == (Decline.OTHER_SIZE, True, True)
    assert refused(witness.add_checkpoint(beyond.encode(), NOW + 4)) == (Decline.OLD_BEYOND_SIZE, True, True)
    late = witness.add_checkpoint(AddCheckpoint(0, (), log.note(5)).encode(), NOW)
    assert refused(late) == (Decline.OTHER_SIZE, False, False)
    kept = witness.evidence()
    assert [(each.size, each.known, each.at - NOW) for each in kept] == [(8, 8, 1), (5, 8, 3), (5, 8, 4)]
    assert all(two_histories(each, log) for each in kept)


def test_what_was_unproved_is_a_fork_once_the_log_signs_another_root_of_that_size(witness: Witness, log: Log) -> None:
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    log.grow(4)
    other, third = forked(log), forked(log, "third")
    for size in (7, 9):
        answer = witness.add_checkpoint(AddCheckpoint(5, other.proof(5, size), other.note(size)).encode(), NOW)
        assert refused(answer) == (Decline.NOT_CONSISTENT, False, True)
    answer = witness.add_checkpoint(AddCheckpoint(5, third.proof(5, 7), third.note(7)).encode(), NOW)
    assert refused(answer) == (Decline.NOT_CONSISTENT, True, True)
    found = cosigned(witness.add_checkpoint(log.request(5, 9), NOW))
    assert found.forked
    kept = {(each.finding, each.size): each for each in witness.evidence()}
    assert sorted(kept) == [(Finding.FORK, 7), (Finding.FORK, 9), (Finding.UNPROVED, 7)]
    assert all(two_histories(each, log) for each in kept.values() if each.finding is Finding.FORK)
    assert not cosigned(witness.add_checkpoint(AddCheckpoint(9, (), log.note(9)).encode(), NOW)).forked


def test_evidence_is_bounded_and_what_is_unproved_takes_no_place_of_a_fork(
    witness: Witness, log: Log, small: tuple[int, int]
) -> None:
    forks, unproved = small
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    log.grow(2 * unproved)
    strangers = Log(5)
    sizes = range(6, 6 + 2 * unproved)
    for size in sizes:
        witness.add_checkpoint(AddCheckpoint(5, (bytes(32),), log.note(size)).encode(), NOW)
    half = unproved // 2
    assert [each.size for each in witness.evidence()] == [*sizes[:half], *sizes[-half:]]
    for number in range(forks + 1):
        fork = witness.add_checkpoint(AddCheckpoint(5, (), forked(log, f"{number}-").note(5)).encode(), NOW + 1)
        assert refused(fork) == (Decline.FORK, True, number < forks)
    kept = witness.evidence()
    assert [each.finding for each in kept] == [Finding.UNPROVED] * unproved + [Finding.FORK] * forks
    newer = witness.add_checkpoint(AddCheckpoint(5, (bytes(32),), log.note(sizes[half])).encode(), NOW)
    assert refused(newer) == (Decline.NOT_CONSISTENT, False, True)
    kept = witness.evidence()
    assert declined(witness.add_checkpoint(AddCheckpoint(5, (), strangers.note()).encode(), NOW)) is Decline.NOT_SIGNED
    assert witness.evidence() == kept


def test_of_a_cosigned_note_beyond_the_bound_the_root_is_remembered(witness: Witness, log: Log) -> None:
    long = log.note(5, "x" * LONGEST_NOTE)
    cosigned(witness.add_checkpoint(AddCheckpoint(0, (), long).encode(), NOW))
    fork = witness.add_checkpoint(AddCheckpoint(5, (), forked(log).note(5)).encode(), NOW)
    assert refused(fork) == (Decline.FORK, True, True)
    assert witness.evidence()[0].against == b""


def test_its_history_is_bounded_and_keeps_the_newest(witness: Witness, log: Log, home: Path) -> None:
    with sqlite3.connect(home / MEMORY_FILE) as memory:
        rows = [(log.origin, size, bytes(32), NOW, b"") for size in range(1, HISTORY + 1)]
        memory.executemany("INSERT INTO cosigned VALUES (?, ?, ?, ?, ?)", rows)
        root = log.checkpoint().root
        memory.execute("INSERT INTO cosigned VALUES (?, ?, ?, ?, ?)", (log.origin, HISTORY + 1, root, NOW, b""))
    memory.close()
    assert witness.logs()[0].latest.size == HISTORY + 1
    text = f"{log.origin}\n{HISTORY + 1}\n{log.checkpoint().text().splitlines()[2]}\n"
    note = Note(text, (sign(text, log.origin, log.private),)).encode()
    cosigned(witness.add_checkpoint(AddCheckpoint(HISTORY + 1, (), note).encode(), NOW))
    with sqlite3.connect(home / MEMORY_FILE) as memory:
        found = memory.execute("SELECT min(size), max(size), count(*) FROM cosigned").fetchone()
    memory.close()
    assert found == (2, HISTORY + 1, HISTORY)


def test_a_witness_that_lost_its_memory_or_has_anothers_does_not_start(witness: Witness, home: Path) -> None:
    other = Witness.create(home.with_name("other"), NAME, ml_dsa=False)
    memory = home / MEMORY_FILE
    own = memory.read_bytes()
    memory.unlink()
    with pytest.raises(LedgerUnavailable, match="missing; retire this witness"):
        Witness.open(home)
    with pytest.raises(LedgerUnavailable, match="missing; retire this witness"):
        Witness.create(home, NAME, ml_dsa=False)
    assert not memory.exists()
    memory.write_bytes((home.with_name("other") / MEMORY_FILE).read_bytes())
    memory.chmod(0o600)
    with pytest.raises(LedgerUnavailable, match="other keys"):
        Witness.open(home)
    memory.write_bytes(b"no database" * 100)
    with pytest.raises(LedgerUnavailable):
        Witness.open(home)
    memory.write_bytes(own)
    assert Witness.open(home).vkeys == witness.vkeys != other.vkeys
    memory.chmod(0o640)
    with pytest.raises(LedgerUnavailable, match="chmod 600"):
        Witness.open(home)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_home_into_which_others_can_write_holds_no_witness(home: Path, mode: int) -> None:
    home.mkdir()
    home.chmod(mode)
    with pytest.raises(LedgerUnavailable, match="chmod 700"):
        Witness.create(home, NAME, ml_dsa=False)
    assert list(home.iterdir()) == []
    home.chmod(0o700)
    Witness.create(home, NAME, ml_dsa=False)
    home.chmod(mode)
    with pytest.raises(LedgerUnavailable, match="chmod 700"):
        Witness.open(home)


def test_an_init_that_cannot_write_its_keys_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _target: Path) -> None:
        if path.name == "witness.key":
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "hardlink_to", full)
        with pytest.raises(LedgerUnavailable, match="No space left"):
            Witness.create(home, NAME, ml_dsa=True)
    assert list(home.iterdir()) == []
    assert len(Witness.create(home, NAME, ml_dsa=True).vkeys) == 2


def test_where_ml_dsa_is_missing_no_witness_is_made_with_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_keys, "HAS_ML_DSA", False)
    with pytest.raises(LedgerUnavailable, match=r"no ML-DSA-44\. Install one that has"):
        Witness.create(home, NAME, ml_dsa=True)
    assert not home.exists()


def test_its_key_is_its_own_and_made_once(witness: Witness, home: Path, log: Log) -> None:
    key = home / "witness.key"
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(LedgerUnavailable, match="already"):
        Witness.create(home, NAME, ml_dsa=False)
    text = key.read_text()
    for wrong in (text.replace("w1", "w2", 1), text.replace("PRIVATE", "PUBLIC"), "", text[:-5]):
        key.write_text(wrong)
        with pytest.raises(LedgerUnavailable):
            Witness.open(home)
    key.write_text(text)
    key.chmod(0o644)
    with pytest.raises(LedgerUnavailable, match="chmod 600"):
        Witness.open(home)
    assert log.origin not in text


class NeverContradicts(RuleBasedStateMachine):
    """A log that lies as it likes: it forks, shrinks, shows old sizes; the witness must cosign one history."""

    scratch: "Scratch"

    @initialize()
    def begin(self) -> None:
        self.folder = Path(self.scratch.mkdtemp())
        self.witness = Witness.create(self.folder / "w", NAME, ml_dsa=False)
        self.branches = [Log(0), Log(0)]
        self.branches[1].private = self.branches[0].private
        self.witness.trust(self.branches[0].key)
        self.said: list[tuple[int, bytes]] = []

    @rule(branch=st.integers(0, 1), number=st.integers(1, 9), label=st.sampled_from("abc"))
    def grow(self, branch: int, number: int, label: str) -> None:
        self.branches[branch].grow(number, label)

    @rule(branch=st.integers(0, 1), number=st.integers(1, 9))
    def shrink(self, branch: int, number: int) -> None:
        del self.branches[branch].leaves[-number:]

    @rule(branch=st.integers(0, 1))
    def copy(self, branch: int) -> None:
        self.branches[1 - branch].leaves = list(self.branches[branch].leaves)

    @rule(branch=st.integers(0, 1), right=st.booleans(), old=st.integers(0, 30), size=st.integers(0, 30))
    def ask(self, branch: int, right: bool, old: int, size: int) -> None:
        log = self.branches[branch]
        size = min(size, len(log.leaves)) if not right else len(log.leaves)
        known = self.witness.logs()[0].latest.size
        old = min(known if right else old, size)
        answer = self.witness.add_checkpoint(AddCheckpoint(old, log.proof(old, size), log.note(size)).encode(), NOW)
        if isinstance(answer, Cosigned):
            self.said.append((answer.checkpoint.size, answer.checkpoint.root))
            self.leaves = list(log.leaves[:size])

    @rule()
    def start_again(self) -> None:
        self.witness = Witness.open(self.folder / "w")

    @invariant()
    def one_history(self) -> None:
        said = getattr(self, "said", [])
        assert [size for size, _ in said] == sorted(size for size, _ in said)
        if said:
            newest = Log()
            newest.leaves = self.leaves
            assert all(newest.checkpoint(size).root == root for size, root in said)


def test_whatever_is_asked_it_cosigns_one_growing_history(tmp_path_factory: pytest.TempPathFactory) -> None:
    class Machine(NeverContradicts):
        scratch = Scratch(tmp_path_factory)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


class Scratch:
    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory

    def mkdtemp(self) -> str:
        return str(self._factory.mktemp("machine"))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[WitnessProcess, Log]]:
    log = Log(5)
    running = WitnessProcess(tmp_path / "witness", log.key)
    try:
        yield running, log
    finally:
        running.kill()


def test_over_http_each_answer_has_its_status_and_what_was_cosigned_survives_a_kill(
    process: tuple[WitnessProcess, Log],
) -> None:
    running, log = process
    stranger = Log(1, origin="log.example/two")
    fork = Log(9, branch="other")
    fork.private = log.private
    assert running.ask(b"old 0\n").status_code == 400
    assert running.ask(AddCheckpoint(6, (), log.note()).encode()).status_code == 400
    assert running.ask(Log(5).request(0)).status_code == 403
    assert running.ask(stranger.request(0)).status_code == 404
    first = running.ask(log.request(0))
    assert (first.status_code, first.text[:2]) == (200, "\u2014 ")
    running.kill()
    running.start()
    again = running.ask(log.request(0))
    assert (again.status_code, again.headers["content-type"], again.text) == (409, "text/x.tlog.size", "5\n")
    equal = running.ask(AddCheckpoint(5, (), fork.note(5)).encode())
    assert (equal.status_code, equal.headers["content-type"].partition(";")[0]) == (409, "text/plain")
    assert running.ask(fork.request(5, 9)).status_code == 422
    assert httpx2.get(f"{running.url}/add-checkpoint").status_code == 405
    assert httpx2.get(f"{running.url}/other").status_code == 404
    assert running.ask(b"x" * (MAX_REQUEST + 1)).status_code == 413
    assert [each.finding for each in running.witness.evidence()] == [Finding.FORK, Finding.UNPROVED]
    log.grow(4)
    with httpx2.Client(base_url=running.url, timeout=PATIENCE) as client:  # one connection for both
        assert client.post("/add-checkpoint", content=log.request(5)).status_code == 200
        assert client.post("/add-checkpoint", content=log.request(9)).status_code == 200
    assert running.stop() == 0


def test_of_two_requests_that_race_neither_rolls_the_other_back(tmp_path: Path) -> None:
    log = Log(5)
    running = WitnessThread(tmp_path / "w", log.key)
    try:
        with httpx2.Client(base_url=running.url, timeout=PATIENCE) as client, ThreadPoolExecutor(40) as clients:

            def ask(body: bytes) -> httpx2.Response:
                return client.post("/add-checkpoint", content=body)

            assert ask(log.request(0)).status_code == 200
            log.grow(40)
            answers = list(clients.map(ask, [log.request(5, size) for size in range(6, 46)]))
    finally:
        running.stop()
    assert sorted({answer.status_code for answer in answers}) == [200, 409]
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.text for answer in answers if answer.status_code == 409} == {
        f"{running.witness.logs()[0].latest.size}\n"
    }


def test_slow_and_broken_clients_are_let_go(tmp_path: Path) -> None:
    log = Log(5)
    witness = Witness.create(tmp_path / "w", NAME, ml_dsa=False)
    witness.trust(log.key)
    head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n"
    good = head % len(log.request(0)) + log.request(0)
    cases = {
        b"": b"",
        b"POST /add-checkpoint HTTP/1.1\r\nHost:": b"",
        head % 100 + b"old 0\n": b"HTTP/1.1 408 ",
        b"\x16\x03\x01 no http\r\n\r\n": b"HTTP/1.1 400 ",
        good + b"POST /add": b"HTTP/1.1 200 ",
        IDLE: b"HTTP/1.1 200 ",
        head % (MAX_REQUEST + 1): b"HTTP/1.1 413 ",
    }
    with served(witness, Bounds(header=1.0, body=1.0, idle=1)) as place, ThreadPoolExecutor(len(cases)) as clients:
        answers = list(clients.map(lambda data: _sent(place, data), cases))
    for answer, wanted in zip(answers, cases.values(), strict=True):
        assert answer.startswith(wanted)
        assert answer.count(b"HTTP/1.1") == bool(wanted)


@contextmanager
def served(witness: Witness, bounds: Bounds) -> Iterator[tuple[str, int]]:
    """A witness behind its real door, with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        server = door.witness_server(witness, bounds)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
    assert not thread.is_alive()


IDLE = b"GET /livez HTTP/1.1\r\nHost: w\r\n\r\n"
SLOW = {
    "nothing sent": b"",
    "a header begun": b"POST /add-checkpoint HTTP/1.1\r\nHost:",
    "a body begun": b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 9\r\n\r\nold",
    "kept alive": IDLE,
}


@pytest.mark.parametrize("bounds", [Bounds(60, 60, 60, 4), Bounds(60, 60, 60, 64, 4)], ids=["in all", "from one place"])
def test_who_keeps_connections_waiting_keeps_nobody_out(witness: Witness, log: Log, bounds: Bounds) -> None:
    with served(witness, bounds) as place, ExitStack() as open_:
        url = f"http://{place[0]}:{place[1]}"
        client = open_.enter_context(httpx2.Client(base_url=url, timeout=PATIENCE))
        assert client.post("/add-checkpoint", content=log.request(0)).status_code == 200
        waiting = []
        for data in [data for data in SLOW.values() for _ in range(4)]:
            waiting.append(open_.enter_context(socket.create_connection(place, timeout=PATIENCE)))
            waiting[-1].sendall(data)
            if data == IDLE:
                assert _answered(waiting[-1])
        log.grow(1)
        assert client.post("/add-checkpoint", content=log.request(5)).status_code == 200  # it connects again
        idle = waiting[-4:]
        assert all(_ended(each) for each in waiting[:-4])
        gone, _, _ = select.select(idle, [], [], PATIENCE)
        assert [_ended(each) for each in gone] == [True]
        kept = next(each for each in idle if each not in gone)
        kept.sendall(IDLE)
        assert _answered(kept)


def _answered(connection: socket.socket) -> bool:
    """Whether the witness answers well; its whole answer is read, so it is idle now."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status == 200 and bool(answer.read())


def _ended(connection: socket.socket) -> bool:
    """Whether the witness has ended a connection, or does so in time."""
    try:
        return connection.recv(1024) == b""
    except ConnectionError:
        return True


def test_where_many_come_from_one_address_others_keep_their_place(witness: Witness) -> None:
    with served(witness, Bounds(60, 60, 60, 4)) as place, ExitStack() as open_:

        def connected(source: str) -> socket.socket:
            made = open_.enter_context(socket.create_connection(place, PATIENCE, (source, 0)))
            made.sendall(IDLE)
            assert _answered(made)
            return made

        honest = connected("127.0.0.2")
        for _ in range(9):
            connected("127.0.0.1")
        honest.sendall(IDLE)
        assert _answered(honest)


def test_who_leaves_answers_unread_is_let_go(witness: Witness) -> None:
    def ask_without_end(client: socket.socket) -> None:
        while True:
            client.sendall(IDLE * 1000)

    with served(witness, Bounds(60, 60, 60)) as place, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect(place)
        with pytest.raises(ConnectionError):
            ask_without_end(client)


def test_an_address_of_ipv6_is_its_network_and_a_proxy_beside_it_speaks_for_all() -> None:
    here = Bounds()
    assert _placed("2001:db8::1", here) == _placed("2001:db8::ffff:0:0:1", here) == ("2001:db8::/64", PLACE)
    assert _placed("::ffff:192.0.2.1", here) == _placed("192.0.2.1", here) == ("192.0.2.1", PLACE)
    assert _placed("127.0.0.1", here)[1] == _placed("::1", here)[1] == _placed("", here)[1] == here.connections
    assert _placed("127.0.0.1", Bounds(place=2))[1] == 2


def _sent(place: tuple[str, int], data: bytes) -> bytes:
    """All that comes back until the witness ends the connection."""
    with socket.create_connection(place, timeout=PATIENCE) as connection:
        if data:
            connection.sendall(data)
        answer = bytearray()
        while chunk := connection.recv(65_536):
            answer += chunk
        return bytes(answer)


def test_a_memory_that_cannot_be_used_cosigns_nothing(witness: Witness, log: Log, home: Path) -> None:
    (home / MEMORY_FILE).unlink()
    with pytest.raises(LedgerUnavailable):
        witness.add_checkpoint(log.request(0), NOW)
    assert not (home / MEMORY_FILE).exists()


def test_the_command_makes_a_witness_and_says_whom_it_trusts(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    home, log = str(tmp_path / "w"), Log(3)

    def said(*arguments: str, code: int = 0) -> str:
        found = terminal("witness", *arguments, TRIAD_WITNESS_HOME=home)
        assert found.code == code, found.err
        return found.out + found.err

    assert "There is no witness" in said("logs", code=1)
    assert "cannot be called" in said("init", "two words", code=2)
    vkey = said("init", NAME).partition("\n")[0]
    assert CosignerKey.parse(vkey).name == NAME
    assert "already" in said("init", NAME, code=1)
    assert "no public key" in said("add-log", vkey, code=2)
    assert log.origin in said("add-log", log.key.text())
    assert "--beside" in said("add-log", Log(1).key.text(), code=1)
    said("add-log", "--beside", Log(1).key.text())
    Witness.open(Path(home)).add_checkpoint(log.request(0), NOW)
    (row,) = json.loads(said("logs", "--json"))
    assert (row["origin"], row["size"], row["cosigned"], len(row["keys"])) == (log.origin, 3, "2027-01-15T08:00:00Z", 2)
    fork = Log(3, branch="other")
    fork.private = log.private
    body = AddCheckpoint(3, (), fork.note()).encode()
    Witness.open(Path(home)).add_checkpoint(body, NOW)
    (kept,) = json.loads(said("evidence", "--json"))
    assert (kept["code"], kept["size"], kept["known"]) == ("fork", 3, 3)
    assert VerifierKey.parse(log.key.text()) == log.key
    assert "0 to 65535" in said("serve", "--port", "70000", code=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot be taken" in said("serve", "--port", str(taken.getsockname()[1]), code=1)
    for gone in (log.key.text(), log.origin):
        assert "One key is trusted no longer." in said("remove-log", gone)
    assert "did not cosign" in said("remove-log", log.origin, code=1)


def test_the_page_on_witnesses_names_every_answer_and_bound() -> None:
    page = (ROOT / "docs" / "operations" / "witnesses.md").read_text()
    for status in {*door.STATUS.values(), 200, 503}:
        assert f"\n| {status} | " in page
    assert {status for status in (408, 413) if str(status) in page} == {408, 413}
    bounds = Bounds()
    wanted = (
        f"first {FORKS} forks",
        f"{UNPROVED} unproved",
        f"last {HISTORY:,} roots",
        f"{MAX_PROOF} lines",
        f"{bounds.connections} conn",
        f"{PLACE} of them from one address",
        f"after {bounds.idle} idle seconds",
    )
    assert [bound for bound in wanted if bound not in " ".join(page.split())] == []
    assert bounds.header == bounds.body == 10
    assert "10 seconds each" in page
    assert all(f"`{code}`" in page for code in _REASONS)
    assert (Pace().refused, Pace().most, LATE.total_seconds()) == (60, 300, 120)
    assert all(words in page for words in ("up to 5 minutes", "after a minute", "for 2 minutes"))
    assert all(f"triad witness {each}" in page for each in ("init", "serve", "add-log", "logs", "status", "evidence"))


def test_the_two_notes_of_a_fork_are_printed_as_the_log_signed_them(tmp_path: Path) -> None:
    log = Log(3)
    witness = Witness.create(tmp_path / "w", NAME, ml_dsa=False)
    witness.trust(log.key)
    cosigned(witness.add_checkpoint(log.request(0), NOW))
    witness.add_checkpoint(AddCheckpoint(3, (), forked(log).note()).encode(), NOW)
    log.grow(1)
    witness.add_checkpoint(AddCheckpoint(3, (), log.note()).encode(), NOW)
    fork, unproved = witness.evidence()
    terminal = Terminal(tmp_path)

    def printed(*arguments: str) -> str:
        found = terminal("witness", "evidence", *arguments, "--home", str(tmp_path / "w"))
        return found.out + found.err

    assert printed(fork.digest[:12]).encode() == forked(log).note(3)
    assert printed(fork.digest[:12], "--against").encode() == log.note(3)
    assert printed(unproved.digest[:12]).encode() == log.note()
    assert "No other note" in printed(unproved.digest[:12], "--against")
    listed = printed()
    assert "signed two roots" in listed
    assert "accuses nobody" in listed
