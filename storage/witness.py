"""The witness: cosigns a log's checkpoint only when it extends every checkpoint that it cosigned of that log before.

It knows no HTTP and nothing of this ledger: any log that speaks tlog-checkpoint can ask it. What it cosigns is on its
disk before the cosignature exists. Sources: https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from operations.errors import LedgerUnavailable
from storage.verifier.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    NoteMalformed,
    NoteUnverified,
    VerifierKey,
    decode_base64,
    encode_base64,
    parse_note,
    verify_note,
)
from storage.verifier.tree import HASH_SIZE, verify_consistency
from storage.witness_keys import WitnessKey, has_keys, load_keys, make_keys, store_keys
from storage.witness_memory import Evidence, Finding, Memory, check_home, check_memory

MAX_PROOF: Final = 63
"""Most lines of a consistency proof."""

MAX_REQUEST: Final = MAX_NOTE + 4096
"""Longest request in bytes: a note, the proof and the old size."""

MAX_LOG_KEYS: Final = 8
"""Most keys that one log may have at once."""

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")


class Decline(StrEnum):
    """Why a checkpoint was not cosigned."""

    MALFORMED = "malformed"
    UNKNOWN_LOG = "unknown-log"
    NOT_SIGNED = "not-signed"
    OLD_BEYOND_SIZE = "old-beyond-size"
    OTHER_SIZE = "other-size"
    FORK = "fork"
    NOT_CONSISTENT = "not-consistent"


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The checkpoint was cosigned.

    Attributes:
        checkpoint: what was cosigned.
        lines: one signature line for each of the witness's keys.
        forked: whether the log signed another root of that size before, which nobody could prove then: that is kept as
            evidence now.
    """

    checkpoint: Checkpoint
    lines: str
    forked: bool = False


