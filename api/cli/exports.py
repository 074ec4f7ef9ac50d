"""`triad audit export`, `prove` and `archive`: the record in files that anybody can verify without us."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from api.cli.client import V1, Client, Refused
from api.cli.exits import Exit, Stop
from api.cli.ledgers import ask_ledger, database_of, settings_of
from api.cli.output import SHAPE, Column, JsonObject, Shape, console, facts, note, out, show_one
from api.cli.profile import REACH, HomeFolder, Reach
from api.cli.remote import RemoteSource
from api.settings import Settings
from operations.errors import LedgerCorrupt, LedgerUnavailable, NotFound, Refusal
from operations.events import SegmentArchived
from operations.model import Actor, Branch
from storage.archive import SUMS, Segment, last_archived
from storage.archive import archive as archived
from storage.export import POLICY, Exported, Progress, quiet
from storage.export import export as write_export
from storage.ledger import Ledger
from storage.proving import decisions, holds
from storage.proving import prove as make_proof
from storage.signer import Signer
from storage.source import WHY, ExportRefused, LedgerSource, Source
from storage.source import witnessed as newest_witnessed
from storage.verifier.kinds import DECISIONS
from storage.verifier.mirror import TileMissing, read_bounded
from storage.verifier.policy import MAX_POLICY, Policy, PolicyMalformed
from storage.verifier.proof import Proof, ProofMalformed
from storage.verifier.tiles import TileMalformed
from storage.witnessed import Witnessed
from triad.analytics.spelling import count
from triad.home import Home

if TYPE_CHECKING:
    from rich.progress import TaskID

ROOT: Final = Path(__file__).parent.parent.parent
"""Where the packages lie."""

Remote = Annotated[bool, Parameter(negative=(), show_default=False)]


def _witnesses(done: JsonObject) -> str:
    """Whether the witnesses that are asked for cosigned, and who did."""
    who = ", ".join(done["cosigned"])
    if done["quorum"] is None:
        return f"none asked for; cosigned by {who}" if who else "none asked for"
    if done["quorum"]:
        return f"{len(done['cosigned'])} of {done['witnesses']}: {who}"
    return f"NOT met: {' '.join(done['lacking'])}"


_EXPORTED: Final = (
    Column("log", lambda done: done["origin"]),
    Column("entries", lambda done: done["size"]),
    Column("new", lambda done: done["size"] - done["before"]),
    Column("root", lambda done: done["root"]),
    Column("fetched", lambda done: count(done["fetched"], "bundle")),
    Column("written", lambda done: count(done["written"], "file")),
    Column("proofs", lambda done: done["proofs"]),
    Column("witnesses", _witnesses),
    Column(
        "missing", lambda done: "\n".join(f"{each['kind']} {each['digest']}: {each['why']}" for each in done["missing"])
    ),
)
_SEGMENT: Final = (
    Column("entries", lambda done: f"{done['first']} to {done['end'] - 1}"),
    Column("root", lambda done: done["root"]),
    Column(f"SHA-256 of {SUMS}", lambda done: done["archive"]),
    Column("files", lambda done: done["files"]),
)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_OPERATION: Final = re.compile(r"op_[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)
_RUNBOOK: Final = "docs/runbooks/ledger-does-not-verify.md"
_OTHERWISE: Final = {
    "quorum-unmet": "`triad witness status` says which witness owes what: docs/operations/witnesses.md.",
}
_SYSTEM: Final = Actor(principal="triad", branch=Branch.PEOPLE)
_EVERYTHING: Final = 10**9


def export(
    folder: Path,
    /,
    *,
    policy: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    witnessed: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
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
        witnessed: only as far as the log's own quorum of witnesses cosigned; the newest entries may be missing.
        home: the installation's folder, whose database is read.
        remote: read from the service instead.
        reach: the service, with --remote.
        shape: of the output.
    """
    trust = _policy(policy) if policy else None

    async def written(source: Source, progress: Progress) -> Exported:
        end = await newest_witnessed(source) if witnessed else None
        return await write_export(source, folder, trust=trust, end=end, progress=progress)

    with _shown() as progress, _explained(folder):
        if remote:
            with Client.of(reach) as client:
                done = asyncio.run(written(RemoteSource(client), progress))
        else:
            settings = settings_of(home)
            with database_of(settings, "audit export") as dsn:
                done = ask_ledger(dsn, lambda reader: written(_source(settings, reader), progress))
    found = done.model_dump(mode="json")
    show_one(shape, found, lambda: facts(found, _EXPORTED), model="Exported", ident="root")
    note(f"Verify it without us: triad audit verifier verifier.pyz && python verifier.pyz {folder} --policy FILE")
    return Exit.OK


