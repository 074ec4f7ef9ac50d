"""The replay against the plans themselves, for whoever has their bytes: what began and what was left out."""

from collections.abc import Mapping

from pydantic import ValidationError

from operations import events as e
from operations.canonical import digest_of, sha256
from operations.model import Direction, Plan
from operations.operation import Operation
from storage.entry import Entry
from storage.rules import Report, Rule


class Plans:
    """The bodies of plans by their digest. What is not given is not checked; the others must be what was proposed."""

    def __init__(self, report: Report, bodies: Mapping[str, bytes]) -> None:
        self._report = report
        self._bodies = bodies

    def proposed(self, at: int, op: Operation, event: e.PlanProposed) -> Plan | None:
        """The body of the plan that is proposed; None when it is not given, or is not that plan."""
        body = self._bodies.get(event.plan)
        if body is None:
            return None
        if sha256(body) != event.plan:
            self._report(at, Rule.PLAN, "The plan's body is not what its digest says.")
            return None
        try:
            plan = Plan.model_validate_json(body)
        except ValidationError:
            self._report(at, Rule.PLAN, "The plan's body is no plan.")
            return None
        if (plan.operation, plan.version, plan.tier) != (op.id, event.version, event.tier):
            self._report(at, Rule.PLAN, "The plan's body is of another operation, version or tier.")
        if [step.number for step in plan.steps] != list(range(1, len(plan.steps) + 1)):
            self._report(at, Rule.PLAN, "The plan's steps are not numbered from one without gaps.")
            return None
        if any(digest_of(step.arguments) != step.arguments_digest for step in plan.steps):
            self._report(at, Rule.PLAN, "A step's arguments are not what their digest says.")
        return plan

    def check(self, at: int, entry: Entry, op: Operation, plan: Plan) -> None:
        """Report where the entry at index `at` departs from the plan in hand."""
        match entry.event:
            case e.StepIntent() as event:
                self._intent(at, plan, event)
            case e.StepSkipped() as event:
                if not (1 <= event.step <= len(plan.steps) and plan.step(event.step).optional):
                    self._report(at, Rule.PLAN, f"The plan has no optional step {event.step}.")
            case e.VerdictGiven() as event:
                checked = {check.step for check in op.checks if check.direction is Direction.DO}
                if event.passed and not checked.issuperset(step.number for step in plan.steps):
                    self._report(at, Rule.CHECKS, "A step of the plan passed without a check.")
            case e.RollbackOrdered() as event:
                undoable = {step.number for step in plan.steps if step.reversible}
                if set(event.steps) != undoable.intersection(op.applied()):
                    self._report(at, Rule.ROLLBACK, "These are not all applied steps that can be undone.")
            case _:
                pass

    def _intent(self, at: int, plan: Plan, event: e.StepIntent) -> None:
        if not 1 <= event.step <= len(plan.steps):
            self._report(at, Rule.PLAN, f"The plan has no step {event.step}.")
            return
        step = plan.step(event.step)
        begun = (event.playbook, event.system, event.arguments, event.effect)
        if begun != (step.playbook, step.system, step.arguments_digest, step.effect):
            self._report(at, Rule.PLAN, f"What begins is not step {event.step} of the plan.")
