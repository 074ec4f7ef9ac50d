"""Operations driven through the ledger by hand, and a door to the database that can be slammed at a chosen moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from operations import events as e
from operations.canonical import new_id, now
from operations.evidence import Effect, Preview
from operations.model import (
    Actor,
    Branch,
    Direction,
    OperationType,
    Plan,
    Principal,
    PrincipalKind,
    Request,
    RunMode,
    Step,
)
from operations.operation import Operation
from storage.ledger import Act, Ledger

ANA = Principal(id="ana", kind=PrincipalKind.PERSON, person="ana")
BY_ANA = Actor(principal="ana", branch=Branch.PEOPLE)
BY_CODE = Actor(principal="agent:executive", branch=Branch.EXECUTIVE)
DIGEST = "d" * 64


def requested(**changes: object) -> e.OperationRequested:
    fields: dict[str, object] = {
        "type": OperationType.MAINTENANCE,
        "description": "Vacuum the orders.",
        "systems": ("orders",),
    }
    return e.OperationRequested(request=Request.model_validate(fields | changes), requester=ANA)


def denied(code: str = "no") -> e.AccessDenied:
    return e.AccessDenied(action="submit", code=code, reasons=("Because.",))


def plan_for(op: Operation, *, tier: int = 1) -> Plan:
    step = Step(
        number=1,
        playbook="postgres.vacuum",
        system="orders",
        arguments={"table": "orders"},
        why="It is bloated.",
        expected_effect="Less bloat.",
        tier=tier,
        effect=Effect.IDEMPOTENT,
        reversible=False,
        playbook_digest=DIGEST,
        arguments_digest=DIGEST,
        system_digest=DIGEST,
        preview=Preview(commands=("VACUUM orders",), blast_radius="One table."),
    )
    return Plan(operation=op.id, version=1, summary="Vacuum.", steps=(step,), tier=tier, constitution=op.constitution)


def proposed(plan: Plan) -> e.PlanProposed:
    return e.PlanProposed(
        plan=plan.digest,
        version=plan.version,
        tier=plan.tier,
        mode=RunMode.AUTONOMOUS,
        quorum=0,
        assent=False,
        reasons=(),
        articles=(),
        expires=now() + timedelta(hours=1),
        summary=plan.summary,
        body=plan,
    )


async def submitted(ledger: Ledger) -> Operation:
    return await ledger.submit(requested(), BY_ANA)


async def planned(ledger: Ledger) -> Operation:
    op = await submitted(ledger)
    return await ledger.record(op, Act(proposed(plan_for(op)), BY_CODE))


async def running(ledger: Ledger, worker: str = "w1") -> Operation:
    op = await planned(ledger)
    plan = op.bound_plan().digest
    epoch = await ledger.claim(op.id, worker, 60)
    assert epoch is not None
    return await ledger.record(
        op,
        Act(e.OperationApproved(plan=plan, approvals=(), reasons=(), articles=()), BY_CODE),
        Act(e.OperationStarted(plan=plan, epoch=epoch), BY_CODE),
    )


def issued(op: Operation, warrant: str | None = None, *, attempt: int = 1) -> e.WarrantIssued:
    return e.WarrantIssued(
        warrant=warrant or new_id("wr"),
        step=1,
        attempt=attempt,
        direction=Direction.DO,
        plan=op.bound_plan().digest,
        arguments=DIGEST,
        system="orders",
        expires=now() + timedelta(minutes=5),
    )


def intent(warrant: e.WarrantIssued) -> e.StepIntent:
    return e.StepIntent(
        warrant=warrant.warrant,
        step=1,
        attempt=warrant.attempt,
        direction=Direction.DO,
        playbook="postgres.vacuum",
        system="orders",
        arguments=DIGEST,
        effect=Effect.IDEMPOTENT,
        idempotency_key=f"{warrant.warrant}/1",
    )


class Door:
    """A Unix socket in front of the server's. `dsn` leads through it.

    `slam_after_next` lets one more message of the client through once it is longer than that many bytes, swallows the
    answer and cuts the connection: the client cannot know what became of it. `shut` refuses everybody until `open`.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        self._behind = f"{unquote(query['host'][0])}/.s.PGSQL.{query['port'][0]}"
        self._before = folder / ".s.PGSQL.5432"
        self.dsn = f"{parts.scheme}://{parts.netloc}{parts.path}?host={quote(str(folder), safe='')}&port=5432"
        self.slam_after: int | None = None
        self.slammed = asyncio.Event()
        self.shut = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.shut:
            writer.close()
            return
        behind_reader, behind_writer = await asyncio.open_unix_connection(self._behind)
        self._writers |= {writer, behind_writer}
        slamming = asyncio.Event()

        async def inwards() -> None:
            while data := await reader.read(1 << 20):
                if self.slam_after is not None and len(data) > self.slam_after:
                    self.slam_after = None
                    slamming.set()
                behind_writer.write(data)
                await behind_writer.drain()

        async def outwards() -> None:
            while data := await behind_reader.read(1 << 20):
                if slamming.is_set():
                    self.slammed.set()
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(inwards()), asyncio.create_task(outwards())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for each in (writer, behind_writer):
                self._writers.discard(each)
                each.close()

    def cut(self) -> None:
        """Cut every connection that goes through."""
        for writer in list(self._writers):
            writer.transport.abort()


@contextlib.asynccontextmanager
async def door(dsn: str, folder: Path) -> AsyncIterator[Door]:
    made = Door(dsn, folder)
    server = await asyncio.start_unix_server(made._serve, str(made._before))
    try:
        yield made
    finally:
        server.close()
        made.cut()
