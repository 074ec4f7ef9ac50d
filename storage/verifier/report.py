"""What a verification found: in words, as JSON, and as an exit code."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, Final, Self

from .rules import OpenStep, Problem, Remark


class Code(IntEnum):
    """What the verifier exits with."""

    OK = 0
    SIGNATURE = 2
    """No trusted key signed the checkpoint, a signature is broken, or witnesses that were asked for are missing."""
    ROOT = 3
    """The entries are not those that the checkpoint was signed over."""
    FORK = 4
    """The log does not extend what was seen of it before."""
    SEMANTICS = 5
    """The entries are authentic, and contradict each other or the rules."""
    INPUT = 6
    """There is nothing to verify: the input cannot be read."""
    FAILED = 7
    """The verifier itself failed: nothing is known."""


class Omitted(StrEnum):
    """What was not checked although a log has it: an intact log is then intact except for that."""

    MEANING = "meaning"
    """What the entries mean was not replayed."""
    PLANS = "plans"
    """What ran was not held against every plan: texts are missing that no entry says were deleted."""
    CONSTITUTIONS = "constitutions"
    """Nothing was held against the texts of the constitutions."""
    KEYS = "keys"
    """Whose log it is: the keys were the export's own."""


GRAVITY: Final = (Code.FAILED, Code.INPUT, Code.SIGNATURE, Code.FORK, Code.ROOT, Code.SEMANTICS)
"""Which of several findings decides the exit code: the first."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A witness that cosigned the checkpoint; `time` in seconds since 1970, 0 where it says none."""

    name: str
    time: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found.

    Attributes:
        ok: nothing is broken.
        code: the gravest finding.
        origin: the log's identity; None where the checkpoint cannot be read.
        size: how many entries the checkpoint covers.
        root: its root, in hexadecimal.
        signers: the names of the log keys that signed it.
        witnesses: who cosigned it.
        compared: with how many older checkpoints it was compared.
        replayed: whether the meaning of the entries was checked.
        omitted: what was left out; while there is any, `ok` says less than it could.
        found: how many problems there are; `problems` holds the first of them.
        problems: what is broken.
        open_steps: intents whose outcome the log does not know; no problem.
        remarks: what is not broken and somebody should know.
        checked: what was checked, in sentences.
        unchecked: what was not, and what therefore is not known, in sentences.
    """

    ok: bool
    code: Code
    origin: str | None
    size: int | None
    root: str | None
    signers: tuple[str, ...] = ()
    witnesses: tuple[Witnessed, ...] = ()
    compared: int = 0
    replayed: bool = False
    omitted: tuple[Omitted, ...] = ()
    found: int = 0
    problems: tuple[Problem, ...] = ()
    open_steps: tuple[OpenStep, ...] = ()
    remarks: tuple[Remark, ...] = ()
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The report as one JSON object; the names are this class's."""
        return json.dumps(self.fields())

    def fields(self) -> dict[str, Any]:
        """The report as a JSON object's fields."""
        found = asdict(self)
        found["code"] = int(self.code)
        return found

    def unverified(self, sentence: str, *omitted: Omitted) -> Self:
        """The report with one more sentence about what it does not show, and what was left out by that."""
        return replace(self, unchecked=(sentence, *self.unchecked), omitted=(*self.omitted, *omitted))

    def broken(self, code: Code, rule: str, sentence: str, index: int | None = None) -> Self:
        """The report with one more finding, which somebody made beside the verification."""
        gravest = code if self.ok else min(code, self.code, key=GRAVITY.index)
        problems = (Problem(index, rule, sentence), *self.problems)
        return replace(self, ok=False, code=gravest, found=self.found + 1, problems=problems)

    def text(self) -> str:
        """The report for people, line by line."""
        lines = [self._verdict() if self.ok else f"NOT INTACT: {_MEANING[self.code]} (exit code {int(self.code)})"]
        if self.origin is not None:
            lines += [f"log: {self.origin}", f"entries: {self.size}", f"root: {self.root}"]
        lines += [f"signed by: {', '.join(self.signers)}"] if self.signers else []
        lines += [f"cosigned by: {', '.join(map(_cosigner, self.witnesses))}"] if self.witnesses else []
        lines += [f"problem: {_where(each.index)}{each.sentence} [{each.rule}]" for each in self.problems]
        if self.found > len(self.problems):
            lines.append(f"problem: and {self.found - len(self.problems)} more")
        lines += [f"remark: {_where(each.index)}{each.sentence}" for each in self.remarks]
        lines += [
            f"open: {_where(each.index)}step {each.step} of {each.operation}, attempt {each.attempt} "
            f"to {each.direction}: " + ("in doubt" if each.status == "in_doubt" else "no outcome yet")
            for each in self.open_steps
        ]
        lines += [f"checked: {sentence}" for sentence in self.checked]
        lines += [f"not checked: {sentence}" for sentence in self.unchecked]
        return "".join(f"{printable(line)}\n" for line in lines)

    def _verdict(self) -> str:
        return f"INTACT, but not checked: {', '.join(self.omitted)}" if self.omitted else "INTACT"


_MEANING: Final = {
    Code.OK: "nothing",
    Code.SIGNATURE: "the checkpoint is not to be trusted",
    Code.ROOT: "the entries are not those that were signed",
    Code.FORK: "the log does not extend what was seen before",
    Code.SEMANTICS: "the entries break the rules",
    Code.INPUT: "the input cannot be read",
    Code.FAILED: "the verifier itself failed",
}

LIMIT: Final = 200
"""Most problems that belong to no entry and are kept; all are counted."""

_LATEST: Final = 253_402_300_799
"""The last second of the year 9999."""


def _cosigner(found: Witnessed) -> str:
    if not 0 < found.time <= _LATEST:
        return found.name
    return f"{found.name} at {datetime.fromtimestamp(found.time, UTC).isoformat().replace('+00:00', 'Z')}"


def _where(index: int | None) -> str:
    return "" if index is None else f"entry {index}: "


def printable(line: str) -> str:
    """The line as a terminal may show it: what comes out of a log moves no cursor."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)


@dataclass(slots=True)
class Findings:
    """Collects problems that belong to no entry, and the gravest code."""

    problems: list[Problem] = field(default_factory=list)
    codes: set[Code] = field(default_factory=set)
    found: int = 0
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def add(self, code: Code, rule: str, sentence: str, index: int | None = None) -> None:
        """One more problem."""
        self.codes.add(code)
        self.found += 1
        if len(self.problems) < LIMIT:
            self.problems.append(Problem(index, rule, sentence))

    @property
    def code(self) -> Code:
        """The gravest."""
        return next((code for code in GRAVITY if code in self.codes), Code.OK)
