"""How fast a whole log is verified: its root and signature alone, and with what the entries mean replayed as well.

The entries are those of governed operations, about 22 each. For the hashing they are repeated until there are enough,
since hashing does not care what they say; semantics replays the log as it is.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evals.benchmarks.operation import fresh_home, governed, governing, minds_of, served_stub, stub_model
from evals.benchmarks.row import Row
from storage.entry import Entry
from storage.verifier.checkpoint import Checkpoint, Note, VerifierKey, sign
from storage.verifier.policy import Policy
from storage.verifier.report import Report
from storage.verifier.tree import root_of
from storage.verifier.verification import verify

_AT_ONCE: Final = 8


async def measure(*, quick: bool = False) -> AsyncIterator[Row]:
    """Hashing first, then hashing and semantics."""
    rounds, number, times = (3, 50_000, 3) if quick else (30, 400_000, 5)
    entries, note, policy = await _recorded(rounds)
    many = (entries * (number // len(entries) + 1))[:number]
    whole, trusted = _signed(policy.keys[0].name, many)
    rate = _rate(lambda: verify(many, whole, trusted, semantics=False), len(many), times)
    yield Row(
        "verifying: signature and root", rate, "entries/s", target="200,000 entries/s", note=f"{number:,} entries"
    )
    meant = _rate(lambda: verify(entries, note, policy), len(entries), times)
    note_ = f"{len(entries):,} entries of governed operations"
    yield Row("verifying: with semantics", meant, "entries/s", note=note_)


async def _recorded(rounds: int) -> tuple[list[bytes], bytes, Policy]:
    async with (
        served_stub() as port,
        fresh_home() as (home, server),
        governing(home, server, minds_of(stub_model(port))) as triad,
    ):
        run = governed(triad)
        for _ in range(rounds):
            await asyncio.gather(*(run() for _ in range(_AT_ONCE)))
        note = await triad.ledger.checkpoint()
        entries: list[bytes] = []
        while page := await triad.ledger.raw(after=len(entries) - 1):
            entries += [data for _, data in page]
        return entries, note, Policy.of((triad.signer.key,))


def _signed(origin: str, entries: list[bytes]) -> tuple[bytes, Policy]:
    """A checkpoint over these entries by a key of its own, which the first of them is made to name, and its policy."""
    private = Ed25519PrivateKey.generate()
    key = VerifierKey(origin, private.public_key().public_bytes_raw())
    genesis = Entry.decode(entries[0])
    event = genesis.event.model_copy(update={"keys": (key.text(),)})
    entries[0] = genesis.model_copy(update={"event": event, "key": key.key_id.hex()}).encode()
    text = Checkpoint(origin, len(entries), root_of(entries)).text()
    return Note(text, (sign(text, origin, private),)).encode(), Policy.of((key,))


def _rate(run: Callable[[], Report], entries: int, times: int) -> float:
    """Entries a second, the median of several times.

    Raises:
        RuntimeError: the log does not verify.
    """
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        report = run()
        seconds.append(time.perf_counter() - begun)
        if not report.ok:
            raise RuntimeError(f"The log does not verify: {report}")
    return entries / statistics.median(seconds)
