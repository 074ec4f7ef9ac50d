"""What the command line itself prints as JSON: its fields are as stable as those of the service's answers."""

from typing import Literal

from operations.canonical import JsonObject, Record
from storage.archive import Segment as ArchivedSegment
from storage.export import Exported as ExportDone
from storage.verifier.report import Omitted
from triad.analytics.records import Analysis as LogAnalysis
from triad.analytics.records import StoredReport as StoredAnalysis

Analysis = LogAnalysis
StoredReport = StoredAnalysis
Exported = ExportDone
Segment = ArchivedSegment


class BrokenRule(Record):
    """A problem that a verification found."""

    index: int | None
    rule: str
    sentence: str


class Remark(Record):
    """What is not broken and somebody should know."""

    index: int | None
    sentence: str


class OpenStep(Record):
    """An intent whose outcome the log does not know."""

    index: int
    operation: str
    step: int
    attempt: int
    direction: Literal["do", "undo"]
    status: Literal["intended", "in_doubt"]


class Witnessed(Record):
    """A witness that cosigned the checkpoint; `time` in seconds since 1970, 0 where it says none."""

    name: str
    time: int


class VerifyReport(Record):
    """`triad audit verify`: what `storage.verifier.report.Report` says."""

    ok: bool
    code: int
    origin: str | None
    size: int | None
    root: str | None
    signers: tuple[str, ...]
    witnesses: tuple[Witnessed, ...]
    compared: int
    replayed: bool
    omitted: tuple[Omitted, ...]
    found: int
    problems: tuple[BrokenRule, ...]
    open_steps: tuple[OpenStep, ...]
    remarks: tuple[Remark, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]


class Program(Record):
    """`triad version`."""

    name: str
    version: str
    python: str
    platform: str


class Topic(Record):
    """A line of `triad help`."""

    code: int | None = None
    name: str | None = None
    meaning: str


class SpanLine(Record):
    """A span of `triad trace`."""

    name: str
    span: str
    parent: str | None
    start_ns: int
    end_ns: int
    status: str
    attributes: JsonObject


class Finding(Record):
    """One thing that `triad doctor` looked at."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    next: str | None


class WitnessMade(Record):
    """`triad witness init`."""

    name: str
    vkeys: list[str]


class WitnessLog(Record):
    """A log that a witness cosigns for."""

    origin: str
    keys: list[str]
    size: int
    cosigned: str | None


class KeptRequest(Record):
    """A checkpoint that a log signed and the witness kept: a `fork`, or an `unproved` one."""

    digest: str
    origin: str
    code: str
    size: int
    known: int
    at: str
