"""What one organ hands back to the flow: the operation as it stands, and what is to be recorded next."""

from dataclasses import dataclass

from operations.events import AnyEvent
from operations.model import Actor, Branch, Tokens, agent_principal
from operations.operation import Operation
from storage.ledger import Act

SYSTEM = "triad"
"""The principal of what code alone decides."""


@dataclass(frozen=True, slots=True)
class Turn:
    """`op` after everything the organ recorded itself; `acts` are for the flow to record as one unit."""

    op: Operation
    acts: tuple[Act, ...]


def by_code(event: AnyEvent, branch: Branch, op: Operation | None = None, *attachments: bytes) -> Act:
    """An event that code decided on behalf of a branch."""
    return Act(event, Actor(principal=SYSTEM, branch=branch, trace=op.trace if op else None), attachments)


def by_mind(
    event: AnyEvent, branch: Branch, op: Operation, *, model: str, prompt: str, tokens: Tokens | None = None
) -> Act:
    """An event that rests on what a branch's model said."""
    actor = Actor(
        principal=agent_principal(branch).id, branch=branch, model=model, prompt=prompt, tokens=tokens, trace=op.trace
    )
    return Act(event, actor, ())
