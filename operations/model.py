"""The domain's values: who asks, what is asked for, and the plan that answers it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainSerializer, StringConstraints

from operations.canonical import Digest, Instant, JsonObject, Record, digest_of
from operations.evidence import Effect, Preview
from operations.systems import SystemName

Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]
"""Text written by a person or a model: one to 2,000 characters."""
PlaybookName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", max_length=100)]
PrincipalId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._@:-]{0,99}$")]
OperationId = Annotated[str, StringConstraints(pattern=r"^op_[0-9A-HJKMNP-TV-Z]{26}$")]


class OperationType(StrEnum):
    """What kind of work is asked for."""

    MAINTENANCE = "maintenance"
    DEPLOYMENT = "deployment"
    CONFIGURATION = "configuration"
    MONITORING = "monitoring"
    EMERGENCY = "emergency"
    VALIDATION = "validation"


class Branch(StrEnum):
    """Who acts: one of the four branches, or a person outside them."""

    LEGISLATIVE = "legislative"
    EXECUTIVE = "executive"
    JUDICIAL = "judicial"
    CROWN = "crown"
    PEOPLE = "people"


class Authority(StrEnum):
    """The authority a request asks for. It sets who must act, in addition to what the tier demands; never less."""

    LEGISLATIVE = "legislative"
    EXECUTIVE = "executive"
    JUDICIAL = "judicial"
    CROWN = "crown"


class RunMode(StrEnum):
    """How much goes on without a person. A failing model provider lowers it, never raises it."""

    AUTONOMOUS = "autonomous"
    """Tiers 0 and 1 run without asking."""
    REVIEW = "review"
    """Tier 1 asks for one approver too."""
    OBSERVE = "observe"
    """Only tier 0 runs."""


class PrincipalKind(StrEnum):
    """What sort of actor a principal is."""

    PERSON = "person"
    SERVICE = "service"
    AGENT = "agent"
    SCHEDULER = "scheduler"


class Role(StrEnum):
    """What a principal is allowed to ask for or decide; the constitution's articles give each its meaning."""

    REQUESTER = "requester"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    CROWN_OFFICER = "crown_officer"
    ADMIN = "admin"


Roles = Annotated[frozenset[Role], PlainSerializer(sorted, return_type=list[Role], when_used="json")]


class Principal(Record):
    """An authenticated actor. `person` is the human behind it: two principals of one person are one approver."""

    id: PrincipalId
    kind: PrincipalKind
    roles: Roles = frozenset()
    person: PrincipalId

    @property
    def branch(self) -> Branch:
        """People and services act as people; an agent's id is `agent:BRANCH`."""
        return Branch(self.id.removeprefix("agent:")) if self.kind is PrincipalKind.AGENT else Branch.PEOPLE


def agent_principal(branch: Branch) -> Principal:
    """The principal that stands for one branch's agent."""
    ident = f"agent:{branch.value}"
    return Principal(id=ident, kind=PrincipalKind.AGENT, person=ident)


class Request(Record):
    """Who asks for what. The requester is not in here: it comes from the identity."""

    type: OperationType
    description: Words
    systems: tuple[SystemName, ...] = Field(min_length=1, max_length=20)
    authority: Authority = Authority.EXECUTIVE
    playbook: PlaybookName | None = None
    parameters: JsonObject = Field(default_factory=dict)
    scheduled_time: Instant | None = None
    emergency: bool = False
    rollback_plan: Words | None = None
    validation_criteria: tuple[Words, ...] = Field(default=(), max_length=20)
    mission: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


class Step(Record):
    """One step of a plan. Everything from `tier` on is bound by code, from the catalogue, never from a model's text."""

    number: int = Field(ge=1, le=50)
    playbook: PlaybookName
    system: SystemName
    arguments: JsonObject
    why: Words
    expected_effect: Words
    optional: bool = False
    tier: int = Field(ge=0, le=3)
    effect: Effect
    reversible: bool
    emergency: bool = Field(default=False, description="whether break-glass may use the playbook")
    protects: SystemName | None = Field(default=None, description="the system whose restorable copy this step makes")
    playbook_digest: Digest
    arguments_digest: Digest
    system_digest: Digest
    preview: Preview


class Plan(Record):
    """Ordered steps under one constitution. Its digest is what people approve and warrants are bound to."""

    operation: OperationId
    version: int = Field(ge=1)
    summary: Words
    sop: str | None = Field(default=None, max_length=100)
    steps: tuple[Step, ...] = Field(min_length=1, max_length=50)
    tier: int = Field(ge=0, le=3)
    constitution: Digest
    validation_criteria: tuple[Words, ...] = ()

    @property
    def digest(self) -> Digest:
        """SHA-256 over the plan's canonical bytes."""
        return digest_of(self)

    def step(self, number: int) -> Step:
        """The step with that number; steps are numbered from 1 without gaps."""
        return self.steps[number - 1]


class Direction(StrEnum):
    """Whether a step is being done or undone."""

    DO = "do"
    UNDO = "undo"


class Ruling(StrEnum):
    """What the crown can say. None of them acts on a system."""

    ASSENT = "assent"
    VETO = "veto"
    ESCALATE = "escalate"
    COMPLETE = "complete"
    ROLLBACK = "rollback"
    FAIL = "fail"


class Tokens(Record):
    """Model tokens used for a decision, counted by the provider."""

    input: int = 0
    output: int = 0


class Actor(Record):
    """Who stands behind an event: identity always from code, model and prompt where a model was asked."""

    principal: PrincipalId
    branch: Branch
    model: str | None = None
    prompt: Digest | None = None
    tokens: Tokens | None = None
    trace: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
