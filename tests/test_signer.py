"""The log's key and its memory: who may read it, and what it never signs."""

from pathlib import Path

import pytest

from operations.errors import LedgerCorrupt, LedgerUnavailable
from storage import signer
from storage.signer import Signer
from storage.verifier import checkpoint, tree
from storage.verifier.checkpoint import Checkpoint
from storage.verifier.tree import Frontier

LOG = "triad.example/log"
LEAVES = [tree.leaf_hash(bytes([at])) for at in range(40)]
EMPTY = (0, tree.empty_root())


def head(size: int) -> tuple[int, bytes]:
    return size, Frontier().extend(LEAVES[:size])[0].root()


def proof(old: int, new: int) -> list[bytes]:
    nodes = {(0, at): leaf for at, leaf in enumerate(LEAVES)}
    nodes |= {(level, position): value for level, position, value in Frontier().extend(LEAVES)[1]}
    return tree.consistency_proof(old, new, lambda level, position: nodes[level, position])


def load(folder: Path, *, every: float = 1.0) -> Signer:
    return Signer.load_or_create(folder / "keys" / "log.key", LOG, every=every)


def advance(log: Signer, *sizes: int) -> None:
    for size in sizes:
        log.sign(*head(size), after=(log.head.size, log.head.root))
        log.committed(*head(size))


def test_the_first_start_makes_a_private_key_and_an_empty_memory(tmp_path: Path) -> None:
    log = load(tmp_path)
    path = tmp_path / "keys" / "log.key"
    assert {name.name for name in path.parent.iterdir()} == {"log.key", "log.key.head"}
    assert all(name.stat().st_mode & 0o777 == 0o600 for name in path.parent.iterdir())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert log.head == Checkpoint(LOG, *EMPTY)
    assert log.vkey.startswith(f"{LOG}+{log.key_id}+")


def test_the_second_start_finds_the_same_key_and_what_it_signed(tmp_path: Path) -> None:
    first = load(tmp_path)
    advance(first, 3, 7)
    first.close()
    second = load(tmp_path)
    assert second.vkey == first.vkey
    assert second.head == Checkpoint(LOG, *head(7))


def test_what_it_signs_verifies_with_its_vkey(tmp_path: Path) -> None:
    log = load(tmp_path)
    note = log.sign(*head(3), after=EMPTY)
    verified = checkpoint.verify_note(note, checkpoint.VerifierKey.parse(log.vkey))
    assert Checkpoint.parse(verified.text) == Checkpoint(LOG, *head(3))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700 | 0o001])
def test_a_key_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    load(tmp_path)
    path = tmp_path / "keys" / "log.key"
    path.chmod(mode)
    with pytest.raises(LedgerUnavailable, match=f"chmod 600 {path}"):
        load(tmp_path)
    path.chmod(0o400)
    load(tmp_path)


def test_a_key_in_the_go_tools_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text("PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz\n")
    path.chmod(0o600)
    signer.adopt(signer.memory_path(path), Checkpoint("PeterNeumann", *EMPTY))
    log = Signer.load_or_create(path, "PeterNeumann")
    assert log.vkey == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


@pytest.mark.parametrize("text", ["", "x", "PRIVATE+KEY+", "PRIVATE+KEY+a+b", "PRIVATE+KEY+a+b+AAAA", "\xff"])
def test_what_is_not_a_key_is_refused_and_never_shown(tmp_path: Path, text: str) -> None:
    load(tmp_path)
    path = tmp_path / "keys" / "log.key"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LedgerUnavailable, match=r"log\.key"):
        load(tmp_path)


def test_a_damaged_key_is_refused_and_never_shown(tmp_path: Path) -> None:
    load(tmp_path)
    path = tmp_path / "keys" / "log.key"
    text = path.read_text()
    path.write_text(text[:-8] + ("A" if text[-8] != "A" else "B") + text[-7:])
    with pytest.raises(LedgerUnavailable) as refusal:
        load(tmp_path)
    assert text.strip().rpartition("+")[2][:20] not in str(refusal.value)


def test_a_key_of_another_log_is_refused(tmp_path: Path) -> None:
    load(tmp_path)
    with pytest.raises(LedgerUnavailable, match="another name"):
        Signer.load_or_create(tmp_path / "keys" / "log.key", "other.example/log")


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.key").mkdir()
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        Signer.load_or_create(tmp_path / "log.key", LOG)


def test_a_missing_memory_is_refused_until_a_checkpoint_is_adopted(tmp_path: Path) -> None:
    advance(load(tmp_path, every=0), 5)
    memory = signer.memory_path(tmp_path / "keys" / "log.key")
    memory.unlink()
    with pytest.raises(LedgerCorrupt, match="is missing"):
        load(tmp_path)
    signer.adopt(memory, Checkpoint(LOG, *head(5)))
    assert load(tmp_path).head.size == 5


