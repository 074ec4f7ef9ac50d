"""Rotation of the log's key: the next key lies ready, the entry stands, the old private key is destroyed.

The order is what makes it safe to be cut off: a key is on disk before the log can name it, and nothing is destroyed
before the log names another. What is left unfinished is finished by whoever opens the log next.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from operations.errors import Conflict, LedgerUnavailable
from operations.events import LogKeyRotated
from operations.model import Actor, PrincipalId
from storage.signer import Signer
from storage.succession import Rotation


class Rotations:
    """Rotations of one log's key.

    Args:
        signer: holds the keys.
        in_force: reads the id of the key in force from the head of the log.
        record: records the entry as the last of its batch and returns its index.
    """

    def __init__(
        self,
        signer: Signer,
        in_force: Callable[[], Awaitable[str]],
        record: Callable[[LogKeyRotated, Actor], Awaitable[int]],
    ) -> None:
        self._signer = signer
        self._in_force = in_force
        self._record = record
        self._under_way: set[asyncio.Task[Rotation]] = set()

    async def rotate(self, actor: Actor, person: PrincipalId, reason: str, *, compromised: bool) -> Rotation:
        """See `Ledger.rotate_key`. A caller that goes away does not stop it half-way."""
        rotation = asyncio.create_task(self._rotate(actor, person, reason, compromised=compromised))
        self._under_way.add(rotation)
        rotation.add_done_callback(self._under_way.discard)
        return await asyncio.shield(rotation)

    async def close(self) -> None:
        """Wait for those under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _rotate(self, actor: Actor, person: PrincipalId, reason: str, *, compromised: bool) -> Rotation:
        signer = self._signer
        with signer.rotating():
            signer.use(await self._in_force())
            previous, following = signer.key, signer.prepare()
            event = LogKeyRotated(
                previous=previous.text(),
                key=following.text(),
                by=actor.principal,
                person=person,
                reason=reason,
                compromised=compromised,
            )
            index = await self._record(event, actor)
            signer.use(following.key_id.hex())
            try:
                await asyncio.to_thread(signer.finish, previous)
            except (OSError, LedgerUnavailable):
                destroyed = False
            else:
                destroyed = True
        return Rotation(index=index, previous=event.previous, key=event.key, destroyed=destroyed)


def finish(signer: Signer) -> None:
    """Finish what a rotation that stands left undone; a process that is rotating now finishes it itself."""
    if signer.unfinished():
        with contextlib.suppress(Conflict, OSError), signer.rotating():
            signer.finish()
