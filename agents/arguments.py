"""Filling a playbook's arguments for the offline planner: from the request's parameters, then from its words.

Only what the playbook's own schema names is filled. A number or a name in the words is used where exactly one argument
can take it; where several could, that is said instead of guessed.
"""

import re
from dataclasses import dataclass
from typing import Final

from agents.facts import PlaybookFact
from agents.wording import listed
from operations.canonical import Json, JsonObject

_SECONDS: Final = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
_AMOUNT: Final = re.compile(r"\b(\d{1,9})[ -]?(second|minute|hour|day|week)s?\b")
_IDENTIFIER: Final = r"[\"'`]?([a-z_][a-z0-9_.$]*)[\"'`]?"
_NAMED: Final = listed("index partition schema table view")
"""Arguments whose value a request may give by name in its words; all others come from parameters."""
_NO_NAME: Final = listed(
    """a all an and any are as at big broken by bloat bloated bloats called can corrupt could entire every for from has
    here if in index indexes is it large main most named names of old on or other same size sizes slow space statistics
    table tables that the there they this to was were which whole with"""
)


@dataclass(frozen=True, slots=True)
class Filled:
    """A playbook's arguments, which parameters they used, and what is in the way, in words."""

    arguments: JsonObject
    used: frozenset[str]
    problems: tuple[str, ...]


def fill(playbook: PlaybookFact, parameters: JsonObject, words: str) -> Filled:
    """The arguments for one step."""
    properties = _properties(playbook)
    arguments: JsonObject = {name: value for name, value in parameters.items() if name in properties}
    used = frozenset(arguments)
    problems = _amounts(playbook, properties, arguments, words)
    problems += _names(playbook, properties, arguments, words)
    required = playbook.arguments_schema.get("required", [])
    missing = [str(name) for name in required if name not in arguments] if isinstance(required, list) else []
    problems += [f"{playbook.name} needs the parameter {name}." for name in missing]
    return Filled(arguments, used, tuple(problems))


def knows(playbook: PlaybookFact, parameter: str) -> bool:
    """Whether the playbook has an argument of that name."""
    return parameter in _properties(playbook)


def _properties(playbook: PlaybookFact) -> JsonObject:
    properties = playbook.arguments_schema.get("properties", {})
    return properties if isinstance(properties, dict) else {}


def _types(schema: Json) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    options = schema.get("anyOf", [schema])
    if not isinstance(options, list):
        return set()
    return {str(o["type"]) for o in options if isinstance(o, dict) and "type" in o}


def _lists_words(schema: Json) -> bool:
    """Whether the schema is that of a list of strings."""
    items = schema.get("items") if isinstance(schema, dict) else None
    return "array" in _types(schema) and "string" in _types(items)


def _amounts(playbook: PlaybookFact, properties: JsonObject, arguments: JsonObject, words: str) -> list[str]:
    """Fill integer arguments named after a unit (`keep_days`) from `30 days`, converted where that is exact."""
    open_ones = {
        name: _SECONDS[unit]
        for name, schema in properties.items()
        if name not in arguments and "integer" in _types(schema) and (unit := name.rsplit("_", 1)[-1]) in _SECONDS
    }
    if not open_ones:
        return []
    found = {(int(number), unit + "s") for number, unit in _AMOUNT.findall(words.lower())}
    if not found:
        return []
    if len(found) == 1:
        number, unit = next(iter(found))
        same = [name for name in open_ones if name.rsplit("_", 1)[-1] == unit]
        fits = same or [name for name, seconds in open_ones.items() if number * _SECONDS[unit] % seconds == 0]
        if len(fits) == 1:
            arguments[fits[0]] = number * _SECONDS[unit] // open_ones[fits[0]]
            return []
    return [f"{playbook.name}: say with parameters which of {', '.join(sorted(open_ones))} is meant."]


def _names(playbook: PlaybookFact, properties: JsonObject, arguments: JsonObject, words: str) -> list[str]:
    """Fill a text argument `table` (or a list `tables`) from `table NAME` or `the NAME table`."""
    problems: list[str] = []
    for name, schema in properties.items():
        several = _lists_words(schema)
        noun = name.removesuffix("s") if several else name
        if name in arguments or noun not in _NAMED or not (several or "string" in _types(schema)):
            continue
        found = _named(noun, words.lower())
        if several and found:
            arguments[name] = list(found)
        elif len(found) == 1:
            arguments[name] = found[0]
        elif found:
            problems.append(f"{playbook.name} takes one {noun} at a time.")
    return problems


def _named(noun: str, words: str) -> tuple[str, ...]:
    patterns = (rf"\bthe {_IDENTIFIER} {noun}\b", rf"\b{noun} {_IDENTIFIER}")
    found = [match.rstrip(".") for pattern in patterns for match in re.findall(pattern, words)]
    return tuple(dict.fromkeys(name for name in found if name not in _NO_NAME))
