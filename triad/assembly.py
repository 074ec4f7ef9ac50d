"""Puts one Triad together: ledger, constitution, branches, gate and flow, in one process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from agents.minds import Minds
from agents.models import ModelChoice
from operations.constitution import Constitution, Statute
from operations.errors import ConstitutionChanged
from operations.events import ConstitutionAmended, Genesis
from operations.model import Branch, RunMode
from operations.playbook import Catalogue
from operations.playbooks.registry import default_catalogue
from operations.systems import Inventory
from storage.ledger import Ledger
from storage.signer import Signer
from triad.approval import Approvals
from triad.evaluation import Evaluation
from triad.execution import Execution
from triad.flow import Flow
from triad.home import Home, warrant_key
from triad.law import Law
from triad.log_keys import LogKeys
from triad.lookups import Observatory
from triad.petitions import Petitions
from triad.planning import Planning
from triad.regency import Regency
from triad.reign import Reign, Rollback
from triad.runner import Runner
from triad.schedule import Schedule
from triad.warrant import Issuer
from triad.worker import Worker


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What one Triad is made of."""

    home: Home
    dsn: str
    inventory: Inventory
    origin: str = "triad.local/ledger"
    log_key: str | None = None
    next_log_key: str | None = None
    models: Mapping[Branch, ModelChoice] = field(default_factory=dict)
    mode: RunMode = RunMode.AUTONOMOUS
    catalogue: Catalogue = field(default_factory=default_catalogue)
    minds: Minds | None = None
    version: str = "0.1.0"


@dataclass(frozen=True, slots=True)
class Triad:
    """A working Triad: what the doors open onto."""

    blueprint: Blueprint
    ledger: Ledger
    signer: Signer
    statute: Statute
    law: Law
    catalogue: Catalogue
    inventory: Inventory
    issuer: Issuer
    runner: Runner
    minds: Minds
    planning: Planning
    flow: Flow
    petitions: Petitions
    regency: Regency
    log_keys: LogKeys
    worker: Worker


@asynccontextmanager
async def assembled(blueprint: Blueprint) -> AsyncIterator[Triad]:
    """One Triad, open for the time of the context.

    Raises:
        ConstitutionInvalid, ConstitutionChanged: the document on disk is not the one in force; nothing opens.
        LedgerUnavailable: the database or the log's key cannot be used.
    """
    home = blueprint.home
    signer = Signer.load_or_create(
        home.secrets / "ledger.key", blueprint.origin, current=blueprint.log_key, following=blueprint.next_log_key
    )
    key = warrant_key(home)
    async with AsyncExitStack() as stack:
        stack.callback(signer.close)
        ledger = await Ledger.open(blueprint.dsn, signer, origin=blueprint.origin)
        stack.push_async_callback(ledger.close)
        statute = await _statute(blueprint, ledger, signer, Issuer(key, timedelta(minutes=1)))
        minds = blueprint.minds
        if minds is None:
            minds = Minds.of(blueprint.models)
            stack.push_async_callback(minds.close)
        lifetime = timedelta(seconds=statute.in_force().numbers.warrants.expiry_seconds)
        yield _assemble(blueprint, ledger, signer, statute, Issuer(key, lifetime, ledger.clock), minds)


async def _statute(blueprint: Blueprint, ledger: Ledger, signer: Signer, issuer: Issuer) -> Statute:
    """The constitution in force. An empty ledger begins with the one on disk; later only the ledger's word counts."""
    path = blueprint.home.constitution
    statute = Statute.load(path, expected_digest=None)
    document = statute.in_force()
    genesis = Genesis(
        policies=tuple(policy.id for policy in document.policies),
        keys=(signer.vkey, *(f"warrant: {name}" for name in issuer.verifying)),
        code_version=blueprint.version,
    )
    await ledger.begin(genesis, document.text.encode())
    head = await ledger.head()
    if head.constitution != document.digest:
        await _finish_amendment(ledger, head.constitution, document, statute)
    return Statute.load(path, expected_digest=head.constitution)


async def _finish_amendment(ledger: Ledger, in_force: str, on_disk: Constitution, statute: Statute) -> None:
    """Write out an amendment that was recorded just before a crash; any other difference stays closed."""
    for entry in reversed(await ledger.entries(kinds={"constitution.amended"}, limit=10_000)):
        event = entry.event
        if isinstance(event, ConstitutionAmended) and event.enacted == in_force and event.previous == on_disk.digest:
            statute.enact((await ledger.evidence(in_force)).decode())
            return
    raise ConstitutionChanged("The constitution on disk is not the one the ledger says is in force.")


def _assemble(
    blueprint: Blueprint, ledger: Ledger, signer: Signer, statute: Statute, issuer: Issuer, minds: Minds
) -> Triad:
    catalogue, inventory = blueprint.catalogue, blueprint.inventory
    observatory = Observatory(ledger, catalogue, inventory)
    law = Law(ledger, statute, inventory, blueprint.mode)
    runner = Runner(ledger, issuer, catalogue, inventory, law)
    planning = Planning(minds.planner, law, catalogue, inventory, observatory)
    flow = Flow(
        ledger=ledger,
        planning=planning,
        approvals=Approvals(law, minds.crown),
        schedule=Schedule(law),
        execution=Execution(minds.executor, runner, ledger),
        evaluation=Evaluation(minds.evaluator, law, runner, catalogue, inventory),
        reign=Reign(minds.crown, law),
        rollback=Rollback(law, runner, ledger, catalogue, inventory),
    )
    return Triad(
        blueprint=blueprint,
        ledger=ledger,
        signer=signer,
        statute=statute,
        law=law,
        catalogue=catalogue,
        inventory=inventory,
        issuer=issuer,
        runner=runner,
        minds=minds,
        planning=planning,
        flow=flow,
        petitions=Petitions(ledger, law, catalogue, inventory, planning),
        regency=Regency(ledger, statute, law),
        log_keys=LogKeys(ledger, law),
        worker=Worker(flow, ledger, law),
    )


def with_minds(triad: Triad, minds: Minds, issuer: Issuer | None = None) -> Triad:
    """The same Triad with other agents in its branches: same ledger, gate, constitution and systems."""
    blueprint = replace(triad.blueprint, minds=minds)
    return _assemble(blueprint, triad.ledger, triad.signer, triad.statute, issuer or triad.issuer, minds)
