"""When an approved operation may start, and who works on it."""

from datetime import datetime

from operations.constitution import Statute
from storage.ledger import Ledger

from operations.canonical import now
from operations.events import OperationStarted
from operations.model import Branch
from operations.stages import Operation
from triad.approval import overtaken, standing
from triad.turn import Turn, by_code


class Schedule:
    """Starts approved operations at their time."""

    def __init__(self, ledger: Ledger, statute: Statute) -> None:
        self._ledger = ledger
        self._statute = statute

    async def start(self, op: Operation) -> Turn | None:
        """Started, expired or sent back; None before its time and while the crown has halted execution."""
        act = overtaken(op, self._statute)
        if act is not None:
            return Turn(op, (act,))
        if op.proposal is None or not self.due(op, now()):
            return None
        if (await self._ledger.head()).halted:
            return None
        if len(standing(op)) < op.proposal.quorum + op.extra_quorum:
            return None
        started = OperationStarted(plan=op.proposal.plan, epoch=op.epoch)
        return Turn(op, (by_code(started, Branch.EXECUTIVE, op),))

    @staticmethod
    def due(op: Operation, at: datetime) -> bool:
        """Whether the requested time has come."""
        return op.request.scheduled_time is None or op.request.scheduled_time <= at
