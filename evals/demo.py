"""The demonstration: five real operations on the home's own systems, two of them under attack, and the proof.

Nothing in here is staged beyond the attackers' scripts: the database, the backup, the configuration file, the gate and
the ledger are the ones that `triad up` serves.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import storage.verifier
from evals.adversaries.evaluator import bribed_evaluator
from evals.adversaries.executor import OverheardIssuer, OwnedExecutor
from operations.canonical import JsonObject, decode, sha256
from operations.errors import Refusal
from operations.events import CheckEvaluated, VerdictGiven, WarrantDenied
from operations.model import OperationType, Principal, PrincipalKind, Request, Role
from operations.operation import Operation
from operations.stages import Stage
from operations.systems import ConfigFile
from storage.export import export
from storage.source import LedgerSource
from triad.assembly import Triad, with_minds

Say = Callable[[str], None]

VERIFIER: Final = Path(storage.verifier.__file__).parent
_NOT_THE_ROOT: Final = 3
"""What the verifier exits with when the entries are not those that were signed."""

ADA = Principal(
    id="ada", kind=PrincipalKind.PERSON, roles=frozenset({Role.REQUESTER, Role.OPERATOR, Role.APPROVER}), person="ada"
)
DANA = Principal(id="dana", kind=PrincipalKind.PERSON, roles=frozenset({Role.APPROVER}), person="dana")


class DemoFailed(Exception):
    """Something did not turn out as the demonstration promises."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One act of the demonstration, as it went."""

    title: str
    operation: str | None
    seconds: float


