"""Everything that Triad refuses or fails at, by whose turn it is next.

TriadError
├── Refusal                  the answer is no; nothing changed; carries a code and reasons
│   ├── NotAllowed           policy says no (constitution article ids in `articles`)
│   ├── WarrantRefused       the gate says no
│   ├── InvalidRequest       the caller must send something else (`field` says where)
│   ├── NotFound             there is no such thing, or not for this caller
│   │   └── Gone             there was such a thing, and it was deleted on the record
│   └── Conflict             the world moved on; read again and decide anew
│       └── StageConflict    another worker recorded first
├── IllegalMove              the transition table has no such row (a defect, never data)
├── ConstitutionInvalid      the document cannot be enforced: everything stays closed
├── ConstitutionChanged      the document on disk is not the one in force: closed
├── LedgerUnavailable        nothing could be recorded, so nothing may be done
├── LedgerCorrupt            what is stored does not verify
└── PlaybookFailed           a step's act failed in a known way; nothing is in doubt
"""

from collections.abc import Sequence


class TriadError(Exception):
    """Base of all errors that Triad raises on purpose."""


class Refusal(TriadError):
    """A no, with a stable machine `code` and reasons in words.

    Attributes:
        code: lower-case words joined by `-`, stable across releases.
        reasons: sentences for people; never contain values that came from outside.
        articles: ids of the constitution's articles the refusal rests on.
        field: dotted path of the offending input field, where one is to blame.
    """

    def __init__(
        self,
        code: str,
        *reasons: str,
        articles: Sequence[str] = (),
        field: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {' '.join(reasons)}")
        self.code = code
        self.reasons = reasons
        self.articles = tuple(articles)
        self.field = field


class NotAllowed(Refusal):
    """Policy forbids it, or does not permit it."""


class WarrantRefused(Refusal):
    """The gate refuses a step; `code` names the check that failed."""


class InvalidRequest(Refusal):
    """The input cannot be accepted as it is."""


class NotFound(Refusal):
    """There is no such thing."""


class Gone(NotFound):
    """It was there and was deleted; the record says when and by which rule."""


class Conflict(Refusal):
    """The caller acted on a state that is no longer current."""


class StageConflict(Conflict):
    """Somebody else recorded an event of this operation first."""

    def __init__(self, operation: str) -> None:
        super().__init__("stage-conflict", f"Operation {operation} has moved on; read it again.")
        self.operation = operation


class IllegalMove(TriadError):
    """An event that the transition table does not allow at this stage."""

    def __init__(self, stage: str, signal: str) -> None:
        super().__init__(f"{signal} is not allowed at stage {stage}")
        self.stage = stage
        self.signal = signal


class ConstitutionInvalid(TriadError):
    """The constitution cannot be read, parsed or validated."""


class ConstitutionChanged(TriadError):
    """The constitution on disk is not the one in force."""


class LedgerUnavailable(TriadError):
    """The ledger could not record; the act must not happen."""


class LedgerCorrupt(TriadError):
    """What the ledger holds contradicts itself or what was signed."""


class PlaybookFailed(TriadError):
    """The act failed and it is known what was and was not done.

    Attributes:
        code: stable machine code, for example `lock-timeout`.
        changed: whether the system was changed before the failure.
    """

    def __init__(self, code: str, message: str, *, changed: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.changed = changed
