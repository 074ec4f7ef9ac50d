"""From settings to a working service: database, migrations, Triad, first key, worker; and back, in the other order."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from agents.models import ModelChoice
from api.audit import Auditor
from api.service import Service, Streams, working
from api.settings import VERSION, Model, Settings
from operations.canonical import now
from operations.errors import LedgerUnavailable
from operations.events import KeyCreated
from operations.model import Branch, Principal, PrincipalKind, Role
from operations.systems import resolve_secret
from storage import migrate
from storage.embedded import Embedded
from storage.engine import make_engine
from storage.expiry import Archive
from storage.idempotency import Idempotency
from storage.keys import ApiKeys, fingerprint
from storage.personal import People
from storage.roles import DatabaseRole
from storage.source import LedgerSource
from storage.witnessed import Turn
from triad.analytics.analysis import Analyst
from triad.assembly import Blueprint, Triad, assembled
from triad.expiry import Expiry
from triad.home import Home, inventory_of
from triad.law import actor_of
from triad.privacy import Privacy
from triad.witnesses import Witnesses

FIRST_ADMIN = Principal(id="admin", kind=PrincipalKind.PERSON, roles=frozenset({Role.ADMIN}), person="admin")
"""Whose key the first start makes: it can make other people's keys, and decide on nothing of its own."""

Announce = Callable[[str], None]
"""Is given the first admin's key, once, to show it to whoever started Triad."""


class MigrationsPending(LedgerUnavailable):
    """The database is older than the code. Run `triad migrate` with the owner's DSN, then start again."""


@asynccontextmanager
async def opened(settings: Settings, announce: Announce) -> AsyncIterator[Service]:
    """The service, working, for the time of the context.

    Raises:
        MigrationsPending: an ordinary server's database lacks migrations; the embedded one is migrated here.
        EmbeddedFailed: the embedded server does not start.
        ConstitutionChanged, ConstitutionInvalid, LedgerUnavailable, LedgerCorrupt: see `triad.assembly.assembled`.
    """
    home = Home(settings.home)
    async with AsyncExitStack() as stack:
        dsn = await _database(settings, home, stack)
        home.prepare()
        triad = await stack.enter_async_context(assembled(_blueprint(settings, home, dsn)))
        engine = make_engine(dsn)
        stack.push_async_callback(engine.dispose)
        keys = ApiKeys(engine)
        await _first_key(keys, triad, announce)
        worker = asyncio.create_task(triad.worker.run(), name="worker")
        await stack.enter_async_context(working(worker))
        archive, people = Archive(engine), People(engine)
        expiry = Expiry(triad.ledger, triad.law, archive, people, keys, settings.retention.days)
        await expiry.sweep()
        await stack.enter_async_context(working(asyncio.create_task(expiry.run(), name="expiry")))
        witnesses = Witnesses(triad.ledger, Turn(dsn), settings.peers, settings.witnesses_needed)
        await stack.enter_async_context(working(asyncio.create_task(witnesses.run(), name="witnesses")))
        gc.collect()
        gc.freeze()  # what is there now stays; the collector need not look at it again
        source = LedgerSource(triad.ledger, settings.peers, settings.witnesses_needed)
        yield Service(
            settings=settings,
            triad=triad,
            keys=keys,
            idempotency=Idempotency(engine),
            streams=Streams(settings.server.streams, settings.server.streams_each),
            auditor=Auditor(triad.ledger, triad.signer.trusted, source, dsn),
            source=source,
            people=people,
            privacy=Privacy(triad.ledger, triad.law, people, archive),
            expiry=expiry,
            witnesses=witnesses,
            analyst=Analyst(triad.ledger, settings.analytics, settings.origin),
            worker=worker,
            started=now(),
        )


async def _database(settings: Settings, home: Home, stack: AsyncExitStack) -> str:
    """The DSN of `triad_app`, on a database that has every migration."""
    if settings.database.url is not None:
        dsn = resolve_secret(settings.database.url)
        missing = await migrate.pending(dsn)
        if missing:
            raise MigrationsPending(f"The database lacks {len(missing)} migrations. Run: triad migrate")
        return dsn
    server = await asyncio.to_thread(Embedded.start, home.path)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    await migrate.upgrade(server.dsn(DatabaseRole.OWNER))
    return server.dsn(DatabaseRole.APP)


def _blueprint(settings: Settings, home: Home, dsn: str) -> Blueprint:
    return Blueprint(
        home=home,
        dsn=dsn,
        inventory=inventory_of(home, settings.url),
        origin=settings.origin,
        log_key=settings.ledger.key,
        next_log_key=settings.ledger.next_key,
        models={
            Branch.LEGISLATIVE: _choice(settings.planner),
            Branch.EXECUTIVE: _choice(settings.executor),
            Branch.JUDICIAL: _choice(settings.evaluator),
            Branch.CROWN: _choice(settings.crown),
        },
        mode=settings.mode,
        version=VERSION,
    )


def _choice(model: Model) -> ModelChoice:
    return ModelChoice(**model.model_dump())


async def _first_key(keys: ApiKeys, triad: Triad, announce: Announce) -> None:
    """Make the first admin's key where there never was a key."""
    if await keys.count():
        return
    plaintext = await keys.create(FIRST_ADMIN)
    event = KeyCreated(
        subject=FIRST_ADMIN.id, roles=tuple(sorted(FIRST_ADMIN.roles)), fingerprint=fingerprint(plaintext)
    )
    try:
        await triad.ledger.note(event, actor_of(FIRST_ADMIN))
    except LedgerUnavailable:
        await keys.revoke(event.fingerprint)
        raise
    announce(plaintext)
