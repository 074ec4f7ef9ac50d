"""The offline model: rules, not an LLM. Deterministic, without key or network, and a real pydantic-ai model.

It reads the facts out of the fenced block in the messages, as any model would, and answers by calling the tools it was
offered. Known maintenance by SOP needs no more.
"""

from typing import Annotated, Final

from pydantic import Field, TypeAdapter
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from agents.drafting import draft, refused
from agents.facts import CrownFacts, EvaluatorFacts, ExecutorFacts, PlannerFacts, StepFact, StepResult, unfenced
from agents.outputs import ExecutionReport, Form, Opinion, PlanDraft
from agents.ruling import assent, judge, rule
from operations.errors import InvalidRequest

NAME: Final = "rules/offline-1"
LABEL: Final = "rules, not an LLM"
"""How an answer of this model is labelled wherever a person reads it."""

AnyFacts = Annotated[PlannerFacts | ExecutorFacts | EvaluatorFacts | CrownFacts, Field(discriminator="branch")]
_FACTS: Final[TypeAdapter[AnyFacts]] = TypeAdapter(AnyFacts)


class RulesModel(Model[None]):
    """Plans from the catalogue, executes in order, judges by the checks, rules by typed facts."""

    @property
    def model_name(self) -> str:
        """The name that records give."""
        return NAME

    @property
    def model_id(self) -> str:
        """The same: there is no provider to tell it from."""
        return NAME

    @property
    def system(self) -> str:
        """What pydantic-ai calls the provider."""
        return "rules"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer with one tool call.

        Raises:
            UnexpectedModelBehavior: the messages hold no facts of a branch, or the tool it needs is not offered.
        """
        del model_settings
        name, arguments = _answer(_facts(messages), messages)
        tools = (*model_request_parameters.function_tools, *model_request_parameters.output_tools)
        if name not in {tool.name for tool in tools}:
            raise UnexpectedModelBehavior(f"the tool {name} is not offered")
        return ModelResponse(parts=[ToolCallPart(name, arguments)], model_name=NAME, usage=RequestUsage())


def _facts(messages: list[ModelMessage]) -> AnyFacts:
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart) and isinstance(part.content, str):
                try:
                    return _FACTS.validate_json(unfenced(part.content))
                except (InvalidRequest, ValueError) as error:
                    raise UnexpectedModelBehavior("the facts cannot be read") from error
    raise UnexpectedModelBehavior("there are no facts")


def _answer(facts: AnyFacts, messages: list[ModelMessage]) -> tuple[str, str]:
    match facts:
        case PlannerFacts():
            mistakes = _sent_back(messages)
            plan = draft(facts) if mistakes is None else refused(facts, mistakes)
            return _form("propose" if isinstance(plan, PlanDraft) else "refuse", plan)
        case ExecutorFacts():
            return _next(facts, _results(messages))
        case EvaluatorFacts():
            return _form("judge", judge(facts))
        case CrownFacts():
            return _form("rule", _opinion(facts))


def _opinion(facts: CrownFacts) -> Opinion:
    return assent(facts) if facts.moment == "assent" else rule(facts)


def _form(tool: str, form: Form) -> tuple[str, str]:
    return tool, form.model_dump_json()


def _sent_back(messages: list[ModelMessage]) -> str | None:
    """What an output validator said about the last answer."""
    last = messages[-1]
    if not isinstance(last, ModelRequest):
        return None
    for part in last.parts:
        if isinstance(part, RetryFeedbackPart) or (isinstance(part, ToolReturnPart) and part.outcome == "retried"):
            return part.content if isinstance(part.content, str) else "The answer does not have the form asked for."
    return None


def _results(messages: list[ModelMessage]) -> dict[int, list[StepResult]]:
    """What the steps' tools answered so far, by step, in order."""
    found: dict[int, list[StepResult]] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolReturnPart) and part.outcome == "success":
                result = StepResult.model_validate_json(unfenced(part.model_response_str()))
                found.setdefault(result.step, []).append(result)
    return found


def _next(facts: ExecutorFacts, results: dict[int, list[StepResult]]) -> tuple[str, str]:
    """The next call: steps in order, one more try after a failure that may pass, optional ones skipped, else stop."""
    for step in facts.steps:
        seen = results.get(step.number, [])
        last = seen[-1] if seen else None
        status = last.status if last else step.state
        if status in {"done", "skipped"}:
            continue
        if status == "pending" or (last and last.status == "failed" and last.retryable and len(seen) == 1):
            return f"step_{step.number}", "{}"
        if status == "failed" and step.optional:
            return f"skip_{step.number}", '{"reason":"The step failed and the plan marks it as optional."}'
        return _form("report", _report(facts, results, step, status))
    return _form("report", _report(facts, results, None, "done"))


def _report(
    facts: ExecutorFacts, results: dict[int, list[StepResult]], stopped_at: StepFact | None, status: str
) -> ExecutionReport:
    final = {s.number: results[s.number][-1].status if s.number in results else s.state for s in facts.steps}
    done = sum(state == "done" for state in final.values())
    skipped = sum(state == "skipped" for state in final.values())
    summary = f"{done} of {len(facts.steps)} steps done, {skipped} skipped."
    if stopped_at is None:
        return ExecutionReport(summary=summary, stopped=False)
    reason = f"Step {stopped_at.number} ({stopped_at.playbook} on {stopped_at.system}): {status.replace('_', ' ')}."
    return ExecutionReport(summary=summary, stopped=True, reasons=(reason,))
