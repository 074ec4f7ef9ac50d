"""TOML, YAML and JSON: read by one parser, edited by another that keeps comments and order where they exist."""

import io
import itertools
import json
import re
import tomllib
from collections.abc import Callable, MutableMapping
from typing import Any, Final, NoReturn

import tomlkit
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent, DocumentStartEvent, ScalarEvent
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from tomlkit.exceptions import TOMLKitError

from operations.errors import PlaybookFailed
from operations.playbooks.config_values import Edit, Leaves, Value, as_it_is, flatten, invalid

Table = MutableMapping[str, Any]
"""tomlkit's, ruamel's or json's own container."""


def _edit_tables(
    root: Table, edits: tuple[Edit, ...], make_table: Callable[[], Any], dress: Callable[[Value], object]
) -> None:
    for edit in edits:
        table = root
        for part in edit.path[:-1]:
            if part not in table:
                if edit.value is None:
                    break
                table[part] = make_table()
            table = table[part]
        else:
            if edit.value is not None:
                table[edit.path[-1]] = dress(edit.value)
            elif edit.path[-1] in table:
                del table[edit.path[-1]]


def read_toml(text: str) -> Leaves:
    """Every value of the text; refuses what is not TOML or not safe to edit."""
    try:
        return flatten(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        code = "duplicate-key" if "overwrite" in str(error) else "config-invalid"
        raise PlaybookFailed(code, "The configuration is not valid TOML.") from error


def edit_toml(text: str, edits: tuple[Edit, ...]) -> str:
    """The text with the edits made."""
    try:
        document = tomlkit.parse(text)
        _edit_tables(document, edits, tomlkit.table, as_it_is)
        return tomlkit.dumps(document)
    except (TOMLKitError, TypeError) as error:
        raise PlaybookFailed("change-not-representable", "The changes cannot be written into this TOML.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise PlaybookFailed("duplicate-key", "The JSON names a key twice.")
    return dict(pairs)


def _kept_float(text: str) -> float:
    if repr(float(text)) != text:
        raise PlaybookFailed("number-not-kept", "The JSON holds a number that cannot be written back as it stands.")
    return float(text)


def _no_constant(_name: str) -> NoReturn:
    invalid("JSON", ": NaN and Infinity are not JSON")


def _load_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_kept_float, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PlaybookFailed("config-invalid", "The configuration is not valid JSON.") from error
    if not isinstance(value, dict):
        invalid("JSON", ": its top is not an object")
    return value


def read_json(text: str) -> Leaves:
    """Every value of the text; refuses what is not JSON or not safe to edit."""
    return flatten(_load_json(text))


def edit_json(text: str, edits: tuple[Edit, ...]) -> str:
    """The text with the edits made."""
    value = _load_json(text)
    _edit_tables(value, edits, dict, as_it_is)
    indent = re.search(r'\n([ \t]+)"', text)
    comma = ", " if indent is None and re.search(r'[\w"\]}], "', text) else ","
    colon = ": " if indent is not None or '": ' in text else ":"
    ascii_only = text.isascii() and r"\u" in text
    body = json.dumps(value, indent=indent[1] if indent else None, separators=(comma, colon), ensure_ascii=ascii_only)
    return body + text[len(text.rstrip()) :]


def _yaml_events(text: str) -> bool:
    """Refuse what a configuration must not hold before anything is built from it; tell whether `---` opens it."""
    documents, explicit = 0, False
    for event in YAML(typ="rt", pure=True).parse(text):
        if isinstance(event, DocumentStartEvent):
            documents, explicit = documents + 1, bool(event.explicit)
            if event.version is not None or event.tags:
                raise PlaybookFailed("yaml-directives-refused", "The YAML uses directives.")
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise PlaybookFailed("yaml-anchors-refused", "The YAML uses anchors or aliases.")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            raise PlaybookFailed("yaml-tags-refused", "The YAML uses tags.")
    if documents > 1:
        raise PlaybookFailed("yaml-documents-refused", "The YAML holds several documents.")
    return explicit


def read_yaml(text: str) -> Leaves:
    """Every value of the text; refuses what is not YAML or not safe to edit."""
    try:
        _yaml_events(text)
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        code = "duplicate-key" if "duplicate key" in str(error) else "config-invalid"
        raise PlaybookFailed(code, "The configuration is not valid YAML.") from error
    if value is not None and not isinstance(value, dict):
        invalid("YAML", ": its top is not a mapping")
    return flatten(value or {})


_OLD_YAML_WORDS: Final = re.compile(r"(?i)(y|n|yes|no|on|off|true|false|null|~|<<|=)?|[-+.0-9].*")
"""Texts that YAML 1.1 readers would take for something else; they are quoted."""


def _yaml_value(value: Value) -> Any:  # noqa: ANN401 - ruamel's scalar types
    if isinstance(value, list):
        return [_yaml_value(item) for item in value]
    if isinstance(value, str) and _OLD_YAML_WORDS.fullmatch(value):
        return DoubleQuotedScalarString(value)
    return value


def _yaml_writer(mapping: int, offset: int, *, explicit: bool) -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    yaml.explicit_start = explicit
    yaml.indent(mapping=mapping, sequence=offset + 2, offset=offset)
    return yaml


def edit_yaml(text: str, edits: tuple[Edit, ...]) -> str:
    """The text with the edits made."""
    explicit = _yaml_events(text)
    try:
        yaml = _writer_of(text, explicit=explicit)
        document = yaml.load(text)
        if document is None:
            document = yaml.map()
        _edit_tables(document, edits, yaml.map, _yaml_value)
        return _dumped(yaml, document)
    except YAMLError as error:
        raise PlaybookFailed("change-not-representable", "The changes cannot be written into this YAML.") from error


def _writer_of(text: str, *, explicit: bool) -> YAML:
    """A writer with the indentation that gives the text back, or comes closest to it."""
    closest, fewest = None, -1
    for offset, mapping in itertools.product((0, 2, 4), (2, 4, 3, 8)):
        yaml = _yaml_writer(mapping, offset, explicit=explicit)
        touched = _lines_touched(text, _dumped(yaml, yaml.load(text)))
        if closest is None or touched < fewest:
            closest, fewest = yaml, touched
        if touched == 0:
            break
    return closest if closest is not None else _yaml_writer(2, 0, explicit=explicit)


def _dumped(yaml: YAML, document: object) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _lines_touched(old: str, new: str) -> int:
    left, right = old.splitlines(), new.splitlines()
    return abs(len(left) - len(right)) + sum(a != b for a, b in zip(left, right, strict=False))
