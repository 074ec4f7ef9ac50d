"""The constitution: one Markdown document that binds people, code and models, and the file it is read from.

How the document is read and what its digest goes over stands in `operations.articles`, how its rules are asked in
`operations.cedar`, and what its numbers demand in `operations.requirements`.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from operations.articles import MAX_BYTES, Article, Reading, canonical_text, document_digest
from operations.canonical import Digest, sha256
from operations.cedar import Policies, branch_name, enum_value
from operations.errors import ConstitutionChanged, ConstitutionInvalid
from operations.model import Authority, Branch, OperationType, Principal, PrincipalKind, Role, RunMode
from operations.policy import Action, Context, Decision, Reason, Resource
from operations.requirements import Numbers, Requirements, demands, read_numbers
from operations.systems import Environment

__all__ = [
    "Action",
    "Article",
    "Constitution",
    "Context",
    "Decision",
    "Numbers",
    "Reason",
    "Requirements",
    "Resource",
    "Statute",
    "document_digest",
]

SETTLED_NANOSECONDS: Final = 2_000_000_000
"""A file changed less than this ago is read at every use: within one tick of the file system's clock a second change
would leave the same times behind."""

_RESERVED_FOR_PEOPLE: Final = {
    Action.APPROVE: "operation",
    Action.WITHDRAW: "operation",
    Action.AMEND: "constitution",
    Action.RATIFY: "constitution",
    Action.RELEASE: "ledger",
    Action.RECONCILE: "step",
    Action.MANAGE_KEYS: "keys",
}


@dataclass(frozen=True, slots=True, eq=False)
class Constitution:
    """A document that was understood completely.

    Attributes:
        text: its canonical form.
        digest: SHA-256 over the canonical bytes.
        preamble: what stands before the first article.
        articles: in their order.
        numbers: all of them, typed and bounded.
        policies: the rules, parsed once.
    """

    text: str
    digest: Digest
    preamble: str
    articles: tuple[Article, ...]
    numbers: Numbers
    policies: Policies
    _homes: Mapping[str, str]
    _needs: dict[tuple[object, ...], Requirements] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: str | bytes) -> Self:
        """Understand a document, or refuse it.

        Raises:
            ConstitutionInvalid: with the article and the line where there is one.
        """
        text = canonical_text(document)
        reading = Reading(text)
        numbers, homes = read_numbers(reading.toml)
        constitution = cls(
            text=text,
            digest=sha256(text.encode()),
            preamble=reading.preamble,
            articles=reading.articles(),
            numbers=numbers,
            policies=Policies.parse(reading.cedar),
            _homes=homes,
        )
        constitution._refuse_agents_in_power()
        return constitution

    @property
    def policy_ids(self) -> tuple[str, ...]:
        """The ids of all rules, in the document's order."""
        return tuple(policy.id for policy in self.policies)

    def article(self, ident: str) -> Article:
        """The article with that id, for example `article-5`.

        Raises:
            LookupError: there is none.
        """
        for article in self.articles:
            if article.id == ident:
                return article
        raise LookupError("The constitution has no such article.")

    def decide(
        self, principal: Principal, action: Action, resource: Resource, context: Context | None = None
    ) -> Decision:
        """Whether `principal` may do `action` on `resource` in `context`, and why.

        A forbid beats every permit; no permit, a missing fact and an error are a no. The resource's tier, quorum and
        assent are raised to what the numbers demand, never lowered.
        """
        context = context or Context()
        mode = context.mode or RunMode.OBSERVE
        agent = principal.kind is PrincipalKind.AGENT
        ceiling = self.numbers.levels.ceiling_of(branch_name(principal)) if agent else 0
        situation: dict[str, object] = {
            "mode": enum_value("Mode", mode.value),
            "highest_tier": self.numbers.modes.of(mode).highest_tier,
            "most_steps": self.numbers.plans.most_steps,
            "emergency_minutes": self.numbers.emergencies.time_limit_minutes,
            "level": (ceiling if context.level is None else context.level) if agent else 0,
            "ceiling": ceiling,
            "needed": self.numbers.levels.needed_for(action.value) if agent else 0,
            "warranted": context.warranted,
            "passing": context.passing,
        }
        if context.halted is not None:
            situation["halted"] = context.halted
        if context.ruling is not None:
            situation["ruling"] = enum_value("Ruling", context.ruling.value)
        if context.overdue_ratifications is not None:
            situation["overdue_ratifications"] = context.overdue_ratifications
        return self.policies.decide(principal, action, resource, situation, self._raised(resource, mode))

    def requirements(
        self,
        tier: int,
        *,
        mode: RunMode,
        emergency: bool,
        authority: Authority,
        environments: Iterable[Environment],
    ) -> Requirements:
        """What a plan needs before it may start.

        Args:
            tier: the highest among its steps, by the catalogue and the systems' own floors.
            mode: the run mode in force.
            emergency: whether it was declared one.
            authority: the authority that was asked for; it adds and never takes away.
            environments: those of the systems that the plan changes.

        Raises:
            ValueError: there is no such tier.
        """
        return demands(
            self.numbers,
            self._homes,
            tier,
            mode=mode,
            emergency=emergency,
            authority=authority,
            environments=environments,
        )

    def required_rollback_plan(self, kind: OperationType, tier: int) -> bool:
        """Whether a request must carry a rollback plan: one of this type, or whose plan has this tier."""
        rule = self.numbers.rollback_plans
        return kind in rule.types or tier >= rule.from_tier

    def _raised(self, resource: Resource, mode: RunMode) -> dict[str, object]:
        if resource.tier is None:
            return {}
        key = (resource.tier, mode, resource.emergency is True, resource.authority, resource.environment)
        needs = self._needs.get(key)
        if needs is None:
            needs = self._needs[key] = self.requirements(
                resource.tier,
                mode=mode,
                emergency=resource.emergency is True,
                authority=resource.authority,
                environments=() if resource.environment is None else (resource.environment,),
            )
        facts: dict[str, object] = {"tier": needs.tier}
        if resource.quorum is not None:
            facts["quorum"] = max(needs.quorum, resource.quorum)
        if resource.assent is not None:
            facts["assent"] = needs.assent or resource.assent
        if resource.type is not None:
            facts["rollback_plan_needed"] = self.required_rollback_plan(resource.type, needs.tier)
        return facts

    def _refuse_agents_in_power(self) -> None:
        """No amendment gives an agent what is reserved for people: probe each branch, with every role it could hold."""
        for branch in (*(each.value for each in Branch if each is not Branch.PEOPLE), "observer"):
            ident = f"agent:{branch}"
            agent = Principal(id=ident, kind=PrincipalKind.AGENT, roles=frozenset(Role), person=ident)
            for action, kind in _RESERVED_FOR_PEOPLE.items():
                resource = Resource.model_validate({"kind": kind, "id": "any", **_FAVOURABLE})
                if self.decide(agent, action, resource).code != "forbidden":
                    raise ConstitutionInvalid(f"The rules must forbid {action.value} to every agent, and do not.")


