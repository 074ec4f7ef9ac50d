"""`triad people`: what is personal, kept outside the ledger behind commitments."""

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, Parameter

from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, show_list, show_one
from api.cli.profile import REACH, Reach

if TYPE_CHECKING:
    from rich.console import RenderableType

app = App(name="people", help="What is known of people: kept outside the ledger, shown, proved.")

FieldName = Literal["name", "email", "contact"]

_LIST: Final = (
    Column("subject", lambda person: person["subject"]),
    Column("name", lambda person: _value(person, "name")),
    Column("email", lambda person: _value(person, "email")),
    Column("contact", lambda person: _value(person, "contact")),
)
_PROOF: Final = (
    Column("subject", lambda opening: opening["subject"]),
    Column("field", lambda opening: opening["field"]),
    Column("value", lambda opening: opening["value"]),
    Column("salt", lambda opening: opening["salt"]),
    Column("commitment", lambda opening: opening["commitment"]),
    Column("entry", lambda opening: opening["index"]),
)


@app.command(name="set")
def keep(
    subject: str,
    /,
    *,
    name: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    email: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    contact: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    new: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Keep something about somebody. An older value of the same field is deleted with its salt.

    Args:
        subject: the handle that the ledger knows them by.
        name: what they are called.
        email: their address.
        contact: how else they are reached.
        new: also where no key belongs to the handle, which stands in the ledger for ever.
        reach: the service.
        shape: of the output.
    """
    given = {"name": name, "email": email, "contact": contact}
    body: JsonObject = {field: value for field, value in given.items() if value is not None}
    if not body:
        raise Stop(Exit.USAGE, "There is nothing to keep.", following="Give --name, --email or --contact.")
    if new:
        body["new"] = True
    with Client.of(reach) as client:
        found = client.post(_path(subject), body).data
    show_one(shape, found, lambda: _person(found), model="PersonView", ident="subject")
    return Exit.OK


@app.command
def show(subject: str, /, *, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show what is kept about somebody.

    Args:
        subject: the handle that the ledger knows them by.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(_path(subject)).data
    show_one(shape, found, lambda: _person(found), model="PersonView", ident="subject")
    return Exit.OK


@app.command(name="list")
def list_people(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List everybody about whom something is kept.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/people").data["items"]
    show_list(shape, found, _LIST, model="PersonView", ident="subject")
    return Exit.OK


@app.command
def reveal(subject: str, field: FieldName, /, *, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Print value and salt, which prove what the commitment in the ledger held.

    Args:
        subject: the handle that the ledger knows them by.
        field: what is to be proved.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{_path(subject)}/{segment(field)}/proof").data
    if hashlib.sha256(bytes.fromhex(found["salt"]) + found["value"].encode()).hexdigest() != found["commitment"]:
        raise Stop(Exit.ERROR, "Salt and value do not open the commitment.", following="Do not rely on it.")
    show_one(shape, found, lambda: facts(found, _PROOF), model="OpeningView", ident="commitment")
    note(
        "The commitment is SHA-256 of the salt's 32 bytes and the value in UTF-8, and entry "
        f"{found['index']} holds it: triad audit prove {found['index']}. Whoever has both can check it."
    )
    return Exit.OK


def _path(subject: str) -> str:
    return f"{V1}/people/{segment(subject)}"


def _value(person: JsonObject, field: str) -> str | None:
    return next((each["value"] for each in person["values"] if each["field"] == field), None)


def _person(person: JsonObject) -> "RenderableType":
    return facts(person, _LIST)
