"""A whole Triad around the sample playbooks, for tests of the flow: real PostgreSQL, real files, the rules model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agents.minds import Minds
from operations.model import Principal, Request
from operations.operation import Operation
from storage.verify import Report, verify
from tests.conftest import Database
from tests.samples import ADA, sample_catalogue, sample_inventory
from triad.assembly import Blueprint, Triad, assembled
from triad.home import Home


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
        return verify((data for _, data in await ledger.raw(limit=100_000)), note, (self.triad.signer.key,))


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