@pytest.mark.parametrize(
    "text", ["", "nonsense", "other.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"]
)
def test_an_unreadable_or_foreign_memory_is_refused(tmp_path: Path, text: str) -> None:
    load(tmp_path)
    signer.memory_path(tmp_path / "keys" / "log.key").write_text(text)
    with pytest.raises(LedgerCorrupt):
        load(tmp_path)


def test_each_batch_extends_the_one_before(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 1, 2, 9, 40)
    assert log.head == Checkpoint(LOG, *head(40))


def test_a_shrunk_log_is_never_signed(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 9)
    with pytest.raises(LedgerCorrupt, match="shrank"):
        log.sign(*head(10), after=head(5))
    with pytest.raises(LedgerCorrupt, match="does not extend"):
        log.sign(*head(5), after=head(9))
    with pytest.raises(LedgerCorrupt, match="shrank"):
        log.sign_checkpoint(Checkpoint(LOG, *head(5)))
    assert log.head.size == 9


def test_a_forked_log_is_never_signed(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 9)
    forked = Frontier().extend([*LEAVES[:8], LEAVES[20]])[0].root()
    with pytest.raises(LedgerCorrupt, match="forked"):
        log.sign(*head(10), after=(9, forked))
    with pytest.raises(LedgerCorrupt, match="does not extend"):
        log.sign(9, forked, after=head(9))
    with pytest.raises(LedgerCorrupt, match="forked"):
        log.sign_checkpoint(Checkpoint(LOG, 9, forked))
    with pytest.raises(LedgerCorrupt, match="nothing proves"):
        log.sign(*head(12), after=head(11))


def test_another_logs_checkpoint_is_never_signed(tmp_path: Path) -> None:
    with pytest.raises(LedgerCorrupt, match="signs for"):
        load(tmp_path).sign_checkpoint(Checkpoint("other.example/log", *head(3)))


def test_a_batch_that_was_rolled_back_may_be_signed_anew(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 4)
    log.sign(*head(6), after=head(4))
    other = Frontier().extend([*LEAVES[:4], LEAVES[30]])[0].root()
    log.sign(5, other, after=head(4))
    log.committed(5, other)
    assert log.head == Checkpoint(LOG, 5, other)


def test_a_batch_whose_commit_was_not_heard_of_may_be_built_on(tmp_path: Path) -> None:
    log = load(tmp_path)
    log.sign(*head(4), after=EMPTY)
    log.sign(*head(6), after=head(4))
    log.committed(*head(6))
    assert log.head.size == 6


def test_only_what_was_signed_last_can_be_committed(tmp_path: Path) -> None:
    log = load(tmp_path)
    with pytest.raises(LedgerCorrupt, match="last signed"):
        log.committed(*head(3))
    log.sign(*head(3), after=EMPTY)
    with pytest.raises(LedgerCorrupt, match="last signed"):
        log.committed(*head(4))
    log.committed(*head(3))
    with pytest.raises(LedgerCorrupt, match="last signed"):
        log.committed(*head(3))


def test_a_head_moved_by_another_process_is_accepted_with_its_proof_alone(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 9)
    with pytest.raises(LedgerCorrupt, match="do not begin"):
        log.check_extends(*head(21), [])
    forked = Frontier().extend([*LEAVES[:8], *LEAVES[9:22]])[0].root()
    with pytest.raises(LedgerCorrupt, match="do not begin"):
        log.check_extends(21, forked, proof(9, 21))
    with pytest.raises(LedgerCorrupt, match="shrank"):
        log.check_extends(*head(8), [])
    assert log.head.size == 9
    log.check_extends(*head(21), proof(9, 21))
    advance(log, 22)


def test_an_opened_log_that_is_what_was_remembered_needs_no_proof(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 9)
    log.check_extends(*head(9), [])
    with pytest.raises(LedgerCorrupt, match="do not begin"):
        log.check_extends(9, head(8)[1], [])


def test_the_memory_reaches_the_disk_at_most_once_in_the_interval_and_at_the_close(tmp_path: Path) -> None:
    log = load(tmp_path, every=3600)
    memory = signer.memory_path(tmp_path / "keys" / "log.key")
    advance(log, 3, 9, 12)
    assert Checkpoint.parse(memory.read_text()).size == 3
    log.close()
    assert Checkpoint.parse(memory.read_text()).size == 12


def test_a_slower_process_does_not_shorten_the_memory_on_disk(tmp_path: Path) -> None:
    slow, fast = load(tmp_path, every=0), load(tmp_path, every=0)
    advance(fast, 30)
    advance(slow, 9)
    slow.close()
    assert load(tmp_path).head.size == 30


def test_no_draft_stays_behind_when_a_write_fails(tmp_path: Path) -> None:
    log = load(tmp_path, every=0)
    memory = signer.memory_path(tmp_path / "keys" / "log.key")
    memory.unlink()
    memory.mkdir()
    with pytest.raises(LedgerCorrupt):
        advance(log, 3)
    with pytest.raises(IsADirectoryError):
        signer.adopt(memory, Checkpoint(LOG, *head(3)))
    assert sorted(path.name for path in memory.parent.iterdir()) == ["log.key", "log.key.head"]
