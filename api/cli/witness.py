"""`triad witness`: be a witness to logs, with a key and a memory of one's own; or look at the witnesses of ours."""

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from api.cli.client import V1, Client
from api.cli.exits import Exit, Stop
from api.cli.output import SHAPE, Column, JsonObject, Shape, note, out, show_list, show_one, styled
from api.cli.profile import REACH, Reach
from api.cli.sentences import counted, moment
from operations.errors import LedgerUnavailable
from storage.verifier.checkpoint import NoteMalformed, VerifierKey
from storage.witness import Witness
from storage.witness_memory import Finding

app = App(name="witness", help="Witnesses: who vouches that the log only ever grew; be one, or look at ours.")

WitnessHome = Annotated[Path | None, Parameter(name="--home", metavar="DIR", env_var="TRIAD_WITNESS_HOME")]
"""The folder of a witness: its key and its memory."""

DEFAULT_PORT: Final = 8643
RUNBOOK: Final = "docs/runbooks/ledger-does-not-verify.md"
LATE: Final = timedelta(seconds=120)
"""What a witness has not cosigned for longer is missing; `triad.witnesses.LATE` is the same."""

_LOGS: Final = (
    Column("origin", lambda log: log["origin"]),
    Column("cosigned", lambda log: f"{log['size']} entries" if log["cosigned"] else "never"),
    Column("when", lambda log: moment(log["cosigned"]) if log["cosigned"] else ""),
    Column("keys", lambda log: " ".join(log["keys"])),
)
_FINDINGS: Final[dict[str, str]] = {
    Finding.FORK: "the log signed two roots of that size",
    Finding.UNPROVED: "not shown to extend what was cosigned; accuses nobody",
}
_KEPT: Final = (
    Column("digest", lambda kept: kept["digest"][:16]),
    Column("origin", lambda kept: kept["origin"]),
    Column("what", lambda kept: f"{kept['code']}: {_FINDINGS[kept['code']]}"),
    Column("signed", lambda kept: kept["size"]),
    Column("cosigned before", lambda kept: kept["known"]),
    Column("when", lambda kept: moment(kept["at"])),
)
_STATUS: Final = (
    Column("witness", lambda each: each["name"]),
    Column("cosigned", lambda each: f"{each['size']} entries" if each["size"] else "nothing"),
    Column("when", lambda each: moment(each["cosigned"]) if each["cosigned"] else ""),
    Column("behind since", lambda each: moment(each["behind_since"]) if each["behind_since"] else ""),
    Column("refuses", lambda each: each["refused"]),
    Column("why", lambda each: " ".join(each["reasons"]) or each["trouble"]),
)


@app.command
def init(
    name: str,
    /,
    *,
    ml_dsa: Annotated[bool, Parameter(name="--ml-dsa", negative=(), show_default=False)] = False,
    home: WitnessHome = None,
    shape: Shape = SHAPE,
) -> int:
    """Make a witness: its keys and its empty memory. Its public keys are printed, for whoever shall trust it.

    Args:
        name: under which it signs; an address without a scheme, as witness.example.org/w1.
        ml_dsa: also cosign with ML-DSA-44, which holds against quantum computers.
        home: the witness's folder.
        shape: of the output.
    """
    if "://" in name:
        raise Stop(
            Exit.USAGE,
            "A witness's name is no URL.",
            "It is the name that its signatures carry; where it is asked is another setting.",
            following=f"Leave the scheme out: {name.partition('://')[2] or 'witness.example.org/w1'}",
        )
    try:
        made = Witness.create(_home(home), name, ml_dsa=ml_dsa)
    except NoteMalformed as error:
        raise Stop(Exit.USAGE, "A witness cannot be called that.", str(error)) from error
    except LedgerUnavailable as error:
        raise Stop(
            Exit.ERROR,
            "No witness was made.",
            str(error),
            following="`triad witness keys` prints the public keys of the one that is there, `triad witness serve` "
            "runs it; --home names another folder.",
        ) from error
    _show_keys(made, shape)
    note("Next: `triad witness add-log VKEY` with the key of the log, then `triad witness serve`.")
    return Exit.OK


