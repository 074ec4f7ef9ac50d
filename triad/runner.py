"""The only place that touches the world: the gate, the intent, the act, the outcome.

Protocol of a step: transaction 1 {warrant consumed, `step.intent`}, then the effect carrying the idempotency key
`operation/step/attempt`, then transaction 2 {`step.done` or `step.failed`}. A refusal records `warrant.denied`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from operations.canonical import canonical_record, sha256
from operations.errors import (
    ConstitutionChanged,
    ConstitutionInvalid,
    NotFound,
    PlaybookFailed,
    Refusal,
    StageConflict,
    WarrantRefused,
)
from operations.events import (
    StepDone,
    StepFailed,
    StepIntent,
    WarrantDenied,
    WarrantIssued,
)
from operations.evidence import Effect, Outcome, Preview, Snapshot
from operations.model import Actor, Branch, Direction
from operations.operation import Attempt, Operation
from operations.playbook import Call, Catalogue, Playbook, Target
from operations.policy import Action
from operations.systems import Inventory, System
from storage.ledger import Ledger
from triad.defects import seen
from triad.gate import Attempted, Grounds, check, check_preview
from triad.inspection import shown, snapshotted
from triad.law import Law
from triad.recovery import Performed, Recovery, key_of
from triad.targets import acting, observing
from triad.trace import span
from triad.turn import by_code
from triad.warrant import Issuer, Warrant


@dataclass(frozen=True, slots=True)
class Prepared:
    """A playbook with its parsed arguments and its targets, credentials included: nothing is left to be found."""

    playbook: Playbook[Any]
    arguments: Any
    call: Call
    acting: Target
    observing: Target


class Runner:
    """Performs warranted steps on real systems, and nothing else."""

    def __init__(self, ledger: Ledger, issuer: Issuer, catalogue: Catalogue, inventory: Inventory, law: Law) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._catalogue = catalogue
        self._inventory = inventory
        self._law = law
        self._recovery = Recovery(ledger, catalogue, inventory)

    async def step(self, op: Operation, number: int, direction: Direction) -> Performed:
        """Issue the warrant for the next attempt at a step of the approved plan, and perform it.

        Raises:
            WarrantRefused: the gate said no; `warrant.denied` is recorded and nothing was done.
        """
        step = op.bound_plan().step(number)
        made = sum(1 for a in op.attempts if a.step == number and a.direction is direction)
        warrant = self._issuer.issue(op, step, direction, made + 1)
        try:
            system = self._inventory.get(step.system)
        except NotFound as error:
            gone = WarrantRefused("target-unknown", "The inventory has no such system.")
            await self._deny(op, warrant, number, direction, gone)
            raise gone from error
        return await self.perform(op, warrant, number, direction, system=system, arguments=step.arguments)

    async def perform(
        self,
        op: Operation,
        warrant: Warrant,
        number: int,
        direction: Direction,
        *,
        system: System,
        arguments: dict[str, Any],
    ) -> Performed:
        """The tool boundary: act if and only if the warrant allows exactly this, once.

        Raises:
            WarrantRefused: with the code of the check that failed; recorded.
        """
        with span("gate", operation=op.id, step=number, direction=direction.value):
            try:
                playbook = self._playbook(op, number)
                attempted = Attempted(op, number, direction, arguments, system, playbook)
                check(warrant, attempted, await self._grounds())
                await self._permitted(op, number, direction, playbook)
                first = self._first(op, number)
                prepared = Prepared(
                    playbook=playbook,
                    arguments=playbook.parse(arguments),
                    call=Call(key=key_of(op.id, number, warrant.attempt, direction)),
                    acting=acting(system, self._inventory),
                    observing=observing(system, self._inventory),
                )
                if first is None and direction is Direction.DO:
                    check_preview(op.bound_plan().step(number), await self._preview(prepared))
            except Refusal as error:
                await self._deny(op, warrant, number, direction, error)
                if isinstance(error, WarrantRefused):
                    raise
                raise WarrantRefused(error.code, *error.reasons) from error
        return await self._act(op, warrant, prepared, direction, first)

    async def _act(
        self, op: Operation, warrant: Warrant, prepared: Prepared, direction: Direction, first: Attempt | None
    ) -> Performed:
        snapshot = await self.snapshot_of(first) if first else None
        try:
            if snapshot is None:
                snapshot = await snapshotted(prepared.playbook, prepared.arguments, prepared.acting)
        except PlaybookFailed as error:
            failed = self._failed(warrant, error.code, str(error), changed=False)
            return await self._begin(op, warrant, prepared, direction, None, failed)
        begun = await self._begin(op, warrant, prepared, direction, snapshot)
        if begun.status != "begun":
            return begun
        return await self._effect(begun.op, warrant, prepared, direction, snapshot)

    async def _effect(
        self, op: Operation, warrant: Warrant, prepared: Prepared, direction: Direction, snapshot: Snapshot
    ) -> Performed:
        playbook = prepared.playbook
        target = prepared.observing if playbook.effect is Effect.READ else prepared.acting
        try:
            with span("tool", playbook=playbook.name, system=target.system.name, direction=direction.value):
                async with asyncio.timeout(playbook.timeout.total_seconds()):
                    if direction is Direction.DO:
                        outcome = await playbook.run(prepared.arguments, target, prepared.call)
                    else:
                        outcome = await playbook.undo(prepared.arguments, target, snapshot, prepared.call)
        except PlaybookFailed as error:
            return await self._record_failure(
                op, self._failed(warrant, error.code, str(error), changed=error.changed), retryable=True
            )
        except TimeoutError:
            return await self._unknown(op, warrant, playbook, "timeout", "The step ran out of time.")
        except Exception as error:  # noqa: BLE001 - a defect in a playbook must not lose the record of what it began
            seen(error, playbook.name, direction.value)
            text = f"{type(error).__name__} in {playbook.name}; it is not known how far it came."
            return await self._unknown(op, warrant, playbook, "unexpected", text)
        return await self._record_success(op, warrant, outcome)

    async def _begin(
        self,
        op: Operation,
        warrant: Warrant,
        prepared: Prepared,
        direction: Direction,
        snapshot: Snapshot | None,
        failed: StepFailed | None = None,
    ) -> Performed:
        issued = WarrantIssued(
            warrant=warrant.id,
            step=warrant.step,
            attempt=warrant.attempt,
            direction=direction,
            plan=warrant.plan,
            arguments=warrant.arguments,
            system=warrant.system,
            expires=warrant.expires,
        )
        content = canonical_record(snapshot) if snapshot else None
        intent = StepIntent(
            warrant=warrant.id,
            step=warrant.step,
            attempt=warrant.attempt,
            direction=direction,
            playbook=warrant.playbook,
            system=warrant.system,
            arguments=warrant.arguments,
            effect=prepared.playbook.effect,
            idempotency_key=prepared.call.key,
            snapshot=sha256(content) if content else None,
        )
        acts = [
            by_code(issued, Branch.EXECUTIVE, op),
            by_code(intent, Branch.EXECUTIVE, op, *([content] if content else [])),
        ]
        if failed:
            acts.append(by_code(failed, Branch.EXECUTIVE, op))
        if warrant.expires <= self._law.now():
            late = WarrantRefused("expired", "The warrant expired while the snapshot was taken.")
            await self._deny(op, warrant, warrant.step, direction, late)
            raise late
        with span("ledger.intent", operation=op.id, step=warrant.step):
            try:
                op = await self._ledger.record(op, *acts, consume=warrant.id)
            except (WarrantRefused, StageConflict) as error:
                await self._deny(op, warrant, warrant.step, direction, error)
                raise
        if failed:
            return Performed(op, "failed", failed.reasons[0], retryable=False)
        return Performed(op, "begun", "")

    async def _record_success(self, op: Operation, warrant: Warrant, outcome: Outcome) -> Performed:
        content = canonical_record(outcome)
        done = StepDone(
            warrant=warrant.id,
            step=warrant.step,
            attempt=warrant.attempt,
            direction=warrant.direction,
            changed=outcome.changed,
            summary=outcome.summary[:2000],
            evidence=(sha256(content),),
        )
        op = await self._ledger.record(op, by_code(done, Branch.EXECUTIVE, op, content), settle=False)
        return Performed(op, "done", outcome.summary)

    async def _record_failure(self, op: Operation, failed: StepFailed, *, retryable: bool) -> Performed:
        op = await self._ledger.record(op, by_code(failed, Branch.EXECUTIVE, op), settle=False)
        return Performed(op, "failed", failed.reasons[0], retryable=retryable)

    async def _unknown(
        self, op: Operation, warrant: Warrant, playbook: Playbook[Any], code: str, text: str
    ) -> Performed:
        """The act ended without saying how. What follows depends on its effect class, as after a crash."""
        left = next(a for a in op.attempts if a.warrant == warrant.id)
        if warrant.direction is Direction.UNDO or playbook.effect in {Effect.READ, Effect.IDEMPOTENT}:
            changed = playbook.effect is not Effect.READ
            return await self._record_failure(op, self._failed(warrant, code, text, changed=changed), retryable=True)
        return await self._recovery.settle_once(op, left, text)

    async def recover(self, op: Operation) -> Performed | None:
        """See `Recovery.recover`."""
        return await self._recovery.recover(op)

    async def snapshot_of(self, attempt: Attempt) -> Snapshot | None:
        """See `Recovery.snapshot_of`."""
        return await self._recovery.snapshot_of(attempt)

    async def first_snapshot(self, op: Operation, number: int) -> Snapshot | None:
        """What the system was like before the first attempt at the step changed anything."""
        first = self._first(op, number)
        return await self.snapshot_of(first) if first else None

    @staticmethod
    def _first(op: Operation, number: int) -> Attempt | None:
        """The attempt that began the step under the approved preview: the first that changed or may have changed it.

        A failure that changed nothing has begun nothing: whoever tries again looks at the world anew.
        """
        begun = (
            a
            for a in op.attempts
            if a.step == number
            and a.direction is Direction.DO
            and a.snapshot
            and (a.changed or a.status in {"intended", "in_doubt", "done"})
        )
        return next(begun, None)

    @staticmethod
    async def _preview(prepared: Prepared) -> Preview:
        try:
            return await shown(prepared.playbook, prepared.arguments, prepared.observing)
        except PlaybookFailed as error:
            raise WarrantRefused("preview-impossible", "What would run can no longer be shown.") from error

    def _playbook(self, op: Operation, number: int) -> Playbook[Any]:
        plan = op.bound_plan()
        if not 1 <= number <= len(plan.steps):
            raise WarrantRefused("other-step", "The plan has no such step.")
        return self._catalogue.get(plan.step(number).playbook)

    async def _permitted(self, op: Operation, number: int, direction: Direction, playbook: Playbook[Any]) -> None:
        """The constitution's own word on this step, once the warrant is known to be good."""
        marked = (number, direction, playbook.emergency)
        decision = await self._law.decide_for(Branch.EXECUTIVE, Action.EXECUTE, op, step=marked, warranted=True)
        if not decision.allowed:
            raise WarrantRefused(f"policy-{decision.code}", *decision.texts, articles=decision.articles)

    async def _grounds(self) -> Grounds:
        try:
            constitution = self._law.in_force().digest
        except (ConstitutionChanged, ConstitutionInvalid) as error:
            raise WarrantRefused("constitution-changed", "The constitution on disk is not the one in force.") from error
        return Grounds(
            keys=self._issuer.verifying,
            catalogue=self._catalogue,
            inventory=self._inventory,
            constitution=constitution,
            halted=await self._law.halted(),
            at=self._law.now(),
        )

    async def _deny(self, op: Operation, warrant: Warrant, number: int, direction: Direction, error: Refusal) -> None:
        denied = WarrantDenied(
            code=error.code,
            reasons=error.reasons,
            warrant=warrant.id,
            step=number,
            attempt=warrant.attempt,
            direction=direction,
            system=warrant.system,
        )
        await self._ledger.note(
            denied, Actor(principal="triad", branch=Branch.EXECUTIVE, trace=op.trace), operation=op.id
        )

    @staticmethod
    def _failed(warrant: Warrant, code: str, text: str, *, changed: bool) -> StepFailed:
        return StepFailed(
            warrant=warrant.id,
            step=warrant.step,
            attempt=warrant.attempt,
            direction=warrant.direction,
            code=code,
            changed=changed,
            reasons=(text[:2000],),
        )
