"""Canonical JSON, read strictly: RFC 8785 with integers alone, of which a value has exactly one spelling.

Source: https://www.rfc-editor.org/rfc/rfc8785. Beyond it: no floats (so no number needs another spelling than its
digits), integers within 2^53-1, ASCII keys, no U+0000, no lone surrogates, at most 16 levels of nesting.
"""

import json
from typing import Any, Final, NoReturn

SAFE_INTEGER: Final = 2**53 - 1
"""Largest integer that RFC 8785 allows without loss."""

MAX_DEPTH: Final = 16
"""Deepest nesting of arrays and objects."""


class NotCanonical(ValueError):
    """These bytes are not the canonical spelling of a JSON value."""


def _refuse_number(_: str) -> NoReturn:
    raise NotCanonical("a number that is no integer")


_DECODER: Final = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a text that is known to be canonical JSON."""
    return _DECODER.raw_decode(text)[0]


def parse(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value whose canonical bytes these are.

    Raises:
        NotCanonical: they are not, and in which way.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NotCanonical("not UTF-8") from None
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotCanonical(str(error) if isinstance(error, NotCanonical) else "not JSON") from None
    _check(value, 0)
    if _ENCODER.encode(value) != text:
        raise NotCanonical("not the canonical spelling: other order, spacing or escapes, or a key twice")
    return value


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """The canonical bytes of a value.

    Raises:
        NotCanonical: it has none.
    """
    _check(value, 0)
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        raise NotCanonical("a lone surrogate") from None


def _check(value: object, depth: int) -> None:  # noqa: C901 - one case a JSON type
    if isinstance(value, str):
        if "\x00" in value:
            raise NotCanonical("U+0000 in a string")
    elif isinstance(value, dict):
        if depth >= MAX_DEPTH:
            raise NotCanonical("nested too deeply")
        for key, item in value.items():
            if not key.isascii() or "\x00" in key:
                raise NotCanonical("a key that is not ASCII")
            _check(item, depth + 1)
    elif isinstance(value, list):
        if depth >= MAX_DEPTH:
            raise NotCanonical("nested too deeply")
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, int):
        if abs(value) > SAFE_INTEGER:
            raise NotCanonical("an integer beyond 2^53-1")
    elif value is not None:
        raise NotCanonical("a value that JSON does not have")
