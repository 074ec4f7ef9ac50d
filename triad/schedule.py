"""When an approved operation may start, and who works on it."""

from datetime import datetime

from operations.events import OperationStarted
from operations.model import Branch
from operations.operation import Operation
from operations.policy import Action
from triad.approval import overtaken, standing
from triad.law import Law
from triad.turn import Turn, by_code


class Schedule:
    """Starts approved operations at their time."""

    def __init__(self, law: Law) -> None:
        self._law = law

    async def start(self, op: Operation) -> Turn | None:
        """Started, expired or sent back; None before its time and while the constitution forbids it."""
        act = overtaken(op, self._law)
        if act is not None:
            return Turn(op, (act,))
        if op.proposal is None or not self.due(op, self._law.now()):
            return None
        if len(standing(op, self._law.now())) < op.proposal.quorum + op.extra_quorum:
            return None
        decision = await self._law.decide_for(Branch.EXECUTIVE, Action.START, op)
        if not decision.allowed:
            return None
        started = OperationStarted(plan=op.proposal.plan, epoch=op.epoch)
        return Turn(op, (by_code(started, Branch.EXECUTIVE, op),))

    @staticmethod
    def due(op: Operation, at: datetime) -> bool:
        """Whether the requested time has come."""
        return op.request.scheduled_time is None or op.request.scheduled_time <= at
