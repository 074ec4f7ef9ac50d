"""Proofs of single entries, made from the ledger; each carries its entry's bytes, so that one file tells all."""

from operations.errors import NotFound
from storage.reader import Reader
from storage.verifier.checkpoint import Checkpoint, parse_note
from storage.verifier.kinds import DECISIONS
from storage.verifier.proof import Proof


async def prove(reader: Reader, index: int, size: int | None = None) -> Proof:
    """The proof that the entry at `index` is in the log, under the newest checkpoint or the one of `size` entries.

    Raises:
        NotFound: `unknown-entry`, `unknown-checkpoint` or `ledger-not-begun`.
        LedgerUnavailable: the ledger cannot be read.
        LedgerCorrupt: a subtree is missing.
    """
    note = await reader.checkpoint(size)
    covered = Checkpoint.parse(parse_note(note).text).size
    if not 0 <= index < covered:
        raise NotFound("unknown-entry", f"The checkpoint covers {covered} entries.")
    (_, entry), *_ = await reader.raw(after=index - 1, limit=1)
    return Proof(index, tuple(await reader.inclusion(index, covered)), note, entry)


async def decisions(reader: Reader, operation: str) -> list[int]:
    """Indexes of everything that was decided about an operation, oldest first.

    Raises:
        NotFound: `unknown-operation`.
        LedgerUnavailable: the ledger cannot be read.
    """
    await reader.load(operation)
    found: list[int] = []
    while page := await reader.entries(
        after=found[-1] if found else -1, operation=operation, kinds=DECISIONS, limit=1000
    ):
        found += [entry.index for entry in page]
    return found
