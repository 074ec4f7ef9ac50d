"""Questions to whoever sits at the terminal, and what every request that changes something takes."""

import sys
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from api.cli.client import new_key
from api.cli.exits import Exit, Stop
from api.cli.output import plain


@Parameter(name="*", group="Consent")
@dataclass(frozen=True, kw_only=True)
class Consent:
    """How to take it that nobody, or somebody, can be asked."""

    yes: Annotated[bool, Parameter(name=["-y", "--yes"], negative=(), show_default=False)] = False
    """do not ask"""

    no_input: Annotated[bool, Parameter(name="--no-input", negative=(), show_default=False)] = False
    """never ask: without --yes it ends with exit code 2 where a question would stand, and nothing is done"""


@Parameter(name="*", group="Service")
@dataclass(frozen=True, kw_only=True)
class Once:
    """What makes a repetition the same request."""

    idempotency_key: Annotated[str | None, Parameter(name="--idempotency-key", metavar="KEY")] = None
    """repeat an earlier request with its key; otherwise a new one is made and printed on standard error"""

    @property
    def key(self) -> str:
        """The key of this request."""
        return self.idempotency_key or new_key()


CONSENT: Final = Consent()
ONCE: Final = Once()


def confirm(question: str, consent: Consent) -> None:
    """Ask for a yes.

    Raises:
        Stop: it was a no, or nobody can be asked and `--yes` was not given.
    """
    if consent.yes:
        return
    if consent.no_input or not sys.stdin.isatty():
        raise Stop(Exit.USAGE, "Nobody can be asked here.", following="Give --yes if that is what you want.")
    sys.stderr.write(plain(f"{question} [y/N] "))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Stop(Exit.DECLINED, "Nothing was done.")
