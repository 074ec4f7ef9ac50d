"""Answers about the rules, the keys and the service itself."""

from typing import Literal

from pydantic import Field

from operations.canonical import Digest, Instant, Record
from operations.model import PrincipalId, PrincipalKind, Role, RunMode, Words


class ArticleView(Record):
    """One article."""

    id: str
    title: str
    text: str
    enforced: bool = Field(description="whether code enforces part of it; otherwise the crown judges")


class ConstitutionView(Record):
    """The constitution in force."""

    digest: Digest
    preamble: str
    articles: tuple[ArticleView, ...]


class AmendmentView(Record):
    """A proposed text."""

    amendment: str
    proposed: Digest
    replaces: Digest
    by: PrincipalId
    reason: str
    at: Instant
    state: Literal["proposed", "in_force", "enacted", "overtaken"] = Field(
        description="overtaken: another amendment came first"
    )
    diff: str | None = Field(default=None, description="unified diff against the text in force")


class Amendments(Record):
    """What was proposed, newest first."""

    items: tuple[AmendmentView, ...]


class HaltView(Record):
    """Whether everything stands still."""

    halted: bool
    index: int = Field(description="the entry that says so")


class KeyView(Record):
    """A key without its secret. `fingerprint` is the first 16 hexadecimal digits of its SHA-256."""

    fingerprint: str
    principal: PrincipalId
    name: str | None = Field(default=None, description="what is kept as their name outside the ledger")
    kind: PrincipalKind
    person: PrincipalId
    roles: tuple[Role, ...]
    created: Instant
    expires: Instant | None
    revoked: Instant | None


class Keys(Record):
    """All keys, newest first."""

    items: tuple[KeyView, ...]


class LogKeyView(Record):
    """A key of the log. It signs the checkpoints from `since` + 1 to `until` + 1 entries."""

    vkey: str = Field(description="the public key as other tools take it")
    id: str = Field(description="eight hexadecimal digits; what entries carry")
    since: int = Field(description="index of the first entry that carries it")
    until: int | None = Field(description="index of the last one; none: it is in force")
    began: Instant
    ended: Instant | None
    person: PrincipalId | None = Field(description="who ended it")
    reason: str | None
    compromised: bool = Field(description="whether it may have been in somebody else's hands when it ended")


class LogKeys(Record):
    """Every key of the log, oldest first."""

    items: tuple[LogKeyView, ...]


class KeyRotation(Record):
    """The order to replace the log's key."""

    reason: Words
    compromised: bool = Field(default=False, description="whether the old key may be in somebody else's hands")


class RotationMade(Record):
    """A rotation that stands."""

    index: int = Field(description="the entry that says so; the next one carries the new key")
    previous: str
    key: str
    destroyed: bool = Field(description="whether the previous private key is gone from this home")
    sentences: tuple[str, ...] = Field(description="what it means for those who verify")


class KeyMade(Record):
    """A new key. `key` is shown this once."""

    key: str
    fingerprint: str
    principal: PrincipalId
    expires: Instant | None


class WitnessView(Record):
    """A witness that the log asks, and how it stands to the log."""

    name: str
    vkey: str
    url: str
    size: int = Field(description="entries of the newest checkpoint that it cosigned; 0: none")
    cosigned: Instant | None = Field(description="when it says it did")
    behind_since: Instant | None = Field(description="time of the first entry that it has not cosigned; none: all are")
    refused: str | None = Field(description="code of what it refuses: rollback, fork or not-consistent")
    seen: int | None = Field(description="the size it says it saw last, where it refuses")
    reasons: tuple[str, ...] = Field(description="why it refuses")
    trouble: str | None = Field(description="why it could not be had just now; known to the process that asks")


class Witnesses(Record):
    """The witnesses of the log."""

    size: int = Field(description="entries of the log")
    quorum: int = Field(description="how many witnesses a checkpoint needs; 0: none")
    cosigned: int | None = Field(description="entries of the newest checkpoint with that quorum; none: there is none")
    asking: bool = Field(description="whether this process is the one that asks them")
    items: tuple[WitnessView, ...]


class HealthCheck(Record):
    """One thing that was looked at."""

    status: Literal["pass", "warn", "fail"]
    output: str


class Health(Record):
    """`application/health+json`."""

    status: Literal["pass", "warn", "fail"]
    summary: str = Field(description="one sentence for people")
    version: str
    checks: dict[str, HealthCheck]


class SelfTest(Record):
    """One question with a known answer, put to the enforcement just now."""

    name: str
    expected: Literal["allowed", "denied"]
    got: Literal["allowed", "denied"]
    code: str
    articles: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the enforcement answered as it must."""
        return self.expected == self.got


class ConstitutionalHealth(Record):
    """Whether the constitution is the one in force and is really enforced."""

    status: Literal["pass", "fail"]
    in_force: Digest
    on_disk: Digest | None = Field(description="digest of the document just read; null when it cannot be read")
    articles: int
    enforced: int = Field(description="articles with an enforced block")
    policies: int
    mode: RunMode
    halted: bool
    self_test: tuple[SelfTest, ...]
    denials_24h: int = Field(description="refusals recorded in the last 24 hours, among the newest 10,000 entries")


class VersionView(Record):
    """What runs here."""

    name: str
    version: str
    api: str


class Me(Record):
    """Who the key says you are."""

    id: PrincipalId
    kind: PrincipalKind
    person: PrincipalId
    roles: tuple[Role, ...]
    constitution: Digest
