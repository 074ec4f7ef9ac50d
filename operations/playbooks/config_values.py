"""A configuration as values under paths: what the formats read, change and compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from operations.errors import PlaybookFailed

Path = tuple[str, ...]
Leaves = dict[Path, object]
"""Every value that is not itself a table, under its path; lists are values."""
Value = str | int | bool | list[str | int | bool]


@dataclass(frozen=True, slots=True)
class Edit:
    """One value to set, or with None to remove."""

    path: Path
    value: Value | None


def invalid(kind: str, where: str = "") -> NoReturn:
    """Refuse a text that is not of its format, without quoting it.

    Raises:
        PlaybookFailed: `config-invalid`, always.
    """
    raise PlaybookFailed("config-invalid", f"The configuration is not valid {kind}{where}.")


def flatten(value: object, path: Path = ()) -> Leaves:
    """The values of nested tables under their paths; empty tables leave no trace, other than text keys are marked."""
    if not isinstance(value, dict):
        return {path: value}
    found: Leaves = {}
    for key, item in value.items():
        found.update(flatten(item, (*path, key if isinstance(key, str) else f"\0{key!r}")))
    return found


def same(left: object, right: object) -> bool:
    """Equality that tells true from 1 and 1 from 1.0."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def as_it_is(value: Value) -> object:
    """What a format with types reads back after `value` was written."""
    return value


def flat_text(value: Value) -> str:
    """What a format without types reads back after `value` was written: `true`, `8080`, the text itself.

    Raises:
        PlaybookFailed: `change-not-representable`.
    """
    if isinstance(value, list):
        raise PlaybookFailed("change-not-representable", "This format has no lists.")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text != text.strip() or not text.isprintable():
        raise PlaybookFailed(
            "change-not-representable", "This format has no line breaks and no outer spaces in values."
        )
    return text
