"""The connections to a witness: each bounded in time, all of them in number, so that nobody keeps others out.

A connection on which the witness waits for its client can end at any moment: clients of HTTP/1.1 connect again. So
where there are too many, a new one takes the place of one that is waited for.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

PLACE: Final = 32
"""Connections at once from one IPv4 address or one /64 of IPv6."""

_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a witness waits for its clients, in seconds, and how many they may be.

    Attributes:
        header: for the whole header of a request, from the first moment of a connection or the first byte of a next
            request.
        body: for the body of a request to arrive.
        idle: for a next request.
        connections: at once.
        place: at once from one IPv4 address or one /64 of IPv6. None: `PLACE`, and no such bound at loopback addresses,
            where a proxy speaks for everybody.
    """

    header: float = 10.0
    body: float = 10.0
    idle: int = 5
    connections: int = 256
    place: int | None = None


class Bounded(H11Protocol):
    """HTTP/1.1 whose connections end when their client is late, and make room for each other.

    Attributes:
        bounds: of the server.
        place: where the client is, as far as it can be told apart from others.
        since: when it was last answered, or came; by the loop's clock.
    """

    bounds = Bounds()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._late: asyncio.TimerHandle | None = None
        self.since = 0.0
        self.place = ""
        self._bound = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Find room, and start the first request's time."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self.place, self._bound = _placed(self.client[0] if self.client else "", self.bounds)
        if self._finds_room():
            self._wait()
        else:
            transport.write(_BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """A request whose header is there is no longer late; what follows an answer is another request."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._late is None:
            self._wait()

    def on_response_complete(self) -> None:
        """An idle connection is kept; the time of what has arrived of a next request begins."""
        super().on_response_complete()
        self.since = self.loop.time()
        if self.cycle.response_complete and self.conn.trailing_data[0]:
            self._wait()

    def pause_writing(self) -> None:
        """Answers are short: who leaves many of them unread is let go."""
        super().pause_writing()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _finds_room(self) -> bool:
        """Whether there is room for this connection, perhaps that of one whose client is waited for."""
        there = [each for each in self.connections if isinstance(each, Bounded) and not each.transport.is_closing()]
        mates = [each for each in there if each.place == self.place]
        if len(mates) > self._bound:
            crowd = mates
        elif len(there) > self.bounds.connections:
            crowd = there
        else:
            return True
        waited_for = [each for each in crowd if each is not self and each.waits()]
        if not waited_for:
            return False
        numbers = Counter(each.place for each in waited_for)
        most = max(numbers.values())
        longest = min((each for each in waited_for if numbers[each.place] == most), key=lambda each: each.since)
        longest.transport.abort()
        return True

    def waits(self) -> bool:
        """Whether the client is to do something: send a request, or the rest of one."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def _wait(self) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(self.bounds.header, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def bounded(bounds: Bounds) -> type[Bounded]:
    """The protocol of a server with these bounds."""
    return type("BoundedSo", (Bounded,), {"bounds": bounds})


def _placed(host: str, bounds: Bounds) -> tuple[str, int]:
    """Where a client is, as far as it can be told apart from others, and how many connections may come from there."""
    try:
        address = ip_address(host)
    except ValueError:
        return host, bounds.connections
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    most = bounds.place
    if most is None:
        most = bounds.connections if address.is_loopback else PLACE
    if isinstance(address, IPv4Address):
        return str(address), most
    return str(IPv6Network((int(address), 64), strict=False)), most
