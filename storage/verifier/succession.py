"""Which key of the log came after which, as the entries themselves say, and whom a trusted key passed the log on to."""

from collections.abc import Container
from typing import Final, NamedTuple

from .checkpoint import NoteMalformed, NoteUnverified, VerifierKey, verify_note
from .policy import Policy
from .spelling import EntryMalformed, read_entry

_ROTATED: Final = b'"kind":"key.rotated"'


class Passed(NamedTuple):
    """What an entry says about a rotation of the log's key."""

    previous: VerifierKey
    following: VerifierKey


class Succession:
    """Reads the log's keys out of its entries, whether or not their meaning is replayed.

    Attributes:
        in_force: the key in force after what was read; None where the log names none.
        passed: rotations by the size of the log that ends with each; only those that are looked for.

    Args:
        origin: the log's name, which its keys bear.
        wanted: the sizes that are looked for.
    """

    def __init__(self, origin: str, wanted: Container[int]) -> None:
        self.in_force: VerifierKey | None = None
        self.passed: dict[int, Passed] = {}
        self._origin = origin
        self._wanted = wanted

    def add(self, at: int, data: bytes) -> None:
        """The entry at position `at`; what is no entry says nothing here."""
        if at and _ROTATED not in data:
            return
        try:
            entry = read_entry(data)
            event = entry["event"]
            if entry["kind"] == "genesis" and at == 0:
                self._begin(entry["key"], event["keys"])
            elif entry["kind"] == "key.rotated":
                found = Passed(VerifierKey.parse(event["previous"]), VerifierKey.parse(event["key"]))
                if found.following.name == self._origin:
                    self.in_force = found.following
                    if at + 1 in self._wanted:
                        self.passed[at + 1] = found
        except (EntryMalformed, NoteMalformed):
            return

    def _begin(self, ident: str, keys: list[str]) -> None:
        for text in keys:
            key = VerifierKey.parse(text)
            if key.name == self._origin and key.key_id.hex() == ident:
                self.in_force = key


def heir(passed: Passed, policy: Policy, note: bytes) -> VerifierKey | None:
    """The key to trust after a rotation: a trusted key and that key both signed its note. None where that is not so.

    A key of a witness that the policy asks for does not become the log's: the log would then be its own witness.
    """
    previous, following = passed
    if previous not in policy.keys or following.name != previous.name:
        return None
    if any(witness.key.public == following.public for witness in policy.witnesses):
        return None
    try:
        verify_note(note, previous)
        verify_note(note, following)
    except (NoteMalformed, NoteUnverified):
        return None
    return following
