"""How figures are gathered in bounded memory: durations by their size, and counts by name."""

from collections import Counter
from typing import Final

from pydantic import Field

from operations.canonical import Record

MOST_NAMES: Final = 5000
"""Different names that one tally tells apart; what comes after them counts together as `others`."""
SHOWN: Final = 50
"""Names of a tally that a report lists; the rest counts together."""
_EXACT: Final = 10
"""Bits of a duration that are kept: exact below 1,024 ms, within 0.2 % above."""


class Durations(Record):
    """How long something took, in milliseconds. `n` says how much that is worth."""

    name: str
    n: int
    least: int
    p50: int = Field(description="half of them took at most this; above 1,024 ms rounded down by less than 0.2 %")
    p95: int = Field(description="95 of 100 took at most this; rounded as p50")
    most: int
    total: int
    longest: int = Field(description="index of the entry that ended the longest")


class Named(Record):
    """A count under a name; `others` at the end of a list stands for the names that are not listed."""

    name: str
    n: int


class Spread:
    """Durations as counts by size: percentiles by nearest rank in memory that does not grow with the log."""

    __slots__ = ("_sizes", "least", "longest", "most", "n", "total")

    def __init__(self) -> None:
        self._sizes: Counter[int] = Counter()
        self.n = 0
        self.total = 0
        self.least = 0
        self.most = 0
        self.longest = 0

    def add(self, milliseconds: int, index: int) -> None:
        """Count one duration that entry `index` ended. Of equally long ones the newest is remembered."""
        milliseconds = max(milliseconds, 0)
        self._sizes[rounded(milliseconds)] += 1
        self.least = min(self.least, milliseconds) if self.n else milliseconds
        self.n += 1
        self.total += milliseconds
        if milliseconds >= self.most:
            self.most, self.longest = milliseconds, index

    def at(self, per_mille: int) -> int:
        """The duration that so many of 1,000 do not exceed; 0 when there is none."""
        rank, seen = -(-self.n * per_mille // 1000), 0
        for size in sorted(self._sizes):
            seen += self._sizes[size]
            if seen >= rank:
                return size
        return 0

    def named(self, name: str) -> Durations:
        """As a line of the report."""
        return Durations(
            name=name,
            n=self.n,
            least=self.least,
            p50=self.at(500),
            p95=self.at(950),
            most=self.most,
            total=self.total,
            longest=self.longest,
        )


def rounded(milliseconds: int) -> int:
    """A duration cut down to its ten leading bits."""
    spare = max(milliseconds.bit_length() - _EXACT, 0)
    return milliseconds >> spare << spare


class Tally:
    """Counts by name, of a bounded number of names."""

    __slots__ = ("_counts", "_others")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._others = 0

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more."""
        if name in self._counts:
            self._counts[name] += n
        elif len(self._counts) < MOST_NAMES:
            self._counts[name] = n
        else:
            self._others += n

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    @property
    def n(self) -> int:
        """All together."""
        return sum(self._counts.values()) + self._others

    def items(self) -> list[tuple[str, int]]:
        """Names with their counts, most frequent first, equal ones by name."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def named(self) -> tuple[Named, ...]:
        """As lines of the report."""
        ordered = self.items()
        rest = sum(n for _, n in ordered[SHOWN:]) + self._others
        shown = tuple(Named(name=name, n=n) for name, n in ordered[:SHOWN])
        return (*shown, Named(name="others", n=rest)) if rest else shown
