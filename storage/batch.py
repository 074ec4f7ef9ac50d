"""One batch: units composed over a head into leaves, nodes, a new head and its signed checkpoint, and its SQL."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

import asyncpg

from operations.canonical import instant_text
from operations.errors import Conflict, LedgerCorrupt, StageConflict, TriadError, WarrantRefused
from storage.draft import HeadChange, Place, Unit
from storage.nodes import STRIDE
from storage.signer import Signer
from storage.verifier.tree import Frontier, empty_root, leaf_hash

_LOSERS: Final = "TR001"  # the SQLSTATE with which ledger_commit says that some units lost

_APPENDING: Final = 15
_COMMITTING: Final = 36
_APPEND, _COMMIT = (
    f"SELECT {name}({','.join(f'${n + 1}' for n in range(parameters))})"
    for name, parameters in (("ledger_append", _APPENDING), ("ledger_commit", _COMMITTING))
)

_AS_BEFORE: Final = HeadChange()
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

_WORDS: Final = {
    "warrant-used": "The warrant was used before.",
    "halted": "The crown has halted everything.",
    "constitution-changed": "Another constitution is in force than the one this was approved under.",
    "key-stale": "Another key of the log is in force than the one this was signed with.",
    "epoch-stale": "Another worker has taken the operation over.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadRow:
    """The head as a writer needs it; `latest` is the last entry's time, `key` the id of the log's key in force."""

    frontier: Frontier
    root: bytes
    constitution: str
    key: str
    halted: bool
    latest: datetime

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """The head in a row of `ledger_lock` or `ledger_turn`; NULLs mean the empty ledger.

        Raises:
            LedgerCorrupt: the stored frontier does not belong to the stored size.
        """
        if row["o_size"] is None:
            return cls(frontier=Frontier(), root=empty_root(), constitution="", key="", halted=False, latest=_NEVER)
        try:
            frontier = Frontier.decode(row["o_size"], row["o_frontier"])
        except ValueError as error:
            raise LedgerCorrupt(f"The head of {row['o_size']} entries has no such frontier.") from error
        return cls(
            frontier=frontier,
            root=frontier.root(),
            constitution=row["o_constitution"],
            key=row["o_key"],
            halted=row["o_halted"],
            latest=row["o_latest"],
        )


@dataclass(frozen=True, slots=True)
class Stale:
    """The head had moved: nothing is written."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Some units lost: nothing is written; the others may be tried again."""

    answers: dict[Unit, TriadError]


