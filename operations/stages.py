"""Every stage and every move: `TRANSITIONS` is the whole truth about what may follow what.

The diagram in the documentation is drawn from it.
"""

from enum import StrEnum
from typing import Final

from operations import events as e
from operations.errors import IllegalMove


class Stage(StrEnum):
    """Where an operation stands."""

    REQUESTED = "requested"
    PLANNED = "planned"
    APPROVED = "approved"
    RUNNING = "running"
    EXECUTED = "executed"
    EVALUATED = "evaluated"
    ESCALATED = "escalated"
    ROLLING_BACK = "rolling_back"
    IN_DOUBT = "in_doubt"
    HALTED = "halted"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    DENIED = "denied"
    VETOED = "vetoed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        """Whether nothing can follow."""
        return not TRANSITIONS[self]


S = Stage
TRANSITIONS: Final[dict[Stage, dict[str, Stage]]] = {
    S.REQUESTED: {
        "plan.proposed": S.PLANNED,
        "plan.refused": S.REFUSED,
        "operation.cancelled": S.CANCELLED,
        "operation.expired": S.EXPIRED,
    },
    S.PLANNED: {
        "approval.given": S.PLANNED,
        "approval.withdrawn": S.PLANNED,
        "ruling.given:assent": S.PLANNED,
        "ruling.given:escalate": S.PLANNED,
        "operation.approved": S.APPROVED,
        "approval.refused": S.DENIED,
        "ruling.given:veto": S.VETOED,
        "plan.superseded": S.REQUESTED,
        "operation.cancelled": S.CANCELLED,
        "operation.expired": S.EXPIRED,
    },
    S.APPROVED: {
        "operation.started": S.RUNNING,
        "approval.withdrawn": S.PLANNED,
        "ruling.given:veto": S.VETOED,
        "plan.superseded": S.REQUESTED,
        "operation.cancelled": S.CANCELLED,
        "operation.expired": S.EXPIRED,
    },
    S.RUNNING: {
        "warrant.issued": S.RUNNING,
        "step.intent": S.RUNNING,
        "step.done": S.RUNNING,
        "step.failed": S.RUNNING,
        "step.skipped": S.RUNNING,
        "step.reconciled:do": S.RUNNING,
        "step.in_doubt": S.IN_DOUBT,
        "operation.halted": S.HALTED,
        "execution.finished": S.EXECUTED,
    },
    S.EXECUTED: {
        "check.evaluated": S.EXECUTED,
        "verdict.given": S.EVALUATED,
    },
    S.EVALUATED: {
        "ruling.given:complete": S.COMPLETED,
        "ruling.given:rollback": S.EVALUATED,
        "rollback.ordered": S.ROLLING_BACK,
        "ruling.given:escalate": S.ESCALATED,
        "ruling.given:fail": S.FAILED,
    },
    S.ESCALATED: {
        "escalation.resolved:complete": S.COMPLETED,
        "escalation.resolved:rollback": S.EVALUATED,
        "escalation.resolved:fail": S.FAILED,
    },
    S.ROLLING_BACK: {
        "warrant.issued": S.ROLLING_BACK,
        "step.intent": S.ROLLING_BACK,
        "step.done": S.ROLLING_BACK,
        "step.failed": S.ROLLING_BACK,
        "step.reconciled:undo": S.ROLLING_BACK,
        "check.evaluated": S.ROLLING_BACK,
        "step.in_doubt": S.IN_DOUBT,
        "operation.halted": S.HALTED,
        "rollback.done:restored": S.ROLLED_BACK,
        "rollback.done:incomplete": S.FAILED,
    },
    S.IN_DOUBT: {
        "step.reconciled:do": S.RUNNING,
        "step.reconciled:undo": S.ROLLING_BACK,
    },
    S.HALTED: {
        "operation.resumed:do": S.RUNNING,
        "operation.resumed:undo": S.ROLLING_BACK,
    },
    S.COMPLETED: {},
    S.ROLLED_BACK: {},
    S.REFUSED: {},
    S.DENIED: {},
    S.VETOED: {},
    S.CANCELLED: {},
    S.EXPIRED: {},
    S.FAILED: {},
}


def move(stage: Stage, event: e.Event) -> Stage:
    """The stage after `event`.

    Raises:
        IllegalMove: the table has no such row; nothing has changed.
    """
    if not event.moves:
        return stage
    try:
        return TRANSITIONS[stage][event.signal]
    except KeyError:
        raise IllegalMove(stage.value, event.signal) from None
