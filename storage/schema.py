"""Writes the shape of entries and plans as JSON Schema, from the records themselves: `python -m storage.schema`.

The result lies in the verifier's folder as `entry.schema.json`. It describes the canonical bytes: what is None is
absent, everything else is there.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from operations.canonical import SAFE_INTEGER, JsonObject
from operations.events import PlanProposed
from operations.model import Plan
from storage.entry import Entry
from storage.verifier.shapes import INSTANT

_DROPPED: Final = ("title", "default", "discriminator")


def entry_schema() -> JsonObject:
    """JSON Schema (2020-12) with the definitions `Entry` and `Plan`, and all that they are made of."""
    _, whole = models_json_schema([(Entry, "validation"), (Plan, "validation")])
    definitions = whole["$defs"]
    for name, each in PlanProposed.model_fields.items():
        if each.exclude:
            del definitions["PlanProposed"]["properties"][name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Triad ledger entry",
        "description": (
            "An entry of a Triad ledger as it stands in its canonical bytes (RFC 8785), and the plan whose digest "
            "`plan.proposed` names. Besides: `kind` is the event's; a kind that moves an operation has `operation`, "
            "`after` and `seq`, and `before` unless it is `operation.requested`; others have none of the last three."
        ),
        "$ref": "#/$defs/Entry",
        "$defs": {name: _canonical(definitions[name]) for name in sorted(definitions)},
    }


def _canonical(node: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of what is dumped without what is None, instead of what is accepted."""
    kept = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in kept:
        properties = {name: _canonical(_present(each)) for name, each in kept["properties"].items()}
        kept["properties"] = dict(sorted(properties.items()))
        kept["required"] = sorted(
            name for name, each in node["properties"].items() if each.get("default", True) is not None
        )
    for key in ("anyOf", "oneOf"):
        if key in kept:
            kept[key] = [_canonical(each) for each in kept[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _canonical(kept[key])
    if kept.get("type") == "integer" and "const" not in kept and "enum" not in kept:
        kept.setdefault("minimum", -SAFE_INTEGER)
        kept.setdefault("maximum", SAFE_INTEGER)
    if kept.get("format") == "date-time":
        kept["pattern"] = INSTANT
    return dict(sorted(kept.items()))


def _present(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a field's value where it has one: None is not dumped."""
    if node.get("default", True) is not None or "anyOf" not in node:
        return node
    (only,) = [each for each in node["anyOf"] if each != {"type": "null"}]
    return {**only, **({"description": node["description"]} if "description" in node else {})}


def text() -> str:
    """The schema as it is written to the file."""
    return json.dumps(entry_schema(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
