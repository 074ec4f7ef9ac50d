"""What a folder may become next: the checkpoint it holds against the source's, and its tiles against its entries."""

from collections.abc import Iterable, Iterator
from typing import Final

from storage.folder import Folder
from storage.source import ExportRefused
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, parse_note
from storage.verifier.mirror import Mirror
from storage.verifier.tiles import HEIGHT, WIDTH, Tile, TileMalformed, parse_bundle
from storage.verifier.tree import empty_root

_OURS: Final = frozenset(
    {"tile", "checkpoints", "constitutions", "plans", "proofs", "archived", "SHA256SUMS", "policy"}
)


def held_in(note: bytes | None, folder: Folder) -> Checkpoint:
    """The checkpoint that the folder holds; that of no entries where it holds none."""
    if note is None:
        if {path.name for path in folder.path.iterdir()} - _OURS:
            raise ExportRefused("not-an-export", "The folder holds other files, and no log.", "Name an empty folder.")
        return Checkpoint("nothing", 0, empty_root())
    try:
        return Checkpoint.parse(parse_note(note).text)
    except NoteMalformed as error:
        raise ExportRefused("copy-damaged", f"The folder's checkpoint cannot be read: {error}.") from error


def compare(old: Checkpoint, head: Checkpoint) -> None:
    """Nothing, when the newest checkpoint may extend the held one; whether it does, hashes tell.

    Raises:
        ExportRefused: `another-log`, `log-rolled-back` or `log-forked`.
    """
    if old.size and head.origin != old.origin:
        raise ExportRefused("another-log", f"The folder holds the log {old.origin}; this one is {head.origin}.")
    if head.size < old.size:
        raise ExportRefused(
            "log-rolled-back", f"The folder holds {old.size} entries that were signed for; the log has {head.size} now."
        )
    if head.size == old.size and head.root != old.root:
        raise ExportRefused("log-forked", f"The log's {old.size} entries are not those that the folder holds.")


def partial_paths(size: int) -> Iterator[str]:
    """Paths of the partial tiles and of the partial bundle of a tree."""
    if size % WIDTH:
        yield Tile(None, size // WIDTH, size % WIDTH).path
    yield from (tile.path for tile in edge(size) if tile is not None)


def edge(size: int) -> Iterator[Tile | None]:
    """The partial tile of each level of a tree, None for a level that ends with a full one."""
    level = 0
    while (count := size >> HEIGHT * level) > 0:
        yield Tile(level, count // WIDTH, count % WIDTH) if count % WIDTH else None
        level += 1


def same(mirror: Mirror, tiles: Iterable[tuple[Tile, bytes]]) -> None:
    """Raises `TileMalformed` where a hash tile on the disk is not what its entries make it."""
    for tile, hashes in tiles:
        if b"".join(mirror.hashes(tile)) != hashes:
            raise TileMalformed(f"{tile.path} is not what its entries make it")


def leads(root: bytes, head: Checkpoint) -> None:
    """Raises `TileMalformed` where a root computed from files is not the signed one."""
    if root != head.root:
        raise TileMalformed("it does not lead to the root that was signed")


def parsed(tile: Tile, data: bytes) -> list[bytes]:
    """The entries of a bundle that the source gave.

    Raises:
        ExportRefused: `source-corrupt`.
    """
    try:
        return parse_bundle(data, tile.width)
    except TileMalformed as error:
        raise ExportRefused("source-corrupt", f"The log's {tile.path} cannot be read: {error}.") from error
