"""Whether a plan may go ahead: people's approvals over exactly this plan, and the crown's assent where it is needed.

Silence, expiry and a changed constitution all mean no.
"""

from datetime import datetime

from agents.crown import Crown
from operations.events import OperationApproved, OperationExpired, PlanSuperseded, RulingGiven
from operations.model import Branch, Ruling
from operations.operation import Approval, Operation
from operations.policy import Action
from storage.ledger import Act
from triad.briefing import crown_facts
from triad.law import Law
from triad.trace import span
from triad.turn import Turn, by_code, by_mind


def standing(op: Operation, at: datetime) -> tuple[Approval, ...]:
    """The approvals that count at a time: unexpired, over this plan, by people other than the requester, each once."""
    return op.standing(at)


def missing(op: Operation, at: datetime) -> int:
    """How many more distinct people have to approve."""
    if op.proposal is None:
        return 0
    return max(0, op.proposal.quorum + op.extra_quorum - len(standing(op, at)))


def overtaken(op: Operation, law: Law) -> Act | None:
    """The event that ends or sends back a plan whose time or constitution has passed; None while it stands."""
    proposal = op.proposal
    if proposal is None or op.plan is None:
        return None
    if op.plan.constitution != law.in_force().digest:
        sent_back = PlanSuperseded(
            plan=proposal.plan,
            code="constitution-changed",
            reasons=("Another constitution is in force; the operation is planned again.",),
        )
        return by_code(sent_back, Branch.LEGISLATIVE, op)
    if proposal.expires <= law.now():
        late = OperationExpired(code="plan-expired", reasons=("Nobody decided in time, which means no.",))
        return by_code(late, Branch.LEGISLATIVE, op)
    return None


class Approvals:
    """Decides what happens to a planned operation."""

    def __init__(self, law: Law, crown: Crown) -> None:
        self._law = law
        self._crown = crown

    async def decide(self, op: Operation) -> Turn | None:
        """Approved, sent back, expired or ruled on; None while people are still to decide."""
        act = overtaken(op, self._law)
        if act is not None:
            return Turn(op, (act,))
        if op.proposal is None or missing(op, self._law.now()):
            return None
        if op.proposal.assent and not op.assented:
            return Turn(op, (await self._ask(op),))
        approved = OperationApproved(
            plan=op.proposal.plan,
            approvals=tuple(sorted(a.id for a in standing(op, self._law.now()))),
            reasons=op.proposal.reasons,
            articles=op.proposal.articles,
        )
        return Turn(op, (by_code(approved, Branch.LEGISLATIVE, op),))

    async def _ask(self, op: Operation) -> Act:
        plan = op.bound_plan()
        with span("crown.assent", operation=op.id):
            thought = await self._crown.assent(crown_facts("assent", op, self._law.in_force()))
        ruling, reasons = thought.output.ruling, thought.output.reasons
        if ruling is Ruling.ESCALATE and op.extra_quorum:
            ruling, reasons = Ruling.VETO, (*reasons, "Escalated once already and still without assent.")
        if ruling not in {Ruling.ASSENT, Ruling.VETO, Ruling.ESCALATE}:
            ruling, reasons = Ruling.VETO, ("The crown gave no assent that this moment knows.",)
        decision = await self._law.decide_for(Branch.CROWN, Action.RULE, op, ruling=ruling)
        if not decision.allowed:
            ruling, reasons = Ruling.VETO, decision.texts
        given = RulingGiven(ruling=ruling, plan=plan.digest, reasons=reasons, articles=decision.articles)
        return by_mind(given, Branch.CROWN, op, model=thought.model, prompt=thought.prompt, tokens=thought.tokens)
