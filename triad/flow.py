"""The story of one operation: request, plan, approval, execution, evaluation, ruling, seal."""

from dataclasses import dataclass
from typing import assert_never

from operations.events import OperationResumed
from operations.model import Branch, Direction
from operations.operation import Operation
from operations.stages import Stage
from storage.ledger import Ledger
from triad.approval import Approvals
from triad.evaluation import Evaluation
from triad.execution import Execution
from triad.planning import Planning
from triad.reign import Reign, Rollback
from triad.schedule import Schedule
from triad.trace import resumed
from triad.turn import Turn, by_code


@dataclass(frozen=True, slots=True)
class Flow:
    """Advances operations. A crash between two turns loses nothing: `resume` carries on from the saved stage."""

    ledger: Ledger
    planning: Planning
    approvals: Approvals
    schedule: Schedule
    execution: Execution
    evaluation: Evaluation
    reign: Reign
    rollback: Rollback

    async def next_turn(self, op: Operation) -> Turn | None:  # noqa: C901, PLR0911 - one line a stage
        """What happens to `op` now, or None while there is nothing to do."""
        match op.stage:
            case Stage.REQUESTED:
                return await self.planning.plan(op)
            case Stage.PLANNED:
                return await self.approvals.decide(op)
            case Stage.APPROVED:
                return await self.schedule.start(op)
            case Stage.RUNNING:
                return await self.execution.execute(op)
            case Stage.EXECUTED:
                return await self.evaluation.evaluate(op)
            case Stage.EVALUATED:
                return await self.reign.rule(op)
            case Stage.ROLLING_BACK:
                return await self.rollback.undo(op)
            case Stage.HALTED:
                return await self._released(op)
            case Stage.ESCALATED | Stage.IN_DOUBT:
                return None
            case Stage.COMPLETED | Stage.ROLLED_BACK | Stage.FAILED:
                return None
            case Stage.REFUSED | Stage.DENIED | Stage.VETOED | Stage.CANCELLED | Stage.EXPIRED:
                return None
            case _:
                assert_never(op.stage)

    async def resume(self, op: Operation) -> Operation:
        """Advance until the operation ends or has to wait; returns once everything is under a signed checkpoint.

        Raises:
            WarrantRefused: `epoch-stale`: another worker has taken the operation over.
        """
        with resumed(op):
            while (turn := await self.next_turn(op)) is not None:
                before, op = op, turn.op
                if turn.acts:
                    op = await self.ledger.record(op, *turn.acts, epoch=op.epoch, settle=False)
                if op.version == before.version:
                    break
            await self.ledger.settled(op)
        return op

    async def _released(self, op: Operation) -> Turn | None:
        if (await self.ledger.head()).halted:
            return None
        to = Direction.UNDO if op.rollback is not None else Direction.DO
        event = OperationResumed(to=to, reasons=("The crown has released the halt.",))
        return Turn(op, (by_code(event, Branch.CROWN, op),))
