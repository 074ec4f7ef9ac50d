"""What goes over the wire besides the domain's own values: bodies that are asked for and answers that are given."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from operations.canonical import Digest, Instant, JsonObject, Record
from operations.events import AnyEvent, ExecutionFinished
from operations.evidence import Effect, Preview
from operations.model import (
    Branch,
    Plan,
    PlaybookName,
    PrincipalId,
    PrincipalKind,
    Request,
    Ruling,
    RunMode,
    Words,
)
from operations.operation import Approval, CheckRecord, Verdict
from operations.stages import Stage
from operations.systems import Environment, SystemKind, SystemName
from storage.verifier.report import Omitted


class ProblemDetails(Record):
    """A no (RFC 9457). `code` never changes its meaning; `type` leads to a page that says what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    reasons: tuple[str, ...] = ()
    articles: tuple[str, ...] = Field(default=(), description="the constitution's articles it rests on")
    field: str | None = Field(default=None, description="dotted name of the input that is wrong")
    in_force: Digest | None = Field(default=None, description="with constitution-mismatch: the constitution in force")
    pinned: Digest | None = Field(default=None, description="with constitution-mismatch: the one that was asked for")


class Reasoned(Record):
    """An act that takes a reason."""

    reason: Words


class Decision(Record):
    """A person's yes or no to exactly one plan."""

    decision: Literal["approve", "deny"]
    reason: Words
    plan_hash: Digest = Field(description="SHA-256 of the plan that was seen, as in the approval's ETag")


class Reconciliation(Record):
    """What a person found out about a step in doubt."""

    happened: bool
    reason: Words


class Resolution(Record):
    """A crown officer's decision on what the crown escalated."""

    ruling: Literal["complete", "rollback", "fail"]
    reason: Words


