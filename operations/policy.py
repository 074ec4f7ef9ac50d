"""The words of a policy decision: who asks is a `Principal`, and here are what, on what, when, and the answer.

Only typed facts stand here. No text that a person or a model wrote reaches a rule.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints

from operations.canonical import Record
from operations.errors import NotAllowed
from operations.model import Authority, Direction, OperationType, Principal, PrincipalId, Request, Ruling, RunMode
from operations.operation import Operation
from operations.stages import Stage
from operations.systems import Environment


class Action(StrEnum):
    """What can be asked for."""

    SUBMIT = "submit"
    READ = "read"
    PLAN = "plan"
    APPROVE = "approve"
    """Deciding on a plan, with a yes or a no."""
    WITHDRAW = "withdraw"
    CANCEL = "cancel"
    START = "start"
    EXECUTE = "execute"
    """Asked at the tool boundary, once the warrant has been verified."""
    EVALUATE = "evaluate"
    RULE = "rule"
    HALT = "halt"
    RELEASE = "release"
    AMEND = "amend"
    RATIFY = "ratify"
    """An amendment (on the constitution) or an emergency (on its operation)."""
    RECONCILE = "reconcile"
    MANAGE_KEYS = "manage_keys"


Kind = Literal["operation", "step", "ledger", "constitution", "keys", "system"]

Persons = Annotated[frozenset[PrincipalId], PlainSerializer(sorted, return_type=list[str], when_used="json")]
KnownId = Annotated[PrincipalId | None, BeforeValidator(lambda ident: ident or None)]
"""A principal's id; None, or an empty text, when it is not known."""


