"""`triad audit verify` and `audit verifier`: they trust neither the service nor the database, only keys and hashes."""

import zipapp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

from cyclopts import Parameter

import storage.verifier
from api.cli.client import Client
from api.cli.exits import Exit, Stop
from api.cli.ledgers import database_of, log_keys, settings_of
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, show_one
from api.cli.own_ledger import own_report
from api.cli.profile import REACH, HomeFolder, Reach
from api.settings import Settings
from operations.errors import LedgerCorrupt, LedgerUnavailable
from storage.verifier.checkpoint import MAX_NOTE, NoteMalformed, VerifierKey
from storage.verifier.exported import verify_export
from storage.verifier.mirror import TileMissing, read_bounded
from storage.verifier.policy import MAX_POLICY, Policy, PolicyMalformed
from storage.verifier.report import Code, Report
from storage.verifier.tiles import TileMalformed

_REPORT: Final = (
    Column("verdict", lambda report: _verdict(report, intact=report["ok"])),
    Column("log", lambda report: report["origin"]),
    Column("entries", lambda report: report["size"]),
    Column("root", lambda report: report["root"]),
    Column("signed by", lambda report: ", ".join(report["signers"])),
    Column("cosigned by", lambda report: ", ".join(each["name"] for each in report["witnesses"]) or None),
    Column("compared", lambda report: f"with {report['compared']} older checkpoints" if report["compared"] else None),
    Column("meaning", lambda report: "replayed" if report["replayed"] else "not replayed"),
    Column("open steps", lambda report: len(report["open_steps"]) or None),
    Column("problems", lambda report: "\n".join(_problem(each) for each in report["problems"])),
    Column("remarks", lambda report: "\n".join(_placed(each) for each in report["remarks"]) or None),
    Column("checked", lambda report: "\n".join(report["checked"])),
    Column("not checked", lambda report: "\n".join(report["unchecked"])),
)
_SERVICE: Final = (
    Column("verdict", lambda report: _verdict(report, intact=report["intact"])),
    Column("entries", lambda report: report["size"]),
    Column("root", lambda report: report["head"]),
    Column("open steps", lambda report: report["open_steps"] or None),
    Column("problems", lambda report: "\n".join(_problem(each) for each in report["problems"])),
)


