"""Lets evidence expire by policy, and finishes what a crash left between an entry and what it says.

The entry comes first; the deletion follows and can be repeated. Digests stay wherever they are named.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import structlog

from operations.errors import TriadError
from operations.events import EvidenceExpired
from operations.evidence import EvidenceClass
from operations.model import Actor, Branch, Principal
from operations.policy import Action, Resource
from storage.expiry import Archive, Due
from storage.keys import ApiKeys
from storage.ledger import Ledger
from storage.personal import People
from triad.law import Law, actor_of

_LOG: Final = structlog.get_logger("triad.expiry")
_CODE: Final = Actor(principal="triad", branch=Branch.PEOPLE)
_DIGESTS: Final = 150
_BYTES: Final = 64 * 1024 * 1024
"""Most bytes that one entry lets go: their deletion holds up the ledger's writers."""
_PAGE: Final = 3000
_SHOWN: Final = 100_000
_SWEEP_SECONDS: Final = 60.0
_DAY_SECONDS: Final = 24 * 3600.0


class Tally(NamedTuple):
    """Evidence of one class whose time is over."""

    kind: str
    days: int
    pieces: int
    bytes: int


class Finished(NamedTuple):
    """What a sweep found left over by a crash."""

    values: int
    evidence: int
    keys: int


class Expiry:
    """The retention of evidence in one process."""

    def __init__(
        self,
        ledger: Ledger,
        law: Law,
        archive: Archive,
        people: People,
        keys: ApiKeys,
        days: Mapping[EvidenceClass, int],
        *,
        sweep_seconds: float = _SWEEP_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._law = law
        self._archive = archive
        self._people = people
        self._keys = keys
        self._days = dict(days)
        self._sweep_seconds = sweep_seconds

    async def run(self) -> None:
        """Sweep each minute and let evidence expire once a day, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                await self.sweep()
                if loop.time() >= due:
                    await self.expire()
                    due = loop.time() + _DAY_SECONDS
            except TriadError as error:
                _LOG.warning("retention waits", error=type(error).__name__, detail=str(error))
            except Exception:  # noqa: BLE001 - a defect in one round must not end the next ones; it is logged and seen
                _LOG.exception("retention waits after a defect")
            await asyncio.sleep(self._sweep_seconds)

    async def sweep(self) -> Finished:
        """Carry out what entries say and a crash prevented: erasures, expiries, revocations of keys.

        Raises:
            LedgerUnavailable: not now.
        """
        keys = await self._keys.finish_revocations()
        values, evidence = await self._people.sweep(), 0
        for index in await self._archive.undone():
            evidence += await self._forget(index)
        if values or evidence or keys:
            _LOG.warning("finished what was left over", values=values, evidence=evidence, keys=keys)
        return Finished(values, evidence, keys)

    async def due(self, principal: Principal) -> list[Tally]:
        """What would expire now; at most 100,000 pieces are counted.

        Raises:
            NotAllowed: only an admin.
        """
        (await self._law.decide(principal, Action.MANAGE_KEYS, _EVIDENCE)).raise_if_denied()
        await self._archive.read_up()
        return tallied(await self._archive.due(self._days, self._ledger.clock(), most=_SHOWN))

    async def expire_now(self, principal: Principal) -> list[Tally]:
        """Let evidence expire because an admin asks.

        Raises:
            NotAllowed: only an admin.
        """
        await self._law.demand(principal, Action.MANAGE_KEYS, _EVIDENCE)
        return await self.expire(actor_of(principal))

    async def expire(self, actor: Actor = _CODE) -> list[Tally]:
        """Let everything go whose time is over: entry by entry, each recorded before its evidence is deleted.

        Nothing happens while another process does the same.

        Raises:
            LedgerUnavailable: what was not recorded is still there.
        """
        gone: list[Due] = []
        if not self._days:
            return []
        async with self._archive.turn() as mine:
            if not mine:
                return []
            await self._archive.read_up()
            while page := await self._archive.due(self._days, self._ledger.clock(), most=_PAGE):
                before = len(gone)
                for batch in batches(page):
                    event = EvidenceExpired(digests=tuple(each.digest for each in batch), days=batch[0].days)
                    index = await self._ledger.note(event, actor)
                    removed = set((await self._archive.forget(index)).removed)
                    self._ledger.forget(removed)
                    gone += [each for each in batch if each.digest in removed]
                if len(gone) == before:
                    break
        if gone:
            _LOG.info("evidence expired", pieces=len(gone), bytes=sum(each.bytes for each in gone))
        return tallied(gone)

    async def _forget(self, index: int) -> int:
        done = await self._archive.forget(index)
        self._ledger.forget(done.removed)
        if done.kept:
            _LOG.warning("evidence that an entry lets go is needed and stays", entry=index, pieces=len(done.kept))
        return len(done.removed)


_EVIDENCE: Final = Resource(kind="keys", id="evidence")


def batches(due: list[Due]) -> Iterator[list[Due]]:
    """What one entry lets go at a time: of one rule, at most 150 pieces, at most 64 MiB unless one alone is larger."""
    batch: list[Due] = []
    for each in due:
        full = len(batch) >= _DIGESTS or sum(one.bytes for one in batch) + each.bytes > _BYTES
        if batch and (full or batch[0].days != each.days):
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch


def tallied(due: list[Due]) -> list[Tally]:
    """Pieces and bytes by class and rule."""
    groups: dict[tuple[str, int], list[Due]] = {}
    for each in due:
        groups.setdefault((each.kind, each.days), []).append(each)
    return [
        Tally(kind, days, len(found), sum(each.bytes for each in found))
        for (kind, days), found in sorted(groups.items())
    ]
