"""One entry's proof as a file of its own: index, audit path and signed checkpoint (C2SP tlog-proof).

Standard library and `cryptography` only. A proof of Triad's carries the entry's bytes as `extra`, so that the file
alone tells what was decided; nothing of it counts before `check`. Source: https://c2sp.org/tlog-proof.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from .checkpoint import MAX_SIZE, Checkpoint, NoteMalformed, decode_base64, encode_base64, parse_note
from .policy import TOLERANCE, Judged, Policy
from .tree import HASH_SIZE, leaf_hash, verify_inclusion

HEADER: Final = "c2sp.org/tlog-proof@v1"

MAX_PROOF: Final = 1024 * 1024
"""Longest proof in bytes that is read."""

MAX_HASHES: Final = 63
"""Most hashes in an audit path: a tree has at most 2^63-1 leaves."""

_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)
_EXTRA: Final = "extra "


class ProofMalformed(ValueError):
    """These bytes are not a proof."""


class NotIncluded(Exception):
    """The proof's checkpoint is authentic, but the entry is not proved to be in it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that an entry stands in a log.

    Attributes:
        index: the entry's place.
        hashes: the audit path, from the leaf's sibling up.
        note: the signed checkpoint, byte by byte.
        extra: whatever the maker added, not empty; Triad adds the entry's bytes. Not authenticated by the format.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise ProofMalformed("the index is out of bounds")
        if len(self.hashes) > MAX_HASHES:
            raise ProofMalformed(f"an audit path has at most {MAX_HASHES} hashes")
        if any(len(part) != HASH_SIZE for part in self.hashes):
            raise ProofMalformed("an audit path is made of SHA-256 hashes")
        if self.extra == b"":
            raise ProofMalformed("extra data that is there is not empty")
        try:
            Checkpoint.parse(parse_note(self.note).text)
        except NoteMalformed as error:
            raise ProofMalformed(f"the checkpoint: {error}") from None

    def encode(self) -> bytes:
        """The file.

        Raises:
            ProofMalformed: it would be longer than `MAX_PROOF`.
        """
        lines = [HEADER]
        if self.extra is not None:
            lines.append(_EXTRA + encode_base64(self.extra))
        lines.append(f"index {self.index}")
        lines += [encode_base64(part) for part in self.hashes]
        data = "".join(f"{line}\n" for line in (*lines, "")).encode() + self.note
        if len(data) > MAX_PROOF:
            raise ProofMalformed(f"a proof has at most {MAX_PROOF} bytes")
        return data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The proof that a file spells, of which there is exactly one spelling; nothing is verified yet.

        Raises:
            ProofMalformed: it is none, or beyond the bounds of this module.
        """
        if len(data) > MAX_PROOF:
            raise ProofMalformed(f"a proof has at most {MAX_PROOF} bytes")
        head, blank, note = data.partition(b"\n\n")
        if not blank:
            raise ProofMalformed("an empty line separates the proof from its checkpoint")
        try:
            header, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise ProofMalformed("the proof is not ASCII above its checkpoint") from None
        if header != HEADER:
            raise ProofMalformed(f"a proof begins with the line {HEADER}")
        extra = None
        if lines and lines[0].startswith(_EXTRA):
            extra = _decoded(lines.pop(0).removeprefix(_EXTRA), "extra")
        found = _INDEX.fullmatch(lines.pop(0)) if lines else None
        if found is None:
            raise ProofMalformed("there is no line: index, a space and a decimal number without leading zeroes")
        if len(lines) > MAX_HASHES:
            raise ProofMalformed(f"an audit path has at most {MAX_HASHES} hashes")
        hashes = tuple(_decoded(line, f"hash {number}") for number, line in enumerate(lines, start=1))
        return cls(int(found[1]), hashes, note, extra)


def _decoded(text: str, what: str) -> bytes:
    try:
        return decode_base64(text)
    except NoteMalformed as error:
        raise ProofMalformed(f"{what}: {error}") from None


def check(
    proof: Proof, entry: bytes | None, policy: Policy, now: int | None = None, *, tolerance: int = TOLERANCE
) -> Judged:
    """What the policy says about the proof's checkpoint, once the entry is found to be in it.

    Args:
        proof: the proof.
        entry: the entry's bytes; None takes the proof's own `extra` for the entry, which Triad's proofs carry.
        policy: which logs are trusted, and which witnesses must have cosigned.
        now: see `Policy.judge`.
        tolerance: see `Policy.judge`.

    Raises:
        NotIncluded: the entry is not at that index of that log, or there is neither an entry nor `extra`.
        PolicyUnmet: not enough witnesses cosigned.
        NoteUnverified: no log of the policy signed the checkpoint, or a signature is broken.
    """
    data = proof.extra if entry is None else entry
    if data is None:
        raise NotIncluded("the proof does not carry its entry, and none was given")
    judged = policy.require(proof.note, now, tolerance=tolerance)
    head = judged.checkpoint
    if proof.index >= head.size:
        raise NotIncluded(f"the checkpoint covers {head.size} entries; there is no entry {proof.index}")
    if not verify_inclusion(leaf_hash(data), proof.index, head.size, proof.hashes, head.root):
        raise NotIncluded(f"the audit path does not lead from this entry at index {proof.index} to the signed root")
    return judged
