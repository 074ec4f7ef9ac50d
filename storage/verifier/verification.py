"""Whether a log is what it says: signatures and quorum, root, consistency with what was seen before, and meaning.

Pure and streaming: entries go by once, no database is asked. What nobody remembered cannot be missed: a log cut short
and signed again by its own key is caught only by a witness, or by a checkpoint kept elsewhere, given as `older`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from .checkpoint import Checkpoint, NoteMalformed, NoteUnverified, VerifierKey, parse_note, verify_note
from .hashing import BLOCK, BlockHasher
from .mirror import Audit, TileMissing
from .policy import NONE, Judged, Log, Policy
from .replay import Replay
from .report import Code, Findings, Report, Witnessed
from .spelling import EntryMalformed, read_entry
from .tiles import TileMalformed

Progress = Callable[[int, int], None]
"""Is told how many entries were read, and how many there are."""

_CUT_SHORT: Final = (
    "whether the log was cut short or rewritten and signed again by its own key: no witness is asked for, and no older "
    "checkpoint is given. Nobody can know this from the log alone."
)
_HISTORY: Final = (
    "whether the log was rewritten after the newest of the older checkpoints: that only a witness could tell."
)
_CEDAR: Final = "the constitution's Cedar rules, but for two that are recognised: who may do what is not decided again."


class EntriesUnreadable(ValueError):
    """Raised by an iterable of entries that cannot be read further; the message says why."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """An older checkpoint, or one over a rotation of the log's key."""

    note: bytes
    head: Checkpoint
    rotation: bool
    trusted: bool


def verify(  # noqa: PLR0913 - what is given is checked; each is one thing that may be given
    entries: Iterable[bytes],
    note: bytes,
    policy: Policy,
    *,
    older: Sequence[bytes] = (),
    rotations: Sequence[bytes] = (),
    plans: Mapping[str, bytes] | None = None,
    constitutions: Mapping[str, bytes] | None = None,
    semantics: bool = True,
    audit: Audit | None = None,
    progress: Progress | None = None,
    now: int | None = None,
) -> Report:
    """Verify a whole log against its signed checkpoint.

    Args:
        entries: the bytes of all entries, in order. `EntriesUnreadable`, the tiles' errors and `OSError` raised while
            reading mean code 6.
        note: the signed checkpoint over them.
        policy: the log keys that are trusted, known from elsewhere than the log itself, and the witnesses asked for.
        older: signed checkpoints of the same log that somebody kept; the log must begin with what they saw.
        rotations: checkpoints over rotations of the log's key, signed by both keys: who trusts an older key follows
            them. Those that no trusted key signed are reported as not checked.
        plans: canonical bytes of plans by their digest: steps are held against those given.
        constitutions: texts of constitutions by their digest: every one in force must be there, if any are given.
        semantics: also replay what the entries mean, several times slower than hashing.
        audit: hash tiles that must agree with the entries.
        progress: see `Progress`.
        now: seconds since 1970, against which cosignatures' times are held; None asks the clock.
    """
    running = _Verification(policy, int(time.time()) if now is None else now, keep=semantics)
    if not running.open(note, older, rotations):
        return running.report()
    if semantics:
        running.replay = Replay(running.head.origin, plans=plans, constitutions=constitutions, root_of=running.root_at)
    running.read(entries, audit, progress)
    running.judge()
    running.conclude(constitutions, audit)
    return running.report()