def verify(  # noqa: PLR0913 - one parameter an option
    folder: Path | None = None,
    /,
    *,
    key: Annotated[tuple[str, ...], Parameter(negative=(), metavar="VKEY", show_default=False)] = (),
    policy: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    older: Annotated[tuple[Path, ...], Parameter(negative=(), metavar="FILE", show_default=False)] = (),
    semantics: bool = True,
    texts: bool = True,
    home: HomeFolder = None,
    remote: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Verify a ledger from its bytes: signatures, root, what was seen before, and what the entries mean.

    Exit codes: 0 intact, 2 signature or witnesses, 3 root, 4 rolled back or forked, 5 meaning, 6 unreadable,
    7 the verifier itself failed.

    Args:
        folder: an export made by `triad audit export`; without it the database of the home folder is read.
        key: public key of the log, known from elsewhere; otherwise those of the export, or of the home.
        policy: tlog-policy of the keys and witnesses that you trust, instead of --key.
        older: a checkpoint that you kept; the ledger must begin with what it saw.
        semantics: also replay what the entries mean.
        texts: the plans and constitutions are there, and a missing one is a breach.
        home: the installation's folder.
        remote: let the service verify itself; that shows less, since it is its own witness.
        reach: the service, with --remote.
        shape: of the output.
    """
    if remote:
        return _remote(reach, shape)
    trusted = _trusted(key, policy)
    notes = tuple(_read(path, MAX_NOTE) for path in older)
    if folder is None:
        report = _home_report(home, trusted, notes, semantics=semantics, texts=texts)
    else:
        report = verify_export(folder, trusted, older=notes, semantics=semantics, texts=texts)
        if trusted is None:
            note("The export's own keys were used: that shows only that it agrees with itself. Give --key or --policy.")
    found: JsonObject = report.fields()
    show_one(shape, found, lambda: facts(found, _REPORT), model="VerifyReport", ident="root")
    return int(report.code)


def verifier(file: Path, /) -> int:
    """Write the verifier as one file that runs anywhere with Python 3.11 and the package `cryptography`.

    Args:
        file: where to, for example verifier.pyz.
    """
    try:
        write_verifier(file)
    except OSError as error:
        raise Stop(Exit.ERROR, f"{file} could not be written.", error.strerror or "") from error
    note(f"Verify with: python -I {file} FOLDER --key VKEY")
    return Exit.OK


def write_verifier(file: Path) -> None:
    """Put the verifier's package, and nothing else, into one runnable file.

    Raises:
        OSError: it could not be written.
    """
    source = Path(storage.verifier.__file__).parent
    with TemporaryDirectory() as scratch:
        package = Path(scratch) / "app" / "verifier"
        package.mkdir(parents=True)
        for path in sorted((*source.glob("*.py"), *source.glob("*.json"))):
            (package / path.name).write_bytes(path.read_bytes())
        (package.parent / "__main__.py").write_text(
            "import runpy\n\nrunpy.run_module('verifier', run_name='__main__', alter_sys=True)\n"
        )
        zipapp.create_archive(package.parent, file, interpreter="/usr/bin/env python3", compressed=True)


def _home_report(
    folder: Path | None, trusted: Policy | None, older: tuple[bytes, ...], *, semantics: bool, texts: bool
) -> Report:
    settings = settings_of(folder)
    policy = trusted or Policy.of(_own_keys(settings))
    try:
        with database_of(settings, "audit verify") as dsn:
            return own_report(settings, dsn, policy, older=older, semantics=semantics, texts=texts)
    except LedgerUnavailable as error:
        raise Stop(Code.INPUT, "The ledger cannot be read.", str(error), following="triad doctor") from error
    except Stop as stop:
        raise Stop(Code.INPUT, stop.sentence, *stop.details, following=stop.following) from stop


def _remote(reach: Reach, shape: Shape) -> int:
    with Client.of(reach) as client:
        found = client.get("/api/verification/audit").data
    show_one(shape, found, lambda: facts(found, _SERVICE), model="AuditReport", ident="head")
    note("The service says so of itself. `triad audit verify` with an export and a key of your own shows more.")
    return int(found["code"])


def _own_keys(settings: Settings) -> tuple[VerifierKey, ...]:
    try:
        found = log_keys(settings)
    except (LedgerUnavailable, LedgerCorrupt) as error:
        raise Stop(
            Code.INPUT, "The log's key cannot be used.", str(error), following="docs/runbooks/keys.md"
        ) from error
    if not found:
        raise Stop(
            Code.INPUT,
            f"There is no log key in {settings.home}.",
            following="Name the folder with --home or TRIAD_HOME; or verify an export: triad audit verify FOLDER.",
        )
    return found


def _trusted(keys: tuple[str, ...], path: Path | None) -> Policy | None:
    if keys and path is not None:
        raise Stop(Exit.USAGE, "--key and --policy exclude each other.", "A policy names its log keys itself.")
    if path is not None:
        try:
            return Policy.parse(_read(path, MAX_POLICY))
        except PolicyMalformed as error:
            raise Stop(Exit.USAGE, f"{path} is no policy.", str(error)) from error
    return Policy.of(_parsed_key(text) for text in keys) if keys else None


def _parsed_key(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except NoteMalformed as error:
        raise Stop(Exit.USAGE, "--key is no public key of a log.", str(error)) from error


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit)
    except (OSError, TileMissing, TileMalformed) as error:
        why = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise Stop(Code.INPUT, f"{path} cannot be read.", why) from error


def _verdict(report: JsonObject, *, intact: bool) -> str:
    if not intact:
        return f"NOT INTACT (code {report['code']})"
    return f"intact, but not checked: {', '.join(report['omitted'])}" if report["omitted"] else "intact"


def _problem(problem: JsonObject) -> str:
    return f"{_placed(problem)} ({problem['rule']})"


def _placed(said: JsonObject) -> str:
    where = "" if said["index"] is None else f"entry {said['index']}: "
    return f"{where}{said['sentence']}"
