"""The verifier as a command: `python -m verifier EXPORT`, or this folder, or a zip of it, run by itself.

Exit codes: 0 intact, 2 signature or witnesses, 3 root, 4 rolled back or forked, 5 meaning, 6 the input cannot be read,
7 the verifier itself failed.
"""

import os
import sys


def _elsewhere() -> list[str]:
    """Where to import from, the working directory left out: an export may hold a file named like a library."""
    try:
        here = os.path.realpath(os.curdir)
    except OSError:
        return [entry for entry in sys.path if entry]
    return [entry for entry in sys.path if entry and os.path.realpath(entry) != here]


if __name__ == "__main__":
    sys.path[:] = _elsewhere()

import importlib.util  # noqa: E402 - after the path was cleared, as the next two
from pathlib import Path  # noqa: E402 - see above
from types import ModuleType  # noqa: E402 - see above

_CODES = __doc__.partition("\n\n")[2] if __doc__ else ""


def _package() -> ModuleType:
    """This folder as a package, however it was started: never by searching paths that somebody else may have filled."""
    place = Path(__file__).absolute().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").absolute() != place]
    spec = importlib.util.spec_from_file_location(
        "verifier", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    if spec is None or spec.loader is None:
        raise ImportError("the verifier's folder has no __init__.py")
    package = importlib.util.module_from_spec(spec)
    sys.modules["verifier"] = package
    spec.loader.exec_module(package)
    return package


if __name__ == "__main__":
    if __package__:
        from .command import main
    else:
        _package()
        from verifier.command import main  # type: ignore[import-not-found,no-redef] # the package under its name of this run
    sys.exit(main(sys.argv[1:], _CODES))