@dataclass(slots=True)
class Demo:
    """Plays the acts over one Triad, telling what happens as it happens."""

    triad: Triad
    say: Say
    scratch: Path

    async def play(self) -> list[Scene]:
        """All acts in order.

        Raises:
            DemoFailed: an act ended otherwise than promised.
        """
        acts = (
            ("A routine database optimization (tier 1: nobody is asked)", self.routine),
            ("A configuration change that turns out to be bad (tier 2)", self.bad_change),
            ("A backup, restored into a scratch database to prove it", self.backup),
            ("An executor that is owned by an attacker", self.owned_executor),
            ("An evaluator that was bribed to say pass", self.bribed_evaluator),
            ("The record, exported and verified by a process of its own; then one bit is flipped", self.proof),
        )
        scenes = []
        for number, (title, act) in enumerate(acts, start=1):
            self.say(f"[{number}/{len(acts)}] {title}")
            begun = time.monotonic()
            op = await act()
            scenes.append(Scene(title, op.id if op else None, time.monotonic() - begun))
        return scenes

    async def routine(self) -> Operation:
        """Vacuum and analyze the home's database."""
        op = await self._submit(
            "Routine database optimization: vacuum and analyze", OperationType.MAINTENANCE, "triad-db"
        )
        op = await self._advance(op)
        self._plan(op)
        return self._ended(op, Stage.COMPLETED)

    async def bad_change(self) -> Operation:
        """A port that no server can listen on: refused to its requester, approved by another, applied, rolled back."""
        config = self._config()
        before = config.read_bytes()
        op = await self._submit(
            "Change the port of the service in its configuration",
            OperationType.CONFIGURATION,
            "triad-config",
            parameters={"changes": [{"path": ["server", "port"], "value": 99999}]},
            rollback_plan="Put the old file back.",
        )
        op = await self._advance(op)
        self._plan(op)
        self._expect(op.stage is Stage.PLANNED, "it should wait for a person")
        await self._refuse_own_approval(op)
        op = await self._approve(op)
        op = await self._advance(op)
        for check in [c for c in op.checks if not c.passed]:
            self.say(f"      check failed: {check.name}: {check.observed.splitlines()[-1][:110]}")
        op = self._ended(op, Stage.ROLLED_BACK)
        after = config.read_bytes()
        self._expect(after == before, "the file should be back byte for byte")
        self.say(f"      the file is back byte for byte: sha256 {sha256(after)[:16]}...")
        return op

    async def backup(self) -> Operation:
        """Dump the home's database and restore it next to the original."""
        op = await self._submit(
            "Create a backup of the database and run a restore test", OperationType.MAINTENANCE, "triad-backups"
        )
        op = await self._advance(op)
        self._plan(op)
        return self._ended(op, Stage.COMPLETED)

    async def owned_executor(self) -> Operation:
        """The attacker holds the runner and a true signing key, and still only the approved step happens."""
        triad = self.triad
        issuer = OverheardIssuer(triad.issuer.key, triad.issuer.lifetime)
        overheard = with_minds(triad, triad.minds, issuer)
        attacker = OwnedExecutor(overheard.runner, issuer, triad.ledger, triad.inventory)
        owned = with_minds(triad, replace(triad.minds, executor=attacker), issuer)
        op = await self._submit("Clear expired files from the cache", OperationType.MAINTENANCE, "triad-cache")
        op = await self._advance(op, owned)
        for move in attacker.refused:
            self._expect(move.code is not None, f"{move.move} should have been refused")
            self.say(f"      refused ({move.code}): {move.move}")
        entries = await triad.ledger.entries(operation=op.id, kinds={"warrant.denied"})
        recorded = [entry.event.code for entry in entries if isinstance(entry.event, WarrantDenied)]
        self._expect(recorded == [move.code for move in attacker.refused], "every refusal should be on the record")
        self.say(f"      {len(recorded)} refusals on the record; one step ran, the approved one, once")
        return self._ended(op, Stage.COMPLETED)

    async def bribed_evaluator(self) -> Operation:
        """The evaluator says pass over a failed check and is not believed."""
        config = self._config()
        before = config.read_bytes()
        bribed = with_minds(self.triad, replace(self.triad.minds, evaluator=bribed_evaluator()))
        op = await self._submit(
            "Change the log level in the configuration",
            OperationType.CONFIGURATION,
            "triad-config",
            parameters={"changes": [{"path": ["logging", "level"], "value": "shouting"}]},
            rollback_plan="Put the old file back.",
        )
        op = await self._advance(op, bribed)
        op = await self._approve(op)
        op = await self._advance(op, bribed)
        entries = await self.triad.ledger.entries(operation=op.id, kinds={"verdict.given", "check.evaluated"})
        verdict = next(e.event for e in entries if isinstance(e.event, VerdictGiven))
        failed = [e.event.name for e in entries if isinstance(e.event, CheckEvaluated) and not e.event.passed]
        self.say(f"      the evaluator said passed={verdict.judged_passed}; failed checks: {', '.join(failed)}")
        self._expect(verdict.judged_passed and not verdict.passed, "the bribed verdict should not stand")
        op = self._ended(op, Stage.ROLLED_BACK)
        self._expect(config.read_bytes() == before, "the file should be back byte for byte")
        return op

    async def proof(self) -> None:
        """Export the record, let the verifier judge it alone in a process of its own, then flip one bit of it."""
        record, alone = self.scratch / "record", self.scratch / "verifier"
        for stale in (record, alone):
            shutil.rmtree(stale, ignore_errors=True)
        exported = await export(LedgerSource(self.triad.ledger), record)
        shutil.copytree(VERIFIER, alone, ignore=shutil.ignore_patterns("__pycache__"))
        self.say(f"      exported: {exported.size} entries and {exported.proofs} proofs of decisions, to {record}")
        code, said = await self._verified(alone, record)
        self._expect(code == 0, f"the record should verify: {said}")
        self.say(f"      the verifier, copied out and run alone: {said}")
        bundle = max((record / "tile" / "entries").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
        whole = bundle.read_bytes()
        data = bytearray(whole)
        data[len(data) // 2] ^= 1
        bundle.write_bytes(data)
        code, said = await self._verified(alone, record)
        bundle.write_bytes(whole)
        self._expect(code == _NOT_THE_ROOT, f"a flipped bit should be found: {said}")
        self.say(f"      one bit flipped in the export, until it was read: exit code {code}: {said}")

    async def _verified(self, verifier: Path, record: Path) -> tuple[int, str]:
        """The exit code of a process that has the verifier, the record and the log's key, and its first finding."""
        trusted = self.triad.signer.key.text()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(verifier),
            str(record),
            "--key",
            trusted,
            "--json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        report = decode(out)
        found = [problem["sentence"] for problem in report["problems"]]
        return process.returncode or 0, found[0] if found else f"intact, root {report['root'][:16]}..."

    async def _submit(
        self,
        description: str,
        kind: OperationType,
        system: str,
        *,
        parameters: JsonObject | None = None,
        rollback_plan: str | None = None,
    ) -> Operation:
        request = Request(
            type=kind,
            description=description,
            systems=(system,),
            parameters=parameters or {},
            rollback_plan=rollback_plan,
        )
        op = await self.triad.petitions.submit(ADA, request)
        self.say(f"      {ADA.id} asks: {description} ({op.id})")
        return op

    async def _advance(self, op: Operation, triad: Triad | None = None) -> Operation:
        advanced = await (triad or self.triad).worker.advance(op.id)
        self._expect(advanced is not None, "another worker holds the operation; stop `triad up` first")
        return await self.triad.ledger.load(op.id)

    async def _refuse_own_approval(self, op: Operation) -> None:
        try:
            await self.triad.petitions.approve(ADA, op.id, op.bound_plan().digest, "I know it is fine.", channel="demo")
        except Refusal as error:
            self.say(f"      ada tries to approve her own request: refused ({error.code}): {error.reasons[0]}")
        else:
            raise DemoFailed("A requester approved her own request.")

    async def _approve(self, op: Operation) -> Operation:
        digest = op.bound_plan().digest
        self.say(f"      dana approves exactly plan {digest[:16]}...")
        return await self.triad.petitions.approve(DANA, op.id, digest, "Looks right to me.", channel="demo")

    def _plan(self, op: Operation) -> None:
        if op.plan is None:
            raise DemoFailed(f"No plan: {' '.join(op.reasons)}")
        for step in op.plan.steps:
            self.say(f"      plan step {step.number}: {step.playbook} on {step.system}, tier {step.tier}")

    def _ended(self, op: Operation, stage: Stage) -> Operation:
        for attempt in op.attempts:
            self.say(f"      {attempt.direction.value} step {attempt.step}: {attempt.status}: {attempt.summary[:110]}")
        passed = sum(check.passed for check in op.checks)
        self.say(f"      {op.stage.value}; {passed} of {len(op.checks)} checks passed")
        self._expect(op.stage is stage, f"it should have ended {stage.value}")
        return op

    def _config(self) -> Path:
        system = self.triad.inventory.get("triad-config")
        if not isinstance(system, ConfigFile):
            raise DemoFailed("The inventory has no configuration file called triad-config.")
        return Path(system.path)

    @staticmethod
    def _expect(condition: bool, promise: str) -> None:  # noqa: FBT001 - reads as a sentence at the call
        if not condition:
            raise DemoFailed(f"Not as promised: {promise}.")