class Resource(Record):
    """What an action is asked for on. A fact left as None is unknown, and a rule that needs it refuses.

    Halting and releasing are asked on the `ledger`; facts of an operation serve its steps too.

    Attributes:
        kind: what sort of thing it is.
        id: its id.
        environment: the weightiest environment of the systems that the plan changes.
        authority: the authority that was asked for.
        type: of the operation.
        requester: who asked for the operation, or proposed the amendment.
        requester_person: the person behind that.
        emergency: whether the operation was declared an emergency.
        age_minutes: since the operation was requested.
        tier: of the whole plan, not of the step.
        steps: how many the plan has.
        approvers: persons, the requester left out, whose approval of this plan counts.
        quorum: approvals needed, as recorded with the plan; the constitution's own number is added.
        assent: whether assent is needed, as recorded with the plan; the constitution's own word is added.
        assented: whether the crown has assented.
        expired: whether the plan ran out of time before it started.
        rollback_plan: whether the request carries one.
        checks_passed: whether every check passed, and there was at least one.
        verdict_passed: whether the verdict is a pass.
        escalated: whether it waits for a crown officer's decision.
        playbook_emergency: of a step: whether its playbook is marked for emergencies.
        undo: of a step: whether it is being undone.
    """

    kind: Kind
    id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]
    environment: Annotated[Environment | None, Field(strict=False)] = None
    authority: Authority = Authority.EXECUTIVE
    type: OperationType | None = None
    requester: KnownId = None
    requester_person: KnownId = None
    emergency: bool | None = None
    age_minutes: int | None = Field(default=None, ge=0)
    tier: int | None = Field(default=None, ge=0, le=3)
    steps: int | None = Field(default=None, ge=0)
    approvers: Persons | None = None
    quorum: int | None = Field(default=None, ge=0)
    assent: bool | None = None
    assented: bool | None = None
    expired: bool | None = None
    rollback_plan: bool | None = None
    checks_passed: bool | None = None
    verdict_passed: bool | None = None
    escalated: bool | None = None
    playbook_emergency: bool | None = None
    undo: bool | None = None

    @classmethod
    def asked(
        cls, ident: str, request: Request, requester: Principal, environments: Iterable[Environment] = ()
    ) -> Self:
        """An operation that is only asked for. `environments` are those of the systems it may change."""
        return cls(
            kind="operation",
            id=ident,
            environment=weightiest(environments),
            authority=request.authority,
            type=request.type,
            requester=requester.id,
            requester_person=requester.person,
            emergency=request.emergency,
            rollback_plan=request.rollback_plan is not None,
        )

    @classmethod
    def of(cls, op: Operation, at: datetime, environments: Iterable[Environment] = ()) -> Self:
        """An operation as the ledger knows it at the time `at`.

        Before the start an approval counts while it is valid; after the start what counted then counts on. The tier is
        unknown until there is a plan.

        Args:
            op: the operation.
            at: the time of asking.
            environments: those of the systems that the plan changes.
        """
        proposal, plan = op.proposal, op.plan
        waiting = op.stage in {Stage.PLANNED, Stage.APPROVED}
        approvers = frozenset(
            each.person
            for each in op.approvals
            if proposal
            and each.plan == proposal.plan
            and (not waiting or each.expires > at)
            and each.person != op.requester.person
        )
        return cls.asked(op.id, op.request, op.requester, environments).model_copy(
            update={
                "age_minutes": max(0, (at - op.requested) // timedelta(minutes=1)),
                "tier": proposal.tier if proposal else None,
                "steps": len(plan.steps) if plan else 0,
                "approvers": approvers,
                "quorum": proposal.quorum + op.extra_quorum if proposal else None,
                "assent": proposal.assent if proposal else None,
                "assented": op.assented,
                "expired": proposal.expires <= at if proposal and waiting else False,
                "checks_passed": op.verdict.checks_passed if op.verdict else _all_passed(op),
                "verdict_passed": op.verdict.passed if op.verdict else False,
                "escalated": op.stage is Stage.ESCALATED,
            }
        )

    def step(self, number: int, direction: Direction, *, playbook_emergency: bool) -> Self:
        """One step of this operation, being done or undone."""
        return self.model_copy(
            update={
                "kind": "step",
                "id": f"{self.id}/{number}",
                "undo": direction is Direction.UNDO,
                "playbook_emergency": playbook_emergency,
            }
        )


def weightiest(environments: Iterable[Environment]) -> Environment | None:
    """The environment that weighs most: production before staging before development."""
    return max(environments, key=list(Environment).index, default=None)


def _all_passed(op: Operation) -> bool:
    checks = [check for check in op.checks if check.direction is Direction.DO]
    return bool(checks) and all(check.passed for check in checks)


class Context(Record):
    """The circumstances of one request. What is left as None is unknown, and a rule that needs it refuses.

    Attributes:
        mode: the run mode in force; unknown counts as the strictest.
        halted: whether the crown has halted everything.
        level: the level an agent acts at; None is its branch's ceiling.
        warranted: whether a warrant for exactly this act was verified.
        passing: whether the verdict that is to be recorded is a pass.
        ruling: the ruling that is to be given.
        overdue_ratifications: how many emergencies of this person were not ratified in time.
    """

    mode: RunMode | None = None
    halted: bool | None = None
    level: int | None = Field(default=None, ge=0, le=10)
    warranted: bool = False
    passing: bool = False
    ruling: Ruling | None = None
    overdue_ratifications: int | None = Field(default=None, ge=0)


class Reason(Record):
    """Why, in words; `article` and `policy` are None when no rule speaks."""

    article: str | None
    policy: str | None
    text: str


class Decision(Record):
    """A yes or a no, with what it rests on.

    Attributes:
        allowed: the answer.
        code: `permitted`; `forbidden`: a rule forbids; `not-permitted`: no rule permits; `undecidable`: a rule could
            not be evaluated, which is a no.
        reasons: at least one.
    """

    allowed: bool
    code: Literal["permitted", "forbidden", "not-permitted", "undecidable"]
    reasons: tuple[Reason, ...] = Field(min_length=1)

    @property
    def articles(self) -> tuple[str, ...]:
        """Ids of the articles it rests on, each once."""
        return tuple(dict.fromkeys(reason.article for reason in self.reasons if reason.article))

    @property
    def policies(self) -> tuple[str, ...]:
        """Ids of the policies it rests on."""
        return tuple(reason.policy for reason in self.reasons if reason.policy)

    @property
    def texts(self) -> tuple[str, ...]:
        """The reasons in words."""
        return tuple(reason.text for reason in self.reasons)

    def raise_if_denied(self) -> Self:
        """Itself, when allowed.

        Raises:
            NotAllowed: with the decision's code, reasons and articles.
        """
        if not self.allowed:
            raise NotAllowed(self.code, *self.texts, articles=self.articles)
        return self
