"""Answers about the rules, the keys and the service itself."""

from typing import Literal

from pydantic import Field

from operations.canonical import Digest, Instant, Record
from operations.model import PrincipalId, PrincipalKind, Role, RunMode


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
    kind: PrincipalKind
    person: PrincipalId
    roles: tuple[Role, ...]
    created: Instant
    expires: Instant | None
    revoked: Instant | None


class Keys(Record):
    """All keys, newest first."""

    items: tuple[KeyView, ...]


class KeyMade(Record):
    """A new key. `key` is shown this once."""

    key: str
    fingerprint: str
    principal: PrincipalId
    expires: Instant | None


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
