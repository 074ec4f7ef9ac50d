"""Whom somebody trusts: the logs they accept and the witnesses they ask for, as a file in the form of C2SP tlog-policy.

Standard library and `cryptography` only. Errors name the line and never show what stands there.
Source: https://c2sp.org/tlog-policy.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from .checkpoint import ED25519 as _ED25519
from .checkpoint import Checkpoint, NoteMalformed, NoteUnverified, Signature, VerifierKey, decode_vkey, verify_note
from .cosignature import ED25519_V1, ML_DSA_44, CosignerKey, stated_time

MAX_POLICY: Final = 1024 * 1024
"""Longest policy in bytes that is read."""

MAX_LOGS: Final = 256
"""Most log keys; a log that rotates keeps its old ones."""

MAX_WITNESSES: Final = 64
"""Most witnesses, and most groups. The specification asks for at least 32 of each."""

TOLERANCE: Final = 300
"""Seconds that a witness's clock may be ahead of ours before its cosignature no longer counts."""

NONE: Final = "none"
"""The quorum that asks for no witness."""

LogKey = VerifierKey | CosignerKey
"""A log signs with plain Ed25519 (0x01) or with ML-DSA-44 (0x06)."""

_FORBIDDEN: Final = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_SPACES: Final = re.compile(rb"[ \t]+")
_THRESHOLD: Final = re.compile(rb"[1-9][0-9]{0,5}")


class PolicyMalformed(ValueError):
    """This is not a policy; the line is named where there is one."""


