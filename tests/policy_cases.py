"""Principals, a favourable request, and who may do what: the cases that the tests of the constitution go through."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final, get_args

from operations.constitution import Action, Constitution, Context, Decision, Resource
from operations.model import (
    Authority,
    Branch,
    OperationType,
    Principal,
    PrincipalKind,
    Role,
    Ruling,
    RunMode,
    agent_principal,
)
from operations.policy import Kind
from operations.systems import Environment
from prompts import load

CONSTITUTION: Final = Constitution.parse(load("constitution").text)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
A, P, R = Action, PrincipalKind, Role

FAVOURABLE: Final = Resource(
    kind="operation",
    id="op_1",
    type=OperationType.MAINTENANCE,
    requester="rita",
    requester_person="rita",
    emergency=False,
    age_minutes=0,
    tier=2,
    steps=3,
    approvers=frozenset({"zoe"}),
    quorum=1,
    assent=False,
    assented=False,
    expired=False,
    rollback_plan=True,
    checks_passed=True,
    verdict_passed=True,
    escalated=False,
    playbook_emergency=False,
    undo=False,
)
NOW: Final = Context(
    mode=RunMode.AUTONOMOUS,
    halted=False,
    warranted=True,
    passing=True,
    ruling=Ruling.COMPLETE,
    overdue_ratifications=0,
)


def principal(kind: PrincipalKind, name: str, *roles: Role, person: str | None = None) -> Principal:
    return Principal(id=name, kind=kind, roles=frozenset(roles), person=person or name)


def person(name: str, *roles: Role, alias_of: str | None = None) -> Principal:
    return principal(P.PERSON, name, *roles, person=alias_of)


def everybody() -> Iterator[Principal]:
    """A principal of every kind with no role and with each; every agent with no role and with all of them."""
    for kind in (P.PERSON, P.SERVICE, P.SCHEDULER):
        yield principal(kind, kind.value)
        for role in Role:
            yield principal(kind, f"{kind.value}:{role.value}", role)
    for branch in ("legislative", "executive", "judicial", "crown", "observer"):
        yield principal(P.AGENT, f"agent:{branch}")
        yield principal(P.AGENT, f"agent:{branch}", *Role)


PRINCIPALS: Final = tuple(everybody())


def label(who: Principal) -> str:
    return f"{who.id}+" if who.kind is P.AGENT and who.roles else who.id


def people(*roles: str) -> set[str]:
    return {f"person:{role}" for role in roles}


def asking(*roles: str) -> set[str]:
    return {f"{kind}:{role}" for kind in ("person", "service", "scheduler") for role in roles}


SIX: Final = tuple(role.value for role in Role)
SCHEDULERS: Final = {"scheduler", *(f"scheduler:{role}" for role in SIX)}


def agents(*branches: str) -> set[str]:
    return {name for branch in branches for name in (f"agent:{branch}", f"agent:{branch}+")}


AGENTS: Final = agents("legislative", "executive", "judicial", "crown", "observer")
READERS: Final = asking(*SIX) | AGENTS
ALLOWED: Final[dict[tuple[Action, Kind], set[str]]] = {
    (A.SUBMIT, "operation"): asking("requester", "operator", "crown_officer", "admin") | SCHEDULERS,
    (A.READ, "operation"): READERS | {"scheduler"},
    (A.READ, "step"): READERS,
    (A.READ, "system"): READERS,
    (A.READ, "ledger"): asking("operator", "approver", "auditor", "crown_officer", "admin") | AGENTS,
    (A.READ, "constitution"): {label(who) for who in PRINCIPALS},
    (A.READ, "keys"): asking("auditor", "admin") | {name for name in AGENTS if name.endswith("+")},
    (A.PLAN, "operation"): agents("legislative"),
    (A.APPROVE, "operation"): people("approver"),
    (A.WITHDRAW, "operation"): set(),
    (A.CANCEL, "operation"): asking("operator", "crown_officer", "admin"),
    (A.START, "operation"): agents("executive") | SCHEDULERS,
    (A.EXECUTE, "step"): agents("executive"),
    (A.EVALUATE, "operation"): agents("judicial"),
    (A.RULE, "operation"): agents("crown"),
    (A.HALT, "ledger"): agents("crown") | people("crown_officer"),
    (A.HALT, "system"): agents("crown") | people("crown_officer"),
    (A.RELEASE, "ledger"): people("crown_officer"),
    (A.RELEASE, "system"): people("crown_officer"),
    (A.AMEND, "constitution"): people("admin"),
    (A.RATIFY, "constitution"): people("crown_officer"),
    (A.RATIFY, "operation"): set(),
    (A.RECONCILE, "operation"): people("operator", "crown_officer"),
    (A.RECONCILE, "step"): people("operator", "crown_officer"),
    (A.MANAGE_KEYS, "keys"): people("admin"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One request that differs from the favourable one, and its answer: `yes` or the policy that says no."""

    who: Principal
    action: Action
    answer: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    context: dict[str, Any] = dataclasses.field(default_factory=dict)

    def decide(self, constitution: Constitution) -> Decision:
        resource = FAVOURABLE.model_copy(update={"kind": kind_of(self.action), **self.facts})
        return constitution.decide(self.who, self.action, resource, NOW.model_copy(update=self.context))


