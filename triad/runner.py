"""The only place that touches the world: the gate, the intent, the act, the outcome.

Protocol of a step: transaction 1 {warrant consumed, `step.intent`}, then the effect carrying the idempotency key
`operation/step/attempt`, then transaction 2 {`step.done` or `step.failed`}. A refusal records `warrant.denied`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from operations.canonical import canonical_record, decode, now, sha256
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
    StepInDoubt,
    StepIntent,
    StepReconciled,
    WarrantDenied,
    WarrantIssued,
)
from operations.evidence import Effect, Outcome, Preview, Probe, Snapshot
from operations.model import Actor, Branch, Direction
from operations.operation import Attempt, Operation
from operations.playbook import Call, Catalogue, Playbook
from operations.policy import Action
from operations.stages import Stage
from operations.systems import Inventory, System
from storage.ledger import Ledger
from triad.gate import Attempted, Grounds, check, check_preview
from triad.law import Law
from triad.targets import acting, observing
from triad.trace import span
from triad.turn import by_code
from triad.warrant import Issuer, Warrant


@dataclass(frozen=True, slots=True)
class Performed:
    """How an attempt ended. `status` is what the executor may be told."""

    op: Operation
    status: Literal["begun", "done", "failed", "in_doubt"]
    summary: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A playbook with its parsed arguments, its target and its snapshot."""

    playbook: Playbook[Any]
    arguments: Any
    system: System
    call: Call


