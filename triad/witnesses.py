"""The log asks its witnesses: after each batch, beside the recording, for the newest checkpoint alone.

Nothing waits for a witness. All of them are asked about the same checkpoint, so that a quorum meets under one; what
came in between is passed over. A refusal that tells of a rollback or a fork becomes one entry, a cosignature none: see
docs/decisions/0016-cosignatures-are-not-entries.md. Source: https://c2sp.org/tlog-witness.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import httpx2
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from operations import events as e
from operations.errors import LedgerCorrupt, LedgerUnavailable, NotFound
from operations.model import Actor, Branch
from storage.cosignatures import Cosignature, Peer
from storage.ledger import Ledger
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, NoteUnverified, parse_note
from storage.verifier.policy import TOLERANCE
from storage.witness import AddCheckpoint
from storage.witnessed import Standing, Turn
from triad.stopping import stopped

ROLLBACK: Final = "rollback"
"""The witness cosigned a larger log than this one is."""
FORK: Final = "fork"
"""The witness cosigned a checkpoint of the same size with another root."""
NOT_CONSISTENT: Final = "not-consistent"
"""What the witness cosigned is not the beginning of this log."""

LATE: Final = timedelta(seconds=120)
"""A witness that has not cosigned what is older is worth a warning."""

_REASONS: Final = {
    ROLLBACK: "The witness cosigned more entries than the log has: the newest were lost or taken away.",
    FORK: "The witness cosigned another log of the same size.",
    NOT_CONSISTENT: "The witness does not find what it cosigned at the beginning of the log.",
}
_LOG: Final = structlog.get_logger("triad.witnesses")
_ACTOR: Final = Actor(principal="triad", branch=Branch.PEOPLE)
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,15})\n?")
_LONGEST_ANSWER: Final = 64 * 1024
_ROUNDS: Final = 8
_OK, _CONFLICT, _UNPROCESSABLE = 200, 409, 422


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast witnesses are asked, in seconds.

    Attributes:
        between: from one checkpoint that is asked about to the next.
        round: how long a checkpoint is kept for slow witnesses when a newer one is there.
        deadline: for one answer.
        again: the mean first pause after a failure; it doubles.
        most: the longest such pause.
        refused: the pause after a refusal.
        standby: between two attempts to become the process that asks.
    """

    between: float = 0.2
    round: float = 5.0
    deadline: float = 15.0
    again: float = 0.5
    most: float = 300.0
    refused: float = 60.0
    standby: float = 5.0


class _Later(Exception):
    """The witness did not cosign; ask again after a while."""


class _Refusal(_Later):
    """The witness will not cosign this log, because of what it cosigned before."""

    def __init__(self, code: str, size: int, seen: int | None) -> None:
        super().__init__(_REASONS[code])
        self.code = code
        self.size = size
        self.seen = seen


@dataclass(frozen=True, slots=True)
class _Target:
    """The checkpoint that the witnesses are asked about."""

    size: int
    text: str
    note: bytes


@dataclass(slots=True)
class _Board:
    """What is asked now, and who has answered."""

    target: _Target | None = None
    resting: set[str] = field(default_factory=set)
    cosigned: dict[str, int] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def aim(self, target: _Target) -> None:
        """Ask about this checkpoint from now on."""
        self.target = target
        await self._tell()

    async def done(self, name: str, size: int) -> None:
        """A witness cosigned the checkpoint of `size` entries."""
        self.cosigned[name] = size
        await self._tell()

    async def rest(self, name: str) -> None:
        """A witness did not cosign and is left alone for a while."""
        self.resting.add(name)
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with self._changed:
            await self._changed.wait_for(holds)

    def wanted(self, name: str) -> bool:
        """Whether the witness has not cosigned the present target."""
        return self.target is not None and self.cosigned.get(name, 0) < self.target.size

    def enough(self, quorum: int) -> bool:
        """Whether a quorum cosigned the target, or nobody is left who may soon."""
        done = sum(1 for name in self.cosigned if not self.wanted(name))
        asked = any(self.wanted(name) and name not in self.resting for name in self.cosigned)
        return done >= quorum > 0 or not asked


