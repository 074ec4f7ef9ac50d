"""What `triad` exits with, and the one way a command ends before its end."""

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """The exit code; scripts may rely on it."""

    OK = 0
    ERROR = 1
    USAGE = 2
    DECLINED = 3
    NOT_ALLOWED = 4
    UNSUCCESSFUL = 5
    ROLLED_BACK = 6
    DENIED = 7
    PENDING = 8
    INTERRUPTED = 130


MEANINGS: Final[dict[Exit, str]] = {
    Exit.OK: "It worked, or the operation was completed.",
    Exit.ERROR: "An error: the service cannot be reached, the thing is not there, or its state does not allow it.",
    Exit.USAGE: "The command line, or what it asked for, cannot be accepted as it is.",
    Exit.DECLINED: "The operation was cancelled, or a question was answered with no.",
    Exit.NOT_ALLOWED: "Not authenticated, or a rule of the constitution does not permit it.",
    Exit.UNSUCCESSFUL: "The operation was refused, vetoed or failed; nothing is left to wait for.",
    Exit.ROLLED_BACK: "The operation was carried out, did not hold, and was rolled back.",
    Exit.DENIED: "An approver said no, or the time to say yes ran out.",
    Exit.PENDING: "The operation has not ended: it runs, or waits for people or for its time.",
    Exit.INTERRUPTED: "Ctrl-C. An operation that was followed goes on.",
}

VERIFY_MEANINGS: Final[dict[int, str]] = {
    0: "Everything holds.",
    2: "A signature is not the log's.",
    3: "The entries are not those that the checkpoint was signed over.",
    4: "The log was rolled back or forked.",
    5: "The entries are authentic and contradict themselves or the rules.",
    6: "There is nothing to verify: the input cannot be read.",
}
"""`triad audit verify` has codes of its own, those of `storage.verifier.report.Code`."""

EXPORT_MEANINGS: Final[dict[int, str]] = {
    0: "It is written.",
    1: "There is nothing to write, another process writes there, or the ledger or the service cannot be reached.",
    2: "The command line cannot be accepted; or a checkpoint is not signed, or not cosigned, by whom you trust.",
    3: "The log does not hold together: entries are missing, changed, or not those that were signed for.",
    4: "The log was rolled back or forked since the folder was written, or it is another log.",
    6: "The folder is damaged or holds other files, or the policy cannot be read.",
}
"""`triad audit export`, `prove` and `archive`: `storage.source.WHY` says which refusal has which."""

_OF_STAGE: Final[dict[str, Exit]] = {
    "completed": Exit.OK,
    "cancelled": Exit.DECLINED,
    "refused": Exit.UNSUCCESSFUL,
    "vetoed": Exit.UNSUCCESSFUL,
    "failed": Exit.UNSUCCESSFUL,
    "rolled_back": Exit.ROLLED_BACK,
    "denied": Exit.DENIED,
    "expired": Exit.DENIED,
}


def exit_of_stage(stage: str) -> Exit:
    """What an operation at `stage` makes of a command that waited for it."""
    return _OF_STAGE.get(stage, Exit.PENDING)


def ended(stage: str) -> bool:
    """Whether nothing can follow on `stage`."""
    return stage in _OF_STAGE


class Stop(Exception):
    """Ends the command with `code`.

    Attributes:
        code: what the process exits with.
        sentence: what happened.
        details: further lines: why, where, which rule.
        following: what to do next.
    """

    def __init__(self, code: int, sentence: str, *details: str, following: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.details = details
        self.following = following
