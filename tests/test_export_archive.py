"""Archives: closed segments alone, verified by the stand-alone verifier, listed for `sha256sum`, recorded."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations.errors import Conflict
from operations.events import SegmentArchived
from storage.archive import SUMS, archive, last_archived
from storage.ledger import Ledger
from storage.source import ExportRefused, LedgerSource
from storage.verifier.checkpoint import parse_note
from storage.verifier.cosignature import ED25519_V1, CosignerKey, cosign
from tests.logs import CLEO, MadeLog, content, grow

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent


def alone(folder: Path) -> str | None:
    """The verifier's own folder, copied to where nothing else of ours is, run by a bare interpreter."""
    verifier = folder.parent / "verifier"
    shutil.copytree(ROOT / "storage" / "verifier", verifier, dirs_exist_ok=True)
    argv = [sys.executable, "-I", str(verifier), str(folder), "--policy", str(folder / "policy"), "--no-semantics"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder.parent)
    return None if done.returncode == 0 else f"{done.returncode}: {done.stdout} {done.stderr}"


def sums(folder: Path, name: str = SUMS) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", name], cwd=folder, capture_output=True, text=True, check=False
    )


def fine(_folder: Path) -> str | None:
    return None


async def test_an_archive_verifies_alone_and_the_next_goes_on_after_it(ledger: Ledger, tmp_path: Path) -> None:
    folder, source = tmp_path / "archive", LedgerSource(ledger)
    await grow(ledger, 257)
    exported, first = await archive(source, folder, await last_archived(ledger), alone)
    assert (exported.size, first.first, first.end) == (257, 0, 256)
    assert sums(folder).returncode == 0
    await ledger.note(SegmentArchived(**first.model_dump(exclude={"files"}), by="triad"), CLEO)
    assert await last_archived(ledger) == 256
    await grow(ledger, 513)
    _, second = await archive(source, folder, await last_archived(ledger), alone)
    assert (second.first, second.end) == (256, 512)
    assert sums(folder).returncode == 0
    assert sums(folder, "archived/256").returncode == 0
    assert (await ledger.head()).size == 513


async def test_a_list_names_what_never_changes_and_finds_a_changed_byte(tmp_path: Path) -> None:
    await archive(MadeLog.of(600), tmp_path, 0, fine)
    listed = {line.split("  ")[1] for line in (tmp_path / SUMS).read_text().splitlines()}
    assert listed >= {"tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001", "checkpoints/600"}
    assert not [name for name in listed if ".p/" in name or name in {"checkpoint", "policy"} or "proofs" in name]
    data = bytearray((tmp_path / "tile/entries/001").read_bytes())
    data[1000] ^= 1
    (tmp_path / "tile/entries/001").write_bytes(data)
    assert "tile/entries/001" in sums(tmp_path).stdout


async def test_what_the_verifier_refuses_is_not_listed(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="archive-unverified: it said no"):
        await archive(MadeLog.of(600), tmp_path, 0, lambda _folder: "it said no")
    assert SUMS not in content(tmp_path)


@pytest.mark.parametrize(("size", "first"), [(1, 0), (255, 0), (256, 256), (511, 256)])
async def test_without_a_closed_segment_nothing_is_written(size: int, first: int, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="nothing-closed"):
        await archive(MadeLog.of(size), tmp_path, first, fine)
    assert content(tmp_path) == {}


async def test_where_witnesses_are_asked_for_an_archive_goes_as_far_as_they_cosigned(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    witness = CosignerKey("witness.test", ED25519_V1, private.public_key().public_bytes_raw())
    log = MadeLog.of(600)
    log.witnesses = f"witness w {witness.text()}\nquorum w\n"
    with pytest.raises(ExportRefused, match="quorum-unmet"):
        await archive(log, tmp_path, 0, fine)
    log.witnessed = 300
    log.cosignatures = (cosign(parse_note(log.note(300)).text, witness.name, private, 1_700_000_000),)
    exported, segment = await archive(log, tmp_path, 0, fine)
    assert (exported.size, exported.quorum, segment.end) == (300, True, 256)
    with pytest.raises(Conflict, match="300 entries are cosigned"):
        await archive(log, tmp_path, 256, fine)
