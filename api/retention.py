"""Bodies and answers about people and their keys, about the end of evidence, and about past constitutions."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from operations.canonical import Digest, Instant, Record
from operations.model import PrincipalId, Role, Words


def _visible(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a character that cannot be seen")
    return text


Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), AfterValidator(_visible)]
"""One line of visible text."""
Email = Annotated[
    str, StringConstraints(pattern=r"^[^\s@]{1,64}@[^\s@]{1,180}$", max_length=245), AfterValidator(_visible)
]


def _outsider(name: str) -> str:
    if name.startswith("agent:") or name in {"triad", "scheduler"}:
        raise ValueError("names what Triad itself acts under")
    if "@" in name:
        raise ValueError(
            "looks like an address, and a handle stands in the ledger for ever and can never be erased; take one that "
            "says nothing, and give the address as `email`, which can be"
        )
    return name


Outsider = Annotated[PrincipalId, AfterValidator(_outsider)]
"""A principal that is no part of Triad itself, under a handle that is no address."""


class NewKey(Record):
    """Whose key is to be made. `person` is the human behind it: two principals of one person are one approver."""

    principal: Outsider
    kind: Literal["person", "service"]
    person: Outsider
    roles: tuple[Role, ...] = Field(max_length=len(Role), description="without one, only the constitution can be read")
    expires: Instant | None = None
    name: Line | None = Field(default=None, description="kept outside the ledger, see /api/v1/people")
    email: Email | None = Field(default=None, description="kept outside the ledger, see /api/v1/people")


class NewPersonal(Record):
    """What is to be kept about somebody; what is left out stays as it is."""

    name: Line | None = None
    email: Email | None = None
    contact: Line | None = None
    new: bool = Field(default=False, description="also about a handle that no key belongs to")


class PersonalValue(Record):
    """One thing that is kept about somebody."""

    field: Literal["name", "email", "contact"]
    value: str
    commitment: Digest = Field(description="what the ledger holds in its place: SHA-256(salt || value)")
    index: int = Field(description="the entry that holds the commitment")


class PersonView(Record):
    """What is kept about somebody, outside the ledger."""

    subject: PrincipalId
    values: tuple[PersonalValue, ...]


class People(Record):
    """Everybody about whom something is kept."""

    items: tuple[PersonView, ...]


class OpeningView(Record):
    """What proves that the ledger's commitment held exactly this value.

    SHA-256 of the salt's 32 bytes followed by the value in UTF-8 is the commitment in entry `index`.
    """

    subject: PrincipalId
    field: Literal["name", "email", "contact"]
    value: str
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    commitment: Digest
    index: int


class ErasureView(Record):
    """What an erasure did."""

    subject: PrincipalId | None = None
    evidence: Digest | None = None
    entries: tuple[int, ...] = Field(description="the entries that say so")
    commitments: int = Field(description="commitments that open no more, values that were replaced before included")
    values: int = Field(description="values, or pieces of evidence, that were deleted just now")


class EvidenceErasure(Record):
    """Why a piece of evidence is to be erased, and whose data it holds where that is known."""

    reason: Words
    subject: PrincipalId | None = None


class ExpiryRun(Record):
    """Whether to let evidence expire, or only to look."""

    dry_run: bool = True


class ExpiredClass(Record):
    """Evidence of one class whose time is over."""

    kind: Literal["snapshot", "step", "report"]
    days: int = Field(description="how old a piece of this class may become")
    pieces: int
    bytes: int


class ExpiryView(Record):
    """What expired, or would."""

    dry_run: bool
    pieces: int
    bytes: int
    classes: tuple[ExpiredClass, ...]


class ConstitutionTerm(Record):
    """A time for which one constitution was in force."""

    digest: Digest
    first: int = Field(description="the first entry under it")
    last: int | None = Field(description="the last entry under it; null while it is in force")
    since: Instant
    amendment: str | None = Field(description="null for the first one, which the genesis brought")
    proposer: PrincipalId | None
    ratifier: PrincipalId | None
    proposed_because: str | None = Field(description="the proposer's reason")
    reason: str | None = Field(description="the ratifier's")
    in_force: bool


class ConstitutionHistory(Record):
    """Every constitution that was ever in force, oldest first; one that came back stands there twice."""

    items: tuple[ConstitutionTerm, ...]


class ConstitutionText(Record):
    """The text of a constitution that is or was in force, or was proposed."""

    digest: Digest
    text: str