@app.command
def keys(*, home: WitnessHome = None, shape: Shape = SHAPE) -> int:
    """Print the public keys of a witness again, for whoever shall trust it.

    Args:
        home: the witness's folder.
        shape: of the output.
    """
    _show_keys(_witness(home), shape)
    return Exit.OK


def _show_keys(witness: Witness, shape: Shape) -> None:
    item: JsonObject = {"name": witness.name, "vkeys": list(witness.vkeys)}
    show_one(shape, item, lambda: styled("\n".join(witness.vkeys)), model="WitnessMade", ident="name")


@app.command
def serve(
    *,
    host: Annotated[str, Parameter(metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, Parameter(metavar="PORT")] = DEFAULT_PORT,
    home: WitnessHome = None,
) -> int:
    """Serve as a witness in the foreground: POST /add-checkpoint, as C2SP tlog-witness has it.

    Args:
        host: address to listen on; beyond loopback put a TLS proxy in front.
        port: TCP port; 0 takes a free one.
        home: the witness's folder.
    """
    from api.cli.local import listening  # noqa: PLC0415 - only who serves pays for it
    from api.logs import configure_logs  # noqa: PLC0415 - see above
    from api.settings import Logging  # noqa: PLC0415 - see above
    from api.witness import witness_server  # noqa: PLC0415 - see above

    witness = _witness(home)
    known = witness.logs()
    with listening(host, port) as listener:
        configure_logs(Logging(), None)
        note(f"{witness.name} serves at {_address(listener)} for {counted(len(known), 'log')}. Ctrl-C stops it.")
        out(_address(listener))
        server = witness_server(witness)
        server.run(sockets=[listener])
    if not server.started:
        raise Stop(Exit.ERROR, "It did not start; the log above says why.")
    note("Stopped.")
    return Exit.OK


@app.command(name="add-log")
def add_log(
    vkey: str,
    /,
    *,
    beside: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    home: WitnessHome = None,
) -> int:
    """Cosign for a log from now on.

    Args:
        vkey: the log's public key, as `triad audit keys` prints it; its name is the log's origin.
        beside: the log has another trusted key already, as while its key is being replaced.
        home: the witness's folder.
    """
    key = _log_key(vkey)
    try:
        added = _witness(home).trust(key, beside=beside)
    except LedgerUnavailable as error:
        raise Stop(
            Exit.ERROR, "The key was not added.", str(error), following="--beside adds a second key of the same log."
        ) from error
    note(f"{key.name} is cosigned for." if added else f"That key of {key.name} was trusted already.")
    return Exit.OK


@app.command
def logs(*, home: WitnessHome = None, shape: Shape = SHAPE) -> int:
    """List the logs that it cosigns for, and what it cosigned last.

    Args:
        home: the witness's folder.
        shape: of the output.
    """
    rows: list[JsonObject] = [
        {
            "origin": log.latest.origin,
            "keys": [key.text() for key in log.keys],
            "size": log.latest.size,
            "cosigned": _instant(log.at) if log.at is not None else None,
        }
        for log in _witness(home).logs()
    ]
    show_list(shape, rows, _LOGS, model="WitnessLog", ident="origin")
    return Exit.OK


@app.command(name="remove-log")
def remove_log(log: str, /, *, home: WitnessHome = None) -> int:
    """Trust one key of a log no longer, or all of them. What was cosigned stays remembered.

    Args:
        log: a public key of the log, or the log's origin for all of them.
        home: the witness's folder.
    """
    key = _log_key(log) if "+" in log else None
    gone = _witness(home).distrust(key.name if key else log, key)
    if not gone:
        raise Stop(Exit.ERROR, "It did not cosign for that.", following="triad witness logs")
    note("One key is trusted no longer." if gone == 1 else f"{gone} keys are trusted no longer.")
    return Exit.OK


@app.command
def evidence(
    digest: str | None = None,
    /,
    *,
    against: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    home: WitnessHome = None,
    shape: Shape = SHAPE,
) -> int:
    """List what logs signed that does not fit together; or print one such checkpoint with the log's signatures.

    A fork is two checkpoints of one size with different roots, both signed by the log: together they prove it to
    anybody. An unproved checkpoint accuses nobody: it extends what was cosigned or it does not.

    Args:
        digest: the first digits of a note's SHA-256, to print it.
        against: print the other note of a fork instead.
        home: the witness's folder.
        shape: of the output.
    """
    kept = _witness(home).evidence()
    if digest is None:
        rows: list[JsonObject] = [
            {
                "digest": each.digest,
                "origin": each.origin,
                "code": each.finding.value,
                "size": each.size,
                "known": each.known,
                "at": _instant(each.at),
            }
            for each in kept
        ]
        show_list(shape, rows, _KEPT, model="KeptRequest", ident="digest")
        return Exit.OK
    found = [each for each in kept if each.digest.startswith(digest)]
    if len(found) != 1:
        raise Stop(Exit.ERROR, f"{len(found)} of them begin like that.", following="triad witness evidence")
    printed = found[0].against if against else found[0].note
    if not printed:
        raise Stop(Exit.ERROR, "No other note is kept of that one.")
    out(printed.decode().removesuffix("\n"))
    return Exit.OK


@app.command
def status(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show the witnesses that our log asks: what each cosigned last, and what it refuses.

    It exits with 1 while a witness refuses the log, or the newest entries wait for a quorum for too long.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/witnesses").data
    show_list(shape, found["items"], _STATUS, model="WitnessView", ident="name")
    note(_summary(found))
    refused = [each for each in found["items"] if each["refused"]]
    for each in refused:
        seen = each["size"] if each["seen"] is None else each["seen"]
        note(f"{each['name']} cosigned {seen} entries of this log and refuses what it is now ({each['refused']}).")
    if refused:
        note(f"What to do: {RUNBOOK}")
    return Exit.ERROR if refused or _missing(found) else Exit.OK


@app.command
def checkpoint(*, reach: Reach = REACH) -> int:
    """Print the newest checkpoint of our log that its quorum of witnesses cosigned.

    Where the log asks for no witness that is its newest checkpoint, and the command says so.

    Args:
        reach: the service.
    """
    with Client.of(reach) as client:
        asked = client.content(f"{V1}/ledger/policy").decode().rstrip("\n")
        if asked.endswith("quorum none"):
            note("The log asks for no quorum of witnesses; this is its newest checkpoint.")
        out(client.content(f"{V1}/ledger/cosigned-checkpoint").decode().rstrip("\n"))
    return Exit.OK


def policy(*, reach: Reach = REACH) -> int:
    """Print the log's keys, witnesses and quorum as a tlog-policy: its own claim, for a verifier to judge.

    Args:
        reach: the service.
    """
    with Client.of(reach) as client:
        out(client.content(f"{V1}/ledger/policy").decode().rstrip("\n"))
    return Exit.OK


def _missing(found: JsonObject) -> bool:
    """Whether the quorum is missing: there never was one, or what waits for it has waited for longer than a moment."""
    if not found["quorum"] or found["cosigned"] == found["size"]:
        return False
    if found["cosigned"] is None:
        return True
    waiting = [each["behind_since"] for each in found["items"] if each["behind_since"]]
    late = [since for since in waiting if datetime.now(UTC) - datetime.fromisoformat(since) > LATE]
    return bool(len(found["items"]) - len(late) < found["quorum"])


def _summary(found: JsonObject) -> str:
    if not found["items"]:
        return "No witness is asked. docs/operations/witnesses.md says how to have one."
    size = counted(found["size"], "entry", "entries")
    if not found["quorum"]:
        return f"The log has {size}; no quorum is asked for."
    needed = counted(found["quorum"], "witness", "witnesses")
    if found["cosigned"] is None:
        return f"The log has {size}; a quorum of {needed} never cosigned any of it."
    return f"The log has {size}; {found['cosigned']} are cosigned by a quorum of {needed}."


def _home(home: Path | None) -> Path:
    if home is not None:
        return home.absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/triad-witness")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "triad-witness"


def _witness(home: Path | None) -> Witness:
    try:
        return Witness.open(_home(home))
    except LedgerUnavailable as error:
        raise Stop(Exit.ERROR, "The witness cannot be used.", str(error)) from error


def _log_key(vkey: str) -> VerifierKey:
    try:
        return VerifierKey.parse(vkey)
    except NoteMalformed as error:
        raise Stop(
            Exit.USAGE, "That is no public key of a log.", str(error), following="`triad audit keys` prints it."
        ) from error


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