class PolicyUnmet(Exception):
    """A note is authentic, but the witnesses that the policy asks for have not all cosigned it."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__(" ".join(missing))


@dataclass(frozen=True, slots=True)
class Log:
    """A log whose checkpoints are accepted; its key's name is its origin."""

    key: LogKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness, by the name that the policy gives it."""

    name: str
    key: CosignerKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups of which at least `threshold` must have witnessed."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosigned:
    """That a witness cosigned.

    Attributes:
        witness: who.
        time: when it says it did, in seconds since 1970; 0 where it says nothing about time.
        ahead: seconds by which that lies further in the future than tolerated; the cosignature then does not count.
    """

    witness: Witness
    time: int
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy says about a note whose signatures were verified.

    Attributes:
        text: the note's text.
        checkpoint: what it states.
        logs: the log keys that signed it, at least one.
        witnesses: the witnesses that cosigned it.
        quorum_met: whether they are enough.
        missing: what is missing, and what does not count, as sentences; empty when nothing is.
    """

    text: str
    checkpoint: Checkpoint
    logs: tuple[LogKey, ...]
    witnesses: tuple[Cosigned, ...]
    quorum_met: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Logs, witnesses, groups of them, and the quorum: the name of a witness or a group, or `none`."""

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE

    @classmethod
    def of(cls, keys: Iterable[LogKey]) -> Self:
        """The policy that accepts what any of these log keys signed, and asks for no witness."""
        return cls(tuple(Log(key) for key in dict.fromkeys(keys)))

    @property
    def keys(self) -> tuple[LogKey, ...]:
        """The keys of the logs."""
        return tuple(log.key for log in self.logs)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The policy that a file spells.

        Raises:
            PolicyMalformed: it is none, or beyond the bounds of this module.
        """
        if len(data) > MAX_POLICY:
            raise PolicyMalformed(f"a policy has at most {MAX_POLICY} bytes")
        reader = _Reader()
        for number, items in _lines(data):
            try:
                reader.line(items)
            except ValueError as error:
                raise PolicyMalformed(f"line {number}: {error}") from None
        if reader.quorum is None:
            raise PolicyMalformed("there is no quorum line")
        return cls(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)

    def encode(self) -> bytes:
        """The policy as a file; `parse` reads it back."""
        lines = [f"log {log.key.text()}{_suffix(log.url)}" for log in self.logs]
        lines += [f"witness {each.name} {each.key.text()}{_suffix(each.url)}" for each in self.witnesses]
        lines += [f"group {each.name} {each.threshold} {' '.join(each.members)}" for each in self.groups]
        lines.append(f"quorum {self.quorum}")
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")

    def judge(self, note: bytes, now: int | None = None, *, tolerance: int = TOLERANCE) -> Judged:
        """Verify a checkpoint's signatures, and tell who signed and whether the quorum holds.

        Args:
            note: the signed checkpoint.
            now: seconds since 1970, against which the times of cosignatures are held; None believes them all.
            tolerance: seconds that a witness's clock may be ahead.

        Raises:
            NoteMalformed: not a signed checkpoint.
            NoteUnverified: no log of the policy signed it under its own origin, or the signature of a known key is
                broken.
        """
        keys = dict.fromkeys((*self.keys, *(each.key for each in self.witnesses)))
        verified = verify_note(note, *keys)
        head = Checkpoint.parse(verified.text)
        signed: dict[tuple[str, bytes], list[Signature]] = {}
        for signature in verified.signatures:
            signed.setdefault((signature.name, signature.key_id), []).append(signature)
        logs = tuple(key for key in self.keys if (key.name, key.key_id) in signed)
        if not logs:
            raise NoteUnverified("no log of the policy signed this note")
        logs = tuple(key for key in logs if key.name == head.origin)
        if not logs:
            raise NoteUnverified("the log that signed this note has another name than its origin")
        found = []
        for witness in self.witnesses:
            lines = signed.get((witness.key.name, witness.key.key_id), ())
            times = [stated_time(line) for line in lines]
            if times:
                found.append(_cosigned(witness, times, now, tolerance))
        return self._judged(verified.text, head, logs, tuple(found))

    def require(self, note: bytes, now: int | None = None, *, tolerance: int = TOLERANCE) -> Judged:
        """As `judge`; a quorum that does not hold is an error.

        Raises:
            PolicyUnmet: the quorum does not hold.
            NoteMalformed: see `judge`, also for `NoteUnverified`.
        """
        judged = self.judge(note, now, tolerance=tolerance)
        if not judged.quorum_met:
            raise PolicyUnmet(judged.missing)
        return judged

    def _judged(self, text: str, head: Checkpoint, logs: tuple[LogKey, ...], found: tuple[Cosigned, ...]) -> Judged:
        ahead = {each.witness.name: each.ahead for each in found if each.ahead}
        standing = {witness.name: False for witness in self.witnesses}
        standing.update({each.witness.name: not each.ahead for each in found})
        for group in self.groups:
            standing[group.name] = sum(standing[name] for name in group.members) >= group.threshold
        missing = [
            f"The cosignature of {_shown(name)} does not count: its time lies {seconds} seconds in the future."
            for name, seconds in ahead.items()
        ]
        met = self.quorum == NONE or standing[self.quorum]
        if not met:
            missing += self._missing(self.quorum, standing, ahead)
        return Judged(text, head, logs, found, met, tuple(missing))

    def _missing(self, name: str, standing: dict[str, bool], ahead: dict[str, int]) -> list[str]:
        group = next((each for each in self.groups if each.name == name), None)
        if group is None:
            return [] if name in ahead else [f"The witness {_shown(name)} did not cosign."]
        count = sum(standing[member] for member in group.members)
        sentences = [
            f"The group {_shown(name)} needs {group.threshold} of its {len(group.members)} members; {count} cosigned."
        ]
        for member in group.members:
            if not standing[member]:
                sentences += self._missing(member, standing, ahead)
        return sentences


def _cosigned(witness: Witness, times: Sequence[int], now: int | None, tolerance: int) -> Cosigned:
    """The newest time that counts; only if none does, the least that does not."""
    if now is None:
        return Cosigned(witness, max(times))
    counting = [time for time in times if time <= now + tolerance]
    if counting:
        return Cosigned(witness, max(counting))
    return Cosigned(witness, min(times), min(times) - now)


def _shown(name: str) -> str:
    """A name as it can be printed; bytes that are no UTF-8 are spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _suffix(url: str | None) -> str:
    return "" if url is None else f" {url}"


def _lines(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Number and items of each line that says something."""
    if data and not data.endswith(b"\n"):
        raise PolicyMalformed("the last line does not end with a line break")
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        if _FORBIDDEN.search(line):
            raise PolicyMalformed(f"line {number}: there is a control character")
        text = line.strip(b" \t")
        if text and not text.startswith(b"#"):
            yield number, _SPACES.split(text)


