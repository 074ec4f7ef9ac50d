"""How easily chance alone makes a difference, so that small numbers do not shout. Integers only: no rounding anywhere.

Two counts over equally long times are compared by the exact conditional test (given their sum, each event falls into
either half with probability one half), two shares by Fisher's exact test, both two-sided. Beyond a thousand events the
chi-squared statistic with one degree of freedom takes their place.
"""

from math import comb
from typing import Final

LEVELS: Final = (20, 100, 1000)
"""One over the probabilities 0.05, 0.01 and 0.001."""
WORDS: Final = ("p >= 0.05", "p < 0.05", "p < 0.01", "p < 0.001")
_CRITICAL: Final = (384, 663, 1083)
"""Hundredths of the chi-squared value that is exceeded with these probabilities."""
_EXACT: Final = 1000


def counts_differ(one: int, two: int) -> int:
    """0 to 3: how many of `LEVELS` the difference of two counts over equally long times reaches."""
    n = one + two
    if n > _EXACT:
        return sum(100 * (one - two) ** 2 > value * n for value in _CRITICAL)
    tail = sum(comb(n, k) for k in range(min(one, two) + 1))
    return sum(2 * tail * level < 2**n for level in LEVELS)


def shares_differ(one: int, of_one: int, two: int, of_two: int) -> int:
    """0 to 3: how many of `LEVELS` the difference between `one` of `of_one` and `two` of `of_two` reaches."""
    total, hits = of_one + of_two, one + two
    if not of_one or not of_two or hits in {0, total}:
        return 0
    if total > _EXACT:
        cross = one * (of_two - two) - two * (of_one - one)
        return sum(100 * total * cross**2 > value * of_one * of_two * hits * (total - hits) for value in _CRITICAL)
    observed = comb(of_one, one) * comb(of_two, two)
    ways = (comb(of_one, k) * comb(of_two, hits - k) for k in range(max(0, hits - of_two), min(of_one, hits) + 1))
    tail = sum(each for each in ways if each <= observed)
    return sum(tail * level < comb(total, hits) for level in LEVELS)
