"""The log's side of C2SP tlog-tiles: any tile or bundle, full or partial, built from PostgreSQL with one query.

The levels of tiles (0, 8, 16, ...) are among the levels that are stored, so nothing is hashed here. What the committed
head does not contain is not there. Source: https://c2sp.org/tlog-tiles.
"""

from typing import Final

import asyncpg

from operations.errors import LedgerCorrupt, NotFound
from storage.verifier.tiles import HEIGHT, WIDTH, Tile, TileMalformed, check_tile, encode_bundle
from storage.verifier.tree import HASH_SIZE

_HEAD: Final = "(SELECT max(size) FROM ledger_head)"

_LEAVES: Final = (
    f"SELECT {_HEAD} AS size, array_agg(hash ORDER BY idx) AS found FROM ledger_leaf WHERE idx >= $1 AND idx < $2"  # noqa: S608 - fixed parts
)
_NODES: Final = (
    f"SELECT {_HEAD} AS size, array_agg(hash ORDER BY idx) AS found FROM ledger_node "  # noqa: S608 - fixed parts
    "WHERE level = $3 AND idx >= $1 AND idx < $2"
)
_ENTRIES: Final = (
    f"SELECT {_HEAD} AS size, array_agg(entry ORDER BY idx) AS found FROM ledger_leaf WHERE idx >= $1 AND idx < $2"  # noqa: S608 - fixed parts
)


async def tile(connection: asyncpg.Connection, level: int, number: int, width: int = WIDTH) -> bytes:
    """The bytes of a hash tile.

    Args:
        connection: to the ledger's database.
        level: of the tile, 0 for leaf hashes.
        number: the tile's number within its level.
        width: how many hashes; below 256 the tile is partial, and may be full by now.

    Raises:
        NotFound: `unknown-tile`: the committed log is not that large, or no log can have such a tile.
        LedgerCorrupt: a hash is missing although the log is large enough.
    """
    place = _checked(Tile(level, number, width))
    first = number * WIDTH
    if level == 0:
        found = await connection.fetchrow(_LEAVES, first, first + width)
    else:
        found = await connection.fetchrow(_NODES, first, first + width, level * HEIGHT)
    hashes = _complete(place, found)
    if any(len(each) != HASH_SIZE for each in hashes):
        raise LedgerCorrupt(f"A hash of {place.path} is not a SHA-256.")
    return b"".join(hashes)


async def bundle(connection: asyncpg.Connection, number: int, width: int = WIDTH) -> bytes:
    """The bytes of an entry bundle; arguments and errors as of `tile`."""
    place = _checked(Tile(None, number, width))
    first = number * WIDTH
    entries = _complete(place, await connection.fetchrow(_ENTRIES, first, first + width))
    try:
        return encode_bundle(entries)
    except TileMalformed as error:
        raise LedgerCorrupt(f"{place.path} cannot be built: {error}.") from None


def _checked(place: Tile) -> Tile:
    try:
        check_tile(place)
    except TileMalformed:
        raise NotFound("unknown-tile", "No log has such a tile.") from None
    return place


def _complete(place: Tile, row: asyncpg.Record) -> list[bytes]:
    if row["size"] is None or row["size"] < place.end:
        raise NotFound("unknown-tile", "The log is not large enough to have that tile.")
    found: list[bytes] = row["found"] or []
    if len(found) != place.width:
        raise LedgerCorrupt(f"{place.path} has {len(found)} parts in the database; it should have {place.width}.")
    return found
