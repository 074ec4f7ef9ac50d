"""What the command line itself prints as JSON: its fields are as stable as those of the service's answers."""

from typing import Literal

from operations.canonical import JsonObject, Record
from storage.verify import Report

VerifyReport = Report


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
