"""Whether a ledger is what it says: signatures, root, consistency with what was seen before, and meaning.

Pure and streaming: entries go by once, nothing but the right edge of the tree and the operations under way is kept, no
database is asked. What nobody remembered cannot be missed: a log cut short and signed again by its own key is caught
only by a checkpoint kept elsewhere, given as `older`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

from operations.canonical import Record
from storage.copies import CopyUnreadable, read_copy
from storage.rules import OpenStep, Problem
from storage.semantics import Replay
from storage.verifier import tree
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, NoteUnverified, VerifierKey, verify_note


class Code(IntEnum):
    """What `triad audit verify` exits with."""

    OK = 0
    SIGNATURE = 2
    """No known key signed the checkpoint, or a signature is broken."""
    ROOT = 3
    """The entries are not those that the checkpoint was signed over."""
    FORK = 4
    """The log does not extend what was seen of it before."""
    SEMANTICS = 5
    """The entries are authentic, and contradict each other or the rules."""
    INPUT = 6
    """There is nothing to verify: the input cannot be read."""


_GRAVITY: Final = (Code.INPUT, Code.SIGNATURE, Code.FORK, Code.ROOT, Code.SEMANTICS)


class Report(Record):
    """What a verification found.

    `problems` holds the first of them; `found` counts all. `open_steps` are not problems: they are intents whose
    outcome the log did not know yet, running or in doubt.
    """

    ok: bool
    code: Code
    origin: str | None
    size: int | None
    root: str | None
    signers: tuple[str, ...] = ()
    compared: int = 0
    replayed: bool
    found: int
    problems: tuple[Problem, ...]
    open_steps: tuple[OpenStep, ...] = ()


class _Findings:
    """Collects problems and the gravest code."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.codes: set[Code] = set()
        self.found = 0

    def add(self, code: Code, rule: str, sentence: str) -> None:
        self.codes.add(code)
        self.found += 1
        self.problems.append(Problem(index=None, rule=rule, sentence=sentence))

    @property
    def code(self) -> Code:
        return next((code for code in _GRAVITY if code in self.codes), Code.OK)


def verify(
    entries: Iterable[bytes],
    note: bytes,
    keys: Sequence[VerifierKey],
    *,
    older: Sequence[bytes] = (),
    semantics: bool = True,
    plans: Mapping[str, bytes] | None = None,
) -> Report:
    """Verify a whole log against its signed checkpoint.

    Args:
        entries: the bytes of all entries, in order. `CopyUnreadable` and `OSError` raised while reading mean code 6.
        note: the signed checkpoint over them.
        keys: the keys that are trusted for this log, known from elsewhere than the log itself.
        older: signed checkpoints of the same log that somebody kept; the log must begin with what they saw.
        semantics: also replay what the entries mean, some thirty times slower than hashing.
        plans: canonical bytes of plans by their digest, from the evidence store: steps are held against those given.
    """
    findings = _Findings()
    opened = _open(findings, note, keys, "checkpoint")
    if opened is None:
        return _report(findings, None, replayed=False)
    head, signers = opened
    earlier = _earlier(findings, older, keys, head)
    replay = Replay(head.origin, {key.key_id.hex() for key in keys}, plans=plans) if semantics else None
    _read(findings, entries, head, earlier, replay)
    return _report(findings, head, signers=signers, compared=len(earlier), replay=replay, replayed=semantics)


def _open(
    findings: _Findings, note: bytes, keys: Sequence[VerifierKey], what: str
) -> tuple[Checkpoint, tuple[str, ...]] | None:
    try:
        verified = verify_note(note, *dict.fromkeys(keys))
        head = Checkpoint.parse(verified.text)
    except NoteUnverified as error:
        findings.add(Code.SIGNATURE, "signature", f"The {what} is not to be trusted: {error}.")
    except NoteMalformed as error:
        findings.add(Code.INPUT, "input", f"The {what} cannot be read: {error}.")
    else:
        return head, tuple(signature.name for signature in verified.signatures)
    return None


