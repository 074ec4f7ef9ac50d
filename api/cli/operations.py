"""`triad op`: where operations stand, what happened to them, and what a person may say to one."""

import sys
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, Parameter

from api.cli.asking import CONSENT, ONCE, Consent, Once, confirm
from api.cli.client import V1, Client, segment
from api.cli.exits import Exit
from api.cli.following import ending, follow
from api.cli.output import (
    SHAPE,
    Column,
    JsonObject,
    Shape,
    as_line,
    facts,
    out,
    show_list,
    show_one,
    styled,
)
from api.cli.profile import REACH, Reach
from api.cli.sentences import entry_line, moment, sentence

if TYPE_CHECKING:
    from rich.console import RenderableType

app = App(name="op", help="Operations: where they stand, what happened, and what you say to one.")

Reason = Annotated[str, Parameter(name="--reason", metavar="TEXT")]


def missing_text(count: int) -> str | None:
    """How many approvals are missing, in words; None when none is."""
    return f"{count} approval{'s' if count > 1 else ''} missing" if count else None


_LIST: Final = (
    Column("id", lambda op: op["id"]),
    Column("stage", lambda op: op["stage"]),
    Column("tier", lambda op: op["plan"]["demands"]["tier"] if op["plan"] else "-"),
    Column("systems", lambda op: ", ".join(op["request"]["systems"])),
    Column("requester", lambda op: op["requester"]["id"]),
    Column("requested", lambda op: moment(op["requested"])),
    Column("description", lambda op: op["request"]["description"].splitlines()[0][:80]),
)
_FACTS: Final = (
    Column("id", lambda op: op["id"]),
    Column("stage", lambda op: op["stage"]),
    Column("code", lambda op: op["code"]),
    Column("why", lambda op: "\n".join(op["reasons"])),
    Column("asked", lambda op: op["request"]["description"]),
    Column("by", lambda op: f"{op['requester']['id']} at {moment(op['requested'])}"),
    Column("systems", lambda op: ", ".join(op["request"]["systems"])),
    Column("starts", lambda op: moment(op["request"].get("scheduled_time"))),
    Column("plan", lambda op: op["plan"] and f"{op['plan']['summary']} (version {op['plan']['version']})"),
    Column("tier", lambda op: op["plan"] and op["plan"]["demands"]["tier"]),
    Column("approvals", lambda op: "\n".join(f"{each['approver']}: {each['reason']}" for each in op["approvals"])),
    Column("waiting", lambda op: missing_text(op["missing_approvals"])),
    Column("execution", lambda op: op["execution"] and op["execution"]["report"]),
    Column("ruling", lambda op: op["ruling"]),
    Column("trace", lambda op: op["trace"]),
)


