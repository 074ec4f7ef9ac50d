"""Figures as words: durations in at most two units, shares in per cent, counts with the word that fits them."""

from typing import Final

_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))
_TENTHS: Final = 60_000


def spell(milliseconds: int) -> str:
    """`850 ms`, `3.4 s`, `5 min 20 s`, `2 h 3 min`, `4 d 2 h`."""
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds} ms"
    if milliseconds < _TENTHS:
        return f"{milliseconds // 1000}.{milliseconds % 1000 // 100} s"
    for position, (unit, size) in enumerate(_UNITS):
        if milliseconds >= size:
            whole, rest = divmod(milliseconds, size)
            lower, smaller = _UNITS[position + 1]
            return f"{whole} {unit} {rest // smaller} {lower}" if rest >= smaller else f"{whole} {unit}"
    raise AssertionError(milliseconds)


def per_mille(part: int, of: int) -> int | None:
    """So many of 1,000, rounded down; None of nothing."""
    return part * 1000 // of if of else None


def percent(part: int, of: int) -> str:
    """`12.3 %`; `-` of nothing."""
    share = per_mille(part, of)
    return "-" if share is None else f"{share // 10}.{share % 10} %"


def count(n: int, one: str, many: str | None = None) -> str:
    """`1 entry`, `2 entries`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
