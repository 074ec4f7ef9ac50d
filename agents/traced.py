"""A span for each question to a model: which model, how many tokens, how it ended; never what was said."""

from typing import Final

from opentelemetry import trace
from opentelemetry.trace import StatusCode
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

_TRACER: Final = trace.get_tracer("triad")


class Traced(WrapperModel):
    """The wrapped model; each request is a span called `model`."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """See `Model.request`."""
        made = _TRACER.start_span("model", attributes={"model": self.model_id})
        with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                response = await self.wrapped.request(messages, model_settings, model_request_parameters)
            except BaseException as error:
                made.set_status(StatusCode.ERROR)
                made.set_attribute("error.type", type(error).__name__)
                raise
            made.set_attribute("tokens.input", response.usage.input_tokens)
            made.set_attribute("tokens.output", response.usage.output_tokens)
            return response
