"""Services that answer HTTP: asked as a stranger would ask them, one address only, no redirects followed."""

import asyncio
import time
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import urlsplit

import httpx2
from pydantic import Field

from operations.canonical import Json
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Arguments, Call, Playbook, Target
from operations.systems import HttpService, SystemKind

_BODY_LIMIT: Final = 1 << 20
"""Bytes of an answer's body that are read; the rest is not asked for."""


class CheckArguments(Arguments):
    """What is expected of each answer."""

    expect_status: int = Field(default=200, ge=100, le=599, description="HTTP status every answer must have")
    contains: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="plain text that the first MiB of every body must contain; no pattern",
    )
    timeout_ms: int = Field(
        default=5000, ge=50, le=30_000, description="milliseconds each answer may take, body included"
    )
    samples: int = Field(default=3, ge=1, le=20, description="requests, one after the other")
    max_latency_ms: int | None = Field(
        default=None, ge=1, le=30_000, description="milliseconds the median answer may take; no limit where absent"
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    latency_us: int
    bytes: int
    contains: bool
    failure: str = ""

    def meets(self, args: CheckArguments) -> bool:
        return not self.failure and self.status == args.expect_status and self.contains


async def _ask(client: httpx2.AsyncClient, url: str, args: CheckArguments) -> _Answer:
    started = time.perf_counter_ns()
    status, body, failure = 0, bytearray(), ""
    try:
        async with asyncio.timeout(args.timeout_ms / 1000), client.stream("GET", url) as response:
            status = response.status_code
            async for chunk in response.aiter_raw():
                body += chunk[: _BODY_LIMIT - len(body)]
                if len(body) >= _BODY_LIMIT:
                    break
    except TimeoutError:
        failure = "timeout"
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        failure = type(error).__name__
    latency = (time.perf_counter_ns() - started) // 1000
    contains = args.contains is None or args.contains.encode() in body
    return _Answer(status, latency, len(body), contains, failure)


async def _sample(args: CheckArguments, system: HttpService, call: Call | None = None) -> list[_Answer]:
    answers = []
    async with httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        timeout=args.timeout_ms / 1000,
        headers={"accept-encoding": "identity", "user-agent": "triad-http-check/1"},
    ) as client:
        for number in range(args.samples):
            answers.append(await _ask(client, system.url, args))
            if call is not None:
                await call.progress((number + 1) / args.samples, f"answer {number + 1} of {args.samples}")
    return answers


def _median_us(answers: list[_Answer]) -> int:
    latencies = sorted(answer.latency_us for answer in answers)
    return latencies[(len(latencies) - 1) // 2]


def _shown(url: str) -> str:
    """The URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?..." if parts.query else "")


class HttpCheck(Playbook[CheckArguments]):
    """Asks the service's own URL a few times and reports status, size and latency in microseconds.

    Redirects are answers, not followed; proxies and cookies of the environment are not used; at most 1 MiB of a body is
    read, uncompressed; the time limit covers the whole answer, so that a slow drip counts as a time-out. A service that
    does not answer is an outcome (status 0 and the failure's name), not an error of this playbook.

    An interruption leaves nothing behind.
    """

    name: ClassVar[str] = "http.check"
    summary: ClassVar[str] = "Ask a service over HTTP and compare status, content and latency with what is expected."
    keywords: ClassVar[tuple[str, ...]] = (
        "http",
        "check",
        "health",
        "probe",
        "endpoint",
        "latency",
        "reachable",
        "api",
    )
    arguments: ClassVar[type[Arguments]] = CheckArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"http"})
    tier: ClassVar[int] = 0
    effect: ClassVar[Effect] = Effect.READ
    emergency: ClassVar[bool] = True

    async def preview(self, args: CheckArguments, target: Target) -> Preview:
        """The request, without what may be secret in its address."""
        system: HttpService = target.expect(HttpService)
        return Preview(
            commands=(f"GET {_shown(system.url)}, {args.samples} times, at most {args.timeout_ms} ms each",),
            basis={"expect_status": args.expect_status, "samples": args.samples},
            blast_radius=f"{args.samples} requests to {system.name}.",
            undo="Reads only; there is nothing to undo.",
        )

    async def before(self, args: CheckArguments, target: Target) -> Snapshot:
        """Nothing is changed, so nothing is kept but the address asked."""
        del args
        system: HttpService = target.expect(HttpService)
        return Snapshot(summary=f"{system.name} is only read.", facts={"url": _shown(system.url)})

    async def run(self, args: CheckArguments, target: Target, call: Call) -> Outcome:
        """Ask `samples` times."""
        answers = await _sample(args, target.expect(HttpService), call)
        good = sum(answer.meets(args) for answer in answers)
        samples: list[Json] = [
            {
                "status": answer.status,
                "latency_us": answer.latency_us,
                "bytes": answer.bytes,
                "contains": answer.contains,
                "failure": answer.failure,
            }
            for answer in answers
        ]
        median = _median_us(answers)
        return Outcome(
            summary=f"{good} of {len(answers)} answers as expected; median {median} us.",
            changed=False,
            facts={
                "answers": samples,
                "as_expected": good,
                "median_us": median,
                "slowest_us": max(answer.latency_us for answer in answers),
            },
        )

    async def checks(self, args: CheckArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """Asks again, independently of the run."""
        del before
        answers = await _sample(args, target.expect(HttpService))
        statuses = [answer.failure or str(answer.status) for answer in answers]
        found = [
            Check(
                name="status-expected",
                passed=all(not answer.failure and answer.status == args.expect_status for answer in answers),
                expected=f"{args.expect_status} from each of {args.samples}",
                observed=", ".join(statuses),
            )
        ]
        if args.contains is not None:
            holding = sum(answer.contains for answer in answers)
            found.append(
                Check(
                    name="content-expected",
                    passed=holding == len(answers),
                    expected=f"the text in each of {args.samples} bodies",
                    observed=f"in {holding} of {len(answers)}",
                )
            )
        if args.max_latency_ms is not None:
            found.append(
                Check(
                    name="latency-within-limit",
                    passed=_median_us(answers) <= args.max_latency_ms * 1000,
                    expected=f"median at most {args.max_latency_ms * 1000} us",
                    observed=f"{_median_us(answers)} us",
                )
            )
        return tuple(found)
