"""Everything that can happen, as one discriminated union.

An operation is the fold of its events. The ones that move are what the transition table in `operations.stages` speaks
about; annotations are recorded beside an operation, or beside none, and move nothing.
"""

import re
from typing import Annotated, ClassVar, Final, Literal

import orjson
from pydantic import BeforeValidator, Field

from operations.canonical import Digest, Instant, Record
from operations.evidence import Effect
from operations.model import (
    Branch,
    Direction,
    Plan,
    PlaybookName,
    Principal,
    PrincipalId,
    Request,
    Role,
    Ruling,
    RunMode,
    Words,
)
from operations.systems import SystemName


def _sentence(value: object) -> object:
    return _clipped(value, SENTENCE_BYTES) if isinstance(value, str) else value


def _sentences(value: object) -> object:
    """As many of the sentences as fit; the last one may be cut."""
    if not isinstance(value, list | tuple):
        return value
    kept, left = [], SENTENCES_BYTES
    for item in value:
        if left <= len(_CUT):
            break
        text = _clipped(item, min(left, SENTENCE_BYTES)) if isinstance(item, str) else item
        kept.append(text)
        left -= len(orjson.dumps(text)) if isinstance(text, str) else 0
    return tuple(kept)


def _clipped(text: str, limit: int) -> str:
    """The text without what JSON cannot carry, cut so that its JSON takes at most `limit` bytes."""
    text = _UNSAFE.sub("\ufffd", text)
    if len(orjson.dumps(text)) - 2 <= limit:
        return text
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(orjson.dumps(text[:middle] + _CUT)) - 2 <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low] + _CUT


SENTENCE_BYTES: Final = 2000
"""Most bytes of JSON that one text of an event takes; an entry has room for 16 KiB in all."""
SENTENCES_BYTES: Final = 5000
_CUT: Final = " [... cut]"
_UNSAFE: Final = re.compile("[\x00\ud800-\udfff]")

Sentence = Annotated[str, BeforeValidator(_sentence)]
"""Text of a person, a model or a system: unsafe characters replaced, cut at 2,000 bytes."""
Sentences = Annotated[tuple[str, ...], BeforeValidator(_sentences)]
"""Reasons in words: cut at 5,000 bytes together."""


class Event(Record):
    """Something that happened. Subclasses fix `kind` (noun.verb) and add what is particular to it."""

    moves: ClassVar[bool] = True
    """Whether the transition table decides about it. False: an annotation, recorded without moving the operation."""

    @property
    def signal(self) -> str:
        """What the transition table looks up: the kind, with `:outcome` where the outcome decides the next stage."""
        kind: str = getattr(self, "kind")  # noqa: B009 - declared by every subclass with its own literal
        return kind


class Annotation(Event):
    """An event that is recorded beside an operation, or beside none, and moves nothing."""

    moves: ClassVar[bool] = False


class OperationRequested(Event):
    """Somebody asked; the operation exists from here on."""

    kind: Literal["operation.requested"] = "operation.requested"
    request: Request
    requester: Principal
    idempotency_key: str | None = None


class PlanProposed(Event):
    """`body` stands apart in the evidence store under the digest `plan`; the ledger puts it back when folding."""

    kind: Literal["plan.proposed"] = "plan.proposed"
    plan: Digest
    version: int
    tier: int = Field(ge=0)
    mode: RunMode
    quorum: int = Field(ge=0)
    assent: bool
    reasons: Sentences
    articles: tuple[str, ...]
    expires: Instant
    summary: Sentence
    sop: str | None = None
    body: Plan | None = Field(default=None, exclude=True)


class PlanRefused(Event):
    """Nothing in the catalogue fits, or policy forbids it; `nearest` names playbooks that come close."""

    kind: Literal["plan.refused"] = "plan.refused"
    code: str
    reasons: Sentences
    articles: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()


class PlanSuperseded(Event):
    """The plan no longer binds (for example another constitution came into force); the operation is planned again."""

    kind: Literal["plan.superseded"] = "plan.superseded"
    plan: Digest
    code: str
    reasons: Sentences


class ApprovalGiven(Event):
    """A person said yes to exactly this plan."""

    kind: Literal["approval.given"] = "approval.given"
    approval: str
    plan: Digest
    approver: PrincipalId
    person: PrincipalId
    reason: Words
    expires: Instant
    channel: str
    articles: tuple[str, ...] = ()


