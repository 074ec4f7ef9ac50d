"""The executive branch: the executor decides run, retry, skip or stop; the runner and the gate do the rest."""

from typing import Literal

from agents.executor import Executor
from agents.facts import StepResult
from operations.errors import WarrantRefused
from operations.events import AgentDegraded, ExecutionFinished, OperationHalted, StepSkipped
from operations.model import Branch, Direction
from operations.operation import Operation
from operations.stages import Stage
from storage.ledger import Act, Ledger
from triad.briefing import executor_facts
from triad.gate import next_step
from triad.recovery import Performed
from triad.runner import Runner
from triad.trace import span
from triad.turn import Turn, by_code, by_mind

_HALT = "The crown has halted all execution."


async def halt_if_ordered(op: Operation, ledger: Ledger) -> Turn | None:
    """The turn that parks the operation while the crown's halt is on, as far as this process knows."""
    if not (ledger.may_be_halted() and (await ledger.head()).halted):
        return None
    return Turn(op, (by_code(OperationHalted(reasons=(_HALT,)), Branch.CROWN, op),))


class _Run:
    """One run of the executor over one operation; holds the operation as it moves."""

    def __init__(self, op: Operation, runner: Runner, ledger: Ledger) -> None:
        self.op = op
        self._runner = runner
        self._ledger = ledger

    async def act(self, number: int) -> StepResult:
        """Perform one step of the plan, if the gate allows it."""
        stop = self._stopped(number)
        if stop:
            return stop
        if await self._ledger.entries(operation=self.op.id, kinds={"cancel.requested"}, limit=1):
            return StepResult(step=number, status="refused", summary="Somebody asked to stop.")
        try:
            performed = await self._runner.step(self.op, number, Direction.DO)
        except WarrantRefused as error:
            halted = error.code == "halted"
            return StepResult(step=number, status="halted" if halted else "refused", summary=" ".join(error.reasons))
        return self._note(number, performed)

    async def skip(self, number: int, reason: str) -> StepResult:
        """Leave out a step that the plan marks as optional and whose turn it is."""
        stop = self._stopped(number)
        if stop:
            return stop
        steps = self.op.bound_plan().steps
        optional = 1 <= number <= len(steps) and steps[number - 1].optional
        if not optional or next_step(self.op, Direction.DO) != number:
            return StepResult(
                step=number, status="refused", summary="Only an optional step can be skipped in its turn."
            )
        if number in self.op.applied():
            return StepResult(step=number, status="refused", summary="An attempt at it changed something already.")
        skipped = StepSkipped(step=number, reasons=(reason[:500],))
        self.op = await self._ledger.record(self.op, by_code(skipped, Branch.EXECUTIVE, self.op))
        return StepResult(step=number, status="skipped", summary="Skipped.")

    def _stopped(self, number: int) -> StepResult | None:
        if self.op.stage is not Stage.RUNNING:
            return StepResult(step=number, status="refused", summary=f"The operation is {self.op.stage.value}.")
        return None

    def _note(self, number: int, performed: Performed) -> StepResult:
        self.op = performed.op
        return StepResult(
            step=number,
            status="failed" if performed.status == "begun" else performed.status,
            summary=performed.summary,
            retryable=performed.retryable,
        )


class Execution:
    """Runs approved plans."""

    def __init__(self, executor: Executor, runner: Runner, ledger: Ledger) -> None:
        self._executor = executor
        self._runner = runner
        self._ledger = ledger

    async def execute(self, op: Operation) -> Turn:
        """Carry the plan out as far as it goes; the last act says how far that was."""
        halted = await halt_if_ordered(op, self._ledger)
        if halted:
            return halted
        recovered = await self._runner.recover(op)
        if recovered:
            op = recovered.op
        if op.stage is not Stage.RUNNING:
            return Turn(op, ())
        run = _Run(op, self._runner, self._ledger)
        with span("executor", operation=op.id):
            thought = await self._executor.execute(executor_facts(op), run.act, run.skip)
        if run.op.stage is not Stage.RUNNING:
            return Turn(run.op, ())
        halted = await halt_if_ordered(run.op, self._ledger)
        if halted:
            return halted
        acts: list[Act] = []
        if thought.degraded:
            fell_back = AgentDegraded(role=Branch.EXECUTIVE, **thought.degraded.model_dump())
            acts.append(by_code(fell_back, Branch.EXECUTIVE, run.op))
        finished = ExecutionFinished(
            outcome=_outcome(run.op), report=thought.output.summary, reasons=thought.output.reasons
        )
        acts.append(
            by_mind(
                finished,
                Branch.EXECUTIVE,
                run.op,
                model=thought.model,
                prompt=thought.prompt,
                tokens=thought.tokens,
            )
        )
        return Turn(run.op, tuple(acts))


def _outcome(op: Operation) -> Literal["finished", "stopped", "failed"]:
    """How far the plan came, counted from the record; what the executor says of it is only its report."""
    if all(op.settled(step.number) for step in op.bound_plan().steps):
        return "finished"
    return "failed" if any(a.status == "failed" for a in op.attempts) else "stopped"
