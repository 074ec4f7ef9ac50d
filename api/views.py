"""How the domain's values look from outside."""

from typing import Literal

from api.schemas import (
    ApprovalCard,
    ApprovalSummary,
    CardStep,
    Demands,
    EntryView,
    Links,
    OperationView,
    PlanSummary,
    PlanVersion,
    PlanView,
    StepState,
    Who,
    Yours,
)
from api.service import Sight
from operations.canonical import now
from operations.errors import NotFound
from operations.events import PlanProposed
from operations.model import Direction, Plan, Principal, Step
from operations.operation import Operation
from operations.policy import Action
from operations.stages import Stage
from operations.systems import Inventory
from storage.entry import Entry
from triad.approval import missing, standing

V1 = "/api/v1"


def who(principal: Principal) -> Who:
    """A principal, as others see it."""
    return Who(id=principal.id, kind=principal.kind, person=principal.person)


def links(ident: str) -> Links:
    """Where to go from an operation."""
    here = f"{V1}/operations/{ident}"
    return Links(
        self=here,
        plan=f"{here}/plan",
        timeline=f"{here}/timeline",
        events=f"{here}/events",
        approval=f"{V1}/approvals/{ident}",
    )


def demands(op: Operation, proposal: PlanProposed) -> Demands:
    """What the plan in hand needs, with what an escalation added."""
    return Demands(
        tier=proposal.tier,
        mode=proposal.mode,
        quorum=proposal.quorum + op.extra_quorum,
        assent=proposal.assent,
        expires=proposal.expires,
        reasons=proposal.reasons,
        articles=proposal.articles,
    )


def operation_view(op: Operation) -> OperationView:
    """An operation."""
    return OperationView(
        id=op.id,
        stage=op.stage,
        finished=op.stage.terminal,
        version=op.version,
        request=op.request,
        requester=who(op.requester),
        requested=op.requested,
        updated=op.updated,
        constitution=op.constitution,
        trace=op.trace,
        plan=_plan_summary(op),
        approvals=op.approvals,
        missing_approvals=0 if op.stage.terminal else missing(op, now()),
        assented=op.assented,
        steps=tuple(_step_state(op, step) for step in (op.plan.steps if op.plan else ())),
        execution=op.execution,
        checks=op.checks,
        verdict=op.verdict,
        ruling=op.ruling,
        rollback=op.rollback,
        reasons=op.reasons,
        code=op.code,
        links=links(op.id),
    )


def _plan_summary(op: Operation) -> PlanSummary | None:
    if op.proposal is None:
        return None
    proposal = op.proposal
    return PlanSummary(
        digest=proposal.plan,
        version=proposal.version,
        summary=proposal.summary,
        sop=proposal.sop,
        demands=demands(op, proposal),
    )


def _step_state(op: Operation, step: Step) -> StepState:
    done, undone = op.latest(step.number, Direction.DO), op.latest(step.number, Direction.UNDO)
    skipped = step.number in op.skipped
    return StepState(
        number=step.number,
        playbook=step.playbook,
        system=step.system,
        done="skipped" if skipped else done.status if done else "pending",
        undone=undone.status if undone else None,
        attempts=sum(1 for each in op.attempts if each.step == step.number and each.direction is Direction.DO),
        summary=(undone or done).summary if undone or done else "",  # type: ignore[union-attr] # one of them is there
    )


def in_hand(op: Operation) -> tuple[PlanProposed, Plan]:
    """The plan in hand.

    Raises:
        NotFound: `no-plan`, or `ended-without-plan`.
    """
    if op.proposal is None or op.plan is None:
        if op.stage.terminal:
            raise NotFound("ended-without-plan", f"{op.stage.value}: {' '.join(op.reasons) or 'no reason was given.'}")
        raise NotFound("no-plan", "The operation has no plan now.")
    return op.proposal, op.plan


