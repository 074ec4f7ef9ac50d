"""`triad audit analyse`, `reports` and `report`: what the record says about the work, in sentences and tables.

They read the home's own database, whether the service runs or not; `--remote` asks the service instead. Storing a
report is an act on the record, with a name behind it, so only the service does it.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from cyclopts import Parameter
from pydantic import ValidationError

from api.cli.analysed import page
from api.cli.asking import ONCE, Once
from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.ledgers import ask_ledger, database_of, settings_of
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, out, show_list, show_one
from api.cli.profile import REACH, HomeFolder, Reach
from api.cli.sentences import moment
from api.settings import Settings
from operations.errors import LedgerCorrupt, Refusal
from triad.analytics.analysis import Analyst
from triad.analytics.markdown import document
from triad.analytics.records import Analysis, Question, Report
from triad.analytics.report import digest_of

T = TypeVar("T")
Remote = Annotated[bool, Parameter(negative=(), show_default=False)]

_EVERYTHING: Final = 2**53 - 1
_STORED: Final = (
    Column("digest", lambda each: each["digest"]),
    Column("entry", lambda each: each["index"]),
    Column("time", lambda each: moment(each["time"])),
    Column("entries", lambda each: f"{each['first']} to {each['end'] - 1}"),
    Column("by", lambda each: each["by"]),
)


def analyse(  # noqa: PLR0913 - one option each
    *,
    since: Annotated[str | None, Parameter(metavar="WHEN", show_default=False)] = None,
    until: Annotated[str | None, Parameter(metavar="WHEN", show_default=False)] = None,
    branch: Annotated[str | None, Parameter(metavar="BRANCH")] = None,
    operation: Annotated[str | None, Parameter(metavar="ID")] = None,
    system: Annotated[str | None, Parameter(metavar="NAME")] = None,
    playbook: Annotated[str | None, Parameter(metavar="NAME")] = None,
    principal: Annotated[str | None, Parameter(metavar="ID")] = None,
    bucket: Annotated[str | None, Parameter(metavar="LENGTH")] = None,
    markdown: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    store: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    home: HomeFolder = None,
    remote: Remote = False,
    once: Once = ONCE,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Say what the record shows of a time: counts, durations, refusals, gaps, and what follows from them.

    Args:
        since: 24h, 7d, 90min, a day, an RFC 3339 time, or `begin`; 24h where it is missing.
        until: likewise; now where it is missing.
        branch: only entries of this branch.
        operation: only this operation, from its request on.
        system: only what concerns this system.
        playbook: only what concerns this playbook.
        principal: only entries of this principal.
        bucket: slices of the time: 1min, 5min, 15min, 1h, 6h, 1d or 7d; otherwise what gives at most 60.
        markdown: print a Markdown document.
        store: let the service compute the report and keep it on the record.
        home: the installation's folder, whose database is read.
        remote: ask the service instead.
        once: for --store.
        reach: the service, with --remote and --store.
        shape: of the output.
    """
    asked = {
        "since": since,
        "until": until,
        "branch": branch,
        "operation": operation,
        "system": system,
        "playbook": playbook,
        "principal": principal,
        "bucket": bucket,
    }
    named = {name: value for name, value in asked.items() if value is not None}
    if store:
        return _store(named, once, reach, shape)
    found = _remote(named, reach) if remote else _local(home, named)
    if not found.report.entries:
        filters = [f"--{name}" for name in ("branch", "operation", "system", "playbook", "principal") if name in named]
        what = f"no entry of that time is of this {' and '.join(filters)}" if filters else "no entry is of that time"
        note(f"Nothing matches: {what}.")
    if markdown:
        out(document(found.report, found.digest).rstrip())
        return Exit.OK
    shown: JsonObject = found.model_dump(mode="json")
    show_one(shape, shown, lambda: page(found.report, found.digest, found.live), model="Analysis", ident="digest")
    return Exit.OK


