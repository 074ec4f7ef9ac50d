"""A running service, or any server of an export's files, as the source of an export."""

import asyncio
from typing import Final

from api.cli.client import V1, Client, Refused
from operations.canonical import Digest
from operations.errors import Gone, LedgerCorrupt, NotFound
from storage.verifier.tiles import Tile

_GONE: Final = 410
_NOT_THERE: Final = frozenset({404, _GONE})
_CORRUPT: Final = "ledger-corrupt"


class RemoteSource:
    """Reads the paths of tlog-tiles, and those of an export beside them, below a prefix; several at once."""

    def __init__(self, client: Client, prefix: str = f"{V1}/ledger") -> None:
        self._client = client
        self._prefix = prefix

    async def checkpoint(self, size: int | None = None) -> bytes:
        """The newest signed note, or the one at `size`."""
        return await self._get("checkpoint" if size is None else f"checkpoints/{size}")

    async def cosigned(self) -> bytes:
        """The newest signed note that the log's own quorum of witnesses cosigned."""
        return await self._get("cosigned-checkpoint")

    async def tile(self, level: int, number: int, width: int) -> bytes:
        """A hash tile."""
        return await self._get(Tile(level, number, width).path)

    async def bundle(self, number: int, width: int) -> bytes:
        """An entry bundle."""
        return await self._get(Tile(None, number, width).path)

    async def policy(self) -> bytes:
        """What the log claims of its keys and witnesses."""
        return await self._get("policy")

    async def constitution(self, digest: Digest) -> bytes:
        """The text of a constitution."""
        return await self._get(f"constitutions/{digest}.md")

    async def plan(self, digest: Digest) -> bytes:
        """The canonical bytes of a plan."""
        return await self._get(f"plans/{digest}.json")

    async def _get(self, place: str) -> bytes:
        try:
            return await asyncio.to_thread(self._client.content, f"{self._prefix}/{place}")
        except Refused as error:
            if error.problem.get("status") in _NOT_THERE:
                kind = Gone if error.problem.get("status") == _GONE else NotFound
                raise kind(str(error.problem.get("code", "not-found")), *_said(error)) from error
            if error.problem.get("code") == _CORRUPT:
                raise LedgerCorrupt(" ".join(_said(error))) from error
            raise


def _said(error: Refused) -> list[str]:
    return [str(reason) for reason in error.problem.get("reasons", ())] or [error.sentence]
