"""From a request to a plan: the planner proposes, code binds.

The planner names playbooks, systems and arguments, within what the request fixed. Everything that carries authority
(tier, effect class, digests, preview, quorum) is read from the catalogue, the inventory and the constitution.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agents.outputs import DraftStep, PlanDraft, PlanRefusal
from agents.planner import Planner
from agents.thought import Degraded, Thought
from operations.canonical import digest_of
from operations.constitution import Constitution
from operations.errors import InvalidRequest, NotFound, PlaybookFailed, Refusal
from operations.events import AgentDegraded, PlanProposed, PlanRefused
from operations.evidence import Effect
from operations.model import Branch, Plan, Request, RunMode, Step
from operations.operation import Operation
from operations.playbook import Catalogue
from operations.policy import Action
from operations.requirements import Requirements
from operations.systems import Inventory, System
from triad.briefing import planner_facts
from triad.inspection import shown
from triad.law import Law
from triad.lookups import Observatory
from triad.overreach import bound, overreaches
from triad.targets import observing
from triad.trace import span
from triad.turn import Turn, by_code, by_mind

_LOWER: Final = {
    RunMode.AUTONOMOUS: RunMode.REVIEW,
    RunMode.REVIEW: RunMode.OBSERVE,
    RunMode.OBSERVE: RunMode.OBSERVE,
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A bound plan and what the constitution demands for it."""

    plan: Plan
    requirements: Requirements
    mode: RunMode


@dataclass(frozen=True, slots=True)
class Drafted:
    """What came of planning: a proposal or a refusal, and the thought behind it."""

    thought: Thought[PlanDraft | PlanRefusal]
    answer: Proposal | PlanRefused


def lowered(mode: RunMode, degraded: Degraded | None) -> RunMode:
    """The run mode after a branch's model had to be replaced; never higher than before."""
    return _LOWER[mode] if degraded else mode


