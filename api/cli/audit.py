"""`triad audit`: the record as it is written, carried elsewhere, and verified."""

from collections import deque
from typing import Annotated, Final

from cyclopts import App, Parameter

from api.cli.client import V1, Client
from api.cli.exits import Exit, Stop
from api.cli.operations import TIMELINE, entry_writer
from api.cli.output import SHAPE, JsonObject, Shape, note, show_list
from api.cli.profile import REACH, Reach

app = App(name="audit", help="The record: read it, carry a copy elsewhere, verify it.")
app.command(
    "api.cli.verification:verify",
    name="verify",
    help="Verify a ledger from its bytes: signatures, root, what was seen before, and what the entries mean.",
)
app.command("api.cli.exports:export", name="export", help="Write or extend an export that anybody can verify.")
app.command("api.cli.exports:prove", name="prove", help="Print the proof of an entry, or write those of an operation.")
app.command("api.cli.exports:archive", name="archive", help="Archive the closed segments: verified, listed, recorded.")
app.command("api.cli.verification:verifier", name="verifier", help="Write the verifier as one file that runs anywhere.")

app.command("api.cli.analytics:analyse", name="analyse", help="Say what the record shows of a time, with numbers.")
app.command("api.cli.analytics:reports", name="reports", help="List the stored reports, newest first.")
app.command("api.cli.analytics:report", name="report", help="Show a stored report, or compute it again and compare.")
app.command("api.cli.witness:policy", name="policy", help="Print the log's keys, witnesses and quorum as a policy.")
app.command("api.cli.log_keys:app", name="key")
app.command("api.cli.log_keys:keys", name="keys", help="List every key the log ever signed with, oldest first.")

app.command(
    "api.cli.erasure:erase",
    name="erase",
    help="Erase what is personal: about a person, or one piece of evidence. The ledger's tree stays as it is.",
)
app.command("api.cli.erasure:expire", name="expire", help="Let evidence expire whose time is over.")
app.command("api.cli.erasure:evidence", name="evidence", help="Print a piece of evidence by its digest.")

_NEWER_THAN_ALL: Final = 2**53 - 1
_EVERYTHING: Final = 10**9


@app.command
def tail(
    *,
    lines: Annotated[int, Parameter(name=["-n", "--lines"], metavar="N")] = 20,
    follow: Annotated[bool, Parameter(name=["-f", "--follow"], negative=(), show_default=False)] = False,
    kind: Annotated[tuple[str, ...], Parameter(negative=(), metavar="KIND", show_default=False)] = (),
    operation: Annotated[str | None, Parameter(metavar="ID")] = None,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Print the newest entries, oldest of them first.

    Args:
        lines: how many.
        follow: go on with what comes, until Ctrl-C.
        kind: only entries of this kind; give it once for each.
        operation: only entries of this operation.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = list(_newest(client, lines, kind, operation))
        if not found and not follow:
            note("Nothing matches: no entry is of that kind and operation.")
        write = entry_writer(shape, place=True)
        if shape.form in {"table", "jsonl"} or follow:
            for entry in found:
                write(entry)
        else:
            show_list(shape, found, TIMELINE, model="EntryView", ident="index")
        if follow:
            after = found[-1]["index"] if found else _newest_index(client)
            try:
                for sent in client.events("/monitoring/stream", after=after):
                    if sent.kind != "resync" and _wanted(sent.entry, kind, operation):
                        write(sent.entry)
            except KeyboardInterrupt:
                raise Stop(Exit.INTERRUPTED, "Stopped watching.") from None
    return Exit.OK


def _newest(client: Client, lines: int, kinds: tuple[str, ...], operation: str | None) -> deque[JsonObject]:
    """The last entries of those that are wanted."""
    start = -1 if kinds or operation else _newest_index(client) - lines
    entries = client.items(
        f"{V1}/audit", most=_EVERYTHING, cursor=max(start, -1), kind=list(kinds) or None, operation=operation
    )
    return deque(entries, maxlen=lines)


def _newest_index(client: Client) -> int:
    """Index of the newest entry: a stream that is asked for what lies beyond it begins by saying where it is."""
    for sent in client.events("/monitoring/stream", after=_NEWER_THAN_ALL):
        return sent.index
    return -1


def _wanted(entry: JsonObject, kinds: tuple[str, ...], operation: str | None) -> bool:
    return (not kinds or entry["kind"] in kinds) and (operation is None or entry.get("operation") == operation)
