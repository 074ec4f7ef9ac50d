"""Tiles: their places, bytes and bounds, the log's own from PostgreSQL, and tiles that lie."""

import os
from collections.abc import Iterable
from pathlib import Path

import asyncpg
import pytest

from operations.errors import LedgerCorrupt, NotFound
from storage import tiles as log_tiles
from storage.ledger import Ledger
from storage.verifier import mirror, tree
from storage.verifier.mirror import Audit, Mirror, TileMissing, audit_tiles, folder
from storage.verifier.tiles import (
    MAX_ENTRY,
    MAX_LEVEL,
    WIDTH,
    Growth,
    Tile,
    TileMalformed,
    bundle_path,
    bundles_of,
    encode_bundle,
    parse_bundle,
    parse_tile,
    tile_path,
    tiles_of,
)
from storage.verifier.tree import Frontier, leaf_hash
from tests.conftest import Database

ENTRIES = [b'{"index":%d}' % at for at in range(70_000)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
BORDERS = (1, 2, 3, 70, 254, 255, 256, 257, 258, 511, 512, 513, 1023, 1024, 1025)


def write(home: Path, entries: list[bytes]) -> Mirror:
    """The whole log of these entries as files."""
    growth = Growth()
    made = growth.add(leaf_hash(entry) for entry in entries) + growth.partial()
    for tile, data in made:
        put(home / tile.path, data)
    for tile in bundles_of(len(entries)):
        put(home / tile.path, encode_bundle(entries[tile.number * WIDTH :][: tile.width]))
    return Mirror(folder(home), len(entries))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def root_of(leaves: Iterable[bytes]) -> bytes:
    return Frontier().extend(leaves)[0].root()


def test_the_specifications_path_of_tile_1234067() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert bundle_path(1234067, 5) == "tile/entries/x001/x234/067.p/5"
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(1, 1000, 255) == "tile/1/x001/000.p/255"
    assert tile_path(2, 999) == "tile/2/999"


def test_the_specifications_tree_of_70_000_leaves() -> None:
    places = list(tiles_of(70_000))
    assert [tile for tile in places if tile.level == 0 and tile.full] == [Tile(0, at) for at in range(273)]
    assert [tile for tile in places if not (tile.level == 0 and tile.full)] == [
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(bundles_of(70_000))[-1].path == "tile/entries/273.p/112"


@pytest.mark.parametrize("size", [0, *BORDERS, 65_535, 65_536, 65_537, 70_000])
def test_a_tree_has_exactly_the_tiles_that_the_definition_gives_it(size: int) -> None:
    expected = []
    for level in range(8):
        hashes = size // 256**level
        expected += [Tile(level, at) for at in range(hashes // 256)]
        if hashes % 256:
            expected.append(Tile(level, hashes // 256, hashes % 256))
    assert list(tiles_of(size)) == expected
    assert all(tile.end <= size for tile in expected)


def test_what_grew_since_an_older_size_is_what_the_older_tree_has_not() -> None:
    sizes = (0, *BORDERS)
    for old in sizes:
        for new in sizes:
            added = set(tiles_of(new)) - set(tiles_of(old)) if new > old else set()
            assert set(tiles_of(new, since=old)) == added
            added = set(bundles_of(new)) - set(bundles_of(old)) if new > old else set()
            assert set(bundles_of(new, since=old)) == added


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 999_999, 1_000_000, 1_234_067, 2**31, 2**55 - 1])
@pytest.mark.parametrize("width", [1, 9, 10, 99, 100, 199, 200, 249, 250, 255, 256])
def test_a_path_comes_back(number: int, width: int) -> None:
    for level in (None, 0):
        tile = Tile(level, number, width if number < 2**55 - 1 else 255)
        assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/000",
        "tile/0/x000/x001/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/8/000",
        "tile/1/x001/x234/x567/x890/x123/x456/789",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/p/1",
        "tile/0/000.P/1",
        "tile/0/000 ",
        "tile/0/000\n",
        "/tile/0/000",
        "tile/0//000",
        "tile/0/../0/000",
        "tile/Entries/000",
        "tile/entries/\u0660\u0660\u0660",
        "tile/\u0660/000",
        "tile/0/" + "x999/" * 7 + "999",
        "x" * 100_000,
    ],
    ids=ascii,
)
def test_any_other_spelling_is_no_path(path: str) -> None:
    with pytest.raises(TileMalformed):
        Tile.parse(path)


@pytest.mark.parametrize(
    "tile",
    [
        Tile(-1, 0),
        Tile(MAX_LEVEL + 1, 0),
        Tile(0, -1),
        Tile(0, 0, 0),
        Tile(0, 0, -1),
        Tile(0, 0, WIDTH + 1),
        Tile(0, 2**55),
        Tile(None, 2**60),
        Tile(7, 0, 128),
        Tile(63, 0, 1),
    ],
    ids=str,
)
def test_a_tile_that_no_tree_can_have_has_no_path(tile: Tile) -> None:
    with pytest.raises(TileMalformed):
        _ = tile.path


def test_a_bundle_comes_back_and_nothing_else_is_one() -> None:
    entries = [b"", b"a", b"x" * MAX_ENTRY]
    data = encode_bundle(entries)
    assert data[:5] == b"\0\0\0\1a"
    assert parse_bundle(data, 3) == entries
    for wrong, width in (
        (data, 2),
        (data, 4),
        (data[:-1], 3),
        (data + b"\0", 3),
        (data + b"\0\0", 3),
        (b"", 1),
        (b"\0", 1),
        (b"\xff\xff" + b"x", 1),
        (b"\1\0" + data[2:], 3),
    ):
        with pytest.raises(TileMalformed):
            parse_bundle(wrong, width)
    for impossible in ([b"x" * (MAX_ENTRY + 1)], [], [b""] * (WIDTH + 1)):
        with pytest.raises(TileMalformed):
            encode_bundle(impossible)


def test_a_tile_of_another_width_is_refused() -> None:
    assert parse_tile(bytes(64), 2) == [bytes(32), bytes(32)]
    for data in (bytes(63), bytes(65), bytes(32), bytes(96), b""):
        with pytest.raises(TileMalformed):
            parse_tile(data, 2)


@pytest.mark.parametrize("size", [0, *BORDERS])
def test_growth_makes_the_tiles_and_the_root_however_it_is_fed(size: int) -> None:
    at_once, one_by_one = Growth(), Growth()
    made = at_once.add(LEAVES[:size])
    single = [each for leaf in LEAVES[:size] for each in one_by_one.add([leaf])]
    assert made == single
    assert {tile for tile, _ in made + at_once.partial()} == set(tiles_of(size))
    assert at_once.partial() == one_by_one.partial()
    assert at_once.root() == one_by_one.root() == root_of(LEAVES[:size])
    for tile, data in made + at_once.partial():
        span = 256 ** (tile.level or 0)
        first = tile.number * WIDTH * span
        parts = [root_of(LEAVES[first + at * span : first + (at + 1) * span]) for at in range(tile.width)]
        assert data == b"".join(parts)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 70_000])
