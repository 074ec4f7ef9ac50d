"""Logs for tests of exports: real ones of any size, and made ones that shrink, fork and lie on purpose."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations.canonical import Json, canonical
from operations.errors import NotFound
from operations.events import AccessDenied, CrownHalted
from operations.model import Actor, Branch
from storage.ledger import Ledger
from storage.verifier import checkpoint, tree
from storage.verifier.checkpoint import Checkpoint, Note
from storage.verifier.tiles import HEIGHT, WIDTH, encode_bundle

ORIGIN = "triad.test/made"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CLEO = Actor(principal="cleo", branch=Branch.PEOPLE)


async def grow(ledger: Ledger, size: int) -> None:
    """Let a ledger reach `size` entries, a decision now and then among them."""
    missing = size - (await ledger.head()).size
    events = [
        CrownHalted(by="cleo", reason="Stop.")
        if n % 9 == 0
        else AccessDenied(action="halt", code="forbidden", reasons=(f"No {n}.",))
        for n in range(missing)
    ]
    for start in range(0, missing, 200):
        await asyncio.gather(*(ledger.note(event, CLEO) for event in events[start : start + 200]))


def made_entry(index: int, history: str = "", kind: str | None = None) -> bytes:
    """Something that looks like an entry to an export."""
    kind = kind or ("crown.halted" if index % 9 == 1 else "step.done")
    event: Json = {"kind": kind, "reason": f"{history}{index}"}
    return canonical({"constitution": hashlib.sha256(b"law").hexdigest(), "event": event, "index": index, "kind": kind})


@dataclass
class MadeLog:
    """A log in memory that is as honest as the test wants it to be."""

    entries: list[bytes]
    signed: int | None = None
    key: Ed25519PrivateKey = PRIVATE
    origin: str = ORIGIN
    blobs: Mapping[str, bytes] = field(default_factory=lambda: {hashlib.sha256(b"law").hexdigest(): b"law"})
    instead: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cosignatures: Sequence[checkpoint.Signature] = ()
    witnesses: str = "quorum none\n"
    witnessed: int | None = None

    @classmethod
    def of(cls, size: int, history: str = "") -> "MadeLog":
        return cls([made_entry(index, history) for index in range(size)])

    @property
    def size(self) -> int:
        return len(self.entries) if self.signed is None else self.signed

    def vkey(self) -> str:
        return checkpoint.encode_vkey(self.origin, self.key.public_key().public_bytes_raw())

    def note(self, size: int) -> bytes:
        text = Checkpoint(self.origin, size, tree.root_of(self.entries[:size])).text()
        return Note(text, (checkpoint.sign(text, self.origin, self.key), *self.cosignatures)).encode()

    async def checkpoint(self, size: int | None = None) -> bytes:
        return self.instead.get("checkpoint") or self.note(self.size if size is None else size)

    async def cosigned(self) -> bytes:
        if self.witnessed is None:
            raise NotFound("unknown-checkpoint", "No checkpoint has the cosignatures that the policy asks for.")
        return self.note(self.witnessed)

    async def tile(self, level: int, number: int, width: int) -> bytes:
        first, each = number * WIDTH, 1 << HEIGHT * level
        self.asked.append(f"tile {level}/{number}.{width}")
        if (first + width) * each > len(self.entries):
            raise NotFound("unknown-tile", "No.")
        return b"".join(tree.root_of(self.entries[at * each : (at + 1) * each]) for at in range(first, first + width))

    async def bundle(self, number: int, width: int) -> bytes:
        self.asked.append(f"entries {number}.{width}")
        if f"entries/{number}" in self.instead:
            return self.instead[f"entries/{number}"]
        if number * WIDTH + width > len(self.entries):
            raise NotFound("unknown-tile", "No.")
        return encode_bundle(self.entries[number * WIDTH : number * WIDTH + width])

    async def policy(self) -> bytes:
        return f"log {self.vkey()}\n{self.witnesses}".encode()

    async def constitution(self, digest: str) -> bytes:
        if digest not in self.blobs:
            raise NotFound("unknown-evidence", "No.")
        return self.blobs[digest]

    async def plan(self, digest: str) -> bytes:
        return await self.constitution(digest)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lasting(folder: Path) -> dict[str, bytes]:
    """What an export does not owe to when it was made: all but the checkpoints of earlier ones, and proofs' names."""
    kept = {name: data for name, data in content(folder).items() if not name.startswith("checkpoints/")}
    return {name: b"" if name.startswith("proofs/") else data for name, data in kept.items()}
