"""What a step shows, takes, does and proves: the values that pass between playbooks, plans and the ledger."""

from enum import StrEnum

from pydantic import Field

from operations.canonical import Digest, JsonObject, Record, digest_of


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


class Preview(Record):
    """What exactly would run. People approve this; its digest must be the same when it runs."""

    commands: tuple[str, ...] = Field(description="argv or SQL, as it will be executed")
    diff: str = Field(default="", description="unified diff, where a file changes")
    basis: JsonObject = Field(default_factory=dict, description="observed facts that the preview rests on")
    blast_radius: str = Field(description="what can be affected, in one sentence")
    undo: str = Field(default="", description="how it is undone, or why it needs no undo")

    @property
    def digest(self) -> Digest:
        """SHA-256 over the whole preview."""
        return digest_of(self)


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
