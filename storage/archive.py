"""Archives: an export whose closed segments are listed with their SHA-256, verified alone, and recorded in the log.

A segment is closed when its tiles are full. The list has only files that never change again, so every list that was
ever recorded can still be checked in the same folder, with `sha256sum -c`. Entries stay in the database.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from operations.canonical import Digest, Record, sha256
from operations.errors import Conflict
from operations.events import SegmentArchived
from storage.export import CHECKPOINT, Exported, Progress, export, quiet
from storage.folder import Folder
from storage.reader import Reader
from storage.source import ExportRefused, Source, asks_witnesses, witnessed
from storage.verifier.checkpoint import MAX_NOTE, Checkpoint, parse_note
from storage.verifier.mirror import Mirror
from storage.verifier.mirror import folder as reading
from storage.verifier.tiles import HEIGHT, WIDTH, Tile, TileMalformed, root_of_edge

SUMS: Final = "SHA256SUMS"
"""The newest list; earlier ones lie in `archived/<end>`."""

_BLOCK: Final = 1 << 20


class Segment(Record):
    """Entries `first` up to, not including, `end` as they lie in an archive."""

    first: int
    end: int
    root: Digest
    archive: Digest
    files: int


async def archive(
    source: Source,
    path: Path,
    first: int,
    verified: Callable[[Path], str | None],
    progress: Progress = quiet,
) -> tuple[Exported, Segment]:
    """Extend the archive in a folder by the segments that were closed since.

    Where the log's policy asks for witnesses, the archive goes as far as they cosigned.

    Args:
        source: the log.
        path: the archive.
        first: end of the last segment that was archived; 0 writes and lists the whole archive anew.
        verified: verifies the folder without us; what it found wrong, or None.
        progress: see `export`.

    Returns:
        What was exported, and what is to be recorded.

    Raises:
        Conflict: `nothing-closed`: no segment was closed since; nothing was written. `export-is-newer`: the folder
            holds more than the witnesses cosigned so far.
        ExportRefused: `archive-unverified`, or as by `export`.
        LedgerUnavailable: the source cannot be read.
        OSError: the folder cannot be written.
    """
    end = await witnessed(source) if asks_witnesses(await source.policy()) else None
    head = Checkpoint.parse(parse_note(await source.checkpoint(end)).text)
    if head.size // WIDTH * WIDTH <= first:
        raise Conflict("nothing-closed", _nothing(first, head.size, cosigned=end is not None))
    exported = await export(source, path, end=end, progress=progress)
    wrong = verified(path)
    if wrong is not None:
        raise ExportRefused("archive-unverified", wrong)
    with Folder(path) as folder:
        return exported, _listed(folder, first, exported)


def _nothing(first: int, size: int, *, cosigned: bool) -> str:
    """Why no segment is left to archive."""
    reach = f"{size} entries are cosigned" if cosigned else f"the log has {size} entries"
    said = f"The log says that entries 0 to {first - 1} were archived" if first else "Nothing was archived yet"
    return f"A segment is closed when its {WIDTH} entries are there. {said}; {reach}."


def _listed(folder: Folder, first: int, exported: Exported) -> Segment:
    """Write the list of what never changes again, of all segments so far."""
    end = exported.size // WIDTH * WIDTH
    note = folder.read(CHECKPOINT, MAX_NOTE)
    if note is None or f"checkpoints/{exported.size}" not in set(folder.files("checkpoints")):
        folder.put(f"checkpoints/{exported.size}", note or b"")
        folder.settle()
    names = [name for name in folder.files() if _lasting(name, end, exported.size)]
    lines = [f"{_digest(folder.path / name)}  {name}\n" for name in sorted(names)]
    text = "".join(lines).encode()
    folder.put(f"archived/{end}", text)
    folder.put(SUMS, text)
    folder.settle()
    return Segment(first=first, end=end, root=_root(folder.path, end), archive=sha256(text), files=len(lines))


def _lasting(name: str, end: int, size: int) -> bool:
    """Whether a file belongs to the closed segments and never changes."""
    if name.startswith("tile/"):
        try:
            tile = Tile.parse(name)
        except TileMalformed:
            return False
        return tile.full and tile.end <= end
    if name.startswith("checkpoints/"):
        stated = name.rpartition("/")[2]
        return stated.isdecimal() and int(stated) <= size
    return name.startswith(("constitutions/", "plans/"))


def _root(path: Path, end: int) -> Digest:
    """The root over the first `end` entries, from the archive's own tiles."""
    mirror = Mirror(reading(path), end)
    rows = []
    level = 0
    while (count := end >> HEIGHT * level) > 0:
        number, width = divmod(count, WIDTH)
        rows.append(mirror.hashes(Tile(level, number, width)) if width else [])
        level += 1
    return root_of_edge(rows).hex()


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


async def last_archived(reader: Reader) -> int:
    """End of the last segment that the log says was archived."""
    end = 0
    after = -1
    while page := await reader.entries(after=after, kinds={"segment.archived"}):
        after = page[-1].index
        end = max(end, *(each.event.end for each in page if isinstance(each.event, SegmentArchived)))
    return end
