"""Whether a log is what it says: signatures and quorum, root, consistency with what was seen before, and meaning.

Pure and streaming: entries go by once, no database is asked. What nobody remembered cannot be missed: a log cut short
and signed again by its own key is caught only by a witness, or by a checkpoint kept elsewhere, given as `older`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from .checkpoint import Checkpoint, NoteMalformed, NoteUnverified, VerifierKey, parse_note, verify_note
from .hashing import BLOCK, BlockHasher
from .kept import KeptNotes, Unreadable
from .meaning import CUT_SHORT, HISTORY, meant
from .mirror import Audit, TileMissing
from .policy import NONE, Judged, Log, Policy
from .replay import Replay
from .report import Code, Findings, Omitted, Report, Witnessed
from .succession import Succession, heir
from .tiles import TileMalformed

Progress = Callable[[int, int], None]
"""Is told how many entries were read, and how many there are."""

_NAMED: Final = 20
"""Most checkpoints that are named one by one as not checked."""


class EntriesUnreadable(ValueError):
    """Raised by an iterable of entries that cannot be read further; the message says why."""


@dataclass(slots=True)
class _Seen:
    """An older checkpoint, or one kept with the log; its note is read anew from its place in `given` when needed."""

    given: Sequence[bytes]
    place: int
    name: str
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
    complete: bool = False,
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
            them. Those that no trusted key signed are reported as not checked. `KeptNotes` reads them one at a time.
        plans: canonical bytes of plans by their digest: steps are held against those given. A text that is there and
            cannot be read raises `Unreadable`, which means code 6; so do those of `constitutions`.
        constitutions: texts of constitutions by their digest: every one in force must be there, if any are given.
        complete: `plans` is all that the log has: one that is missing is a breach, unless an entry says it was deleted.
        semantics: also replay what the entries mean, several times slower than hashing.
        audit: hash tiles that must agree with the entries.
        progress: see `Progress`.
        now: seconds since 1970, against which cosignatures' times are held; None asks the clock.
    """
    running = _Verification(policy, int(time.time()) if now is None else now, keep=semantics)
    if not running.open(note, older, rotations):
        return running.report()
    running.begin()
    if semantics:
        running.replay = Replay(running.head.origin, plans=plans, constitutions=constitutions, root_of=running.root_at)
    running.read(entries, audit, progress)
    running.judge()
    running.texts(given=plans is not None, complete=complete)
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
        self._succession = Succession("", ())
        self._omitted: list[Omitted] = []
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
        for place in range(len(older)):
            self._remember(older, place, "The older checkpoint", rotation=False)
        names = rotations.names if isinstance(rotations, KeptNotes) else None
        for place in range(len(rotations)):
            what = f"The checkpoint kept as {names[place]}" if names else "The checkpoint kept with the log"
            self._remember(rotations, place, what, rotation=True)
        if isinstance(rotations, KeptNotes) and rotations.found > len(rotations):
            sentence = f"{rotations.found - len(rotations)} of the {rotations.found} checkpoints kept with the log"
            self._findings.unchecked.append(f"{sentence}: so many are taken at even distances, and every rotation's.")
        self._opened = self._judged is not None or any(each.rotation and each.trusted for each in self._seen)
        if not self._opened:
            self._findings.add(Code.SIGNATURE, "signature", f"The checkpoint is not to be trusted: {self._refused}.")
        return self._opened

    def begin(self) -> None:
        """Before the entries are read."""
        self._succession = Succession(self.head.origin, {each.head.size for each in self._seen if each.rotation})

    def _remember(self, given: Sequence[bytes], place: int, what: str, *, rotation: bool) -> None:
        try:
            note = given[place]
            head = Checkpoint.parse(parse_note(note).text)
        except (NoteMalformed, Unreadable, TileMissing) as error:
            self._findings.add(Code.INPUT, "input", f"{what} cannot be read: {error}.")
            return
        if head.origin != self.head.origin:
            self._findings.add(Code.INPUT, "input", f"{what} is of another log.")
            return
        try:
            self._policy.judge(note, None)
            trusted = True
        except NoteUnverified as error:
            trusted = False
            if _names_any(note, self._policy):
                self._findings.add(Code.SIGNATURE, "signature", f"{what} is not to be trusted: {error}.")
                return
        except NoteMalformed as error:
            self._findings.add(Code.INPUT, "input", f"{what} cannot be read: {error}.")
            return
        self._seen.append(_Seen(given, place, what, head, rotation, trusted))

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
        stops = deque(sorted({each.head.size for each in self._seen if each.head.size <= head.size} | {head.size}))
        more = False
        try:
            while True:
                start = hasher.size
                self._block = list(islice(following, min(BLOCK, head.size - start)))
                self._take(start, self._block, audit)
                while stops and stops[0] < start + len(self._block):
                    stop = stops.popleft()
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
        except Unreadable as error:
            self._findings.add(Code.INPUT, "input", f"What the entries mean cannot be checked: {error}.")
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
        for at, data in enumerate(block, start):
            self._succession.add(at, data)
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
        strangers = [each for each in self._seen if not self._compare(each) and each.rotation]
        for each in strangers[:_NAMED]:
            sentence = f"the checkpoint of {each.head.size} entries kept with the log: no trusted key signed it."
            self._findings.unchecked.append(sentence)
        if len(strangers) > _NAMED:
            self._findings.unchecked.append(f"{len(strangers) - _NAMED} more of them, likewise.")
        if self._whole and self._judged is not None and self._succession.in_force is not None:
            self._in_force(self._succession.in_force)

    def _follow(self) -> None:
        """Trust the key that a trusted one passed the log on to: its note is signed by both, its entry names both."""
        for each in sorted((each for each in self._seen if each.rotation), key=lambda each: each.head.size):
            passed = self._succession.passed.get(each.head.size)
            note = self._note_of(each) if passed is not None else None
            if passed is None or note is None or self._roots.get(each.head.size) != each.head.root:
                continue
            following = heir(passed, self._policy, note)
            if following is not None and following not in self._policy.keys:
                self._policy = replace(self._policy, logs=(*self._policy.logs, Log(following)))
                sentence = f"the key {following.key_id.hex()} follows a trusted one: both signed over its rotation"
                self._findings.checked.append(sentence)
        try:
            self._judged = self._policy.judge(self._note, self._now)
        except NoteUnverified as error:
            self._refused = str(error)

    def _note_of(self, each: _Seen) -> bytes | None:
        """The note again; None where it is not what it was a moment ago."""
        try:
            note = each.given[each.place]
            if Checkpoint.parse(parse_note(note).text) == each.head:
                return note
            why = "it changed meanwhile"
        except (NoteMalformed, Unreadable, TileMissing) as error:
            why = str(error)
        self._findings.add(Code.INPUT, "input", f"{each.name} cannot be read: {why}.")
        return None

    def _trusts(self, each: _Seen) -> bool:
        """Whether a key that is trusted by now signed it; an older one that was given must be."""
        if each.trusted:
            return True
        note = self._note_of(each)
        try:
            if note is not None:
                self._policy.judge(note, None)
                each.trusted = True
        except NoteUnverified as error:
            if not each.rotation:
                sentence = f"The older checkpoint is not to be trusted: {error}."
                self._findings.add(Code.SIGNATURE, "signature", sentence)
        return each.trusted

    def _compare(self, each: _Seen) -> bool:
        """Hold the log against a checkpoint, if that is trusted."""
        what = "kept with the log" if each.rotation else "older"
        if not self._trusts(each):
            return False
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
        return True

    def _in_force(self, key: VerifierKey) -> None:
        try:
            verify_note(self._note, key)
        except (NoteMalformed, NoteUnverified):
            sentence = f"The checkpoint is not signed by the key in force at its end, {key.key_id.hex()}."
            self._findings.add(Code.SIGNATURE, "key", sentence)

    def texts(self, *, given: bool, complete: bool) -> None:
        """Every plan is there, or an entry says that it was deleted."""
        replay = self.replay
        if replay is None:
            self._omitted += (Omitted.MEANING, Omitted.PLANS)
            return
        gone = replay.records.gone
        absent = {digest: at for digest, at in replay.plans.absent.items() if bytes.fromhex(digest) not in gone}
        deleted = len(replay.plans.absent) - len(absent)
        if deleted:
            self._findings.unchecked.append(f"what ran against {deleted} plan(s) whose text was deleted on the record")
        if complete and given:
            for digest, at in absent.items():
                sentence = f"The text of the plan {digest[:16]} is missing, and no entry says that it was deleted."
                self._findings.add(Code.SEMANTICS, "text", sentence, at)
        elif absent:
            self._omitted.append(Omitted.PLANS)
            self._findings.unchecked.append(f"what ran against {len(absent)} plan(s) whose text is not there")

    def conclude(self, constitutions: Mapping[str, bytes] | None, audit: Audit | None) -> None:
        """Say what was checked and what was not."""
        done, left = self._findings.checked, self._findings.unchecked
        if self._judged is not None:
            done.append(f"the checkpoint's signature, by {len(self._judged.logs)} trusted log key(s)")
        if self._policy.quorum != NONE:
            done.append("the cosignatures that the policy asks for")
        if self._whole and self._hasher.size:
            done.append(f"the root, from the bytes of {self._hasher.size} entries")
        if audit is not None:
            done.append("that every hash tile agrees with the entries")
        if self._compared:
            done.append(f"that the log extends {self._compared} older checkpoint(s)")
        if self._policy.quorum == NONE:
            left.append(HISTORY if self._compared else CUT_SHORT)
        if self.replay is None or self._hasher.size < self.head.size:
            left.append("what the entries mean")
        else:
            meant(self.replay, done, left, texts=constitutions is not None)
        if self.replay is None or constitutions is None:
            self._omitted.append(Omitted.CONSTITUTIONS)

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
            omitted=tuple(self._omitted),
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
