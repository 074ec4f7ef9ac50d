"""What a step shows, takes, does and proves: the values that pass between playbooks, plans and the ledger."""

from enum import StrEnum

from pydantic import Field

from operations.canonical import Digest, JsonObject, Record, canonical, sha256


class Effect(StrEnum):
    """What may be done after a crash between intent and outcome."""

    READ = "read"
    """Changes nothing; run again."""
    IDEMPOTENT = "idempotent"
    """Running twice equals running once; run again."""
    ONCE_PROBE = "once_probe"
    """`probe` can tell whether it happened; probe, then finish or run."""
    ONCE_BLIND = "once_blind"
    """At most one attempt, ever; in doubt after a crash."""


class EvidenceClass(StrEnum):
    """What the ledger's entries name evidence as, as far as it may expire. Plans and constitutions never do."""

    SNAPSHOT = "snapshot"
    """What a system was like before a step (`step.intent`)."""
    STEP = "step"
    """What a step did (`step.done`, `step.failed`)."""
    REPORT = "report"
    """A stored analysis of the log (`report.stored`)."""


class Preview(Record):
    """What exactly would run. People approve this; its digest must be the same when it runs."""

    commands: tuple[str, ...] = Field(description="argv or SQL, as it will be executed")
    diff: str = Field(default="", description="unified diff, where a file changes")
    basis: JsonObject = Field(default_factory=dict, description="observed facts that the preview rests on")
    blast_radius: str = Field(description="what can be affected, in one sentence")
    undo: str = Field(default="", description="how it is undone, or why it needs no undo")
    estimate: str = Field(default="", description="what was counted or measured just now: sizes, rows, durations")

    @property
    def digest(self) -> Digest:
        """SHA-256 over everything but `estimate`.

        The gate computes the preview again before the step and refuses when the digest differs, so whatever changes by
        itself between approval and execution (counts, sizes, times) belongs into `estimate`, and only what the approval
        rests on belongs into `commands`, `diff` and `basis`.
        """
        return sha256(canonical(self.model_dump(mode="json", exclude={"estimate"})))


class Snapshot(Record):
    """What is needed to undo a step and to compare afterwards; taken before the step."""

    summary: str
    facts: JsonObject = Field(default_factory=dict)


class Outcome(Record):
    """What a step did, as facts."""

    summary: str
    changed: bool
    facts: JsonObject = Field(default_factory=dict)


class Check(Record):
    """One post-condition, evaluated by code with read-only means."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    passed: bool
    expected: str
    observed: str


class Probe(StrEnum):
    """What a probe found out about an interrupted step."""

    HAPPENED = "happened"
    NOT_HAPPENED = "not_happened"
    UNKNOWN = "unknown"
