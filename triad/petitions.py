"""What people and machines may ask for: submit, cancel, approve, deny, withdraw, reconcile, resolve.

Every door (API, CLI, console, chat) calls these; each asks the constitution first, and every refusal is recorded.
"""

from datetime import timedelta
from typing import Final, Literal

from operations.canonical import canonical_record, instant_text, new_id
from operations.errors import Conflict, InvalidRequest, NotFound, Refusal
from operations.events import (
    ApprovalGiven,
    ApprovalRefused,
    ApprovalWithdrawn,
    CancelRequested,
    EmergencyRatified,
    EscalationResolved,
    OperationCancelled,
    OperationRequested,
    StepReconciled,
)
from operations.model import Principal, Request, Ruling
from operations.operation import Operation
from operations.playbook import Catalogue
from operations.policy import Action, Resource
from operations.stages import Stage
from operations.systems import Inventory
from storage.ledger import Act, Ledger
from triad.law import Law, actor_of
from triad.planning import Drafted, Planning
from triad.trace import new_trace_id, root

MAX_REQUEST_BYTES: Final = 10_000
"""Most canonical bytes of a request: it has to fit into one entry of the ledger."""

_CANCELLABLE = frozenset({Stage.REQUESTED, Stage.PLANNED, Stage.APPROVED})
_STOPPABLE = frozenset({Stage.RUNNING, Stage.HALTED, Stage.IN_DOUBT, Stage.ESCALATED})


