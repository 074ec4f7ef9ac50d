"""Which model a branch thinks with: the offline rules, or any OpenAI-compatible service.

Retries happen in one place, the transport: the SDK's own are off. A request that still fails comes back as the
provider's last answer, so that a rate limit is told from an outage.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Final

import httpx2
from openai import AsyncOpenAI
from pydantic import Field, StringConstraints
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.retries import AsyncHTTPX2TenacityTransport, RetryConfig
from pydantic_ai.settings import ModelSettings
from tenacity import (
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_exponential_jitter,
)

from agents.rules import NAME as RULES
from agents.rules import RulesModel
from operations.canonical import Record
from operations.errors import InvalidRequest
from operations.systems import SecretRef, resolve_secret

OPENAI: Final = "https://api.openai.com/v1"

RETRIED: Final = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed."""

ModelName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(rules/offline-1|openai-(chat|responses):[A-Za-z0-9][A-Za-z0-9._:/@-]*)$", max_length=200
    ),
]


class ModelChoice(Record):
    """The model of one branch, as settings name it."""

    name: ModelName = RULES
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2000)] | None = Field(
        default=None, description="of the OpenAI-compatible service; None: OpenAI's own"
    )
    api_key: SecretRef | None = Field(default=None, description="where the key is; None: the service asks for none")
    timeout_seconds: int = Field(default=60, ge=1, le=600, description="for one attempt at one request")
    retries: int = Field(default=2, ge=0, le=10, description="further attempts at a request after the first")
    backoff_milliseconds: int = Field(default=500, ge=0, le=60_000, description="before the second attempt; doubles")
    retry_after_seconds: int = Field(default=30, ge=0, le=600, description="longest wait that a service may ask for")


class _Named(WrapperModel):
    """A model that goes by the name in the settings, which also tells the API it is asked through.

    A body that is no answer of the API (a captive portal's page, an empty object) trips the adapter in many ways; here
    it becomes the model's failure.
    """

    def __init__(self, wrapped: Model, name: str) -> None:
        super().__init__(wrapped)
        self._name = name

    @property
    def model_id(self) -> str:
        return self._name

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        try:
            return await super().request(messages, model_settings, model_request_parameters)
        except (AttributeError, TypeError, LookupError, ValueError) as error:
            raise UnexpectedModelBehavior("the service's answer is not one of its API") from error


def build_model(choice: ModelChoice) -> Model:
    """The model that `choice` names. Nothing is sent before it is asked.

    Raises:
        InvalidRequest: `model-key-missing`: OpenAI's own service needs a key.
        NotFound: `secret-missing`.
    """
    if choice.name == RULES:
        return RulesModel()
    if choice.base_url is None and choice.api_key is None:
        raise InvalidRequest("model-key-missing", f"{choice.name} needs a key or a base URL.", field="api_key")
    api, _, name = choice.name.partition(":")
    client = AsyncOpenAI(
        base_url=choice.base_url or OPENAI,
        api_key=resolve_secret(choice.api_key) if choice.api_key else "none",
        max_retries=0,
        http_client=httpx2.AsyncClient(
            transport=AsyncHTTPX2TenacityTransport(_retrying(choice)),
            timeout=httpx2.Timeout(choice.timeout_seconds),
            follow_redirects=False,
        ),
    )
    provider = OpenAIProvider(openai_client=client)
    model = OpenAIResponsesModel if api == "openai-responses" else OpenAIChatModel
    return _Named(model(name, provider=provider), choice.name)


async def close_model(model: Model) -> None:
    """Close what `build_model` opened. A model without connections is left as it is."""
    wrapped = model.wrapped if isinstance(model, WrapperModel) else model
    if isinstance(wrapped, OpenAIChatModel | OpenAIResponsesModel):
        await wrapped.client.close()


def _retrying(choice: ModelChoice) -> RetryConfig:
    return RetryConfig(
        retry=retry_if_exception_type(httpx2.TransportError) | retry_if_result(_may_pass),
        stop=stop_after_attempt(choice.retries + 1),
        wait=_wait(choice),
        before_sleep=_let_go,
        retry_error_callback=_last,
    )


def _may_pass(response: httpx2.Response) -> bool:
    return response.status_code in RETRIED


def _wait(choice: ModelChoice) -> Callable[[RetryCallState], float]:
    backoff = choice.backoff_milliseconds / 1000
    growing = wait_exponential_jitter(multiplier=backoff, max=choice.retry_after_seconds, jitter=backoff)

    def seconds(state: RetryCallState) -> float:
        outcome = state.outcome
        asked = None if outcome is None or outcome.failed else retry_after(outcome.result().headers)
        return growing(state) if asked is None else min(asked, float(choice.retry_after_seconds))

    return seconds


def retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds that a service asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110)."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = headers.get(name, "")
        if text.isascii() and text.isdigit():
            return int(text[:12]) / scale
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


async def _let_go(state: RetryCallState) -> None:
    if state.outcome is not None and not state.outcome.failed:
        closing: Awaitable[None] = state.outcome.result().aclose()
        await closing


def _last(state: RetryCallState) -> httpx2.Response:
    if state.outcome is None:
        raise httpx2.TransportError("no attempt was made")
    result: httpx2.Response = state.outcome.result()
    return result
