"""What becomes of an act whose outcome nobody recorded: by its effect class it fails, is probed, or is in doubt.

Only the worker that holds the operation asks here, and it holds it only after whoever had it before has certainly
stopped (`storage.leases.MARGIN`): a probe's answer is then final.
"""

from dataclasses import dataclass
from typing import Literal

from operations.canonical import decode
from operations.errors import Refusal
from operations.events import StepFailed, StepInDoubt, StepReconciled
from operations.evidence import Effect, Probe, Snapshot
from operations.model import Branch, Direction
from operations.operation import Attempt, Operation
from operations.playbook import Catalogue
from operations.stages import Stage
from operations.systems import Inventory
from storage.ledger import Ledger
from triad.inspection import probed
from triad.targets import acting
from triad.turn import by_code


@dataclass(frozen=True, slots=True)
class Performed:
    """How an attempt ended. `status` is what the executor may be told."""

    op: Operation
    status: Literal["begun", "done", "failed", "in_doubt"]
    summary: str
    retryable: bool = False


class Recovery:
    """Settles what was begun and not ended. It reads; it never acts."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue, inventory: Inventory) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._inventory = inventory

    async def recover(self, op: Operation) -> Performed | None:
        """Settle an intent without an outcome, left by a worker that died; None when there is none.

        `read` and `idempotent` steps are marked failed and may run again; `once_probe` asks the probe; `once_blind`
        is in doubt and waits for a person.
        """
        direction = Direction.UNDO if op.stage is Stage.ROLLING_BACK else Direction.DO
        left = next((a for a in op.attempts if a.status == "intended" and a.direction is direction), None)
        if left is None:
            return None
        text = "The worker stopped between the intent and the outcome."
        if direction is Direction.UNDO or left.effect in {Effect.READ, Effect.IDEMPOTENT}:
            failed = StepFailed(
                warrant=left.warrant,
                step=left.step,
                attempt=left.attempt,
                direction=direction,
                code="interrupted",
                changed=left.effect is not Effect.READ,
                reasons=(text,),
            )
            op = await self._ledger.record(op, by_code(failed, Branch.EXECUTIVE, op), settle=False)
            return Performed(op, "failed", text, retryable=True)
        return await self.settle_once(op, left, text)

    async def settle_once(self, op: Operation, left: Attempt, text: str) -> Performed:
        """Settle an attempt at what may happen only once; what no probe can tell is in doubt."""
        found = await self._probe(op, left)
        if found is Probe.UNKNOWN:
            doubt = StepInDoubt(
                step=left.step, attempt=left.attempt, direction=Direction.DO, warrant=left.warrant, reasons=(text,)
            )
            op = await self._ledger.record(op, by_code(doubt, Branch.EXECUTIVE, op))
            return Performed(op, "in_doubt", text)
        happened = found is Probe.HAPPENED
        said = "The probe found that it happened." if happened else "The probe found that it did not happen."
        settled = StepReconciled(
            step=left.step,
            attempt=left.attempt,
            direction=Direction.DO,
            happened=happened,
            by="triad",
            reasons=(text, said),
        )
        op = await self._ledger.record(op, by_code(settled, Branch.EXECUTIVE, op))
        return Performed(op, "done" if happened else "failed", said, retryable=not happened)

    async def _probe(self, op: Operation, left: Attempt) -> Probe:
        step = op.bound_plan().step(left.step)
        try:
            playbook = self._catalogue.get(step.playbook)
            snapshot = await self.snapshot_of(left)
            if left.effect is not Effect.ONCE_PROBE or snapshot is None:
                return Probe.UNKNOWN
            target = acting(self._inventory.get(step.system), self._inventory)
            arguments = playbook.parse(step.arguments)
        except Refusal:
            return Probe.UNKNOWN
        return await probed(playbook, arguments, target, snapshot, step_key(op.id, left))

    async def snapshot_of(self, attempt: Attempt) -> Snapshot | None:
        """The snapshot that an attempt's intent named, if it had one."""
        if attempt.snapshot is None:
            return None
        return Snapshot.model_validate(decode(await self._ledger.evidence(attempt.snapshot)))


def step_key(ident: str, attempt: Attempt) -> str:
    """The idempotency key of an attempt."""
    return key_of(ident, attempt.step, attempt.attempt, attempt.direction)


def key_of(ident: str, number: int, attempt: int, direction: Direction) -> str:
    """The idempotency key of an attempt: `operation/step/attempt`, or `operation/step/undo-attempt`."""
    return f"{ident}/{number}/{attempt}" if direction is Direction.DO else f"{ident}/{number}/undo-{attempt}"
