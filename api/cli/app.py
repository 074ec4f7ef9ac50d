"""The whole command as one tree. Nothing behind a command is imported before the command is used."""

import importlib.metadata
from typing import Final, NamedTuple

from cyclopts import App, Group, Parameter


class Registered(NamedTuple):
    """One command or noun: where its code is, and its sentence in the list of commands."""

    name: str | tuple[str, ...]
    place: str
    help: str


START: Final = (
    Registered("demo", "local:demo", "Play five governed operations, two of them under attack, and prove the record."),
    Registered(("up", "server"), "local:up", "Run the service in the foreground, with its own PostgreSQL and worker."),
    Registered("migrate", "local:migrate", "Bring the database to this version's tables."),
    Registered("doctor", "doctor:doctor", "Look at everything that Triad rests on and say what to do next."),
    Registered("status", "about:status", "Ask the service how it is."),
)
DAILY: Final = (
    Registered("run", "requests:run", "Ask for an operation and follow it."),
    Registered("plan", "requests:plan", "Show the plan and what would be demanded of it."),
    Registered("op", "operations:app", "Operations: where they stand, what happened, and what you say to one."),
    Registered("approval", "approvals:app", "Plans that wait for people: look at one, approve it or deny it."),
    Registered("halt", "crown:halt", "Stop everything at once."),
    Registered("release", "crown:release", "End the halt."),
)
LOOK: Final = (
    Registered("audit", "audit:app", "The record: read it, carry a copy elsewhere, verify it."),
    Registered(
        "witness", "witness:app", "Witnesses: who vouches that the log only ever grew; be one, or look at ours."
    ),
    Registered("trace", "traces:trace", "Print where an operation's time went."),
    Registered("constitution", "constitution:app", "The rules in force: read, verify, amend them."),
    Registered("playbook", "catalogue:playbook", "The catalogue: everything that can be done to a system."),
    Registered("system", "catalogue:system", "The inventory: the systems that may be touched."),
)
ACCESS: Final = (
    Registered("login", "session:login", "Keep a key for later calls."),
    Registered("logout", "session:logout", "Forget the kept key."),
    Registered("whoami", "session:whoami", "Show who your key says you are."),
    Registered("key", "keys:app", "API keys: make one, list them, revoke one."),
    Registered("people", "people:app", "What is known of people: kept outside the ledger, shown, proved."),
)
REST: Final = (
    Registered("version", "about:version", "Print the version of this program."),
    Registered("help", "about:topics", "Topics: exit-codes, environment."),
    Registered("completion", "about:completion", "Print what makes your shell complete commands and options."),
)
GROUPS: Final = (("Start", START), ("Work", DAILY), ("Look", LOOK), ("Access", ACCESS), ("More", REST))


def version_text() -> str:
    """The version of this program."""
    return importlib.metadata.version("triad-operations")


def make_app() -> App:
    """The command `triad`."""
    app = App(
        name="triad",
        help="LLM agents run operations on real systems without having to be trusted.",
        help_epilogue="Exit codes: triad help exit-codes. Environment: triad help environment.",
        version=version_text,
        default_parameter=Parameter(show_env_var=True),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for number, (title, commands) in enumerate(GROUPS):
        group = Group(title, sort_key=number)
        for command in commands:
            app.command(f"api.cli.{command.place}", name=command.name, help=command.help, group=group)
    return app
