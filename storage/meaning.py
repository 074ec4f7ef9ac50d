"""What an entry asks an export to keep beside it: read from its bytes, which need not be an entry of ours at all."""

import json
from array import array
from dataclasses import dataclass, field
from typing import Any

from operations.canonical import Digest
from storage.verifier.kinds import DECISIONS


@dataclass(slots=True)
class Meaning:
    """Collected over entries as they go by.

    Attributes:
        decisions: indexes of the entries that get a proof.
        rotations: indexes of the entries after which the log signs with another key.
        constitutions: digests of those in force, not taken yet.
        plans: digests of those proposed, not taken yet.
        deleted: which entry says of a digest that what it names was deleted, and why, as a sentence.
    """

    decisions: "array[int]" = field(default_factory=lambda: array("Q"))
    rotations: list[int] = field(default_factory=list)
    constitutions: dict[Digest, None] = field(default_factory=dict)
    plans: dict[Digest, None] = field(default_factory=dict)
    deleted: dict[Digest, str] = field(default_factory=dict)
    _last: object = None

    def add(self, index: int, entry: bytes) -> None:
        """The entry at `index`; what cannot be read has no meaning, which is the verifier's to say."""
        try:
            found = json.loads(entry)
        except (ValueError, RecursionError):
            return
        if not isinstance(found, dict):
            return
        if found.get("constitution") != self._last:
            self._last = found.get("constitution")
            _note(self.constitutions, self._last)
        kind, event = found.get("kind"), found.get("event")
        if not isinstance(kind, str) or not isinstance(event, dict):
            return
        if kind in DECISIONS:
            self.decisions.append(index)
        self._look_inside(index, kind, event)

    def _look_inside(self, index: int, kind: str, event: dict[str, Any]) -> None:
        match kind:
            case "plan.proposed":
                _note(self.plans, event.get("plan"))
            case "constitution.amended":
                _note(self.constitutions, event.get("enacted"))
            case "evidence.expired":
                self._gone(index, event.get("digests"), "It expired")
            case "personal.erased":
                self._gone(index, event.get("evidence"), "It was erased as personal")
            case "key.rotated":
                self.rotations.append(index)
            case _:
                pass

    def _gone(self, index: int, digests: object, how: str) -> None:
        if isinstance(digests, list):
            self.deleted.update((each, f"{how}: entry {index}.") for each in digests if isinstance(each, str))


def _note(digests: dict[Digest, None], found: object) -> None:
    if isinstance(found, str) and len(found) == 64 and set(found) <= set("0123456789abcdef"):  # noqa: PLR2004 - a SHA-256
        digests[found] = None
