"""The judicial branch: checks by code first, then the evaluator's judgment, which can only make the verdict worse."""

from agents.evaluator import Evaluator
from operations.errors import PlaybookFailed, Refusal
from operations.events import AgentDegraded, CheckEvaluated, VerdictGiven
from operations.evidence import Check
from operations.model import Branch, Direction, Step
from operations.operation import CheckRecord, Operation
from operations.playbook import Catalogue
from operations.policy import Action
from operations.systems import Inventory
from storage.ledger import Act
from triad.briefing import evaluator_facts
from triad.inspection import checked
from triad.law import Law
from triad.runner import Runner
from triad.targets import observing
from triad.trace import span
from triad.turn import Turn, by_code, by_mind


class Evaluation:
    """Judges finished runs."""

    def __init__(
        self, evaluator: Evaluator, law: Law, runner: Runner, catalogue: Catalogue, inventory: Inventory
    ) -> None:
        self._evaluator = evaluator
        self._law = law
        self._runner = runner
        self._catalogue = catalogue
        self._inventory = inventory

    async def evaluate(self, op: Operation) -> Turn:
        """Every step's post-conditions with read-only credentials, then the verdict over them."""
        checks = tuple([check for step in op.bound_plan().steps for check in await self._step(op, step)])
        with span("evaluator", operation=op.id):
            thought = await self._evaluator.judge(evaluator_facts(op, checks))
        acts: list[Act] = [by_code(CheckEvaluated(**c.model_dump()), Branch.JUDICIAL, op) for c in checks]
        if thought.degraded:
            fell_back = AgentDegraded(role=Branch.JUDICIAL, **thought.degraded.model_dump())
            acts.append(by_code(fell_back, Branch.JUDICIAL, op))
        checks_passed = bool(checks) and all(check.passed for check in checks)
        passed = checks_passed and thought.output.passed
        reasons = thought.output.reasons
        if passed:
            checked = op.model_copy(update={"checks": checks})
            decision = await self._law.decide_for(Branch.JUDICIAL, Action.EVALUATE, checked, passing=True)
            passed, reasons = decision.allowed, reasons if decision.allowed else decision.texts
        verdict = VerdictGiven(
            passed=passed,
            checks_passed=checks_passed,
            judged_passed=thought.output.passed,
            checks=len(checks),
            rollback=not passed and bool(reversible(op)),
            reasons=reasons,
        )
        acts.append(
            by_mind(verdict, Branch.JUDICIAL, op, model=thought.model, prompt=thought.prompt, tokens=thought.tokens)
        )
        return Turn(op, tuple(acts))

    async def _step(self, op: Operation, step: Step) -> tuple[CheckRecord, ...]:
        """The checks of one step; one that did not run fails unless it was left out untouched."""
        if step.number in op.skipped:
            touched = step.number in op.applied()
            left_out = Check(
                name="left-out-untouched",
                passed=not touched,
                expected="A step that was left out has changed nothing.",
                observed="An attempt at it changed something." if touched else "Nothing was changed.",
            )
            return (CheckRecord(step=step.number, direction=Direction.DO, **left_out.model_dump()),)
        last = op.latest(step.number, Direction.DO)
        ran = last is not None and last.status == "done"
        first = (
            Check(
                name="step-ran",
                passed=ran,
                expected="The step ran to its end.",
                observed=last.status if last else "never begun",
            ),
        )
        found = first + (await self._probe(op, step) if ran else ())
        return tuple(CheckRecord(step=step.number, direction=Direction.DO, **check.model_dump()) for check in found)

    async def _probe(self, op: Operation, step: Step) -> tuple[Check, ...]:
        with span("checks", playbook=step.playbook, system=step.system):
            try:
                snapshot = await self._runner.first_snapshot(op, step.number)
                if snapshot is None:
                    return (_unproven("There is no snapshot to compare with."),)
                playbook = self._catalogue.get(step.playbook)
                target = observing(self._inventory.get(step.system), self._inventory)
                found = await checked(playbook, playbook.parse(step.arguments), target, snapshot)
            except (PlaybookFailed, Refusal) as error:
                return (_unproven(f"The checks could not be completed: {error}"),)
        return found or (_unproven("The playbook states no post-condition."),)


def _unproven(why: str) -> Check:
    return Check(name="checks-complete", passed=False, expected="Every post-condition was evaluated.", observed=why)


def reversible(op: Operation) -> tuple[int, ...]:
    """The steps that changed or may have changed something and can be undone, newest first."""
    plan = op.bound_plan()
    return tuple(number for number in reversed(op.applied()) if plan.step(number).reversible)
