"""Proofs of single entries, made from the ledger; each carries its entry's bytes, so that one file tells all."""

from collections.abc import Iterable
from typing import Final

from operations.errors import LedgerCorrupt, NotFound
from storage.reader import Reader
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, NoteUnverified, parse_note
from storage.verifier.kinds import DECISIONS
from storage.verifier.policy import LogKey, Policy
from storage.verifier.proof import NotIncluded, Proof, ProofMalformed, check

_PAGE: Final = 1000


async def prove(reader: Reader, index: int, size: int | None = None) -> Proof:
    """The proof that the entry at `index` is in the log, under the newest checkpoint or the one of `size` entries.

    It is checked like anybody would before it is given away: what does not verify is no proof.

    Raises:
        NotFound: `unknown-entry`, `unknown-checkpoint` or `ledger-not-begun`.
        LedgerUnavailable: the ledger cannot be read.
        LedgerCorrupt: the entry or a subtree is missing, or they do not lead to what the log's keys signed.
    """
    try:
        note = await reader.checkpoint(size)
    except NotFound as error:
        if size is None:
            raise
        raise NotFound(error.code, *error.reasons, _nearest(await reader.sizes_near(size))) from error
    try:
        covered = Checkpoint.parse(parse_note(note).text).size
    except NoteMalformed as error:
        raise LedgerCorrupt(f"A stored checkpoint is not one: {error}.") from error
    if not 0 <= index < covered:
        raise NotFound("unknown-entry", f"The checkpoint covers {covered} entries.")
    rows = await reader.raw(after=index - 1, limit=1)
    if not rows or rows[0][0] != index:
        raise LedgerCorrupt(f"Entry {index} is missing, although it was signed for.")
    try:
        proof = Proof(index, tuple(await reader.inclusion(index, covered)), note, rows[0][1] or None)
    except ProofMalformed as error:
        raise LedgerCorrupt(f"No proof of entry {index} can be made: {error}.") from error
    holds(proof, [period.key for period in await reader.keys()])
    return proof


def holds(proof: Proof, keys: Iterable[LogKey]) -> None:
    """Nothing, where a proof that carries its entry leads to a checkpoint that one of these keys signed.

    Raises:
        LedgerCorrupt: it does not.
    """
    try:
        check(proof, None, Policy.of(keys))
    except (NotIncluded, NoteUnverified, NoteMalformed) as error:
        raise LedgerCorrupt(f"The proof of entry {proof.index} does not hold: {error}.") from error


def _nearest(sizes: tuple[int, ...]) -> str:
    return f"Near it are checkpoints of {' and '.join(map(str, sizes))} entries." if sizes else "There is none at all."


async def decisions(reader: Reader, operation: str) -> list[int]:
    """Indexes of everything that was decided about an operation, oldest first.

    Raises:
        NotFound: `unknown-operation`.
        LedgerUnavailable: the ledger cannot be read.
    """
    await reader.load(operation)
    found: list[int] = []
    while page := await reader.entries(
        after=found[-1] if found else -1, operation=operation, kinds=DECISIONS, limit=_PAGE
    ):
        found += [entry.index for entry in page]
    return found
