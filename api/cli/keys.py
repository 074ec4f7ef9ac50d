"""`triad key`: API keys, by an admin in person."""

from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from api.cli.asking import CONSENT, Consent, confirm
from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.output import (
    ALL_FIELDS,
    SHAPE,
    Column,
    JsonObject,
    Shape,
    fields_of,
    note,
    out,
    show_list,
    show_one,
    styled,
)
from api.cli.profile import REACH, Reach
from api.cli.requests import instant
from api.cli.sentences import moment

app = App(name="key", help="API keys: make one, list them, revoke one. A principal is a handle, not a name.")

RoleName = Literal["requester", "operator", "approver", "auditor", "crown_officer", "admin"]

_LIST: Final = (
    Column("fingerprint", lambda key: key["fingerprint"]),
    Column("principal", lambda key: key["principal"]),
    Column("name", lambda key: key["name"]),
    Column("kind", lambda key: key["kind"]),
    Column("person", lambda key: key["person"]),
    Column("roles", lambda key: ", ".join(key["roles"])),
    Column("created", lambda key: moment(key["created"])),
    Column("expires", lambda key: moment(key["expires"]) or "never"),
    Column("revoked", lambda key: moment(key["revoked"])),
)


@app.command
def create(  # noqa: PLR0913 - each is an option of the command
    principal: str,
    /,
    *,
    role: Annotated[tuple[RoleName, ...], Parameter(name=["-r", "--role"], negative=(), metavar="ROLE")],
    kind: Annotated[Literal["person", "service"], Parameter(metavar="KIND")] = "person",
    person: Annotated[str | None, Parameter(metavar="NAME")] = None,
    expires: Annotated[str | None, Parameter(metavar="WHEN")] = None,
    name: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    email: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Make a key. It is printed this once and cannot be shown again.

    PRINCIPAL is a handle: it stands in the ledger for ever, so let it say nothing about a person that may have to be
    erased. Names and addresses are kept outside the ledger, which holds only salted commitments to them.

    Args:
        principal: who it speaks for.
        role: what it may be used for; give it once for each.
        kind: a person or a service.
        person: the human behind it, the principal itself unless told: two keys of one person are one approver.
        expires: when it stops counting: 2027-01-01, or +90d.
        name: what they are called; kept outside the ledger, see `triad people`.
        email: their address; kept outside the ledger.
        reach: the service.
        shape: of the output.
    """
    _refuse_to_lose_the_key(shape)
    body: JsonObject = {"principal": principal, "kind": kind, "person": person or principal, "roles": list(role)}
    if expires is not None:
        body["expires"] = instant(expires)
    body |= {field: value for field, value in (("name", name), ("email", email)) if value is not None}
    with Client.of(reach) as client:
        made = client.post(f"{V1}/keys", body).data
    if shape.form == "table":
        note(f"The key of {made['principal']} ({made['fingerprint']}). It is shown this once:")
        out(made["key"])
    else:
        show_one(shape, made, lambda: styled(made["key"]), model="KeyMade", ident="fingerprint")
    return Exit.OK


def _refuse_to_lose_the_key(shape: Shape) -> None:
    """Refuse a form that leaves the key out, before there is a key: it could never be shown again.

    Raises:
        Stop: the key would not be printed.
    """
    asked = {ALL_FIELDS} if shape.json is None else {name.strip() for name in shape.json.split(",")}
    known = {ALL_FIELDS, *fields_of("KeyMade")}
    if shape.form == "id" or not asked & {ALL_FIELDS, "key"} or asked - known:
        raise Stop(
            Exit.USAGE,
            "That form would leave the key out, which is shown only once; no key was made.",
            following=f"Take none for the key alone, or --json=FIELDS with key: {', '.join(fields_of('KeyMade'))}.",
        )


@app.command(name="list")
def list_keys(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List every key there ever was, without its secret.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(f"{V1}/keys").data["items"]
    show_list(shape, found, _LIST, model="KeyView", ident="fingerprint")
    return Exit.OK


@app.command
def revoke(fingerprint: str, /, *, consent: Consent = CONSENT, reach: Reach = REACH) -> int:
    """Make a key invalid at once and for good.

    Args:
        fingerprint: of the key, as `triad key list` prints it.
        consent: how to ask.
        reach: the service.
    """
    confirm(f"Revoke {fingerprint} for good?", consent)
    with Client.of(reach) as client:
        client.delete(f"{V1}/keys/{segment(fingerprint)}")
    note(f"{fingerprint} counts no more.")
    return Exit.OK
