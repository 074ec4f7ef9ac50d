"""The one place for output: data on standard output in the asked form, everything else on standard error.

Text from outside is made harmless first: a description that could move the cursor or turn the reading direction round
would show an approver something else than what runs.
"""

import importlib
import json as jsonlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from cyclopts import Parameter

from api.cli.exits import Exit, Stop

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

JsonObject = dict[str, Any]
"""A JSON object as the service sent it."""

Form = Literal["table", "json", "jsonl", "yaml", "id"]

ALL_FIELDS: Final = "*"
"""What `--json` without a value stands for."""

_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")

_STYLES: Final[dict[str, str]] = {
    "completed": "green",
    "pass": "green",
    "ok": "green",
    "rolled_back": "yellow",
    "planned": "yellow",
    "pending": "yellow",
    "escalated": "yellow",
    "halted": "yellow",
    "warn": "yellow",
    "in_doubt": "bold red",
    "failed": "red",
    "refused": "red",
    "denied": "red",
    "vetoed": "red",
    "expired": "red",
    "fail": "red",
}


@Parameter(name="*", group="Output")
@dataclass(frozen=True, kw_only=True)
class Shape:
    """The form of what is printed."""

    json: Annotated[str | None, Parameter(name="--json", negative=(), metavar="[=FIELDS]")] = None
    """JSON; `--json=id,stage` only these fields, `--json=` lists them"""

    output: Annotated[Form, Parameter(name=["-o", "--output"], metavar="FORM", show_default=False)] = "table"
    """table, json, jsonl (one line an item), yaml, or id (only the identifiers)"""

    @property
    def form(self) -> Form:
        """The form, `--json` included."""
        return "json" if self.json is not None and self.output == "table" else self.output


SHAPE: Final = Shape()


class Column(NamedTuple):
    """A column of a table, or a line of a single thing: its title and how its text is found."""

    title: str
    text: Callable[[JsonObject], object]


def plain(text: str) -> str:
    r"""Text without what a terminal would obey or not show; such characters appear as `\u202e`, valid in JSON too."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def out(text: str) -> None:
    """One or more lines of data."""
    sys.stdout.write(plain(text) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for whoever watches."""
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def coloured(stream: IO[str]) -> bool:
    """Whether a stream gets colour: NO_COLOR says no, CLICOLOR_FORCE says yes, otherwise a terminal does."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stream: IO[str]) -> "Console":
    """Rich on a stream: colour by the rules above, no line breaks of its own where no terminal sets a width."""
    from rich.console import Console  # noqa: PLC0415 - only who prints a table pays for it

    colour = coloured(stream)
    return Console(
        file=stream,
        force_terminal=colour,
        no_color=not colour,
        color_system="auto" if stream.isatty() or not colour else "standard",
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        width=None if stream.isatty() else 10_000,
    )


def write(what: "RenderableType", stream: IO[str]) -> None:
    """Print something of rich's, without the blanks that it fills lines with."""
    screen = console(stream)
    with screen.capture() as captured:
        screen.print(what)
    stream.write("".join(f"{line.rstrip(' ')}\n" for line in captured.get().splitlines()))
    stream.flush()


def show_list(
    shape: Shape, items: Sequence[JsonObject], columns: Sequence[Column], *, model: str, ident: str = "id"
) -> None:
    """Print several things.

    Args:
        shape: the asked form.
        items: the things.
        columns: of the table.
        model: name of the record in `api.schemas` or `api.governance` that describes one; knows the fields.
        ident: the field that `-o id` prints.
    """
    picked = _picked(shape, items, model)
    if picked is None:
        return
    match shape.form:
        case "json":
            out(_json(picked))
        case "jsonl":
            for item in picked:
                out(as_line(item))
        case "yaml":
            out(_yaml(list(picked)))
        case "id":
            for item in items:
                out(str(item[ident]))
        case "table":
            _table(items, columns)


def show_one(
    shape: Shape, item: JsonObject, body: Callable[[], "RenderableType"], *, model: str, ident: str = "id"
) -> None:
    """Print one thing; `body` makes what a person reads. See `show_list`."""
    picked = _picked(shape, [item], model)
    if picked is None:
        return
    match shape.form:
        case "json":
            out(_json(picked[0]))
        case "jsonl":
            out(as_line(picked[0]))
        case "yaml":
            out(_yaml(picked[0]))
        case "id":
            out(str(item[ident]))
        case "table":
            write(body(), sys.stdout)


def facts(item: JsonObject, lines: Iterable[Column]) -> "RenderableType":
    """One thing as titles and texts, without those that have no text."""
    from rich.table import Table  # noqa: PLC0415 - see `console`

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        text = line.text(item)
        if text not in {None, ""}:
            grid.add_row(line.title, styled(text))
    return grid


def styled(value: object) -> "RenderableType":
    """A value as harmless text, in its colour where it is a stage or a status."""
    from rich.text import Text  # noqa: PLC0415 - see `console`

    text = plain(str(value))
    return Text(text, style=_STYLES.get(text, ""))


def _table(items: Sequence[JsonObject], columns: Sequence[Column]) -> None:
    from rich.table import Table  # noqa: PLC0415 - see `console`

    if not items:
        note("Nothing to show.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.title, overflow="fold")
    for item in items:
        texts = (column.text(item) for column in columns)
        table.add_row(*("" if text is None else styled(text) for text in texts))
    write(table, sys.stdout)


def _picked(shape: Shape, items: Sequence[JsonObject], model: str) -> Sequence[JsonObject] | None:
    """The items with the asked fields alone; None when the fields themselves were asked for and printed."""
    if shape.json is None or shape.json == ALL_FIELDS:
        return items
    known = fields_of(model)
    if not shape.json:
        out("\n".join(known))
        return None
    asked = [name.strip() for name in shape.json.split(",")]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise Stop(Exit.USAGE, f"There is no field {unknown[0]}.", following=f"Take from: {', '.join(known)}")
    return [{name: item.get(name) for name in asked} for item in items]


def fields_of(model: str) -> list[str]:
    """The fields of an answer, from the records of the service."""
    for place in ("api.schemas", "api.governance", "api.retention", "api.cli.records"):
        record = getattr(importlib.import_module(place), model, None)
        if record is not None:
            return list(record.model_fields)
    raise LookupError(model)


def _json(value: object) -> str:
    return jsonlib.dumps(value, ensure_ascii=False, indent=2)


def as_line(value: object) -> str:
    """JSON on one line."""
    return jsonlib.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _yaml(value: object) -> str:
    from io import StringIO  # noqa: PLC0415 - see `console`

    from ruamel.yaml import YAML  # noqa: PLC0415 - see `console`

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # untyped in ruamel
    stream = StringIO()
    writer.dump(value, stream)
    return stream.getvalue().rstrip()