class ApprovalRefused(Event):
    """A person said no to this plan."""

    kind: Literal["approval.refused"] = "approval.refused"
    approval: str
    plan: Digest
    approver: PrincipalId
    person: PrincipalId
    reason: Words
    channel: str
    articles: tuple[str, ...] = ()


class ApprovalWithdrawn(Event):
    """An approver took the yes back before it was used."""

    kind: Literal["approval.withdrawn"] = "approval.withdrawn"
    approval: str
    plan: Digest
    approver: PrincipalId
    reason: Words


class RulingGiven(Event):
    """What the crown decided about a plan or a finished run."""

    kind: Literal["ruling.given"] = "ruling.given"
    ruling: Ruling
    plan: Digest
    reasons: Sentences
    articles: tuple[str, ...] = ()

    @property
    def signal(self) -> str:
        """See `Event.signal`."""
        return f"{self.kind}:{self.ruling.value}"


class OperationApproved(Event):
    """Every approval the plan needs is there; approval is not execution."""

    kind: Literal["operation.approved"] = "operation.approved"
    plan: Digest
    approvals: tuple[str, ...]
    reasons: Sentences
    articles: tuple[str, ...]


class OperationStarted(Event):
    """A worker took the operation up; its epoch fences the workers before it."""

    kind: Literal["operation.started"] = "operation.started"
    plan: Digest
    epoch: int = Field(ge=0)


class WarrantIssued(Event):
    """Code signed the single-use permission for one attempt at one step."""

    kind: Literal["warrant.issued"] = "warrant.issued"
    warrant: str
    step: int
    attempt: int
    direction: Direction
    plan: Digest
    arguments: Digest
    system: SystemName
    expires: Instant


class WarrantDenied(Annotation):
    """The gate refused a step; nothing was done."""

    kind: Literal["warrant.denied"] = "warrant.denied"
    code: str
    reasons: Sentences
    warrant: str | None = None
    step: int | None = None
    attempt: int | None = None
    direction: Direction | None = None
    system: str | None = None


class StepIntent(Event):
    """Recorded together with the consumption of the warrant, before the effect."""

    kind: Literal["step.intent"] = "step.intent"
    warrant: str
    step: int
    attempt: int
    direction: Direction
    playbook: PlaybookName
    system: SystemName
    arguments: Digest
    effect: Effect
    idempotency_key: str
    snapshot: Digest | None = None


class StepDone(Event):
    """The act ended well; the evidence stands apart under its digests."""

    kind: Literal["step.done"] = "step.done"
    warrant: str
    step: int
    attempt: int
    direction: Direction
    changed: bool
    summary: Sentence
    evidence: tuple[Digest, ...]


class StepFailed(Event):
    """The act failed in a known way."""

    kind: Literal["step.failed"] = "step.failed"
    warrant: str
    step: int
    attempt: int
    direction: Direction
    code: str
    changed: bool
    reasons: Sentences
    evidence: tuple[Digest, ...] = ()


class StepSkipped(Event):
    """The executor left out a step that the plan marks as optional."""

    kind: Literal["step.skipped"] = "step.skipped"
    step: int
    reasons: Sentences


class StepInDoubt(Event):
    """An intent without a known outcome: the operation stops and asks."""

    kind: Literal["step.in_doubt"] = "step.in_doubt"
    step: int
    attempt: int
    direction: Direction
    warrant: str
    reasons: Sentences


class StepReconciled(Event):
    """A person, or a probe, settled what happened to a step in doubt."""

    kind: Literal["step.reconciled"] = "step.reconciled"
    step: int
    attempt: int
    direction: Direction
    happened: bool
    by: PrincipalId
    reasons: Sentences

    @property
    def signal(self) -> str:
        """See `Event.signal`."""
        return f"{self.kind}:{self.direction.value}"


class ExecutionFinished(Event):
    """The executor's report; no further step will run forward."""

    kind: Literal["execution.finished"] = "execution.finished"
    outcome: Literal["finished", "stopped", "failed"]
    report: Sentence
    reasons: Sentences = ()


class CheckEvaluated(Event):
    """One post-condition, evaluated by code with read-only means."""

    kind: Literal["check.evaluated"] = "check.evaluated"
    step: int
    direction: Direction
    name: str
    passed: bool
    expected: Sentence
    observed: Sentence


