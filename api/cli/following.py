"""Follows an operation to its end, or until people are needed, one line an event."""

import time
from collections.abc import Callable
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


def waits_for(op: JsonObject) -> str | None:
    """What an operation that stands still waits for, and how to give it; None while it moves by itself."""
    ident = op["id"]
    match op["stage"]:
        case "planned" if op["missing_approvals"]:
            missing = op["missing_approvals"]
            return f"It waits for {missing} approver{'s' if missing > 1 else ''}: triad approval approve {ident}"
        case "approved" if op["request"].get("scheduled_time"):
            return f"It is approved and starts at {moment(op['request']['scheduled_time'])}."
        case "escalated":
            return f"The crown asks a person to decide: triad op resolve {ident}"
        case "in_doubt":
            return f"A step is in doubt. Look at the system, then: triad op reconcile {ident}"
        case "halted":
            return "Everything is halted: triad release"
        case _:
            return None


def ending(op: JsonObject) -> Exit:
    """Say how an operation stands, and the exit code for that."""
    waiting = waits_for(op)
    for reason in op.get("reasons", ()):
        note(f"why: {reason}")
    note(waiting or f"{op['id']} is {op['stage']}.")
    return exit_of_stage(op["stage"])