class Runner:
    """Performs warranted steps on real systems, and nothing else."""

    def __init__(self, ledger: Ledger, issuer: Issuer, catalogue: Catalogue, inventory: Inventory, law: Law) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._catalogue = catalogue
        self._inventory = inventory
        self._law = law

    async def step(self, op: Operation, number: int, direction: Direction) -> Performed:
        """Issue the warrant for the next attempt at a step of the approved plan, and perform it.

        Raises:
            WarrantRefused: the gate said no; `warrant.denied` is recorded and nothing was done.
        """
        step = op.bound_plan().step(number)
        made = sum(1 for a in op.attempts if a.step == number and a.direction is direction)
        warrant = self._issuer.issue(op, step, direction, made + 1)
        system = self._inventory.get(step.system)
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
                    system=system,
                    call=Call(key=step_key(op.id, number, warrant.attempt, direction)),
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
        try:
            async with asyncio.timeout(prepared.playbook.timeout.total_seconds()):
                snapshot = await self._snapshot(prepared, first)
        except (PlaybookFailed, TimeoutError) as error:
            code = error.code if isinstance(error, PlaybookFailed) else "timeout"
            failed = self._failed(warrant, code, str(error) or "Timed out before the act.", changed=False)
            return await self._begin(op, warrant, prepared, direction, None, failed)
        begun = await self._begin(op, warrant, prepared, direction, snapshot)
        if begun.status != "begun":
            return begun
        return await self._effect(begun.op, warrant, prepared, direction, snapshot)

    async def _effect(
        self, op: Operation, warrant: Warrant, prepared: Prepared, direction: Direction, snapshot: Snapshot
    ) -> Performed:
        playbook = prepared.playbook
        reads = playbook.effect is Effect.READ
        target = (observing if reads else acting)(prepared.system, self._inventory)
        try:
            with span("tool", playbook=playbook.name, system=prepared.system.name, direction=direction.value):
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
            return await self._unknown(op, warrant, prepared, snapshot, "timeout", "The step ran out of time.")
        except Exception as error:  # noqa: BLE001 - a defect in a playbook must not lose the record of what it began
            text = f"{type(error).__name__} in {playbook.name}; it is not known how far it came."
            return await self._unknown(op, warrant, prepared, snapshot, "unexpected", text)
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
        if warrant.expires <= now():
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
        self, op: Operation, warrant: Warrant, prepared: Prepared, snapshot: Snapshot, code: str, text: str
    ) -> Performed:
        """The act ended without saying how. What follows depends on its effect class, as after a crash."""
        if warrant.direction is Direction.UNDO or prepared.playbook.effect in {Effect.READ, Effect.IDEMPOTENT}:
            changed = prepared.playbook.effect is not Effect.READ
            return await self._record_failure(op, self._failed(warrant, code, text, changed=changed), retryable=True)
        return await self._settle_once(op, prepared, warrant.step, snapshot, text)

    async def recover(self, op: Operation) -> Performed | None:
        """Settle an intent without an outcome, left by a worker that died; None when there is none.

        `read` and `idempotent` steps are marked failed and may run again; `once_probe` asks the probe; `once_blind`
        is in doubt and waits for a person.
        """
        direction = Direction.UNDO if op.stage is Stage.ROLLING_BACK else Direction.DO
        left = next((a for a in op.attempts if a.status == "intended" and a.direction is direction), None)
        if left is None:
            return None
        step = op.bound_plan().step(left.step)
        text = "The worker stopped between the intent and the outcome."
        if direction is Direction.UNDO or left.effect in {Effect.READ, Effect.IDEMPOTENT}:
            changed = left.effect is not Effect.READ
            failed = StepFailed(
                warrant=left.warrant,
                step=left.step,
                attempt=left.attempt,
                direction=direction,
                code="interrupted",
                changed=changed,
                reasons=(text,),
            )
            return await self._record_failure(op, failed, retryable=True)
        playbook = self._catalogue.get(step.playbook)
        prepared = Prepared(
            playbook=playbook,
            arguments=playbook.parse(step.arguments),
            system=self._inventory.get(step.system),
            call=Call(key=step_key(op.id, left.step, left.attempt, direction)),
        )
        snapshot = await self.snapshot_of(left)
        return await self._settle_once(op, prepared, left.step, snapshot, text)

    async def _settle_once(
        self, op: Operation, prepared: Prepared, number: int, snapshot: Snapshot | None, text: str
    ) -> Performed:
        left = op.latest(number, Direction.DO)
        if left is None:
            raise NotFound("unknown-attempt", "There is no attempt to settle.")
        found = Probe.UNKNOWN
        if prepared.playbook.effect is Effect.ONCE_PROBE and snapshot is not None:
            target = acting(prepared.system, self._inventory)
            found = await prepared.playbook.probe(prepared.arguments, target, snapshot, prepared.call.key)
        if found is Probe.UNKNOWN:
            doubt = StepInDoubt(
                step=number, attempt=left.attempt, direction=Direction.DO, warrant=left.warrant, reasons=(text,)
            )
            op = await self._ledger.record(op, by_code(doubt, Branch.EXECUTIVE, op))
            return Performed(op, "in_doubt", text)
        happened = found is Probe.HAPPENED
        said = "The probe found that it happened." if happened else "The probe found that it did not happen."
        settled = StepReconciled(
            step=number,
            attempt=left.attempt,
            direction=Direction.DO,
            happened=happened,
            by="triad",
            reasons=(text, said),
        )
        op = await self._ledger.record(op, by_code(settled, Branch.EXECUTIVE, op))
        return Performed(op, "done" if happened else "failed", said, retryable=not happened)

    async def snapshot_of(self, attempt: Attempt) -> Snapshot | None:
        """The snapshot that an attempt's intent named, if it had one."""
        if attempt.snapshot is None:
            return None
        return Snapshot.model_validate(decode(await self._ledger.evidence(attempt.snapshot)))

    async def first_snapshot(self, op: Operation, number: int) -> Snapshot | None:
        """What the system was like before the first attempt at the step changed anything."""
        first = self._first(op, number)
        return await self.snapshot_of(first) if first else None

    @staticmethod
    def _first(op: Operation, number: int) -> Attempt | None:
        begun = (a for a in op.attempts if a.step == number and a.direction is Direction.DO and a.snapshot)
        return next(begun, None)

    async def _snapshot(self, prepared: Prepared, first: Attempt | None) -> Snapshot:
        kept = await self.snapshot_of(first) if first else None
        if kept is not None:
            return kept
        return await prepared.playbook.before(prepared.arguments, acting(prepared.system, self._inventory))

    async def _preview(self, prepared: Prepared) -> Preview:
        try:
            return await prepared.playbook.preview(prepared.arguments, observing(prepared.system, self._inventory))
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
            at=now(),
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


def step_key(ident: str, number: int, attempt: int, direction: Direction) -> str:
    """The idempotency key of an attempt: `operation/step/attempt`, or `operation/step/undo-attempt`."""
    return f"{ident}/{number}/{attempt}" if direction is Direction.DO else f"{ident}/{number}/undo-{attempt}"