def prove(
    target: Annotated[str, Parameter(metavar="INDEX|OPERATION")],
    /,
    *,
    folder: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    entry: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    size: Annotated[int | None, Parameter(metavar="N")] = None,
    home: HomeFolder = None,
    remote: Remote = False,
    reach: Reach = REACH,
) -> int:
    """Print the proof that an entry is in the log, or write one for each decision of an operation.

    Each proof is checked before it is given. Exit codes: 0 done, 1 there is nothing of that name, 3 the log does not
    hold together: no proof can be made that verifies.

    Args:
        target: index of an entry, or id of an operation.
        folder: for the proofs of an operation; made where it is missing.
        entry: also write the entry's bytes into this file.
        size: under the checkpoint of so many entries, instead of the newest.
        home: the installation's folder, whose database is read.
        remote: ask the service instead.
        reach: the service, with --remote.
    """
    index = int(target) if _INDEX.fullmatch(target) else None
    if index is None and not _OPERATION.fullmatch(target):
        raise Stop(
            Exit.USAGE,
            "That is neither an index nor an operation's id.",
            following="`triad audit tail` shows both; an id is `op_` and 26 characters.",
        )
    if index is not None and folder is not None:
        raise Stop(Exit.USAGE, "--folder is for an operation.", following="The proof of an entry is printed.")
    if index is None and folder is None:
        raise Stop(Exit.USAGE, "An operation has several decisions.", following="Name a folder with --folder DIR.")
    if index is None and entry is not None:
        raise Stop(Exit.USAGE, "--entry is for a single entry.", following="Each proof carries its entry's bytes.")
    with _explained(folder, corrupt="ledger-corrupt"):
        wanted = target if index is None else index
        proofs = _from_service(reach, wanted, size) if remote else _from_home(home, wanted, size)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for proof in proofs:
                (folder / f"{proof.index}.tlog-proof").write_bytes(proof.encode())
            note(f"{count(len(proofs), 'proof')} in {folder}." if proofs else "Nothing was decided about it yet.")
            return Exit.OK
        if entry is not None:
            entry.write_bytes(proofs[0].extra or b"")
    out(proofs[0].encode().decode().removesuffix("\n"))
    return Exit.OK


def archive(
    folder: Path,
    /,
    *,
    again: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    home: HomeFolder = None,
    shape: Shape = SHAPE,
) -> int:
    """Archive the closed segments of the log: export, verify alone, list with SHA-256, and record that.

    A segment is closed when its 256 entries are there. Nothing is deleted. Run it again into the same folder; it goes
    on after the last segment that the log says was archived. Where the log asks for a quorum of witnesses it goes as
    far as they cosigned. Exit codes as of `triad audit export`, and 1 when there is nothing to archive.

    Args:
        folder: the archive; made where it is missing.
        again: archive everything from the first entry on, as after an archive was lost, and record that.
        home: the installation's folder.
        shape: of the output.
    """
    settings = settings_of(home)
    with _shown() as progress, _explained(folder), database_of(settings, "audit archive") as dsn:
        made = ask_ledger(dsn, lambda reader: _archive(settings, reader, folder, progress, again=again))
        asyncio.run(_record(settings, dsn, made))
    found = made.model_dump(mode="json")
    show_one(shape, found, lambda: facts(found, _SEGMENT), model="Segment", ident="archive")
    note(f"Check it anywhere: cd {folder} && sha256sum -c {SUMS}")
    return Exit.OK


