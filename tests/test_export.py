"""Exports: the layout, that they only ever extend, that they survive any crash, and what is refused."""

import hashlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.cli.app import make_app
from operations.canonical import Json, canonical
from operations.errors import Conflict
from storage.export import export
from storage.folder import Folder
from storage.ledger import Ledger
from storage.source import WHY, ExportRefused, LedgerSource, witnessed
from storage.verifier.checkpoint import Checkpoint, parse_note
from storage.verifier.cosignature import ED25519_V1, CosignerKey, cosign
from storage.verifier.mirror import Mirror, audit_tiles
from storage.verifier.mirror import folder as reading
from storage.verifier.policy import Policy
from storage.verifier.proof import Proof, check
from storage.verifier.tiles import bundles_of, tiles_of
from tests.logs import MadeLog, content, grow, lasting, made_entry

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent
BORDERS = (1, 2, 255, 256, 257, 511, 512, 513)


def policy_of(folder: Path) -> Policy:
    return Policy.parse((folder / "policy").read_bytes())


def head_of(folder: Path) -> Checkpoint:
    return Checkpoint.parse(parse_note((folder / "checkpoint").read_bytes()).text)


def assert_holds(folder: Path) -> None:
    """The folder is a log of the size it states: exactly its tiles, leading to its root, and proofs that hold."""
    head, policy = head_of(folder), policy_of(folder)
    assert policy.judge((folder / "checkpoint").read_bytes()).quorum_met
    mirror = Mirror(reading(folder), head.size)
    audit = audit_tiles(mirror)
    assert (audit.found, mirror.root()) == (0, head.root)
    tiles = {name for name in content(folder) if name.startswith("tile/")}
    assert tiles == {tile.path for tile in (*tiles_of(head.size), *bundles_of(head.size))}
    entries = list(mirror.entries())
    proofs = {int(path.name.partition(".")[0]): path for path in (folder / "proofs").glob("*")}
    wanted = {at for at, entry in enumerate(entries) if b'"kind":"crown.halted"' in entry}
    assert set(proofs) == wanted
    for index, path in proofs.items():
        proof = Proof.parse(path.read_bytes())
        assert (proof.index, proof.extra) == (index, entries[index])
        check(proof, None, policy)


@pytest.mark.parametrize("size", BORDERS)
async def test_an_export_is_exactly_the_tiles_of_its_size_and_proofs_that_hold(size: int, tmp_path: Path) -> None:
    done = await export(MadeLog.of(size), tmp_path)
    assert (done.before, done.size, done.missing, done.quorum) == (0, size, (), None)
    assert_holds(tmp_path)


GROWN = ((1, 513), (255, 257), (256, 512))
ALSO = sorted({(before, size) for before in BORDERS for size in BORDERS if before <= size} - set(GROWN))