class _Verification:
    def __init__(self, policy: Policy, now: int, *, keep: bool) -> None:
        self.replay: Replay | None = None
        self.head = Checkpoint("?", 0, b"\x00" * 32)
        self._findings = Findings()
        self._policy = policy
        self._now = now
        self._note = b""
        self._opened = False
        self._judged: Judged | None = None
        self._refused = ""
        self._seen: list[_Seen] = []
        self._roots: dict[int, bytes] = {}
        self._rotated: dict[int, bytes] = {}
        self._hasher = BlockHasher(keep=keep)
        self._whole = False
        self._compared = 0
        self._block: list[bytes] = []

    def open(self, note: bytes, older: Sequence[bytes], rotations: Sequence[bytes]) -> bool:
        """Read the checkpoints; whether there is anything to compare the entries with."""
        self._note = note
        try:
            self.head = Checkpoint.parse(parse_note(note).text)
        except NoteMalformed as error:
            self._findings.add(Code.INPUT, "input", f"The checkpoint cannot be read: {error}.")
            return False
        try:
            self._judged = self._policy.judge(note, self._now)
        except NoteUnverified as error:
            self._refused = str(error)
        except NoteMalformed as error:
            self._findings.add(Code.INPUT, "input", f"The checkpoint cannot be read: {error}.")
            return False
        for each in older:
            self._remember(each, rotation=False)
        for each in rotations:
            self._remember(each, rotation=True)
        self._opened = self._judged is not None or any(each.rotation and each.trusted for each in self._seen)
        if not self._opened:
            self._findings.add(Code.SIGNATURE, "signature", f"The checkpoint is not to be trusted: {self._refused}.")
        return self._opened

    def _remember(self, note: bytes, *, rotation: bool) -> None:
        what = "checkpoint kept with the log" if rotation else "older checkpoint"
        try:
            head = Checkpoint.parse(parse_note(note).text)
        except NoteMalformed as error:
            self._findings.add(Code.INPUT, "input", f"The {what} cannot be read: {error}.")
            return
        if head.origin != self.head.origin:
            self._findings.add(Code.INPUT, "input", f"The {what} is of another log.")
            return
        try:
            self._policy.judge(note, None)
            trusted = True
        except NoteUnverified as error:
            trusted = False
            if _names_any(note, self._policy):
                self._findings.add(Code.SIGNATURE, "signature", f"The {what} is not to be trusted: {error}.")
                return
        except NoteMalformed as error:
            self._findings.add(Code.INPUT, "input", f"The {what} cannot be read: {error}.")
            return
        self._seen.append(_Seen(note, head, rotation, trusted))

    def root_at(self, size: int) -> str:
        """The root of the first `size` entries that were read, those of the block in hand among them."""
        within = size - self._hasher.size
        if within <= 0:
            return self._hasher.root_at(size).hex()
        return self._hasher.root_within(self._block[:within]).hex()

    def read(self, entries: Iterable[bytes], audit: Audit | None, progress: Progress | None) -> None:
        """Hash the entries, hold tiles against them, and replay them."""
        hasher, head = self._hasher, self.head
        following = iter(entries)
        stops = sorted({each.head.size for each in self._seen if each.head.size <= head.size} | {head.size})
        more = False
        try:
            while True:
                start = hasher.size
                self._block = list(islice(following, min(BLOCK, head.size - start)))
                self._take(start, self._block, audit)
                while stops and stops[0] < start + len(self._block):
                    stop = stops.pop(0)
                    self._roots[stop] = hasher.root_within(self._block[: stop - start])
                hasher.add(self._block)
                if progress is not None:
                    progress(hasher.size, head.size)
                if len(self._block) < BLOCK or hasher.size == head.size:
                    break
            more = hasher.size == head.size and next(following, None) is not None
        except (EntriesUnreadable, TileMissing, TileMalformed, OSError) as error:
            why = error.strerror or "it cannot be read" if isinstance(error, OSError) else str(error)
            self._findings.add(Code.INPUT, "input", f"The entries cannot be read: {why}.")
            return
        for stop in stops:
            if stop <= hasher.size:
                self._roots[stop] = hasher.root()
        self._compare_root(more=more, audit=audit)

    def _take(self, start: int, block: Sequence[bytes], audit: Audit | None) -> None:
        if self.replay is not None:
            feed = self.replay.feed
            for at, data in enumerate(block, start):
                feed(at, data)
        for each in self._seen:
            at = each.head.size - 1
            if each.rotation and start <= at < start + len(block):
                self._rotated[at] = block[at - start]
        if audit is not None and block:
            audit.add(block)

    def _compare_root(self, *, more: bool, audit: Audit | None) -> None:
        hasher, head = self._hasher, self.head
        if hasher.size < head.size:
            sentence = f"There are {hasher.size} entries; the checkpoint was signed over {head.size}."
        elif more:
            sentence = f"There are more entries than the {head.size} that the checkpoint covers."
        elif self._roots[head.size] != head.root:
            sentence = "The entries do not hash to the root that was signed."
        else:
            self._whole = True
            sentence = ""
        if sentence:
            self._findings.add(Code.ROOT, "root", sentence)
        if audit is not None:
            audit.finish()
            for lie in audit.lies:
                self._findings.add(Code.ROOT, "tiles", f"{lie.path}: {lie.sentence}")
            self._findings.found += audit.found - len(audit.lies)

    def judge(self) -> None:
        """Follow rotations of the log's key from a trusted key on, then say who signed and what was seen before."""
        if self._whole:
            self._follow()
        if self._judged is None:
            self._findings.add(Code.SIGNATURE, "signature", f"The checkpoint is not to be trusted: {self._refused}.")
        elif not self._judged.quorum_met:
            for sentence in self._judged.missing:
                self._findings.add(Code.SIGNATURE, "witnesses", sentence)
        for each in self._seen:
            self._compare(each)
        if self.replay is not None and self._whole and self._judged is not None and self.replay.records.keys:
            self._in_force(self.replay.records.keys[-1][1])

    def _follow(self) -> None:
        """Trust the key that a trusted one passed the log on to: its note is signed by both, its entry names both."""
        for each in sorted((each for each in self._seen if each.rotation), key=lambda each: each.head.size):
            data = self._rotated.get(each.head.size - 1)
            if data is None or self._roots.get(each.head.size) != each.head.root:
                continue
            following = _rotation(data, self._policy, each.note)
            if following is not None and following not in self._policy.keys:
                self._policy = replace(self._policy, logs=(*self._policy.logs, Log(following)))
                passed = f"the key {following.key_id.hex()} follows a trusted one: both signed over its rotation"
                self._findings.checked.append(passed)
        try:
            self._judged = self._policy.judge(self._note, self._now)
        except NoteUnverified as error:
            self._refused = str(error)

    def _compare(self, each: _Seen) -> None:
        what = "kept with the log" if each.rotation else "older"
        try:
            self._policy.judge(each.note, None)
        except NoteUnverified as error:
            if each.rotation:
                sentence = f"the checkpoint of {each.head.size} entries kept with the log: no trusted key signed it."
                self._findings.unchecked.append(sentence)
            else:
                sentence = f"The older checkpoint is not to be trusted: {error}."
                self._findings.add(Code.SIGNATURE, "signature", sentence)
            return
        if each.head.size > self.head.size:
            sentence = f"The log was seen with {each.head.size} entries and has {self.head.size} now."
            self._findings.add(Code.FORK, "rollback", sentence)
        elif self._whole:
            self._compared += 1
            if self._roots[each.head.size] != each.head.root:
                sentence = f"The first {each.head.size} entries are not those that a checkpoint {what} was signed over."
                self._findings.add(Code.FORK, "fork", sentence)
        else:
            self._compared += 1

    def _in_force(self, key: VerifierKey) -> None:
        try:
            verify_note(self._note, key)
        except (NoteMalformed, NoteUnverified):
            sentence = f"The checkpoint is not signed by the key in force at its end, {key.key_id.hex()}."
            self._findings.add(Code.SIGNATURE, "key", sentence)

    def conclude(self, constitutions: Mapping[str, bytes] | None, audit: Audit | None) -> None:
        """Say what was checked and what was not."""
        done, left = self._findings.checked, self._findings.unchecked
        if self._judged is not None:
            done.append(f"the checkpoint's signature, by {len(self._judged.logs)} trusted log key(s)")
        if self._policy.quorum != NONE:
            done.append("the cosignatures that the policy asks for")
        if self._hasher.size:
            done.append(f"the root, from the bytes of {self._hasher.size} entries")
        if audit is not None:
            done.append("that every hash tile agrees with the entries")
        if self._compared:
            done.append(f"that the log extends {self._compared} older checkpoint(s)")
        if self._policy.quorum == NONE:
            left.append(_HISTORY if self._compared else _CUT_SHORT)
        if self.replay is None:
            left.append("what the entries mean")
        else:
            _meant(self.replay, done, left, texts=constitutions is not None)

    def report(self) -> Report:
        """Everything that was found."""
        findings, replay = self._findings, self.replay
        codes = set(findings.codes)
        if replay is not None and replay.found:
            codes.add(Code.SEMANTICS)
            findings.codes.add(Code.SEMANTICS)
        judged = self._judged
        readable = self._opened
        return Report(
            ok=not codes,
            code=findings.code,
            origin=self.head.origin if readable else None,
            size=self.head.size if readable else None,
            root=self.head.root.hex() if readable else None,
            signers=tuple(key.name for key in judged.logs) if judged else (),
            witnesses=tuple(Witnessed(each.witness.name, each.time) for each in judged.witnesses) if judged else (),
            compared=self._compared,
            replayed=replay is not None,
            found=findings.found + (replay.found if replay is not None else 0),
            problems=(*findings.problems, *(replay.problems if replay is not None else ())),
            open_steps=tuple(replay.open_steps()) if replay is not None else (),
            remarks=tuple(replay.remarks()) if replay is not None else (),
            checked=tuple(findings.checked),
            unchecked=tuple(findings.unchecked),
        )