def _earlier(
    findings: _Findings, older: Sequence[bytes], keys: Sequence[VerifierKey], head: Checkpoint
) -> list[Checkpoint]:
    """The older checkpoints that can be compared; the log shrank if one is larger than the newest."""
    found = []
    for note in older:
        opened = _open(findings, note, keys, "older checkpoint")
        if opened is None:
            continue
        if opened[0].origin != head.origin:
            findings.add(Code.INPUT, "input", "The older checkpoint is of another log.")
        elif opened[0].size > head.size:
            findings.add(
                Code.FORK, "rollback", f"The log was seen with {opened[0].size} entries and has {head.size} now."
            )
        else:
            found.append(opened[0])
    return found


def _read(
    findings: _Findings,
    entries: Iterable[bytes],
    head: Checkpoint,
    earlier: Sequence[Checkpoint],
    replay: Replay | None,
) -> None:
    hasher = tree.RootHasher()
    stops = sorted({known.size for known in earlier if known.size < head.size})
    seen: dict[int, bytes] = {}
    following = iter(entries)
    try:
        for stop in (*stops, head.size):
            _advance(hasher, following, stop, replay)
            seen[stop] = hasher.root()
        more = next(following, None) is not None
    except (CopyUnreadable, OSError) as error:
        findings.add(Code.INPUT, "input", f"The entries cannot be read: {error}.")
        return
    if hasher.size < head.size:
        findings.add(Code.ROOT, "root", f"There are {hasher.size} entries; the checkpoint was signed over {head.size}.")
    elif more:
        findings.add(Code.ROOT, "root", f"There are more entries than the {head.size} that the checkpoint covers.")
    elif seen[head.size] != head.root:
        findings.add(Code.ROOT, "root", "The entries do not hash to the root that was signed.")
    else:
        for known in earlier:
            if seen[known.size] != known.root:
                sentence = f"The first {known.size} entries are not those that an older checkpoint was signed over."
                findings.add(Code.FORK, "fork", sentence)


def _advance(hasher: tree.RootHasher, entries: Iterator[bytes], size: int, replay: Replay | None) -> None:
    add = hasher.add
    for position in range(hasher.size, size):
        data = next(entries, None)
        if data is None:
            return
        add(data)
        if replay is not None:
            replay.feed(position, data)


def _report(
    findings: _Findings,
    head: Checkpoint | None,
    *,
    signers: tuple[str, ...] = (),
    compared: int = 0,
    replay: Replay | None = None,
    replayed: bool,
) -> Report:
    meaning = replay.problems if replay is not None else []
    if meaning:
        findings.codes.add(Code.SEMANTICS)
    return Report(
        ok=findings.code is Code.OK,
        code=findings.code,
        origin=head.origin if head else None,
        size=head.size if head else None,
        root=head.root.hex() if head else None,
        signers=signers,
        compared=compared,
        replayed=replayed,
        found=findings.found + (replay.found if replay is not None else 0),
        problems=(*findings.problems, *meaning),
        open_steps=tuple(replay.open_steps()) if replay is not None else (),
    )


def verify_copy(
    folder: Path,
    keys: Sequence[VerifierKey] | None = None,
    *,
    older: Sequence[bytes] = (),
    semantics: bool = True,
    plans: Mapping[str, bytes] | None = None,
) -> Report:
    """Verify the copy in a folder.

    Args:
        folder: where it lies.
        keys: the trusted keys; without them the copy's own, which shows only that it agrees with itself.
        older: see `verify`.
        semantics: see `verify`.
        plans: see `verify`.
    """
    copy = read_copy(folder)
    try:
        trusted = copy.keys if keys is None else keys
        return verify(copy.entries(), copy.note, trusted, older=older, semantics=semantics, plans=plans)
    except CopyUnreadable as error:
        findings = _Findings()
        findings.add(Code.INPUT, "input", f"The copy cannot be read: {error}.")
        return _report(findings, None, replayed=False)
