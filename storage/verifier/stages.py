"""Every stage and every move, written down a second time: what the server's own table is held against.

Whoever changes one of the two has to change the other; a test says so.
"""

from collections.abc import Mapping
from typing import Any, Final

_RUN: Final = {
    "warrant.issued": "running",
    "step.intent": "running",
    "step.done": "running",
    "step.failed": "running",
    "step.skipped": "running",
    "step.reconciled:do": "running",
    "step.in_doubt": "in_doubt",
    "operation.halted": "halted",
    "execution.finished": "executed",
}

TRANSITIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "requested": {
        "plan.proposed": "planned",
        "plan.refused": "refused",
        "operation.cancelled": "cancelled",
        "operation.expired": "expired",
    },
    "planned": {
        "approval.given": "planned",
        "approval.withdrawn": "planned",
        "approval.refused": "denied",
        "ruling.given:assent": "planned",
        "ruling.given:escalate": "planned",
        "ruling.given:veto": "vetoed",
        "operation.approved": "approved",
        "operation.cancelled": "cancelled",
        "operation.expired": "expired",
        "plan.superseded": "requested",
    },
    "approved": {
        "operation.started": "running",
        "approval.withdrawn": "planned",
        "ruling.given:veto": "vetoed",
        "plan.superseded": "requested",
        "operation.cancelled": "cancelled",
        "operation.expired": "expired",
    },
    "running": _RUN,
    "executed": {"check.evaluated": "executed", "verdict.given": "evaluated"},
    "evaluated": {
        "ruling.given:complete": "completed",
        "ruling.given:rollback": "evaluated",
        "ruling.given:escalate": "escalated",
        "ruling.given:fail": "failed",
        "rollback.ordered": "rolling_back",
    },
    "escalated": {
        "escalation.resolved:complete": "completed",
        "escalation.resolved:rollback": "evaluated",
        "escalation.resolved:fail": "failed",
    },
    "rolling_back": {
        "warrant.issued": "rolling_back",
        "step.intent": "rolling_back",
        "step.done": "rolling_back",
        "step.failed": "rolling_back",
        "step.reconciled:undo": "rolling_back",
        "check.evaluated": "rolling_back",
        "step.in_doubt": "in_doubt",
        "operation.halted": "halted",
        "rollback.done:restored": "rolled_back",
        "rollback.done:incomplete": "failed",
    },
    "in_doubt": {"step.reconciled:do": "running", "step.reconciled:undo": "rolling_back"},
    "halted": {"operation.resumed:do": "running", "operation.resumed:undo": "rolling_back"},
    "completed": {},
    "rolled_back": {},
    "refused": {},
    "denied": {},
    "vetoed": {},
    "cancelled": {},
    "expired": {},
    "failed": {},
}
"""Which signal leads from which stage to which; a stage without rows is an end."""

MOVES: Final = frozenset(signal.partition(":")[0] for row in TRANSITIONS.values() for signal in row) | {
    "operation.requested"
}
"""The kinds that move an operation; all others are recorded beside one, or beside none."""

TERMINAL: Final = frozenset(stage for stage, row in TRANSITIONS.items() if not row)
"""The stages on which nothing can follow."""

_OUTCOMES: Final = {
    "ruling.given": "ruling",
    "escalation.resolved": "ruling",
    "step.reconciled": "direction",
    "operation.resumed": "to",
}


def signal_of(kind: str, event: Mapping[str, Any]) -> str:
    """What the table looks up: the kind, with `:outcome` where the outcome decides the next stage."""
    field = _OUTCOMES.get(kind)
    if field is not None:
        return f"{kind}:{event[field]}"
    if kind == "rollback.done":
        return "rollback.done:restored" if event["restored"] else "rollback.done:incomplete"
    return kind