def _names_any(note: bytes, policy: Policy) -> bool:
    """Whether a note that was refused bears the name and id of a trusted key: its signature is broken, then."""
    known = {(key.name, key.key_id) for key in (*policy.keys, *(each.key for each in policy.witnesses))}
    return any((each.name, each.key_id) in known for each in parse_note(note).signatures)


def _meant(found: Replay, done: list[str], left: list[str], *, texts: bool) -> None:
    """What of the entries' meaning was checked, and what was not."""
    done.append("what the entries mean, by every rule")
    if found.plans.held:
        done.append(f"what ran, against {found.plans.held} plan(s)")
    if found.plans.missing:
        left.append(f"what ran against {found.plans.missing} plan(s) whose text is not there")
    if texts:
        done.append(f"the text of {found.statutes.texts} constitution(s), and plans against their numbers")
        left.append(_CEDAR)
    else:
        left.append("what the constitution demands: no text of one is given")


def _rotation(data: bytes, policy: Policy, note: bytes) -> VerifierKey | None:
    """The key that a rotation's entry passes the log on to, if a trusted key and that key both signed its note."""
    try:
        entry = read_entry(data)
        if entry["kind"] != "key.rotated":
            return None
        previous = VerifierKey.parse(entry["event"]["previous"])
        following = VerifierKey.parse(entry["event"]["key"])
        if previous not in policy.keys or following.name != previous.name:
            return None
        verify_note(note, previous)
        verify_note(note, following)
    except (EntryMalformed, NoteMalformed, NoteUnverified):
        return None
    return following