def reports(
    *,
    limit: Annotated[int, Parameter(metavar="N")] = 20,
    home: HomeFolder = None,
    remote: Remote = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """List the stored reports, newest first.

    Args:
        limit: at most that many.
        home: the installation's folder, whose database is read.
        remote: ask the service instead.
        reach: the service, with --remote.
        shape: of the output.
    """
    if not 1 <= limit <= 500:  # noqa: PLR2004 - as the service
        raise Stop(Exit.USAGE, "--limit is 1 to 500.")
    if remote:
        with Client.of(reach) as client:
            items = list(client.get(f"{V1}/audit/reports", query={"limit": limit}).data["items"])
    else:
        listed = _asked(home, "audit reports", lambda analyst: analyst.stored(limit=limit))
        items = listed.model_dump(mode="json")["items"]
    show_list(shape, items, _STORED, model="StoredReport", ident="digest")
    return Exit.OK


def report(
    digest: str,
    /,
    *,
    markdown: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    check: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    home: HomeFolder = None,
    remote: Remote = False,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Show a stored report; with --check compute it again from the entries and compare.

    Exit codes: 0 done, 1 there is no such report, 5 the entries give another report than the one that is stored.

    Args:
        digest: the report's, as `triad audit reports` lists it.
        markdown: print a Markdown document.
        check: compute it again; the same entries give the same digest.
        home: the installation's folder, whose database is read.
        remote: ask the service instead.
        reach: the service, with --remote.
        shape: of the output.
    """
    if check and remote:
        raise Stop(Exit.USAGE, "--check computes here; it does not go with --remote.")
    if check:
        return _check(home, digest)
    if remote:
        with Client.of(reach) as client:
            found = _valid(client.get(f"{V1}/audit/reports/{segment(digest)}").data)
    else:
        found, _ = _asked(home, "audit report", lambda analyst: analyst.load(digest))
    if markdown:
        out(document(found, digest).rstrip())
        return Exit.OK
    shown: JsonObject = found.model_dump(mode="json")
    show_one(shape, shown, lambda: page(found, digest, None), model="Report", ident="origin")
    return Exit.OK


def _check(home: Any, digest: str) -> int:  # noqa: ANN401 - as cyclopts gave it
    async def recomputed(analyst: Analyst) -> str:
        stored, _ = await analyst.load(digest)
        return await analyst.recomputed(stored)

    again = _asked(home, "audit report", recomputed)
    if again == digest:
        note("The same entries give the same report.")
        out(again)
        return Exit.OK
    note(f"The entries give another report: {again}. `triad audit verify` says whether they were changed.")
    return Exit.UNSUCCESSFUL


def _store(named: dict[str, str], once: Once, reach: Reach, shape: Shape) -> int:
    with Client.of(reach) as client:
        stored = client.post(f"{V1}/audit/reports", named, key=once.key).data
    show_one(shape, stored, lambda: facts(stored, _STORED), model="StoredReport", ident="digest")
    note(f"Show it with: triad audit report {stored['digest']} --markdown")
    return Exit.OK


def _remote(named: dict[str, str], reach: Reach) -> Analysis:
    with Client.of(reach) as client:
        data = client.get(f"{V1}/audit/analytics", query=dict(named)).data
    try:
        return Analysis.model_validate_json(_bytes(data))
    except ValidationError as error:
        raise Stop(Exit.ERROR, "The service's answer is of another version.", following="triad version") from error


def _valid(data: JsonObject) -> Report:
    try:
        return Report.model_validate_json(_bytes(data))
    except ValidationError as error:
        raise Stop(Exit.ERROR, "The service's answer is of another version.", following="triad version") from error


def _bytes(data: JsonObject) -> bytes:
    import orjson  # noqa: PLC0415 - only here

    return orjson.dumps(data)


def _local(home: Any, named: dict[str, str]) -> Analysis:  # noqa: ANN401 - as cyclopts gave it
    try:
        question = Question.model_validate(named)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Stop(Exit.USAGE, f"--{field} cannot be used.", first["msg"], f"field: {field}") from error

    async def computed(analyst: Analyst) -> Analysis:
        found = await analyst.report(await analyst.scope(question))
        return Analysis(digest=digest_of(found), report=found, live=await analyst.live(found), milliseconds=0)

    return _asked(home, "audit analyse", computed)


def _asked(home: Any, command: str, question: Callable[[Analyst], Awaitable[T]]) -> T:  # noqa: ANN401 - see above
    settings: Settings = settings_of(home)

    async def ask(reader: Any) -> T:  # noqa: ANN401 - whatever `ask_ledger` opens
        try:
            return await question(Analyst(reader, settings.analytics, settings.origin, most=_EVERYTHING))
        except Refusal as error:
            code = Exit.USAGE if error.field else Exit.ERROR
            where = (f"field: {error.field}",) if error.field else ()
            raise Stop(code, " ".join(error.reasons), f"code: {error.code}", *where) from error
        except LedgerCorrupt as error:
            raise Stop(
                Exit.ERROR, "The record cannot be analysed.", str(error), following="triad audit verify"
            ) from error

    with database_of(settings, command) as dsn:
        return ask_ledger(dsn, ask)
