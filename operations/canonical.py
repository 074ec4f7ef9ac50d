"""Canonical bytes (RFC 8785), digests, ids and the base record every domain type builds on.

Numbers are integers within 2^53-1; decimals travel as strings. The fast path is orjson with sorted keys,
which equals RFC 8785 as long as object keys are ASCII; `canonical` refuses everything else.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, StringConstraints
from typing_extensions import TypeAliasType

SAFE_INTEGER: Final = 2**53 - 1
"""Largest integer that RFC 8785 allows without loss."""

MAX_DEPTH: Final = 16
"""Deepest nesting of a JSON value that Triad accepts."""

Json = TypeAliasType("Json", "str | int | bool | list[Json] | dict[str, Json] | None")
"""A JSON value without floats."""

JsonObject = dict[str, Json]

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _utc_milliseconds(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone")
    try:
        value = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time in UTC lies within the years 1 to 9999") from error
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def instant(value: datetime) -> datetime:
    """The same moment as an `Instant`.

    Raises:
        ValueError: it has no zone, or lies outside the years 1 to 9999 in UTC.
    """
    if value.tzinfo is UTC and not value.microsecond % 1000:
        return value
    return _utc_milliseconds(value)


def instant_text(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-11-20T18:00:00.000Z`."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


Instant = Annotated[
    datetime,
    AfterValidator(_utc_milliseconds),
    PlainSerializer(instant_text, return_type=str, when_used="json"),
]
"""A point in time: UTC, millisecond precision."""


def now() -> datetime:
    """The current time as an `Instant`."""
    value = datetime.now(UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


class Record(BaseModel):
    """A frozen value that knows all its fields and refuses others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _check(value: Json, depth: int) -> None:  # noqa: C901, PLR0912 - one case a JSON type
    if isinstance(value, dict):
        for key in value:
            if not key.isascii() or "\x00" in key:
                raise ValueError("object keys must be ASCII")
        items: Iterable[Json] = value.values()
    elif isinstance(value, list):
        items = value
    else:
        items = (value,)
        depth -= 1
    if depth >= MAX_DEPTH and items:
        raise ValueError("nested too deeply")
    for item in items:  # a loop, not a call, for each scalar: this is on the path of every ledger entry
        if isinstance(item, str):
            if "\x00" in item:
                raise ValueError("U+0000 in a string")
        elif isinstance(item, dict | list):
            _check(item, depth + 1)
        elif item is None or isinstance(item, bool):
            continue
        elif not isinstance(item, int):
            raise ValueError(f"{type(item).__name__} has no canonical form")
        elif abs(item) > SAFE_INTEGER:
            raise ValueError("integer beyond 2^53-1")


def canonical(value: Json, *, depth: int = 0) -> bytes:
    """RFC 8785 bytes of `value`.

    Args:
        value: what is to be written.
        depth: how many levels it lies below the top of what it is part of.

    Raises:
        ValueError: floats, integers beyond 2^53-1, U+0000, lone surrogates, keys outside ASCII, depth over 16.
    """
    _check(value, depth)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise ValueError(str(error)) from error


def canonical_record(record: BaseModel, *, depth: int = 0) -> bytes:
    """RFC 8785 bytes of a record; fields that are None are left out. `depth` as in `canonical`."""
    return canonical(record.model_dump(mode="json", exclude_none=True), depth=depth)


def sha256(data: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: BaseModel | Json) -> str:
    """SHA-256 over the canonical bytes of a record or JSON value."""
    return sha256(canonical_record(value) if isinstance(value, BaseModel) else canonical(value))


def decode(data: bytes | str) -> Any:  # noqa: ANN401 - the caller validates
    """Parse JSON that Triad itself wrote. Input from outside goes through the API's strict parser."""
    return orjson.loads(data)


def new_id(prefix: str) -> str:
    """A ULID behind a prefix: sorts by creation time, 80 random bits."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return f"{prefix}_" + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
