"""`triad playbook` and `triad system`: with what may be acted, and on what."""

import json
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App

from api.cli.client import V1, Client, segment
from api.cli.exits import Exit
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, show_list, show_one, styled
from api.cli.profile import REACH, Reach

if TYPE_CHECKING:
    from rich.console import RenderableType

playbook = App(name="playbook", help="The catalogue: everything that can be done to a system.")
system = App(name="system", help="The inventory: the systems that may be touched.")

_PLAYBOOKS: Final = (
    Column("name", lambda item: item["name"]),
    Column("tier", lambda item: item["tier"]),
    Column("effect", lambda item: item["effect"]),
    Column("undo", lambda item: "yes" if item["reversible"] else "no"),
    Column("fits", lambda item: ", ".join(item["fits"])),
    Column("summary", lambda item: item["summary"]),
)
_PLAYBOOK: Final = (
    *_PLAYBOOKS[:5],
    Column("emergency", lambda item: "yes" if item["emergency"] else "no"),
    Column("time-out", lambda item: f"{item['timeout_seconds']} s"),
    Column("digest", lambda item: item["digest"]),
    Column("summary", lambda item: item["summary"]),
)
_PLAIN: Final[JsonObject] = {"string": "text", "integer": 1, "number": 1.5, "boolean": True}
_SYSTEMS: Final = (
    Column("name", lambda item: item["name"]),
    Column("kind", lambda item: item["kind"]),
    Column("environment", lambda item: item["environment"]),
    Column("tier", lambda item: f"{item['tier_floor']} and up"),
    Column("playbooks", lambda item: ", ".join(item["playbooks"])),
    Column("description", lambda item: item["description"]),
)


@playbook.command(name="list")
def list_playbooks(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List the playbooks.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/playbooks").data["items"]
    show_list(shape, found, _PLAYBOOKS, model="PlaybookView", ident="name")
    return Exit.OK


@playbook.command
def show(name: str, /, *, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show one playbook and the arguments that it takes.

    Args:
        name: of the playbook.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/playbooks/{segment(name)}").data
    show_one(shape, found, lambda: _body(found), model="PlaybookView", ident="name")
    return Exit.OK


@system.command(name="list")
def list_systems(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List the systems that you may read.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/systems").data["items"]
    show_list(shape, found, _SYSTEMS, model="SystemView", ident="name")
    return Exit.OK


def _body(found: JsonObject) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    schema: JsonObject = found["arguments"]
    required = set(schema.get("required", ()))
    taken = schema.get("properties", {}).items()
    lines = [_argument(name, each, name in required, schema.get("$defs")) for name, each in taken]
    return Group(facts(found, _PLAYBOOK), *(styled(line) for line in (["", "arguments", *lines] if lines else [])))


def _argument(name: str, schema: JsonObject, required: bool, definitions: JsonObject | None = None) -> str:  # noqa: FBT001 - a fact of the argument
    need = "required" if required else f"otherwise {_short(schema.get('default'))}"
    line = f"  {name} ({_kind(schema)}, {need}): {schema.get('description', '')}".rstrip(": ")
    defined = {f"#/$defs/{key}": each for key, each in (definitions or {}).items()}
    example = _example(schema, defined) if schema.get("type") in {"array", "object"} else None
    return line if example in (None, [], {}) else f"{line}\n      for example {_short(example)}"


def _example(schema: JsonObject, defined: JsonObject) -> Any:  # noqa: ANN401 - any JSON value
    """A value of the shape that a schema asks for; where anything goes, null."""
    schema = defined.get(schema.get("$ref", ""), schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], defined)
    if schema.get("type") == "array":
        return [_example(schema["items"], defined)] if schema.get("items") else []
    if schema.get("type") == "object":
        required = set(schema.get("required", ()))
        shown = {
            name: each
            for name, each in schema.get("properties", {}).items()
            if name in required or each.get("default") is None
        }
        return {name: _example(each, defined) for name, each in shown.items()}
    return _PLAIN.get(str(schema.get("type")))


def _kind(schema: JsonObject) -> str:
    if "enum" in schema:
        return " or ".join(_short(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    return str(schema.get("type", "value"))


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, ensure_ascii=False)
