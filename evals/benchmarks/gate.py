"""What the gate costs: issuing a warrant, and checking it against what is about to run, in process and without I/O."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evals.benchmarks.operation import Write
from evals.benchmarks.row import Row
from operations import events as e
from operations.canonical import JsonObject, digest_of, new_id, now
from operations.evidence import Preview
from operations.model import Direction, OperationType, Plan, Principal, PrincipalKind, Request, RunMode, Step
from operations.operation import Operation, apply, begin
from operations.playbook import Catalogue
from operations.systems import CacheFolder, Inventory
from triad.gate import Attempted, Grounds, check
from triad.warrant import Issuer

_LAW: Final = "0" * 64
_ADA: Final = Principal(id="ada", kind=PrincipalKind.PERSON, person="ada")


def measure(*, quick: bool = False) -> Iterator[Row]:
    """Medians over many calls."""
    rounds = 200 if quick else 2000
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue([Write()])
        inventory = Inventory(systems=(CacheFolder(name="bench", path=str(Path(folder))),))
        op = _running(catalogue, inventory)
        step = op.bound_plan().step(1)
        issuer = Issuer(Ed25519PrivateKey.generate(), timedelta(minutes=10))
        warrant = issuer.issue(op, step, Direction.DO, 1)
        playbook = catalogue.get(step.playbook)
        attempted = Attempted(op, 1, Direction.DO, step.arguments, inventory.get("bench"), playbook)
        grounds = Grounds(issuer.verifying, catalogue, inventory, _LAW, halted=False, at=now())
        yield Row("warrant, issued", _median(lambda: issuer.issue(op, step, Direction.DO, 1), rounds), "us p50")
        yield Row("gate, one decision", _median(lambda: check(warrant, attempted, grounds), rounds), "us p50")


def _median(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def _running(catalogue: Catalogue, inventory: Inventory) -> Operation:
    """A running operation of three steps."""
    playbook, system = catalogue.get("bench.write"), inventory.get("bench")
    request = Request(type=OperationType.MAINTENANCE, description="Write three files.", systems=("bench",))
    op = begin(new_id("op"), e.OperationRequested(request=request, requester=_ADA), now(), _LAW, None)
    steps = []
    for number in range(1, 4):
        arguments: JsonObject = {"name": f"file{number}"}
        steps.append(
            Step(
                number=number,
                playbook=playbook.name,
                system=system.name,
                arguments=arguments,
                why="It was asked for.",
                expected_effect="A file.",
                tier=1,
                effect=playbook.effect,
                reversible=False,
                playbook_digest=playbook.digest,
                arguments_digest=digest_of(arguments),
                system_digest=system.digest,
                preview=Preview(commands=(f"write file{number}",), blast_radius="One file."),
            )
        )
    plan = Plan(operation=op.id, version=1, summary="Three files.", steps=tuple(steps), tier=1, constitution=_LAW)
    proposed = e.PlanProposed(
        plan=plan.digest,
        version=1,
        tier=1,
        mode=RunMode.AUTONOMOUS,
        quorum=0,
        assent=False,
        reasons=(),
        articles=(),
        expires=now() + timedelta(hours=1),
        summary=plan.summary,
        body=plan,
    )
    approved = e.OperationApproved(plan=plan.digest, approvals=(), reasons=(), articles=())
    for event in (proposed, approved, e.OperationStarted(plan=plan.digest, epoch=0)):
        op = apply(op, event, now())
    return op
