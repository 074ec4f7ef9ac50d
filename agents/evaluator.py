"""The evaluator: judges the evidence behind the checks that code ran. It may fail a run, never pass a failed one."""

from pydantic_ai import Agent, ModelRetry, RunContext, ToolOutput
from pydantic_ai.models import Model

from agents.facts import EvaluatorFacts
from agents.mind import Limits, Mind
from agents.outputs import Judgement
from agents.thought import Thought
from prompts import load


def contradictions(facts: EvaluatorFacts, judgement: Judgement) -> tuple[str, ...]:
    """What in a judgment the evidence speaks against, in words. Code overrules it anyway: a failed check is a fail."""
    found: list[str] = []
    if judgement.passed:
        found += [
            f"Step {check.step} did not pass its check {check.name}; a run with a failed check cannot pass."
            for check in facts.checks
            if not check.passed
        ]
        if facts.execution != "finished":
            found.append(f"The execution {facts.execution}; it cannot pass.")
        if judgement.rollback:
            found.append("A run that passed is not rolled back.")
    elif judgement.rollback and not any(step.changed for step in facts.steps):
        found.append("No step changed anything; there is nothing to roll back.")
    return tuple(found)


class Evaluator:
    """The judicial branch's mind."""

    def __init__(self, model: Model, fallback: Model | None = None, limits: Limits | None = None) -> None:
        prompt = load("evaluator")
        agent = Agent[EvaluatorFacts, Judgement](
            output_type=ToolOutput(Judgement, name="judge", description="Give the judgment."),
            instructions=prompt.text,
            deps_type=EvaluatorFacts,
            name="evaluator",
            end_strategy="early",
        )

        @agent.output_validator
        def agrees_with_the_evidence(ctx: RunContext[EvaluatorFacts], judgement: Judgement) -> Judgement:
            found = contradictions(ctx.deps, judgement)
            if found and ctx.retry == 0:
                raise ModelRetry(" ".join(found))
            return judgement

        self._mind = Mind(agent, prompt, model, fallback, limits or Limits())

    async def judge(self, facts: EvaluatorFacts) -> Thought[Judgement]:
        """Judge one run. What contradicts the evidence is sent back once; the caller computes the verdict from both.

        Raises:
            MindUnavailable: no usable answer and no fallback.
        """
        return await self._mind.think(lambda: facts, facts)
