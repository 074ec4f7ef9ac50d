"""JSON from outside, read without mercy: what Triad cannot keep exactly, it does not accept.

Python's own parser takes duplicate keys, NaN, half surrogate pairs, U+0000 and numbers of any size; each of these
either has no canonical form (RFC 8785) or cannot be stored. A refusal names the place, never the value.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from operations.canonical import MAX_DEPTH, SAFE_INTEGER, Json
from operations.errors import InvalidRequest

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
"""Strings whole, so that what is in them does not count, and brackets. Possessive: no input makes it go back."""
_DIGITS: Final = len(str(SAFE_INTEGER))


@dataclass(frozen=True, slots=True)
class _Bad:
    """Stands in the tree where a value was that cannot be accepted."""

    code: str
    reason: str


def parse(data: bytes) -> Json:
    """The JSON value in `data`.

    Raises:
        InvalidRequest: with the field that is wrong.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("invalid-json", "The body is not UTF-8.") from None
    if _depth(text) > MAX_DEPTH:
        raise InvalidRequest("too-deep", f"The body is nested more than {MAX_DEPTH} levels deep.")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_fraction, parse_int=_integer, parse_constant=_fraction
        )
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidRequest("invalid-json", f"The body is not JSON{where}.") from None
    _accept(value, ())
    accepted: Json = value
    return accepted


def plain(parts: tuple[str | int, ...]) -> str:
    """A dotted path. Parts that a client made up are kept only where they are plain words."""
    return ".".join(str(part) if _PLAIN.fullmatch(str(part)) else "?" for part in parts) or "body"


def _depth(text: str) -> int:
    """The deepest nesting, counted without recursion; brackets inside strings do not count."""
    deepest = depth = 0
    for found in _BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, object]]) -> object:
    found: dict[str, object] = {}
    for key, value in pairs:
        found[key] = _Bad("duplicate-key", "The key stands there twice.") if key in found else value
    return found


def _fraction(_text: str) -> _Bad:
    return _Bad("not-an-integer", "Numbers are whole numbers; send decimals as strings.")


def _integer(text: str) -> int | _Bad:
    if len(text.lstrip("-")) <= _DIGITS and abs(number := int(text)) <= SAFE_INTEGER:
        return number
    return _Bad("integer-too-large", "Integers lie within 2^53-1; send larger ones as strings.")


def _accept(value: object, place: tuple[str | int, ...]) -> None:
    match value:
        case _Bad(code, reason):
            raise InvalidRequest(code, reason, field=plain(place))
        case str():
            _accept_text(value, place)
        case list():
            for number, item in enumerate(value):
                _accept(item, (*place, number))
        case dict():
            for key, item in value.items():
                if not key.isascii() or "\x00" in key:
                    raise InvalidRequest("bad-key", "Keys of objects are ASCII.", field=plain((*place, "?")))
                _accept(item, (*place, key))
        case _:
            return


def _accept_text(value: str, place: tuple[str | int, ...]) -> None:
    if "\x00" in value:
        raise InvalidRequest("bad-text", "U+0000 has no place in a text.", field=plain(place))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest("bad-text", "Half a surrogate pair is not a character.", field=plain(place)) from None