class Planning:
    """The legislative branch."""

    def __init__(
        self,
        planner: Planner,
        law: Law,
        catalogue: Catalogue,
        inventory: Inventory,
        observatory: Observatory,
    ) -> None:
        self._planner = planner
        self._law = law
        self._catalogue = catalogue
        self._inventory = inventory
        self._observatory = observatory

    async def plan(self, op: Operation) -> Turn:
        """Propose a plan for a requested operation, or refuse it."""
        decision = await self._law.decide_for(Branch.LEGISLATIVE, Action.PLAN, op)
        if not decision.allowed:
            refused = PlanRefused(code=decision.code, reasons=decision.texts, articles=decision.articles)
            return Turn(op, (by_code(refused, Branch.LEGISLATIVE, op),))
        drafted = await self.draft(op.id, op.request, version=op.plans + 1)
        thought, answer = drafted.thought, drafted.answer
        acts = []
        if thought.degraded:
            fell_back = AgentDegraded(role=Branch.LEGISLATIVE, **thought.degraded.model_dump())
            acts.append(by_code(fell_back, Branch.LEGISLATIVE, op))
        event = answer if isinstance(answer, PlanRefused) else proposed(answer, self._law.now())
        acts.append(
            by_mind(event, Branch.LEGISLATIVE, op, model=thought.model, prompt=thought.prompt, tokens=thought.tokens)
        )
        return Turn(op, tuple(acts))

    async def draft(self, ident: str, request: Request, *, version: int = 1) -> Drafted:
        """What the plan for a request would be now; records nothing."""
        constitution = self._law.in_force()
        facts = planner_facts(ident, request, constitution, self._catalogue, self._inventory)
        with span("planner", operation=ident):
            thought = await self._planner.plan(facts, self._observatory, self._validator(request))
        if isinstance(thought.output, PlanRefusal):
            refused = PlanRefused(code="nothing-fits", reasons=thought.output.reasons, nearest=thought.output.nearest)
            return Drafted(thought, refused)
        mode = lowered(self._law.mode, thought.degraded)
        try:
            plan = await self._bind(ident, request, thought.output, constitution, version)
        except Refusal as error:
            return Drafted(thought, PlanRefused(code=error.code, reasons=error.reasons, articles=error.articles))
        except PlaybookFailed as error:
            return Drafted(thought, PlanRefused(code=error.code, reasons=(str(error),)))
        return Drafted(thought, self._submit(request, plan, constitution, mode))

    def _submit(
        self, request: Request, plan: Plan, constitution: Constitution, mode: RunMode
    ) -> Proposal | PlanRefused:
        requirements = constitution.requirements(
            tier=plan.tier,
            mode=mode,
            emergency=request.emergency,
            authority=request.authority,
            environments=frozenset(
                self._inventory.get(step.system).environment for step in plan.steps if step.tier > 0
            ),
        )
        if not requirements.executable:
            return PlanRefused(code="not-executable", reasons=requirements.reasons, articles=requirements.articles)
        if len(plan.steps) > constitution.numbers.plans.most_steps:
            return PlanRefused(
                code="too-many-steps",
                reasons=(f"A plan may have {constitution.numbers.plans.most_steps} steps.",),
            )
        if requirements.tier != plan.tier:
            plan = plan.model_copy(update={"tier": requirements.tier})
        if request.rollback_plan is None and constitution.required_rollback_plan(request.type, plan.tier):
            return PlanRefused(
                code="rollback-plan-missing",
                reasons=("An operation of this type and tier needs a rollback plan; send it with `rollback_plan`.",),
            )
        if request.emergency:
            unfit = [step.playbook for step in plan.steps if not step.emergency]
            if unfit:
                return PlanRefused(
                    code="not-for-emergencies",
                    reasons=(f"Not marked for emergencies: {', '.join(sorted(set(unfit)))}.",),
                )
            closed = {
                step.system
                for step in plan.steps
                if step.effect is not Effect.READ and not self._inventory.get(step.system).emergency
            }
            if closed:
                return PlanRefused(
                    code="not-for-emergencies",
                    reasons=(f"Closed to break-glass by the inventory: {', '.join(sorted(closed))}.",),
                )
        return Proposal(plan, requirements, mode)

    def _validator(self, request: Request) -> Callable[[PlanDraft], Awaitable[tuple[str, ...]]]:
        async def validate(draft: PlanDraft) -> tuple[str, ...]:
            mistakes = []
            for number, step in enumerate(draft.steps, start=1):
                try:
                    self._fit(request, step)
                except Refusal as error:
                    mistakes.append(f"Step {number}: {' '.join(error.reasons)}")
            return tuple(mistakes) or overreaches(request, draft.steps, self._catalogue, self._inventory)

        return validate

    def _fit(self, request: Request, step: DraftStep) -> System:
        playbook = self._catalogue.get(step.playbook)
        system = self._inventory.get(step.system)
        if step.system not in request.systems:
            raise NotFound("system-not-requested", f"The request does not name the system {step.system}.")
        if system.kind not in playbook.fits:
            raise NotFound("wrong-system-kind", f"{step.playbook} does not fit {step.system}, which is {system.kind}.")
        playbook.parse(step.arguments)
        return system

    async def _bind(
        self, ident: str, request: Request, draft: PlanDraft, constitution: Constitution, version: int
    ) -> Plan:
        for step in draft.steps:
            self._fit(request, step)
        beyond = overreaches(request, draft.steps, self._catalogue, self._inventory)
        if beyond:
            raise InvalidRequest("planner-overreach", *beyond)
        steps = [await self._bind_step(number, step) for number, step in enumerate(draft.steps, start=1)]
        return Plan(
            operation=ident,
            version=version,
            summary=draft.summary,
            sop=draft.sop,
            steps=tuple(steps),
            tier=max(step.tier for step in steps),
            constitution=constitution.digest,
            validation_criteria=request.validation_criteria,
        )

    async def _bind_step(self, number: int, draft: DraftStep) -> Step:
        system, playbook = self._inventory.get(draft.system), self._catalogue.get(draft.playbook)
        arguments = bound(playbook, draft.arguments)
        preview = await shown(playbook, playbook.parse(draft.arguments), observing(system, self._inventory))
        return Step(
            number=number,
            playbook=playbook.name,
            system=system.name,
            arguments=arguments,
            why=draft.why,
            expected_effect=draft.expected_effect,
            optional=draft.optional,
            tier=max(playbook.tier, system.tier_floor),
            effect=playbook.effect,
            reversible=playbook.reversible,
            emergency=playbook.emergency,
            protects=playbook.protects(system),
            playbook_digest=playbook.digest,
            arguments_digest=digest_of(arguments),
            system_digest=system.digest,
            preview=preview,
        )


def proposed(proposal: Proposal, at: datetime) -> PlanProposed:
    """The event that puts a bound plan on the record; the plan itself goes along as evidence."""
    plan, needs = proposal.plan, proposal.requirements
    return PlanProposed(
        plan=plan.digest,
        version=plan.version,
        tier=plan.tier,
        mode=proposal.mode,
        quorum=needs.quorum,
        assent=needs.assent,
        reasons=needs.reasons,
        articles=needs.articles,
        expires=at + timedelta(minutes=needs.plan_expiry_minutes),
        summary=plan.summary,
        sop=plan.sop,
        body=plan,
    )
