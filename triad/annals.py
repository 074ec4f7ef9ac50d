"""The constitutions that were in force, one after the other, as the ledger tells it. Their texts never expire."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from operations.canonical import Digest
from operations.errors import NotFound
from operations.events import ConstitutionAmended, ConstitutionProposed
from storage.entry import Entry
from storage.ledger import Ledger

_PAGE: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A time for which one constitution was in force: the entries `first` to `last`, None while it is."""

    digest: Digest
    first: int
    last: int | None
    since: datetime
    amendment: ConstitutionAmended | None


async def history(ledger: Ledger) -> tuple[Term, ...]:
    """Every constitution that was ever in force, oldest first; one that came back stands there twice.

    Raises:
        NotFound: `ledger-not-begun`.
    """
    begun = await ledger.entries(kinds={"genesis"}, limit=1)
    if not begun:
        raise NotFound("ledger-not-begun", "The ledger has no entry yet.")
    genesis = begun[0]
    terms = [Term(digest=genesis.constitution, first=0, last=None, since=genesis.time, amendment=None)]
    for entry in await _entries(ledger, "constitution.amended"):
        event = entry.event
        if isinstance(event, ConstitutionAmended):
            before = terms.pop()
            terms += [
                Term(
                    digest=before.digest,
                    first=before.first,
                    last=entry.index,
                    since=before.since,
                    amendment=before.amendment,
                ),
                Term(digest=event.enacted, first=entry.index + 1, last=None, since=entry.time, amendment=event),
            ]
    return tuple(terms)


async def text_of(ledger: Ledger, digest: Digest) -> str:
    """The text of a constitution that is or was in force, or was proposed.

    Raises:
        NotFound: `unknown-constitution`.
    """
    known = {term.digest for term in await history(ledger)}
    if digest not in known:
        known = {
            entry.event.proposed
            for entry in await _entries(ledger, "constitution.proposed")
            if isinstance(entry.event, ConstitutionProposed)
        }
    if digest not in known:
        raise NotFound("unknown-constitution", "No constitution of that digest was ever in force or proposed.")
    return (await ledger.evidence(digest)).decode()


async def _entries(ledger: Ledger, kind: str) -> list[Entry]:
    found: list[Entry] = []
    while page := await ledger.entries(after=found[-1].index if found else -1, kinds={kind}, limit=_PAGE):
        found += page
        if len(page) < _PAGE:
            break
    return found
