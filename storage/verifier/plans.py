"""The replay against the plans themselves, for whoever has their bytes: what began and what was left out."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from .canonical import NotCanonical, canonical, parse
from .case import Case
from .rules import Json, ReportBreach, Rule
from .shapes import Mismatch, plan_shape

MAX_PLAN: Final = 4 * 1024 * 1024
"""Longest plan in bytes that is read."""


class Plans:
    """The bodies of plans by their digest. What is not given is not checked; the others must be what was proposed.

    Attributes:
        held: how many plans were held against what happened.
        absent: the plans that were proposed and whose body is not there, with the index of the first proposal.
    """

    def __init__(self, report: ReportBreach, bodies: Mapping[str, bytes]) -> None:
        self.held = 0
        self.absent: dict[str, int] = {}
        self._report = report
        self._bodies = bodies

    def proposed(self, at: int, case: Case, event: Json) -> Json | None:
        """The body of the plan that is proposed; None when it is not given, or is not that plan."""
        body = self._bodies.get(event["plan"])
        if body is None:
            self.absent.setdefault(event["plan"], at)
            return None
        self.held += 1
        if len(body) > MAX_PLAN or sha256(body).hexdigest() != event["plan"]:
            self._report(at, Rule.PLAN, "The plan's body is not what its digest says.")
            return None
        try:
            plan: Json = parse(body)
            plan_shape()(plan)
        except (NotCanonical, Mismatch) as error:
            self._report(at, Rule.PLAN, f"The plan's body is no plan: {error}.")
            return None
        steps: list[Json] = plan["steps"]
        if (plan["operation"], plan["version"], plan["tier"]) != (case.id, event["version"], event["tier"]):
            self._report(at, Rule.PLAN, "The plan's body is of another operation, version or tier.")
        if [step["number"] for step in steps] != list(range(1, len(steps) + 1)):
            self._report(at, Rule.PLAN, "The plan's steps are not numbered from one without gaps.")
            return None
        self._bound(at, case, plan, steps)
        return plan

    def _bound(self, at: int, case: Case, plan: Json, steps: list[Json]) -> None:
        if any(sha256(canonical(step["arguments"])).hexdigest() != step["arguments_digest"] for step in steps):
            self._report(at, Rule.PLAN, "A step's arguments are not what their digest says.")
        if plan["tier"] < max(step["tier"] for step in steps):
            self._report(at, Rule.PLAN, "A step has a higher tier than its plan.")
        if not {step["system"] for step in steps} <= set(case.request["systems"]):
            self._report(at, Rule.PLAN, "A step touches a system that the request does not name.")
        if case.request["emergency"] and not all(step["emergency"] for step in steps):
            self._report(at, Rule.EMERGENCY, "A step's playbook is not marked for emergencies.")

    def check(self, at: int, kind: str, event: Json, case: Case, plan: Json) -> None:
        """Report where the entry at index `at` departs from the plan in hand."""
        steps: list[Json] = plan["steps"]
        if kind == "step.intent":
            self._intent(at, steps, event)
        elif kind == "step.skipped":
            if not (1 <= event["step"] <= len(steps) and steps[event["step"] - 1]["optional"]):
                self._report(at, Rule.PLAN, f"The plan has no optional step {event['step']}.")
        elif kind == "verdict.given":
            checked = {check["step"] for check in case.checks if check["direction"] == "do"}
            if event["passed"] and not checked.issuperset(step["number"] for step in steps):
                self._report(at, Rule.CHECKS, "A step of the plan passed without a check.")
            if event["rollback"] != (not event["passed"] and not _undoable(steps).isdisjoint(case.applied())):
                self._report(at, Rule.VERDICT, "What did not pass and can be undone is sent back, and nothing else.")
        elif kind == "rollback.ordered" and set(event["steps"]) != _undoable(steps).intersection(case.applied()):
            self._report(at, Rule.ROLLBACK, "These are not all applied steps that can be undone.")

    def _intent(self, at: int, steps: list[Json], event: Json) -> None:
        if not 1 <= event["step"] <= len(steps):
            self._report(at, Rule.PLAN, f"The plan has no step {event['step']}.")
            return
        step = steps[event["step"] - 1]
        begun: tuple[Any, ...] = (event["playbook"], event["system"], event["arguments"], event["effect"])
        if begun != (step["playbook"], step["system"], step["arguments_digest"], step["effect"]):
            self._report(at, Rule.PLAN, f"What begins is not step {event['step']} of the plan.")


def _undoable(steps: list[Json]) -> set[int]:
    return {step["number"] for step in steps if step["reversible"]}