class Amendment(Record):
    """A new text of the constitution."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=200_000)]
    reason: Words


class Links(Record):
    """Where to go from an operation."""

    self: str
    plan: str
    timeline: str
    events: str
    approval: str


class Who(Record):
    """A principal, as others see it."""

    id: PrincipalId
    kind: PrincipalKind
    person: PrincipalId


class Demands(Record):
    """What the constitution demands of a plan before it may start."""

    tier: int
    mode: RunMode
    quorum: int = Field(description="distinct people, none of them the requester")
    assent: bool
    expires: Instant | None = None
    reasons: tuple[str, ...]
    articles: tuple[str, ...]


class PlanSummary(Record):
    """The plan in hand, in short."""

    digest: Digest
    version: int
    summary: str
    sop: str | None
    demands: Demands


class StepState(Record):
    """Where one step stands."""

    number: int
    playbook: PlaybookName
    system: SystemName
    done: Literal["pending", "issued", "intended", "done", "failed", "in_doubt", "skipped"]
    undone: Literal["issued", "intended", "done", "failed", "in_doubt"] | None = None
    attempts: int
    summary: str


class OperationView(Record):
    """An operation: what was asked for and where it stands."""

    id: str
    stage: Stage
    finished: bool
    version: int
    request: Request
    requester: Who
    requested: Instant
    updated: Instant
    constitution: Digest
    trace: str | None
    plan: PlanSummary | None
    approvals: tuple[Approval, ...]
    missing_approvals: int
    assented: bool
    steps: tuple[StepState, ...]
    execution: ExecutionFinished | None
    checks: tuple[CheckRecord, ...]
    verdict: Verdict | None
    ruling: Ruling | None
    rollback: tuple[int, ...] | None
    reasons: tuple[str, ...]
    code: str | None
    links: Links


class Operations(Record):
    """A page of operations, newest first. The `Link` header leads to the next."""

    items: tuple[OperationView, ...]


class PlanVersion(Record):
    """One of the plans that were proposed for an operation."""

    version: int
    digest: Digest
    proposed: Instant
    model: str | None
    prompt: Digest | None


class PlanView(Record):
    """The plan in hand, whole. Its digest is over the RFC 8785 bytes of `plan`, without fields that are null."""

    operation: str
    digest: Digest
    plan: Plan
    demands: Demands
    versions: tuple[PlanVersion, ...]


class EntryView(Record):
    """One entry of the ledger. `index` is its place in the log, and the id of its event on streams."""

    index: int
    time: Instant
    kind: str
    operation: str | None
    mission: str | None
    branch: Branch
    principal: str
    constitution: Digest
    model: str | None
    prompt: Digest | None
    trace: str | None
    before: Stage | None
    after: Stage | None
    event: AnyEvent


class Entries(Record):
    """Entries, oldest first. The `Link` header leads to the next."""

    items: tuple[EntryView, ...]


class DryRun(Record):
    """What would happen: a plan with its demands, or why there is none. Nothing was recorded as an operation."""

    allowed: bool
    plan: Plan | None = None
    digest: Digest | None = None
    demands: Demands | None = None
    code: str | None = None
    reasons: tuple[str, ...] = ()
    articles: tuple[str, ...] = ()
    nearest: tuple[str, ...] = Field(default=(), description="playbooks that come close")
    model: str
    prompt: Digest
    degraded: bool = Field(description="the branch's model failed and the offline rules answered")


class CardStep(Record):
    """One step as it is shown to who decides."""

    number: int
    playbook: PlaybookName
    system: SystemName
    environment: Environment | None
    tier: int
    effect: Effect
    reversible: bool
    optional: bool
    arguments: JsonObject
    why: str
    expected_effect: str
    preview: Preview


class Yours(Record):
    """What the caller may do about it."""

    may_decide: bool
    code: str
    reasons: tuple[str, ...]
    articles: tuple[str, ...]


class ApprovalSummary(Record):
    """A plan that waits, or waited, for people."""

    id: str
    plan: Digest
    state: Literal["pending", "approved", "ended"]
    stage: Stage
    summary: str
    systems: tuple[SystemName, ...]
    requester: Who
    requested: Instant
    emergency: bool
    tier: int
    quorum: int
    given: int
    missing: int
    expires: Instant
    yours: Yours


class Approvals(Record):
    """A page of approvals, newest first. The `Link` header leads to the next."""

    items: tuple[ApprovalSummary, ...]


class ApprovalCard(ApprovalSummary):
    """Everything that a decision rests on, rendered by code. What is shown is what runs."""

    version: int
    description: str
    authority: str
    mode: RunMode
    sop: str | None
    steps: tuple[CardStep, ...]
    rollback_plan: str | None
    validation_criteria: tuple[str, ...]
    model: str | None = Field(description="the model that planned")
    prompt: Digest | None
    constitution: Digest
    assent: bool
    assented: bool
    approvals: tuple[Approval, ...]
    reasons: tuple[str, ...]
    articles: tuple[str, ...]
    links: Links


class SystemView(Record):
    """A system of the inventory. Where its secrets lie is not shown."""

    name: SystemName
    kind: SystemKind
    owner: str
    environment: Environment
    tier_floor: int
    description: str
    digest: Digest
    playbooks: tuple[PlaybookName, ...] = Field(description="those that fit it")


class Systems(Record):
    """The inventory."""

    items: tuple[SystemView, ...]


class PlaybookView(Record):
    """A playbook of the catalogue."""

    name: PlaybookName
    summary: str
    tier: int
    effect: Effect
    fits: tuple[SystemKind, ...]
    reversible: bool
    emergency: bool
    timeout_seconds: int
    sustain_seconds: int
    keywords: tuple[str, ...]
    arguments: JsonObject = Field(description="JSON schema of the arguments")
    digest: Digest


class Playbooks(Record):
    """The catalogue."""

    items: tuple[PlaybookView, ...]


class LedgerProblem(Record):
    """Something in the ledger that contradicts the rest of it or the rules."""

    index: int | None = Field(description="of the entry; null: the whole log")
    rule: str
    sentence: str


class Cosignature(Record):
    """A witness's word that it saw the checkpoint extend what it saw before."""

    witness: str
    time: Instant | None = Field(description="when it says it did")


class AuditReport(Record):
    """Whether the whole ledger verifies: its root, its signature and what it means."""

    intact: bool
    code: int = Field(
        description="exit code of `triad audit verify`: 0 ok, 2 signature, 3 root, 4 fork, 5 semantics, 6 input"
    )
    size: int | None
    head: str | None = Field(description="root hash that was recomputed and signed")
    first_bad: int | None = Field(description="index of the first entry that contradicts")
    first_bad_rule: str | None = Field(description="the rule that it breaks")
    problems: tuple[LedgerProblem, ...]
    found: int = Field(description="how many problems there are; `problems` holds the first")
    open_steps: int = Field(description="intents without a known outcome")
    omitted: tuple[Omitted, ...] = Field(description="what was left out: `intact` is then so except for that")
    unchecked: tuple[str, ...] = Field(description="what is not known, in sentences")
    signatures: tuple[str, ...] = Field(description="names of the log keys that signed the head")
    cosignatures: tuple[Cosignature, ...] = Field(description="witnesses that cosigned the head")
    quorum: bool = Field(description="whether they are as many as the settings ask for; the newest head may still wait")
    verified: Instant
    intact_since: Instant | None = Field(description="first of the verifications since which nothing was found broken")
    milliseconds: int
