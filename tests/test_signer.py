"""The log's key and its memory: who may read it, and what it never signs."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from operations.errors import Conflict, LedgerCorrupt, LedgerUnavailable
from storage import keyring, signer
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
    assert sorted(path.name for path in memory.parent.iterdir()) == ["log.key", "log.key.head", "log.key.head.lock"]


def referring(folder: Path, current: str, following: str | None = None) -> Signer:
    return Signer.load_or_create(folder / "keys" / "log.key", LOG, current=current, following=following)


def key_elsewhere(folder: Path, name: str) -> Path:
    """A key that somebody else made and mounted, read-only."""
    made = folder / "elsewhere" / name
    Signer.load_or_create(made, LOG)
    made.chmod(0o444)
    return made


def test_a_key_by_reference_is_used_and_nothing_but_the_memory_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = key_elsewhere(tmp_path, "k")
    monkeypatch.setenv("LOG_KEY", made.read_text())
    by_file, by_environment = referring(tmp_path, current=f"file:{made}"), referring(tmp_path, current="env:LOG_KEY")
    assert by_file.vkey == by_environment.vkey
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["log.key.head"]


@pytest.mark.parametrize("text", [None, "nonsense", "PRIVATE+KEY+other+00000000+AAAA"])
def test_a_reference_to_no_key_is_refused_and_its_value_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        monkeypatch.setenv("LOG_KEY", text)
    with pytest.raises(LedgerUnavailable) as refusal:
        referring(tmp_path, current="env:LOG_KEY")
    assert text is None or text not in str(refusal.value)


def test_the_key_that_the_head_names_is_found_whichever_reference_holds_it(tmp_path: Path) -> None:
    first, second = key_elsewhere(tmp_path, "a"), key_elsewhere(tmp_path, "b")
    log = referring(tmp_path, current=f"file:{first}", following=f"file:{second}")
    before = log.vkey
    log.use(Signer.load_or_create(tmp_path / "elsewhere" / "b2", LOG, current=f"file:{second}").key_id)
    assert log.vkey != before
    with pytest.raises(LedgerUnavailable, match="no key here is that one"):
        log.use("00000000")


def test_by_reference_there_is_a_next_key_only_where_a_setting_names_another(tmp_path: Path) -> None:
    first, second = key_elsewhere(tmp_path, "a"), key_elsewhere(tmp_path, "b")
    for following in (None, f"file:{first}", f"file:{tmp_path / 'none'}"):
        log = referring(tmp_path, current=f"file:{first}", following=following)
        with pytest.raises(Conflict) as refusal:
            log.prepare()
        assert (refusal.value.code, refusal.value.field) == ("no-next-key", "ledger.next_key")
    log = referring(tmp_path, current=f"file:{first}", following=f"file:{second}")
    assert log.prepare() != log.key


def test_a_key_that_vanished_is_not_replaced_by_another_once_a_log_was_signed(tmp_path: Path) -> None:
    log = load(tmp_path, every=0)
    advance(log, 5)
    (tmp_path / "keys" / "log.key").unlink()
    with pytest.raises(LedgerCorrupt, match="is missing, and a log was signed with it"):
        load(tmp_path)
    assert not (tmp_path / "keys" / "log.key").exists()


def test_a_first_start_that_was_cut_off_before_the_key_begins_again(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / "keys" / "log.key").unlink()
    assert load(tmp_path).head == Checkpoint(LOG, *EMPTY)


def test_a_checkpoint_over_a_rotation_is_signed_by_both_keys(tmp_path: Path) -> None:
    log = load(tmp_path)
    advance(log, 3)
    old = log.key
    with log.rotating():
        new = log.prepare()
        note = log.sign(*head(4), after=head(3), key=old.key_id.hex(), following=new.key_id.hex())
        log.committed(*head(4))
        log.use(new.key_id.hex())
        log.finish(old)
    assert [s.key_id for s in checkpoint.verify_note(note, old, new).signatures] == [old.key_id, new.key_id]
    assert log.key == new
    assert log.trusted() == (old, new)
    assert load(tmp_path).key == new


def test_the_memory_is_not_written_while_another_process_holds_its_lock(tmp_path: Path) -> None:
    log = load(tmp_path, every=0)
    memory = signer.memory_path(tmp_path / "keys" / "log.key")
    lock = keyring.locked(memory.with_name(f"{memory.name}.lock"))
    assert lock is not None
    advance(log, 5)
    assert Checkpoint.parse(memory.read_text()).size == 0
    os.close(lock)
    log.close()
    assert Checkpoint.parse(memory.read_text()).size == 5


def test_a_memory_on_disk_of_another_history_is_a_fork(tmp_path: Path) -> None:
    one, other = load(tmp_path, every=0), load(tmp_path, every=0)
    advance(one, 5)
    forked = Frontier().extend([*LEAVES[:4], LEAVES[20]])[0].root()
    other.sign(5, forked, after=EMPTY)
    with pytest.raises(LedgerCorrupt, match="with another root"):
        other.committed(5, forked)


def test_processes_that_advance_at_once_leave_the_largest_size_in_the_memory(tmp_path: Path) -> None:
    load(tmp_path)
    turns = [load(tmp_path, every=0) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(advance, log, size) for log, size in zip(turns, range(5, 40, 4), strict=False)]:
            done.result()
        for log in turns:
            log.close()
    assert load(tmp_path).head == Checkpoint(LOG, *head(33))
