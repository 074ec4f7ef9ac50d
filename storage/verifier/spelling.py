"""Reading an entry: whether its bytes are the canonical bytes of an entry, and what they say.

A kind that comes often is recognised by one regular expression, made from the schema, which matches nothing but
canonical bytes of the right shape; what it does not match is read the long way, which also says what is wrong.
"""

import re
from collections import Counter
from typing import Final

from .canonical import NotCanonical, load, parse
from .rules import Json
from .shapes import DATE_TIME, Mismatch, anchored, entry_shape, schema
from .stages import MOVES

MAX_ENTRY: Final = 16 * 1024
"""Longest entry in bytes."""


class EntryMalformed(ValueError):
    """These bytes are not an entry."""


class Reader:
    """Reads entries, and learns to read often seen kinds fast."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._fast: dict[str, re.Pattern[str] | None] = {}

    def read(self, data: bytes) -> Json:
        """The entry whose canonical bytes these are.

        Raises:
            EntryMalformed: see `read_entry`.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return read_entry(data)
        start = text.find(_KIND) + len(_KIND)
        kind = text[start : text.find('"', start)]
        pattern = self._fast.get(kind)
        if pattern is not None and len(data) <= MAX_ENTRY and pattern.fullmatch(text):
            entry: Json = load(text)
            return entry
        entry = read_entry(data)
        if kind not in self._fast:
            self._seen[kind] += 1
            if self._seen[kind] >= _OFTEN:
                self._fast[kind] = pattern_of(kind)
        return entry


def read_entry(data: bytes) -> Json:
    """The entry whose canonical bytes these are.

    Raises:
        EntryMalformed: over 16 KiB, not canonical, or not an entry; the message names the field, never its value.
    """
    if len(data) > MAX_ENTRY:
        raise EntryMalformed(f"it has {len(data)} bytes; the limit is {MAX_ENTRY}")
    try:
        entry: Json = parse(data)
        entry_shape()(entry)
    except (NotCanonical, Mismatch) as error:
        raise EntryMalformed(str(error)) from None
    _agree(entry)
    return entry


def _agree(entry: Json) -> None:
    """What a schema does not say: an entry agrees with its event.

    Raises:
        EntryMalformed: it does not.
    """
    kind = entry["kind"]
    if kind != entry["event"]["kind"]:
        raise EntryMalformed("the kind is not the event's")
    if kind not in MOVES:
        if "before" in entry or "after" in entry or "seq" in entry:
            raise EntryMalformed("an annotation moves nothing")
    elif "operation" not in entry or "after" not in entry or "seq" not in entry:
        raise EntryMalformed("a move names the operation, its stage and its version")
    elif ("before" not in entry) != (kind == "operation.requested"):
        raise EntryMalformed("only an operation's first event has no stage before it")


_KIND: Final = '"kind":"'
_OFTEN: Final = 32
_PLAIN: Final = r'[^"\\\x00-\x1f]'
_ESCAPE: Final = r'\\(?:["\\bfnrt]|u000[1-7bef]|u001[0-9a-f])'
_TEXT: Final = f'"{_PLAIN}*+(?:{_ESCAPE}{_PLAIN}*+)*+"'
_FEW: Final = 100


class _Irregular(Exception):
    """A shape that no regular expression is made for."""


def pattern_of(kind: str) -> re.Pattern[str] | None:
    """What matches nothing but canonical texts of entries of one kind, if not all of them; None if there is none."""
    definitions: dict[str, Json] = schema()["$defs"]
    entry = definitions["Entry"]
    events = [each["$ref"].removeprefix("#/$defs/") for each in entry["properties"]["event"]["oneOf"]]
    event = next((name for name in events if definitions[name]["properties"]["kind"]["const"] == kind), None)
    if event is None:
        return None
    moved = kind in MOVES
    needed = ({"operation", "after", "seq"} if moved else set[str]()) | (
        {"before"} if moved and kind != "operation.requested" else set[str]()
    )
    without = set[str]() if moved else {"after", "before", "seq"}
    without |= {"before"} if kind == "operation.requested" else set[str]()
    properties = {name: each for name, each in entry["properties"].items() if name not in without}
    properties |= {"kind": {"const": kind, "type": "string"}, "event": {"$ref": f"#/$defs/{event}"}}
    try:
        whole = _object({"properties": properties, "required": {*entry["required"], *needed}}, definitions)
    except _Irregular:
        return None
    return re.compile(whole, re.ASCII)


