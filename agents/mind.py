"""One branch thinking: its agent asked with its own model, and with the fallback where that fails.

An agent is built once and asked many times; the model, the limits and the facts come with each question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.exceptions import (
    AgentRunError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelTimeoutError,
    RunTimedOut,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.models import Model
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import RunUsage, UsageLimits

from agents.facts import fenced
from agents.thought import Degraded, FailureCode, MindUnavailable, Thought
from agents.traced import Traced
from operations.canonical import Record
from operations.model import Tokens
from prompts import Prompt

D = TypeVar("D")
T = TypeVar("T")


class Limits(Record):
    """How much one question to a branch may cost. Whichever is reached first ends it as `usage-limit` or a time-out."""

    requests: int = Field(default=10, ge=1, le=500, description="answers of the model")
    tool_calls: int = Field(default=20, ge=0, le=1000, description="tool calls that were carried out")
    corrections: int = Field(default=2, ge=0, le=10, description="how often a wrong answer or tool call is sent back")
    tokens: int = Field(default=400_000, ge=1000, description="input and output tokens of all requests together")
    seconds: int | None = Field(default=300, ge=1, description="of all requests together; None: no bound")


def failure_code(error: BaseException) -> FailureCode | None:
    """Why a run of a model failed, or None when the error is not the model's."""
    match error:
        case UsageLimitExceeded():
            return "usage-limit"
        case ModelRateLimitError() | ModelQuotaExceededError():
            return "rate-limited"
        case ModelTimeoutError() | ModelRequestTimeout() | RunTimedOut():
            return "provider-timeout"
        case UnexpectedModelBehavior():
            return "invalid-output"
        case ModelAPIError() | FallbackExceptionGroup():
            return "provider-error"
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Mind(Generic[D, T]):
    """An agent with its prompt, its model and its fallback."""

    agent: Agent[D, T]
    prompt: Prompt
    model: Model
    fallback: Model | None
    limits: Limits

    async def think(
        self,
        facts: Callable[[], BaseModel],
        deps: D,
        *,
        toolsets: Sequence[AbstractToolset[D]] = (),
        limits: Limits | None = None,
    ) -> Thought[T]:
        """Ask the model; where it fails, ask the fallback with the facts as they are then.

        Raises:
            MindUnavailable: no usable answer from the model nor the fallback.
        """
        bounds = limits or self.limits
        usage = RunUsage()
        try:
            output = await self._ask(self.model, facts(), deps, toolsets, bounds, usage)
        except (AgentRunError, FallbackExceptionGroup) as error:
            code = failure_code(error)
            if code is None:
                raise
            if self.fallback is None or self.fallback is self.model:
                raise MindUnavailable(self.model.model_id, code) from error
        else:
            return Thought(output, self.model.model_id, self.prompt.digest, _tokens(usage))
        degraded = Degraded(model=self.model.model_id, fallback=self.fallback.model_id, code=code)
        return await self._fall_back(self.fallback, degraded, facts(), deps, toolsets, bounds, usage)

    async def _fall_back(
        self,
        fallback: Model,
        degraded: Degraded,
        facts: BaseModel,
        deps: D,
        toolsets: Sequence[AbstractToolset[D]],
        bounds: Limits,
        spent: RunUsage,
    ) -> Thought[T]:
        usage = RunUsage()
        try:
            output = await self._ask(fallback, facts, deps, toolsets, bounds, usage)
        except (AgentRunError, FallbackExceptionGroup) as error:
            code = failure_code(error)
            if code is None:
                raise
            raise MindUnavailable(fallback.model_id, code) from error
        return Thought(output, fallback.model_id, self.prompt.digest, _tokens(spent, usage), degraded)

    async def _ask(
        self,
        model: Model,
        facts: BaseModel,
        deps: D,
        toolsets: Sequence[AbstractToolset[D]],
        bounds: Limits,
        usage: RunUsage,
    ) -> T:
        result = await self.agent.run(
            fenced(facts),
            model=Traced(model),
            deps=deps,
            toolsets=toolsets,
            usage=usage,
            usage_limits=UsageLimits(
                request_limit=bounds.requests,
                tool_calls_limit=bounds.tool_calls,
                total_tokens_limit=bounds.tokens,
            ),
            retries={"tools": bounds.corrections, "output": bounds.corrections},
            timeout=bounds.seconds,
            infer_name=False,
        )
        return result.output


def _tokens(*usages: RunUsage) -> Tokens:
    return Tokens(input=sum(u.input_tokens for u in usages), output=sum(u.output_tokens for u in usages))
