"""The one place for HTTP: asks the service, and makes a problem of its answer a sentence with what to do next."""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import quote

import httpx2

from api.cli.exits import Exit, Stop
from api.cli.hints import next_step
from api.cli.output import JsonObject, note
from api.cli.profile import Profile, Reach, on_this_machine, profile

V1: Final = "/api/v1"

_SECONDS: Final = 60.0
_SILENCE: Final = 45.0
"""Seconds without a heartbeat after which a stream counts as torn; the service sends one every 15."""
_PATIENCE: Final = 30.0
"""Seconds to try to get a torn stream back."""
_STATUS_EXITS: Final = {400: Exit.USAGE, 401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 422: Exit.USAGE}


class Refused(Stop):
    """The service said no. `problem` is what it said (RFC 9457)."""

    def __init__(self, status: int, problem: JsonObject) -> None:
        code = str(problem.get("code", ""))
        said = [str(reason) for reason in problem.get("reasons", ())] or [str(problem.get("detail", ""))]
        hint = next_step(code)
        details = [f"why: {reason}" for reason in said if reason and reason != hint]
        articles = [str(article) for article in problem.get("articles", ())]
        if articles:
            details.append(f"rule: {', '.join(articles)}")
        if problem.get("field"):
            details.append(f"field: {problem['field']}")
        ending = Exit.DENIED if code == "expired" else _STATUS_EXITS.get(status, Exit.ERROR)
        super().__init__(
            ending, f"{problem.get('title', 'The service says no')} ({code or status}).", *details, following=hint
        )
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered."""

    status: int
    data: JsonObject
    etag: str | None
    following: str | None
    """Path of the next page."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One event of a stream: the index of its entry, its kind, and the entry."""

    index: int
    kind: str
    entry: JsonObject


class TimeOver(Exception):
    """A stream was followed for as long as was asked."""


class _Over(Exception):
    """Nothing will follow on a stream."""