def _text(item: bytes) -> str:
    """Octets as text and back without loss: names are compared octet by octet."""
    return item.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class _Reader:
    logs: list[Log] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    quorum: str | None = None
    _names: set[str] = field(default_factory=set)
    _members: set[str] = field(default_factory=set)
    _keys: dict[tuple[str, bytes], LogKey] = field(default_factory=dict)

    def line(self, items: list[bytes]) -> None:
        """Take one line.

        Raises:
            ValueError: what is wrong with it.
        """
        keyword, rest = items[0], items[1:]
        if keyword == b"log":
            self._log(rest)
        elif keyword == b"witness":
            self._witness(rest)
        elif keyword == b"group":
            self._group(rest)
        elif keyword == b"quorum":
            self._quorum(rest)
        else:
            raise ValueError("a line begins with log, witness, group or quorum")

    def _log(self, items: list[bytes]) -> None:
        _count(items, 1, 2, "log <vkey> [<url>]")
        name, kind, public = decode_vkey(_vkey(items[0]))
        if kind not in {_ED25519, ML_DSA_44}:
            raise ValueError("a log's key is of signature type 0x01 or 0x06")
        key = VerifierKey(name, public) if kind == _ED25519 else CosignerKey(name, kind, public)
        if any(log.key.public == public for log in self.logs):
            raise ValueError("that public key is another log's already")
        if any(each.key.public == public for each in self.witnesses):
            raise ValueError("that public key is a witness's already: no log is its own witness")
        if len(self.logs) == MAX_LOGS:
            raise ValueError(f"a policy has at most {MAX_LOGS} logs")
        self._known(key)
        self.logs.append(Log(key, _url(items[1:])))

    def _witness(self, items: list[bytes]) -> None:
        _count(items, 2, 3, "witness <name> <vkey> [<url>]")
        name, kind, public = decode_vkey(_vkey(items[1]))
        if kind not in {ED25519_V1, ML_DSA_44}:
            raise ValueError("a witness's key is of signature type 0x04 or 0x06")
        key = CosignerKey(name, kind, public)
        if any(each.key.public == public for each in self.witnesses):
            raise ValueError("that public key is another witness's already")
        if any(log.key.public == public for log in self.logs):
            raise ValueError("that public key is a log's already: no log is its own witness")
        if len(self.witnesses) == MAX_WITNESSES:
            raise ValueError(f"a policy has at most {MAX_WITNESSES} witnesses")
        self._known(key)
        self.witnesses.append(Witness(self._name(items[0]), key, _url(items[2:])))

    def _group(self, items: list[bytes]) -> None:
        if len(items) < 3:  # noqa: PLR2004 - name, threshold, one member
            raise ValueError("it should be: group <name> all|any|<k> <name>...")
        members = [_text(item) for item in items[2:]]
        for member in members:
            if member not in self._names:
                raise ValueError("a member of the group is not defined above")
            if member in self._members:
                raise ValueError("a member of the group is a member already, here or elsewhere")
            self._members.add(member)
        threshold = _threshold(items[1], len(members))
        if len(self.groups) == MAX_WITNESSES:
            raise ValueError(f"a policy has at most {MAX_WITNESSES} groups")
        self.groups.append(Group(self._name(items[0]), threshold, tuple(members)))

    def _quorum(self, items: list[bytes]) -> None:
        _count(items, 1, 1, "quorum <name>")
        if self.quorum is not None:
            raise ValueError("there is a quorum line already")
        name = _text(items[0])
        if name != NONE and name not in self._names:
            raise ValueError("the quorum is not defined above")
        self.quorum = name

    def _name(self, item: bytes) -> str:
        name = _text(item)
        if name == NONE:
            raise ValueError("the name none is taken")
        if name in self._names:
            raise ValueError("that name is defined already")
        self._names.add(name)
        return name

    def _known(self, key: LogKey) -> None:
        if self._keys.setdefault((key.name, key.key_id), key) != key:
            raise ValueError("another key has the same key name and key id")


def _count(items: list[bytes], least: int, most: int, form: str) -> None:
    if not least <= len(items) <= most:
        raise ValueError(f"it should be: {form}")


def _vkey(item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise NoteMalformed("the key is not UTF-8") from None


def _url(items: list[bytes]) -> str | None:
    return _text(items[0]) if items else None


def _threshold(item: bytes, members: int) -> int:
    if item == b"any":
        return 1
    if item == b"all":
        return members
    if not _THRESHOLD.fullmatch(item) or int(item) > members:
        raise ValueError("a group's threshold is all, any or a number from 1 to that of its members")
    return int(item)
