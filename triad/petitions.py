"""What people and machines may ask for: submit, cancel, approve, deny, withdraw, reconcile, resolve.

Every door (API, CLI, console, chat) calls these; each asks the constitution first, and every refusal is recorded.
"""

from datetime import timedelta
from typing import Literal

from operations.constitution import Action, Resource, Statute
from storage.ledger import Act, Ledger

from operations.canonical import new_id, now
from operations.errors import Conflict, InvalidRequest, NotAllowed, NotFound, Refusal
from operations.events import (
    AccessDenied,
    ApprovalGiven,
    ApprovalRefused,
    ApprovalWithdrawn,
    CancelRequested,
    EscalationResolved,
    OperationCancelled,
    OperationRequested,
    StepReconciled,
)
from operations.model import Actor, Principal, Request
from operations.playbook import Catalogue
from operations.stages import Operation, Stage
from operations.systems import Inventory
from triad.authority import actor_of, ask, operation_resource
from triad.planning import Drafted, Planning
from triad.trace import new_trace_id, root

_CANCELLABLE = frozenset({Stage.REQUESTED, Stage.PLANNED, Stage.APPROVED})


class Petitions:
    """The acts that come from outside the branches."""

    def __init__(
        self, ledger: Ledger, statute: Statute, catalogue: Catalogue, inventory: Inventory, planning: Planning
    ) -> None:
        self._ledger = ledger
        self._statute = statute
        self._catalogue = catalogue
        self._inventory = inventory
        self._planning = planning

    async def submit(self, principal: Principal, request: Request, *, idempotency_key: str | None = None) -> Operation:
        """Record a request; the flow takes it from there.

        Raises:
            InvalidRequest: a field is wrong; nothing is recorded but the refusal.
            NotAllowed: the constitution does not permit it.
        """
        trace = new_trace_id()
        actor = actor_of(principal, trace)
        with root(trace, "operation", type=request.type.value, principal=principal.id):
            try:
                await self._admissible(principal, request)
            except Refusal as error:
                await self._refused(actor, Action.SUBMIT, error)
                raise
            event = OperationRequested(request=request, requester=principal, idempotency_key=idempotency_key)
            return await self._ledger.submit(event, actor)

    async def preview(self, principal: Principal, request: Request) -> Drafted:
        """The plan and what it would need, without recording an operation.

        Raises:
            InvalidRequest, NotAllowed: as for `submit`.
        """
        try:
            await self._admissible(principal, request)
        except Refusal as error:
            await self._refused(actor_of(principal), Action.SUBMIT, error)
            raise
        return await self._planning.draft(new_id("op"), request)

    async def approve(self, principal: Principal, ident: str, plan: str, reason: str, *, channel: str) -> Operation:
        """Say yes to exactly the plan with that digest.

        Raises:
            NotAllowed: not an approver, the requester, or a second voice of the same person.
            Conflict: `plan-changed`, `already-decided`, `not-waiting`.
        """
        op = await self._waiting(principal, ident, plan, Action.APPROVE)
        if any(a.person == principal.person and a.plan == plan for a in op.approvals):
            raise await self._conflict(principal, op, "already-decided", "You have already approved this plan.")
        expiry = self._statute.in_force().numbers.tier(op.proposal.tier if op.proposal else 3).approval_expiry_minutes
        event = ApprovalGiven(
            approval=new_id("ap"),
            plan=plan,
            approver=principal.id,
            person=principal.person,
            reason=reason,
            expires=now() + timedelta(minutes=expiry),
            channel=channel,
        )
        return await self._ledger.record(op, Act(event, actor_of(principal, op.trace)))

    async def deny(self, principal: Principal, ident: str, plan: str, reason: str, *, channel: str) -> Operation:
        """Say no to the plan, which ends the operation. The same right as approving.

        Raises:
            NotAllowed, Conflict: as for `approve`.
        """
        op = await self._waiting(principal, ident, plan, Action.APPROVE)
        event = ApprovalRefused(
            approval=new_id("ap"),
            plan=plan,
            approver=principal.id,
            person=principal.person,
            reason=reason,
            channel=channel,
        )
        return await self._ledger.record(op, Act(event, actor_of(principal, op.trace)))

    async def withdraw(self, principal: Principal, ident: str, reason: str) -> Operation:
        """Take one's own approval back, which is possible until the operation starts.

        Raises:
            Conflict: `not-withdrawable`: there is none, or the operation has started.
        """
        op = await self._readable(principal, ident)
        await self._ask(principal, Action.WITHDRAW, op)
        own = next((a for a in op.approvals if a.person == principal.person), None)
        if own is None or op.stage not in {Stage.PLANNED, Stage.APPROVED}:
            raise await self._conflict(principal, op, "not-withdrawable", "There is no approval of yours to withdraw.")
        event = ApprovalWithdrawn(approval=own.id, plan=own.plan, approver=principal.id, reason=reason)
        return await self._ledger.record(op, Act(event, actor_of(principal, op.trace)))

    async def cancel(self, principal: Principal, ident: str, reason: str) -> Operation:
        """Call an operation off; a running one stops after the step in hand and is then evaluated.

        Raises:
            Conflict: `not-cancellable`: it has ended, or is past the point.
        """
        op = await self._readable(principal, ident)
        await self._ask(principal, Action.CANCEL, op)
        actor = actor_of(principal, op.trace)
        if op.stage in _CANCELLABLE:
            cancelled = OperationCancelled(by=principal.id, reason=reason)
            return await self._ledger.record(op, Act(cancelled, actor))
        if op.stage is Stage.RUNNING:
            await self._ledger.note(CancelRequested(by=principal.id, reason=reason), actor, operation=op.id)
            return op
        raise await self._conflict(
            principal, op, "not-cancellable", f"An operation that is {op.stage.value} cannot be cancelled."
        )

    async def reconcile(self, principal: Principal, ident: str, *, happened: bool, reason: str) -> Operation:
        """Settle a step in doubt: it happened, or it did not.

        Raises:
            Conflict: `not-in-doubt`.
        """
        op = await self._readable(principal, ident)
        await self._ask(principal, Action.RECONCILE, op)
        doubt = next((a for a in op.attempts if a.status == "in_doubt"), None)
        if op.stage is not Stage.IN_DOUBT or doubt is None:
            raise await self._conflict(principal, op, "not-in-doubt", "No step of this operation is in doubt.")
        event = StepReconciled(
            step=doubt.step,
            attempt=doubt.attempt,
            direction=doubt.direction,
            happened=happened,
            by=principal.id,
            reasons=(reason,),
        )
        return await self._ledger.record(op, Act(event, actor_of(principal, op.trace)))

    async def resolve(
        self, principal: Principal, ident: str, ruling: Literal["complete", "rollback", "fail"], reason: str
    ) -> Operation:
        """Decide what the crown escalated. Complete is open only over a passed verdict.

        Raises:
            Conflict: `not-escalated`, `verdict-failed`.
        """
        op = await self._readable(principal, ident)
        await self._ask(principal, Action.RECONCILE, op)
        if op.stage is not Stage.ESCALATED:
            raise await self._conflict(principal, op, "not-escalated", "Nothing was escalated here.")
        if ruling == "complete" and not (op.verdict and op.verdict.passed):
            raise await self._conflict(principal, op, "verdict-failed", "A failed verdict cannot be completed.")
        event = EscalationResolved(ruling=ruling, by=principal.id, reason=reason)
        return await self._ledger.record(op, Act(event, actor_of(principal, op.trace)))

    async def show(self, principal: Principal, ident: str) -> Operation:
        """An operation, for those who may read it.

        Raises:
            NotFound: there is none, or not for this principal.
        """
        return await self._readable(principal, ident)

    async def _admissible(self, principal: Principal, request: Request) -> None:
        constitution = self._statute.in_force()
        for number, name in enumerate(request.systems):
            if name not in self._inventory.names():
                raise InvalidRequest(
                    "unknown-system",
                    "The inventory has no such system; `GET /api/v1/systems` lists them.",
                    field=f"systems.{number}",
                )
        if request.playbook is not None:
            self._check_playbook(request, request.playbook)
        if request.rollback_plan is None and constitution.required_rollback_plan(request.type, 0):
            raise InvalidRequest(
                "rollback-plan-missing",
                f"A {request.type.value} needs a rollback plan: say how the change would be taken back.",
                field="rollback_plan",
            )
        environments = {self._inventory.get(name).environment for name in request.systems}
        resource = Resource(
            kind="operation",
            id="new",
            environment=max(environments, key=lambda e: ("development", "staging", "production").index(e.value)).value,
            emergency=request.emergency,
        )
        constitution.decide(principal, Action.SUBMIT, resource).raise_if_denied()

    def _check_playbook(self, request: Request, name: str) -> None:
        if name not in self._catalogue:
            raise InvalidRequest(
                "unknown-playbook",
                "The catalogue has no such playbook; `GET /api/v1/playbooks` lists them.",
                field="playbook",
            )
        playbook = self._catalogue.get(name)
        kinds = {self._inventory.get(system).kind for system in request.systems}
        if not kinds & playbook.fits:
            raise InvalidRequest(
                "wrong-system-kind", f"{name} fits {', '.join(sorted(playbook.fits))}.", field="systems"
            )
        try:
            playbook.parse(request.parameters)
        except InvalidRequest as error:
            raise InvalidRequest(error.code, *error.reasons, field=f"parameters.{error.field}") from error

    async def _waiting(self, principal: Principal, ident: str, plan: str, action: Action) -> Operation:
        op = await self._readable(principal, ident)
        await self._ask(principal, action, op)
        if op.stage is not Stage.PLANNED or op.proposal is None:
            raise await self._conflict(
                principal, op, "not-waiting", f"The operation is {op.stage.value} and waits for no decision."
            )
        if op.proposal.plan != plan:
            raise await self._conflict(principal, op, "plan-changed", "The plan has changed; read it again.")
        if op.proposal.expires <= now():
            raise await self._conflict(principal, op, "expired", "The time to decide has run out, which means no.")
        return op

    async def _readable(self, principal: Principal, ident: str) -> Operation:
        op = await self._ledger.load(ident)
        decision = self._statute.in_force().decide(principal, Action.READ, operation_resource(op))
        if not decision.allowed:
            raise NotFound("unknown-operation", "There is no such operation.")
        return op

    async def _ask(self, principal: Principal, action: Action, op: Operation) -> None:
        await ask(self._ledger, self._statute, principal, action, operation_resource(op), op)

    async def _conflict(self, principal: Principal, op: Operation, code: str, reason: str) -> Conflict:
        error = Conflict(code, reason)
        await self._refused(actor_of(principal, op.trace), Action.APPROVE, error, op)
        return error

    async def _refused(self, actor: Actor, action: Action, error: Refusal, op: Operation | None = None) -> None:
        articles = error.articles if isinstance(error, NotAllowed) else ()
        denied = AccessDenied(action=action.value, code=error.code, reasons=error.reasons, articles=articles)
        await self._ledger.note(denied, actor, operation=op.id if op else None)
