"""The constitution in force is checked at every use: another document, or none, and everything stays closed."""

import os
import stat
from pathlib import Path
from typing import Final

import pytest

from operations import constitution as module
from operations.constitution import Constitution, Statute, document_digest
from operations.errors import ConstitutionChanged, ConstitutionInvalid
from prompts import load

TEXT: Final = load("constitution").text
AMENDED: Final = TEXT.replace("most_steps = 20", "most_steps = 10")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    document = tmp_path / "constitution.md"
    document.write_text(TEXT)
    return document


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the last change were long ago."""
    monkeypatch.setattr(module, "SETTLED_NANOSECONDS", -1)


def test_the_document_in_force_is_given_as_long_as_it_stays(path: Path) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    assert statute.in_force().text == TEXT
    assert statute.in_force() is statute.in_force()


def test_without_a_ledger_the_document_on_disk_is_the_first(path: Path) -> None:
    statute = Statute.load(path, None)
    path.write_text(AMENDED)
    with pytest.raises(ConstitutionChanged):
        statute.in_force()


def test_a_document_that_is_not_the_ledgers_does_not_load(path: Path) -> None:
    with pytest.raises(ConstitutionChanged, match=document_digest(TEXT)):
        Statute.load(path, document_digest(AMENDED))


def test_a_changed_document_closes_everything_until_it_is_put_back(path: Path) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    path.write_text(AMENDED)
    with pytest.raises(ConstitutionChanged, match=document_digest(AMENDED)):
        statute.in_force()
    path.write_text(TEXT)
    assert statute.in_force().text == TEXT


@pytest.mark.parametrize("settled", [True, False])
def test_a_change_of_the_same_length_with_its_time_put_back_is_seen(
    path: Path, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    if settled:
        settle(monkeypatch)
    statute.in_force()
    before = path.stat()
    path.write_text(AMENDED)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(ConstitutionChanged):
        statute.in_force()
    with pytest.raises(ConstitutionChanged):
        statute.in_force()


def test_a_document_that_rests_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    statute = Statute.load(path, document_digest(TEXT))
    statute.in_force()
    monkeypatch.setattr(module, "_read", lambda _: pytest.fail("it was read again"))
    assert statute.in_force().text == TEXT


def test_a_document_that_changed_just_now_is_read_every_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    statute.in_force()
    reads: list[Path] = []
    read = module._read

    def counted(place: Path) -> object:
        reads.append(place)
        return read(place)

    monkeypatch.setattr(module, "_read", counted)
    statute.in_force()
    statute.in_force()
    assert len(reads) == 2


def test_invisible_differences_are_none(path: Path) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert statute.in_force().digest == document_digest(TEXT)


def test_a_document_that_is_gone_closes_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    statute = Statute.load(path, document_digest(TEXT))
    statute.in_force()
    path.unlink()
    with pytest.raises(ConstitutionInvalid, match="cannot be read"):
        statute.in_force()
    path.mkdir()
    with pytest.raises(ConstitutionInvalid, match="cannot be read"):
        statute.in_force()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 300_000])
def test_a_document_that_is_garbage_closes_everything(path: Path, content: bytes) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    path.write_bytes(content)
    with pytest.raises((ConstitutionInvalid, ConstitutionChanged)):
        statute.in_force()


def test_a_document_that_cannot_be_enforced_does_not_load(path: Path) -> None:
    path.write_text(TEXT.replace("most_steps = 20", "most_steps = 0"))
    with pytest.raises(ConstitutionInvalid, match="Article 11"):
        Statute.load(path, None)
    with pytest.raises(ConstitutionInvalid, match="cannot be read"):
        Statute.load(path.with_name("nothing.md"), None)


def test_an_enacted_amendment_is_in_force_at_once_and_keeps_the_permissions(path: Path) -> None:
    path.chmod(0o640)
    statute = Statute.load(path, document_digest(TEXT))
    enacted = statute.enact(AMENDED.replace("\n", "\r\n"))
    assert statute.in_force() is enacted
    assert enacted.numbers.plans.most_steps == 10
    assert path.read_text() == AMENDED
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_amendment_that_cannot_be_enforced_changes_nothing(path: Path) -> None:
    statute = Statute.load(path, document_digest(TEXT))
    with pytest.raises(ConstitutionInvalid):
        statute.enact(TEXT.replace("most_steps = 20", "most_steps = 0"))
    assert path.read_text() == TEXT
    assert statute.in_force().text == TEXT


def test_an_amendment_that_cannot_be_written_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statute = Statute.load(path, document_digest(TEXT))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        statute.enact(AMENDED)
    assert path.read_text() == TEXT
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert statute.in_force().text == TEXT


def test_an_amendment_goes_where_a_link_points_to(path: Path) -> None:
    link = path.with_name("link.md")
    link.symlink_to(path.name)
    Statute.load(link, None).enact(AMENDED)
    assert link.is_symlink()
    assert path.read_text() == AMENDED


def test_another_process_is_closed_until_the_ledger_tells_it_of_the_amendment(path: Path) -> None:
    first, second = Statute.load(path, None), Statute.load(path, None)
    first.enact(AMENDED)
    with pytest.raises(ConstitutionChanged):
        second.in_force()
    second.expect(document_digest(AMENDED))
    assert second.in_force().digest == document_digest(AMENDED)


def test_when_the_ledger_is_ahead_of_the_document_everything_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    statute = Statute.load(path, None)
    statute.in_force()
    statute.expect(document_digest(AMENDED))
    with pytest.raises(ConstitutionChanged):
        statute.in_force()
    statute.expect(document_digest(TEXT))
    assert statute.in_force().digest == Constitution.parse(TEXT).digest
