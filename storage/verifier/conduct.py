"""How an operation must be conducted: each event against what was planned, approved, warranted and begun before it."""

from collections.abc import Callable, Collection, Mapping

from .case import Case, approval_of
from .law import Statutes
from .plans import Plans
from .rules import CODE, UNFENCED, Json, ReportBreach, Rule, instant, is_outside, passed

Check = Callable[[int, Json, Json, Case], None]
"""Takes the index, the entry, its event and the operation before it."""


class Conduct:
    """Checks one event at a time, before it is folded into its operation.

    What must be unique in the whole log (warrants, approvals) is remembered here.

    Attributes:
        halted: since when the crown's halt is on; empty while it is not.
    """

    def __init__(self, report: ReportBreach, plans: Plans, statutes: Statutes, persons: Mapping[str, str]) -> None:
        self.halted = ""
        self._persons = persons
        self._report = report
        self._plans = plans
        self._statutes = statutes
        self._warrants: set[str] = set()
        self._denied: set[str] = set()
        self._approvals: set[str] = set()
        self._checks: Mapping[str, Check] = {
            "plan.proposed": self._proposed,
            "approval.given": self._approval,
            "approval.refused": self._refused,
            "approval.withdrawn": self._withdrawn,
            "plan.superseded": self._about,
            "operation.started": self._started,
            "operation.approved": self._approved,
            "warrant.issued": self._warrant,
            "step.intent": self._intent,
            "step.done": self._outcome,
            "step.failed": self._outcome,
            "step.in_doubt": self._outcome,
            "step.reconciled": self._reconciled,
            "execution.finished": self._finished,
            "check.evaluated": self._checked,
            "verdict.given": self._verdict,
            "ruling.given": self._ruling,
            "escalation.resolved": self._resolved,
            "rollback.ordered": self._rollback,
            "rollback.done": self._restored,
            "operation.cancelled": self._cancelled,
            "operation.halted": self._halted,
            "operation.resumed": self._resumed,
        }

    def check(self, at: int, entry: Json, event: Json, case: Case) -> None:
        """Report what is wrong with the entry at index `at`."""
        kind = entry["kind"]
        if case.body is not None:
            self._plans.check(at, kind, event, case, case.body)
        check = self._checks.get(kind)
        if check is not None:
            check(at, entry, event, case)

    def act(self, at: int, entry: Json, named: str) -> None:
        """Report an event that names another as deciding than who recorded it."""
        if entry["principal"] != named:
            self._report(at, Rule.ACTOR, f"The event names {named}, but {entry['principal']} recorded it.")

    def denied(self, warrant: str, case: Case) -> None:
        """Learn that the gate refused what a warrant was shown for; one that was issued allows nothing any more."""
        attempt = case.under(warrant)
        if attempt is not None and attempt.status == "issued":
            self._denied.add(warrant)

    def _proposed(self, at: int, entry: Json, event: Json, case: Case) -> None:
        case.body = self._plans.proposed(at, case, event)
        case.law = case.body["constitution"] if case.body else entry["constitution"]
        if event["version"] != case.plans + 1:
            self._report(at, Rule.PLAN, f"This is plan {case.plans + 1} of the operation, not {event['version']}.")
        self._statutes.proposed(at, entry, event, case)

    def _about(self, at: int, _: Json, event: Json, case: Case) -> None:
        if case.proposal is None or event["plan"] != case.proposal["plan"]:
            self._report(at, Rule.PLAN, "This is about another plan than the one in hand.")

    def _approval(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self.act(at, entry, event["approver"])
        self._about(at, entry, event, case)
        if event["approval"] in self._approvals:
            self._report(at, Rule.APPROVAL, f"The approval {event['approval']} was given before.")
        self._approvals.add(event["approval"])
        if event["person"] == case.requester["person"] or event["approver"] == case.requester["id"]:
            self._report(at, Rule.APPROVAL, "The requester approves their own request.")
        if case.stands(approval_of(event), entry["time"]):
            self._report(at, Rule.APPROVAL, "One person approves twice.")
        self._statutes.approval(at, entry, event, case)

    def _refused(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self.act(at, entry, event["approver"])
        self._about(at, entry, event, case)

    def _withdrawn(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self.act(at, entry, event["approver"])
        self._about(at, entry, event, case)
        given = case.approvals.get(event["approval"])
        if given is None:
            self._report(at, Rule.APPROVAL, "What is withdrawn was never given, or was withdrawn before.")
        elif given.approver != event["approver"] and given.person != self._persons.get(event["approver"], given.person):
            self._report(at, Rule.APPROVAL, "The approval of another person is withdrawn.")

    def _approved(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self._about(at, entry, event, case)
        if not case.approvals.keys() >= set(event["approvals"]):
            self._report(at, Rule.QUORUM, "An approval it rests on was not given, or was withdrawn.")
        self._quorum(at, entry["time"], case, frozenset(event["approvals"]))
        if case.proposal is not None and case.proposal["assent"] and not case.assented:
            self._report(at, Rule.ASSENT, "The crown has not assented.")
        if case.proposal is not None and passed(case.proposal["expires"], entry["time"]):
            self._report(at, Rule.QUORUM, "The plan had expired.")

    def _quorum(self, at: int, time: str, case: Case, approvals: Collection[str] | None) -> None:
        needed: int = case.proposal["quorum"] + case.extra_quorum if case.proposal else 1
        people: set[str] = set()
        for a in case.approvals.values():
            if len(people) >= needed:
                return
            counts = approvals is None or a.id in approvals
            if counts and a.person != case.requester["person"] and not passed(a.expires, time):
                people.add(a.person)
        if len(people) < needed:
            self._report(at, Rule.QUORUM, f"{len(people)} people's approvals stand; {needed} are needed.")

    def _started(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self._about(at, entry, event, case)
        now, asked = instant(entry["time"]), case.request.get("scheduled_time")
        if asked is not None and instant(asked) > now + UNFENCED:
            self._report(at, Rule.STARTED, "It was asked for at a later time.")
        if case.proposal is not None and instant(case.proposal["expires"]) <= now - UNFENCED:
            self._report(at, Rule.STARTED, "The plan had expired.")
        self._unhalted(at, entry)

    def _unhalted(self, at: int, entry: Json) -> None:
        if self.halted and instant(self.halted) <= instant(entry["time"]) - UNFENCED:
            self._report(at, Rule.HALT, "The crown had halted all execution.")

    def _warrant(self, at: int, entry: Json, event: Json, case: Case) -> None:
        warrant, direction = event["warrant"], event["direction"]
        if warrant in self._warrants:
            self._report(at, Rule.WARRANT_ONCE, f"The warrant {warrant} was issued before.")
        self._warrants.add(warrant)
        self._about(at, entry, event, case)
        if event["system"] not in case.request["systems"]:
            self._report(at, Rule.PLAN, "The request does not name the system.")
        if direction != ("undo" if case.stage == "rolling_back" else "do"):
            self._report(at, Rule.DIRECTION, f"At stage {case.stage} nothing is to {direction}.")
        if case.open():
            self._report(at, Rule.TURN, "Another warrant of this operation is open.")
        made = case.made(event["step"], direction)
        if event["attempt"] != made + 1:
            sentence = f"This is attempt {made + 1} at step {event['step']}, not {event['attempt']}."
            self._report(at, Rule.ATTEMPT, sentence)
        self._statutes.warrant(at, entry, event)

    def _intent(self, at: int, entry: Json, event: Json, case: Case) -> None:
        attempt = case.under(event["warrant"])
        if attempt is None:
            sentence = f"The warrant {event['warrant']} was not issued to this operation."
            self._report(at, Rule.WARRANT_USED, sentence)
            return
        if attempt.status != "issued":
            self._report(at, Rule.WARRANT_USED, f"The warrant {event['warrant']} was used before.")
        elif event["warrant"] in self._denied:
            self._report(at, Rule.WARRANT_USED, f"The warrant {event['warrant']} was refused before.")
        warrant = attempt.warranted
        if any(event[name] != warrant[name] for name in ("step", "attempt", "direction", "arguments", "system")):
            self._report(at, Rule.WARRANT_MATCH, "What begins is not what the warrant allows.")
        if passed(warrant["expires"], entry["time"]):
            self._report(at, Rule.WARRANT_EXPIRED, f"The warrant {event['warrant']} had expired.")
        if self.halted:
            self._report(at, Rule.HALT, "The crown had halted all execution.")
        if case.unsettled():
            self._report(at, Rule.TURN, "Another step of this operation has no known outcome yet.")
        if attempt.direction == "do":
            self._forward(at, entry, event, case)
        else:
            self._backward(at, event, case)
        attempt.intent = at
        begins = (event["playbook"], event["system"], event["arguments"], event["effect"])
        if case.begun.setdefault(event["step"], begins) != begins and case.body is None:
            self._report(at, Rule.PLAN, f"What begins is not what began at step {event['step']} before.")

    def _forward(self, at: int, entry: Json, event: Json, case: Case) -> None:
        if case.law != entry["constitution"]:
            self._report(at, Rule.LAW, "The plan was proposed under another constitution.")
        self._quorum(at, entry["time"], case, None)
        if case.proposal is not None and case.proposal["assent"] and not case.assented:
            self._report(at, Rule.ASSENT, "The crown has not assented.")
        step = event["step"]
        over = case.done("do").union(case.skipped)
        if step in over or any(number not in over for number in range(1, step)):
            self._report(at, Rule.TURN, f"It is not the turn of step {step}.")
        if event["effect"] == "once_blind" and any(
            (a.changed or a.status != "failed")
            for a in case.attempts
            if a.step == step and a.direction == "do" and a.warrant != event["warrant"] and a.effect
        ):
            self._report(at, Rule.ONCE, f"Step {step} must be tried at most once.")
        self._statutes.begins(at, entry, case)

    def _backward(self, at: int, event: Json, case: Case) -> None:
        undone = case.done("undo")
        if next((step for step in case.rollback or () if step not in undone), None) != event["step"]:
            self._report(at, Rule.TURN, f"It is not step {event['step']} that is to be undone next.")

    def _outcome(self, at: int, _: Json, event: Json, case: Case) -> None:
        attempt = case.under(event["warrant"])
        if attempt is None or attempt.status != "intended":
            self._report(at, Rule.OUTCOME, f"No open intent of the warrant {event['warrant']} is recorded.")
        elif (
            event["step"] != attempt.step
            or event["attempt"] != attempt.attempt
            or event["direction"] != attempt.direction
        ):
            self._report(at, Rule.OUTCOME, "The outcome is of another step or attempt than its warrant.")

    def _reconciled(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self.act(at, entry, event["by"])
        last = case.latest(event["step"], event["direction"])
        if last is None or last.attempt != event["attempt"] or not last.unsettled:
            self._report(at, Rule.RECONCILED, f"The outcome of step {event['step']} was not in doubt.")
            return
        principal, branch = entry["principal"], entry["branch"]
        if branch == "people":
            settles = is_outside(principal)
        else:
            probed = last.effect == "once_probe" and event["direction"] == "do"
            settles = probed and branch == "executive" and principal == CODE
        if not settles:
            self._report(at, Rule.RECONCILED, f"{principal} cannot settle what became of step {event['step']}.")

    def _settled(self, at: int, case: Case, what: str) -> None:
        for attempt in case.unsettled():
            self._report(at, Rule.UNRESOLVED, f"The {what} ended while step {attempt.step} has no known outcome.")

    def _finished(self, at: int, _: Json, event: Json, case: Case) -> None:
        self._settled(at, case, "execution")
        if case.stage != "running":
            return
        last = len(case.body["steps"]) if case.body else max(case.last_step(), 1)
        fine = case.done("do").union(case.skipped, (a.step for a in case.unsettled()))
        left = next((number for number in range(1, min(last, len(fine) + 1) + 1) if number not in fine), None)
        outcome = event["outcome"]
        if outcome == "finished":
            if left is not None:
                self._report(at, Rule.FINISHED, f"Step {left} was neither done nor left out.")
        elif case.body is not None and left is None:
            self._report(at, Rule.FINISHED, "Every step was done or left out.")
        elif (outcome == "failed") != any(a.status == "failed" for a in case.attempts):
            self._report(at, Rule.FINISHED, "A run failed if, and only if, an attempt in it failed.")

    def _checked(self, at: int, _: Json, event: Json, case: Case) -> None:
        step, undoing = event["step"], event["direction"] == "undo"
        if undoing:
            known = case.rollback is None or (step in case.rollback and step in case.done("undo"))
        elif event["passed"]:
            known = case.settled(step)
        else:
            known = case.body is None or 1 <= step <= len(case.body["steps"])
        if not known:
            self._report(at, Rule.CHECKS, f"Step {step} was not {'undone' if undoing else 'done'}, or is not there.")

    def _verdict(self, at: int, _: Json, event: Json, case: Case) -> None:
        if event["passed"] and not (event["checks_passed"] and event["judged_passed"]):
            self._report(at, Rule.VERDICT, "Passed is not what checks and judgment amount to.")
        if event["passed"] and case.outcome != "finished":
            self._report(at, Rule.VERDICT, "What did not run to its end cannot pass.")
        if event["rollback"] and (event["passed"] or not case.applied()):
            self._report(at, Rule.VERDICT, "There is nothing to be sent back.")
        held = bool(case.checks) and all(check["passed"] for check in case.checks)
        if event["checks"] != len(case.checks) or event["checks_passed"] != held:
            self._report(at, Rule.CHECKS, f"{len(case.checks)} checks are recorded; all passed: {held}.")
        elif event["passed"] and case.body is None:
            checked = {check["step"] for check in case.checks}
            if any(step not in checked for step in range(1, min(case.last_step(), len(checked) + 1) + 1)):
                self._report(at, Rule.CHECKS, "A step passed without a check.")

    def _ruling(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self._about(at, entry, event, case)
        verdict = case.verdict
        if event["ruling"] == "complete" and not (verdict and verdict["passed"]):
            self._report(at, Rule.RULING, "What did not pass cannot be completed by the crown.")
        if event["ruling"] == "fail" and verdict and verdict["rollback"]:
            self._report(at, Rule.RULING, "The verdict orders a rollback; the crown cannot leave it out.")
        if case.stage == "evaluated" and case.ruling is not None:
            self._report(at, Rule.RULING, f"The ruling was {case.ruling} already.")

    def _resolved(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self.act(at, entry, event["by"])
        if case.requester["id"] == event["by"] or case.requester["person"] == event["person"]:
            self._report(at, Rule.RULING, "The requester resolves their own request.")
        if event["ruling"] == "complete" and not (case.verdict and case.verdict["checks_passed"]):
            self._report(at, Rule.RULING, "Over a failed check nobody can complete.")

    def _rollback(self, at: int, _: Json, event: Json, case: Case) -> None:
        if case.ruling != "rollback":
            self._report(at, Rule.ROLLBACK, "No ruling orders a rollback.")
        steps = event["steps"]
        if steps != [step for step in reversed(case.applied()) if step in steps]:
            self._report(at, Rule.ROLLBACK, "These are not applied steps, newest first.")

    def _restored(self, at: int, _: Json, event: Json, case: Case) -> None:
        self._settled(at, case, "rollback")
        if not event["restored"]:
            return
        last = [case.latest(step, "undo") for step in case.rollback or ()]
        checks = [check for check in case.checks if check["direction"] == "undo"]
        undone = bool(last) and all(attempt is not None and attempt.status == "done" for attempt in last)
        seen = {check["step"] for check in checks}
        if not undone or not seen.issuperset(case.rollback or ()) or not all(check["passed"] for check in checks):
            self._report(at, Rule.RESTORED, "Not every step was undone and found to equal its snapshot.")

    def _cancelled(self, at: int, entry: Json, event: Json, _: Case) -> None:
        self.act(at, entry, event["by"])

    def _halted(self, at: int, _: Json, __: Json, ___: Case) -> None:
        if not self.halted:
            self._report(at, Rule.HALT, "The crown had ordered no halt.")

    def _resumed(self, at: int, entry: Json, event: Json, case: Case) -> None:
        self._unhalted(at, entry)
        expected = "undo" if case.halted_from == "rolling_back" else "do"
        if event["to"] != expected:
            self._report(at, Rule.RESUMED, f"The operation was halted while it worked to {expected}.")
