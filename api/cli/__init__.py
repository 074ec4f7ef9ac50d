"""The `triad` command: a client of the service over HTTP, and what works on a home folder without it."""

import contextlib
import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from api.cli.app import make_app
from api.cli.exits import Exit, Stop
from api.cli.output import note


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name; those of this process unless given.

    Returns:
        The exit code, one of `api.cli.exits.Exit`, or of the verifier's own for `triad audit` on a ledger's bytes.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        found = make_app()(_spelled(given), exit_on_error=False, print_error=False, result_action="return_value")
        return int(found or 0)
    except CycloptsError as error:
        note(f"error: {error}")
        note(f"next: triad {' '.join(error.command_chain or ())} --help".replace("  ", " "))
        return Exit.USAGE
    except Stop as stop:
        return _stopped(stop)
    except KeyboardInterrupt:
        note("Stopped.")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # nobody reads any more; the interpreter must not try again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _spelled(arguments: list[str]) -> list[str]:
    """`--json` may stand alone, which the parser does not know of an option with a value."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return ["--json=*" if each == "--json" else each for each in arguments[:end]] + arguments[end:]


def _stopped(stop: Stop) -> int:
    calm = isinstance(stop.code, Exit) and stop.code in {Exit.INTERRUPTED, Exit.PENDING, Exit.DECLINED}
    note(stop.sentence if calm else f"error: {stop.sentence}")
    for detail in stop.details:
        note(f"  {detail}")
    if stop.following:
        note(f"  next: {stop.following}")
    return int(stop.code)
