"""The crown's last word on a finished run, and the undoing that it may order."""

from agents.crown import Crown
from operations.errors import Refusal, WarrantRefused
from operations.events import AgentDegraded, CheckEvaluated, RollbackDone, RollbackOrdered, RulingGiven
from operations.model import Branch, Direction, Ruling
from operations.operation import CheckRecord, Operation
from operations.playbook import Catalogue
from operations.policy import Action
from operations.stages import Stage
from operations.systems import Inventory
from storage.ledger import Act, Ledger
from triad.briefing import crown_facts
from triad.evaluation import reversible
from triad.execution import halt_if_ordered
from triad.gate import next_step
from triad.inspection import undone
from triad.law import Law
from triad.runner import Runner
from triad.targets import observing
from triad.trace import span
from triad.turn import Turn, by_code, by_mind

_TRIES = 3


class Reign:
    """Rules over evaluated operations. It has nothing that acts."""

    def __init__(self, crown: Crown, law: Law) -> None:
        self._crown = crown
        self._law = law

    async def rule(self, op: Operation) -> Turn:
        """Complete, roll back, fail or escalate; what the verdict rules out is not open to the crown."""
        if op.ruling is Ruling.ROLLBACK:
            return Turn(op, (self._order(op, op.reasons),))
        with span("crown.ruling", operation=op.id):
            thought = await self._crown.rule(crown_facts("ruling", op, self._law.in_force()))
        ruling, reasons = clamp(op, thought.output.ruling, thought.output.reasons)
        decision = await self._law.decide_for(Branch.CROWN, Action.RULE, op, ruling=ruling)
        if not decision.allowed:
            ruling, reasons = clamp(op, Ruling.FAIL, decision.texts)
        acts: list[Act] = []
        if thought.degraded:
            fell_back = AgentDegraded(role=Branch.CROWN, **thought.degraded.model_dump())
            acts.append(by_code(fell_back, Branch.CROWN, op))
        given = RulingGiven(ruling=ruling, plan=op.bound_plan().digest, reasons=reasons, articles=decision.articles)
        acts.append(by_mind(given, Branch.CROWN, op, model=thought.model, prompt=thought.prompt, tokens=thought.tokens))
        if ruling is Ruling.ROLLBACK:
            acts.append(self._order(op, reasons))
        return Turn(op, tuple(acts))

    @staticmethod
    def _order(op: Operation, reasons: tuple[str, ...]) -> Act:
        return by_code(RollbackOrdered(steps=reversible(op), reasons=reasons), Branch.JUDICIAL, op)


def clamp(op: Operation, wanted: Ruling, reasons: tuple[str, ...]) -> tuple[Ruling, tuple[str, ...]]:
    """The ruling that stands: never complete over a failed verdict, never leave out a rollback the verdict ordered."""
    verdict = op.verdict
    passed = verdict is not None and verdict.passed
    if wanted is Ruling.ESCALATE or (wanted is Ruling.COMPLETE and passed):
        return wanted, reasons
    if wanted is Ruling.ROLLBACK and reversible(op):
        return wanted, reasons
    if verdict is not None and verdict.rollback:
        return Ruling.ROLLBACK, (*reasons, "The verdict orders the rollback; another ruling is not open.")
    if op.applied() and not passed and any(op.bound_plan().step(n).tier > 1 for n in op.applied()):
        return Ruling.ESCALATE, (*reasons, "Something was changed that cannot be undone; a person has to decide.")
    if wanted is Ruling.FAIL:
        return wanted, reasons
    return Ruling.FAIL, (*reasons, f"The ruling {wanted.value} is not open here.")


class Rollback:
    """Undoes what was ordered to be undone, newest first. It needs no new authority: undo is part of the plan."""

    def __init__(self, law: Law, runner: Runner, ledger: Ledger, catalogue: Catalogue, inventory: Inventory) -> None:
        self._law = law
        self._runner = runner
        self._ledger = ledger
        self._catalogue = catalogue
        self._inventory = inventory

    async def undo(self, op: Operation) -> Turn:
        """Undo step by step, check each against its snapshot, and say whether everything is back.

        Raises:
            ConstitutionChanged, ConstitutionInvalid: the document on disk is not the one in force; the rollback waits.
        """
        self._law.in_force()
        halted = await halt_if_ordered(op, self._ledger)
        if halted:
            return halted
        recovered = await self._runner.recover(op)
        op = recovered.op if recovered else op
        stopped = await self._undo_steps(op)
        if isinstance(stopped, Turn):
            return stopped
        op = stopped
        checks = [check for number in op.rollback or () for check in await self._check(op, number)]
        acts = [by_code(CheckEvaluated(**check.model_dump()), Branch.JUDICIAL, op) for check in checks]
        restored = bool(op.rollback) and all(check.passed for check in checks)
        kept = [n for n in op.applied() if n not in (op.rollback or ())]
        why = (
            "Every step that can be undone equals its snapshot." if restored else "A system differs from its snapshot."
        )
        plan = op.bound_plan()
        notes = tuple(f"Step {n} stays: {plan.step(n).preview.undo or 'it has no undo.'}" for n in kept)
        return Turn(op, (*acts, self._done(op, restored=restored, why=why, notes=notes)))

    async def _refused(self, op: Operation, error: WarrantRefused) -> Turn:
        """What passes by itself, or is another worker's, leaves the rollback as it stands; anything else ends it."""
        match error.code:
            case "halted":
                return await halt_if_ordered(op, self._ledger) or Turn(op, ())
            case "constitution-changed" | "epoch-stale":
                return Turn(op, ())
            case _:
                return Turn(op, (self._done(op, restored=False, why=" ".join(error.reasons)),))

    async def _undo_steps(self, op: Operation) -> Operation | Turn:
        """The operation once no step is left to undo, or the turn that ends or parks the rollback before that."""
        while op.stage is Stage.ROLLING_BACK and (number := next_step(op, Direction.UNDO)) is not None:
            tries = sum(1 for a in op.attempts if a.step == number and a.direction is Direction.UNDO)
            if tries >= _TRIES:
                return Turn(op, (self._done(op, restored=False, why=f"Step {number} could not be undone."),))
            try:
                op = (await self._runner.step(op, number, Direction.UNDO)).op
            except WarrantRefused as error:
                return await self._refused(op, error)
        return op if op.stage is Stage.ROLLING_BACK else Turn(op, ())

    async def _check(self, op: Operation, number: int) -> tuple[CheckRecord, ...]:
        step = op.bound_plan().step(number)
        try:
            snapshot = await self._runner.first_snapshot(op, number)
            playbook = self._catalogue.get(step.playbook)
            target = observing(self._inventory.get(step.system), self._inventory)
            found = await undone(playbook, playbook.parse(step.arguments), target, snapshot) if snapshot else ()
        except Refusal:
            found = ()
        if not found:
            unproven = CheckRecord(
                step=number,
                direction=Direction.UNDO,
                name="undo-proven",
                passed=False,
                expected="The system equals its snapshot.",
                observed="It could not be compared.",
            )
            return (unproven,)
        return tuple(CheckRecord(step=number, direction=Direction.UNDO, **check.model_dump()) for check in found)

    @staticmethod
    def _done(op: Operation, *, restored: bool, why: str, notes: tuple[str, ...] = ()) -> Act:
        return by_code(RollbackDone(restored=restored, reasons=(why, *notes)), Branch.EXECUTIVE, op)