@app.command(name="list")
def list_operations(
    *,
    stage: Annotated[tuple[str, ...], Parameter(negative=(), metavar="STAGE", show_default=False)] = (),
    mine: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    limit: Annotated[int, Parameter(name=["-n", "--limit"], metavar="N")] = 30,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """List operations, newest first.

    Args:
        stage: only those at this stage; give it once for each.
        mine: only your own.
        limit: so many at most.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = list(
            client.items(f"{V1}/operations", most=limit, stage=list(stage) or None, mine="true" if mine else None)
        )
    show_list(shape, found, _LIST, model="OperationView")
    return Exit.OK


@app.command
def show(ident: str, /, *, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show one operation.

    Args:
        ident: its id.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        op = client.get(_path(ident)).data
    show_one(shape, op, lambda: operation_body(op), model="OperationView")
    return Exit.OK


@app.command
def watch(
    ident: str,
    /,
    *,
    timeout: Annotated[float | None, Parameter(metavar="SECONDS")] = None,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Follow an operation to its end, one line an event; the exit code says how it ended.

    Args:
        ident: its id.
        timeout: follow it for so long at most.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        op = follow(client, ident, entry_writer(shape), until="end", seconds=timeout)
    return ending(op)


@app.command
def timeline(ident: str, /, *, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Print what happened to an operation, oldest first.

    Args:
        ident: its id.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = list(client.items(f"{_path(ident)}/timeline", most=sys.maxsize))
    if shape.form == "table":
        for entry in found:
            out(entry_line(entry))
    else:
        show_list(shape, found, TIMELINE, model="EntryView", ident="index")
    return Exit.OK


@app.command
def cancel(
    ident: str,
    /,
    *,
    reason: Reason,
    consent: Consent = CONSENT,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Call an operation off. A running one stops after the step in hand and is then evaluated.

    Args:
        ident: its id.
        reason: why; it goes on record.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    confirm(f"Cancel {ident}?", consent)
    return _say(ident, "cancel", {"reason": reason}, once, reach, shape)


@app.command
def withdraw(ident: str, /, *, reason: Reason, once: Once = ONCE, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Take your own approval back, which is possible until the operation starts.

    Args:
        ident: its id.
        reason: why; it goes on record.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    return _say(ident, "withdraw", {"reason": reason}, once, reach, shape)


@app.command
def reconcile(
    ident: str,
    /,
    *,
    happened: Annotated[bool, Parameter(name="--happened", negative="--not-happened")],
    reason: Reason,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Say what happened to a step in doubt, after you looked at the system; the operation goes on from there.

    Args:
        ident: its id.
        happened: whether the step took effect; "partly" counts as happened.
        reason: how you know; it goes on record.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    return _say(ident, "reconcile", {"happened": happened, "reason": reason}, once, reach, shape)


@app.command
def resolve(
    ident: str,
    /,
    *,
    ruling: Annotated[Literal["complete", "rollback", "fail"], Parameter(metavar="RULING")],
    reason: Reason,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Decide what the crown escalated. Nobody can complete over a failed verdict.

    Args:
        ident: its id.
        ruling: what shall become of it.
        reason: why; it goes on record.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    return _say(ident, "resolve", {"ruling": ruling, "reason": reason}, once, reach, shape)


@app.command
def ratify(ident: str, /, *, reason: Reason, once: Once = ONCE, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Stand, as the second person, behind an emergency that was declared.

    Args:
        ident: its id.
        reason: why; it goes on record.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    return _say(ident, "ratify", {"reason": reason}, once, reach, shape)


TIMELINE: Final = (
    Column("index", lambda entry: entry["index"]),
    Column("time", lambda entry: moment(entry["time"])),
    Column("kind", lambda entry: entry["kind"]),
    Column("who", lambda entry: entry["principal"]),
    Column("what", sentence),
)


class EntryWriter:
    """Prints entries as they come: as lines, or as JSON, one a line."""

    def __init__(self, shape: Shape, *, place: bool) -> None:
        self._json = shape.form in {"json", "jsonl"}
        self._place = place

    def __call__(self, entry: JsonObject) -> None:
        """Print one."""
        out(as_line(entry) if self._json else entry_line(entry, place=self._place))


def entry_writer(shape: Shape, *, place: bool = False) -> EntryWriter:
    """What prints entries in the asked form; `place` adds index and operation."""
    return EntryWriter(shape, place=place)


def operation_body(op: JsonObject) -> "RenderableType":
    """An operation as a person reads it."""
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    lines = [_step_line(step) for step in op["steps"]]
    lines += [_check_line(check) for check in op["checks"]]
    return Group(facts(op, _FACTS), *(styled(line) for line in lines))


def _check_line(check: JsonObject) -> str:
    verdict = "passed" if check["passed"] else "FAILED"
    return f"check {check['name']} after step {check['step']}: {verdict}; {check['observed']}"


def _step_line(step: JsonObject) -> str:
    undone = f", undo {step['undone']}" if step["undone"] else ""
    tail = f": {step['summary']}" if step["summary"] else ""
    return f"step {step['number']}  {step['playbook']} on {step['system']}: {step['done']}{undone}{tail}"


def _say(ident: str, verb: str, body: JsonObject, once: Once, reach: Reach, shape: Shape) -> int:
    with Client.of(reach) as client:
        op = client.post(f"{_path(ident)}/{verb}", body, key=once.key).data
    show_one(shape, op, lambda: operation_body(op), model="OperationView")
    return Exit.OK


def _path(ident: str) -> str:
    return f"{V1}/operations/{segment(ident)}"
