"""What a witness remembers: which logs it trusts, what it cosigned, and what it refused although it was signed.

One SQLite file in the witness's home, never the log's database. Every change is on the disk before the transaction
ends, and one transaction at a time looks and changes, in whatever process it runs.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from operations.errors import LedgerUnavailable
from storage.verifier.checkpoint import Checkpoint, VerifierKey
from storage.verifier.tree import empty_root

MEMORY_FILE: Final = "memory.sqlite"

HISTORY: Final = 4096
"""Cosigned checkpoints kept for each log: a signed one of a size among them with another root is a fork."""

EVIDENCE: Final = 64
"""Refused requests kept for each log, the first ones: what comes later is counted in the process's log alone."""

_WAIT: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE identity (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE log_key (origin TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (origin, key)) STRICT, WITHOUT ROWID;
CREATE TABLE cosigned (
    origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (origin, size)
) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    origin TEXT NOT NULL, digest TEXT NOT NULL, code TEXT NOT NULL, size INTEGER NOT NULL, known INTEGER NOT NULL,
    at INTEGER NOT NULL, request BLOB NOT NULL, PRIMARY KEY (origin, digest)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A request that the log signed and the witness refused, because it does not agree with what was cosigned before.

    Attributes:
        origin: the log.
        code: why it was refused.
        size: of the signed checkpoint.
        known: size of the last cosigned one.
        at: when it came, in seconds since 1970.
        request: the whole body: old size, proof, signed note.
    """

    origin: str
    code: str
    size: int
    known: int
    at: int
    request: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the request."""
        return sha256(self.request).hexdigest()


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
            raise LedgerUnavailable(f"{path} is there already, of a witness that was here before.") from error
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
        if not path.exists():
            raise LedgerUnavailable(
                f"{path} is missing although the witness's key is there: it no longer knows what it cosigned, so it "
                "must not cosign again. Restore the file if nothing was cosigned since it was copied, or retire this "
                "witness and make another under a new name."
            )
        if path.stat().st_mode & 0o077:
            raise LedgerUnavailable(f"Others could read or change {path}. Run: chmod 600 {path}")
        memory = cls(path)
        with memory.transaction():
            known = {str(row[0]) for row in memory._rows("SELECT key FROM identity")}
        if known != set(identity):
            raise LedgerUnavailable(f"{path} is the memory of a witness with other keys.")
        return memory

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

    def root(self, origin: str, size: int) -> bytes | None:
        """The root that was cosigned at a size; None where none is remembered."""
        rows = self._rows("SELECT root FROM cosigned WHERE origin = ? AND size = ?", origin, size)
        return bytes(rows[0][0]) if rows else None

    def remember(self, head: Checkpoint, at: int) -> None:
        """Make `head` the last cosigned checkpoint of its log, and forget those that are older than the history."""
        self._rows("INSERT OR REPLACE INTO cosigned VALUES (?, ?, ?, ?)", head.origin, head.size, head.root, at)
        self._rows(
            "DELETE FROM cosigned WHERE origin = ?1 AND size < "
            "(SELECT size FROM cosigned WHERE origin = ?1 ORDER BY size DESC LIMIT 1 OFFSET ?2)",
            head.origin,
            HISTORY - 1,
        )

    def keep(self, piece: Evidence) -> bool:
        """Keep evidence; False when it is kept already or there is enough of this log."""
        return bool(
            self._rows(
                "INSERT INTO evidence SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 "
                "WHERE (SELECT count(*) FROM evidence WHERE origin = ?1) < ?8 ON CONFLICT DO NOTHING RETURNING 1",
                piece.origin,
                piece.digest,
                piece.code,
                piece.size,
                piece.known,
                piece.at,
                piece.request,
                EVIDENCE,
            )
        )

    def evidence(self) -> tuple[Evidence, ...]:
        """Everything that was kept, oldest first."""
        rows = self._rows("SELECT origin, code, size, known, at, request FROM evidence ORDER BY rowid")
        return tuple(Evidence(*row) for row in rows)

    def _rows(self, sql: str, *arguments: object) -> list[sqlite3.Row]:
        if self._connection is None:
            raise LedgerUnavailable("The witness's memory is asked outside a transaction.")
        return self._connection.execute(sql, arguments).fetchall()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT, isolation_level=None)
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA journal_mode = DELETE")
    return connection
