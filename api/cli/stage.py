"""Plays the demonstration on a home folder: real database, files, gate and ledger; rules instead of a model."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from api.cli.exits import Exit, Stop
from api.cli.ledgers import running, settings_of
from api.cli.occupation import occupying
from api.settings import VERSION, Settings
from evals.demo import Demo, DemoFailed, Scene
from operations.errors import TriadError
from storage import migrate
from storage.embedded import Embedded
from storage.roles import DatabaseRole
from triad import trace
from triad.assembly import Blueprint, assembled
from triad.home import Home, inventory_of


def play(folder: Path | None, say: Callable[[str], None]) -> int:
    """Play all acts and say where to look next.

    Raises:
        Stop: an act ended otherwise than promised, or it cannot be played here.
    """
    settings = settings_of(folder)
    home = Home(settings.home)
    with occupying(home.path, "demo"), running(home.path) as server:
        home.prepare()
        trace.configure(home.traces, version=VERSION)
        try:
            scenes = asyncio.run(_played(settings, home, server, say))
        except DemoFailed as error:
            raise Stop(Exit.UNSUCCESSFUL, str(error), following=f"See `triad doctor --home {home.path}`.") from error
        except TriadError as error:
            raise Stop(Exit.ERROR, str(error), following=f"See `triad doctor --home {home.path}`.") from error
        finally:
            trace.flush()
    _next(home, scenes, say, own=folder is not None)
    return Exit.OK


async def _played(settings: Settings, home: Home, server: Embedded, say: Callable[[str], None]) -> list[Scene]:
    await migrate.upgrade(server.dsn(DatabaseRole.OWNER))
    blueprint = Blueprint(
        home=home,
        dsn=server.dsn(DatabaseRole.APP),
        inventory=inventory_of(home, settings.url),
        origin=settings.origin,
        version=VERSION,
    )
    say(f"Triad in {home.path}; the agents are rules, not an LLM.")
    async with assembled(blueprint) as triad:
        return await Demo(triad, say, home.path / "scratch").play()


def _next(home: Home, scenes: list[Scene], say: Callable[[str], None], *, own: bool) -> None:
    option = f" --home {home.path}" if own else ""
    shown = next((scene.operation for scene in scenes[1:] if scene.operation), "OPERATION")
    say("")
    say(f"All {len(scenes)} acts went as promised, in {sum(scene.seconds for scene in scenes):.1f} s. Look further:")
    triad = "triad" if shutil.which("triad") else _beside()
    say(f"  {triad} audit verify{option}    the record again, from its bytes")
    say(f"  {triad} trace {shown}{option}    where the time of the second act went")
    say(f"  {triad} up{option}    the same as a service; then `{triad} op list`")


def _beside() -> str:
    """How to call the program where it is not on the PATH: beside the interpreter that runs it."""
    found = Path(sys.executable).with_name("triad")
    if not found.exists():
        return "triad"
    here = Path.cwd()
    return str(found.relative_to(here)) if found.is_relative_to(here) else str(found)
