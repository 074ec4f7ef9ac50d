"""Follows an operation to its end, or until people are needed, one line an event."""

import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

from api.cli.client import V1, Client, TimeOver, segment
from api.cli.exits import Exit, Stop, ended, exit_of_stage
from api.cli.output import JsonObject, note
from api.cli.sentences import moment

Until = Literal["end", "people"]

_RESTING: Final = frozenset({"planned", "approved", "escalated", "in_doubt", "halted"})
"""Stages at which an operation may stand still until a person, or the clock, moves it."""


def follow(
    client: Client, ident: str, show: Callable[[JsonObject], None], *, until: Until, seconds: float | None
) -> JsonObject:
    """Show what happens to an operation, as it happens.

    Args:
        client: the service.
        ident: the operation.
        show: is given each entry.
        until: its end, or also the moment when it waits for people or for its time.
        seconds: give up after this long; None never.

    Returns:
        The operation as it stands then.

    Raises:
        Stop: Ctrl-C or time over; the operation goes on.
    """
    path = f"{V1}/operations/{segment(ident)}"
    _tell_of_a_halt(client)
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        for sent in client.events(f"{path}/events", after=-1, until=deadline):
            if sent.kind == "resync":
                continue
            show(sent.entry)
            stage = str(sent.entry.get("after", ""))
            if ended(stage):
                break
            if until == "people" and stage in _RESTING:
                op = client.get(path).data
                if waits_for(op) is not None:
                    return op
        return client.get(path).data
    except TimeOver:
        raise Stop(
            Exit.PENDING, "The time is over; the operation goes on.", following=f"Follow it: triad op watch {ident}"
        ) from None
    except KeyboardInterrupt:
        raise Stop(
            Exit.INTERRUPTED, "Stopped watching; the operation goes on.", following=f"Follow it: triad op watch {ident}"
        ) from None


_WHY: Final = '--reason "..."'
"""Every decision goes on record with a reason; the command line demands it."""


def waits_for(op: JsonObject) -> str | None:
    """What an operation that stands still waits for, and how to give it; None while it moves by itself."""
    ident = op["id"]
    match op["stage"]:
        case "planned" if op["missing_approvals"]:
            missing = op["missing_approvals"]
            return f"It waits for {missing} approver{'s' if missing > 1 else ''}: triad approval approve {ident} {_WHY}"
        case "approved" if op["request"].get("scheduled_time"):
            return f"It is approved and starts at {moment(op['request']['scheduled_time'])}."
        case "escalated":
            said = f"--ruling rollback {_WHY}"
            return f"The crown asks a person to decide (complete, rollback or fail): triad op resolve {ident} {said}"
        case "in_doubt":
            said = f"--happened {_WHY}"
            return (
                f"A step is in doubt. Look at the system, then (or --not-happened): triad op reconcile {ident} {said}"
            )
        case "halted":
            return f"Execution is halted by the crown; it goes on after: triad release {_WHY}"
        case _:
            return None


def _tell_of_a_halt(client: Client) -> None:
    halt = client.get("/health", also=(503,)).data.get("checks", {}).get("halt", {})
    if halt.get("status") == "warn":
        note(f"Execution is halted by the crown; no step begins before: triad release {_WHY}")


def _reminders(op: JsonObject) -> Iterator[str]:
    """What the requester would otherwise learn too late: a lowered run mode, a ratification that is owed."""
    mode = op["plan"] and op["plan"]["demands"]["mode"]
    if mode and mode != "autonomous":
        yield f"The plan counts in run mode {mode}: more goes before people than in autonomous mode."
    if op["request"].get("emergency") and any(step["attempts"] for step in op["steps"]):
        yield f"Another person has to ratify the emergency, unless one has: triad op ratify {op['id']} {_WHY}"


def ending(op: JsonObject) -> Exit:
    """Say how an operation stands, and the exit code for that."""
    waiting = waits_for(op)
    for reason in op.get("reasons", ()):
        note(f"why: {reason}")
    for line in _reminders(op):
        note(line)
    note(waiting or f"{op['id']} is {op['stage']}.")
    return exit_of_stage(op["stage"])
