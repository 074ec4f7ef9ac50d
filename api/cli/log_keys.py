"""`triad audit key` and `triad audit keys`: the keys the log signs with, and the rotation to a new one."""

from typing import Annotated, Final

from cyclopts import App, Parameter

from api.cli.asking import CONSENT, ONCE, Consent, Once, confirm
from api.cli.client import V1, Client
from api.cli.exits import Exit, Stop
from api.cli.operations import Reason
from api.cli.output import SHAPE, Column, Shape, note, show_list, show_one, styled
from api.cli.profile import REACH, Reach
from api.cli.sentences import moment

app = App(name="key", help="The log's own key: replace it.")

_LIST: Final = (
    Column("id", lambda key: key["id"]),
    Column("from", lambda key: str(key["since"])),
    Column("to", lambda key: "in force" if key["until"] is None else str(key["until"])),
    Column("began", lambda key: moment(key["began"])),
    Column("ended by", lambda key: key["person"] or ""),
    Column("compromised", lambda key: "yes" if key["compromised"] else ""),
    Column("reason", lambda key: key["reason"] or ""),
    Column("vkey", lambda key: key["vkey"]),
)


@app.command
def rotate(
    *,
    reason: Reason,
    compromised: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    consent: Consent = CONSENT,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Let the log sign with a new key from the next entry on, and destroy the old private key.

    Args:
        reason: why; it goes on record.
        compromised: the old key may be in somebody else's hands.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    confirm("Replace the log's key for good?", consent)
    with Client.of(reach) as client:
        body = {"reason": reason, "compromised": compromised}
        made = client.post(f"{V1}/ledger/key/rotations", body, key=once.key).data
        asked = _witnesses(client)
    lines = (f"Entry {made['index']} names the new key: {made['key']}", *made["sentences"])
    show_one(shape, made, lambda: styled("\n".join(lines)), model="RotationMade", ident="index")
    if asked:
        note(f"The log's witnesses ({', '.join(asked)}) must learn the new key. Whoever runs one types there:")
        note(f"  triad witness add-log {made['key']} --beside")
    return Exit.OK


def _witnesses(client: Client) -> list[str]:
    """Names of the witnesses that the log asks; none where they may not be read: the rotation stands already."""
    try:
        return [str(each["name"]) for each in client.get(f"{V1}/witnesses").data["items"]]
    except Stop:
        return []


def keys(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List every key the log ever signed with, oldest first.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/ledger/keys").data["items"]
    show_list(shape, found, _LIST, model="LogKeyView", ident="id")
    return Exit.OK
