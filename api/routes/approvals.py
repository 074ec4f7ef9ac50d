"""Approvals: what waits for people, everything a decision rests on, and the decision."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, once, page
from api.auth import Caller
from api.body import Asked, asked, described
from api.problems import Rejection
from api.routes.operations import Before, Limit, cursor_of, known_id
from api.schemas import ApprovalCard, Approvals, Decision, OperationView
from api.service import Doors
from api.views import V1, approval_card, approval_summary, operation_view
from operations.errors import Conflict
from operations.operation import Operation
from operations.stages import Stage

router = APIRouter(prefix=f"{V1}/approvals", tags=["approvals"])

CHANNEL = "api"


@router.get("", response_model=Approvals)
async def approvals(
    caller: Caller,
    doors: Doors,
    request: HttpRequest,
    *,
    state: Annotated[
        Literal["pending", "all"], Query(description="pending: those that wait for people now")
    ] = "pending",
    mine: Annotated[bool, Query(description="only those that the caller may decide on")] = False,
    limit: Limit = 50,
    before: Before = None,
) -> Response:
    """The plans that wait for people, newest first."""
    stages = {Stage.PLANNED} if state == "pending" else None
    found = await doors.triad.ledger.operations(stages=stages, before=cursor_of(before), limit=limit)
    sight = await doors.sight(caller)
    shown = [approval_summary(op, sight) for op in found if _needs_people(op) and sight.sees(op)]
    items = tuple(
        each for each in shown if (state == "all" or each.state == "pending") and (not mine or each.yours.may_decide)
    )
    return page(Approvals(items=items), request, found[-1].id if len(found) == limit else None)


def _needs_people(op: Operation) -> bool:
    return op.plan is not None and op.proposal is not None and op.proposal.quorum + op.extra_quorum > 0


@router.get("/{ident}", response_model=ApprovalCard)
async def approval(ident: str, caller: Caller, doors: Doors) -> Response:
    """Everything that a decision on this operation's plan rests on. Its ETag is the plan's digest."""
    op = await doors.triad.petitions.show(caller, known_id(ident))
    proposals = await doors.triad.ledger.entries(operation=op.id, kinds={"plan.proposed"})
    sight = await doors.sight(caller)
    card = approval_card(op, sight, proposals[-1] if proposals else None, doors.triad.inventory)
    return answer(card, etag=card.plan)


@router.post(
    "/{ident}/decision",
    response_model=OperationView,
    openapi_extra=described(
        Decision, {"decision": "approve", "reason": "Small, reversible, in the window.", "plan_hash": "0" * 64}
    ),
)
async def decide(
    ident: str,
    received: Annotated[Asked[Decision], Depends(asked(Decision))],
    doors: Doors,
    if_match: Annotated[str | None, Header(description="the approval's ETag, as it was seen")] = None,
) -> Response:
    """Say yes or no to exactly one plan. No model reads it; another plan needs another decision."""
    body, petitions = received.value, doors.triad.petitions

    async def act(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        op = await petitions.show(received.caller, known_id(ident))
        if if_match is None or if_match.strip() == "*":
            raise Rejection("precondition-required", "If-Match names the plan that was seen.", field="If-Match")
        if if_match.strip() != f'"{body.plan_hash}"':
            raise Conflict("plan-changed", "If-Match and plan_hash do not name the same plan.", field="plan_hash")
        say = petitions.approve if body.decision == "approve" else petitions.deny
        decided = await say(received.caller, op.id, body.plan_hash, body.reason, channel=CHANNEL)
        return answer(operation_view(decided))

    return await once(doors, received, act)
