"""The shapes of entries and plans: a small compiler for the part of JSON Schema that `entry.schema.json` uses.

A schema becomes one function that raises where a value departs from it. A keyword that is not known is an error when
the schema is compiled, never ignored. Source: https://json-schema.org/draft/2020-12.
"""

import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

Json = dict[str, Any]
Check = Callable[[Any], None]
"""Raises `Mismatch` where the value departs from the shape."""

SCHEMA: Final = "entry.schema.json"
"""The file beside this one; it is made from the server's own records."""

INSTANT: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"
"""The pattern of the one `format` that is known, `date-time`: UTC with milliseconds."""

_WORDS: Final = frozenset({"title", "description", "$schema", "$id", "$defs", "$comment"})
_DAY: Final = re.compile(
    r"(?!0000)[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?!0000)(?:[02468][048]|[13579][26])00)-02-29",
    re.ASCII,
)
_CLOCK: Final = re.compile(r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z", re.ASCII)
DATE_TIME: Final = re.compile(f"(?:{_DAY.pattern}){_CLOCK.pattern}", re.ASCII)
"""A point in time that exists, in its one spelling."""


class SchemaUnknown(ValueError):
    """The schema uses what this compiler does not know."""


class Mismatch(ValueError):
    """A value departs from its shape; the message says where, and never repeats the value."""


def schema() -> Json:
    """The schema as it lies beside this module.

    Raises:
        SchemaUnknown: it is missing.
    """
    data = pkgutil.get_data(__package__ or "verifier", SCHEMA)
    if data is None:
        raise SchemaUnknown(f"{SCHEMA} is missing")
    found: Json = json.loads(data)
    return found


@cache
def entry_shape() -> Check:
    """What every entry must look like."""
    return compile_schema(schema(), "Entry")


@cache
def plan_shape() -> Check:
    """What every plan must look like."""
    return compile_schema(schema(), "Plan")


def compile_schema(document: Mapping[str, Any], name: str) -> Check:
    """The check for `#/$defs/<name>` of a document.

    Raises:
        SchemaUnknown: a keyword, or a use of one, that is not known.
    """
    compiler = _Compiler(document["$defs"])
    check = compiler.of(name)
    compiler.finish()
    return check


class _Compiler:
    def __init__(self, definitions: Mapping[str, Json]) -> None:
        self._definitions = definitions
        self._done: dict[str, Check | None] = {}

    def of(self, name: str) -> Check:
        if name not in self._definitions:
            raise SchemaUnknown(f"there is no definition {name}")
        found = self._done.get(name)
        if found is not None:
            return found
        if name in self._done:
            return lambda value: self._late(name)(value)  # noqa: PLW0108 - looked up when it is there
        self._done[name] = None
        check = self._done[name] = self.compile(self._definitions[name])
        return check

    def finish(self) -> None:
        for name in self._definitions:
            self.of(name)

    def _late(self, name: str) -> Check:
        found = self._done[name]
        if found is None:
            raise SchemaUnknown(f"{name} is defined by itself")
        return found

    def compile(self, node: Mapping[str, Any]) -> Check:  # noqa: C901, PLR0911 - one case a keyword
        rest = {key: value for key, value in node.items() if key not in _WORDS}
        if "$ref" in rest:
            name = rest.pop("$ref").removeprefix("#/$defs/")
            _nothing_left(rest)
            return self.of(name)
        if "oneOf" in rest:
            return self._tagged(rest)
        if "anyOf" in rest:
            return self._any(rest)
        if "const" in rest or "enum" in rest:
            return _closed(rest)
        match rest.pop("type", None):
            case "string":
                return _string(rest)
            case "integer":
                return _integer(rest)
            case "boolean":
                _nothing_left(rest)
                return _boolean
            case "null":
                _nothing_left(rest)
                return _null
            case "array":
                return self._array(rest)
            case "object":
                return self._object(rest)
            case other:
                raise SchemaUnknown(f"the type {other}")

    def _tagged(self, rest: Json) -> Check:
        """One of several objects, told apart by the constant in their `kind`."""
        alternatives: dict[str, Check] = {}
        for each in rest.pop("oneOf"):
            name = each["$ref"].removeprefix("#/$defs/")
            kind = self._definitions[name]["properties"]["kind"]["const"]
            alternatives[kind] = self.of(name)
        _nothing_left(rest)

        def tagged(value: Any) -> None:  # noqa: ANN401 - any JSON value
            if type(value) is not dict:
                raise Mismatch("must be an object")
            kind = value.get("kind")
            check = alternatives.get(kind) if type(kind) is str else None
            if check is None:
                raise Mismatch("kind: is not known")
            check(value)

        return tagged

    def _any(self, rest: Json) -> Check:
        alternatives = [self.compile(each) for each in rest.pop("anyOf")]
        _nothing_left(rest)

        def any_of(value: Any) -> None:  # noqa: ANN401 - any JSON value
            for check in alternatives:
                try:
                    check(value)
                except Mismatch:
                    continue
                return
            raise Mismatch("is none of what it may be")

        return any_of

    def _array(self, rest: Json) -> Check:
        check = self.compile(rest.pop("items"))
        least, most, unique = rest.pop("minItems", 0), rest.pop("maxItems", None), rest.pop("uniqueItems", False)
        _nothing_left(rest)

        def array(value: Any) -> None:  # noqa: ANN401 - any JSON value
            if type(value) is not list:
                raise Mismatch("must be an array")
            if len(value) < least or (most is not None and len(value) > most):
                raise Mismatch("has too few or too many items")
            for number, item in enumerate(value):
                try:
                    check(item)
                except Mismatch as error:
                    raise _within(str(number), error) from None
            if unique and len({json.dumps(item) for item in value}) != len(value):
                raise Mismatch("has an item twice")

        return array

    def _object(self, rest: Json) -> Check:
        properties = {name: self.compile(each) for name, each in rest.pop("properties", {}).items()}
        required = frozenset(rest.pop("required", ()))
        further = rest.pop("additionalProperties", None)
        _nothing_left(rest)
        if further is None or not required.issubset(properties):
            raise SchemaUnknown("an object that does not say what it may have")
        others = None if further is False else self.compile(further)

        def record(value: Any) -> None:  # noqa: ANN401 - any JSON value
            if type(value) is not dict:
                raise Mismatch("must be an object")
            for name, item in value.items():
                check = properties.get(name, others)
                if check is None:
                    raise Mismatch("has a field that is not known")
                try:
                    check(item)
                except Mismatch as error:
                    raise _within(name, error) from None
            if not required <= value.keys():
                raise Mismatch(f"{min(required - value.keys())}: is missing")

        return record


def _within(where: str, error: Mismatch) -> Mismatch:
    text = str(error)
    head, colon, _ = text.partition(": ")
    nested = bool(colon) and " " not in head
    return Mismatch(f"{where}.{text}" if nested else f"{where}: {text}")


def _nothing_left(rest: Mapping[str, Any]) -> None:
    if rest:
        raise SchemaUnknown(f"the keyword {min(rest)}")


def _closed(rest: Json) -> Check:
    kind = rest.pop("type", None)
    values = [rest.pop("const")] if "const" in rest else rest.pop("enum")
    _nothing_left(rest)
    sort = {"string": str, "integer": int}.get(kind)
    if sort is None or any(type(value) is not sort for value in values):
        raise SchemaUnknown("a constant that is neither a string nor an integer")
    allowed = frozenset(values)

    def closed(value: Any) -> None:  # noqa: ANN401 - any JSON value
        if type(value) is not sort or value not in allowed:
            raise Mismatch("is not one of what it may be")

    return closed


def anchored(pattern: str) -> str:
    """The pattern between its anchors.

    Raises:
        SchemaUnknown: it is not anchored at both ends, or may mean something else in another engine.
    """
    if not (pattern.startswith("^") and pattern.endswith("$")) or "\\d" in pattern or "\\w" in pattern:
        raise SchemaUnknown("a pattern that is not anchored")
    return pattern[1:-1]


def _string(rest: Json) -> Check:
    least, most = rest.pop("minLength", 0), rest.pop("maxLength", None)
    form, pattern = rest.pop("format", None), rest.pop("pattern", None)
    _nothing_left(rest)
    if form is not None and (form != "date-time" or pattern != INSTANT or least or most is not None):
        raise SchemaUnknown("a format other than date-time with its pattern")
    matcher = None if pattern is None else re.compile(anchored(pattern), re.ASCII)
    if form is not None:
        matcher = DATE_TIME
    sentence = "is no point in time" if form else "is not in its form"

    def string(value: Any) -> None:  # noqa: ANN401 - any JSON value
        if type(value) is not str:
            raise Mismatch("must be a string")
        if matcher is not None and not matcher.fullmatch(value):
            raise Mismatch(sentence)
        if len(value) < least or (most is not None and len(value) > most):
            raise Mismatch("is too short or too long")

    return string


def _integer(rest: Json) -> Check:
    least, most = rest.pop("minimum", None), rest.pop("maximum", None)
    _nothing_left(rest)
    if least is None or most is None:
        raise SchemaUnknown("an integer without bounds")

    def integer(value: Any) -> None:  # noqa: ANN401 - any JSON value
        if type(value) is not int:
            raise Mismatch("must be an integer")
        if not least <= value <= most:
            raise Mismatch("is out of bounds")

    return integer


def _boolean(value: Any) -> None:  # noqa: ANN401 - any JSON value
    if type(value) is not bool:
        raise Mismatch("must be true or false")


def _null(value: Any) -> None:  # noqa: ANN401 - any JSON value
    if value is not None:
        raise Mismatch("must be null")
