"""`triad constitution`: the rules in force, and whether the document is theirs."""

from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from api.cli.client import V1, Client
from api.cli.exits import Exit
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, out, show_one, styled
from api.cli.profile import REACH, Reach

if TYPE_CHECKING:
    from rich.console import RenderableType

app = App(name="constitution", help="The rules in force: read them, and see that they are enforced.")

_HEALTH: Final = (
    Column("status", lambda item: item["status"]),
    Column("in force", lambda item: item["in_force"]),
    Column("on disk", lambda item: item["on_disk"] or "cannot be read"),
    Column("articles", lambda item: f"{item['articles']}, {item['enforced']} of them enforced by code"),
    Column("policies", lambda item: item["policies"]),
    Column("mode", lambda item: item["mode"]),
    Column("halted", lambda item: "yes" if item["halted"] else "no"),
    Column("refused", lambda item: f"{item['denials_24h']} in the last 24 hours"),
)


@app.command
def show(
    *,
    text: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Show the constitution in force.

    Args:
        text: the document itself, with the blocks that code enforces.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        if text:
            out(client.text(f"{V1}/constitution", "text/markdown").rstrip("\n"))
            return Exit.OK
        found = client.get(f"{V1}/constitution").data
    show_one(shape, found, lambda: _articles(found), model="ConstitutionView", ident="digest")
    return Exit.OK


@app.command
def verify(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Compare the document with the ledger's word, and ask the enforcement questions with known answers.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get("/constitutional-health", also=(503,)).data
    show_one(shape, found, lambda: _health(found), model="ConstitutionalHealth", ident="in_force")
    if found["status"] == "pass":
        return Exit.OK
    note("Everything stays closed until the document is the one in force: docs/runbooks/constitution-changed.md")
    return Exit.ERROR


def _articles(found: JsonObject) -> "RenderableType":
    lines = [f"constitution {found['digest']}", "", found["preamble"]]
    for article in found["articles"]:
        mark = "" if article["enforced"] else " (judged by the crown)"
        lines += ["", f"{article['id']}: {article['title']}{mark}", article["text"]]
    return styled("\n".join(lines))


def _health(found: JsonObject) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    tests = [
        f"{'ok  ' if each['expected'] == each['got'] else 'FAIL'}  {each['name']}: {each['got']} ({each['code']})"
        for each in found["self_test"]
    ]
    return Group(facts(found, _HEALTH), *(styled(line) for line in tests))
