"""`triad run` and `triad plan`: ask for an operation, or only for what would happen."""

import json
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter

from api.cli.asking import ONCE, Once
from api.cli.client import V1, Client
from api.cli.exits import Exit, Stop
from api.cli.following import ending, follow
from api.cli.operations import operation_body
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, show_one, styled, write
from api.cli.profile import REACH, Reach
from api.cli.sentences import entry_line

if TYPE_CHECKING:
    from rich.console import RenderableType

Kind = Literal["maintenance", "deployment", "configuration", "monitoring", "emergency", "validation"]
Power = Literal["legislative", "executive", "judicial", "crown"]

_LATER: Final = re.compile(r"\+(\d{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@Parameter(name="*", group="Request")
@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for besides the text."""

    system: Annotated[
        tuple[str, ...], Parameter(name=["-s", "--system"], negative=(), metavar="NAME", show_default=False)
    ] = ()
    """system that is touched; give it once for each"""

    type: Annotated[Kind, Parameter(name="--type", metavar="KIND")] = "maintenance"
    """kind of work"""

    playbook: Annotated[str | None, Parameter(metavar="NAME")] = None
    """the playbook, where the planner shall not choose it"""

    param: Annotated[
        tuple[str, ...], Parameter(name=["-p", "--param"], negative=(), metavar="KEY=VALUE", show_default=False)
    ] = ()
    """parameter; the value is JSON where it reads as JSON, text otherwise"""

    params_file: Annotated[Path | None, Parameter(name="--params-file", metavar="FILE", allow_leading_hyphen=True)] = (
        None
    )
    """parameters as a JSON object; - reads standard input"""

    rollback_plan: Annotated[str | None, Parameter(name="--rollback-plan", metavar="TEXT")] = None
    """how the change would be taken back"""

    criterion: Annotated[
        tuple[str, ...], Parameter(name="--criterion", negative=(), metavar="TEXT", show_default=False)
    ] = ()
    """what has to be true afterwards"""

    at: Annotated[str | None, Parameter(name="--at", metavar="WHEN")] = None
    """when to start: 2026-12-01T03:00, in your zone unless it says another, or +2h"""

    emergency: Annotated[bool, Parameter(name="--emergency", negative=(), show_default=False)] = False
    """break the glass; the article on emergencies says what that waives and what it owes"""

    authority: Annotated[Power, Parameter(metavar="BRANCH")] = "executive"
    """the authority that is asked for; it can add approvals, never take them away"""

    mission: Annotated[str | None, Parameter(metavar="ID")] = None
    """what this belongs to"""

    def body(self, text: str) -> JsonObject:
        """The request as the service takes it.

        Raises:
            Stop: a parameter or a time that cannot be read.
        """
        if not self.system:
            raise Stop(Exit.USAGE, "Which system?", following="Name it with --system; `triad system list` lists them.")
        wish: JsonObject = {
            "type": self.type,
            "description": text,
            "systems": list(self.system),
            "authority": self.authority,
            "playbook": self.playbook,
            "parameters": _parameters(self.param, self.params_file),
            "scheduled_time": None if self.at is None else instant(self.at),
            "emergency": self.emergency,
            "rollback_plan": self.rollback_plan,
            "validation_criteria": list(self.criterion),
            "mission": self.mission,
        }
        return {name: value for name, value in wish.items() if value is not None}


_WISH: Final = Wish()


@Parameter(name="*", group="Request")
@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to follow the operation."""

    wait: Annotated[bool | None, Parameter(show_default=False)] = None
    """follow it to its end, also while it waits for people; without either: until then; --no-wait: not at all"""

    timeout: Annotated[float | None, Parameter(metavar="SECONDS")] = None
    """follow it for so long at most"""


_PATIENCE: Final = Patience()


def run(
    text: str,
    /,
    *,
    wish: Wish = _WISH,
    dry_run: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    patience: Patience = _PATIENCE,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Ask for an operation and follow it.

    Args:
        text: what shall be done, in your words.
        wish: what is asked for besides the text.
        dry_run: only plan and judge; nothing is recorded as an operation.
        patience: how long to follow it.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    body = wish.body(text)
    with Client.of(reach) as client:
        if dry_run:
            return _planned(client, body, shape)
        op = client.post(f"{V1}/operations", body, key=once.key).data
        note(f"operation: {op['id']}")
        if patience.wait is not False:
            until: Literal["end", "people"] = "end" if patience.wait else "people"
            op = follow(client, op["id"], lambda each: note(entry_line(each)), until=until, seconds=patience.timeout)
    show_one(shape, op, lambda: operation_body(op), model="OperationView")
    return Exit.OK if patience.wait is False else ending(op)


def plan(text: str, /, *, wish: Wish = _WISH, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show the plan and what the constitution would demand of it; nothing is recorded as an operation.

    Args:
        text: what shall be done, in your words.
        wish: what is asked for besides the text.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        return _planned(client, wish.body(text), shape)


def _planned(client: Client, body: JsonObject, shape: Shape) -> int:
    found = client.post(f"{V1}/operations?dry_run=true", body).data
    show_one(shape, found, lambda: _plan_body(found), model="DryRun", ident="digest")
    if not found["allowed"]:
        for line in (*found["reasons"], *(f"nearest: {name}" for name in found["nearest"])):
            note(line)
        return Exit.UNSUCCESSFUL
    return Exit.OK


_DRY_RUN: Final = (
    Column("allowed", lambda found: "yes" if found["allowed"] else f"no ({found['code']})"),
    Column("plan", lambda found: found["plan"] and found["plan"]["summary"]),
    Column("digest", lambda found: found["digest"]),
    Column("demands", lambda found: found["demands"] and demanded(found["demands"])),
    Column("why", lambda found: "\n".join(found["reasons"])),
    Column("articles", lambda found: ", ".join(found["articles"])),
    Column("planned by", lambda found: found["model"] + (" (degraded)" if found["degraded"] else "")),
)


def _plan_body(found: JsonObject) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    steps = found["plan"]["steps"] if found["plan"] else ()
    return Group(facts(found, _DRY_RUN), *(styled(step_text(step)) for step in steps))


def demanded(demands: JsonObject) -> str:
    """What a plan needs, in words."""
    people = {0: "nobody is asked", 1: "one approver"}.get(demands["quorum"], f"{demands['quorum']} approvers")
    return f"tier {demands['tier']}, {people}{', royal assent' if demands['assent'] else ''}"


def step_text(step: JsonObject) -> str:
    """One step as it would run: what, where, why, and the exact commands."""
    preview = step["preview"]
    lines = [f"\nstep {step['number']}: {step['playbook']} on {step['system']}, tier {step['tier']}"]
    lines.append(f"  why: {step['why']}")
    lines.extend(f"  {name} = {json.dumps(value, ensure_ascii=False)}" for name, value in step["arguments"].items())
    lines.extend(f"  runs: {command}" for command in preview["commands"])
    lines.extend(f"  {line}" for line in preview.get("diff", "").splitlines())
    lines.append(f"  affects: {preview['blast_radius']}")
    lines.extend(f"  {title}: {preview[name]}" for title, name in _EXTRA if preview.get(name))
    if not step["reversible"] and not preview.get("undo") and step["effect"] != "read":
        lines.append("  cannot be undone")
    return "\n".join(lines)


_EXTRA: Final = (("undo", "undo"), ("now", "estimate"))


def instant(text: str) -> str:
    """A time as the service takes it: UTC with `Z`.

    Raises:
        Stop: it cannot be read.
    """
    later = _LATER.fullmatch(text)
    if later:
        when = datetime.now(UTC) + timedelta(**{_UNITS[later[2]]: int(later[1])})
    else:
        try:
            when = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            raise Stop(Exit.USAGE, "--at is no time.", following="Write 2026-12-01T03:00 or +2h.") from None
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def _parameters(pairs: tuple[str, ...], file: Path | None) -> JsonObject:
    found: JsonObject = {} if file is None else _object(file)
    seen: set[str] = set()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise Stop(Exit.USAGE, "--param takes KEY=VALUE.")
        if name in seen:
            raise Stop(Exit.USAGE, f"--param {name} stands there twice.", following="Which of the two? Give one.")
        seen.add(name)
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return text


def _object(file: Path) -> JsonObject:
    try:
        found = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Stop(Exit.USAGE, f"--params-file {file} cannot be read.", str(error)) from error
    if not isinstance(found, dict):
        raise Stop(Exit.USAGE, f"--params-file {file} holds no JSON object.")
    return found


def show_card(text: str) -> None:
    """Something to be read before a decision, on standard error: standard output is for the outcome."""
    write(styled(text), sys.stderr)
