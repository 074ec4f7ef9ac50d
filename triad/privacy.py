"""What is personal: kept outside the ledger behind commitments, shown to few, and erased without touching the tree.

Admins may, in person; and everybody may keep, see and erase what is about themselves. Every act is an entry first.
What a crash leaves between an entry and its deletion is finished by the sweep of `triad.expiry`.
"""

from collections.abc import Mapping
from typing import Final

from operations.canonical import Digest, Record
from operations.errors import Conflict, NotFound
from operations.events import PersonalErased, PersonalRecorded
from operations.model import Principal, PrincipalKind
from operations.policy import Action, Resource
from storage.expiry import Archive
from storage.ledger import Ledger
from storage.personal import Datum, Opening, People, PersonalField, Secret
from triad.law import Law, actor_of

_AT_ONCE: Final = 100
"""Commitments that one entry names; an entry has room for them beside the longest reason."""


class Erased(Record):
    """What an erasure did: the entries that say so, how many commitments they close, and how many values were there."""

    entries: tuple[int, ...]
    commitments: int
    values: int


class Privacy:
    """Keeps, shows and erases what is personal."""

    def __init__(self, ledger: Ledger, law: Law, people: People, archive: Archive) -> None:
        self._ledger = ledger
        self._law = law
        self._people = people
        self._archive = archive

    async def keep(self, principal: Principal, subject: str, values: Mapping[PersonalField, str]) -> tuple[Datum, ...]:
        """Keep values about a subject, in the place of older ones; returns all that is kept about them now.

        Raises:
            NotAllowed: only an admin, or the subject in person.
            Conflict: `erased-meanwhile`.
            LedgerUnavailable: nothing, or not all of it, was kept; to ask again is safe.
        """
        await self._demand(principal, subject)
        for field, value in values.items():
            secret = Secret.of(value)
            event = PersonalRecorded(subject=subject, field=field.value, commitment=secret.commitment)
            index = await self._ledger.note(event, actor_of(principal))
            if not await self._people.keep(event, index, secret):
                raise Conflict("erased-meanwhile", "An erasure, or a newer value, was recorded at the same time.")
        return await self._people.of(subject)

    async def of(self, principal: Principal, subject: str) -> tuple[Datum, ...]:
        """What is kept about a subject.

        Raises:
            NotAllowed: only an admin, or the subject in person.
            NotFound: `nothing-kept`.
        """
        await self._look(principal, subject)
        found = await self._people.of(subject)
        if not found:
            raise NotFound("nothing-kept", "Nothing is kept about them.")
        return found

    async def all(self, principal: Principal) -> tuple[Datum, ...]:
        """What is kept about everybody.

        Raises:
            NotAllowed: only an admin.
        """
        await self._look(principal, None)
        return await self._people.all()

    async def opening(self, principal: Principal, subject: str, field: PersonalField) -> Opening:
        """What proves that a commitment held a value.

        Raises:
            NotAllowed: only an admin, or the subject in person.
            NotFound: `nothing-kept`.
        """
        await self._look(principal, subject)
        return await self._people.opening(subject, field)

    async def erase(self, principal: Principal, subject: str, reason: str) -> Erased:
        """Erase everything that is kept about a subject, for good.

        Every commitment that the ledger records about them is closed, also of values that are being taken in meanwhile.

        Raises:
            NotAllowed: only an admin, or the subject in person.
            NotFound: `nothing-kept`.
        """
        await self._demand(principal, subject)
        entries, values, closed = [], 0, 0
        while standing := (await self._people.standing(subject))[:_AT_ONCE]:
            event = PersonalErased(subject=subject, commitments=standing, by=principal.id, reason=reason)
            entries.append(await self._ledger.note(event, actor_of(principal)))
            values += await self._people.remove(subject, standing)
            closed += len(standing)
        if not entries:
            raise NotFound("nothing-kept", "Nothing is kept about them.")
        return Erased(entries=tuple(entries), commitments=closed, values=values)

    async def erase_evidence(
        self, principal: Principal, digest: Digest, reason: str, subject: str | None = None
    ) -> Erased:
        """Erase one piece of evidence that something personal slipped into.

        Raises:
            NotAllowed: only an admin.
            NotFound: `unknown-evidence`.
            Gone: it was deleted before.
            Conflict: `evidence-needed`: it is the text of a constitution, or its operation has not ended.
        """
        await self._demand(principal, None)
        await self._ledger.stored_evidence(digest)
        await self._unneeded(digest)
        event = PersonalErased(subject=subject, evidence=(digest,), by=principal.id, reason=reason)
        index = await self._ledger.note(event, actor_of(principal))
        done = await self._archive.forget(index)
        self._ledger.forget((digest,))
        if done.kept:
            raise Conflict("evidence-needed", "Something began to need it at the same time.")
        return Erased(entries=(index,), commitments=0, values=1)

    async def _unneeded(self, digest: Digest) -> None:
        held = await self._archive.held(digest)
        if held == "constitution":
            raise Conflict("evidence-needed", "It is the text of a constitution: entries are judged by it.")
        if held is not None:
            raise Conflict("evidence-needed", "It belongs to an operation that has not ended.")

    async def _demand(self, principal: Principal, subject: str | None) -> None:
        self._law.in_force()
        if not _oneself(principal, subject):
            await self._law.demand(principal, Action.MANAGE_KEYS, _people(subject))

    async def _look(self, principal: Principal, subject: str | None) -> None:
        self._law.in_force()
        if not _oneself(principal, subject):
            (await self._law.decide(principal, Action.MANAGE_KEYS, _people(subject))).raise_if_denied()


def _oneself(principal: Principal, subject: str | None) -> bool:
    """Whether a person asks about themselves; a service of theirs is somebody else."""
    return principal.kind is PrincipalKind.PERSON and subject in {principal.id, principal.person}


def _people(subject: str | None) -> Resource:
    return Resource(kind="keys", id=subject or "people")
