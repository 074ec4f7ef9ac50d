"""`triad approval`: what waits for people, everything a decision rests on, and the decision."""

from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, Parameter

from api.cli.asking import CONSENT, ONCE, Consent, Once, confirm
from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.operations import Reason, operation_body
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, show_list, show_one, styled
from api.cli.profile import REACH, Reach
from api.cli.requests import demanded, show_card, step_text
from api.cli.sentences import moment

if TYPE_CHECKING:
    from rich.console import RenderableType

app = App(name="approval", help="Plans that wait for people: look at one, approve it or deny it.")

_LIST: Final = (
    Column("id", lambda card: card["id"]),
    Column("state", lambda card: card["state"]),
    Column("tier", lambda card: card["tier"]),
    Column("given", lambda card: f"{card['given']} of {card['quorum']}"),
    Column("yours", lambda card: "yes" if card["yours"]["may_decide"] else "no"),
    Column("expires", lambda card: moment(card["expires"])),
    Column("requester", lambda card: card["requester"]["id"]),
    Column("systems", lambda card: ", ".join(card["systems"])),
    Column("summary", lambda card: card["summary"][:80]),
)
_CARD: Final = (
    Column("operation", lambda card: card["id"]),
    Column("state", lambda card: card["state"]),
    Column("asked", lambda card: card["description"]),
    Column("by", lambda card: f"{card['requester']['id']} ({card['requester']['person']})"),
    Column("emergency", lambda card: "yes" if card["emergency"] else None),
    Column("plan", lambda card: f"{card['summary']} (version {card['version']})"),
    Column("digest", lambda card: card["plan"]),
    Column("planned by", lambda card: card["model"]),
    Column("needs", demanded),
    Column("why", lambda card: "\n".join(card["reasons"])),
    Column("articles", lambda card: ", ".join(card["articles"])),
    Column(
        "approved by", lambda card: "\n".join(f"{each['approver']}: {each['reason']}" for each in card["approvals"])
    ),
    Column("rollback", lambda card: card["rollback_plan"]),
    Column("holds if", lambda card: "\n".join(card["validation_criteria"])),
    Column("expires", lambda card: moment(card["expires"])),
    Column("you", lambda card: "may decide" if card["yours"]["may_decide"] else " ".join(card["yours"]["reasons"])),
)

PlanHash = Annotated[str | None, Parameter(name="--plan", metavar="DIGEST")]


@app.command(name="list")
def list_approvals(
    *,
    state: Annotated[Literal["pending", "all"], Parameter(name="--state", metavar="STATE")] = "pending",
    mine: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    limit: Annotated[int, Parameter(name=["-n", "--limit"], metavar="N")] = 30,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """List plans that wait for people, newest first.

    Args:
        state: pending, or all.
        mine: only those that you may decide on.
        limit: so many at most.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = list(client.items(f"{V1}/approvals", most=limit, state=state, mine="true" if mine else None))
    show_list(shape, found, _LIST, model="ApprovalSummary")
    return Exit.OK


@app.command
def show(ident: str, /, *, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show everything that a decision rests on.

    Args:
        ident: the operation's id.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        card = client.get(_path(ident)).data
    show_one(shape, card, lambda: _card(card), model="ApprovalCard")
    return Exit.OK


@app.command
def approve(
    ident: str,
    /,
    *,
    reason: Reason,
    plan: PlanHash = None,
    consent: Consent = CONSENT,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Say yes to exactly the plan that is shown. Another plan needs another yes.

    Args:
        ident: the operation's id.
        reason: why; it goes on record.
        plan: only if it is the plan with this digest.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    return _decide(ident, "approve", reason, plan, consent, once, reach, shape)


@app.command
def deny(
    ident: str,
    /,
    *,
    reason: Reason,
    plan: PlanHash = None,
    consent: Consent = CONSENT,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Say no to a plan, which ends the operation.

    Args:
        ident: the operation's id.
        reason: why; it goes on record.
        plan: only if it is the plan with this digest.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    return _decide(ident, "deny", reason, plan, consent, once, reach, shape)


def _decide(
    ident: str,
    decision: Literal["approve", "deny"],
    reason: str,
    plan: str | None,
    consent: Consent,
    once: Once,
    reach: Reach,
    shape: Shape,
) -> int:
    with Client.of(reach) as client:
        answer = client.get(_path(ident))
        card = answer.data
        show_card(_card_text(card))
        if plan is not None and plan != card["plan"]:
            raise Stop(
                Exit.ERROR,
                "The plan is another one than --plan names.",
                following="Read what is shown above, and decide on that.",
            )
        if not card["yours"]["may_decide"]:
            note(f"You may not decide on this: {' '.join(card['yours']['reasons'])}")
        else:
            verb = "Approve" if decision == "approve" else "Deny"
            confirm(f"{verb} exactly this plan {card['plan'][:16]}...?", consent)
        body = {"decision": decision, "reason": reason, "plan_hash": card["plan"]}
        seen = answer.etag or f'"{card["plan"]}"'
        op = client.post(f"{_path(ident)}/decision", body, key=once.key, If_Match=seen).data
    show_one(shape, op, lambda: operation_body(op), model="OperationView")
    return Exit.OK


def _card(card: JsonObject) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    return Group(facts(card, _CARD), *(styled(step_text(step)) for step in card["steps"]))


def _card_text(card: JsonObject) -> str:
    texts = ((column.title, column.text(card)) for column in _CARD)
    lines = [f"{title:<12} {str(text).replace(chr(10), chr(10) + ' ' * 13)}" for title, text in texts if text]
    return "\n".join([*lines, *(step_text(step) for step in card["steps"]), ""])


def _path(ident: str) -> str:
    return f"{V1}/approvals/{segment(ident)}"
