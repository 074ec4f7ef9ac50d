"""The page about the command line, drawn from the commands themselves."""

import re
import sys
from typing import Final

from api.cli.about import ENVIRONMENT, OWN
from api.cli.app import make_app
from api.cli.exits import MEANINGS

_HEAD: Final = """# The command line

This page is written by `make docs` from the commands themselves, and a test fails when the two differ.

`triad` is a client of the service: it asks over HTTP and holds no rule of its own. `demo`, `up`, `migrate`, `doctor`,
`trace` and `audit verify`, `export`, `prove`, `archive`, `analyse`, `reports`, `report` and `verifier` work on a home
folder, without the service. Data goes to standard output, everything else to standard error. Without a terminal there
is no colour and no question.

Your key comes from `TRIAD_TOKEN`, or from `triad login`, which keeps it in `~/.config/triad/config.toml`, readable by
you alone, and sends it only to the service that it was kept for.

## Options of many commands

"""
_COMMON: Final = re.compile(r"^\* `--(json|output|url|yes|no-input|idempotency-key)\b.*$", re.MULTILINE)
_MODULE: Final = re.compile(r"(?<=[a-z]) -m [\w.]+(?= |$)", re.MULTILINE)
"""How cyclopts tells that this process runs a module."""
_EMPTY_GROUP: Final = re.compile(r"^\*\*\w+\*\*:\n\n+(?=#|\*\*|\Z)", re.MULTILINE)


def page() -> str:
    """The page."""
    body = make_app().generate_docs()
    body = _MODULE.sub("", body)
    commands = body[body.index("\n## triad ") + 1 :]
    common = list(dict.fromkeys(found[0] for found in _COMMON.finditer(commands)))
    commands = _COMMON.sub("", commands)
    commands = re.sub(r"\n{3,}", "\n\n", commands)
    while _EMPTY_GROUP.search(commands):
        commands = _EMPTY_GROUP.sub("", commands)
    codes = _table("code", {str(int(code)): text for code, text in MEANINGS.items()})
    own = [
        f"{commands}:\n\n{_table('code', {str(code): text for code, text in meanings.items()})}"
        for commands, meanings in OWN.items()
    ]
    variables = _table("variable", {f"`{name}`": text for name, text in ENVIRONMENT.items()})
    parts = (
        _HEAD + "\n".join(common),
        f"## Exit codes\n\n{codes}",
        *own,
        f"## Environment\n\n{variables}",
        commands.strip(),
    )
    return "\n\n".join(parts) + "\n"


def _table(first: str, rows: dict[str, str]) -> str:
    lines = [f"| {first} | meaning |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
