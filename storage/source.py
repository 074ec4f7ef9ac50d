"""Where an export comes from: a database or a mirror of it, and how far it is believed."""

import time
from collections.abc import Sequence
from typing import Final, Protocol

from operations.canonical import Digest
from operations.errors import NotFound, Refusal
from storage.cosignatures import Peer, policy_text
from storage.verifier.checkpoint import NoteMalformed, NoteUnverified
from storage.verifier.policy import NONE, Judged, Policy, PolicyMalformed
from storage.verifier.tiles import HEIGHT, WIDTH, TileMalformed, parse_tile, root_of_edge
from storage.witnessed import Witnessed

WHY: Final = {
    "another-log": 4,
    "log-rolled-back": 4,
    "log-forked": 4,
    "checkpoint-unsigned": 2,
    "quorum-unmet": 2,
    "source-corrupt": 3,
    "archive-unverified": 3,
    "copy-damaged": 6,
    "not-an-export": 6,
}
"""What a command that is refused an export exits with, by the refusal's code: the verifier's own exit codes."""


class ExportRefused(Refusal):
    """What the source gives does not extend what the folder holds, or does not hold together."""


class Source(Protocol):
    """A log to export from.

    Every method raises `NotFound` for what is not there and `LedgerUnavailable` where the log cannot be read.
    """

    async def checkpoint(self, size: int | None = None) -> bytes:
        """The newest signed note, or the one at `size`, with its cosignatures."""

    async def tile(self, level: int, number: int, width: int) -> bytes:
        """A hash tile."""

    async def bundle(self, number: int, width: int) -> bytes:
        """An entry bundle."""

    async def policy(self) -> bytes:
        """The tlog-policy that the log claims for itself: its keys, its witnesses, its quorum."""

    async def constitution(self, digest: Digest) -> bytes:
        """The text of a constitution."""

    async def plan(self, digest: Digest) -> bytes:
        """The canonical bytes of a plan."""

    async def cosigned(self) -> bytes:
        """The newest signed note that the log's own quorum of witnesses cosigned."""


class LedgerSource:
    """The ledger's own database.

    Args:
        reader: of the ledger.
        peers: the witnesses that the log asks.
        needed: how many of them a checkpoint needs.
    """

    def __init__(self, reader: Witnessed, peers: Sequence[Peer] = (), needed: int = 0) -> None:
        self._reader = reader
        self.peers = tuple(peers)
        self.needed = needed
        self._policy: tuple[str, bytes] | None = None
        self.checkpoint = reader.checkpoint
        self.tile = reader.tile
        self.bundle = reader.bundle
        self.constitution = reader.evidence
        self.plan = reader.evidence

    async def cosigned(self) -> bytes:
        """The newest note with the quorum; the newest of all where no quorum is asked for."""
        if not self.needed:
            return await self._reader.checkpoint()
        note = await self._reader.cosigned([peer.key for peer in self.peers], self.needed)
        if note is None:
            raise NotFound("unknown-checkpoint", "No checkpoint has the cosignatures that the policy asks for.")
        return note

    async def policy(self) -> bytes:
        """Every key that the log ever signed with, and the witnesses."""
        key = await self._reader.key_in_force()
        if self._policy is None or self._policy[0] != key:
            keys = [period.key for period in await self._reader.keys()]
            self._policy = key, policy_text(keys, self.peers, self.needed)
        return self._policy[1]


class Trust:
    """Who has to have signed a checkpoint.

    Args:
        claimed: the policy that the source states of itself.
        own: the one that the caller brought; it must be met, and then the claimed one need not be.

    Raises:
        ExportRefused: `source-corrupt`: the claimed policy is none.
    """

    def __init__(self, claimed: bytes, own: Policy | None) -> None:
        try:
            self._policy = own or Policy.parse(claimed)
        except PolicyMalformed as error:
            raise ExportRefused("source-corrupt", f"The log's policy cannot be read: {error}.") from error
        self._demanded = own is not None

    @property
    def asks(self) -> bool:
        """Whether a quorum of witnesses is asked for at all."""
        return self._policy.quorum != NONE

    @property
    def witnesses(self) -> int:
        """How many witnesses are known."""
        return len(self._policy.witnesses)

    def judge(self, note: bytes) -> Judged:
        """Who signed, who cosigned, and whether that is enough.

        Raises:
            ExportRefused: `checkpoint-unsigned`, or `quorum-unmet` by a policy that the caller brought.
        """
        try:
            judged = self._policy.judge(note, int(time.time()))
        except (NoteMalformed, NoteUnverified) as error:
            raise ExportRefused("checkpoint-unsigned", f"A checkpoint is not to be trusted: {error}.") from error
        if self._demanded and not judged.quorum_met:
            raise ExportRefused("quorum-unmet", *judged.missing)
        return judged

    def meets(self, note: bytes) -> bool:
        """Whether a note is signed and its quorum is met."""
        try:
            return self.judge(note).quorum_met
        except ExportRefused:
            return False


async def witnessed(source: Source) -> int:
    """Size of the newest checkpoint that the log's own quorum of witnesses cosigned.

    Raises:
        ExportRefused: `quorum-unmet`: none is, or the log asks for none; `source-corrupt`: it has no policy.
        LedgerUnavailable: the source cannot be read.
    """
    trust = Trust(await source.policy(), None)
    if not trust.asks:
        raise ExportRefused("quorum-unmet", "The log's policy asks for no witness.")
    try:
        judged = trust.judge(await source.cosigned())
    except NotFound as error:
        raise ExportRefused("quorum-unmet", *error.reasons) from error
    if not judged.quorum_met:
        raise ExportRefused("quorum-unmet", *judged.missing)
    return judged.checkpoint.size


def asks_witnesses(policy: bytes) -> bool:
    """Whether a policy asks for a quorum of witnesses.

    Raises:
        ExportRefused: `source-corrupt`: it is none.
    """
    return Trust(policy, None).asks


async def root_at(source: Source, size: int, newest: int) -> bytes:
    """The root over the first `size` entries, as the source's hash tiles have it.

    Args:
        source: the log.
        size: of the tree that is asked about; not 0.
        newest: the size that the log has, which says how wide its tiles are.

    Raises:
        ExportRefused: `source-corrupt`: a tile is missing or malformed.
    """
    rows: list[Sequence[bytes]] = []
    level = 0
    while (count := size >> HEIGHT * level) > 0:
        number, width = divmod(count, WIDTH)
        rows.append((await _edge(source, level, number, newest))[:width] if width else ())
        level += 1
    return root_of_edge(rows)


async def _edge(source: Source, level: int, number: int, newest: int) -> list[bytes]:
    width = min(WIDTH, (newest >> HEIGHT * level) - number * WIDTH)
    try:
        return parse_tile(await source.tile(level, number, width), width)
    except (NotFound, TileMalformed) as error:
        raise ExportRefused("source-corrupt", "The log's hash tiles are not those of its checkpoint.") from error
