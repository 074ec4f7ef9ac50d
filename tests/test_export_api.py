"""The doors for auditors and mirrors: tiles, checkpoints, proofs, the report, and the commands that use them."""

import asyncio
import gzip
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import api.audit
from api.audit import Auditor
from api.cli.client import Client
from api.cli.profile import Profile
from api.cli.remote import RemoteSource
from api.schemas import AuditReport
from api.settings import load_settings
from storage.embedded import Embedded
from storage.export import export
from storage.verifier import tree, verification
from storage.verifier.checkpoint import Checkpoint, parse_note
from storage.verifier.exported import verify_export
from storage.verifier.kinds import DECISIONS
from storage.verifier.policy import Policy
from storage.verifier.proof import Proof, check
from storage.verifier.tiles import parse_bundle
from tests.doors import VACUUM, World, world
from tests.terminal import Said, Terminal

LEDGER = "/api/v1/ledger"
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[")
AUDIT = "/api/verification/audit"


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("mirror")) as made:
        rita = made.key("rita", "requester")
        made.ended(made.submit(rita, VACUUM)["id"], rita)
        made.waiting(rita)
        yield made


@pytest.fixture
def ann(doors: World) -> str:
    return doors.key("ann", "auditor")


def told(said: Said) -> str:
    """What a command printed, without what the service of this process logged meanwhile."""
    return "".join(line for line in said.out.splitlines(keepends=True) if not _LOGGED.match(line))


def policy_of(doors: World, key: str) -> Policy:
    return Policy.parse(doors.get(f"{LEDGER}/policy", key).content)


def head(doors: World, key: str) -> Checkpoint:
    return Checkpoint.parse(parse_note(doors.get(f"{LEDGER}/checkpoint", key).content).text)


