"""What a witness remembers: which logs it trusts, what it cosigned, and what they signed that does not fit together.

One SQLite file in the witness's home, never the log's database. Every change is on the disk before the transaction
ends, and one transaction at a time looks and changes, in whatever process it runs.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from operations.errors import LedgerUnavailable
from storage.verifier.checkpoint import Checkpoint, VerifierKey
from storage.verifier.tree import empty_root

MEMORY_FILE: Final = "memory.sqlite"

HISTORY: Final = 4096
"""Cosigned checkpoints kept for each log: a signed one of a size among them with another root is a fork."""

FORKS: Final = 64
"""Forks kept for each log, the first ones: only who has the log's key can make any, and one is enough."""

UNPROVED: Final = 16
"""Unproved checkpoints kept for each log beside its forks: the first half of them for good, and the newest."""

LONGEST_NOTE: Final = 16 * 1024
"""Longest note in bytes that is kept of a cosigned checkpoint; of one with longer extension lines only the root is."""

_WAIT: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE identity (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE log_key (origin TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (origin, key)) STRICT, WITHOUT ROWID;
CREATE TABLE cosigned (
    origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, at INTEGER NOT NULL, note BLOB NOT NULL,
    PRIMARY KEY (origin, size)
) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, finding TEXT NOT NULL, known INTEGER NOT NULL,
    at INTEGER NOT NULL, note BLOB NOT NULL, against BLOB NOT NULL, PRIMARY KEY (origin, size, root)
) STRICT;
"""


class Finding(StrEnum):
    """What a kept note says about its log."""

    FORK = "fork"
    """The log signed two roots of one size: it shows two histories, or somebody else has its key."""
    UNPROVED = "unproved"
    """The log signed it, and nobody has shown that it extends what was cosigned. Anybody can send an honest checkpoint
    with a made-up proof, so this accuses nobody."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A checkpoint that the log signed and that was not cosigned; there is one for each log, size and root.

    Attributes:
        finding: what it says about the log.
        origin: the log.
        size: of the checkpoint.
        root: of the checkpoint.
        known: size of the last cosigned one when it came.
        at: when it came, in seconds since 1970.
        note: the checkpoint with the log's signatures.
        against: of a fork, the note of the same size with another root that the log signed too. Empty where that of the
            empty tree, which nobody signs, is contradicted, or where the note was longer than `LONGEST_NOTE`.
    """

    finding: Finding
    origin: str
    size: int
    root: bytes
    known: int
    at: int
    note: bytes
    against: bytes = b""

    @property
    def digest(self) -> str:
        """SHA-256 of the note."""
        return sha256(self.note).hexdigest()


class Memory:
    """The memory of one witness. Every method but `transaction` runs inside one.

    Raises `LedgerUnavailable` wherever the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    @classmethod
    def create(cls, home: Path, identity: Sequence[str]) -> Self:
        """Make the empty memory of the witness whose keys are `identity`.

        Raises:
            LedgerUnavailable: there is one already, or it cannot be made.
        """
        path = home / MEMORY_FILE
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(_connected(path)) as connection:
                connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                connection.executemany("INSERT INTO identity VALUES (?)", [(key,) for key in identity])
        except FileExistsError as error:
            raise LedgerUnavailable(
                f"{path} is there already, without a key. Its key was taken away, or an init was cut off: if no key of "
                "it was ever handed out remove the file, otherwise make the witness elsewhere under a new name."
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise LedgerUnavailable(f"{path} cannot be made: {error}") from error
        return cls(path)

    @classmethod
    def open(cls, home: Path, identity: Sequence[str]) -> Self:
        """The memory of the witness whose keys are `identity`.

        Raises:
            LedgerUnavailable: it is missing, cannot be read, others can write it, or it is another witness's.
        """
        path = home / MEMORY_FILE
        check_home(home)
        check_memory(home)
        if path.stat().st_mode & 0o077:
            raise LedgerUnavailable(f"Others could read or change {path}. Run: chmod 600 {path}")
        memory = cls(path)
        with memory.transaction():
            known = {str(row[0]) for row in memory._rows("SELECT key FROM identity")}
        if known != set(identity):
            raise LedgerUnavailable(f"{path} is the memory of a witness with other keys.")
        return memory

    def discard(self) -> None:
        """Remove a memory whose witness never had a key."""
        self._path.unlink(missing_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Look and change as one: on the disk when the context ends, or not at all when it ends with an error."""
        try:
            with closing(_connected(self._path)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                self._connection = connection
                try:
                    yield
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                else:
                    connection.execute("COMMIT")
                finally:
                    self._connection = None
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"The witness's memory cannot be used: {error}") from error

    def keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """The trusted keys of a log; none where it is unknown."""
        rows = self._rows("SELECT key FROM log_key WHERE origin = ? ORDER BY key", origin)
        return tuple(VerifierKey.parse(str(row[0])) for row in rows)

    def origins(self) -> tuple[str, ...]:
        """The logs with a trusted key."""
        return tuple(str(row[0]) for row in self._rows("SELECT DISTINCT origin FROM log_key ORDER BY origin"))

    def trust(self, key: VerifierKey) -> None:
        """Trust a key of a log."""
        self._rows("INSERT OR IGNORE INTO log_key VALUES (?, ?)", key.name, key.text())

    def distrust(self, key: VerifierKey) -> None:
        """Trust a key no longer. What was cosigned stays remembered."""
        self._rows("DELETE FROM log_key WHERE origin = ? AND key = ?", key.name, key.text())

    def latest(self, origin: str) -> Checkpoint:
        """The last cosigned checkpoint of a log; that of the empty tree where none was."""
        rows = self._rows("SELECT size, root FROM cosigned WHERE origin = ? ORDER BY size DESC LIMIT 1", origin)
        return Checkpoint(origin, rows[0][0], rows[0][1]) if rows else Checkpoint(origin, 0, empty_root())

    def cosigned_at(self, origin: str) -> int | None:
        """When the last checkpoint of a log was cosigned, in seconds since 1970."""
        rows = self._rows("SELECT at FROM cosigned WHERE origin = ? ORDER BY size DESC LIMIT 1", origin)
        return int(rows[0][0]) if rows else None

    def contradicted(self, head: Checkpoint) -> bytes | None:
        """A note that the log signed for the size of `head` and another root; None where none is known.

        Empty where the root alone is known. Looks at what was cosigned and at what is unproved.
        """
        if head.size == 0:
            return b"" if head.root != empty_root() else None
        rows = self._rows(
            "SELECT note FROM cosigned WHERE origin = ?1 AND size = ?2 AND root <> ?3 UNION ALL "
            "SELECT note FROM evidence WHERE origin = ?1 AND size = ?2 AND root <> ?3 AND finding = ?4 LIMIT 1",
            head.origin,
            head.size,
            head.root,
            Finding.UNPROVED,
        )
        return bytes(rows[0][0]) if rows else None

    def remember(self, head: Checkpoint, at: int, note: bytes) -> bool:
        """Make `head` the last cosigned checkpoint of its log, and forget those that are older than the history.

        Args:
            head: what is cosigned.
            at: when, in seconds since 1970.
            note: it with the log's signatures.

        Returns:
            Whether that shows a fork: something unproved has the same size and another root.
        """
        known = self.latest(head.origin).size
        kept = note if len(note) <= LONGEST_NOTE else b""
        self._rows(
            "INSERT OR REPLACE INTO cosigned VALUES (?, ?, ?, ?, ?)", head.origin, head.size, head.root, at, kept
        )
        self._rows(
            "DELETE FROM cosigned WHERE origin = ?1 AND size < "
            "(SELECT size FROM cosigned WHERE origin = ?1 ORDER BY size DESC LIMIT 1 OFFSET ?2)",
            head.origin,
            HISTORY - 1,
        )
        settled = self._rows(
            "DELETE FROM evidence WHERE origin = ? AND size = ? AND finding = ? RETURNING root, at, note",
            head.origin,
            head.size,
            Finding.UNPROVED,
        )
        for root, came, other in settled:
            if root != head.root:
                self.keep(Evidence(Finding.FORK, head.origin, head.size, root, known, came, other, kept))
        return any(root != head.root for root, _, _ in settled)

    def keep(self, piece: Evidence) -> bool:
        """Keep evidence; False when it is kept already, or there are enough forks of this log.

        Forks and unproved checkpoints have places of their own: neither takes any of the other's.
        """
        forks = self._count(piece.origin, Finding.FORK)
        if piece.finding is Finding.FORK and forks >= FORKS:
            return False
        kept = self._rows(
            "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
            piece.origin,
            piece.size,
            piece.root,
            piece.finding,
            piece.known,
            piece.at,
            piece.note,
            piece.against,
        )
        if self._count(piece.origin, Finding.UNPROVED) > UNPROVED:
            self._rows(
                "DELETE FROM evidence WHERE rowid = "
                "(SELECT rowid FROM evidence WHERE origin = ? AND finding = ? ORDER BY rowid LIMIT 1 OFFSET ?)",
                piece.origin,
                Finding.UNPROVED,
                UNPROVED // 2,
            )
        return bool(kept)

    def evidence(self) -> tuple[Evidence, ...]:
        """Everything that was kept, oldest first."""
        rows = self._rows(
            "SELECT finding, origin, size, root, known, at, note, against FROM evidence ORDER BY at, rowid"
        )
        return tuple(Evidence(Finding(finding), *rest) for finding, *rest in rows)

    def _count(self, origin: str, finding: Finding) -> int:
        rows = self._rows("SELECT count(*) FROM evidence WHERE origin = ? AND finding = ?", origin, finding)
        return int(rows[0][0])

    def _rows(self, sql: str, *arguments: object) -> list[sqlite3.Row]:
        if self._connection is None:
            raise LedgerUnavailable("The witness's memory is asked outside a transaction.")
        return self._connection.execute(sql, arguments).fetchall()


def check_home(home: Path) -> None:
    """Refuse a home into which others can write: who can replace a file there decides what the witness remembers.

    Raises:
        LedgerUnavailable: others can write there, or it cannot be looked at.
    """
    try:
        mode = home.stat().st_mode & 0o7777
    except OSError as error:
        raise LedgerUnavailable(f"{home} cannot be looked at: {error.strerror}") from error
    if mode & 0o022:
        raise LedgerUnavailable(
            f"{home} has mode {mode:04o}: others could replace what is in it. Run: chmod 700 {home}"
        )


def check_memory(home: Path) -> None:
    """Refuse a home with a key and without a memory.

    Raises:
        LedgerUnavailable: the memory is missing.
    """
    path = home / MEMORY_FILE
    if not path.exists():
        raise LedgerUnavailable(
            f"{path} is missing; retire this witness. Without it the key no longer knows what it cosigned and must not "
            "cosign again. Make another witness in an empty folder under a new name, give its key to the logs and to "
            "whoever trusted this one, and have them drop the old key. Only where nothing was cosigned since the file "
            "was copied may the copy be put back."
        )


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT, isolation_level=None)
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA journal_mode = DELETE")
    return connection