@dataclass(frozen=True, slots=True)
class Declined:
    """The checkpoint was not cosigned.

    Attributes:
        code: why.
        reason: the same in a sentence.
        origin: the log, where it is one that the witness knows.
        size: of the checkpoint, where it was signed.
        known: size of the last cosigned checkpoint, where the log and its signature are known.
        forked: whether the log signed another root of that size too: then it betrays somebody, whatever the code.
        kept: whether the checkpoint was kept as evidence just now.
    """

    code: Decline
    reason: str
    origin: str | None = None
    size: int | None = None
    known: int | None = None
    forked: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign: the size last cosigned, the proof from there on, and the signed note."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request; the note in it is not looked at.

        Raises:
            NoteMalformed: not in the format, or beyond its bounds.
        """
        if len(body) > MAX_REQUEST:
            raise NoteMalformed("the request is too long")
        head, blank, note = body.partition(b"\n\n")
        if not blank:
            raise NoteMalformed("an empty line stands before the checkpoint")
        try:
            first, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise NoteMalformed("the proof is not ASCII") from error
        if not (old := _OLD.fullmatch(first)):
            raise NoteMalformed("the first line is `old` and a decimal size without leading zeroes")
        if len(lines) > MAX_PROOF:
            raise NoteMalformed(f"a proof has at most {MAX_PROOF} lines")
        proof = tuple(decode_base64(line) for line in lines)
        if any(len(part) != HASH_SIZE for part in proof):
            raise NoteMalformed("a line of the proof is not a SHA-256")
        return cls(int(old[1]), proof, note)

    def encode(self) -> bytes:
        """The request's body."""
        lines = "".join(f"{encode_base64(part)}\n" for part in self.proof)
        return f"old {self.old}\n{lines}\n".encode() + self.note


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log that the witness cosigns for.

    Attributes:
        keys: which it trusts to sign for the log.
        latest: the last cosigned checkpoint.
        at: when it was cosigned, in seconds since 1970; None: never.
    """

    keys: tuple[VerifierKey, ...]
    latest: Checkpoint
    at: int | None


class Witness:
    """One witness: its keys and its memory. Threads and processes may share the memory; each cosigns in its turn.

    Every method raises `LedgerUnavailable` when the memory cannot be used: then nothing is cosigned.
    """

    def __init__(self, keys: Sequence[WitnessKey], memory: Memory) -> None:
        self._keys = tuple(keys)
        self._memory = memory
        self._turn = threading.Lock()

    @classmethod
    def create(cls, home: Path, name: str, *, ml_dsa: bool) -> Self:
        """Make a witness in an empty home: memory first, then keys, so that a key never lacks its memory.

        Raises:
            LedgerUnavailable: there is a witness already, perhaps one that lost its memory; others can write into the
                home; or nothing can be written.
            NoteMalformed: the name cannot be a key name.
        """
        keys = make_keys(name, ml_dsa=ml_dsa)
        if has_keys(home):
            check_memory(home)
            raise LedgerUnavailable(f"There is a key in {home} already. A witness keeps its key for life.")
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerUnavailable(f"{home} cannot be made: {error.strerror}") from error
        check_home(home)
        memory = Memory.create(home, [key.public.text() for key in keys])
        try:
            store_keys(home, keys)
        except LedgerUnavailable:
            if not has_keys(home):  # nobody has seen a key: the next try begins anew
                memory.discard()
            raise
        return cls(keys, memory)

    @classmethod
    def open(cls, home: Path) -> Self:
        """The witness in `home`.

        Raises:
            LedgerUnavailable: there is none, others can read its key, or its memory is missing or another's.
        """
        keys = load_keys(home)
        return cls(keys, Memory.open(home, [key.public.text() for key in keys]))

    @property
    def name(self) -> str:
        """The name it signs under."""
        return self._keys[0].public.name

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Its public keys as others take them."""
        return tuple(key.public.text() for key in self._keys)

    def trust(self, key: VerifierKey, *, beside: bool = False) -> bool:
        """Cosign for the log that `key` signs for, under the key's name as its origin.

        Args:
            key: of the log.
            beside: whether the log may have other trusted keys already, as while its key is being rotated.

        Returns:
            False when the key was trusted before.

        Raises:
            LedgerUnavailable: the log has another key and `beside` was not said, or it has too many.
        """
        with self._turn, self._memory.transaction():
            known = self._memory.keys(key.name)
            if key in known:
                return False
            if known and not beside:
                raise LedgerUnavailable("That log has another trusted key. A second one must be asked for.")
            if len(known) >= MAX_LOG_KEYS:
                raise LedgerUnavailable(f"A log has at most {MAX_LOG_KEYS} trusted keys.")
            self._memory.trust(key)
            return True

    def distrust(self, origin: str, key: VerifierKey | None = None) -> int:
        """Trust one key of a log no longer, or none of them; how many were. What it cosigned stays remembered."""
        with self._turn, self._memory.transaction():
            gone = [each for each in self._memory.keys(origin) if key in {None, each}]
            for each in gone:
                self._memory.distrust(each)
            return len(gone)

    def logs(self) -> tuple[KnownLog, ...]:
        """Every log that it cosigns for."""
        memory = self._memory
        with self._turn, memory.transaction():
            return tuple(
                KnownLog(memory.keys(origin), memory.latest(origin), memory.cosigned_at(origin))
                for origin in memory.origins()
            )

    def evidence(self) -> tuple[Evidence, ...]:
        """What logs signed that does not fit together, oldest first."""
        with self._turn, self._memory.transaction():
            return self._memory.evidence()

    def add_checkpoint(self, body: bytes, at: int) -> Cosigned | Declined:
        """Cosign the checkpoint of a request, or say why not.

        Args:
            body: of the request.
            at: the time in seconds since 1970, which the cosignature states.
        """
        try:
            asked = AddCheckpoint.parse(body)
            head = Checkpoint.parse(parse_note(asked.note).text)
        except NoteMalformed as error:
            return Declined(Decline.MALFORMED, f"The request cannot be read: {error}.")
        with self._turn, self._memory.transaction():
            answer = self._judged(asked, head, at)
        if isinstance(answer, Declined):
            return answer
        made = (key.cosign(head, at) for key in self._keys)
        return Cosigned(head, "".join(line.line() for line in made if line is not None), answer)

    def _judged(self, asked: AddCheckpoint, head: Checkpoint, at: int) -> Declined | bool:
        """Why not; otherwise it is remembered as cosigned, and whether that shows a fork."""
        origin = head.origin
        keys = self._memory.keys(origin)
        if not keys:
            return Declined(Decline.UNKNOWN_LOG, "This witness does not know that log.")
        try:
            signed = verify_note(asked.note, *keys).encode()
        except (NoteUnverified, NoteMalformed):
            return Declined(Decline.NOT_SIGNED, "No trusted key of the log signed the checkpoint.", origin)
        latest = self._memory.latest(origin)
        wrong = _inconsistent(asked, head, latest)
        if wrong is None:
            return self._memory.remember(head, at, signed)
        code, reason = wrong
        against = self._memory.contradicted(head)
        kept = False
        if against is not None:
            kept = self._memory.keep(
                Evidence(Finding.FORK, origin, head.size, head.root, latest.size, at, signed, against)
            )
        elif code is Decline.NOT_CONSISTENT and head.size > latest.size > 0:
            kept = self._memory.keep(Evidence(Finding.UNPROVED, origin, head.size, head.root, latest.size, at, signed))
        return Declined(code, reason, origin, head.size, latest.size, against is not None, kept)


def _inconsistent(asked: AddCheckpoint, head: Checkpoint, latest: Checkpoint) -> tuple[Decline, str] | None:
    """Why a request does not lead on from the last cosigned checkpoint; None: it does.

    That a proof is wrong tells nothing against the log: anybody can send its checkpoint with any proof.
    """
    if asked.old > head.size:
        return Decline.OLD_BEYOND_SIZE, "The old size is larger than the checkpoint's."
    if asked.old != latest.size:
        return Decline.OTHER_SIZE, "The last cosigned checkpoint has another size."
    if head.size == latest.size and head.root != latest.root:
        return Decline.FORK, "A checkpoint of that size and another root was cosigned before."
    if not verify_consistency(latest.size, latest.root, head.size, head.root, asked.proof):
        return Decline.NOT_CONSISTENT, "The proof does not show that it extends the last cosigned checkpoint."
    return None
