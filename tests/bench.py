"""A whole Triad around the sample playbooks, for tests of the flow: real PostgreSQL, real files, the rules model."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agents.minds import Minds
from operations.errors import NotFound
from operations.model import Principal, Request
from operations.operation import Operation
from storage.verifier.policy import Policy
from storage.verifier.report import Report
from storage.verifier.verification import verify
from tests.conftest import Database
from tests.samples import ADA, sample_catalogue, sample_inventory
from triad.assembly import Blueprint, Triad, assembled
from triad.home import Home

_DIGEST: Final = re.compile(r'"(?:plan|constitution|enacted)":"([0-9a-f]{64})"')


@dataclass(frozen=True)
class Bench:
    """One assembled Triad and the folder its notes lie in."""

    triad: Triad
    folder: Path

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    async def submit(self, request: Request, principal: Principal = ADA) -> Operation:
        return await self.triad.petitions.submit(principal, request)

    async def advance(self, op: Operation) -> Operation:
        await self.triad.worker.advance(op.id)
        return await self.triad.ledger.load(op.id)

    async def approve(self, op: Operation, principal: Principal) -> Operation:
        return await self.triad.petitions.approve(principal, op.id, op.bound_plan().digest, "Fine.", channel="test")

    async def kinds(self, op: Operation) -> list[str]:
        return [entry.kind for entry in await self.triad.ledger.entries(operation=op.id)]

    async def verified(self) -> Report:
        """The whole log, verified from its bytes and its signed checkpoint."""
        ledger = self.triad.ledger
        note = await ledger.checkpoint()
        entries = [data for _, data in await ledger.raw(limit=100_000)]
        digests = {digest for data in entries for digest in _DIGEST.findall(data.decode())}
        kept = {digest: body for digest in digests if (body := await self._piece(digest)) is not None}
        return verify(entries, note, Policy.of((self.triad.signer.key,)), plans=kept, constitutions=kept)

    async def _piece(self, digest: str) -> bytes | None:
        try:
            return await self.triad.ledger.evidence(digest)
        except NotFound:
            return None


@asynccontextmanager
async def bench(database: Database, folder: Path, minds: Minds | None = None) -> AsyncIterator[Bench]:
    home = Home(folder / "home")
    home.prepare()
    blueprint = Blueprint(
        home=home,
        dsn=database.app,
        inventory=sample_inventory(folder),
        catalogue=sample_catalogue(),
        minds=minds,
    )
    async with assembled(blueprint) as triad:
        yield Bench(triad, folder)
