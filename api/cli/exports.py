"""`triad audit export`, `prove` and `archive`: the record in files that anybody can verify without us."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from api.cli.client import V1, Client
from api.cli.exits import Exit, Stop
from api.cli.ledgers import ask_ledger, database_of, settings_of
from api.cli.output import SHAPE, Column, Shape, console, facts, note, out, show_one
from api.cli.profile import REACH, HomeFolder, Reach
from api.cli.remote import RemoteSource
from api.settings import Settings
from operations.errors import LedgerCorrupt, LedgerUnavailable, NotFound, Refusal
from operations.events import SegmentArchived
from operations.model import Actor, Branch
from storage.archive import SUMS, Segment, last_archived
from storage.archive import archive as archived
from storage.export import POLICY, Progress, quiet
from storage.export import export as write_export
from storage.ledger import Ledger
from storage.proving import decisions
from storage.proving import prove as make_proof
from storage.reader import Reader
from storage.signer import Signer
from storage.source import WHY, ExportRefused, LedgerSource
from storage.verifier.kinds import DECISIONS
from storage.verifier.mirror import TileMissing, read_bounded
from storage.verifier.policy import MAX_POLICY, Policy, PolicyMalformed
from storage.verifier.proof import Proof, ProofMalformed
from storage.verifier.tiles import TileMalformed
from triad.home import Home

if TYPE_CHECKING:
    from rich.progress import TaskID

ROOT: Final = Path(__file__).parent.parent.parent
"""Where the packages lie."""

Remote = Annotated[bool, Parameter(negative=(), show_default=False)]

_EXPORTED: Final = (
    Column("log", lambda done: done["origin"]),
    Column("entries", lambda done: done["size"]),
    Column("new", lambda done: done["size"] - done["before"]),
    Column("root", lambda done: done["root"]),
    Column("fetched", lambda done: f"{done['fetched']} bundles"),
    Column("written", lambda done: f"{done['written']} files"),
    Column("proofs", lambda done: done["proofs"]),
    Column("witnesses", lambda done: "the quorum is met" if done["quorum"] else "the quorum is NOT met yet"),
    Column("missing", lambda done: "\n".join(done["missing"])),
)
_SEGMENT: Final = (
    Column("entries", lambda done: f"{done['first']} to {done['end'] - 1}"),
    Column("root", lambda done: done["root"]),
    Column("archive", lambda done: done["archive"]),
    Column("files", lambda done: done["files"]),
)
_SYSTEM: Final = Actor(principal="triad", branch=Branch.PEOPLE)
_EVERYTHING: Final = 10**9


def export(
    folder: Path,
    /,
    *,
    policy: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    home: HomeFolder = None,
    remote: Remote = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Write or extend an export: checkpoint, tiles, entries and proofs that anybody can verify.

    Run it again at any time: it fetches what is new, and goes on where it was interrupted. Exit codes: 0 done, 2 the
    checkpoint is not signed by whom you trust, 3 the log does not hold together, 4 it was rolled back or forked since
    the folder was written, 6 the folder is damaged or not an export. When it is refused the folder stays as it was.

    Args:
        folder: where to; made where it is missing.
        policy: tlog-policy of the keys and witnesses that you trust; otherwise the log's own claim.
        home: the installation's folder, whose database is read.
        remote: read from the service instead.
        reach: the service, with --remote.
        shape: of the output.
    """
    trust = _policy(policy) if policy else None
    with _shown() as progress, _explained(folder):
        if remote:
            with Client.of(reach) as client:
                done = asyncio.run(write_export(RemoteSource(client), folder, trust=trust, progress=progress))
        else:
            settings = settings_of(home)
            with database_of(settings, "audit export") as dsn:
                done = ask_ledger(
                    dsn,
                    lambda reader: write_export(_source(settings, reader), folder, trust=trust, progress=progress),
                )
    found = done.model_dump(mode="json")
    show_one(shape, found, lambda: facts(found, _EXPORTED), model="Exported", ident="root")
    note(f"Verify it without us: python -m storage.verifier {folder} --policy FILE")
    return Exit.OK


def prove(
    target: Annotated[str, Parameter(metavar="INDEX|OPERATION")],
    /,
    *,
    output: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    entry: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    size: Annotated[int | None, Parameter(metavar="N")] = None,
    home: HomeFolder = None,
    remote: Remote = False,
    reach: Reach = REACH,
) -> int:
    """Print the proof that an entry is in the log, or write one for each decision of an operation.

    Args:
        target: index of an entry, or id of an operation.
        output: folder for the proofs of an operation.
        entry: also write the entry's bytes into this file.
        size: under the checkpoint of so many entries, instead of the newest.
        home: the installation's folder, whose database is read.
        remote: ask the service instead.
        reach: the service, with --remote.
    """
    single = target.isascii() and target.isdecimal()
    if single and output is not None:
        raise Stop(Exit.USAGE, "--output is for an operation.", following="The proof of an entry is printed.")
    if not single and output is None:
        raise Stop(Exit.USAGE, "An operation has several decisions.", following="Name a folder with --output DIR.")
    if not single and entry is not None:
        raise Stop(Exit.USAGE, "--entry is for a single entry.", following="Each proof carries its entry's bytes.")
    with _explained(output):
        proofs = _from_service(reach, target, size) if remote else _from_home(home, target, size)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            for proof in proofs:
                (output / f"{proof.index}.tlog-proof").write_bytes(proof.encode())
            note(f"{len(proofs)} proofs in {output}." if proofs else "Nothing was decided about it yet.")
            return Exit.OK
        if entry is not None:
            entry.write_bytes(proofs[0].extra or b"")
    out(proofs[0].encode().decode().removesuffix("\n"))
    return Exit.OK