def kind_of(action: Action) -> Kind:
    """The kind of resource that the action is mostly asked on."""
    match action:
        case Action.EXECUTE:
            return "step"
        case Action.HALT | Action.RELEASE:
            return "ledger"
        case Action.AMEND | Action.RATIFY:
            return "constitution"
        case Action.MANAGE_KEYS:
            return "keys"
        case _:
            return "operation"


DANA, CLEO, RITA = person("dana", R.APPROVER), person("cleo", R.CROWN_OFFICER), person("rita", R.REQUESTER)
EXECUTIVE, JUDICIAL, CROWN = (
    agent_principal(Branch.EXECUTIVE),
    agent_principal(Branch.JUDICIAL),
    agent_principal(Branch.CROWN),
)
TWO: Final = frozenset({"zoe", "yan"})
EMERGENCY: Final = {"emergency": True, "playbook_emergency": True, "assented": True}

CASES: Final = {
    "an approver approves what somebody else asked for": Case(DANA, A.APPROVE, "yes"),
    "the requester may not approve": Case(
        person("rita", R.APPROVER), A.APPROVE, "article-5-not-the-requester", {"approvers": frozenset()}
    ),
    "an alias of the requester may not approve": Case(
        person("rita.admin", R.APPROVER, alias_of="rita"), A.APPROVE, "article-5-not-the-requester"
    ),
    "the requester's account may not approve, whoever is said to be behind it": Case(
        person("rita", R.APPROVER, alias_of="somebody"), A.APPROVE, "article-5-not-the-requester"
    ),
    "one person approves once": Case(person("zoe", R.APPROVER), A.APPROVE, "article-5-one-person-once"),
    "one person approves once, under another name too": Case(
        person("zoe.two", R.APPROVER, alias_of="zoe"), A.APPROVE, "article-5-one-person-once"
    ),
    "an expired plan is not approved": Case(DANA, A.APPROVE, "article-10-expired", {"expired": True}),
    "a plan too long to read is not approved": Case(DANA, A.APPROVE, "article-11-too-long", {"steps": 21}),
    "one's own approval is withdrawn": Case(person("zoe"), A.WITHDRAW, "yes"),
    "another's approval is not withdrawn": Case(DANA, A.WITHDRAW, ""),
    "a service withdraws nothing, not even for its person": Case(
        principal(P.SERVICE, "bot", person="zoe"), A.WITHDRAW, "article-2-no-machine"
    ),
    "the requester cancels": Case(person("rita"), A.CANCEL, "yes"),
    "a stranger does not cancel": Case(DANA, A.CANCEL, ""),
    "an approved plan starts": Case(EXECUTIVE, A.START, "yes"),
    "a plan without its approvals does not start": Case(
        EXECUTIVE, A.START, "article-5-quorum", {"approvers": frozenset()}
    ),
    "the constitution's quorum holds whatever was recorded": Case(
        EXECUTIVE, A.START, "article-5-quorum", {"approvers": frozenset(), "quorum": 0}
    ),
    "the crown's further approver is waited for": Case(EXECUTIVE, A.START, "article-5-quorum", {"quorum": 2}),
    "a step without its approvals does not run": Case(
        EXECUTIVE, A.EXECUTE, "article-5-quorum", {"approvers": frozenset()}
    ),
    "a change to production needs an approver": Case(
        EXECUTIVE,
        A.START,
        "article-5-quorum",
        {"tier": 1, "quorum": 0, "approvers": frozenset(), "environment": Environment.PRODUCTION},
    ),
    "the same change elsewhere needs none": Case(
        EXECUTIVE,
        A.START,
        "yes",
        {"tier": 1, "quorum": 0, "approvers": frozenset(), "environment": Environment.STAGING},
    ),
    "in review mode standard work needs an approver": Case(
        EXECUTIVE,
        A.START,
        "article-5-quorum",
        {"tier": 1, "quorum": 0, "approvers": frozenset()},
        {"mode": RunMode.REVIEW},
    ),
    "judicial authority needs an approver": Case(
        EXECUTIVE,
        A.START,
        "article-5-quorum",
        {"tier": 1, "quorum": 0, "approvers": frozenset(), "authority": Authority.JUDICIAL},
    ),
    "observe mode starts nothing above tier 0": Case(
        EXECUTIVE, A.START, "article-7-mode", {"tier": 1}, {"mode": RunMode.OBSERVE}
    ),
    "observe mode reads": Case(EXECUTIVE, A.START, "yes", {"tier": 0}, {"mode": RunMode.OBSERVE}),
    "observe mode runs no step above tier 0": Case(
        EXECUTIVE, A.EXECUTE, "article-7-mode", {"tier": 1}, {"mode": RunMode.OBSERVE}
    ),
    "an unknown mode is the strictest": Case(EXECUTIVE, A.START, "article-7-mode", {"tier": 1}, {"mode": None}),
    "observe mode undoes": Case(EXECUTIVE, A.EXECUTE, "yes", {"undo": True}, {"mode": RunMode.OBSERVE}),
    "undoing needs no new approval": Case(EXECUTIVE, A.EXECUTE, "yes", {"undo": True, "approvers": frozenset()}),
    "tier 3 with two approvers and assent starts": Case(
        EXECUTIVE, A.START, "yes", {"tier": 3, "approvers": TWO, "assented": True}
    ),
    "tier 3 without assent does not start": Case(EXECUTIVE, A.START, "article-9-assent", {"tier": 3, "approvers": TWO}),
    "assent replaces no approver": Case(EXECUTIVE, A.START, "article-5-quorum", {"tier": 3, "assented": True}),
    "a tier 3 step without assent does not run": Case(
        EXECUTIVE, A.EXECUTE, "article-9-assent", {"tier": 3, "approvers": TWO}
    ),
    "undoing needs no new assent": Case(EXECUTIVE, A.EXECUTE, "yes", {"tier": 3, "approvers": TWO, "undo": True}),
    "crown authority needs assent": Case(EXECUTIVE, A.START, "article-9-assent", {"authority": Authority.CROWN}),
    "an expired plan does not start": Case(EXECUTIVE, A.START, "article-10-expired", {"expired": True}),
    "a plan too long does not start": Case(EXECUTIVE, A.START, "article-11-too-long", {"steps": 21}),
    "a deployment without rollback plan does not start": Case(
        EXECUTIVE,
        A.START,
        "article-11-rollback-plan",
        {"type": OperationType.DEPLOYMENT, "tier": 1, "rollback_plan": False},
    ),
    "a tier 2 plan without rollback plan does not start": Case(
        EXECUTIVE, A.START, "article-11-rollback-plan", {"rollback_plan": False}
    ),
    "a tier 1 plan needs no rollback plan": Case(EXECUTIVE, A.START, "yes", {"tier": 1, "rollback_plan": False}),
    "a step with a warrant runs": Case(EXECUTIVE, A.EXECUTE, "yes"),
    "a step without a warrant does not run": Case(
        EXECUTIVE, A.EXECUTE, "article-12-warrant", context={"warranted": False}
    ),
    "an undo without a warrant does not run": Case(
        EXECUTIVE, A.EXECUTE, "article-12-warrant", {"undo": True}, {"warranted": False}
    ),
    "nothing starts during a halt": Case(EXECUTIVE, A.START, "article-16-halted", context={"halted": True}),
    "nothing runs during a halt": Case(EXECUTIVE, A.EXECUTE, "article-16-halted", context={"halted": True}),
    "nothing is undone during a halt": Case(
        EXECUTIVE, A.EXECUTE, "article-16-halted", {"undo": True}, {"halted": True}
    ),
    "an agent above its ceiling is refused": Case(EXECUTIVE, A.START, "article-3-above-ceiling", context={"level": 6}),
    "an agent below the level needed is refused": Case(
        EXECUTIVE, A.START, "article-3-below-needed", context={"level": 4}
    ),
    "a pass over passed checks is recorded": Case(JUDICIAL, A.EVALUATE, "yes"),
    "no pass over failed checks": Case(
        JUDICIAL, A.EVALUATE, "article-13-no-pass-over-failed-checks", {"checks_passed": False}
    ),
    "a fail over failed checks is recorded": Case(
        JUDICIAL, A.EVALUATE, "yes", {"checks_passed": False}, {"passing": False}
    ),
    "the crown completes what passed": Case(CROWN, A.RULE, "yes"),
    "the crown completes nothing over failed checks": Case(
        CROWN, A.RULE, "article-13-no-completion-over-failed-checks", {"checks_passed": False}
    ),
    "the crown completes nothing over a failed verdict": Case(
        CROWN, A.RULE, "article-14-crown-keeps-the-verdict", {"verdict_passed": False}
    ),
    "the crown orders the rollback of a failed run": Case(
        CROWN, A.RULE, "yes", {"checks_passed": False, "verdict_passed": False}, {"ruling": Ruling.ROLLBACK}
    ),
    "a ruling says what it is": Case(CROWN, A.RULE, "", context={"ruling": None}),
    "a crown officer decides what was escalated": Case(CLEO, A.RULE, "yes", {"escalated": True}),
    "a crown officer may complete over a failed verdict": Case(
        CLEO, A.RULE, "yes", {"escalated": True, "verdict_passed": False}
    ),
    "a crown officer completes nothing over failed checks": Case(
        CLEO,
        A.RULE,
        "article-13-no-completion-over-failed-checks",
        {"escalated": True, "checks_passed": False},
    ),
    "a crown officer decides nothing that was not escalated": Case(CLEO, A.RULE, ""),
    "a crown officer gives no assent": Case(CLEO, A.RULE, "", {"escalated": True}, {"ruling": Ruling.ASSENT}),
    "an approver does not decide what was escalated": Case(DANA, A.RULE, "", {"escalated": True}),
    "a service does not decide what was escalated": Case(
        principal(P.SERVICE, "bot", R.CROWN_OFFICER), A.RULE, "article-2-no-machine", {"escalated": True}
    ),
    "nobody decides in their own cause": Case(
        person("rita.crown", R.CROWN_OFFICER, alias_of="rita"),
        A.RULE,
        "article-14-not-in-own-cause",
        {"escalated": True},
    ),
    "a crown officer declares an emergency": Case(CLEO, A.SUBMIT, "yes", EMERGENCY),
    "an operator declares no emergency": Case(
        person("olga", R.OPERATOR), A.SUBMIT, "article-15-officer-declares", EMERGENCY
    ),
    "a service declares no emergency": Case(
        principal(P.SERVICE, "bot", R.CROWN_OFFICER), A.SUBMIT, "article-15-officer-declares", EMERGENCY
    ),
    "the scheduler declares no emergency": Case(
        principal(P.SCHEDULER, "scheduler", R.CROWN_OFFICER), A.SUBMIT, "article-15-officer-declares", EMERGENCY
    ),
    "who owes a ratification declares no emergency": Case(
        CLEO, A.SUBMIT, "article-15-right-suspended", EMERGENCY, {"overdue_ratifications": 1}
    ),
    "who may owe a ratification declares no emergency": Case(
        CLEO, A.SUBMIT, "article-15-right-suspended", EMERGENCY, {"overdue_ratifications": None}
    ),
    "an emergency of tier 2 starts without approval": Case(
        EXECUTIVE, A.START, "yes", {**EMERGENCY, "approvers": frozenset(), "quorum": 0}
    ),
    "an emergency of tier 3 still needs one approver": Case(
        EXECUTIVE, A.START, "article-5-quorum", {**EMERGENCY, "tier": 3, "approvers": frozenset(), "quorum": 0}
    ),
    "an emergency needs assent": Case(EXECUTIVE, A.START, "article-9-assent", {**EMERGENCY, "assented": False}),
    "an emergency uses marked playbooks only": Case(
        EXECUTIVE, A.EXECUTE, "article-15-marked-playbooks", {**EMERGENCY, "playbook_emergency": False}
    ),
    "an emergency runs marked playbooks": Case(EXECUTIVE, A.EXECUTE, "yes", EMERGENCY),
    "an emergency starts in its last minute": Case(EXECUTIVE, A.START, "yes", {**EMERGENCY, "age_minutes": 59}),
    "an emergency does not start after its time": Case(
        EXECUTIVE, A.START, "article-15-time-limit", {**EMERGENCY, "age_minutes": 60}
    ),
    "an emergency's step does not run after its time": Case(
        EXECUTIVE, A.EXECUTE, "article-15-time-limit", {**EMERGENCY, "age_minutes": 60}
    ),
    "an emergency is undone after its time": Case(
        EXECUTIVE, A.EXECUTE, "yes", {**EMERGENCY, "age_minutes": 600, "undo": True}
    ),
    "an approver ratifies an emergency": Case(DANA, A.RATIFY, "yes", {"kind": "operation", **EMERGENCY}),
    "a crown officer ratifies another's emergency": Case(CLEO, A.RATIFY, "yes", {"kind": "operation", **EMERGENCY}),
    "an operator ratifies no emergency": Case(
        person("olga", R.OPERATOR), A.RATIFY, "", {"kind": "operation", **EMERGENCY}
    ),
    "who declared an emergency does not ratify it": Case(
        person("rita.two", R.CROWN_OFFICER, alias_of="rita"),
        A.RATIFY,
        "article-15-second-person",
        {"kind": "operation", **EMERGENCY},
    ),
    "who proposed an amendment does not ratify it": Case(
        person("rita", R.CROWN_OFFICER, R.ADMIN), A.RATIFY, "article-23-two-people"
    ),
    "an alias of who proposed an amendment does not ratify it": Case(
        person("rita.two", R.CROWN_OFFICER, alias_of="rita"), A.RATIFY, "article-23-two-people"
    ),
}