class Petitions:
    """The acts that come from outside the branches."""

    def __init__(
        self, ledger: Ledger, law: Law, catalogue: Catalogue, inventory: Inventory, planning: Planning
    ) -> None:
        self._ledger = ledger
        self._law = law
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
            await self._admit(principal, request)
            event = OperationRequested(request=request, requester=principal, idempotency_key=idempotency_key)
            return await self._ledger.submit(event, actor)

    async def preview(self, principal: Principal, request: Request) -> Drafted:
        """The plan and what it would need, without recording an operation.

        Raises:
            InvalidRequest, NotAllowed: as for `submit`.
        """
        await self._admit(principal, request)
        return await self._planning.draft(new_id("op"), request)

    async def approve(self, principal: Principal, ident: str, plan: str, reason: str, *, channel: str) -> Operation:
        """Say yes to exactly the plan with that digest.

        Raises:
            NotAllowed: not an approver, the requester, or a second voice of the same person.
            Conflict: `plan-changed`, `expired`, `not-waiting`; `scheduled-too-late`: it is to start when the approval
                would have run out.
        """
        op = await self._waiting(principal, ident, plan, Action.APPROVE)
        expiry = self._law.in_force().numbers.tiers[op.proposal.tier if op.proposal else 3].approval_expiry_minutes
        expires = self._law.now() + timedelta(minutes=expiry)
        if op.request.scheduled_time is not None and op.request.scheduled_time >= expires:
            why = (
                f"It is to start at {instant_text(op.request.scheduled_time)}, and an approval lasts {expiry} minutes."
            )
            raise await self._conflict(principal, Action.APPROVE, op, "scheduled-too-late", why)
        event = ApprovalGiven(
            approval=new_id("ap"),
            plan=plan,
            approver=principal.id,
            person=principal.person,
            reason=reason,
            expires=expires,
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
        """Take one's own approval back, renewed ones too, which is possible until the operation starts.

        Raises:
            Conflict: `not-withdrawable`: there is none, or the operation has started.
        """
        op = await self._readable(principal, ident)
        own = [a for a in op.approvals if a.person == principal.person]
        if own:
            await self._ask(principal, Action.WITHDRAW, op)
        if not own or op.stage not in {Stage.PLANNED, Stage.APPROVED}:
            raise await self._conflict(
                principal, Action.WITHDRAW, op, "not-withdrawable", "There is no approval of yours to withdraw."
            )
        actor = actor_of(principal, op.trace)
        gone = [ApprovalWithdrawn(approval=a.id, plan=a.plan, approver=principal.id, reason=reason) for a in own]
        return await self._ledger.record(op, *(Act(event, actor) for event in gone))

    async def cancel(self, principal: Principal, ident: str, reason: str) -> Operation:
        """Call an operation off; one that has begun stops before its next step and is then evaluated.

        A halted one stops once the halt is released, one in doubt once that is settled; for one that was escalated the
        wish is put on the record for whoever resolves it. A rollback is not called off.

        Raises:
            Conflict: `not-cancellable`: it has ended, or is past the point.
        """
        op = await self._readable(principal, ident)
        await self._ask(principal, Action.CANCEL, op)
        actor = actor_of(principal, op.trace)
        if op.stage in _CANCELLABLE:
            cancelled = OperationCancelled(by=principal.id, reason=reason)
            return await self._ledger.record(op, Act(cancelled, actor))
        if op.stage in _STOPPABLE and op.rollback is None:
            await self._ledger.note(CancelRequested(by=principal.id, reason=reason), actor, operation=op.id)
            return op
        raise await self._conflict(
            principal,
            Action.CANCEL,
            op,
            "not-cancellable",
            f"An operation that is {op.stage.value} cannot be cancelled."
            if op.rollback is None
            else "It is being rolled back, which cannot be cancelled.",
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
            raise await self._conflict(
                principal, Action.RECONCILE, op, "not-in-doubt", "No step of this operation is in doubt."
            )
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
        """Decide what the crown escalated. Complete is not open over a failed check (article 13).

        Raises:
            Conflict: `not-escalated`, `checks-failed`.
        """
        op = await self._readable(principal, ident)
        await self._law.demand(principal, Action.RULE, self._law.resource(op), op, ruling=Ruling(ruling))
        if op.stage is not Stage.ESCALATED:
            raise await self._conflict(principal, Action.RULE, op, "not-escalated", "Nothing was escalated here.")
        if ruling == "complete" and not (op.verdict and op.verdict.checks_passed):
            raise await self._conflict(
                principal, Action.RULE, op, "checks-failed", "A check did not pass, so it cannot be completed."
            )
        event = EscalationResolved(ruling=ruling, by=principal.id, person=principal.person, reason=reason)
        return await self._ledger.record(op, Act(event, actor_of(principal, op.trace)))

    async def ratify(self, principal: Principal, ident: str, reason: str) -> Operation:
        """Ratify an emergency afterwards, as the second person that its waived approval is owed by.

        Raises:
            Conflict: `not-an-emergency`, `already-ratified`.
        """
        op = await self._readable(principal, ident)
        if not op.request.emergency:
            raise await self._conflict(principal, Action.RATIFY, op, "not-an-emergency", "This was no emergency.")
        await self._ask(principal, Action.RATIFY, op)
        if await self._ledger.entries(operation=op.id, kinds={"emergency.ratified"}, limit=1):
            raise await self._conflict(principal, Action.RATIFY, op, "already-ratified", "It was ratified before.")
        event = EmergencyRatified(by=principal.id, person=principal.person, reason=reason)
        await self._ledger.note(event, actor_of(principal, op.trace), operation=op.id)
        return op

    async def show(self, principal: Principal, ident: str) -> Operation:
        """An operation, for those who may read it.

        Raises:
            NotFound: there is none, or not for this principal.
        """
        return await self._readable(principal, ident)

    async def _admit(self, principal: Principal, request: Request) -> None:
        await self._law.demand(principal, Action.SUBMIT, Resource.asked(new_id("op"), request, principal))
        try:
            self._admissible(request)
        except Refusal as error:
            await self._law.refuse(principal, Action.SUBMIT, error)
            raise

    def _admissible(self, request: Request) -> None:
        constitution = self._law.in_force()
        if len(canonical_record(request)) > MAX_REQUEST_BYTES:
            raise InvalidRequest(
                "request-too-large", f"A request may take {MAX_REQUEST_BYTES} bytes; say it in fewer words."
            )
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
                principal, action, op, "not-waiting", f"The operation is {op.stage.value} and waits for no decision."
            )
        if op.proposal.plan != plan:
            raise await self._conflict(principal, action, op, "plan-changed", "The plan has changed; read it again.")
        if op.proposal.expires <= self._law.now():
            raise await self._conflict(
                principal, action, op, "expired", "The time to decide has run out, which means no."
            )
        return op

    async def _readable(self, principal: Principal, ident: str) -> Operation:
        op = await self._ledger.load(ident)
        decision = await self._law.decide(principal, Action.READ, self._law.resource(op))
        if not decision.allowed:
            raise NotFound("unknown-operation", "There is no such operation.")
        return op

    async def _ask(self, principal: Principal, action: Action, op: Operation) -> None:
        await self._law.demand(principal, action, self._law.resource(op), op)

    async def _conflict(self, principal: Principal, action: Action, op: Operation, code: str, reason: str) -> Conflict:
        error = Conflict(code, reason)
        await self._law.refuse(principal, action, error, op)
        return error
