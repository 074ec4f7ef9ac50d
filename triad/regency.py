"""The crown officer's acts and the procedures that need two people: halt, release, amendment."""

from operations.canonical import new_id
from operations.constitution import Constitution, Statute
from operations.errors import Conflict, NotFound
from operations.events import ConstitutionAmended, ConstitutionProposed, CrownHalted, CrownReleased
from operations.model import Principal
from operations.policy import Action, Kind, Resource
from storage.ledger import Ledger
from triad.law import Law, actor_of


class Regency:
    """Acts over the whole of Triad rather than over one operation."""

    def __init__(self, ledger: Ledger, statute: Statute, law: Law) -> None:
        self._ledger = ledger
        self._statute = statute
        self._law = law

    async def halt(self, principal: Principal, reason: str) -> int:
        """Stop everything at once: no warrant is honoured until the release. Returns the entry's index.

        Raises:
            NotAllowed: see the articles.
            Conflict: `already-halted`.
        """
        await self._ask(principal, Action.HALT, "ledger")
        if (await self._ledger.head()).halted:
            raise Conflict("already-halted", "Execution is halted already.")
        return await self._ledger.note(CrownHalted(by=principal.id, reason=reason), actor_of(principal))

    async def release(self, principal: Principal, reason: str) -> int:
        """End the halt; only a person may. Returns the entry's index.

        Raises:
            NotAllowed: see the articles.
            Conflict: `not-halted`.
        """
        await self._ask(principal, Action.RELEASE, "ledger")
        if not (await self._ledger.head()).halted:
            raise Conflict("not-halted", "Execution is not halted.")
        return await self._ledger.note(CrownReleased(by=principal.id, reason=reason), actor_of(principal))

    async def propose(self, principal: Principal, text: str, reason: str) -> ConstitutionProposed:
        """Put a new constitution forward; it changes nothing until somebody else ratifies it.

        Raises:
            ConstitutionInvalid: the text cannot be enforced.
            NotAllowed: see the articles.
            Conflict: `nothing-changed`.
        """
        await self._ask(principal, Action.AMEND, "constitution")
        proposed = Constitution.parse(text)
        previous = self._statute.in_force().digest
        if proposed.digest == previous:
            raise Conflict("nothing-changed", "This is the constitution in force.")
        event = ConstitutionProposed(
            amendment=new_id("am"),
            previous=previous,
            proposed=proposed.digest,
            by=principal.id,
            person=principal.person,
            reason=reason,
        )
        await self._ledger.note(event, actor_of(principal), attachments=(proposed.text.encode(),))
        return event

    async def ratify(self, principal: Principal, amendment: str, reason: str) -> Constitution:
        """Bring a proposed constitution into force, as the second person.

        Raises:
            NotAllowed: see the articles; the proposer may not ratify.
            NotFound: `unknown-amendment`.
            Conflict: `amendment-settled`: it was ratified before; `proposal-outdated`: another amendment came first.
        """
        proposal = await self._proposal(amendment)
        await self._ask(principal, Action.RATIFY, "constitution", proposal)
        done = await self._ledger.entries(kinds={"constitution.amended"}, limit=10_000)
        if any(isinstance(e.event, ConstitutionAmended) and e.event.amendment == amendment for e in done):
            raise Conflict("amendment-settled", "This amendment was ratified before.")
        previous = self._statute.in_force()
        if proposal.previous != previous.digest:
            raise Conflict("proposal-outdated", "It was proposed against a constitution that is no longer in force.")
        text = (await self._ledger.evidence(proposal.proposed)).decode()
        enacted = Constitution.parse(text)
        event = ConstitutionAmended(
            amendment=amendment,
            previous=previous.digest,
            enacted=enacted.digest,
            proposer=proposal.by,
            ratifier=principal.id,
            proposer_person=proposal.person,
            ratifier_person=principal.person,
            reason=reason,
        )
        await self._ledger.note(event, actor_of(principal))
        return self._statute.enact(text)

    async def _proposal(self, amendment: str) -> ConstitutionProposed:
        for entry in await self._ledger.entries(kinds={"constitution.proposed"}, limit=10_000):
            if isinstance(entry.event, ConstitutionProposed) and entry.event.amendment == amendment:
                return entry.event
        raise NotFound("unknown-amendment", "There is no such proposal.")

    async def _ask(
        self, principal: Principal, action: Action, kind: Kind, proposal: ConstitutionProposed | None = None
    ) -> None:
        resource = Resource(
            kind=kind,
            id=kind,
            requester=proposal.by if proposal else None,
            requester_person=proposal.person if proposal else None,
        )
        await self._law.demand(principal, action, resource)