def test_the_mirror_serves_a_log_whose_bytes_lead_to_its_signed_root(doors: World, ann: str) -> None:
    answer = doors.get(f"{LEDGER}/checkpoint", ann)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "private, no-cache"
    judged = policy_of(doors, ann).judge(answer.content)
    size = judged.checkpoint.size
    assert size < 256
    bundle = doors.get(f"{LEDGER}/tile/entries/000.p/{size}", ann)
    tile = doors.get(f"{LEDGER}/tile/0/000.p/{size}", ann)
    entries = parse_bundle(bundle.content, size)
    assert tree.root_of(entries) == judged.checkpoint.root
    assert tile.content == b"".join(tree.leaf_hash(entry) for entry in entries)
    for each in (bundle, tile):
        assert each.headers["content-type"] == "application/octet-stream"
        assert each.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_what_is_known_is_not_sent_again_and_bundles_are_compressed_for_who_can_read_it(doors: World, ann: str) -> None:
    path = f"{LEDGER}/tile/entries/000.p/9"
    plain = doors.get(path, ann, Accept_Encoding="identity")
    packed = doors.get(path, ann, Accept_Encoding="gzip")
    refused = doors.get(path, ann, Accept_Encoding="gzip;q=0")
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert plain.content == packed.content == refused.content
    assert plain.headers["etag"] != packed.headers["etag"]
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, 6, mtime=0))
    again = doors.get(path, ann, Accept_Encoding="identity", If_None_Match=plain.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == plain.headers["cache-control"]


@pytest.mark.parametrize(
    "place",
    [
        *("tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/000.p/0"),
        *("tile/0/000.p/256", "tile/0/000.p/01", "tile/0/x000/000", "tile/0/000/", "tile/0//000", "tile/0/000.p/"),
        *(
            "tile/entries/000.p/1x",
            "tile/data/000",
            "tile/",
            "tile/0/%30%30%30.p/1",
            "tile/0/000.p/1/..",
            "tile/0/\u0660",
        ),
        *("tile/0/000", "tile/entries/000", "tile/1/000.p/1", "tile/0/001.p/1", "tile/7/000.p/255"),
        *("tile/0/x999/x999/x999/x999/x999/x999/999", "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999"),
    ],
)
def test_a_path_that_is_no_tile_or_lies_beyond_the_head_is_not_there(doors: World, ann: str, place: str) -> None:
    answer = doors.get(f"{LEDGER}/{place}", ann)
    assert (answer.status_code, answer.json()["code"]) in {(404, "unknown-tile"), (404, "not-found")}
    assert answer.headers["cache-control"] == "no-store"


def test_partial_tiles_of_every_width_up_to_the_head_are_there_and_no_wider_one(doors: World, ann: str) -> None:
    size = head(doors, ann).size
    whole = doors.get(f"{LEDGER}/tile/0/000.p/{size}", ann).content
    for width in (1, 2, size - 1):
        assert doors.get(f"{LEDGER}/tile/0/000.p/{width}", ann).content == whole[: 32 * width]
    newest = head(doors, ann).size
    assert doors.get(f"{LEDGER}/tile/0/000.p/{newest + 50}", ann).status_code == 404


@pytest.mark.parametrize(
    "place", ["checkpoints/0", "checkpoints/01", "checkpoints/x", "checkpoints/999999999", "checkpoints/%31"]
)
def test_a_checkpoint_that_never_was_is_not_there(doors: World, ann: str, place: str) -> None:
    answer = doors.get(f"{LEDGER}/{place}", ann)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-checkpoint")


def test_texts_are_served_by_digest_and_other_evidence_is_not(doors: World, ann: str) -> None:
    law = doors.sql("SELECT constitution FROM ledger_head LIMIT 1")
    text = doors.get(f"{LEDGER}/constitutions/{law}.md", ann)
    assert text.headers["content-type"].startswith("text/markdown")
    assert sha256(text.content).hexdigest() == law
    entries = doors.get("/api/v1/audit?kind=plan.proposed&limit=1", ann).json()["items"]
    plan = entries[0]["event"]["plan"]
    body = doors.get(f"{LEDGER}/plans/{plan}.json", ann)
    assert sha256(body.content).hexdigest() == plan
    for place in (f"plans/{law}.json", f"constitutions/{plan}.md", f"plans/{plan}", f"plans/{'0' * 64}.json"):
        assert doors.get(f"{LEDGER}/{place}", ann).json()["code"] == "unknown-evidence"


def test_the_mirror_asks_for_the_right_to_read_the_ledger(doors: World) -> None:
    rita = doors.key("rita", "requester")
    for place in ("checkpoint", "policy", "tile/0/000.p/1", "tile/entries/000.p/1", "checkpoints/1"):
        assert doors.get(f"{LEDGER}/{place}").status_code == 401
        assert doors.get(f"{LEDGER}/{place}", rita).status_code == 403
    assert doors.get(f"{AUDIT}/0/proof", rita).status_code == 403


def test_the_setting_opens_the_mirror_and_nothing_else(doors: World) -> None:
    before = doors.settings
    server = before.server.model_copy(update={"mirror": "everybody"})
    doors.settings = before.model_copy(update={"server": server})
    doors.restart()
    try:
        answer = doors.get(f"{LEDGER}/tile/0/000.p/1")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert doors.get(AUDIT).status_code == 401
        assert doors.get(f"{AUDIT}/0/proof").status_code == 401
    finally:
        doors.settings = before
        doors.restart()


def test_the_mirror_is_closed_unless_a_setting_says_otherwise() -> None:
    assert load_settings(folder=Path("/")).server.mirror == "auditors"


def test_every_decision_has_a_proof_that_holds_under_the_newest_and_under_an_older_checkpoint(
    doors: World, ann: str
) -> None:
    policy, size = policy_of(doors, ann), head(doors, ann).size
    found = doors.get("/api/v1/audit?limit=1000", ann).json()["items"]
    decided = [entry["index"] for entry in found if entry["kind"] in DECISIONS]
    assert len(decided) > 3
    for index in decided:
        for query in ("", f"?size={size}"):
            answer = doors.get(f"{AUDIT}/{index}/proof{query}", ann)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            proof = Proof.parse(answer.content)
            assert proof.index == index
            assert check(proof, None, policy).checkpoint.size >= size


@pytest.mark.parametrize(
    ("place", "status", "code"),
    [
        ("999999/proof", 404, "unknown-entry"),
        ("0/proof?size=999999", 404, "unknown-checkpoint"),
        ("3/proof?size=1", 404, "unknown-entry"),
        ("-1/proof", 422, "invalid-field"),
        ("x/proof", 422, "invalid-field"),
        ("0/proof?size=0", 422, "invalid-field"),
        ("99999999999999999999/proof", 422, "invalid-field"),
    ],
)
def test_a_proof_that_cannot_be_made_is_refused_with_its_code(
    doors: World, ann: str, place: str, status: int, code: str
) -> None:
    answer = doors.get(f"{AUDIT}/{place}", ann)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_report_names_who_signed_and_since_when_nothing_is_broken(doors: World, ann: str) -> None:
    report = doors.get(AUDIT, ann).json()
    assert (report["intact"], report["first_bad"], report["first_bad_rule"]) == (True, None, None)
    assert report["signatures"] == [doors.settings.origin]
    assert (report["cosignatures"], report["quorum"]) == ([], True)
    assert (report["omitted"], any("cut short" in each for each in report["unchecked"])) == ([], True)
    assert report["intact_since"] <= report["verified"]


def test_ten_who_ask_at_once_cause_one_verification(doors: World, ann: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    asked = threading.Semaphore(0)
    real = verification.verify

    def counted(*arguments: Any, **named: Any) -> Any:
        runs.append(1)
        for _ in range(10):
            assert asked.acquire(timeout=30)
        return real(*arguments, **named)

    monkeypatch.setattr(api.audit, "verify", counted)
    original = Auditor.report

    async def report(self: Auditor) -> AuditReport:
        if not runs:
            self._report = None
        asked.release()
        return await original(self)

    monkeypatch.setattr(Auditor, "report", report)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: doors.get(AUDIT, ann).json(), range(10)))
    assert len(runs) == 1
    assert {answer["verified"] for answer in answers} == {answers[0]["verified"]}


