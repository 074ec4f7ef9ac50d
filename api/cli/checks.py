"""What `triad doctor` looks at. A check says what it found; it never raises and never repairs."""

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from api.cli.client import Client
from api.cli.exits import Stop
from api.cli.ledgers import ask_ledger, database_of, log_keys, remembered, settings_of
from api.cli.occupation import occupant_of
from api.cli.own_ledger import own_report
from api.cli.profile import Profile, Reach, on_this_machine, profile
from api.cli.records import Finding
from api.settings import Model, Settings
from operations.canonical import now
from operations.constitution import Constitution
from operations.errors import ConstitutionInvalid, LedgerCorrupt, LedgerUnavailable, Refusal
from operations.systems import resolve_secret
from storage import migrate
from storage.binaries import EmbeddedFailed, find_binaries, server_account
from storage.embedded import SHARED
from storage.engine import BROKEN
from storage.entry import Entry
from storage.keyring import KeyExposed, Keyring
from storage.reader import Head, Reader
from storage.signer import memory_path
from storage.verifier.policy import Policy
from storage.verifier.report import Report
from storage.verifier.verification import EntriesUnreadable
from storage.witnessed import Standing, Witnessed
from triad.home import Home
from triad.witnesses import complaint

OLDEST: Final = (3, 11)
CLOCK_TOLERANCE: Final = timedelta(seconds=5)
"""The verifier's own tolerance for an entry's time, `storage.verifier.rules.CLOCK_TOLERANCE`."""

_RUNBOOK: Final = "docs/runbooks/ledger-does-not-verify.md"
_OTHERS: Final = 0o077
_PRIVATE: Final = ("*.key", "*.key.next-*", "*.key.retired-*", "*.password", "*.dsn")


def ok(name: str, found: str) -> Finding:
    """It holds."""
    return Finding(name=name, status="ok", found=found, next=None)


def warn(name: str, found: str, following: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(name=name, status="warn", found=found, next=following)


def fail(name: str, found: str, following: str) -> Finding:
    """It does not hold."""
    return Finding(name=name, status="fail", found=found, next=following)


def python() -> Finding:
    """The interpreter is new enough."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST:
        return fail("python", version, "Triad needs Python 3.11 or newer.")
    return ok("python", version)


def settings(home: Path | None, config: Path | None) -> tuple[Settings | None, Finding]:
    """The settings can be used."""
    try:
        found = settings_of(home, config)
    except Stop as stop:
        return None, fail("settings", " ".join((stop.sentence, *stop.details)), "Correct that field.")
    return found, ok("settings", f"home {found.home}, mode {found.mode.value}")


def home(known: Settings) -> Finding:
    """The home folder is there, ours, and nobody else can write into it."""
    path = known.home
    if not path.is_dir():
        return fail("home", f"{path} does not exist.", "`triad up` or `triad demo` makes it; --home names another.")
    status = path.stat()
    if status.st_uid != os.geteuid():
        return fail("home", f"{path} belongs to another user.", "Run triad as its owner, or name another folder.")
    if stat.S_IMODE(status.st_mode) & 0o022:
        return fail("home", f"Others can write into {path}.", f"Run: chmod go-w {path}")
    return ok("home", str(path))


def secrets(known: Settings) -> Finding:
    """Nobody else can read a key or a password."""
    folder = Home(known.home).secrets
    if not folder.is_dir():
        return warn("secrets", f"{folder} does not exist yet.", "The first start makes it.")
    files = [folder, *(path for pattern in _PRIVATE for path in sorted(folder.glob(pattern)))]
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) & _OTHERS:
            return fail("secrets", f"Others can enter or read {path}.", f"Run: chmod go= {path}")
    return ok("secrets", f"{len(files) - 1} files, readable by their owner alone")


def models(known: Settings) -> Finding:
    """Each branch's model has the key that it needs."""
    branches = {name: getattr(known, name) for name in ("planner", "executor", "evaluator", "crown")}
    for name, model in branches.items():
        wrong = _model(model)
        if wrong:
            return fail("models", f"{name}: {wrong}", f"Set {name}.api_key to a reference: file:/path or env:NAME.")
    return ok("models", ", ".join(sorted({model.name for model in branches.values()})))


def _model(model: Model) -> str | None:
    if model.api_key is None:
        needs = model.name.startswith("openai-") and model.base_url is None
        return "OpenAI's own service needs a key." if needs else None
    try:
        resolve_secret(model.api_key)
    except Refusal as error:
        return " ".join(error.reasons)
    return None


def postgresql(known: Settings) -> Finding:
    """There is a server: named in the settings, or one for this platform in the package."""
    if known.database.url is not None:
        return ok("postgresql", "a server of yours")
    try:
        programs = find_binaries(server_account(), SHARED)
    except (EmbeddedFailed, OSError) as error:
        return fail("postgresql", str(error), "docs/runbooks/embedded-postgresql.md, or set database.url.")
    occupant = occupant_of(known.home)
    by = f", used by `triad {occupant.command}` (process {occupant.pid})" if occupant else ", not running"
    return ok("postgresql", f"embedded, {programs}{by}")


def database(known: Settings) -> Iterator[Finding]:
    """The database answers, has its tables, and what it holds is what was signed and what is in force."""
    try:
        with database_of(known, "doctor") as dsn:
            missing, finding = _migrations(dsn)
            yield finding
            if not missing:
                yield from _ledger(known, dsn)
    except Stop as stop:
        found = " ".join((stop.sentence, *stop.details))
        yield fail("database", found, stop.following or "docs/runbooks/embedded-postgresql.md")


def _migrations(dsn: str) -> tuple[bool, Finding]:
    try:
        missing = asyncio.run(migrate.pending(dsn))
    except BROKEN as error:
        return True, fail("database", f"It takes no connections: {error}", "docs/runbooks/embedded-postgresql.md")
    if missing:
        return True, fail("database", f"It lacks {', '.join(missing)}.", "Run: triad migrate")
    return False, ok("database", "every migration is applied")


def _ledger(known: Settings, dsn: str) -> Iterator[Finding]:
    async def look(reader: Reader) -> tuple[Head, str, list[Entry]]:
        head = await reader.head()
        return head, await reader.key_in_force(), await reader.entries(after=head.size - 2, limit=1)

    try:
        head, key, newest = ask_ledger(dsn, look)
    except LedgerCorrupt as error:
        yield fail("ledger", str(error), _RUNBOOK)
        return
    yield _clock(newest)
    yield _constitution(known, head)
    yield (
        warn("halt", "Everything is halted.", 'triad release --reason "..."')
        if head.halted
        else ok("halt", "Nothing is halted.")
    )
    yield _verified(known, dsn, key)
    yield _witnesses(known, dsn)


def _clock(newest: list[Entry]) -> Finding:
    ahead = max((entry.time for entry in newest), default=now()) - now()
    if ahead > CLOCK_TOLERANCE:
        seconds = round(ahead.total_seconds())
        return fail(
            "clock", f"The newest entry is {seconds} s in the future.", "Set the clock; entries would run back."
        )
    return ok("clock", f"{now():%Y-%m-%d %H:%M:%S} UTC, not behind the newest entry")


def _constitution(known: Settings, head: Head) -> Finding:
    path = Home(known.home).constitution
    runbook = "docs/runbooks/constitution-changed.md"
    try:
        document = Constitution.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConstitutionInvalid) as error:
        return fail("constitution", f"{path} cannot be used: {error}", runbook)
    if document.digest != head.constitution:
        return fail("constitution", f"{path} is {document.digest[:16]}, in force is {head.constitution[:16]}", runbook)
    return ok("constitution", f"{document.digest[:16]}, {len(document.articles)} articles")


