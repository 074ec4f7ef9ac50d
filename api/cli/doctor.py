"""`triad doctor`: looks at everything an installation rests on, says what does not hold, and changes nothing of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from api.cli import checks
from api.cli.exits import Exit
from api.cli.output import SHAPE, Column, JsonObject, Shape, note, show_list
from api.cli.profile import REACH, HomeFolder, Reach, SettingsFile
from api.cli.records import Finding

_COLUMNS: Final = (
    Column("status", lambda item: item["status"]),
    Column("check", lambda item: item["name"]),
    Column("found", lambda item: item["found"]),
    Column("next", lambda item: item["next"]),
)


def doctor(
    *,
    home: HomeFolder = None,
    config: SettingsFile = None,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Look at everything that Triad rests on and say what to do next. It changes nothing.

    Args:
        home: the installation's folder.
        config: settings file, instead of triad.toml here and in the home folder.
        reach: the service.
        shape: of the output.
    """
    found = list(findings(home, config, reach))
    rows: list[JsonObject] = [each.model_dump(mode="json") for each in found]
    show_list(shape, rows, _COLUMNS, model="Finding", ident="name")
    failed = [each for each in found if each.status == "fail"]
    note(_verdict(len(found), len(failed), sum(each.status == "warn" for each in found)))
    return Exit.ERROR if failed else Exit.OK


def _verdict(of: int, failed: int, warned: int) -> str:
    if failed:
        return f"{failed} of {of} checks failed."
    if warned:
        return f"Nothing is broken; {warned} of {of} checks say what somebody should know."
    return "Nothing is broken."


def findings(home: Path | None, config: Path | None, reach: Reach) -> Iterator[Finding]:
    """Every check, in the order in which one rests on another."""
    yield checks.python()
    settings, finding = checks.settings(home, config)
    yield finding
    if settings is None:
        return
    known = settings
    looks: tuple[Callable[[], Finding], ...] = (
        lambda: checks.home(known),
        lambda: checks.secrets(known),
        lambda: checks.models(known),
        lambda: checks.postgresql(known),
    )
    for look in looks:
        yield look()
    yield from checks.database(known)
    yield checks.service(reach, known)
