"""How the offline model judges and rules: by checks and typed facts alone. Free text is never read."""

from agents.facts import CrownFacts, CrownStepFact, EvaluatorFacts
from agents.outputs import Judgement, Opinion
from operations.evidence import Effect
from operations.model import Ruling

HIGH = 3
"""The tier from which the crown wants a step undoable or its system backed up first."""


def judge(facts: EvaluatorFacts) -> Judgement:
    """Passed when the execution finished, something was checked, and every check passed."""
    failed = [check for check in facts.checks if not check.passed]
    reasons = [
        f"Step {c.step}: {c.name} failed: expected {_short(c.expected)}, observed {_short(c.observed)}." for c in failed
    ]
    if facts.execution != "finished":
        reasons.append(f"The execution {facts.execution}.")
    if not facts.checks:
        reasons.append("There is no check to rest a judgment on.")
    passed = not reasons
    if passed:
        reasons.append(f"All {len(facts.checks)} checks passed.")
    if facts.criteria:
        reasons.append("Criteria in words are not judged by rules; the checks are.")
    rollback = not passed and any(step.changed for step in facts.steps)
    if rollback:
        reasons.append("A run that changed something did not pass; what was changed should be undone.")
    return Judgement(passed=passed, rollback=rollback, reasons=(*reasons[:17], *reasons[17:][-3:]))


def assent(facts: CrownFacts) -> Opinion:
    """Assent where the typed facts bear it; veto a breach, escalate what a person has to weigh."""
    breaches = [
        f"Step {s.number}: {s.playbook} may not be used in an emergency."
        for s in facts.steps
        if facts.request.emergency and not s.emergency
    ]
    if facts.tier < max((s.tier for s in facts.steps), default=0):
        breaches.append("The plan's tier is below that of one of its steps.")
    if breaches:
        return Opinion(ruling=Ruling.VETO, reasons=tuple(breaches[:20]))
    exposed = [
        f"Step {s.number}: {s.playbook} cannot be undone and no step before it makes a copy of {s.system}."
        for at, s in enumerate(facts.steps)
        if _exposed(s, facts.steps[:at])
    ]
    if exposed:
        return Opinion(ruling=Ruling.ESCALATE, reasons=tuple(exposed[:20]))
    reasons = [f"Every step of tier {HIGH} can be undone or follows a copy of its system."]
    if facts.request.emergency:
        reasons.append("Every playbook is marked for emergencies.")
    return Opinion(ruling=Ruling.ASSENT, reasons=tuple(reasons))


def _exposed(step: CrownStepFact, earlier: tuple[CrownStepFact, ...]) -> bool:
    """Whether nothing brings the step back; a copy that may be left out is none."""
    if step.tier < HIGH or step.effect is Effect.READ or step.reversible:
        return False
    return not any(before.protects == step.system and not before.optional for before in earlier)


def rule(facts: CrownFacts) -> Opinion:
    """Complete what passed, roll back what was ordered and can be undone, escalate a change that cannot, else fail."""
    changed = [outcome for outcome in facts.outcomes if outcome.changed]
    stuck = [outcome for outcome in changed if not outcome.reversible]
    if facts.verdict is None:
        return Opinion(ruling=Ruling.ESCALATE, reasons=("There is no verdict.",))
    if facts.verdict.passed and facts.execution == "finished":
        return Opinion(ruling=Ruling.COMPLETE, reasons=("The execution finished and the verdict is that it passed.",))
    if not changed:
        return Opinion(ruling=Ruling.FAIL, reasons=("The run did not pass and changed nothing.",))
    if stuck:
        names = ", ".join(f"step {outcome.number}" for outcome in stuck)
        return Opinion(ruling=Ruling.ESCALATE, reasons=(f"The run did not pass and {names} cannot be undone.",))
    if facts.verdict.rollback:
        reasons = ("The verdict orders a rollback and every change can be undone.",)
        return Opinion(ruling=Ruling.ROLLBACK, reasons=reasons)
    return Opinion(ruling=Ruling.FAIL, reasons=("The run did not pass and no rollback was ordered.",))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else flat[:117] + "..."  # noqa: PLR2004 - as much as one reason bears
