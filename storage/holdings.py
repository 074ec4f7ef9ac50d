"""Whether the evidence that entries name is there, as it was, or was deleted by an entry that could let it go."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, NamedTuple

import asyncpg

from operations.stages import Stage

_PREFETCH: Final = 2048
_TERMINAL: Final = frozenset(stage.value for stage in Stage if stage.terminal)
_THERE: Final = "SELECT digest FROM evidence WHERE digest = ANY($1)"
_RETURNED: Final = "SELECT DISTINCT digest FROM evidence_gone JOIN evidence USING (digest)"
_SPOILT: Final = "SELECT digest FROM evidence WHERE digest IS DISTINCT FROM encode(sha256(body), 'hex')"


class Named(NamedTuple):
    """That an entry names a piece of evidence, and as what."""

    digest: str
    kind: str


class _Use(NamedTuple):
    """The newest entry that names a piece, whatever forbids to delete it, and all operations that it belongs to."""

    entry: int
    kinds: frozenset[str]
    operations: frozenset[str]

    def after(self, before: "_Use | None") -> "_Use":
        """This use, with what earlier ones forbid."""
        if before is None:
            return self
        return _Use(self.entry, self.kinds | before.kinds, self.operations | before.operations)


class _Deleted(NamedTuple):
    """The newest entry that says a piece was deleted."""

    entry: int
    erased: bool


class Holdings:
    """What entries say about evidence; read one after the other, then compared with what is stored.

    Held are only the digests of what was deleted or is not there, and those of a page that is yet to be looked up.

    Args:
        connection: inside one snapshot.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._page: dict[str, _Use] = {}
        self._absent: dict[str, _Use] = {}
        self._deleted: dict[str, _Deleted] = {}
        self._again: set[str] = set()

    def read(self, index: int, entry: Mapping[str, Any]) -> None:
        """Note what an entry names, and what it says was deleted.

        Raises:
            KeyError: it lacks what an entry of its kind has.
            TypeError: it has something else there.
        """
        operation = entry.get("operation")
        operations = frozenset({operation} if operation is not None else ())
        for each in named(entry):
            use = _Use(index, frozenset({each.kind}), operations)
            self._page[each.digest] = use.after(self._page.get(each.digest))
            if each.digest in self._deleted:
                self._again.add(each.digest)
        erased = entry["kind"] == "personal.erased"
        if erased or entry["kind"] == "evidence.expired":
            for digest in entry["event"].get("evidence" if erased else "digests", ()):
                self._deleted[digest] = _Deleted(index, erased)
                self._again.discard(digest)

    async def look_up(self) -> None:
        """Find out which of what was named since the last time is there."""
        if not self._page:
            return
        found = await self._connection.fetch(_THERE, list(self._page))
        there = {row["digest"] for row in found}
        for digest, use in self._page.items():
            if digest not in there:
                self._absent[digest] = use.after(self._absent.get(digest))
        self._page.clear()

    def missing(self, stages: Mapping[str, str]) -> Iterator[str]:
        """What is not there and may not be gone, in sentences.

        Args:
            stages: where each operation's entries lead to.
        """
        for digest, use in self._absent.items():
            if why := _unlawful(use, self._deleted.get(digest), stages):
                yield f"The evidence {digest} is not there: entry {use.entry} names it, and {why}."

    async def returned(self) -> AsyncIterator[str]:
        """What was deleted and is there again although no later entry names it, in sentences."""
        async for row in self._connection.cursor(_RETURNED, prefetch=_PREFETCH):
            gone = self._deleted.get(row["digest"])
            if gone is not None and row["digest"] not in self._again:
                yield f"The evidence {row['digest']} was deleted by entry {gone.entry} and is there again."

    async def spoilt(self) -> AsyncIterator[str]:
        """What is stored under another digest than its own, in sentences; the database computes it."""
        async for row in self._connection.cursor(_SPOILT, prefetch=_PREFETCH):
            yield f"The evidence {row['digest']} is not what its digest says."


def _unlawful(use: _Use, gone: _Deleted | None, stages: Mapping[str, str]) -> str | None:
    if gone is None or gone.entry < use.entry:
        return "no entry says that it was deleted"
    if "constitution" in use.kinds:
        return "the text of a constitution is never deleted"
    if any(stages.get(operation) not in _TERMINAL for operation in use.operations):
        return "its operation has not ended"
    if "plan" in use.kinds and not gone.erased:
        return "a plan does not expire"
    return None


def named(entry: Mapping[str, Any]) -> Iterator[Named]:
    """The evidence that an entry names: the same as `evidence_index` notes in the database."""
    event = entry["event"]
    match entry["kind"]:
        case "genesis":
            yield Named(entry["constitution"], "constitution")
        case "constitution.proposed":
            yield Named(event["proposed"], "constitution")
        case "constitution.amended":
            yield Named(event["enacted"], "constitution")
        case "plan.proposed":
            yield Named(event["plan"], "plan")
        case "step.intent":
            if (snapshot := event.get("snapshot")) is not None:
                yield Named(snapshot, "snapshot")
        case "step.done" | "step.failed":
            for digest in event.get("evidence", ()):
                yield Named(digest, "step")
        case "report.stored":
            yield Named(event["report"], "report")
        case _:
            return