def _spelled(node: Json, definitions: dict[str, Json]) -> str:  # noqa: PLR0911 - one case a shape
    if "$ref" in node:
        return _spelled(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    if "const" in node or "enum" in node:
        values = node.get("enum", [node.get("const")])
        return (
            "(?:"
            + "|".join(f'"{re.escape(value)}"' if isinstance(value, str) else str(value) for value in values)
            + ")"
        )
    match node.get("type"):
        case "string":
            return _string(node)
        case "integer":
            return _integer(node["minimum"], node["maximum"])
        case "boolean":
            return "(?:true|false)"
        case "array":
            return _array(node, definitions)
        case "object" if "properties" in node:
            return _object(node, definitions)
        case "object":
            return r"\{\}"
        case _:
            raise _Irregular


def _string(node: Json) -> str:
    least, most = node.get("minLength", 0), node.get("maxLength")
    if "format" in node:
        return f'"(?:{DATE_TIME.pattern})"'
    if "pattern" in node:
        inner = anchored(node["pattern"])
        if not _needs_no_escape(inner):
            raise _Irregular
        bound = f'(?=[^"]{{{least},{most}}}")' if least or most is not None else ""
        return f'"{bound}(?:{inner})"'
    if not least and most is None:
        return _TEXT
    end = "" if most is None else str(most)
    bounds = f"{{{least},{end}}}+"
    return f'"(?:{_PLAIN}{bounds}"|(?:{_PLAIN}|{_ESCAPE}){bounds}")'


def _needs_no_escape(pattern: str) -> bool:
    """Whether nothing that the pattern matches has a character that JSON would spell otherwise."""
    classes = re.findall(r"\[[^\]^\\]+\]", pattern)
    rest = re.sub(r"\[[^\]^\\]+\]|\\\.|\{[0-9,]+\}", "", pattern)
    special = [chr(code) for code in range(32)] + ['"', "\\"]
    return re.fullmatch(r"[a-z_()?*+|]*", rest) is not None and not any(
        re.match(each, char) for each in classes for char in special
    )


def _integer(least: int, most: int) -> str:
    if most - least <= _FEW:
        return "(?:" + "|".join(str(value) for value in range(least, most + 1)) + ")"
    if most < _DIGITS or least not in {0, 1, -most}:
        raise _Irregular
    return {0: "(?:0|[1-9][0-9]{0,14})", 1: "(?:[1-9][0-9]{0,14})"}.get(least, "(?:0|-?[1-9][0-9]{0,14})")


_DIGITS: Final = 10**15


def _array(node: Json, definitions: dict[str, Json]) -> str:
    least, most = node.get("minItems", 0), node.get("maxItems")
    if node.get("uniqueItems"):
        values = _closed(node["items"], definitions)
        return r"\[" + "".join(f'(?:"{re.escape(value)}"(?:,(?!\\])|(?=\\])))?' for value in values) + r"\]"
    item = _spelled(node["items"], definitions)
    end = "" if most is None else str(most - 1)
    more = f"{{{max(least - 1, 0)},{end}}}+"
    some = f"{item}(?:,{item}){more}"
    return rf"\[{some}\]" if least else rf"\[(?:{some})?\]"


def _closed(node: Json, definitions: dict[str, Json]) -> list[str]:
    while "$ref" in node:
        node = definitions[node["$ref"].removeprefix("#/$defs/")]
    values = node.get("enum", [])
    if not values or not all(isinstance(value, str) for value in values):
        raise _Irregular
    return sorted(values)


def _object(node: Json, definitions: dict[str, Json]) -> str:
    required = set(node["required"])
    parts: list[str] = []
    begun = False
    for name, each in sorted(node["properties"].items()):
        pair = f'"{re.escape(name)}":{_spelled(each, definitions)}'
        if name in required:
            parts.append(f",{pair}" if begun else pair)
            begun = True
        else:
            parts.append(f"(?:,{pair})?" if begun else f"(?:{pair},)?")
    if not begun:
        raise _Irregular
    return r"\{" + "".join(parts) + r"\}"
