"""Which key the log signs with where, as its own entries say: the genesis names the first, each rotation the next."""

from collections.abc import Iterable
from typing import Final

from operations import events as e
from operations.canonical import Instant, Record
from operations.errors import LedgerCorrupt
from operations.model import PrincipalId
from storage.entry import Entry
from storage.verifier.checkpoint import NoteMalformed, VerifierKey

KINDS: Final = ("genesis", "key.rotated")
"""The kinds of entry that name a key of the log."""


class KeyPeriod(Record):
    """A key of the log and where it is in force: it signs the checkpoints from `since` + 1 to `until` + 1 entries."""

    vkey: str
    id: str
    since: int
    """Index of the first entry that carries it."""
    until: int | None = None
    """Index of the last one, which names the next key; None: it is in force."""
    began: Instant
    ended: Instant | None = None
    person: PrincipalId | None = None
    """Who ended it."""
    reason: str | None = None
    compromised: bool = False
    """Whether it may have been in somebody else's hands when it ended."""

    @property
    def key(self) -> VerifierKey:
        """The key itself."""
        return VerifierKey.parse(self.vkey)


class Rotation(Record):
    """A rotation that stands.

    `destroyed` is False when the private half of the previous key could not be removed yet: the next start tries again.
    """

    index: int
    previous: str
    key: str
    destroyed: bool


def succession(entries: Iterable[Entry]) -> tuple[KeyPeriod, ...]:
    """The keys that a log's entries name, oldest first. Entries of other kinds may be left out.

    Raises:
        LedgerCorrupt: a rotation follows upon another key than the one in force, or names what is no key.
    """
    periods: list[KeyPeriod] = []
    for entry in entries:
        match entry.event:
            case e.Genesis(keys=keys):
                named = [vkey for vkey in keys if _is_key_of(vkey, entry.origin)]
                periods += [_period(vkey, 0, entry) for vkey in named[:1]]
            case e.LogKeyRotated() as event:
                if periods:
                    last = periods[-1]
                    if last.vkey != event.previous:
                        raise LedgerCorrupt(f"Entry {entry.index} retires another key than the one in force.")
                    periods[-1] = last.model_copy(
                        update={
                            "until": entry.index,
                            "ended": entry.time,
                            "person": event.person,
                            "reason": event.reason,
                            "compromised": event.compromised,
                        }
                    )
                if not _is_key_of(event.key, entry.origin):
                    raise LedgerCorrupt(f"Entry {entry.index} names what is no key of this log.")
                periods.append(_period(event.key, entry.index + 1, entry))
            case _:
                continue
    return tuple(periods)


def _period(vkey: str, since: int, entry: Entry) -> KeyPeriod:
    return KeyPeriod(vkey=vkey, id=VerifierKey.parse(vkey).key_id.hex(), since=since, began=entry.time)


def _is_key_of(vkey: str, origin: str) -> bool:
    try:
        return VerifierKey.parse(vkey).name == origin
    except NoteMalformed:
        return False
