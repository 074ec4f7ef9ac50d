"""The tool boundary: every check that stands between a warrant and the world.

`check` is pure: it compares a warrant with what is about to run and with the state of the operation. The checks that
need the database's own word (not halted, constitution unchanged, epoch current, warrant unused) are repeated inside the
transaction that records the intent; see `storage.ledger.Ledger.record`. Undo steps belong to the approved plan, so a
rollback needs no new authority: neither an expired approval nor an amended constitution stands in its way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from operations.canonical import Digest, JsonObject, digest_of
from operations.errors import NotFound, WarrantRefused
from operations.evidence import Preview
from operations.model import Direction, Plan, Step
from operations.operation import Operation
from operations.playbook import Catalogue, Playbook
from operations.stages import Stage
from operations.systems import Inventory, System
from triad.warrant import Warrant, check_signature, rests_on


@dataclass(frozen=True, slots=True)
class Attempted:
    """What is about to run, as the runner holds it in its hands."""

    operation: Operation
    number: int
    direction: Direction
    arguments: JsonObject
    system: System
    playbook: Playbook[Any]


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the gate trusts: keys, catalogue, inventory, the constitution in force, and the clock."""

    keys: Mapping[str, Ed25519PublicKey]
    catalogue: Catalogue
    inventory: Inventory
    constitution: Digest
    halted: bool
    at: datetime


def check(warrant: Warrant, attempted: Attempted, grounds: Grounds) -> None:
    """Refuse unless everything the warrant binds is what is about to happen.

    Raises:
        WarrantRefused: with the code of the first check that fails.
    """
    check_signature(warrant, grounds.keys)
    _check_time(warrant, grounds)
    _check_operation(warrant, attempted, grounds)
    plan = attempted.operation.bound_plan()
    _check_plan(warrant, attempted, plan, grounds)
    step = plan.step(attempted.number)
    _check_playbook(warrant, attempted, step, grounds)
    _check_target(warrant, attempted, step, grounds)
    _check_approvals(warrant, attempted.operation, plan, attempted.direction, grounds)


def check_preview(step: Step, seen: Preview) -> None:
    """Refuse when what would run now is not what was shown; called after `check`, so nothing else is even looked at.

    Not for a step that an earlier attempt has begun under the approved preview, and not for undo, which works from the
    snapshot.

    Raises:
        WarrantRefused: `preview-changed`.
    """
    if seen.digest != step.preview.digest:
        raise WarrantRefused("preview-changed", "What would run now is not what was shown and approved.")


def next_step(op: Operation, direction: Direction) -> int | None:
    """The number of the step whose turn it is, or None when none is left."""
    if direction is Direction.DO:
        return next((s.number for s in op.bound_plan().steps if not op.settled(s.number)), None)
    return next((number for number in op.rollback or () if not op.undone(number)), None)


def _check_time(warrant: Warrant, grounds: Grounds) -> None:
    if grounds.at >= warrant.expires:
        raise WarrantRefused("expired", "The warrant has expired.")
    if grounds.at < warrant.issued:
        raise WarrantRefused("not-yet-valid", "The warrant was issued in the future.")


def _check_operation(warrant: Warrant, attempted: Attempted, grounds: Grounds) -> None:
    op = attempted.operation
    if grounds.halted:
        raise WarrantRefused("halted", "The crown has halted all execution.")
    if warrant.operation != op.id:
        raise WarrantRefused("other-operation", "The warrant belongs to another operation.")
    if any(a.warrant == warrant.id and a.status != "issued" for a in op.attempts):
        raise WarrantRefused("warrant-used", "The warrant has been used.")
    if warrant.direction is not attempted.direction:
        raise WarrantRefused("wrong-direction", "The warrant is for the other direction.")
    expected = Stage.RUNNING if attempted.direction is Direction.DO else Stage.ROLLING_BACK
    if op.stage is not expected:
        raise WarrantRefused("not-running", f"The operation is {op.stage.value}, not {expected.value}.")
    if warrant.epoch != op.epoch:
        raise WarrantRefused("epoch-stale", "Another worker has taken the operation over.")
    if warrant.constitution != op.constitution:
        raise WarrantRefused("constitution-changed", "The warrant was issued under another constitution.")
    if attempted.direction is Direction.DO and grounds.constitution != op.constitution:
        raise WarrantRefused("constitution-changed", "The plan was approved under another constitution.")


