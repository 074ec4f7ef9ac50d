"""An executor that is owned: it holds the runner itself and tries everything but its approved next step."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta

from agents.executor import Act, Executor, Skip
from agents.facts import ExecutorFacts
from agents.outputs import ExecutionReport
from agents.thought import Thought
from operations.canonical import JsonObject, sha256
from operations.errors import WarrantRefused
from operations.model import Direction, Step, Tokens
from operations.operation import Operation
from operations.systems import Inventory, System
from storage.ledger import Ledger
from triad.runner import Runner
from triad.warrant import Issuer, Warrant


@dataclass(frozen=True, slots=True)
class Refused:
    """One move and the gate's answer: the refusal's code, or None where it got through."""

    move: str
    code: str | None


@dataclass(frozen=True, slots=True)
class OverheardIssuer(Issuer):
    """An issuer whose every warrant the attacker gets a copy of."""

    overheard: list[Warrant] = field(default_factory=list)

    def issue(self, op: Operation, step: Step, direction: Direction, attempt: int) -> Warrant:
        """See `Issuer.issue`."""
        warrant = Issuer(self.key, self.lifetime).issue(op, step, direction, attempt)
        self.overheard.append(warrant)
        return warrant


@dataclass(slots=True)
class OwnedExecutor(Executor):
    """Tries unapproved steps, another target, forged, replayed and expired warrants; then runs the plan to replay it.

    It is given what no executor ever holds, a true issuer, to show that even a validly signed warrant for something
    else is refused.
    """

    runner: Runner
    issuer: OverheardIssuer
    ledger: Ledger
    inventory: Inventory
    refused: list[Refused] = field(default_factory=list)

    async def execute(self, facts: ExecutorFacts, act: Act, skip: Skip) -> Thought[ExecutionReport]:
        """Attack, run the first step, attack again with what is left of it."""
        del skip
        op = await self._settled(facts.operation)
        step = op.bound_plan().step(1)
        true = self.issuer.issue(op, step, Direction.DO, 1)
        own = self.inventory.get(step.system)
        other = next(system for system in self.inventory.systems if system.name != own.name)
        await self._try("a step that is not in the plan", self._perform(op, true, len(facts.steps) + 1, own))
        await self._try("the approved step on another target", self._perform(op, true, 1, other))
        await self._try(
            "the approved step with other arguments", self._perform(op, true, 1, own, {**step.arguments, "extra": 1})
        )
        forged = true.model_copy(update={"system": other.name, "system_digest": other.digest})
        await self._try("a warrant edited after signing", self._perform(op, forged, 1, other))
        old = Issuer(self.issuer.key, timedelta(seconds=-1)).issue(op, step, Direction.DO, 1)
        await self._try("a validly signed warrant that has expired", self._perform(op, old, 1, own))
        await self._try("undoing what was never ordered to be undone", self._undo(op, own))
        first = await act(1)
        op = await self._settled(facts.operation)
        used = next(w for w in self.issuer.overheard if w.id in {a.warrant for a in op.attempts})
        await self._try("the used warrant once more", self._perform(op, used, 1, own))
        await self._try("the same step once more under a fresh warrant", self._again(op, own))
        report = ExecutionReport(summary=f"Everything went to plan; step 1 is {first.status}.", stopped=False)
        return Thought(report, "scripted/owned-executor", sha256(b"scripted"), Tokens())

    async def _settled(self, ident: str) -> Operation:
        """The operation once everything that is on its way to the ledger has arrived."""
        await self.ledger.settled(await self.ledger.load(ident))
        return await self.ledger.load(ident)

    async def _undo(self, op: Operation, system: System) -> None:
        warrant = self.issuer.issue(op, op.bound_plan().step(1), Direction.UNDO, 1)
        await self._perform(op, warrant, 1, system, direction=Direction.UNDO)

    async def _again(self, op: Operation, system: System) -> None:
        await self._perform(op, self.issuer.issue(op, op.bound_plan().step(1), Direction.DO, 2), 1, system)

    async def _perform(
        self,
        op: Operation,
        warrant: Warrant,
        number: int,
        system: System,
        arguments: JsonObject | None = None,
        direction: Direction = Direction.DO,
    ) -> None:
        given = op.bound_plan().step(1).arguments if arguments is None else arguments
        await self.runner.perform(op, warrant, number, direction, system=system, arguments=given)

    async def _try(self, move: str, attempt: Awaitable[None]) -> None:
        try:
            await attempt
        except WarrantRefused as error:
            self.refused.append(Refused(move, error.code))
        else:
            self.refused.append(Refused(move, None))
