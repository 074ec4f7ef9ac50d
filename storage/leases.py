"""Who works on an operation: a lease for some seconds, and an epoch that fences off whoever held it before."""

from typing import Final

from operations.errors import NotFound
from storage.witnessed import Witnessed

MARGIN: Final = 10
"""Seconds after the end of a lease before another worker may claim: whoever held it has certainly stopped by then."""


class Leases(Witnessed):
    """Claims on operations. They order the work; what protects the record is compare-and-set and the epoch."""

    async def claim(self, ident: str, worker: str, seconds: int) -> int | None:
        """Take an operation up for `seconds`: its new epoch, which fences others off; None while another worker has it.

        A lease that ran out counts as held for `MARGIN` seconds more, in which its worker stops what it has in hand.

        Raises:
            NotFound: `unknown-operation`.
        """
        rows = await self._fetch(
            "UPDATE operation SET epoch = epoch + 1, worker = $2, leased_until = now() + $3 * interval '1 second' "
            "WHERE id = $1 AND (worker IS NULL OR worker = $2 OR leased_until < now() - $4 * interval '1 second') "
            "RETURNING epoch",
            ident,
            worker,
            seconds,
            MARGIN,
        )
        if rows:
            epoch: int = rows[0]["epoch"]
            return epoch
        if not await self._fetch("SELECT FROM operation WHERE id = $1", ident):
            raise NotFound("unknown-operation", "There is no operation of that id.")
        return None

    async def renew(self, ident: str, worker: str, epoch: int, seconds: int) -> bool:
        """Prolong a claim; False when another worker has taken over: stop."""
        return bool(
            await self._fetch(
                "UPDATE operation SET leased_until = now() + $4 * interval '1 second' "
                "WHERE id = $1 AND worker = $2 AND epoch = $3 RETURNING id",
                ident,
                worker,
                epoch,
                seconds,
            )
        )

    async def release(self, ident: str, worker: str, epoch: int) -> None:
        """Give a claim back; nothing happens when it is no longer held."""
        await self._fetch(
            "UPDATE operation SET worker = NULL, leased_until = NULL WHERE id = $1 AND worker = $2 AND epoch = $3 "
            "RETURNING id",
            ident,
            worker,
            epoch,
        )