def archive(folder: Path, /, *, home: HomeFolder = None, shape: Shape = SHAPE) -> int:
    """Archive the closed segments of the log: export, verify alone, list with SHA-256, and record that.

    A segment is closed when its 256 entries are there. Nothing is deleted. Run it again into the same folder; it goes
    on after the last segment that the log says was archived. Exit codes as of `triad audit export`, and 1 when there is
    nothing to archive.

    Args:
        folder: the archive; made where it is missing.
        home: the installation's folder.
        shape: of the output.
    """
    settings = settings_of(home)
    with _shown() as progress, _explained(folder), database_of(settings, "audit archive") as dsn:
        made = ask_ledger(dsn, lambda reader: _archive(settings, reader, folder, progress))
        asyncio.run(_record(settings, dsn, made))
    found = made.model_dump(mode="json")
    show_one(shape, found, lambda: facts(found, _SEGMENT), model="Segment", ident="archive")
    note(f"Check it anywhere: cd {folder} && sha256sum -c {SUMS}")
    return Exit.OK


def _source(settings: Settings, reader: Reader) -> LedgerSource:
    return LedgerSource(reader, settings.peers, settings.witnesses_needed)


async def _archive(settings: Settings, reader: Reader, folder: Path, progress: Progress) -> Segment:
    first = await last_archived(reader)
    _, segment = await archived(_source(settings, reader), folder, first, _verified, progress)
    return segment


async def _record(settings: Settings, dsn: str, made: Segment) -> None:
    """Say in the log what was archived. It is written like any entry, beside a running service too."""
    signer = Signer.load_or_create(
        Home(settings.home).secrets / "ledger.key",
        settings.origin,
        current=settings.ledger.key,
        following=settings.ledger.next_key,
    )
    ledger = await Ledger.open(dsn, signer, origin=settings.origin)
    try:
        await ledger.note(
            SegmentArchived(first=made.first, end=made.end, root=made.root, archive=made.archive, by=_SYSTEM.principal),
            _SYSTEM,
        )
    finally:
        await ledger.close()
        signer.close()


def _verified(folder: Path) -> str | None:
    """What the stand-alone verifier finds wrong with an export, in a process of its own."""
    place = folder.absolute()
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "storage.verifier", str(place), "--policy", str(place / POLICY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    said = (done.stdout + done.stderr).strip().splitlines()
    return f"The verifier ended with {done.returncode}: {' '.join(said[:3]) or 'it said nothing'}"


def _from_home(home: Path | None, target: str, size: int | None) -> list[Proof]:
    async def ask(reader: Reader) -> list[Proof]:
        try:
            indexes = [int(target)] if target.isdecimal() else await decisions(reader, target)
            return [await make_proof(reader, index, size) for index in indexes]
        except NotFound as error:
            raise Stop(Exit.ERROR, f"There is nothing to prove ({error.code}).", *error.reasons) from error

    with database_of(settings_of(home), "audit prove") as dsn:
        return ask_ledger(dsn, ask)


def _from_service(reach: Reach, target: str, size: int | None) -> list[Proof]:
    query = "" if size is None else f"?size={size}"
    with Client.of(reach) as client:
        if target.isdecimal():
            indexes = [int(target)]
        else:
            found = client.items(f"{V1}/audit", most=_EVERYTHING, operation=target, kind=sorted(DECISIONS))
            indexes = [int(entry["index"]) for entry in found]
        paths = [f"/api/verification/audit/{index}/proof{query}" for index in indexes]
        return [Proof.parse(client.content(path)) for path in paths]


def _policy(path: Path) -> Policy:
    try:
        return Policy.parse(read_bounded(path, MAX_POLICY))
    except (OSError, TileMissing, TileMalformed, PolicyMalformed) as error:
        raise Stop(WHY["copy-damaged"], f"{path} is no policy that can be used.", str(error)) from error


@contextmanager
def _explained(folder: Path | None) -> Iterator[None]:
    """Turn what can go wrong into a sentence and an exit code."""
    try:
        yield
    except ExportRefused as error:
        raise Stop(
            WHY[error.code],
            f"Refused ({error.code}); the folder's log stays as it was.",
            *error.reasons,
            following="docs/runbooks/ledger-does-not-verify.md" if WHY[error.code] != WHY["copy-damaged"] else None,
        ) from error
    except Refusal as error:
        raise Stop(Exit.ERROR, f"It cannot be done ({error.code}).", *error.reasons) from error
    except (LedgerUnavailable, LedgerCorrupt) as error:
        raise Stop(Exit.ERROR, "The ledger cannot be read.", str(error), following="triad doctor") from error
    except ProofMalformed as error:
        raise Stop(WHY["source-corrupt"], "What was answered is no proof.", str(error)) from error
    except OSError as error:
        raise Stop(Exit.ERROR, f"{folder or 'The file'} cannot be written.", error.strerror or "") from error


@contextmanager
def _shown() -> Iterator[Progress]:
    """Progress on standard error while somebody watches; nothing otherwise."""
    if not sys.stderr.isatty():
        yield quiet
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - only here
    from rich.progress import Progress as Bars  # noqa: PLC0415 - only who watches pays for it

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(sys.stderr), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=of)

        yield show
