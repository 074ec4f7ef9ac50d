"""One entry of the ledger as the analysis reads it: decoded once, and trusted as far as the ledger is.

Verification is another tool's work (`triad audit verify`); here only what the figures need is looked at.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds_of(text: str) -> int:
    """Milliseconds since 1970 of an entry's time."""
    return milliseconds(datetime.fromisoformat(text))


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970."""
    return (at - _EPOCH) // _MILLISECOND


def instant(at: int) -> datetime:
    """The time so many milliseconds after 1970."""
    return _EPOCH + at * _MILLISECOND


class Fact:
    """What one entry says.

    Attributes:
        index: its place in the log.
        time: milliseconds since 1970.
        kind: of its event.
        operation: the id of its operation, where it has one.
        branch: that acted.
        principal: that acted.
        model: that was asked, where one was.
        tokens: that went into the model and came out of it.
        before: the operation's stage before it.
        after: the operation's stage after it.
        event: the event's own fields.
    """

    __slots__ = (
        "after",
        "before",
        "branch",
        "event",
        "index",
        "kind",
        "model",
        "operation",
        "principal",
        "time",
        "tokens",
    )

    def __init__(self, data: bytes) -> None:
        entry: dict[str, Any] = orjson.loads(data)
        self.index: int = entry["index"]
        self.time = milliseconds_of(entry["time"])
        self.kind: str = entry["kind"]
        self.operation: str | None = entry.get("operation")
        self.branch: str = entry["branch"]
        self.principal: str = entry["principal"]
        self.model: str | None = entry.get("model")
        used = entry.get("tokens")
        self.tokens: tuple[int, int] | None = (used["input"], used["output"]) if used else None
        self.before: str | None = entry.get("before")
        self.after: str | None = entry.get("after")
        self.event: dict[str, Any] = entry["event"]

    @property
    def moved(self) -> bool:
        """Whether the operation's stage is another one after it."""
        return self.after is not None and self.after != self.before