class Batch:
    """What one transaction writes. Composing signs the checkpoint; until the commit stands the note stays in here.

    Attributes:
        units: in the order of their entries.
        base: the head it is appended to.
        head: the head it leaves behind.
        token: random; found in the head's row it proves that this very batch was committed.
    """

    __slots__ = ("_arguments", "_places", "base", "head", "token", "units")

    def __init__(self, units: Sequence[Unit], base: HeadRow, signer: Signer) -> None:
        self.units = tuple(units)
        self.base = base
        self.token = os.urandom(16)
        change = units[-1].change or _AS_BEFORE
        constitution = change.constitution or base.constitution
        in_force = constitution if change.genesis else base.constitution
        key = base.key or signer.key_id
        entries, operations, kinds, latest = self._spell(in_force, key)
        hashes = [leaf_hash(entry) for entry in entries]
        frontier, nodes = base.frontier.extend(hashes)
        root = frontier.root()
        self.head = HeadRow(
            frontier=frontier,
            root=root,
            constitution=constitution,
            key=change.key or key,
            halted=base.halted if change.halted is None else change.halted,
            latest=latest,
        )
        note = signer.sign(frontier.size, root, after=(base.size, base.root), key=key, following=change.key)
        self._arguments: tuple[object, ...] = (
            *(base.size, self.token, b"\n".join(entries), b"".join(hashes), "\n".join(operations), "\n".join(kinds)),
            *_columns([node for node in nodes if not node.level % STRIDE], 3),
            *(frontier.encode(), latest, root, note, key),
        )
        if any(unit.standing or unit.creation or unit.evidence or unit.change or unit.consumption for unit in units):
            self._arguments += (
                *(change.constitution, change.halted, change.key),
                *self._rows(),
                change.replaces,
                *_columns({digest: body for unit in units for digest, body in unit.evidence}.items(), 2),
            )

    def _spell(self, constitution: str, key: str) -> tuple[list[bytes], list[str], list[str], datetime]:
        """The entries, operations and kinds of the units, and the last entry's time; notes the units' places."""
        in_force, signing = constitution.encode("ascii"), key.encode("ascii")
        entries: list[bytes] = []
        operations: list[str] = []
        kinds: list[str] = []
        self._places: list[Place] = []
        index, latest = self.base.size, self.base.latest
        time = instant_text(latest).encode("ascii")
        for unit in self.units:
            self._places.append(Place(index, constitution))
            for draft in unit.drafts:
                if draft.at > latest:
                    latest = draft.at
                    time = instant_text(latest).encode("ascii")
                entries.append(draft.encode(index, in_force, signing, time))
                operations.append(draft.operation or "")
                kinds.append(draft.kind)
                index += 1
        return entries, operations, kinds, latest

    def _rows(self) -> tuple[tuple[object, ...] | None, ...]:
        moved: dict[str, tuple[object, ...]] = {}
        created: list[tuple[object, ...]] = []
        consumed: list[tuple[object, ...]] = []
        for unit in self.units:
            if (row := unit.standing) is not None:
                first = moved.get(row.operation)  # units of one operation follow upon one another
                start = first[1] if first else row.from_version
                epoch = row.epoch if row.epoch is not None or not first else first[5]
                moved[row.operation] = (row.operation, start, row.to_version, row.stage, row.tier, epoch, row.at)
            if (new := unit.creation) is not None:
                created.append((new.operation, new.requester, new.type, new.emergency, new.at))
            if (used := unit.consumption) is not None:
                consumed.append((used.warrant, used.operation, used.constitution))
        return (*_columns(moved.values(), 7), *_columns(created, 5), *_columns(consumed, 3))

    async def send(self, connection: asyncpg.Connection, seconds: float, *, last: bool = False) -> Stale | Lost | None:
        """Write the batch in one round trip; None when it stands. `last` gives the session's turn up if it stands.

        Raises:
            asyncpg.PostgresError: anything but lost units; whether it stands is unknown when the connection is gone.
            TimeoutError: no answer within `seconds`; whether it stands is unknown.
        """
        sql = _APPEND if len(self._arguments) == _APPENDING - 1 else _COMMIT
        try:
            stands = await connection.fetchval(sql, last, *self._arguments, timeout=seconds)
        except asyncpg.PostgresError as error:
            if error.sqlstate != _LOSERS:
                raise
            return Lost(self._losers(error))
        return None if stands else Stale()

    async def stands(self, connection: asyncpg.Connection) -> bool:
        """Whether the store's head at this batch's size is this very batch's."""
        token = await connection.fetchval("SELECT batch FROM ledger_head WHERE size = $1", self.head.size)
        return bool(token == self.token)

    def settle(self) -> None:
        """Tell every caller where its entries stand."""
        for unit, place in zip(self.units, self._places, strict=True):
            unit.settle(place)

    def _losers(self, error: asyncpg.PostgresError) -> dict[Unit, TriadError]:
        lost: dict[Unit, TriadError] = {}
        for loss in json.loads(error.detail):
            for unit in self.units:
                answer = _answer(unit, loss)
                if answer is not None:
                    lost.setdefault(unit, answer)
        return lost


def _columns(rows: Iterable[tuple[object, ...]], width: int) -> tuple[tuple[object, ...] | None, ...]:
    """The rows as columns, all of them NULL when there is no row: that costs nothing to send."""
    return tuple(zip(*rows, strict=True)) or (None,) * width


def _answer(unit: Unit, loss: dict[str, str]) -> TriadError | None:
    code = loss["code"]
    if "key" in loss:  # the whole batch was signed with it
        return Conflict(code, _WORDS[code])
    if "warrant" in loss:
        used = unit.consumption
        return WarrantRefused(code, _WORDS[code]) if used and used.warrant == loss["warrant"] else None
    if "operation" in loss:
        if unit.operation != loss["operation"]:
            return None
        if code == "epoch-stale":  # a unit that asked for no epoch may still stand without the others
            asked = unit.standing is not None and unit.standing.epoch is not None
            return WarrantRefused(code, _WORDS[code]) if asked else None
        return StageConflict(loss["operation"])
    return Conflict(code, _WORDS[code]) if unit.change and unit.change.replaces else None