@pytest.mark.parametrize(("before", "size"), [*GROWN, *(pytest.param(*pair, marks=pytest.mark.full) for pair in ALSO)])
async def test_what_was_extended_equals_what_is_exported_afresh(before: int, size: int, tmp_path: Path) -> None:
    log = MadeLog.of(size)
    log.signed = before
    await export(log, tmp_path / "grown")
    full = {name: (tmp_path / "grown" / name).stat() for name in content(tmp_path / "grown") if ".p/" not in name}
    log.signed, log.asked = None, []
    await export(log, tmp_path / "grown")
    assert [each for each in log.asked if int(each.split()[1].split(".")[0]) < before // 256] == []
    await export(log, tmp_path / "fresh")
    assert lasting(tmp_path / "grown") == lasting(tmp_path / "fresh")
    assert_holds(tmp_path / "grown")
    for name, status in full.items():
        if name.startswith("tile/"):
            assert (tmp_path / "grown" / name).stat().st_mtime_ns == status.st_mtime_ns
    if log.size > before:
        assert (tmp_path / "grown" / "checkpoints" / str(before)).read_bytes() == log.note(before)


async def test_a_second_run_without_growth_fetches_and_writes_nothing(tmp_path: Path) -> None:
    log = MadeLog.of(300)
    await export(log, tmp_path)
    before, log.asked = content(tmp_path), []
    done = await export(log, tmp_path)
    assert (done.fetched, done.written, log.asked) == (0, 0, [])
    assert content(tmp_path) == before


async def test_a_real_ledger_is_exported_extended_and_holds(ledger: Ledger, tmp_path: Path) -> None:
    source = LedgerSource(ledger)
    for size in (200, 257):
        await grow(ledger, size)
        done = await export(source, tmp_path / "grown")
        assert done.size == size
        assert_holds(tmp_path / "grown")
    await export(source, tmp_path / "fresh")
    assert lasting(tmp_path / "grown") == lasting(tmp_path / "fresh")
    assert [path.name for path in (tmp_path / "fresh" / "constitutions").iterdir()] == [
        f"{(await ledger.head()).constitution}.md"
    ]


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from storage import folder
from storage.export import export
from tests.logs import MadeLog
left = int(sys.argv[3])
real = Path.replace
def replace(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(self, target)
Path.replace = replace
if sys.argv[4] == "unlink":
    Path.unlink = lambda self, missing_ok=False: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(export(MadeLog.of(int(sys.argv[2])), Path(sys.argv[1])))
"""


def killed(folder: Path, size: int, after: int, at: str = "replace") -> int:
    """Export in a process that is killed before it puts its file number `after` into place."""
    argv = [sys.executable, "-c", CHILD.format(root=str(ROOT)), str(folder), str(size), str(after), at]
    return subprocess.run(argv, cwd=ROOT, check=False, capture_output=True).returncode


LATER = [pytest.param(after, "replace", marks=pytest.mark.full) for after in (0, 1, 2, 5, 8, 12, 30, 50, 51, 52)]


@pytest.mark.parametrize(("after", "at"), [(40, "replace"), pytest.param(-1, "unlink", marks=pytest.mark.full), *LATER])
async def test_an_export_that_was_killed_is_a_consistent_log_and_goes_on(after: int, at: str, tmp_path: Path) -> None:
    old = MadeLog.of(200)
    await export(old, tmp_path / "killed")
    assert killed(tmp_path / "killed", 600, after, at) == -signal.SIGKILL
    held = head_of(tmp_path / "killed")
    assert held.size == (600 if at == "unlink" else 200)
    assert Mirror(reading(tmp_path / "killed"), held.size).root() == held.root
    log = MadeLog.of(700)
    await export(log, tmp_path / "killed")
    await export(log, tmp_path / "fresh")
    assert lasting(tmp_path / "killed") == lasting(tmp_path / "fresh")
    assert_holds(tmp_path / "killed")


async def test_what_a_killed_run_left_is_not_fetched_again(tmp_path: Path) -> None:
    log = MadeLog.of(600)
    await export(log, tmp_path)
    (tmp_path / "checkpoint").unlink()
    log.asked = []
    done = await export(log, tmp_path)
    assert (done.before, done.size, done.fetched, log.asked) == (0, 600, 0, [])
    assert_holds(tmp_path)


async def test_what_a_killed_run_left_of_another_history_is_replaced(tmp_path: Path) -> None:
    await export(MadeLog.of(600, "other "), tmp_path)
    (tmp_path / "checkpoint").unlink()
    await export(MadeLog.of(520), tmp_path)
    await export(MadeLog.of(520), tmp_path / ".." / f"{tmp_path.name}-fresh")
    assert lasting(tmp_path) == lasting(tmp_path / ".." / f"{tmp_path.name}-fresh")


async def test_what_lies_at_the_place_of_a_bundle_and_is_none_is_fetched(tmp_path: Path) -> None:
    await export(MadeLog.of(300), tmp_path)
    for name, junk in {"tile/entries/002.p/88": b"junk", "tile/entries/001": b""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(junk)
    await export(MadeLog.of(600), tmp_path)
    assert_holds(tmp_path)


async def test_a_folder_at_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    await export(MadeLog.of(300), tmp_path)
    (tmp_path / "tile/entries/002.p/88").mkdir(parents=True)
    with pytest.raises(ExportRefused, match=r"tile/entries/002.p/88 is not what an export puts there") as refused:
        await export(MadeLog.of(600), tmp_path)
    assert refused.value.code == "copy-damaged"
    assert_still(tmp_path, 300)


def forked(size: int, at: int) -> MadeLog:
    log = MadeLog.of(size)
    log.entries[at] = made_entry(at, "another history ")
    return log


REFUSED = {
    "the newest entries were taken away": ("log-rolled-back", MadeLog.of(299)),
    "as many entries, one of them another": ("log-forked", forked(300, 299)),
    "grown, with another entry in a full tile": ("log-forked", forked(600, 5)),
    "grown, with another entry in the partial tile": ("log-forked", forked(600, 280)),
    "another log": ("another-log", MadeLog.of(600)),
    "signed by nobody that its policy knows": ("checkpoint-unsigned", MadeLog.of(600)),
    "a bundle that is none": ("source-corrupt", MadeLog.of(600)),
    "a bundle with another entry": ("source-corrupt", MadeLog.of(600)),
    "an entry of the old ones with another byte": ("source-corrupt", MadeLog.of(600)),
    "fewer entries than its checkpoint covers": ("source-corrupt", MadeLog.of(600)),
    "a constitution that is another text": ("source-corrupt", MadeLog.of(600)),
}


def spoiled(case: str, log: MadeLog) -> MadeLog:
    match case:
        case "another log":
            log.origin = "triad.test/other"
        case "signed by nobody that its policy knows":
            stranger = MadeLog(log.entries, key=Ed25519PrivateKey.generate())
            log.instead["checkpoint"] = stranger.note(600)
        case "a bundle that is none":
            log.instead["entries/2"] = b"\0"
        case "a bundle with another entry":
            log.instead["entries/2"] = b"".join(
                len(each).to_bytes(2, "big") + each for each in [*log.entries[512:599], made_entry(599, "x")]
            )
        case "an entry of the old ones with another byte":
            changed = [*log.entries[256:290], made_entry(290, "x"), *log.entries[291:512]]
            log.instead["entries/1"] = b"".join(len(each).to_bytes(2, "big") + each for each in changed)
        case "fewer entries than its checkpoint covers":
            log.instead["checkpoint"] = log.note(600)
            log.entries = log.entries[:500]
        case "a constitution that is another text":
            (digest,) = log.blobs
            log.blobs = {digest: b"no law"}
        case _:
            pass
    return log


@pytest.mark.parametrize("case", REFUSED)
async def test_a_source_that_does_not_extend_the_folder_is_refused_and_the_folder_stays(
    case: str, tmp_path: Path
) -> None:
    code, log = REFUSED[case]
    await export(MadeLog.of(300), tmp_path)
    before = content(tmp_path)
    if case == "a constitution that is another text":
        (tmp_path / "constitutions" / f"{hashlib.sha256(b'law').hexdigest()}.md").unlink()
        before = content(tmp_path)
        log.entries[400:] = [made_entry(at) for at in range(400, 600)]
    with pytest.raises(ExportRefused) as refused:
        await export(spoiled(case, log), tmp_path)
    assert refused.value.code == code
    assert refused.value.reasons
    held = content(tmp_path)
    assert {name: held[name] for name in before} == before
    assert_still(tmp_path, 300)
    await export(MadeLog.of(600), tmp_path)
    assert_holds(tmp_path)


def assert_still(folder: Path, size: int) -> None:
    head = head_of(folder)
    assert (head.size, Mirror(reading(folder), size).root()) == (size, head.root)


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/001.p/44", "tile/1/000.p/1"])
async def test_a_damaged_folder_is_not_extended(name: str, tmp_path: Path) -> None:
    await export(MadeLog.of(300), tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[0] ^= 0xFF
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ExportRefused) as refused:
        await export(MadeLog.of(600), tmp_path)
    assert refused.value.code == "copy-damaged"


async def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    with pytest.raises(ExportRefused) as refused:
        await export(MadeLog.of(3), tmp_path)
    assert refused.value.code == "not-an-export"
    assert list(content(tmp_path)) == ["letters"]


async def test_two_exports_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with Folder(tmp_path), pytest.raises(Conflict, match="export-in-progress"):
        await export(MadeLog.of(3), tmp_path)


async def test_what_the_source_no_longer_has_is_named_and_stops_nothing(tmp_path: Path) -> None:
    log = MadeLog.of(3)
    (digest,) = log.blobs
    log.blobs = {}
    (missing,) = (await export(log, tmp_path)).missing
    assert (missing.digest, missing.kind, missing.why) == (
        digest,
        "constitution",
        "No entry of the log says that it was deleted.",
    )
    assert_holds(tmp_path)


async def test_only_the_policy_that_the_caller_brings_decides_whom_to_believe(tmp_path: Path) -> None:
    log, stranger = MadeLog.of(20), MadeLog([], key=Ed25519PrivateKey.generate())
    with pytest.raises(ExportRefused, match="checkpoint-unsigned"):
        await export(log, tmp_path, trust=Policy.parse(await stranger.policy()))
    assert content(tmp_path) == {}
    await export(log, tmp_path, trust=Policy.parse(await log.policy()))


def asking_a_witness(log: MadeLog) -> tuple[CosignerKey, Ed25519PrivateKey]:
    private = Ed25519PrivateKey.generate()
    witness = CosignerKey("witness.test", ED25519_V1, private.public_key().public_bytes_raw())
    log.witnesses = f"witness w {witness.text()}\nquorum w\n"
    return witness, private


async def test_proofs_that_were_made_without_the_witnesses_are_renewed_with_them(tmp_path: Path) -> None:
    log = MadeLog.of(600)
    witness, private = asking_a_witness(log)
    for log.signed in (10, 300):
        done = await export(log, tmp_path)
        assert (done.quorum, done.cosigned, done.witnesses) == (False, (), 1)
        assert done.lacking == ("The witness w did not cosign.",)
    with pytest.raises(ExportRefused, match="quorum-unmet"):
        await export(log, tmp_path, trust=Policy.parse(await log.policy()))
    log.signed = 400
    text = parse_note(log.note(400)).text
    log.cosignatures = (cosign(text, witness.name, private, 1_700_000_000),)
    done = await export(log, tmp_path)
    assert (done.quorum, done.cosigned, done.lacking) == (True, ("w",), ())
    assert_holds(tmp_path)


async def test_a_log_can_be_exported_as_far_as_its_witnesses_cosigned(tmp_path: Path) -> None:
    log = MadeLog.of(600)
    with pytest.raises(ExportRefused, match="asks for no witness"):
        await witnessed(log)
    witness, private = asking_a_witness(log)
    with pytest.raises(ExportRefused, match="quorum-unmet"):
        await witnessed(log)
    log.witnessed = 300
    log.cosignatures = (cosign(parse_note(log.note(300)).text, witness.name, private, 1_700_000_000),)
    done = await export(log, tmp_path, end=await witnessed(log))
    assert (done.size, done.quorum) == (300, True)
    assert_holds(tmp_path)
    log.cosignatures = ()
    await export(log, tmp_path)
    with pytest.raises(Conflict, match="export-is-newer: The folder holds 600 entries already, and 300"):
        await export(log, tmp_path, end=300)
    assert_still(tmp_path, 600)


async def test_what_was_deleted_on_the_record_is_missing_by_the_entry_that_says_so(tmp_path: Path) -> None:
    log = MadeLog.of(20)
    erased, expired = "a" * 64, "b" * 64
    events: dict[int, dict[str, Json]] = {
        3: {"kind": "plan.proposed", "plan": erased},
        4: {"kind": "plan.proposed", "plan": expired},
        8: {"kind": "personal.erased", "evidence": [erased]},
        9: {"kind": "evidence.expired", "digests": [expired]},
    }
    for index, event in events.items():
        log.entries[index] = canonical({"event": event, "index": index, "kind": event["kind"]})
    done = await export(log, tmp_path)
    assert {each.digest: each.why for each in done.missing} == {
        erased: "It was erased as personal: entry 8.",
        expired: "It expired: entry 9.",
    }


async def test_an_export_keeps_the_checkpoint_over_a_rotation_of_keys(tmp_path: Path) -> None:
    log = MadeLog.of(300)
    log.entries[100] = made_entry(100, kind="key.rotated")
    await export(log, tmp_path)
    assert (tmp_path / "checkpoints" / "101").read_bytes() == log.note(101)


async def test_what_a_killed_writer_left_behind_is_swept(tmp_path: Path) -> None:
    await export(MadeLog.of(3), tmp_path)
    before = content(tmp_path)
    (tmp_path / "tile" / "0" / ".new-0123456789abcdef").write_bytes(b"half")
    await export(MadeLog.of(3), tmp_path)
    assert content(tmp_path) == before


PAGE = (ROOT / "docs" / "operations" / "export.md").read_text()


def test_the_page_on_exports_names_every_refusal_with_its_exit_code() -> None:
    rows = re.findall(r"^\| (\d) \| (`[^|]+) \|", PAGE, re.MULTILINE)
    assert {code: int(number) for number, codes in rows for code in re.findall(r"`([a-z-]+)`", codes)} == {
        code: number for code, number in WHY.items() if code != "archive-unverified"
    }


async def test_the_page_on_exports_names_everything_that_an_export_has(tmp_path: Path) -> None:
    log = MadeLog.of(300)
    log.entries[100] = made_entry(100, kind="key.rotated")
    await export(log, tmp_path)
    named = {found.partition("/")[0] for found in re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)}
    assert {name.partition("/")[0] for name in content(tmp_path)} == named - {"plans"}


def test_every_command_on_the_page_on_exports_is_there() -> None:
    commands = set(re.findall(r"triad audit ([a-z]+)", PAGE))
    assert commands <= set(make_app()["audit"].resolved_commands())