def _source(settings: Settings, reader: Witnessed) -> LedgerSource:
    return LedgerSource(reader, settings.peers, settings.witnesses_needed)


async def _archive(settings: Settings, reader: Witnessed, folder: Path, progress: Progress, *, again: bool) -> Segment:
    first = 0 if again else await last_archived(reader)
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


def _from_home(home: Path | None, target: int | str, size: int | None) -> list[Proof]:
    async def ask(reader: Witnessed) -> list[Proof]:
        try:
            indexes = [target] if isinstance(target, int) else await decisions(reader, target)
            return [await make_proof(reader, index, size) for index in indexes]
        except NotFound as error:
            raise Stop(Exit.ERROR, f"There is nothing to prove ({error.code}).", *error.reasons) from error

    with database_of(settings_of(home), "audit prove") as dsn:
        return ask_ledger(dsn, ask)


def _from_service(reach: Reach, target: int | str, size: int | None) -> list[Proof]:
    query = "" if size is None else f"?size={size}"
    with Client.of(reach) as client:
        indexes = [target] if isinstance(target, int) else _decided(client, target)
        if not indexes:
            return []
        try:
            keys = Policy.parse(client.content(f"{V1}/ledger/policy")).keys
            found = [
                (index, Proof.parse(client.content(f"/api/verification/audit/{index}/proof{query}")))
                for index in indexes
            ]
        except Refused as error:
            if error.problem.get("code") == "ledger-corrupt":
                raise LedgerCorrupt(
                    " ".join(map(str, error.problem.get("reasons", ()))) or "It does not verify."
                ) from error
            raise
    for index, proof in found:
        if proof.index != index:
            raise LedgerCorrupt(f"The service answered with the proof of another entry than {index}.")
        holds(proof, keys)
    return [proof for _, proof in found]


def _decided(client: Client, operation: str) -> list[int]:
    """Indexes of what was decided about an operation.

    Raises:
        Stop: there is no such operation.
    """
    path = f"{V1}/audit"
    found = client.items(path, most=_EVERYTHING, operation=operation, kind=sorted(DECISIONS))
    indexes = [int(entry["index"]) for entry in found]
    if not indexes and not list(client.items(path, most=1, operation=operation)):
        raise Stop(Exit.ERROR, "There is nothing to prove (unknown-operation).", "There is no operation of that id.")
    return indexes


def _policy(path: Path) -> Policy:
    try:
        return Policy.parse(read_bounded(path, MAX_POLICY))
    except (OSError, TileMissing, TileMalformed, PolicyMalformed) as error:
        raise Stop(WHY["copy-damaged"], f"{path} is no policy that can be used.", str(error)) from error


@contextmanager
def _explained(folder: Path | None, *, corrupt: str = "source-corrupt") -> Iterator[None]:
    """Turn what can go wrong into a sentence and an exit code; `corrupt` is the code where the ledger contradicts."""
    try:
        yield
    except ExportRefused as error:
        raise Stop(
            WHY[error.code],
            f"Refused ({error.code}); the folder's log stays as it was.",
            *error.reasons,
            following=_RUNBOOK if WHY[error.code] in {3, 4} else _OTHERWISE.get(error.code),
        ) from error
    except Refusal as error:
        again = "--again writes the archive anew." if error.code == "nothing-closed" else None
        raise Stop(Exit.ERROR, f"It cannot be done ({error.code}).", *error.reasons, following=again) from error
    except LedgerCorrupt as error:
        raise Stop(WHY["source-corrupt"], f"Refused ({corrupt}).", str(error), following=_RUNBOOK) from error
    except LedgerUnavailable as error:
        raise Stop(Exit.ERROR, "The ledger cannot be read.", str(error), following="triad doctor") from error
    except (ProofMalformed, PolicyMalformed) as error:
        raise Stop(WHY["source-corrupt"], "What was answered cannot be used.", str(error)) from error
    except OSError as error:
        raise Stop(
            Exit.ERROR, f"{error.filename or folder or 'The file'} cannot be written.", error.strerror or ""
        ) from error


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