class Witnesses:
    """Asks every witness for its cosignature, for as long as `run` runs.

    Attributes:
        peers: whom it asks.
        quorum: how many of them it takes.
        trouble: why a witness cannot be had just now, by the witness's name; empty while all is well.
    """

    def __init__(
        self, ledger: Ledger, turn: Turn, peers: Sequence[Peer], quorum: int, *, pace: Pace | None = None
    ) -> None:
        self.peers = tuple(peers)
        self.quorum = quorum
        self.trouble: dict[str, str] = {}
        self._ledger = ledger
        self._turn = turn
        self._pace = pace or Pace()

    @property
    def asking(self) -> bool:
        """Whether this process is the one that asks."""
        return self._turn.held()

    async def newest(self) -> bytes | None:
        """The newest note that the quorum cosigned; None where there is none, or no quorum."""
        if not self.quorum:
            return None
        return await self._ledger.cosigned([peer.key for peer in self.peers], self.quorum)

    async def run(self) -> None:
        """Ask until cancelled. What goes wrong is told in the log and tried again; it never reaches who records."""
        if not self.peers:
            return
        try:
            while True:
                if await self._turn.take():
                    await self._ask_all()
                await asyncio.sleep(self._pace.standby)
        finally:
            await self._turn.give_back()

    async def _ask_all(self) -> None:
        """Ask until that fails. The tasks end in no other way, so the first that ends, however it does, ends it all."""
        board = _Board()
        limits = httpx2.Limits(max_connections=2 * len(self.peers), keepalive_expiry=60)
        timeout = httpx2.Timeout(self._pace.deadline, connect=min(5.0, self._pace.deadline))
        async with httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as http:
            lines = [_Line(http, peer, self._pace.deadline) for peer in self.peers]
            work = (self._aim(board), *(self._keep_asking(board, line) for line in lines))
            tasks = [asyncio.create_task(each) for each in work]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await stopped(tasks)
        for error in [task.exception() for task in tasks if not task.cancelled()]:
            if isinstance(error, LedgerUnavailable | LedgerCorrupt | NotFound):
                _LOG.warning("witnesses are not asked", reason=str(error))
            else:  # a defect here must not end the asking; it is logged and seen
                _LOG.error("witnesses are not asked", exc_info=error)

    async def _aim(self, board: _Board) -> None:
        """Choose what is asked about: the newest checkpoint, once that before it has a quorum or had its time."""
        await board.until(lambda: len(board.cosigned) == len(self.peers))
        while self._turn.held():
            note = await self._ledger.checkpoint()
            text = parse_note(note).text
            target = _Target(Checkpoint.parse(text).size, text, note)
            await board.aim(target)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.round):
                    await board.until(lambda: board.enough(self.quorum))
            await asyncio.sleep(self._pace.between)
            await self._ledger.grown(target.size)
        raise LedgerUnavailable("The link to the database ended.")

    async def _keep_asking(self, board: _Board, line: "_Line") -> None:
        name = line.peer.name
        await board.done(name, 0)  # the newest is asked about even when it was cosigned: it may have been put back
        while True:
            await board.until(lambda: board.wanted(name))
            async for attempt in AsyncRetrying(
                wait=self._pause, retry=retry_if_exception_type(_Later), sleep=asyncio.sleep
            ):
                with attempt:
                    await self._ask(board, line)

    def _pause(self, state: RetryCallState) -> float:
        pace, outcome = self._pace, state.outcome
        backing_off = wait_random_exponential(multiplier=pace.again, max=pace.most)(state)
        if outcome is not None and isinstance(outcome.exception(), _Refusal):
            return pace.refused + backing_off
        return backing_off

    async def _ask(self, board: _Board, line: "_Line") -> None:
        """Have the present target cosigned.

        Raises:
            _Later: it was not.
        """
        name, target = line.peer.name, board.target
        if target is None or not board.wanted(name):
            return
        board.resting.discard(name)
        try:
            made = await self._cosigned(line, target)
        except _Later as error:
            self._trouble(name, str(error))
            await board.rest(name)
            if isinstance(error, _Refusal):
                await self._record(line.peer, error)
            raise
        self.trouble.pop(name, None)
        await self._ledger.cosign(made)
        await board.done(name, made.size)

    def _trouble(self, name: str, reason: str) -> None:
        if self.trouble.get(name) != reason:
            _LOG.warning("a witness did not cosign", witness=name, reason=reason)
        self.trouble[name] = reason

    async def _cosigned(self, line: "_Line", target: _Target) -> Cosignature:
        old = cosigned = await self._ledger.cosigned_by(line.peer.key)
        if old > target.size:
            target = await self._newer(target, old)
        for _ in range(_ROUNDS):
            proof = await self._ledger.consistency(old, target.size) if old else []
            status, kind, body = await line.post(AddCheckpoint(old, tuple(proof), target.note).encode())
            if status == _OK:
                return line.read(target, body)
            if status == _UNPROCESSABLE:
                raise _Refusal(FORK if old == target.size else NOT_CONSISTENT, target.size, old)
            if status != _CONFLICT:
                raise _Later(f"It answers with status {status}{_HINTS.get(status, '')}.")
            said = _SIZE.fullmatch(body) if kind == "text/x.tlog.size" else None
            seen = int(said[1]) if said is not None else None
            if seen is None or seen == old:
                if old != target.size:
                    raise _Later("It names a conflict with a size that it said itself.")
                raise _Refusal(FORK, target.size, old)
            if seen < cosigned:
                raise _Later("It has forgotten what it cosigned; it counts no more and is to be replaced.")
            if seen > target.size:
                target = await self._newer(target, seen)
            old = seen
        raise _Later("Somebody else asks it about this log all the time.")

    async def _newer(self, target: _Target, seen: int) -> _Target:
        """The newest checkpoint: another process may have recorded what the witness saw.

        Raises:
            _Refusal: the witness saw more than there is.
        """
        note = await self._ledger.checkpoint()
        text = parse_note(note).text
        size = Checkpoint.parse(text).size
        if seen > size:
            raise _Refusal(ROLLBACK, target.size, seen)
        return _Target(size, text, note)

    async def _record(self, peer: Peer, refusal: _Refusal) -> None:
        """One entry for what a witness refuses, until it cosigns again: the entry itself makes a new checkpoint."""
        standing = await self._ledger.standing(peer)
        if any(each.event.code == refusal.code for each in standing.refused):
            return
        event = e.WitnessRefused(
            witness=peer.key.name,
            code=refusal.code,
            size=refusal.size,
            seen=refusal.seen,
            reasons=(_REASONS[refusal.code],),
        )
        await self._ledger.note(event, _ACTOR)
        _LOG.error("a witness refuses this log", witness=peer.name, code=refusal.code, seen=refusal.seen)