def test_a_ledger_is_exported_through_the_service_and_verifies(doors: World, ann: str, tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    terminal = Terminal(tmp_path / "config", url=doors.settings.url, token=ann)
    said = terminal("audit", "export", str(folder), "--remote", "--json=size,missing,quorum")
    assert said.code == 0, said.err
    exported = json.loads(told(said))
    assert (exported["missing"], exported["quorum"]) == ([], None)
    assert "\r" not in said.err
    (tmp_path / "mine").write_bytes(doors.get(f"{LEDGER}/policy", ann).content)
    report = verify_export(folder, Policy.parse((tmp_path / "mine").read_bytes()))
    assert report.ok, report
    with Client(Profile(doors.settings.url, ann, "test")) as client:
        done = asyncio.run(export(RemoteSource(client), folder))
    assert done.before == exported["size"]
    stranger = "log triad.local/ledger+c2f3ba8e+AS0iuLJmkyhOUYK4ogFbpaVyvCu2gbE1ECdGoyyIFDIU\nquorum none\n"
    (tmp_path / "mine").write_text(stranger)
    refused = terminal("audit", "export", str(folder), "--remote", "--policy", str(tmp_path / "mine"))
    assert refused.code in {2, 6}


def test_proofs_are_asked_for_by_index_and_by_operation(doors: World, ann: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "config", url=doors.settings.url, token=ann)
    policy = policy_of(doors, ann)
    said = terminal("audit", "prove", "1", "--remote", "--entry", str(tmp_path / "entry"))
    proof = Proof.parse(told(said).encode())
    assert proof.extra == (tmp_path / "entry").read_bytes()
    check(proof, None, policy)
    ident = doors.get("/api/v1/audit?kind=plan.proposed&limit=1", ann).json()["items"][0]["operation"]
    made = terminal("audit", "prove", ident, "--remote", "--folder", str(tmp_path / "proofs"))
    assert made.code == 0, made.err
    proofs = [Proof.parse(path.read_bytes()) for path in (tmp_path / "proofs").iterdir()]
    assert len(proofs) > 2
    for each in proofs:
        check(each, None, policy)
    assert terminal("audit", "prove", ident, "--remote").code == 2
    assert terminal("audit", "prove", "1", "--remote", "--folder", str(tmp_path)).code == 2
    assert terminal("audit", "prove", "999999", "--remote").code == 1
    absent = terminal("audit", "prove", "op_00000000000000000000000000", "--remote", "--folder", str(tmp_path))
    assert (absent.code, "unknown-operation" in absent.err) == (1, True)


def test_no_proof_is_given_that_does_not_verify(doors: World, ann: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "config", url=doors.settings.url, token=ann)
    before = doors.sql("SELECT entry FROM ledger_leaf WHERE idx = 2")
    change = "UPDATE ledger_leaf SET entry = $1 WHERE idx = 2"
    doors.sql(change, before + b" ")
    try:
        answer = doors.get(f"{AUDIT}/2/proof", ann)
        said = terminal("audit", "prove", "2", "--remote")
    finally:
        doors.sql(change, before)
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger-corrupt")
    assert (said.code, told(said), "Refused (ledger-corrupt)" in said.err) == (3, "", True)
    doors.sql("UPDATE ledger_leaf SET idx = -1 WHERE idx = 2")
    try:
        assert doors.get(f"{AUDIT}/2/proof", ann).json()["code"] == "ledger-corrupt"
    finally:
        doors.sql("UPDATE ledger_leaf SET idx = 2 WHERE idx = -1")
    assert doors.get(f"{AUDIT}/2/proof", ann).status_code == 200


def test_a_kind_of_entry_that_there_is_not_is_refused_by_its_place(doors: World, ann: str) -> None:
    answer = doors.get("/api/v1/audit?kind=genesis&kind=nonsense", ann)
    assert (answer.status_code, answer.json()["field"]) == (422, "kind")
    assert answer.json()["reasons"] == ["kind: number 2 is no kind of entry."]


def test_the_checkpoint_of_a_log_that_asks_no_witness_is_its_newest(doors: World, ann: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "config", url=doors.settings.url, token=ann)
    said = terminal("witness", "checkpoint")
    assert (said.code, "asks for no quorum of witnesses" in said.err) == (0, True)
    assert policy_of(doors, ann).judge(told(said).encode()).checkpoint.size > 0
    assert terminal("audit", "export", str(tmp_path / "x"), "--remote", "--witnessed").code == 2
