"""`triad login`, `logout` and `whoami`: which key goes with which service."""

import getpass
import sys
from typing import Annotated, Final

from cyclopts import Parameter

from api.cli.client import V1, Client
from api.cli.exits import Exit, Stop
from api.cli.output import SHAPE, Column, Shape, facts, note, show_one
from api.cli.profile import DEFAULT_URL, REACH, TOKEN, Profile, Reach, checked_url, forget, profile, store

_ME: Final = (
    Column("principal", lambda me: me["id"]),
    Column("kind", lambda me: me["kind"]),
    Column("person", lambda me: me["person"]),
    Column("roles", lambda me: ", ".join(me["roles"])),
    Column("constitution", lambda me: me["constitution"]),
)


def login(
    *, token: Annotated[str | None, Parameter(metavar="-", allow_leading_hyphen=True)] = None, reach: Reach = REACH
) -> int:
    """Keep a key for later calls, after the service has accepted it.

    Args:
        token: `-` reads it from standard input; otherwise you are asked for it. A key never stands on a command line.
        reach: the service that the key is for.
    """
    if token not in {None, "-"}:
        raise Stop(
            Exit.USAGE,
            "A key on the command line can be read by others and stays in the shell's history.",
            following="Write `triad login --token -` and pipe it in, or `triad login` and paste it. Revoke this one.",
        )
    url = checked_url(reach.url or DEFAULT_URL)
    key = (sys.stdin.readline() if token == "-" or not sys.stdin.isatty() else getpass.getpass("key: ")).strip()  # noqa: S105 - the sign for standard input
    if not TOKEN.fullmatch(key):
        raise Stop(Exit.NOT_ALLOWED, "That is no key.", following="A key is `triad_` and 43 characters after it.")
    with Client(Profile(url, key, "standard input")) as client:
        me = client.get(f"{V1}/me").data
    path = store(url, key)
    note(f"You are {me['id']} at {url}. The key is kept in {path}, readable by you alone.")
    return Exit.OK


def logout() -> int:
    """Forget the kept key. It still counts until it is revoked or expires."""
    note("The kept key is removed." if forget() else "No key was kept.")
    return Exit.OK


def whoami(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Show who your key says you are, and what you may do.

    Args:
        reach: the service.
        shape: of the output.
    """
    who = profile(reach)
    with Client(who) as client:
        me = client.get(f"{V1}/me").data
    show_one(shape, me, lambda: facts(me, _ME), model="Me")
    note(f"{who.url}, with the key from {who.source}")
    return Exit.OK
