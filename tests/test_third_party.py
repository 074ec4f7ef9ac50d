"""Readers that are not ours accept what we write and refuse what was tampered with, where they are installed."""

import re
import shutil
from pathlib import Path

import pytest

from evals.interop.__main__ import report
from evals.interop.sample import SIZE, write_sample
from evals.interop.tampering import TAMPERINGS
from evals.interop.tools import installed
from storage.export import export
from storage.ledger import Ledger
from storage.source import LedgerSource
from storage.verifier.checkpoint import MAX_NOTE, MAX_SIGNATURES, NoteMalformed, NoteUnverified
from storage.verifier.mirror import Mirror, TileMissing, audit_tiles, folder
from storage.verifier.policy import MAX_LOGS, MAX_POLICY, MAX_WITNESSES, TOLERANCE, Policy, PolicyUnmet
from storage.verifier.proof import MAX_HASHES, MAX_PROOF, NotIncluded, Proof, ProofMalformed, check
from storage.verifier.tiles import MAX_ENTRY, WIDTH, TileMalformed
from storage.verifier.tree import HASH_SIZE
from tests.logs import grow

REFUSALS = (NoteMalformed, NoteUnverified, PolicyUnmet, ProofMalformed, NotIncluded, TileMissing, TileMalformed)


def ours(home: Path) -> int:
    """Read an export with our own verifier's parts alone; how many proofs it has."""
    policy = Policy.parse((home / "policy").read_bytes())
    head = policy.require((home / "checkpoint").read_bytes()).checkpoint
    audit = audit_tiles(Mirror(folder(home), head.size))
    if audit.lies:
        raise TileMalformed(audit.lies[0].sentence)
    if audit.finish() != head.root:
        raise NotIncluded("another root")
    proofs = list((home / "proofs").iterdir())
    for path in proofs:
        check(Proof.parse(path.read_bytes()), None, policy)
    return len(proofs)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sample")
    write_sample(home)
    return home


def test_the_sample_is_accepted_by_our_own_verifier(sample: Path) -> None:
    assert ours(sample) == 6


@pytest.mark.parametrize("size", [1, 2, 256, 257])
def test_a_sample_of_another_size_is_accepted_too(tmp_path: Path, size: int) -> None:
    write_sample(tmp_path, size)
    assert ours(tmp_path) > 0


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda each: each.name)
def test_our_own_verifier_refuses_what_the_others_must_refuse(sample: Path, tmp_path: Path, tampering: object) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sample, copy)
    next(each for each in TAMPERINGS if each is tampering).apply(copy)
    with pytest.raises(REFUSALS):
        ours(copy)


@pytest.mark.full
@pytest.mark.parametrize("name", ["sumdb", "aics"])
def test_a_reader_that_is_not_ours_accepts_the_log_and_refuses_every_tampered_copy(
    sample: Path, tmp_path: Path, name: str
) -> None:
    tool = next((each for each in installed(tmp_path) if each.name == name), None)
    if tool is None:
        pytest.skip(f"{name} is not installed; evals/interop/install.sh installs it")
    lines, fine = report(tool, sample)
    assert fine, "\n".join(lines)
    assert f"{SIZE} entries, 6 proofs" in lines[0]


@pytest.mark.full
@pytest.mark.anyio
@pytest.mark.parametrize("name", ["sumdb", "aics"])
async def test_a_real_ledgers_export_is_accepted_and_every_tampered_copy_refused(
    ledger: Ledger, tmp_path: Path, name: str
) -> None:
    tool = next((each for each in installed(tmp_path) if each.name == name), None)
    if tool is None:
        pytest.skip(f"{name} is not installed; evals/interop/install.sh installs it")
    await grow(ledger, 530)
    await export(LedgerSource(ledger), tmp_path / "export")
    lines, fine = report(tool, tmp_path / "export")
    assert fine, "\n".join(lines)
    assert "530 entries" in lines[0]


def test_the_documentation_names_the_tools_that_are_installed_and_the_bounds_that_are_kept() -> None:
    root = Path(__file__).parent.parent
    page = (root / "docs" / "architecture" / "formats.md").read_text()
    script = (root / "evals" / "interop" / "install.sh").read_text()
    for name, version in re.findall(r"([a-z-]+)==([0-9.]+)", script):
        assert f"| {name} (PyPI) | {version}" in page
    for name in re.findall(r"golang-[a-z-]+", script):
        assert name in page
    unseen = sum("sumdb" in each.unseen for each in TAMPERINGS)
    assert f"refuses {len(TAMPERINGS) - unseen} (the Go packages) and {len(TAMPERINGS)} (aics-tlog" in page
    kept = (
        f"a note at {MAX_NOTE // 1024} KiB and {MAX_SIGNATURES} signatures, a proof at {MAX_PROOF // 2**20} MiB and "
        f"{MAX_HASHES} hashes, a policy at {MAX_POLICY // 2**20} MiB, {MAX_LOGS} logs, {MAX_WITNESSES} witnesses and "
        f"{MAX_WITNESSES} groups, a bundle at {WIDTH} entries of {MAX_ENTRY:,} bytes, "
        f"a tile at {WIDTH * HASH_SIZE:,} bytes."
    )
    assert kept in " ".join(page.split())
    assert f"more than {TOLERANCE} seconds ahead" in page