class VerdictGiven(Event):
    """`passed` is `checks_passed and judged_passed`, computed by code."""

    kind: Literal["verdict.given"] = "verdict.given"
    passed: bool
    checks_passed: bool
    judged_passed: bool
    checks: int
    rollback: bool
    reasons: Sentences


class RollbackOrdered(Event):
    """The steps that are to be undone, newest first."""

    kind: Literal["rollback.ordered"] = "rollback.ordered"
    steps: tuple[int, ...]
    reasons: Sentences


class RollbackDone(Event):
    """The undoing ended; `restored` says whether every system equals its snapshot."""

    kind: Literal["rollback.done"] = "rollback.done"
    restored: bool
    reasons: Sentences

    @property
    def signal(self) -> str:
        """See `Event.signal`."""
        return f"{self.kind}:{'restored' if self.restored else 'incomplete'}"


class CancelRequested(Annotation):
    """Somebody asked a running operation to stop after the step in hand; the executor looks for it before each step."""

    kind: Literal["cancel.requested"] = "cancel.requested"
    by: PrincipalId
    reason: Words


class OperationCancelled(Event):
    """Somebody with the right to do so called it off before it ran."""

    kind: Literal["operation.cancelled"] = "operation.cancelled"
    by: PrincipalId
    reason: Words


class OperationExpired(Event):
    """A plan or approval ran out of time, which means no."""

    kind: Literal["operation.expired"] = "operation.expired"
    code: str
    reasons: Sentences


class OperationHalted(Event):
    """The crown's halt stopped this operation where it stood."""

    kind: Literal["operation.halted"] = "operation.halted"
    reasons: Sentences


class OperationResumed(Event):
    """After the crown's release; `to` is the direction that was being worked in."""

    kind: Literal["operation.resumed"] = "operation.resumed"
    to: Direction
    reasons: Sentences

    @property
    def signal(self) -> str:
        """See `Event.signal`."""
        return f"{self.kind}:{self.to.value}"


class EscalationResolved(Event):
    """A crown officer decided what the crown escalated."""

    kind: Literal["escalation.resolved"] = "escalation.resolved"
    ruling: Literal["complete", "rollback", "fail"]
    by: PrincipalId
    person: PrincipalId
    reason: Words

    @property
    def signal(self) -> str:
        """See `Event.signal`."""
        return f"{self.kind}:{self.ruling}"


class AgentDegraded(Annotation):
    """A branch's model failed and the offline rules answered instead; the run mode is lowered."""

    kind: Literal["agent.degraded"] = "agent.degraded"
    role: Branch
    model: str
    fallback: str
    code: str


class AccessDenied(Annotation):
    """A request, decision or act that was refused; nothing else changed."""

    kind: Literal["auth.denied"] = "auth.denied"
    action: str
    code: str
    reasons: Sentences
    articles: tuple[str, ...] = ()


class KeyCreated(Annotation):
    """`fingerprint` is the first 16 hexadecimal digits of the key's SHA-256."""

    kind: Literal["auth.key_created"] = "auth.key_created"
    subject: PrincipalId
    roles: tuple[Role, ...]
    fingerprint: str


class KeyRevoked(Annotation):
    """An API key stopped being valid."""

    kind: Literal["auth.key_revoked"] = "auth.key_revoked"
    subject: PrincipalId
    fingerprint: str


class Genesis(Annotation):
    """Entry 0: what everything after it stands on. Keys are `name: base64 public key`."""

    kind: Literal["genesis"] = "genesis"
    policies: tuple[str, ...]
    keys: tuple[str, ...]
    code_version: str


class ConstitutionProposed(Annotation):
    """The first of the two people an amendment needs."""

    kind: Literal["constitution.proposed"] = "constitution.proposed"
    amendment: str
    previous: Digest = Field(description="the constitution that it would replace")
    proposed: Digest
    by: PrincipalId
    person: PrincipalId
    reason: Words


class ConstitutionAmended(Annotation):
    """The new constitution comes into force with the entry after this one."""

    kind: Literal["constitution.amended"] = "constitution.amended"
    amendment: str
    previous: Digest
    enacted: Digest
    proposer: PrincipalId
    ratifier: PrincipalId
    proposer_person: PrincipalId
    ratifier_person: PrincipalId
    reason: Words


class EmergencyRatified(Annotation):
    """The second person, afterwards, that an emergency's waived approval is owed by."""

    kind: Literal["emergency.ratified"] = "emergency.ratified"
    by: PrincipalId
    person: PrincipalId
    reason: Words