def plan_view(op: Operation, proposals: list[Entry]) -> PlanView:
    """The plan in hand, whole, and the plans before it."""
    proposal, plan = in_hand(op)
    return PlanView(
        operation=op.id,
        digest=proposal.plan,
        plan=plan,
        demands=demands(op, proposal),
        versions=tuple(
            PlanVersion(
                version=entry.event.version,
                digest=entry.event.plan,
                proposed=entry.time,
                model=entry.model,
                prompt=entry.prompt,
            )
            for entry in proposals
            if isinstance(entry.event, PlanProposed)
        ),
    )


def entry_view(entry: Entry) -> EntryView:
    """An entry of the ledger."""
    return EntryView(
        index=entry.index,
        time=entry.time,
        kind=entry.kind,
        operation=entry.operation,
        mission=entry.mission,
        branch=entry.branch,
        principal=entry.principal,
        constitution=entry.constitution,
        model=entry.model,
        prompt=entry.prompt,
        trace=entry.trace,
        before=entry.before,
        after=entry.after,
        event=entry.event,
    )


def approval_summary(op: Operation, sight: Sight) -> ApprovalSummary:
    """A plan that waits, or waited, for people.

    Raises:
        NotFound: `no-plan`.
    """
    proposal, plan = in_hand(op)
    return ApprovalSummary(
        id=op.id,
        plan=proposal.plan,
        state=_approval_state(op, proposal),
        stage=op.stage,
        summary=proposal.summary,
        systems=tuple(dict.fromkeys(step.system for step in plan.steps)),
        requester=who(op.requester),
        requested=op.requested,
        emergency=op.request.emergency,
        tier=proposal.tier,
        quorum=proposal.quorum + op.extra_quorum,
        given=len(standing(op, now())),
        missing=missing(op, now()),
        expires=proposal.expires,
        yours=_yours(op, proposal, sight),
    )


def _approval_state(op: Operation, proposal: PlanProposed) -> Literal["pending", "approved", "ended"]:
    if op.stage is Stage.PLANNED:
        return "pending" if proposal.expires > now() else "ended"
    ended = {Stage.REFUSED, Stage.DENIED, Stage.VETOED, Stage.CANCELLED, Stage.EXPIRED}
    return "ended" if op.stage in ended else "approved"


def _yours(op: Operation, proposal: PlanProposed, sight: Sight) -> Yours:
    if _approval_state(op, proposal) != "pending":
        return Yours(may_decide=False, code="not-waiting", reasons=("It waits for no decision.",), articles=())
    decision = sight.decide(Action.APPROVE, sight.triad.law.resource(op))
    return Yours(may_decide=decision.allowed, code=decision.code, reasons=decision.texts, articles=decision.articles)


def approval_card(op: Operation, sight: Sight, planned: Entry | None, inventory: Inventory) -> ApprovalCard:
    """Everything that a decision rests on.

    Args:
        op: the operation.
        sight: of who asks.
        planned: the entry that proposed the plan: which model said so.
        inventory: where the systems stand.

    Raises:
        NotFound: `no-plan`.
    """
    summary = approval_summary(op, sight)
    proposal, plan = in_hand(op)
    return ApprovalCard(
        **{name: getattr(summary, name) for name in ApprovalSummary.model_fields},
        version=proposal.version,
        description=op.request.description,
        authority=op.request.authority.value,
        mode=proposal.mode,
        sop=proposal.sop,
        steps=tuple(_card_step(step, inventory) for step in plan.steps),
        rollback_plan=op.request.rollback_plan,
        validation_criteria=plan.validation_criteria,
        model=planned.model if planned else None,
        prompt=planned.prompt if planned else None,
        constitution=plan.constitution,
        assent=proposal.assent,
        assented=op.assented,
        approvals=op.approvals,
        reasons=proposal.reasons,
        articles=proposal.articles,
        links=links(op.id),
    )


def _card_step(step: Step, inventory: Inventory) -> CardStep:
    known = step.system in inventory.names()
    return CardStep(
        number=step.number,
        playbook=step.playbook,
        system=step.system,
        environment=inventory.get(step.system).environment if known else None,
        tier=step.tier,
        effect=step.effect,
        reversible=step.reversible,
        optional=step.optional,
        arguments=step.arguments,
        why=step.why,
        expected_effect=step.expected_effect,
        preview=step.preview,
    )
