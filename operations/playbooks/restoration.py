"""A rotation taken back: archived bytes in front of what was written since, while the writer may go on writing.

The log keeps its inode, because a writer may hold it open. It is never truncated: it is made longer in one call, by
exactly the archive's size, so that whoever appends from then on appends behind; then the archive and the bytes written
since are filled in from durable copies, as often as it takes.
"""

import os

from operations.errors import PlaybookFailed
from operations.playbooks.folder import chunks, opened_file, remove, status, write_all, write_at
from operations.playbooks.rotation import LogState, RotatedLog, Rotation, contents, entry, make_fresh, save, verify

_LATE_BYTES = 1 << 20


def restore(folder: int, archives: int, rotation: Rotation) -> Rotation:
    """Put every archived log of the rotation back, and the archives that it had set aside.

    Raises:
        PlaybookFailed: `archive-damaged` before anything is moved.
    """
    undoing = [log for log in rotation.logs if log.state in {LogState.ARCHIVED, LogState.RESTORING}]
    for log in undoing:
        with opened_file(archives, log.archive) as archive:
            verify(archive, log)
    for log in undoing:
        rotation = _restore(folder, archives, rotation, log)
    prefix = f".expired-{rotation.number:06d}."
    for name in os.listdir(archives):
        if name.startswith(prefix):
            os.rename(name, name.removeprefix(prefix), src_dir_fd=archives, dst_dir_fd=archives)
    for log in rotation.logs:
        if log.state is LogState.RESTORED:
            remove(archives, log.archive)
            remove(archives, _tail(rotation, log))
    os.fsync(archives)
    return save(archives, rotation.model_copy(update={"state": "undone"}))


def _tail(rotation: Rotation, log: RotatedLog) -> str:
    return f".{log.log}.{rotation.number:06d}.tail"


def _restore(folder: int, archives: int, rotation: Rotation, log: RotatedLog) -> Rotation:
    with opened_file(archives, log.archive) as archive:
        if status(folder, log.log) is None:
            make_fresh(folder, archives, log.log, archive)
        size = os.fstat(archive).st_size if log.held else log.bytes
        with opened_file(folder, log.log, os.O_RDWR) as live:
            if not _made_longer(archives, rotation, log, live, size):
                rotation = _make_longer(folder, archives, rotation, log, live, size)
            with opened_file(archives, _tail(rotation, log)) as tail:
                position = 0
                for data in contents(archive, compressed=log.compressed, stop=size):
                    position = write_at(live, data, position)
                if position != size:
                    raise PlaybookFailed(
                        "archive-damaged", "An archive became shorter while it was read.", changed=True
                    )
                for data in chunks(tail):
                    position = write_at(live, data, position)
            os.fsync(live)
    done = entry(rotation, log.log).model_copy(update={"state": LogState.RESTORED})
    return save(archives, rotation.with_log(done))


def _make_longer(folder: int, archives: int, rotation: Rotation, log: RotatedLog, live: int, size: int) -> Rotation:
    name = _tail(rotation, log)
    remove(archives, name)
    with opened_file(archives, name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND) as tail:
        copied = _copy_on(live, tail, 0)
        os.fsync(tail)
        os.fsync(archives)
        restoring = entry(rotation, log.log).model_copy(update={"state": LogState.RESTORING})
        rotation = save(archives, rotation.with_log(restoring))
        copied = _copy_on(live, tail, copied)
        os.ftruncate(live, size + copied)
        late = os.pread(live, min(_LATE_BYTES, size), copied).rstrip(b"\0")
        if late:
            with opened_file(folder, log.log, os.O_WRONLY | os.O_APPEND) as end:
                write_all(end, late)
        os.fsync(tail)
    return rotation


def _copy_on(live: int, tail: int, position: int) -> int:
    for data in chunks(live, position):
        write_all(tail, data)
        position += len(data)
    return position


def _made_longer(archives: int, rotation: Rotation, log: RotatedLog, live: int, size: int) -> bool:
    """Whether an interrupted restoration had already made the log longer, so that only filling in remains.

    A log that was not made longer still starts with its tail, and has no hole of zero bytes behind it.
    """
    name = _tail(rotation, log)
    if log.state is not LogState.RESTORING or status(archives, name) is None:
        return False
    with opened_file(archives, name) as tail, opened_file(archives, log.archive) as archive:
        tail_bytes = os.fstat(tail).st_size
        if os.fstat(live).st_size < size + tail_bytes:
            return False
        if _starts_with_file(live, 0, tail) and not _has_hole(live, tail_bytes, size + tail_bytes):
            return _starts_with_archive(live, archive, log, size) and _starts_with_file(live, size, tail)
    return True


def _starts_with_file(live: int, position: int, other: int) -> bool:
    for data in chunks(other):
        if os.pread(live, len(data), position) != data:
            return False
        position += len(data)
    return True


def _starts_with_archive(live: int, archive: int, log: RotatedLog, size: int) -> bool:
    position = 0
    for data in contents(archive, compressed=log.compressed, stop=size):
        if os.pread(live, len(data), position) != data:
            return False
        position += len(data)
    return True


def _has_hole(live: int, start: int, stop: int) -> bool:
    return any(b"\0" in data for data in chunks(live, start, stop))
