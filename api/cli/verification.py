"""`triad audit verify` and `audit copy`: they trust neither the service nor the database, only keys and hashes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from api.cli.client import Client
from api.cli.exits import Exit, Stop
from api.cli.ledgers import ask_ledger, database_of, entries_of, log_key, remembered, settings_of
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, show_one
from api.cli.profile import REACH, HomeFolder, Reach
from operations.errors import LedgerCorrupt, LedgerUnavailable
from storage.copies import CopyUnreadable, write_copy
from storage.rules import Problem
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, VerifierKey, parse_note
from storage.verify import Code, Report, verify_copy
from storage.verify import verify as verify_entries
from triad.home import Home

_REPORT: Final = (
    Column("verdict", lambda report: "intact" if report["ok"] else f"NOT INTACT (code {report['code']})"),
    Column("log", lambda report: report["origin"]),
    Column("entries", lambda report: report["size"]),
    Column("root", lambda report: report["root"]),
    Column("signed by", lambda report: ", ".join(report["signers"])),
    Column("compared", lambda report: f"with {report['compared']} older checkpoints" if report["compared"] else None),
    Column("meaning", lambda report: "replayed" if report["replayed"] else "not replayed"),
    Column("open steps", lambda report: len(report["open_steps"]) or None),
    Column("problems", lambda report: "\n".join(_problem(each) for each in report["problems"])),
)
_SERVICE: Final = (
    Column("verdict", lambda report: "intact" if report["intact"] else f"NOT INTACT (code {report['code']})"),
    Column("entries", lambda report: report["size"]),
    Column("root", lambda report: report["head"]),
    Column("open steps", lambda report: report["open_steps"] or None),
    Column("problems", lambda report: "\n".join(_problem(each) for each in report["problems"])),
)


def verify(
    folder: Path | None = None,
    /,
    *,
    key: Annotated[tuple[str, ...], Parameter(negative=(), metavar="VKEY", show_default=False)] = (),
    older: Annotated[tuple[Path, ...], Parameter(negative=(), metavar="FILE", show_default=False)] = (),
    semantics: bool = True,
    home: HomeFolder = None,
    remote: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Verify a ledger from its bytes: root, signature, and what the entries mean.

    Exit codes: 0 intact, 2 signature, 3 root, 4 rolled back or forked, 5 meaning, 6 the input cannot be read.

    Args:
        folder: a copy made by `triad audit copy`; without it the database of the home folder is read.
        key: public key of the log, known from elsewhere; otherwise that of the copy, or of the home.
        older: a checkpoint that you kept; the ledger must begin with what it saw.
        semantics: also replay what the entries mean.
        home: the installation's folder.
        remote: let the service verify itself; that shows less, since it is its own witness.
        reach: the service, with --remote.
        shape: of the output.
    """
    if remote:
        return _remote(reach, shape)
    keys = tuple(_parsed_key(text) for text in key)
    notes = tuple(_read(path) for path in older)
    if folder is None:
        report = _home_report(home, keys, notes, semantics=semantics)
    else:
        report = verify_copy(folder, keys or None, older=notes, semantics=semantics)
        if not keys:
            note("The copy's own keys were used: that shows only that it agrees with itself. Give --key.")
    found: JsonObject = report.model_dump(mode="json")
    show_one(shape, found, lambda: facts(found, _REPORT), model="VerifyReport", ident="root")
    return int(report.code)


def copy(folder: Path, /, *, home: HomeFolder = None) -> int:
    """Write a copy of the ledger that can be verified anywhere.

    Args:
        folder: where to; what it holds of an earlier copy is replaced.
        home: the installation's folder.
    """
    settings = settings_of(home)
    with database_of(settings, "audit copy") as dsn:
        signed = ask_ledger(dsn, lambda reader: reader.checkpoint())
        key = _own_key(Home(settings.home), settings.origin)
        try:
            write_copy(folder, entries_of(dsn, _size_of(signed)), signed, (key,))
        except (OSError, LedgerUnavailable) as error:
            raise Stop(Exit.ERROR, f"The copy could not be written to {folder}.", str(error)) from error
    note(f"Verify it with: triad audit verify {folder} --key {key.text()}")
    return Exit.OK


def _home_report(
    folder: Path | None, keys: tuple[VerifierKey, ...], older: tuple[bytes, ...], *, semantics: bool
) -> Report:
    settings = settings_of(folder)
    home = Home(settings.home)
    trusted = keys or (_own_key(home, settings.origin),)
    before = remembered(home)
    try:
        with database_of(settings, "audit verify") as dsn:
            signed = ask_ledger(dsn, lambda reader: reader.checkpoint())
            report = verify_entries(_readable(dsn, _size_of(signed)), signed, trusted, older=older, semantics=semantics)
    except Stop as stop:
        raise Stop(Code.INPUT, stop.sentence, *stop.details, following=stop.following) from stop
    if before is None or report.size is None or report.root is None:
        return report
    if before.size > report.size or (before.size == report.size and before.root.hex() != report.root):
        sentence = f"The log's own signer remembers {before.size} entries with another head."
        problem = Problem(index=None, rule="rollback", sentence=sentence)
        changes = {"ok": False, "code": Code.FORK, "found": report.found + 1, "problems": (problem, *report.problems)}
        return report.model_copy(update=changes)
    return report


def _remote(reach: Reach, shape: Shape) -> int:
    with Client.of(reach) as client:
        found = client.get("/api/verification/audit").data
    show_one(shape, found, lambda: facts(found, _SERVICE), model="AuditReport", ident="head")
    note("The service says so of itself. `triad audit verify` with a copy and a key of your own shows more.")
    return int(found["code"])


def _own_key(home: Home, origin: str) -> VerifierKey:
    try:
        key = log_key(home, origin)
    except (LedgerUnavailable, LedgerCorrupt) as error:
        raise Stop(
            Code.INPUT, "The log's key cannot be used.", str(error), following="docs/runbooks/keys.md"
        ) from error
    if key is None:
        raise Stop(
            Code.INPUT,
            f"There is no log key in {home.path}.",
            following="Name the folder with --home or TRIAD_HOME; or verify a copy: triad audit verify FOLDER.",
        )
    return key


def _readable(dsn: str, size: int) -> Iterator[bytes]:
    try:
        yield from entries_of(dsn, size)
    except (LedgerUnavailable, LedgerCorrupt) as error:
        raise CopyUnreadable(str(error)) from error


def _size_of(signed: bytes) -> int:
    try:
        return Checkpoint.parse(parse_note(signed).text).size
    except NoteMalformed:
        return 0


def _parsed_key(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except NoteMalformed as error:
        raise Stop(Exit.USAGE, "--key is no public key of a log.", str(error)) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Stop(Code.INPUT, f"{path} cannot be read.", error.strerror or "") from error


def _problem(problem: JsonObject) -> str:
    where = "" if problem["index"] is None else f"entry {problem['index']}: "
    return f"{where}{problem['sentence']} ({problem['rule']})"
