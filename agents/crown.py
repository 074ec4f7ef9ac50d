"""The crown: assents before what is grave, rules at the end. It has no tool at all."""

from pydantic_ai import Agent, ModelRetry, RunContext, ToolOutput
from pydantic_ai.models import Model

from agents.facts import CrownFacts, rulings
from agents.mind import Limits, Mind
from agents.outputs import Opinion
from agents.thought import Thought
from prompts import load


class Crown:
    """The crown's mind."""

    def __init__(self, model: Model, fallback: Model | None = None, limits: Limits | None = None) -> None:
        prompt = load("crown")
        agent = Agent[CrownFacts, Opinion](
            output_type=ToolOutput(Opinion, name="rule", description="Give the assent or the ruling."),
            instructions=prompt.text,
            deps_type=CrownFacts,
            name="crown",
            end_strategy="early",
        )

        @agent.output_validator
        def is_open_now(ctx: RunContext[CrownFacts], opinion: Opinion) -> Opinion:
            allowed = rulings(ctx.deps)
            if opinion.ruling not in allowed:
                words = ", ".join(ruling.value for ruling in allowed)
                raise ModelRetry(f"The ruling {opinion.ruling.value} is not open now. Open are: {words}.")
            return opinion

        self._mind = Mind(agent, prompt, model, fallback, limits or Limits())

    async def assent(self, facts: CrownFacts) -> Thought[Opinion]:
        """Assent to a plan before it runs, veto it or escalate it.

        Raises:
            MindUnavailable: no usable answer and no fallback.
            ValueError: the facts are for the other moment.
        """
        return await self._opine(facts, "assent")

    async def rule(self, facts: CrownFacts) -> Thought[Opinion]:
        """Rule on a judged run: complete, rollback, fail or escalate.

        Raises:
            MindUnavailable: no usable answer and no fallback.
            ValueError: the facts are for the other moment.
        """
        return await self._opine(facts, "ruling")

    async def _opine(self, facts: CrownFacts, moment: str) -> Thought[Opinion]:
        if facts.moment != moment:
            raise ValueError(f"facts for {facts.moment} were given for {moment}")
        return await self._mind.think(lambda: facts, facts)
