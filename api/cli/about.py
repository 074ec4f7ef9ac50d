"""`triad status`, `version`, `help` and `completion`."""

import platform
from typing import Final, Literal

from cyclopts import App

from api.cli.app import make_app, version_text
from api.cli.client import Client
from api.cli.exits import EXPORT_MEANINGS, MEANINGS, VERIFY_MEANINGS, Exit
from api.cli.output import SHAPE, Column, JsonObject, Shape, out, show_list, show_one, styled
from api.cli.profile import REACH, Reach

topics = App(name="help", help="Topics: exit-codes, environment.")

OWN: Final = {
    "`triad audit verify` has its own": VERIFY_MEANINGS,
    "`triad audit export`, `prove` and `archive` have these": EXPORT_MEANINGS,
}
"""Exit codes of commands that have their own."""

ENVIRONMENT: Final[dict[str, str]] = {
    "TRIAD_URL": "address of the service; `--url` wins over it",
    "TRIAD_TOKEN": "your key; wins over the one that `triad login` keeps",
    "TRIAD_PLAIN_HTTP": "`1` lets your key travel over http to another machine",
    "TRIAD_HOME": "home folder of an installation, for the commands that work on it; `--home` wins over it",
    "TRIAD_SERVER_PORT": "one of the settings; each has such a name, made of its place in `triad.toml`",
    "XDG_CONFIG_HOME": "where `triad/config.toml` lies; otherwise `~/.config`",
    "NO_COLOR": "anything: no colour",
    "CLICOLOR_FORCE": "`1`: colour where there is no terminal too",
}


def status(*, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Ask the service how it is; no key is needed.

    Args:
        reach: the service.
        shape: of the output.
    """
    with Client.of(reach) as client:
        found = client.get("/health", also=(503,)).data
    show_one(shape, found, lambda: styled(_health(found)), model="Health", ident="status")
    return Exit.ERROR if found["status"] == "fail" else Exit.OK


def _health(found: JsonObject) -> str:
    lines = [f"{found['summary']} (Triad {found['version']})"]
    return "\n".join(
        [*lines, *(f"  {name}: {each['status']}, {each['output']}" for name, each in found["checks"].items())]
    )


def version(*, shape: Shape = SHAPE) -> int:
    """Print the version of this program.

    Args:
        shape: of the output.
    """
    found: JsonObject = {
        "name": "triad",
        "version": version_text(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    show_one(shape, found, lambda: styled(found["version"]), model="Program", ident="version")
    return Exit.OK


@topics.command(name="exit-codes")
def exit_codes(*, shape: Shape = SHAPE) -> int:
    """Say what the exit codes mean.

    Args:
        shape: of the output.
    """
    rows: list[JsonObject] = [{"code": int(code), "meaning": text} for code, text in MEANINGS.items()]
    show_list(shape, rows, _rows("code"), model="Topic", ident="code")
    if shape.form == "table":
        for commands, meanings in OWN.items():
            out(f"\n{commands}:\n")
            own: list[JsonObject] = [{"code": code, "meaning": text} for code, text in meanings.items()]
            show_list(shape, own, _rows("code"), model="Topic", ident="code")
    return Exit.OK


@topics.command
def environment(*, shape: Shape = SHAPE) -> int:
    """Say which environment variables are read.

    Args:
        shape: of the output.
    """
    rows: list[JsonObject] = [{"name": name, "meaning": text} for name, text in ENVIRONMENT.items()]
    show_list(shape, rows, _rows("name"), model="Topic", ident="name")
    return Exit.OK


def _rows(first: str) -> tuple[Column, Column]:
    return (Column(first, lambda row: row[first]), Column("meaning", lambda row: row["meaning"]))


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print what makes your shell complete commands and options.

    Args:
        shell: yours. For bash: triad completion bash > ~/.local/share/bash-completion/completions/triad
    """
    out(make_app().generate_completion(shell=shell))  # nosec B604 - the name of a shell to write for; nothing is run
    return Exit.OK
