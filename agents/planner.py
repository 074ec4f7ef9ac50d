"""The planner: proposes a plan from the catalogue, or refuses. What it may look up is read-only."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic_ai import Agent, ModelRetry, RunContext, ToolOutput
from pydantic_ai.models import Model

from agents.facts import ObservationFact, PlannerFacts, fenced
from agents.mind import Limits, Mind
from agents.outputs import DraftStep, PlanDraft, PlanRefusal
from agents.thought import Thought
from operations.errors import Refusal
from operations.model import PlaybookName
from operations.systems import SystemName
from prompts import load

Validate = Callable[[PlanDraft], Awaitable[tuple[str, ...]]]
"""Says in words what is wrong with a draft; nothing means that it can become a plan."""


class Lookups(Protocol):
    """What the planner may ask beyond its facts. Every one only reads, and a `Refusal` is told to the model."""

    async def observe(self, system: str) -> str:
        """What a tier 0 observation of the system shows now."""

    async def history(self, system: str) -> str:
        """Earlier operations on the system and how they ended."""

    async def playbook(self, name: str) -> str:
        """A playbook's full description."""


@dataclass(frozen=True, slots=True)
class _Desk:
    facts: PlannerFacts
    lookups: Lookups
    validate: Validate


def mistakes(facts: PlannerFacts, draft: PlanDraft) -> tuple[str, ...]:
    """What in a draft the facts speak against, in words: unknown names, kinds that do not fit, systems out of scope."""
    found = [f"Step {number}: {words}" for number, step in enumerate(draft.steps, 1) for words in _wrong(facts, step)]
    if draft.sop is not None and draft.sop not in {sop.id for sop in facts.sops}:
        found.append(f"There is no SOP with the id {draft.sop!r}; leave it out or cite one from the facts.")
    return tuple(found)


def _wrong(facts: PlannerFacts, step: DraftStep) -> list[str]:
    playbook = next((p for p in facts.playbooks if p.name == step.playbook), None)
    system = next((s for s in facts.systems if s.name == step.system), None)
    found: list[str] = []
    if playbook is None:
        found.append(f"the catalogue has no playbook {step.playbook}.")
    if system is None:
        found.append(f"the inventory has no system {step.system}.")
    elif system.name not in facts.request.systems:
        found.append(f"{step.system} is not among the systems of the request.")
    if playbook is not None and system is not None and system.kind not in playbook.fits:
        found.append(f"{step.playbook} does not fit a system of kind {system.kind}.")
    if playbook is not None and facts.request.emergency and not playbook.emergency:
        found.append(f"{step.playbook} may not be used in an emergency.")
    return found


class Planner:
    """The legislative branch's mind."""

    def __init__(self, model: Model, fallback: Model | None = None, limits: Limits | None = None) -> None:
        prompt = load("planner")
        agent = Agent[_Desk, PlanDraft | PlanRefusal](
            output_type=[
                ToolOutput(PlanDraft, name="propose", description="Propose a plan."),
                ToolOutput(PlanRefusal, name="refuse", description="Refuse to plan, with reasons."),
            ],
            instructions=prompt.text,
            deps_type=_Desk,
            name="planner",
            end_strategy="early",
        )
        agent.output_validator(_can_become_a_plan)
        agent.tool(observe)
        agent.tool(history)
        agent.tool(playbook)
        self._mind = Mind(agent, prompt, model, fallback, limits or Limits())

    async def plan(self, facts: PlannerFacts, lookups: Lookups, validate: Validate) -> Thought[PlanDraft | PlanRefusal]:
        """Answer a request with a draft that `validate` found no mistake in, or with a refusal.

        Raises:
            MindUnavailable: no usable answer and no fallback.
        """
        return await self._mind.think(lambda: facts, _Desk(facts, lookups, validate))


async def _can_become_a_plan(ctx: RunContext[_Desk], output: PlanDraft | PlanRefusal) -> PlanDraft | PlanRefusal:
    if isinstance(output, PlanDraft):
        found = mistakes(ctx.deps.facts, output) or await ctx.deps.validate(output)
        if found:
            raise ModelRetry("\n".join(found))
    return output


async def observe(ctx: RunContext[_Desk], system: SystemName) -> str:
    """Look at a system now, reading only."""
    return await _look(f"observe {system}", ctx.deps.lookups.observe(system))


async def history(ctx: RunContext[_Desk], system: SystemName) -> str:
    """Earlier operations on a system and how they ended."""
    return await _look(f"history {system}", ctx.deps.lookups.history(system))


async def playbook(ctx: RunContext[_Desk], name: PlaybookName) -> str:
    """A playbook's full description."""
    return await _look(f"playbook {name}", ctx.deps.lookups.playbook(name))


async def _look(source: str, answer: Awaitable[str]) -> str:
    try:
        return fenced(ObservationFact(source=source, text=await answer))
    except Refusal as refusal:
        raise ModelRetry(" ".join(refusal.reasons) or refusal.code) from refusal
