"""The executor: carries out an approved plan with one tool a step. It chooses neither targets nor arguments.

The tools are built from the plan alone and take no argument; a step's tool hands its number down, and the gate below
decides. What the model says of the run is a report; whether the plan was carried out is counted here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic_ai import Agent, ModelRetry, RunContext, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from agents.facts import ExecutorFacts, StepFact, StepResult, StepState, fenced
from agents.mind import Limits, Mind
from agents.outputs import ExecutionReport
from agents.thought import Thought
from prompts import load

ATTEMPTS: Final = 3
"""Most calls of one step's tool that reach the gate in one execution."""

Act = Callable[[int], Awaitable[StepResult]]
"""Attempts the step of that number, through the gate."""
Skip = Callable[[int, str], Awaitable[StepResult]]
"""Leaves out the optional step of that number, for a reason."""

_NOTHING: Final = SchemaValidator(core_schema.typed_dict_schema({}, extra_behavior="forbid"))
_REASON: Final = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "reason": core_schema.typed_dict_field(
                core_schema.str_schema(strict=True, min_length=1, max_length=500, strip_whitespace=True)
            )
        },
        extra_behavior="forbid",
    )
)
_NO_PROPERTIES: Final[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
_ONE_REASON: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "description": "Why the step is left out.", "maxLength": 500}},
    "required": ["reason"],
    "additionalProperties": False,
}
_STATES: Final[dict[str, StepState]] = {
    "done": "done",
    "skipped": "skipped",
    "failed": "failed",
    "in_doubt": "in_doubt",
}


class Steps(AbstractToolset["Steps"]):
    """The tools of one plan and what came of them so far."""

    def __init__(self, facts: ExecutorFacts, act: Act, skip: Skip, corrections: int) -> None:
        self._facts = facts
        self._act = act
        self._skip = skip
        self._results: dict[int, list[StepResult]] = {step.number: [] for step in facts.steps}
        self._over = any(step.state == "in_doubt" for step in facts.steps)
        self._calls: dict[str, tuple[StepFact, bool]] = {}
        self._tools: dict[str, ToolsetTool[Steps]] = {}
        for step in facts.steps:
            self._offer(step, corrections, skip=False)
            if step.optional:
                self._offer(step, corrections, skip=True)

    @property
    def id(self) -> str | None:
        """No durable identity: the tools live as long as one execution."""
        return None

    def facts(self) -> ExecutorFacts:
        """The facts as they are now: what has been done since is in the steps' states."""
        steps = tuple(step.model_copy(update={"state": self.state(step)}) for step in self._facts.steps)
        return self._facts.model_copy(update={"steps": steps})

    def state(self, step: StepFact) -> StepState:
        """Where one step stands; a failure that may be retried once more counts as pending."""
        results = self._results[step.number]
        if not results:
            return step.state
        last = results[-1]
        if last.status == "failed" and last.retryable and len(results) == 1:
            return "pending"
        return _STATES.get(last.status, step.state)

    def unfinished(self) -> tuple[int, ...]:
        """The steps that were neither done nor, being optional, skipped."""
        return tuple(s.number for s in self._facts.steps if self.state(s) not in {"done", "skipped"})

    async def get_tools(self, ctx: RunContext["Steps"]) -> dict[str, ToolsetTool["Steps"]]:
        """See `AbstractToolset.get_tools`."""
        del ctx
        return self._tools

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext["Steps"], tool: ToolsetTool["Steps"]
    ) -> str:
        """See `AbstractToolset.call_tool`. The answer is a fenced `StepResult`."""
        del ctx, tool
        step, skip = self._calls[name]
        refused = self._refusal(step)
        if refused is not None:
            return fenced(StepResult(step=step.number, status="refused", summary=refused))
        result = await (self._skip(step.number, tool_args["reason"]) if skip else self._act(step.number))
        self._results[step.number].append(result)
        self._over = self._over or result.status in {"halted", "in_doubt"}
        return fenced(result)

    def _refusal(self, step: StepFact) -> str | None:
        if self._over:
            return "The execution is over; report."
        if self.state(step) in {"done", "skipped"}:
            return f"Step {step.number} is already {self.state(step)}."
        if len(self._results[step.number]) >= ATTEMPTS:
            return f"Step {step.number} was tried often enough."
        return None

    def _offer(self, step: StepFact, corrections: int, *, skip: bool) -> None:
        name = f"skip_{step.number}" if skip else f"step_{step.number}"
        what = f"{'Leave out' if skip else 'Run'} step {step.number}: {step.playbook} on {step.system}."
        self._calls[name] = (step, skip)
        self._tools[name] = ToolsetTool(
            toolset=self,
            tool_def=ToolDefinition(
                name=name,
                description=what,
                parameters_json_schema=_ONE_REASON if skip else _NO_PROPERTIES,
                sequential=True,
            ),
            max_retries=corrections,
            args_validator=_REASON if skip else _NOTHING,
        )


@dataclass(frozen=True, slots=True)
class _Budget:
    """Requests and calls that a plan of `steps` steps can need, on top of the branch's limits."""

    steps: int

    def over(self, limits: Limits) -> Limits:
        calls = (ATTEMPTS + 1) * self.steps
        return limits.model_copy(
            update={"requests": limits.requests + calls, "tool_calls": limits.tool_calls + calls, "seconds": None}
        )


class Executor:
    """The executive branch's mind."""

    def __init__(self, model: Model, fallback: Model | None = None, limits: Limits | None = None) -> None:
        prompt = load("executor")
        agent = Agent[Steps, ExecutionReport](
            output_type=ToolOutput(ExecutionReport, name="report", description="Report on the run and end it."),
            instructions=prompt.text,
            deps_type=Steps,
            name="executor",
            end_strategy="early",
        )
        agent.output_validator(_counts_right)
        self._mind = Mind(agent, prompt, model, fallback, limits or Limits())

    async def execute(self, facts: ExecutorFacts, act: Act, skip: Skip) -> Thought[ExecutionReport]:
        """Carry out the plan. `act` and `skip` go through the gate; what they raise passes through.

        `stopped` in the report is true whenever a step was neither done nor skipped, whatever the model says. A
        fallback carries on from the steps' states.

        Raises:
            MindUnavailable: no usable answer and no fallback.
        """
        steps = Steps(facts, act, skip, self._mind.limits.corrections)
        limits = _Budget(len(facts.steps)).over(self._mind.limits)
        thought = await self._mind.think(steps.facts, steps, toolsets=[steps], limits=limits)
        unfinished = steps.unfinished()
        if unfinished and not thought.output.stopped:
            reasons = (*thought.output.reasons[:19], f"Not done: step {', '.join(map(str, unfinished))}.")
            report = thought.output.model_copy(update={"stopped": True, "reasons": reasons})
            return Thought(report, thought.model, thought.prompt, thought.tokens, thought.degraded)
        return thought


def _counts_right(ctx: RunContext[Steps], report: ExecutionReport) -> ExecutionReport:
    unfinished = ctx.deps.unfinished()
    if unfinished and not report.stopped and ctx.retry == 0:
        raise ModelRetry(
            f"Not done: step {', '.join(map(str, unfinished))}. Go on, or report with stopped set to true."
        )
    return report