def test_growth_has_the_root_where_the_third_level_begins(size: int) -> None:
    growth = Growth()
    growth.add(LEAVES[:size])
    assert growth.root() == root_of(LEAVES[:size])


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_a_mirror_has_the_entries_the_root_and_every_proof(tmp_path: Path, size: int) -> None:
    copy = write(tmp_path, ENTRIES[:size])
    assert list(copy.entries()) == ENTRIES[:size]
    assert list(copy.entries(size // 2)) == ENTRIES[size // 2 : size]
    assert copy.root() == root_of(LEAVES[:size])
    for at in {0, size // 3, size - 1}:
        assert copy.entry(at) == ENTRIES[at]
        proof = tree.inclusion_proof(at, size, copy.get_node)
        assert tree.verify_inclusion(LEAVES[at], at, size, proof, copy.root())
        proof = tree.consistency_proof(at, size, copy.get_node)
        assert tree.verify_consistency(at, root_of(LEAVES[:at]), size, copy.root(), proof)
    audit = audit_tiles(copy)
    assert (audit.lies, audit.size, audit.finish()) == ([], size, copy.root())
    for level, position in ((0, size), (9, 1), (-1, 0), (0, -1)):
        with pytest.raises(LookupError):
            copy.get_node(level, position)
    with pytest.raises(IndexError):
        copy.entry(size)


def test_an_older_size_reads_the_full_tile_that_replaced_its_partial_one(tmp_path: Path) -> None:
    write(tmp_path, ENTRIES[:300])
    write(tmp_path, ENTRIES[:600])
    for replaced in (Tile(0, 1, 44), Tile(None, 1, 44)):
        (tmp_path / replaced.path).unlink()
    older = Mirror(folder(tmp_path), 300)
    assert older.root() == root_of(LEAVES[:300])
    assert list(older.entries()) == ENTRIES[:300]
    with pytest.raises(TileMissing):
        Mirror(folder(tmp_path), 599).root()
    with pytest.raises(TileMissing):
        list(Mirror(folder(tmp_path), 601).entries())


def test_every_tile_that_lies_is_found(tmp_path: Path) -> None:
    size = 700
    write(tmp_path, ENTRIES[:size])
    for tile in tiles_of(size):
        path = tmp_path / tile.path
        truth = path.read_bytes()
        changed = bytearray(truth)
        changed[-1] ^= 1
        swapped = truth[32:64] + truth[:32] + truth[64:]
        for lie in (bytes(changed), truth[:-32], truth + bytes(32), b"", truth[:-1], swapped):
            if lie == truth:
                continue
            path.write_bytes(lie)
            found = audit_tiles(Mirror(folder(tmp_path), size)).lies
            assert [each.path for each in found] == [tile.path]
        path.unlink()
        (lied,) = audit_tiles(Mirror(folder(tmp_path), size)).lies
        assert "missing" in lied.sentence
        path.write_bytes(truth)
    assert audit_tiles(Mirror(folder(tmp_path), size)).found == 0


def test_more_lies_are_counted_than_kept(tmp_path: Path) -> None:
    audit = Audit(Mirror(folder(tmp_path), 700), keep=1)
    audit.add(ENTRIES[:700])
    audit.finish()
    assert (audit.found, len(audit.lies)) == (4, 1)


def test_a_file_that_is_too_long_or_no_file_is_not_read(tmp_path: Path) -> None:
    copy = write(tmp_path, ENTRIES[:2])
    place = tmp_path / Tile(0, 0, 2).path
    with place.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TileMalformed, match="longer than 64 bytes"):
        copy.root()
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(TileMalformed, match="no ordinary file"):
        copy.root()
    place.unlink()
    place.mkdir()
    with pytest.raises((TileMalformed, OSError)):
        copy.root()
    bundle = tmp_path / Tile(None, 0, 2).path
    with bundle.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TileMalformed, match="longer"):
        list(copy.entries())
    with pytest.raises(TileMissing):
        mirror.read_bounded(bundle / "x", 10)


async def fill(database: Database, size: int) -> None:
    """Put a log of `size` synthetic entries into an empty database, as its superuser."""
    connection = await asyncpg.connect(database.superuser)
    frontier, nodes = Frontier().extend(LEAVES[:size])
    try:
        await connection.copy_records_to_table(
            "ledger_leaf",
            columns=["idx", "entry", "hash", "kind"],
            records=[(at, ENTRIES[at], LEAVES[at], "test") for at in range(size)],
        )
        await connection.copy_records_to_table(
            "ledger_node", records=[tuple(node) for node in nodes if node.level % 4 == 0]
        )
        columns = {
            "size": size,
            "frontier": frontier.encode(),
            "constitution": "c",
            "halted": False,
            "batch": b"b",
            "key": "0" * 8,
        }
        known = {
            row["column_name"]
            for row in await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'ledger_head'"
            )
        }
        columns = {name: value for name, value in columns.items() if name in known}
        marks = ", ".join(f"${at}" for at in range(1, len(columns) + 1))
        await connection.execute(
            f"INSERT INTO ledger_head ({', '.join(columns)}, latest) VALUES ({marks}, now())", *columns.values()
        )
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_the_log_builds_every_tile_and_bundle_of_its_size_and_none_beyond(database: Database) -> None:
    size = 66_100
    await fill(database, size)
    growth = Growth()
    expected = dict(growth.add(LEAVES[:size]) + growth.partial())
    connection = await asyncpg.connect(database.app)
    try:
        some = [tile for tile in expected if tile.level or not tile.full or tile.number in {0, 1, 128, 257}]
        for tile in some:
            assert await log_tiles.tile(connection, tile.level or 0, tile.number, tile.width) == expected[tile]
        full = expected[Tile(0, 3)]
        for width in (1, 100, 255, 256):
            assert await log_tiles.tile(connection, 0, 3, width) == full[: width * 32]
        for place in (Tile(None, 0), Tile(None, 200), Tile(None, 258, 52)):
            data = await log_tiles.bundle(connection, place.number, place.width)
            first = place.number * WIDTH
            assert parse_bundle(data, place.width) == ENTRIES[first : first + place.width]
        for level, number, width in ((0, 258, 53), (0, 258, 256), (0, 259, 1), (1, 1, 3), (2, 0, 2), (3, 0, 1)):
            with pytest.raises(NotFound, match="unknown-tile"):
                await log_tiles.tile(connection, level, number, width)
        for level, number, width in ((-1, 0, 1), (64, 0, 1), (63, 0, 1), (0, -1, 1), (0, 2**62, 1), (0, 0, 0)):
            with pytest.raises(NotFound, match="unknown-tile"):
                await log_tiles.tile(connection, level, number, width)
        for number, width in ((258, 53), (259, 1), (2**70, 256)):
            with pytest.raises(NotFound, match="unknown-tile"):
                await log_tiles.bundle(connection, number, width)
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_a_hole_in_the_database_is_corruption_and_not_absence(database: Database) -> None:
    await fill(database, 600)
    breaker = await asyncpg.connect(database.superuser)
    try:
        await breaker.execute("SET session_replication_role = replica")
        await breaker.execute("DELETE FROM ledger_leaf WHERE idx = 300")
        await breaker.execute("DELETE FROM ledger_node WHERE level = 8 AND idx = 0")
        await breaker.execute("ALTER TABLE ledger_leaf DROP CONSTRAINT ledger_leaf_hash_check")
        await breaker.execute("UPDATE ledger_leaf SET hash = 'short' WHERE idx = 2")
        for level, number, width in ((0, 1, 256), (1, 0, 2), (0, 0, 3)):
            with pytest.raises(LedgerCorrupt):
                await log_tiles.tile(breaker, level, number, width)
        with pytest.raises(LedgerCorrupt):
            await log_tiles.bundle(breaker, 1)
        with pytest.raises(LedgerCorrupt):
            await log_tiles.tile(breaker, 1, 0, 1)
    finally:
        await breaker.close()


@pytest.mark.anyio
async def test_a_log_that_has_not_begun_has_no_tile(database: Database) -> None:
    connection = await asyncpg.connect(database.app)
    try:
        with pytest.raises(NotFound, match="unknown-tile"):
            await log_tiles.tile(connection, 0, 0, 1)
        with pytest.raises(NotFound, match="unknown-tile"):
            await log_tiles.bundle(connection, 0, 1)
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_the_ledger_hands_out_its_tiles(ledger: Ledger) -> None:
    ((index, entry),) = await ledger.raw()
    assert index == 0
    assert await ledger.tile(0, 0, 1) == leaf_hash(entry)
    assert await ledger.bundle(0, 1) == encode_bundle([entry])
    with pytest.raises(NotFound, match="unknown-tile"):
        await ledger.tile(0, 0, 2)