def _check_plan(warrant: Warrant, attempted: Attempted, plan: Plan, grounds: Grounds) -> None:
    op = attempted.operation
    if op.proposal is None or plan.digest != op.proposal.plan or warrant.plan != op.proposal.plan:
        raise WarrantRefused("plan-changed", "The plan is not the one that was approved.")
    if attempted.direction is Direction.DO and plan.constitution != grounds.constitution:
        raise WarrantRefused("constitution-changed", "The plan was made under another constitution.")
    if warrant.step != attempted.number or not 1 <= attempted.number <= len(plan.steps):
        raise WarrantRefused("other-step", "The warrant is for another step.")
    if any(a.status in {"intended", "in_doubt"} for a in op.attempts):
        raise WarrantRefused("step-under-way", "An earlier attempt has begun and its outcome is not known yet.")
    if next_step(op, attempted.direction) != attempted.number:
        raise WarrantRefused("step-not-next", "It is not this step's turn.")
    made = [a.attempt for a in op.attempts if a.step == attempted.number and a.direction is attempted.direction]
    if warrant.attempt != len(made) + 1:
        raise WarrantRefused("wrong-attempt", "The warrant is for another attempt.")


def _check_playbook(warrant: Warrant, attempted: Attempted, step: Step, grounds: Grounds) -> None:
    registered = grounds.catalogue.get(step.playbook) if step.playbook in grounds.catalogue else None
    if registered is None or registered is not attempted.playbook or warrant.playbook != step.playbook:
        raise WarrantRefused("playbook-unknown", "The playbook is not the registered one.")
    if not registered.digest == step.playbook_digest == warrant.playbook_digest:
        raise WarrantRefused("playbook-changed", "The playbook has changed since the plan was made.")
    if not digest_of(attempted.arguments) == step.arguments_digest == warrant.arguments:
        raise WarrantRefused("arguments-changed", "The arguments are not the approved ones.")
    if warrant.preview != step.preview.digest:
        raise WarrantRefused("preview-changed", "The warrant was issued over another preview.")


def _check_target(warrant: Warrant, attempted: Attempted, step: Step, grounds: Grounds) -> None:
    try:
        known = grounds.inventory.get(step.system)
    except NotFound as error:
        raise WarrantRefused("target-unknown", "The inventory has no such system.") from error
    if not attempted.system.name == step.system == warrant.system:
        raise WarrantRefused("other-target", "The target is not the approved one.")
    if not known.digest == attempted.system.digest == step.system_digest == warrant.system_digest:
        raise WarrantRefused("target-changed", "The target's description has changed since the plan was made.")


def _check_approvals(warrant: Warrant, op: Operation, plan: Plan, direction: Direction, grounds: Grounds) -> None:
    proposal = op.proposal
    named = [a for a in op.approvals if a.id in warrant.approvals]
    if proposal is None or len(named) != len(warrant.approvals):
        raise WarrantRefused("approvals-changed", "An approval that the warrant rests on does not stand any more.")
    if any(a.plan != plan.digest for a in named):
        raise WarrantRefused("approval-of-other-plan", "An approval is over another plan.")
    if any(op.requester.person == a.person for a in named):
        raise WarrantRefused("self-approval", "The requester is among the approvers.")
    undoing = direction is Direction.UNDO
    if not undoing and any(a.expires <= grounds.at for a in named):
        raise WarrantRefused("approval-expired", "An approval has expired.")
    if len(op.standing(None if undoing else grounds.at)) < proposal.quorum + op.extra_quorum:
        raise WarrantRefused("approvals-missing", "Too few distinct people have approved.")
    if warrant.approvals != rests_on(op, direction, grounds.at):
        raise WarrantRefused("approvals-changed", "The approvals are not the ones the warrant was issued over.")
    if proposal.assent and not op.assented:
        raise WarrantRefused("assent-missing", "The crown has not assented.")
