"""Times as people write them: `24h` ago, an RFC 3339 instant, a day; and the sizes that time is sliced into."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from operations.errors import InvalidRequest

DEFAULT: Final = "24h"
"""How far back an analysis looks when nobody says otherwise."""
FORM: Final = "like 24h, 7d, 90min, 2026-11-20, 2026-11-20T18:00:00Z, or `begin`"
BEGIN: Final = "begin"
"""The log's first entry."""
BUCKETS: Final = {
    "1min": 60,
    "5min": 300,
    "15min": 900,
    "1h": 3600,
    "6h": 21_600,
    "1d": 86_400,
    "7d": 604_800,
}
"""Seconds of each bucket."""
MOST_BUCKETS: Final = 500
"""Buckets that a range may have."""
_FEW: Final = 60
_AGO: Final = re.compile(r"(\d{1,6})(s|min|m|h|d|w)", re.ASCII)
_UNIT: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII | re.IGNORECASE
)


def moment(text: str, at: datetime, field: str) -> datetime | None:
    """The time that a text names, seen from `at`; None for the beginning of the log.

    A time without a zone is in UTC, and a day alone is its midnight.

    Raises:
        InvalidRequest: `invalid-field`; the value is not repeated.
    """
    text = text.strip()
    if text.lower() == BEGIN:
        return None
    ago = _AGO.fullmatch(text.lower())
    try:
        if ago:
            return at - timedelta(seconds=int(ago[1]) * _UNIT[ago[2]])
        if _INSTANT.fullmatch(text):
            found = datetime.fromisoformat(text.upper())
            found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
            return found.replace(microsecond=found.microsecond // 1000 * 1000)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest("invalid-field", f"{field}: write it {FORM}.", field=field)


def bucket_of(name: str | None, length: timedelta) -> int:
    """Seconds of the bucket with that name; without a name the smallest that makes at most 60 of the range.

    Raises:
        InvalidRequest: there is no such bucket, or the range would have more than 500 of them.
    """
    seconds = length.total_seconds()
    if name is None:
        return next((size for size in BUCKETS.values() if seconds <= size * _FEW), _widest(seconds))
    size = BUCKETS.get(name)
    if size is None:
        raise InvalidRequest("invalid-field", f"bucket: one of {', '.join(BUCKETS)}.", field="bucket")
    if seconds > size * MOST_BUCKETS:
        raise InvalidRequest(
            "invalid-field", f"bucket: the range would have more than {MOST_BUCKETS} of them.", field="bucket"
        )
    return size


def _widest(seconds: float) -> int:
    """Whole weeks, as many as are needed for at most 500 buckets."""
    week = BUCKETS["7d"]
    return week * max(1, -int(-seconds // (week * MOST_BUCKETS)))
