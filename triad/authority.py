"""Asking the constitution on behalf of a principal, and recording every no."""

from operations.constitution import Action, Resource, Statute
from storage.ledger import Ledger

from operations.errors import NotAllowed
from operations.events import AccessDenied
from operations.model import Actor, Principal
from operations.stages import Operation


def actor_of(principal: Principal, trace: str | None = None) -> Actor:
    """The principal as an event's actor."""
    return Actor(principal=principal.id, branch=principal.branch, trace=trace)


def operation_resource(op: Operation) -> Resource:
    """An operation as the constitution sees it."""
    return Resource(
        kind="operation",
        id=op.id,
        tier=op.proposal.tier if op.proposal else 0,
        emergency=op.request.emergency,
        requester=op.requester.id,
        requester_person=op.requester.person,
    )


async def ask(
    ledger: Ledger,
    statute: Statute,
    principal: Principal,
    action: Action,
    resource: Resource,
    op: Operation | None = None,
) -> None:
    """Return when the constitution permits it; otherwise record the refusal and raise it.

    Raises:
        NotAllowed: with the articles it rests on.
    """
    try:
        statute.in_force().decide(principal, action, resource).raise_if_denied()
    except NotAllowed as error:
        denied = AccessDenied(action=action.value, code=error.code, reasons=error.reasons, articles=error.articles)
        await ledger.note(denied, actor_of(principal, op.trace if op else None), operation=op.id if op else None)
        raise