_FAVOURABLE: Final = {
    "requester": "somebody",
    "requester_person": "somebody",
    "emergency": False,
    "tier": 0,
    "steps": 1,
    "approvers": frozenset[str](),
    "expired": False,
    "rollback_plan": True,
    "type": OperationType.MAINTENANCE,
}


class _Seen(NamedTuple):
    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Statute:
    """The constitution in force: the document on disk, held against the digest that the ledger says is in force.

    Only file logic stands here. Which digest is in force is for the ledger to say; the caller passes it in.
    """

    def __init__(self, path: Path, constitution: Constitution) -> None:
        self._path = path
        self._constitution = constitution
        self._expected = constitution.digest
        self._seen: _Seen | None = None

    @classmethod
    def load(cls, path: Path, expected_digest: Digest | None) -> Self:
        """Read the document for the first time in this process.

        Args:
            path: the document.
            expected_digest: the digest in force by the ledger; None only when there is no ledger yet.

        Raises:
            ConstitutionInvalid: it cannot be read or enforced.
            ConstitutionChanged: it is not the one in force.
        """
        path = path.resolve()
        document, _ = _read(path)
        digest = document_digest(document)
        if expected_digest is not None and digest != expected_digest:
            raise _changed(expected_digest, digest)
        return cls(path, Constitution.parse(document))

    @property
    def path(self) -> Path:
        """Where the document is, with symbolic links followed."""
        return self._path

    def in_force(self) -> Constitution:
        """The constitution, after looking whether the document on disk still is the one in force.

        Raises:
            ConstitutionChanged: the document is another one.
            ConstitutionInvalid: it cannot be read or enforced.
        """
        if self._constitution.digest == self._expected and self._seen is not None and self._seen == _look(self._path):
            return self._constitution
        self._seen = None
        document, seen = _read(self._path)
        digest = document_digest(document)
        if digest != self._expected:
            raise _changed(self._expected, digest)
        if digest != self._constitution.digest:
            self._constitution = Constitution.parse(document)
        if time.time_ns() - max(seen.modified, seen.changed) > SETTLED_NANOSECONDS:
            self._seen = seen
        return self._constitution

    def expect(self, digest: Digest) -> None:
        """The ledger says that another constitution is in force now; closed until the document on disk is that one."""
        self._expected = digest

    def enact(self, text: str) -> Constitution:
        """Put an amended document in the old one's place: wholly or not at all, with the same permissions.

        Raises:
            ConstitutionInvalid: the text cannot be enforced; the old document stays.
            OSError: it could not be written; the old document stays.
        """
        constitution = Constitution.parse(text)
        _replace(self._path, constitution.text.encode())
        self._constitution, self._expected, self._seen = constitution, constitution.digest, None
        return constitution


def _changed(expected: Digest, found: Digest) -> ConstitutionChanged:
    return ConstitutionChanged(f"In force is the constitution {expected}, but the document on disk is {found}.")


def _seen(status: os.stat_result) -> _Seen:
    return _Seen(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _look(path: Path) -> _Seen | None:
    try:
        return _seen(path.stat())
    except OSError:
        return None


def _read(path: Path) -> tuple[bytes, _Seen]:
    try:
        with path.open("rb") as file:
            before = _seen(os.fstat(file.fileno()))
            document = file.read(MAX_BYTES + 1)
            after = _seen(os.fstat(file.fileno()))
    except OSError as error:
        raise ConstitutionInvalid(f"The document cannot be read: {error.strerror}.") from error
    if before != after:
        raise ConstitutionChanged("The document is being written.")
    return document, after


def _replace(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode & 0o777
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
