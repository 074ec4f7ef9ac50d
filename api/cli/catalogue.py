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
    lines = [_argument(name, each, name in required) for name, each in schema.get("properties", {}).items()]
    return Group(facts(found, _PLAYBOOK), *(styled(line) for line in (["", "arguments", *lines] if lines else [])))


def _argument(name: str, schema: JsonObject, required: bool) -> str:  # noqa: FBT001 - a fact of the argument
    need = "required" if required else f"otherwise {_short(schema.get('default'))}"
    return f"  {name} ({_kind(schema)}, {need}): {schema.get('description', '')}".rstrip(": ")


def _kind(schema: JsonObject) -> str:
    if "enum" in schema:
        return " or ".join(_short(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    return str(schema.get("type", "value"))


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, ensure_ascii=False)
