"""Questions with known answers, put to the enforcement that is running: a rule that does not bite is found here."""

from typing import Final, Literal

from api.governance import SelfTest
from operations.canonical import now
from operations.constitution import Constitution
from operations.errors import WarrantRefused
from operations.model import (
    Branch,
    Direction,
    OperationType,
    Principal,
    PrincipalKind,
    Role,
    RunMode,
    agent_principal,
)
from operations.policy import Action, Context, Resource
from triad.assembly import Triad
from triad.warrant import Warrant, check_signature

_ALICE: Final = Principal(
    id="self-test-alice", kind=PrincipalKind.PERSON, roles=frozenset(Role), person="self-test-alice"
)
_ALIAS: Final = _ALICE.model_copy(update={"id": "self-test-alias"})
_BOB: Final = _ALICE.model_copy(update={"id": "self-test-bob", "person": "self-test-bob"})
_NOBODY: Final = Principal(id="self-test-nobody", kind=PrincipalKind.PERSON, person="self-test-nobody")
_PLAN: Final = Resource(
    kind="operation",
    id="self-test",
    type=OperationType.MAINTENANCE,
    requester=_ALICE.id,
    requester_person=_ALICE.person,
    emergency=False,
    age_minutes=0,
    tier=2,
    steps=1,
    approvers=frozenset(),
    quorum=1,
    assent=False,
    assented=False,
    expired=False,
    rollback_plan=True,
    checks_passed=False,
    verdict_passed=False,
    escalated=False,
)
_STEP: Final = _PLAN.model_copy(
    update={"kind": "step", "approvers": frozenset({_BOB.person}), "playbook_emergency": False, "undo": False}
)
_EXECUTIVE: Final = agent_principal(Branch.EXECUTIVE)

Answer = Literal["allowed", "denied"]

_PROBES: Final[tuple[tuple[str, Answer, Principal, Action, Resource, bool], ...]] = (
    ("another person approves", "allowed", _BOB, Action.APPROVE, _PLAN, False),
    ("the requester approves", "denied", _ALICE, Action.APPROVE, _PLAN, False),
    ("the requester approves under another name", "denied", _ALIAS, Action.APPROVE, _PLAN, False),
    ("an agent approves", "denied", agent_principal(Branch.CROWN), Action.APPROVE, _PLAN, False),
    ("somebody without a role submits", "denied", _NOBODY, Action.SUBMIT, _PLAN, False),
    ("the planner executes", "denied", agent_principal(Branch.LEGISLATIVE), Action.EXECUTE, _STEP, True),
    ("the executor executes with a warrant", "allowed", _EXECUTIVE, Action.EXECUTE, _STEP, True),
    ("the executor executes without a warrant", "denied", _EXECUTIVE, Action.EXECUTE, _STEP, False),
    (
        "the executor executes without approvals",
        "denied",
        _EXECUTIVE,
        Action.EXECUTE,
        _STEP.model_copy(update={"approvers": frozenset()}),
        True,
    ),
    ("an agent releases a halt", "denied", _EXECUTIVE, Action.RELEASE, Resource(kind="ledger", id="ledger"), False),
)


def self_test(triad: Triad, document: Constitution) -> tuple[SelfTest, ...]:
    """Ask every question now: the constitution's rules, and the gate with a warrant that nobody signed."""
    answers = []
    for name, expected, principal, action, resource, warranted in _PROBES:
        context = Context(mode=RunMode.AUTONOMOUS, halted=False, warranted=warranted)
        decision = document.decide(principal, action, resource, context)
        got: Answer = "allowed" if decision.allowed else "denied"
        answers.append(SelfTest(name=name, expected=expected, got=got, code=decision.code, articles=decision.articles))
    return (*answers, _forged(triad))


def _forged(triad: Triad) -> SelfTest:
    keys = triad.issuer.verifying
    zero = "0" * 64
    warrant = Warrant.model_construct(
        id="wr_self_test",
        operation="op_00000000000000000000000000",
        step=1,
        attempt=1,
        direction=Direction.DO,
        epoch=1,
        plan=zero,
        playbook="observe.host",
        playbook_digest=zero,
        arguments=zero,
        preview=zero,
        system="host",
        system_digest=zero,
        approvals=(),
        constitution=zero,
        issued=now(),
        expires=now(),
        key=next(iter(keys)),
        signature="A" * 86 + "==",
    )
    try:
        check_signature(warrant, keys)
    except WarrantRefused as error:
        return SelfTest(name="a forged warrant", expected="denied", got="denied", code=error.code, articles=())
    return SelfTest(name="a forged warrant", expected="denied", got="allowed", code="permitted", articles=())
