"""`http.check` against real servers on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from operations.errors import InvalidRequest
from operations.playbook import Call, Target
from operations.playbooks.http import CheckArguments, HttpCheck
from operations.systems import HttpService

pytestmark = pytest.mark.anyio

CALL = Call(key="op_1/1/1")
Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server on loopback that answers so, and the requests it has seen."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append(head.decode())
                await answer(seen[-1], writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", seen


def saying(status: str, body: bytes = b"", *headers: str) -> Answer:
    async def answer(_request: str, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers))
        writer.write(head.encode() + b"\r\n\r\n" + body)

    return answer


def target(url: str) -> Target:
    return Target(HttpService(name="web", url=url))


async def test_a_healthy_service_passes_and_its_latency_is_a_whole_number_of_microseconds() -> None:
    async with serving(saying("200 OK", b"all is well")) as (url, seen):
        args = CheckArguments(contains="is well", samples=4, max_latency_ms=30_000)
        playbook = HttpCheck()
        before = await playbook.before(args, target(url))
        outcome = await playbook.run(args, target(url), CALL)
        checks = await playbook.checks(args, target(url), before)
    assert not outcome.changed
    assert outcome.facts["as_expected"] == 4
    assert isinstance(outcome.facts["median_us"], int)
    assert outcome.facts["median_us"] > 0
    assert [(check.name, check.passed) for check in checks] == [
        ("status-expected", True),
        ("content-expected", True),
        ("latency-within-limit", True),
    ]
    assert len(seen) == 8


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with serving(saying("302 Found", b"", "location: /elsewhere")) as (url, seen):
        args = CheckArguments(samples=1)
        outcome = await HttpCheck().run(args, target(url), CALL)
        before = await HttpCheck().before(args, target(url))
        checks = await HttpCheck().checks(args, target(url), before)
        expected = await HttpCheck().run(CheckArguments(samples=1, expect_status=302), target(url), CALL)
    assert outcome.facts["as_expected"] == 0
    assert expected.facts["as_expected"] == 1
    assert checks[0].observed == "302"
    assert not checks[0].passed
    assert not any("elsewhere" in request for request in seen)


async def test_a_text_that_is_missing_fails_the_check() -> None:
    async with serving(saying("200 OK", b"something else")) as (url, _):
        args = CheckArguments(contains="well", samples=2)
        before = await HttpCheck().before(args, target(url))
        checks = await HttpCheck().checks(args, target(url), before)
    assert [check.passed for check in checks] == [True, False]
    assert checks[1].observed == "in 0 of 2"


async def test_one_wrong_answer_among_good_ones_fails_the_check() -> None:
    statuses = iter(["200 OK", "500 Broken", "200 OK"])

    async def alternating(request: str, writer: asyncio.StreamWriter) -> None:
        await saying(next(statuses))(request, writer)

    async with serving(alternating) as (url, _):
        args = CheckArguments(samples=3)
        before = await HttpCheck().before(args, target(url))
        checks = await HttpCheck().checks(args, target(url), before)
    assert checks[0].observed == "200, 500, 200"
    assert not checks[0].passed


async def test_a_slow_drip_counts_as_a_timeout_although_bytes_keep_coming() -> None:
    stop = asyncio.Event()

    async def dripping(_request: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not stop.is_set():
            writer.write(b"x")
            await writer.drain()
            try:
                await asyncio.wait_for(stop.wait(), 0.02)
            except TimeoutError:
                continue

    async with serving(dripping) as (url, _):
        outcome = await HttpCheck().run(CheckArguments(samples=1, timeout_ms=200), target(url), CALL)
        stop.set()
    answers = outcome.facts["answers"]
    assert isinstance(answers, list)
    assert isinstance(answers[0], dict)
    assert answers[0]["failure"] == "timeout"
    assert outcome.facts["as_expected"] == 0


async def test_a_body_without_end_is_read_up_to_the_limit_only() -> None:
    sent = 0

    async def endless(_request: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while True:
            writer.write(b"y" * 65_536)
            sent += 65_536
            await writer.drain()

    async with serving(endless) as (url, _):
        outcome = await HttpCheck().run(CheckArguments(samples=1), target(url), CALL)
    answers = outcome.facts["answers"]
    assert isinstance(answers, list)
    assert isinstance(answers[0], dict)
    assert answers[0]["bytes"] == 1 << 20
    assert answers[0]["failure"] == ""
    assert sent < 64 << 20


async def test_nobody_listening_is_an_outcome_and_not_an_error() -> None:
    async with serving(saying("200 OK")) as (url, _):
        pass
    args = CheckArguments(samples=2)
    outcome = await HttpCheck().run(args, target(url), CALL)
    before = await HttpCheck().before(args, target(url))
    checks = await HttpCheck().checks(args, target(url), before)
    assert outcome.facts["as_expected"] == 0
    assert not checks[0].passed
    assert checks[0].observed == "ConnectError, ConnectError"


async def test_what_is_not_http_is_an_outcome_and_not_an_error() -> None:
    async def nonsense(_request: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 no http\r\n\r\n")

    async with serving(nonsense) as (url, _):
        outcome = await HttpCheck().run(CheckArguments(samples=1), target(url), CALL)
    assert outcome.facts["as_expected"] == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving(saying("200 OK")) as (url, seen):
        outcome = await HttpCheck().run(CheckArguments(samples=1), target(url), CALL)
    assert outcome.facts["as_expected"] == 1
    assert len(seen) == 1


async def test_compressed_answers_are_not_asked_for() -> None:
    async with serving(saying("200 OK")) as (url, seen):
        await HttpCheck().run(CheckArguments(samples=1), target(url), CALL)
    assert "accept-encoding: identity" in seen[0].lower()


async def test_user_password_and_query_of_the_address_are_neither_shown_nor_recorded() -> None:
    secret = target("http://me:hunter2@127.0.0.1:9/path?token=abc")
    args = CheckArguments(samples=1)
    preview = await HttpCheck().preview(args, secret)
    before = await HttpCheck().before(args, secret)
    outcome = await HttpCheck().run(args, secret, CALL)
    shown = preview.model_dump_json() + before.model_dump_json() + outcome.model_dump_json()
    assert "hunter2" not in shown
    assert "abc" not in shown
    assert "http://127.0.0.1:9/path?..." in preview.commands[0]


async def test_a_latency_above_the_limit_fails_the_check() -> None:
    async def slow(request: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.wait_for(asyncio.shield(asyncio.get_running_loop().create_future()), 0.05)
        await saying("200 OK")(request, writer)

    async def patient(request: str, writer: asyncio.StreamWriter) -> None:
        try:
            await slow(request, writer)
        except TimeoutError:
            await saying("200 OK")(request, writer)

    async with serving(patient) as (url, _):
        args = CheckArguments(samples=1, max_latency_ms=10)
        before = await HttpCheck().before(args, target(url))
        checks = await HttpCheck().checks(args, target(url), before)
    assert [check.passed for check in checks] == [True, False]


@pytest.mark.parametrize(
    "raw",
    [
        {"samples": 21},
        {"samples": 0},
        {"timeout_ms": 60_000},
        {"expect_status": 99},
        {"contains": "x" * 201},
        {"url": "x"},
    ],
)
def test_arguments_out_of_bounds_are_refused(raw: dict[str, int | str]) -> None:
    with pytest.raises(InvalidRequest):
        HttpCheck().parse(dict(raw))
