"""The report: what was asked, every figure with its count, and what follows from them. Whole numbers only.

Times are milliseconds unless a name says otherwise, shares are per mille, so that the report has canonical bytes and a
digest that anybody who reads the same entries computes again.
"""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from operations.canonical import Digest, Instant, Record
from operations.model import Branch, OperationId, PlaybookName, PrincipalId
from operations.systems import SystemName
from triad.analytics.measures import Durations, Named

DAY: Final = 24 * 3600


class Thresholds(Record):
    """From when on a silence is worth a word, in seconds where nothing else is said."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    requested_seconds: int = Field(default=300, ge=1, le=30 * DAY, description="silence while a plan is to be made")
    planned_seconds: int = Field(default=4 * 3600, ge=1, le=30 * DAY, description="silence while people are to approve")
    approved_seconds: int = Field(
        default=300,
        ge=1,
        le=30 * DAY,
        description="silence while an approved operation whose time has come is to start",
    )
    running_seconds: int = Field(
        default=1800, ge=1, le=30 * DAY, description="silence while an operation runs or is rolled back"
    )
    executed_seconds: int = Field(default=900, ge=1, le=30 * DAY, description="silence while it is to be evaluated")
    evaluated_seconds: int = Field(default=300, ge=1, le=30 * DAY, description="silence while the crown is to rule")
    asked_seconds: int = Field(
        default=3600, ge=1, le=30 * DAY, description="silence of an operation in doubt, escalated or halted"
    )
    intent_seconds: int = Field(default=1800, ge=1, le=30 * DAY, description="age of an act without a known outcome")
    stopped_seconds: int = Field(
        default=900, ge=1, le=30 * DAY, description="least silence of a part of Triad that has work, to say it stopped"
    )
    stopped_times: int = Field(
        default=3, ge=1, le=100, description="and so many times the 99th percentile of its own silences with work"
    )
    stopped_samples: int = Field(default=20, ge=5, le=10_000, description="silences that must be known to say so")
    cosigned_seconds: int = Field(
        default=3600, ge=1, le=30 * DAY, description="age of the newest cosigned head, where there are cosignatures"
    )
    quick_seconds: int = Field(
        default=10, ge=1, le=3600, description="time under which an approver's decision is quick"
    )
    held_entries: int = Field(
        default=500, ge=10, le=1_000_000, description="entries in a row with one time, to say that a clock was set back"
    )


class Scope(Record):
    """What was asked. Entries `first` up to, not including, `end` lie in the range."""

    since: Instant
    until: Instant
    first: int
    end: int
    before: Instant | None = Field(
        default=None, description="where the range begins that this one is compared with; none: no such"
    )
    bucket_seconds: int
    branch: Branch | None = None
    operation: str | None = None
    system: str | None = None
    playbook: str | None = None
    principal: str | None = None


class Outcomes(Record):
    """How operations ended. `success_per_mille` is completed of ended; none when nothing ended."""

    requested: int
    emergencies: int
    ended: int
    by_stage: tuple[Named, ...]
    success_per_mille: int | None = None
    open: int = Field(description="under way at the end of the range")
    checks_failed: int
    verdicts_failed: int


class Runs(Record):
    """How attempts at steps ended."""

    name: str
    done: int
    failed: int
    in_doubt: int
    retries: int
    undone: int
    undo_failed: int
    doing: Durations
    undoing: Durations


class Refusals(Record):
    """Refusals of one kind and code, with the newest as an example."""

    kind: str
    code: str
    n: int
    newest: int
    operation: str | None = None


class ModelTokens(Record):
    """What a branch used of a model; `calls` are entries that name the model."""

    model: str
    branch: str
    calls: int
    input: int
    output: int


class Person(Record):
    """What somebody outside the branches decided. `quick` counts, and says nothing about care."""

    principal: str
    decisions: tuple[Named, ...]
    deciding: Durations
    quick: int


class Slice(Record):
    """What happened in one bucket; buckets in which nothing happened are left out."""

    start: Instant
    entries: int
    requested: int
    ended: int
    completed: int
    refusals: int
    steps: int
    tokens: int


class OpenIntent(Record):
    """An act without a known outcome at the end of the range."""

    operation: str
    index: int
    step: int
    attempt: int
    direction: str
    playbook: str
    system: str
    effect: str
    age: int
    in_doubt: bool


class Silence(Record):
    """How a part of Triad kept writing while work waited for it, and how long it has been silent with work."""

    name: str
    waiting: int = Field(description="operations that wait for it at the end of the range")
    silent: int = Field(description="how long it has been silent while work waited; 0 when nothing waits")
    limit: int = Field(description="longer than this would be said to be stopped")
    n: int
    p50: int
    p99: int
    most: int
    longest: int = Field(description="index of the entry that ended the longest")


class Gap(Record):
    """Something that should have gone on.

    `kind` is operation-silent, operation-waits (for people, a window or a release), intent-open, part-silent,
    time-backward or time-held.
    """

    kind: Literal["operation-silent", "operation-waits", "intent-open", "part-silent", "time-backward", "time-held"]
    sentence: str
    silent: int
    limit: int
    waits_for: str | None = None
    operation: str | None = None
    stage: str | None = None
    part: str | None = None
    index: int | None = Field(default=None, description="of the entry after which nothing came")


class Before(Record):
    """The same figures of the equally long range before."""

    since: Instant
    entries: int
    requested: int
    ended: int
    completed: int
    refusals: int
    steps_failed: int


class Insight(Record):
    """Something that the figures say, in words with numbers.

    Attributes:
        rule: which rule found it; `docs/operations/analytics.md` lists them.
        weight: 4 act now, 3 look soon, 2 worth knowing, 1 for the record.
        sentence: what it says.
        how: how it was computed.
        entries: indexes that show it.
        operations: operations that show it.
    """

    rule: str
    weight: int
    sentence: str
    how: str
    entries: tuple[int, ...] = ()
    operations: tuple[str, ...] = ()


class Report(Record):
    """An analysis of a range of the log. The same entries and thresholds give the same bytes."""

    version: Literal[1] = 1
    origin: str
    scope: Scope
    last: Digest | None = Field(default=None, description="leaf hash of entry `end - 1`: which log this is about")
    thresholds: Thresholds
    entries: int
    kinds: tuple[Named, ...]
    branches: tuple[Named, ...]
    principals: tuple[Named, ...]
    models: tuple[Named, ...]
    types: tuple[Named, ...]
    outcomes: Outcomes
    stays: tuple[Durations, ...] = Field(description="time in each stage, counted when it is left")
    whole: Durations = Field(description="from the request to the end")
    approving: Durations = Field(description="from the plan to its last needed approval")
    playbooks: tuple[Runs, ...]
    systems: tuple[Runs, ...]
    refusals: tuple[Refusals, ...]
    degraded: tuple[Refusals, ...] = Field(description="times that the offline rules answered for a model")
    tokens: tuple[ModelTokens, ...]
    rollbacks: tuple[Named, ...] = Field(description="by what they go back to")
    restored: int
    not_restored: int
    people: tuple[Person, ...]
    halts: int
    halted: int = Field(description="time under the crown's halt")
    slices: tuple[Slice, ...]
    silences: tuple[Silence, ...]
    intents: tuple[OpenIntent, ...]
    gaps: tuple[Gap, ...]
    before: Before | None = None
    insights: tuple[Insight, ...]


class Lease(Record):
    """Who works on an operation, by the claims of this moment: `alive`, `dead` (it ran out), or `none`."""

    operation: str
    state: Literal["alive", "dead", "none"]
    seconds: int | None = Field(default=None, description="until the claim runs out; negative: since it ran out")


class Cosigned(Record):
    """The newest head that a witness cosigned."""

    size: int
    witness: str
    behind: int = Field(description="entries after it")
    age: int = Field(description="milliseconds")
    late: bool


class Live(Record):
    """What only this moment knows; no part of a stored report."""

    leases: tuple[Lease, ...] = Field(description="of the operations whose acts have no known outcome")
    cosigned: Cosigned | None = None


class Analysis(Record):
    """A report, and what this moment adds to it."""

    digest: Digest = Field(description="SHA-256 of the report's RFC 8785 bytes, without fields that are null")
    report: Report
    live: Live
    milliseconds: int = Field(description="that the computation took")


class Question(Record):
    """What is asked: texts as people write them; see `triad.analytics.moments`."""

    since: str | None = Field(default=None, max_length=40, description="24h, 7d, an RFC 3339 time, or begin")
    until: str | None = Field(default=None, max_length=40, description="likewise; now where it is missing")
    branch: Annotated[Branch | None, Field(strict=False)] = None
    operation: OperationId | None = None
    system: SystemName | None = None
    playbook: PlaybookName | None = None
    principal: PrincipalId | None = None
    bucket: str | None = Field(default=None, max_length=10, description="1min, 5min, 15min, 1h, 6h, 1d or 7d")


class StoredReport(Record):
    """A report that was stored: evidence under its digest, and an entry that says so."""

    digest: Digest
    index: int = Field(description="of the entry `report.stored`")
    time: Instant
    first: int
    end: int
    by: str


class StoredReports(Record):
    """Stored reports, newest first."""

    items: tuple[StoredReport, ...]
