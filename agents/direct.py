"""OpenAI's client without its second look at every request.

The SDK walks each request along its type hints before it encodes it, which costs more than everything else it does for
a chat completion (measured: `evals/benchmarks/operation.py`). What pydantic-ai sends is already plain JSON, so it is
encoded at once. Authentication, headers, errors and the transport stay the SDK's; streams and other calls too.
"""

from functools import cached_property
from typing import Any

import httpx2
import orjson
from openai import AsyncOpenAI, NotGiven, Omit
from openai.resources.chat.chat import AsyncChat
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion


class _Completions(AsyncCompletions):
    async def create(  # type: ignore[override] # the SDK's fifty parameters pass through as they are
        self,
        *,
        stream: bool | Omit = False,
        extra_headers: dict[str, str] | None = None,
        **parameters: Any,  # noqa: ANN401 - passed through as they are
    ) -> Any:  # noqa: ANN401 - a completion, a stream or text, as in the SDK
        special = parameters.get("extra_body") or parameters.get("extra_query")
        if special or (isinstance(stream, bool) and stream):
            return await super().create(stream=stream, extra_headers=extra_headers, **parameters)
        timeout = parameters.pop("timeout", NotGiven())
        body = {name: value for name, value in parameters.items() if not isinstance(value, Omit | NotGiven)}
        body.pop("extra_body", None)
        body.pop("extra_query", None)
        answer = await self._post(
            "/chat/completions",
            content=orjson.dumps(body),
            cast_to=httpx2.Response,
            options={
                "headers": {**(extra_headers or {}), "Content-Type": "application/json"},
                **({} if isinstance(timeout, NotGiven) else {"timeout": timeout}),
            },
        )
        return _completion(answer)


def _completion(answer: httpx2.Response) -> ChatCompletion | str:
    """What the service said, as leniently as the SDK takes it; pydantic-ai validates it. Plain text stays text."""
    try:
        data = orjson.loads(answer.content)
    except ValueError:
        return answer.text
    return ChatCompletion.construct(**data) if isinstance(data, dict) else answer.text


class _Chat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:
        return _Completions(self._client)


class DirectOpenAI(AsyncOpenAI):
    """`AsyncOpenAI` whose chat completions are encoded once, by orjson."""

    @cached_property
    def chat(self) -> AsyncChat:
        """Chat completions."""
        return _Chat(self)
