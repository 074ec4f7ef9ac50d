"""One line of a benchmark's table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A measured value, and what it is compared with.

    Attributes:
        name: what was measured, in a few words.
        value: the measured number, in `unit`.
        unit: for example `us`, `entries/s`, `MiB`.
        ratio: the value as a multiple of a baseline measured in the same run, which holds on any machine.
        target: what the ratio or the value should reach, in words, for example `at least 2 x`.
        note: what the baseline was, or what else a reader must know.
    """

    name: str
    value: float
    unit: str
    ratio: float | None = None
    target: str = ""
    note: str = ""
