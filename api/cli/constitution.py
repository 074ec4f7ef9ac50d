"""`triad constitution`: the rules in force, and whether the document is theirs."""

import difflib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from api.cli.asking import CONSENT, ONCE, Consent, Once, confirm
from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.operations import Reason
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, out, show_list, show_one, styled, write
from api.cli.profile import REACH, Reach
from api.cli.sentences import moment

if TYPE_CHECKING:
    from rich.console import RenderableType

app = App(name="constitution", help="The rules in force: read them, see that they are enforced, amend them.")

_AMENDMENTS: Final = f"{V1}/constitution/amendments"
_LIST: Final = (
    Column("amendment", lambda item: item["amendment"]),
    Column("state", lambda item: item["state"]),
    Column("by", lambda item: item["by"]),
    Column("at", lambda item: moment(item["at"])),
    Column("proposed", lambda item: item["proposed"][:16]),
    Column("reason", lambda item: item["reason"]),
)
_HISTORY: Final = f"{V1}/constitution/history"
_BEGINNING: Final = re.compile(r"[0-9a-f]{8,63}", re.ASCII)
_TERMS: Final = (
    Column("digest", lambda item: item["digest"][:16]),
    Column("entries", lambda item: f"{item['first']} to {'now' if item['last'] is None else item['last']}"),
    Column("since", lambda item: moment(item["since"])),
    Column("proposed by", lambda item: item["proposer"] or "the genesis"),
    Column("proposed because", lambda item: item["proposed_because"]),
    Column("ratified by", lambda item: item["ratifier"]),
    Column("ratified because", lambda item: item["reason"]),
)
_HEALTH: Final = (
    Column("status", lambda item: item["status"]),
    Column("in force", lambda item: item["in_force"]),
    Column("on disk", lambda item: item["on_disk"] or "cannot be read"),
    Column("articles", lambda item: f"{item['articles']}, {item['enforced']} of them enforced by code"),
    Column("policies", lambda item: item["policies"]),
    Column("mode", lambda item: item["mode"]),
    Column("halted", lambda item: "yes" if item["halted"] else "no"),
    Column("refused", lambda item: f"{item['denials_24h']} in the last 24 hours"),
)


@app.command
def show(
    digest: str | None = None,
    /,
    *,
    text: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Show the constitution in force, or the text of one that was.

    Args:
        digest: of another one, as `triad constitution history` prints it; its first eight digits are enough.
        text: the document itself, with the blocks that code enforces.
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        if digest is not None:
            past = _text(client, digest)
            show_one(shape, past, lambda: styled(past["text"].rstrip("\n")), model="ConstitutionText", ident="digest")
            return Exit.OK
        if text:
            out(client.text(f"{V1}/constitution", "text/markdown").rstrip("\n"))
            return Exit.OK
        found = client.get(f"{V1}/constitution").data
    show_one(shape, found, lambda: _articles(found), model="ConstitutionView", ident="digest")
    return Exit.OK


@app.command
def verify(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Compare the document with the ledger's word, and ask the enforcement questions with known answers.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get("/constitutional-health", also=(503,)).data
    show_one(shape, found, lambda: _health(found), model="ConstitutionalHealth", ident="in_force")
    if found["status"] == "pass":
        return Exit.OK
    note("Everything stays closed until the document is the one in force: docs/runbooks/constitution-changed.md")
    return Exit.ERROR


@app.command
def history(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List every constitution that was ever in force, oldest first.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(_HISTORY).data["items"]
    show_list(shape, found, _TERMS, model="ConstitutionTerm", ident="digest")
    return Exit.OK


@app.command
def diff(older: str, newer: str, /, *, reach: Reach = REACH) -> int:
    """Show what differs between two constitutions, as a unified diff.

    Args:
        older: digest of the one; its first eight digits are enough.
        newer: digest of the other.
        reach: the service.
    """
    with Client.of(reach) as client:
        before, after = _text(client, older), _text(client, newer)
    lines = difflib.unified_diff(
        before["text"].splitlines(), after["text"].splitlines(), before["digest"], after["digest"], lineterm=""
    )
    for line in lines:
        out(line)
    return Exit.OK


def _text(client: Client, digest: str) -> JsonObject:
    """A constitution by its digest, or by the beginning of one that is listed.

    Raises:
        Stop: there is none, or several begin so.
    """
    whole = digest
    if _BEGINNING.fullmatch(digest):
        terms = client.get(_HISTORY).data["items"]
        proposals = client.get(_AMENDMENTS).data["items"]
        known = {each["digest"] for each in terms} | {each["proposed"] for each in proposals}
        fitting = sorted(each for each in known if each.startswith(digest))
        if len(fitting) > 1:
            raise Stop(Exit.USAGE, "Several constitutions begin so.", following="Give more of the digest.")
        whole = fitting[0] if fitting else digest
    return client.get(f"{V1}/constitution/{segment(whole)}").data


@app.command
def amendments(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """List the amendments that were proposed, newest first.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get(_AMENDMENTS).data["items"]
    show_list(shape, found, _LIST, model="AmendmentView", ident="amendment")
    return Exit.OK


@app.command
def propose(file: Path, /, *, reason: Reason, once: Once = ONCE, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Put a new text forward, as the first of two people. It changes nothing until the second ratifies it.

    Args:
        file: the whole new text.
        reason: why; it goes on record.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(Exit.USAGE, f"{file} cannot be read.", str(error)) from error
    with Client.of(reach) as client:
        found = client.post(_AMENDMENTS, {"text": text, "reason": reason}, key=once.key).data
    show_one(shape, found, lambda: _amendment(found), model="AmendmentView", ident="amendment")
    note(f"Another person brings it into force: triad constitution ratify {found['amendment']}")
    return Exit.OK


@app.command
def ratify(
    amendment: str,
    /,
    *,
    reason: Reason,
    consent: Consent = CONSENT,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Bring a proposed text into force, as the second person. The difference is shown first.

    Args:
        amendment: its id.
        reason: why; it goes on record.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    path = f"{_AMENDMENTS}/{segment(amendment)}"
    with Client.of(reach) as client:
        seen = client.get(path).data
        write(_amendment(seen), sys.stderr)
        confirm(f"Bring exactly this text {seen['proposed'][:16]}... into force?", consent)
        found = client.post(f"{path}/ratify", {"reason": reason}, key=once.key).data
    show_one(
        shape,
        found,
        lambda: styled(f"{found['proposed']} is {found['state']}."),
        model="AmendmentView",
        ident="amendment",
    )
    return Exit.OK


def _amendment(found: JsonObject) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    return Group(facts(found, _LIST), styled(f"\n{found['diff'] or ''}"))


def _articles(found: JsonObject) -> "RenderableType":
    lines = [f"constitution {found['digest']}", "", found["preamble"]]
    for article in found["articles"]:
        mark = "" if article["enforced"] else " (judged by the crown)"
        lines += ["", f"{article['id']}: {article['title']}{mark}", article["text"]]
    return styled("\n".join(lines))


def _health(found: JsonObject) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    tests = [
        f"{'ok  ' if each['expected'] == each['got'] else 'FAIL'}  {each['name']}: {each['got']} ({each['code']})"
        for each in found["self_test"]
    ]
    return Group(facts(found, _HEALTH), *(styled(line) for line in tests))