_HINTS: Final = {
    403: ": it does not trust the log's key",
    404: ": it does not know this log, or its address is another one",
}


class _Line:
    """One witness and the way to it."""

    def __init__(self, http: httpx2.AsyncClient, peer: Peer, deadline: float) -> None:
        self.peer = peer
        self._http = http
        self._deadline = deadline

    async def post(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer.

        Raises:
            _Later: there is none in time, or it is too long.
        """
        url = f"{self.peer.url}/add-checkpoint"
        answer = bytearray()
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._http.stream("POST", url, content=body, headers={"Content-Type": "text/plain"}) as response,
            ):
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > _LONGEST_ANSWER:
                        raise _Later("Its answer is too long.")
        except TimeoutError as error:
            raise _Later("It does not answer in time.") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise _Later(f"It cannot be reached ({type(error).__name__}).") from error
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return response.status_code, kind, bytes(answer)

    def read(self, target: _Target, body: bytes) -> Cosignature:
        """The witness's own cosignature out of its answer; other lines count for nothing.

        Raises:
            _Later: it is not there, does not verify, or states a time to come.
        """
        key = self.peer.key
        try:
            lines = parse_note(target.text.encode() + b"\n" + body).signatures
            mine = next(each for each in lines if (each.name, each.key_id) == (key.name, key.key_id))
            at = key.verify(mine, target.text)
        except StopIteration:
            raise _Later("Its answer has no cosignature of the key that the settings name.") from None
        except (NoteMalformed, NoteUnverified) as error:
            raise _Later(f"Its cosignature does not count: {error}.") from error
        if at > time.time() + TOLERANCE:
            raise _Later("Its clock is ahead.")
        return Cosignature(target.size, mine, at)


def complaint(standing: Standing, at: datetime) -> str | None:
    """What is wrong between a witness and the log, in a sentence; None: nothing.

    Args:
        standing: how the witness stands to the log.
        at: now.
    """
    name = standing.peer.name
    if standing.refused:
        event = standing.refused[-1].event
        return f"Witness {name} refuses the log ({event.code}). {event.reasons[0]}"
    if standing.since is not None and at - standing.since > LATE:
        minutes = int((at - standing.since).total_seconds() // 60)
        return f"Witness {name} has not cosigned for {minutes} minutes."
    return None
