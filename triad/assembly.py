"""Puts one Triad together: ledger, constitution, branches, gate and flow, in one process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from operations.constitution import Constitution, Statute
from operations.playbooks.registry import default_catalogue
from storage.ledger import Ledger

from agents.crown import Crown
from agents.evaluator import Evaluator
from agents.executor import Executor
from agents.models import ModelChoice, build_model
from agents.planner import Planner
from operations.canonical import sha256
from operations.errors import ConstitutionChanged
from operations.events import ConstitutionAmended, Genesis
from operations.model import Branch, RunMode
from operations.playbook import Catalogue
from operations.systems import Inventory
from storage.signer import Signer
from triad.approval import Approvals
from triad.evaluation import Evaluation
from triad.execution import Execution
from triad.flow import Flow
from triad.home import Home, warrant_key
from triad.lookups import Observatory
from triad.petitions import Petitions
from triad.planning import Planning
from triad.regency import Regency
from triad.reign import Reign, Rollback
from triad.runner import Runner
from triad.schedule import Schedule
from triad.warrant import Issuer
from triad.worker import Worker

RULES = ModelChoice(name="rules/offline-1")
"""The offline model: the default of every branch, and what a failing provider falls back to."""


@dataclass(frozen=True, slots=True)
class Minds:
    """The four branches' agents."""

    planner: Planner
    executor: Executor
    evaluator: Evaluator
    crown: Crown

    @classmethod
    def of(cls, models: Mapping[Branch, ModelChoice]) -> "Minds":
        """The branches on their models, each with the offline rules behind it."""
        rules = build_model(RULES)

        def model(branch: Branch) -> object:
            return build_model(models.get(branch, RULES))

        return cls(
            planner=Planner(model(Branch.LEGISLATIVE), fallback=rules),
            executor=Executor(model(Branch.EXECUTIVE), fallback=rules),
            evaluator=Evaluator(model(Branch.JUDICIAL), fallback=rules),
            crown=Crown(model(Branch.CROWN), fallback=rules),
        )


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What one Triad is made of."""

    home: Home
    dsn: str
    inventory: Inventory
    origin: str = "triad.local/ledger"
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
    catalogue: Catalogue
    inventory: Inventory
    issuer: Issuer
    runner: Runner
    minds: Minds
    planning: Planning
    flow: Flow
    petitions: Petitions
    regency: Regency
    worker: Worker


@asynccontextmanager
async def assembled(blueprint: Blueprint) -> AsyncIterator[Triad]:
    """One Triad, open for the time of the context.

    Raises:
        ConstitutionInvalid, ConstitutionChanged: the document on disk is not the one in force; nothing opens.
        LedgerUnavailable: the database or the log's key cannot be used.
    """
    home = blueprint.home
    signer = Signer.load_or_create(home.secrets / "ledger.key", blueprint.origin)
    key = warrant_key(home)
    ledger = await Ledger.open(blueprint.dsn, signer, origin=blueprint.origin)
    try:
        statute = await _statute(blueprint, ledger, signer, Issuer(key, timedelta(minutes=1)))
        lifetime = timedelta(seconds=statute.in_force().numbers.warrant_expiry_seconds)
        yield _assemble(blueprint, ledger, signer, statute, Issuer(key, lifetime))
    finally:
        await ledger.close()


async def _statute(blueprint: Blueprint, ledger: Ledger, signer: Signer, issuer: Issuer) -> Statute:
    """The constitution in force. An empty ledger begins with the one on disk; later only the ledger's word counts."""
    path = blueprint.home.constitution
    statute = Statute.load(path, expected_digest=None)
    document = statute.in_force()
    genesis = Genesis(
        policies=document.policy_ids,
        keys=(signer.vkey, *(f"warrant: {name}" for name in issuer.verifying)),
        code_version=blueprint.version,
    )
    await ledger.begin(genesis, path.read_bytes(), document.digest)
    head = await ledger.head()
    if head.constitution != document.digest:
        await _finish_amendment(ledger, head.constitution, document, statute)
    return Statute.load(path, expected_digest=head.constitution)


async def _finish_amendment(ledger: Ledger, in_force: str, on_disk: Constitution, statute: Statute) -> None:
    """Write out an amendment that was recorded just before a crash; any other difference stays closed."""
    for entry in reversed(await ledger.entries(kinds={"constitution.amended"}, limit=10_000)):
        event = entry.event
        if isinstance(event, ConstitutionAmended) and event.enacted == in_force and event.previous == on_disk.digest:
            content = await ledger.evidence(event.text)
            if sha256(content) == event.text:
                statute.enact(content.decode())
                return
    raise ConstitutionChanged("The constitution on disk is not the one the ledger says is in force.")


def _assemble(blueprint: Blueprint, ledger: Ledger, signer: Signer, statute: Statute, issuer: Issuer) -> Triad:
    catalogue, inventory = blueprint.catalogue, blueprint.inventory
    minds = blueprint.minds or Minds.of(blueprint.models)
    observatory = Observatory(ledger, catalogue, inventory)
    runner = Runner(ledger, issuer, catalogue, inventory, statute)
    planning = Planning(minds.planner, statute, catalogue, inventory, observatory, blueprint.mode)
    flow = Flow(
        ledger=ledger,
        planning=planning,
        approvals=Approvals(statute, minds.crown),
        schedule=Schedule(ledger, statute),
        execution=Execution(minds.executor, runner, ledger),
        evaluation=Evaluation(minds.evaluator, runner, catalogue, inventory),
        reign=Reign(minds.crown, statute),
        rollback=Rollback(runner, ledger, catalogue, inventory),
    )
    return Triad(
        blueprint=blueprint,
        ledger=ledger,
        signer=signer,
        statute=statute,
        catalogue=catalogue,
        inventory=inventory,
        issuer=issuer,
        runner=runner,
        minds=minds,
        planning=planning,
        flow=flow,
        petitions=Petitions(ledger, statute, catalogue, inventory, planning),
        regency=Regency(ledger, statute),
        worker=Worker(flow, ledger),
    )
