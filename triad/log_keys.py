"""The log's own key: an admin replaces it, on the record, and everybody can see from which entry on."""

from typing import Final

from operations.canonical import Record
from operations.model import Principal
from operations.policy import Action, Resource
from storage.ledger import Ledger
from storage.succession import KeyPeriod, Rotation
from triad.law import Law, actor_of

_DISTRUST: Final = (
    "What the old key alone signed proves nothing any more, of whatever size: a thief can sign another, older history.",
    "Believe it only if a witness cosigned it or somebody kept it from before the theft, and the log extends it.",
    "A thief can have signed a rotation to a key of their own: tell verifiers the new key by another way than the log.",
)


class RotationReport(Record):
    """A rotation, and what it means for those who verify the log."""

    rotation: Rotation
    sentences: tuple[str, ...]


class LogKeys:
    """Rotations of the log's key and the history of its keys.

    One admin suffices: the act signs nothing that was not signed before, it is visible to everybody at its index, and
    who fears a thief must not have to wait for a second person.
    """

    def __init__(self, ledger: Ledger, law: Law) -> None:
        self._ledger = ledger
        self._law = law

    async def rotate(self, principal: Principal, reason: str, *, compromised: bool) -> RotationReport:
        """Let the log sign with a new key from the next entry on; the private half of the old one is destroyed.

        Raises:
            NotAllowed: only an admin, in person; the refusal is recorded.
            Conflict: `rotation-under-way`, `no-next-key`, `key-stale`.
            LedgerUnavailable: it was not recorded, or that is not known: the history of keys tells.
        """
        await self._law.demand(principal, Action.MANAGE_KEYS, Resource(kind="keys", id="log"))
        rotation = await self._ledger.rotate_key(
            actor_of(principal), person=principal.person, reason=reason, compromised=compromised
        )
        return RotationReport(rotation=rotation, sentences=aftermath(rotation, compromised=compromised))

    async def history(self) -> tuple[KeyPeriod, ...]:
        """Every key the log ever signed with, oldest first.

        Raises:
            LedgerUnavailable: it cannot be read.
        """
        return await self._ledger.keys()


def aftermath(rotation: Rotation, *, compromised: bool) -> tuple[str, ...]:
    """What others must do and may no longer believe after a rotation, in sentences."""
    size = rotation.index + 1
    found = [
        f"The checkpoint of {size} entries is signed by both keys: who trusts the old one can follow it to the new.",
        f"A checkpoint of more than {size} entries counts only with the new key's signature.",
    ]
    if not rotation.destroyed:
        found.append("The old private key could not be removed from this home yet; the next start tries again.")
    return (*found, *(_DISTRUST if compromised else ()))