def _verified(known: Settings, dsn: str, key: str) -> Finding:
    try:
        keys = log_keys(known)
        if not keys:
            return fail("ledger", "The log's key is gone.", "docs/runbooks/keys.md")
        report = own_report(known, dsn, Policy.of(keys))
    except KeyExposed:
        return fail(
            "ledger", "Not verified: its key is not used while others can read it.", "First what `secrets` says."
        )
    except (LedgerUnavailable, LedgerCorrupt, EntriesUnreadable) as error:
        return fail("ledger", str(error), _RUNBOOK)
    if not report.ok:
        return fail("ledger", f"code {int(report.code)}: {report.problems[0].sentence}", _RUNBOOK)
    return _signer(known, key) or _intact(report)


def _intact(report: Report) -> Finding:
    if report.open_steps:
        return warn("ledger", f"intact, {len(report.open_steps)} steps without an outcome", "triad op list")
    return ok("ledger", f"intact, {report.size} entries")


def _signer(known: Settings, key: str) -> Finding | None:
    """What keeps the home's signer from going on with a log that verifies; None: nothing."""
    path = Home(known.home).secrets / "ledger.key"
    if remembered(Home(known.home)) is None and path.exists():
        memory = memory_path(path)
        return fail("ledger", f"{memory} is missing or cannot be read: nothing is signed without it.", _RUNBOOK)
    try:
        Keyring(path, known.origin, current=known.ledger.key, following=known.ledger.next_key).find(key)
    except LedgerUnavailable as error:
        return fail("ledger", str(error), "docs/runbooks/log-key.md")
    return None


def _witnesses(known: Settings, dsn: str) -> Finding:
    page = "docs/operations/witnesses.md"
    if not known.witnesses:
        return warn("witnesses", "none: whoever holds the log's key could show different people different logs", page)

    async def look(reader: Witnessed) -> list[Standing]:
        return [await reader.standing(peer) for peer in known.peers]

    found = ask_ledger(dsn, look)
    wrong = " ".join(each for each in (complaint(one, now()) for one in found) if each is not None)
    if any(each.refused for each in found):
        return fail("witnesses", wrong, _RUNBOOK)
    if wrong:
        return warn("witnesses", wrong, "triad witness status")
    near = ", ".join(each.name for each in known.witnesses if on_this_machine(each.url))
    asked = f"{len(known.witnesses)} asked, {known.witnesses_needed} needed"
    if near:
        shared = "on this machine; under the same user that is the log's own trust domain"
        return ok("witnesses", f"{asked}; {near}: {shared}")
    return ok("witnesses", asked)


def service(reach: Reach, known: Settings) -> Finding:
    """The service answers."""
    try:
        who = profile(Reach(url=reach.url or None)) if reach.url else Profile(known.url, None, "nowhere")
        with Client(who) as client:
            found = client.get("/health", also=(503,)).data
    except Stop as stop:
        return warn("service", stop.sentence, "Start it with `triad up`.")
    if found.get("status") == "fail":
        return fail("service", str(found.get("summary")), "The checks above say why.")
    return ok("service", f"{who.url}: {found.get('summary')}")
