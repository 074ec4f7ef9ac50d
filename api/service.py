"""What every route reaches through: one working Triad, its keys, its kept answers and its open streams."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

import structlog
from fastapi import Depends
from starlette.requests import Request as HttpRequest

from api.audit import Auditor
from api.problems import RETRY_AFTER, Rejection
from api.settings import Settings
from operations.canonical import Digest
from operations.errors import ConstitutionChanged, ConstitutionInvalid
from operations.model import Principal
from operations.operation import Operation
from operations.policy import Action, Context, Decision, Kind, Resource
from storage.idempotency import Idempotency
from storage.keys import ApiKeys
from storage.personal import People
from storage.source import LedgerSource
from storage.verifier.report import Code
from triad.analytics.analysis import Analyst
from triad.assembly import Triad
from triad.expiry import Expiry
from triad.privacy import Privacy
from triad.witnesses import Witnesses

_LOG: Final = structlog.get_logger("triad.api")
_BROKEN: Final = frozenset({Code.SIGNATURE, Code.ROOT, Code.FORK, Code.SEMANTICS})
"""Verdicts of the verifier that say that the ledger is not what it was signed to be."""

RUNBOOK: Final = "docs/runbooks/ledger-does-not-verify.md"
"""What to do about a ledger that is not what was signed."""

_LETTING_GO: Final = 20.0
"""Seconds to stop what is in hand and to give claims back; those that are not given back run out."""


class Streams:
    """The open event streams: bounded in all and for each principal, and ended together at shutdown."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._open: Counter[str] = Counter()
        self.closing = asyncio.Event()

    @property
    def count(self) -> int:
        """How many are open."""
        return self._open.total()

    def enter(self, principal: str) -> None:
        """Take a place.

        Raises:
            Rejection: `too-many-streams`, or `starting` when the service is about to stop.
        """
        if self.closing.is_set():
            raise Rejection("starting", "The service is stopping.", headers=RETRY_AFTER)
        if self.count >= self._most or self._open[principal] >= self._most_each:
            raise Rejection("too-many-streams", "No more streams can be opened now.", headers=RETRY_AFTER)
        self._open[principal] += 1

    def leave(self, principal: str) -> None:
        """Give the place back."""
        self._open[principal] -= 1
        if not self._open[principal]:
            del self._open[principal]


@dataclass(frozen=True, slots=True)
class Service:
    """Everything behind the doors."""

    settings: Settings
    triad: Triad
    keys: ApiKeys
    idempotency: Idempotency
    streams: Streams
    auditor: Auditor
    source: LedgerSource
    people: People
    privacy: Privacy
    expiry: Expiry
    witnesses: Witnesses
    analyst: Analyst
    worker: "asyncio.Task[None]"
    started: datetime
    _last: list[Digest] = field(default_factory=list)

    def constitution(self) -> Digest | None:
        """Digest of the constitution in force; the last one known while the document cannot be used."""
        with suppress(ConstitutionChanged, ConstitutionInvalid):
            self._last[:] = [self.triad.law.in_force().digest]
        return self._last[0] if self._last else None

    def broken(self) -> str | None:
        """What the last verification of the ledger found broken, in a sentence; None: nothing, or there was none.

        An input that could not be read is not a broken ledger: reading it says so by itself.
        """
        found = self.auditor.last
        if found is None or found.code not in _BROKEN:
            return None
        first = f" {found.problems[0].sentence}" if found.problems else ""
        return f"The last verification found the ledger broken (code {found.code}).{first} See {RUNBOOK}."

    def demand_sound(self, *, emergency: bool) -> None:
        """Let nothing new begin on a ledger that the last verification found broken, emergencies excepted.

        Raises:
            Rejection: `ledger-corrupt`.
        """
        wrong = self.broken()
        if wrong is not None and not emergency:
            raise Rejection(
                "ledger-corrupt", wrong, "Only emergencies are taken in until a verification finds it intact."
            )

    async def sight(self, principal: Principal) -> "Sight":
        """What `principal` may see, judged by the constitution in force now."""
        head = await self.triad.ledger.head()
        return Sight(self.triad, principal, Context(mode=self.triad.law.mode, halted=head.halted))


@dataclass(frozen=True, slots=True)
class Sight:
    """One principal's reading rights in one moment. What may not be read is as if it were not there."""

    triad: Triad
    principal: Principal
    context: Context

    def decide(self, action: Action, resource: Resource) -> Decision:
        """The constitution's answer; nothing is recorded."""
        return self.triad.law.in_force().decide(self.principal, action, resource, self.context)

    def sees(self, op: Operation) -> bool:
        """Whether an operation may be read."""
        return self.decide(Action.READ, self.triad.law.resource(op)).allowed

    def reads(self, kind: Kind, ident: str | None = None) -> bool:
        """Whether the ledger, the keys, the constitution or a system may be read."""
        return self.decide(Action.READ, Resource(kind=kind, id=ident or kind)).allowed


def service_of(request: HttpRequest) -> Service:
    """The running service.

    Raises:
        Rejection: `starting`.
    """
    service: Service | None = getattr(request.app.state, "service", None)
    if service is None:
        raise Rejection("starting", "The service is not ready.", headers=RETRY_AFTER)
    return service


Doors = Annotated[Service, Depends(service_of)]
"""The running service, as a route's parameter."""


@contextmanager
def published(state: object, service: Service) -> Iterator[None]:
    """Let routes find the service for the time of the context."""
    setattr(state, "service", service)  # noqa: B010 - starlette's state takes any name
    try:
        yield
    finally:
        setattr(state, "service", None)  # noqa: B010 - see above


@asynccontextmanager
async def working(worker: "asyncio.Task[None]") -> AsyncIterator[None]:
    """Keep the worker for the time of the context; what it has in hand is carried on by whoever comes next."""
    try:
        yield
    finally:
        worker.cancel()
        _, late = await asyncio.wait([worker], timeout=_LETTING_GO)
        if late:
            _LOG.error("did not stop in time and is left behind", task=worker.get_name())
        elif not worker.cancelled() and (error := worker.exception()) is not None:
            _LOG.error("the worker had stopped", exc_info=error)