class Client:
    """The service, as one principal sees it."""

    def __init__(self, who: Profile) -> None:
        self.profile = who
        headers = {"Accept": "application/json", "User-Agent": "triad-cli"}
        if who.token:
            headers["Authorization"] = f"Bearer {who.token}"
        self._http = httpx2.Client(
            base_url=who.url,
            headers=headers,
            timeout=httpx2.Timeout(_SECONDS, connect=5.0),
            trust_env=not on_this_machine(who.url),
        )

    @classmethod
    def of(cls, reach: Reach) -> Self:
        """The client of this call."""
        return cls(profile(reach))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, *, also: tuple[int, ...] = (), query: JsonObject | None = None) -> Answer:
        """Read something.

        Args:
            path: below the address.
            also: statuses whose body is an answer although they say failure.
            query: parameters; None is left out.

        Raises:
            Stop: it says no, or does not answer.
        """
        found = {name: value for name, value in (query or {}).items() if value is not None}
        return _answer(self._send("GET", path, params=found), also)

    def text(self, path: str, accept: str) -> str:
        """Read a document as it is."""
        response = self._send("GET", path, headers={"Accept": accept})
        if response.status_code != httpx2.codes.OK:
            _answer(response, ())
        return response.text

    def content(self, path: str) -> bytes:
        """Read something byte by byte.

        Raises:
            Stop: the service says no (`Refused`), or does not answer.
        """
        response = self._send("GET", path, headers={"Accept": "*/*"})
        if response.status_code != httpx2.codes.OK:
            _answer(response, ())
        return response.content

    def post(self, path: str, body: JsonObject, *, key: str | None = None, **headers: str) -> Answer:
        """Ask for something, at most once for `key`. An underscore in a header's name stands for a hyphen."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            sent["Idempotency-Key"] = key
        return _answer(self._send("POST", path, headers=sent, json=body, key=key))

    def delete(self, path: str) -> None:
        """Remove something."""
        response = self._send("DELETE", path)
        if response.status_code != httpx2.codes.NO_CONTENT:
            _answer(response)

    def items(self, path: str, *, most: int, **query: object) -> Iterator[JsonObject]:
        """The things of a list, over as many pages as it takes, `most` of them at most."""
        following: str | None = path
        page: JsonObject = {**query, "limit": min(most, 200)}
        while following and most > 0:
            answer = self.get(following, query=page)
            for item in answer.data["items"][:most]:
                most -= 1
                yield item
            following, page = answer.following, {}

    def events(self, path: str, *, after: int | None = None, until: float | None = None) -> Iterator[Sent]:
        """Events as they come. A torn stream is taken up again where it broke off; none is missed or given twice.

        Whoever reads stops at the event that ends what is followed; the service ends such a stream too, and an end
        that comes before counts as torn.

        Args:
            path: of the stream.
            after: index of the last entry that is known.
            until: the `time.monotonic` at which to give up.

        Raises:
            TimeOver: at `until`.
            Stop: it says no, or is gone for longer than half a minute.
        """
        known, torn = after, None
        while True:
            cause: Exception | None = None
            try:
                for sent in self._stream(path, known, until):
                    known, torn = sent.index, None
                    yield sent
            except _Over:
                return
            except (httpx2.TransportError, Stop) as error:
                if isinstance(error, Refused) and error.problem.get("code") != "starting":
                    raise
                cause = error
            if until is not None and time.monotonic() >= until:
                raise TimeOver
            torn = torn or time.monotonic()
            if (cause is not None and known is None) or time.monotonic() - torn > _PATIENCE:
                raise self._unreachable(cause) from cause
            note("The connection was lost; trying again.")
            time.sleep(1)

    def _stream(self, path: str, after: int | None, until: float | None) -> Iterator[Sent]:
        """Events of one connection, until it breaks off.

        Raises:
            _Over: the service says that nothing will follow.
        """
        silence = _SILENCE if until is None else max(0.05, min(_SILENCE, until - time.monotonic()))
        query = {} if after is None else {"after": str(after)}
        timeout = httpx2.Timeout(_SECONDS, connect=5.0, read=silence)
        with self._http.stream("GET", path, params=query, timeout=timeout) as response:
            if response.status_code == httpx2.codes.NO_CONTENT:
                raise _Over
            if response.status_code != httpx2.codes.OK:
                response.read()
                _answer(response)
            yield from _parsed(response.iter_lines(), until)

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: JsonObject | None = None,
        headers: dict[str, str] | None = None,
        json: JsonObject | None = None,
        key: str | None = None,
    ) -> httpx2.Response:
        try:
            return self._http.request(method, path, params=params or None, headers=headers, json=json)
        except httpx2.ConnectError as error:
            raise self._unreachable(error) from error
        except httpx2.TransportError as error:
            again = (
                f"Whether it was recorded is not known. Send it again with --idempotency-key {key}." if key else None
            )
            raise Stop(Exit.ERROR, f"The answer of {self.profile.url} did not arrive.", following=again) from error

    def _unreachable(self, error: Exception | None) -> Stop:
        if isinstance(error, Stop):
            return error
        return Stop(
            Exit.ERROR,
            f"Nothing answers at {self.profile.url}.",
            following="Start it with `triad up`, or name another address with --url or TRIAD_URL.",
        )


def new_key() -> str:
    """A fresh Idempotency-Key, told on standard error so that the same request can be sent again."""
    key = f"cli-{secrets.token_hex(16)}"
    note(f"idempotency key: {key}")
    return key


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


def _parsed(lines: Iterator[str], until: float | None) -> Iterator[Sent]:
    """Events of a stream (HTML Living Standard, 9.2), as far as the service uses the format."""
    index, kind, data = -1, "", ""
    for line in lines:
        name, _, value = line.partition(": ")
        match name:
            case "id":
                index = int(value)
            case "event":
                kind = value
            case "data":
                data = value
            case "" if not line:
                if data:
                    yield Sent(index, kind, json.loads(data))
                kind, data = "", ""
        if until is not None and time.monotonic() >= until:
            raise TimeOver


def _answer(response: httpx2.Response, also: tuple[int, ...] = ()) -> Answer:
    kind = response.headers.get("content-type", "")
    try:
        data: Any = response.json() if "json" in kind else None
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise Stop(
            Exit.ERROR,
            f"What answers at {response.request.url.host} is not Triad (HTTP {response.status_code}).",
            following="Name the address of the service with --url or TRIAD_URL.",
        )
    if response.status_code >= httpx2.codes.BAD_REQUEST and response.status_code not in also:
        raise Refused(response.status_code, data)
    following = response.links.get("next", {}).get("url")
    return Answer(response.status_code, data, response.headers.get("etag"), following)