class CrownHalted(Annotation):
    """Everything stops: no warrant is honoured until the release."""

    kind: Literal["crown.halted"] = "crown.halted"
    by: PrincipalId
    reason: Words


class CrownReleased(Annotation):
    """The halt is over."""

    kind: Literal["crown.released"] = "crown.released"
    by: PrincipalId
    reason: Words


class LogKeyRotated(Annotation):
    """The log signs with another key from the next entry on; keys are vkeys, `name+id+base64`.

    The checkpoint over this entry is signed by both keys, so whoever trusts the old one can follow.
    """

    kind: Literal["key.rotated"] = "key.rotated"
    previous: str = Field(max_length=400)
    key: str = Field(max_length=400)
    by: PrincipalId
    person: PrincipalId
    reason: Words
    compromised: bool = Field(default=False, description="whether the previous key may be in somebody else's hands")


class WitnessRefused(Annotation):
    """A witness would not cosign a checkpoint of this log: what it saw before does not agree."""

    kind: Literal["witness.refused"] = "witness.refused"
    witness: str = Field(max_length=200, description="the witness's key name")
    code: str
    size: int = Field(ge=0, description="of the checkpoint that it was asked about")
    seen: int | None = Field(default=None, ge=0, description="the size it says it saw last")
    reasons: Sentences


class SegmentArchived(Annotation):
    """Entries `first` up to, not including, `end` lie verified in an archive; they stay in the ledger too."""

    kind: Literal["segment.archived"] = "segment.archived"
    first: int = Field(ge=0)
    end: int = Field(ge=1)
    root: Digest = Field(description="root of the tree of the first `end` entries")
    archive: Digest = Field(description="SHA-256 of the archive's list of files with their own SHA-256")
    by: PrincipalId


class EvidenceExpired(Annotation):
    """Evidence blobs were deleted because their time was over; their digests stay where they were named."""

    kind: Literal["evidence.expired"] = "evidence.expired"
    digests: tuple[Digest, ...] = Field(min_length=1, max_length=150)
    days: int = Field(ge=1, description="how old a blob of this kind may become")


class PersonalRecorded(Annotation):
    """Something about a person is kept outside; `commitment` is SHA-256(salt || value)."""

    kind: Literal["personal.recorded"] = "personal.recorded"
    subject: PrincipalId
    field: Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$")]
    commitment: Digest


class PersonalErased(Annotation):
    """Values and salts behind these commitments are gone for good; the commitments open no more.

    `evidence` names pieces of evidence that held something personal and go too. `subject` is absent where only evidence
    is erased and nobody's handle is known. The deletion follows the entry.
    """

    kind: Literal["personal.erased"] = "personal.erased"
    subject: PrincipalId | None = None
    commitments: tuple[Digest, ...] = Field(default=(), max_length=150)
    evidence: tuple[Digest, ...] = Field(default=(), max_length=150)
    by: PrincipalId
    reason: Words


class ReportStored(Annotation):
    """An analysis of the log's entries `first` up to, not including, `end` was stored as evidence under its digest."""

    kind: Literal["report.stored"] = "report.stored"
    report: Digest
    first: int = Field(ge=0)
    end: int = Field(ge=0)
    by: PrincipalId


AnyEvent = Annotated[
    OperationRequested
    | PlanProposed
    | PlanRefused
    | PlanSuperseded
    | ApprovalGiven
    | ApprovalRefused
    | ApprovalWithdrawn
    | RulingGiven
    | OperationApproved
    | OperationStarted
    | WarrantIssued
    | WarrantDenied
    | StepIntent
    | StepDone
    | StepFailed
    | StepSkipped
    | StepInDoubt
    | StepReconciled
    | ExecutionFinished
    | CheckEvaluated
    | VerdictGiven
    | RollbackOrdered
    | RollbackDone
    | CancelRequested
    | OperationCancelled
    | OperationExpired
    | OperationHalted
    | OperationResumed
    | EscalationResolved
    | AgentDegraded
    | AccessDenied
    | KeyCreated
    | KeyRevoked
    | Genesis
    | ConstitutionProposed
    | ConstitutionAmended
    | EmergencyRatified
    | CrownHalted
    | CrownReleased
    | LogKeyRotated
    | WitnessRefused
    | SegmentArchived
    | EvidenceExpired
    | PersonalRecorded
    | PersonalErased
    | ReportStored,
    Field(discriminator="kind"),
]
