"""Which model a choice names, and how its transport waits and retries."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import httpx2
import pytest
import respx
from pydantic import ValidationError
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters, override_allow_model_requests
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel

from agents.minds import Minds
from agents.models import RETRIED, ModelChoice, build_model, close_model, retry_after
from agents.rules import RulesModel
from operations.errors import InvalidRequest, NotFound
from operations.model import Branch

URL = "http://127.0.0.1:9/v1"


def choice(**more: object) -> ModelChoice:
    values = {"name": "openai-chat:small", "base_url": URL, "backoff_milliseconds": 0} | more
    return ModelChoice.model_validate(values)


def wrapped(model: Model) -> Model:
    assert isinstance(model, WrapperModel)
    return model.wrapped


def test_without_a_choice_the_rules_think() -> None:
    assert isinstance(build_model(ModelChoice()), RulesModel)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("openai-chat:gpt-6", OpenAIChatModel),
        ("openai-responses:gpt-6", OpenAIResponsesModel),
        ("openai-chat:org/llama-4:70b", OpenAIChatModel),
    ],
)
def test_a_choice_names_the_api_and_the_model(name: str, kind: type[Model]) -> None:
    model = build_model(choice(name=name))
    assert isinstance(wrapped(model), kind)
    assert (model.model_id, model.model_name) == (name, name.split(":", 1)[1])


@pytest.mark.parametrize("name", ["gpt-6", "anthropic:x", "openai-chat:", "rules/offline-2", "openai-chat:a b", ""])
def test_a_name_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        choice(name=name)


def test_a_key_is_only_given_by_reference() -> None:
    with pytest.raises(ValidationError):
        choice(api_key="sk-123")


def test_openai_needs_a_key() -> None:
    with pytest.raises(InvalidRequest, match="model-key-missing"):
        build_model(choice(base_url=None))


def test_a_key_that_cannot_be_read_is_said_by_its_reference() -> None:
    with pytest.raises(NotFound, match="env:NO_SUCH_KEY"):
        build_model(choice(api_key="env:NO_SUCH_KEY"))


def test_the_key_comes_from_its_file_and_from_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    (tmp_path / "key").write_text("from-the-file\n")
    with_key = wrapped(build_model(choice(base_url=None, api_key=f"file:{tmp_path / 'key'}")))
    without = wrapped(build_model(choice()))
    assert isinstance(with_key, OpenAIChatModel)
    assert isinstance(without, OpenAIChatModel)
    assert (with_key.client.api_key, str(with_key.client.base_url)) == ("from-the-file", "https://api.openai.com/v1/")
    assert without.client.api_key == "none"
    assert with_key.client.max_retries == 0


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["openai-chat:small", "openai-responses:small"])
async def test_closing_closes_the_connections(name: str) -> None:
    model = build_model(choice(name=name))
    inner = wrapped(model)
    assert isinstance(inner, OpenAIChatModel | OpenAIResponsesModel)
    await close_model(model)
    assert inner.client.is_closed()


@pytest.mark.anyio
async def test_closing_a_model_without_connections_does_nothing() -> None:
    await close_model(RulesModel())
    await close_model(TestModel())


@pytest.mark.anyio
async def test_the_minds_close_every_model_they_were_built_with() -> None:
    minds = Minds.of({Branch.CROWN: choice(), Branch.JUDICIAL: choice(name="openai-responses:small")})
    inner = [wrapped(model) for model in minds.models]
    await minds.close()
    assert len(inner) == 2
    assert all(isinstance(m, OpenAIChatModel | OpenAIResponsesModel) and m.client.is_closed() for m in inner)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 500}, float("9" * 12)),
        ({"retry-after": "٣"}, None),
        ({}, None),
    ],
)
def test_what_a_service_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert retry_after(httpx2.Headers(encoded)) == seconds


def test_a_date_to_wait_for_is_counted_from_now() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    seconds = retry_after(httpx2.Headers({"retry-after": at}))
    assert seconds is not None
    assert 90 < seconds <= 100


MESSAGES: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("hello")])]
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
}


async def say(model: Model) -> object:
    with override_allow_model_requests(True):
        try:
            return await model.request(MESSAGES, None, ModelRequestParameters())
        finally:
            await close_model(model)


@pytest.mark.anyio
@pytest.mark.parametrize("status", sorted(RETRIED))
async def test_a_passing_trouble_is_tried_again(httpx2_mock: respx.Router, status: int) -> None:
    route = httpx2_mock.post(f"{URL}/chat/completions")
    route.side_effect = [httpx.Response(status), httpx2.ConnectError("x"), httpx.Response(200, json=ANSWER)]
    await say(build_model(choice(retries=2)))
    assert route.call_count == 3


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
async def test_a_lasting_trouble_is_not_tried_again(httpx2_mock: respx.Router, status: int) -> None:
    route = httpx2_mock.post(f"{URL}/chat/completions").mock(httpx.Response(status))
    with pytest.raises(Exception, match=str(status)):
        await say(build_model(choice(retries=5)))
    assert route.call_count == 1


@pytest.mark.anyio
@pytest.mark.parametrize("retries", [0, 3])
async def test_the_attempts_are_those_of_the_choice_and_are_not_multiplied(
    httpx2_mock: respx.Router, retries: int
) -> None:
    route = httpx2_mock.post(f"{URL}/chat/completions").mock(httpx.Response(503))
    with pytest.raises(Exception, match="503"):
        await say(build_model(choice(retries=retries)))
    assert route.call_count == retries + 1


@pytest.mark.anyio
async def test_a_redirect_is_not_followed(httpx2_mock: respx.Router) -> None:
    httpx2_mock.post(f"{URL}/chat/completions").mock(httpx.Response(307, headers={"location": "http://127.0.0.1:10/"}))
    with pytest.raises(Exception, match="307"):
        await say(build_model(choice()))


@pytest.mark.anyio
async def test_a_service_cannot_make_it_wait_longer_than_the_choice_allows(httpx2_mock: respx.Router) -> None:
    route = httpx2_mock.post(f"{URL}/chat/completions")
    route.side_effect = [httpx.Response(429, headers={"retry-after": "3600"}), httpx.Response(200, json=ANSWER)]
    await say(build_model(choice(retries=1, retry_after_seconds=0)))
    assert route.call_count == 2
