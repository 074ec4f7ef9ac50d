"""Asking the constitution with the facts of the record, and putting every no on the record."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from operations.canonical import Digest
from operations.constitution import Constitution, Statute
from operations.errors import NotAllowed, Refusal
from operations.events import AccessDenied
from operations.model import Actor, Branch, Direction, Principal, Ruling, RunMode, agent_principal
from operations.operation import Operation
from operations.policy import Action, Context, Decision, Resource
from operations.systems import Environment, Inventory
from storage.ledger import Ledger

_PAGE: Final = 500
"""Operations read at a time."""


def actor_of(principal: Principal, trace: str | None = None) -> Actor:
    """The principal as an event's actor."""
    return Actor(principal=principal.id, branch=principal.branch, trace=trace)


class Law:
    """The constitution in force, applied to operations as the ledger and the inventory know them."""

    def __init__(self, ledger: Ledger, statute: Statute, inventory: Inventory, mode: RunMode) -> None:
        self._ledger = ledger
        self._statute = statute
        self._inventory = inventory
        self._mode = mode

    @property
    def mode(self) -> RunMode:
        """The run mode that operations are planned in."""
        return self._mode

    def in_force(self) -> Constitution:
        """The constitution, after a look at the document on disk.

        Raises:
            ConstitutionChanged, ConstitutionInvalid: everything stays closed.
        """
        return self._statute.in_force()

    def expect(self, digest: Digest) -> None:
        """Another constitution came into force by the ledger; closed until the document on disk is that one."""
        self._statute.expect(digest)

    def now(self) -> datetime:
        """The time by which expiry is judged: never before the newest entry, so a clock set back revives nothing."""
        return self._ledger.clock()

    async def halted(self) -> bool:
        """Whether the crown has halted everything, as far as this process knows.

        Another process may just have ordered it: the transaction that consumes a warrant asks the database itself.
        A halt that is known is looked at again, because it may have been released.
        """
        return self._ledger.may_be_halted() and (await self._ledger.head()).halted

    def environments(self, op: Operation) -> frozenset[Environment]:
        """Those of the systems that the plan changes; a plan's read-only steps weigh nothing."""
        steps = op.plan.steps if op.plan else ()
        known = self._inventory.names()
        return frozenset(
            self._inventory.get(step.system).environment for step in steps if step.tier > 0 and step.system in known
        )

    def resource(self, op: Operation) -> Resource:
        """An operation as the constitution sees it now; the rollback plan's need is judged by its type and tier."""
        return Resource.of(op, self.now(), self.environments(op))

    async def decide(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        *,
        mode: RunMode | None = None,
        warranted: bool = False,
        passing: bool = False,
        ruling: Ruling | None = None,
        overdue_ratifications: int | None = None,
    ) -> Decision:
        """The constitution's answer."""
        context = Context(
            mode=mode or self._mode,
            halted=await self.halted(),
            warranted=warranted,
            passing=passing,
            ruling=ruling,
            overdue_ratifications=overdue_ratifications,
        )
        return self._statute.in_force().decide(principal, action, resource, context)

    async def decide_for(
        self,
        branch: Branch,
        action: Action,
        op: Operation,
        *,
        step: tuple[int, Direction, bool] | None = None,
        warranted: bool = False,
        passing: bool = False,
        ruling: Ruling | None = None,
    ) -> Decision:
        """The answer to a branch's agent about an operation, or about one `step` (number, direction, marked) of it."""
        resource = self.resource(op)
        if step:
            number, direction, marked = step
            resource = resource.step(number, direction, playbook_emergency=marked)
        mode = op.proposal.mode if op.proposal else self._mode
        return await self.decide(
            agent_principal(branch),
            action,
            resource,
            mode=mode,
            warranted=warranted,
            passing=passing,
            ruling=ruling,
        )

    async def demand(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        op: Operation | None = None,
        ruling: Ruling | None = None,
    ) -> None:
        """Return when it is permitted; otherwise put the refusal on the record and raise it.

        Raises:
            NotAllowed: with the articles it rests on.
        """
        overdue = await self.overdue_ratifications(principal) if resource.emergency else None
        decision = await self.decide(principal, action, resource, ruling=ruling, overdue_ratifications=overdue)
        try:
            decision.raise_if_denied()
        except NotAllowed as error:
            await self.refuse(principal, action, error, op)
            raise

    async def refuse(self, principal: Principal, action: Action, error: Refusal, op: Operation | None = None) -> None:
        """Put a refusal on the record; nothing else changes."""
        denied = AccessDenied(action=action.value, code=error.code, reasons=error.reasons, articles=error.articles)
        actor = actor_of(principal, op.trace if op else None)
        await self._ledger.note(denied, actor, operation=op.id if op else None)

    async def overdue_ratifications(self, principal: Principal) -> int:
        """How many emergencies that this person declared were started and not ratified by another in time."""
        limit = timedelta(minutes=self._statute.in_force().numbers.emergencies.ratify_within_minutes)
        owed = [
            op
            async for op in self._emergencies()
            if op.requester.person == principal.person and op.attempts and self.now() - op.requested > limit
        ]
        return len([op for op in owed if not await self._ratified(op)])

    async def _emergencies(self) -> AsyncIterator[Operation]:
        """All that ever were: a window could be filled with harmless ones."""
        before: str | None = None
        while page := await self._ledger.operations(emergency=True, before=before, limit=_PAGE):
            for op in page:
                yield op
            before = page[-1].id

    async def _ratified(self, op: Operation) -> bool:
        return bool(await self._ledger.entries(operation=op.id, kinds={"emergency.ratified"}, limit=1))
