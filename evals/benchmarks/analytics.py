"""What an analysis of the log costs beside only decoding the same entries, in process and without a database."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from evals.benchmarks.row import Row
from operations.canonical import JsonObject, canonical, instant_text
from triad.analytics.fold import Filter, Fold
from triad.analytics.records import Scope, Thresholds
from triad.analytics.report import report_of

_START: Final = datetime(2026, 11, 20, tzinfo=UTC)
_LAW: Final = "0" * 64
_STORY: Final = (
    ("operation.requested", "people", None, "requested"),
    ("plan.proposed", "legislative", "requested", "planned"),
    ("approval.given", "people", "planned", "planned"),
    ("operation.approved", "legislative", "planned", "approved"),
    ("operation.started", "executive", "approved", "running"),
    ("step.intent", "executive", "running", "running"),
    ("step.done", "executive", "running", "running"),
    ("execution.finished", "executive", "running", "executed"),
    ("verdict.given", "judicial", "executed", "evaluated"),
    ("ruling.given", "crown", "evaluated", "completed"),
)
"""Kind, branch, stage before and after of an operation's entries."""


def measure(*, quick: bool = False) -> Iterator[Row]:
    """The best of three passes over a log of whole operations."""
    entries = [data for number in range(2000 if quick else 10_000) for data in _operation(number)]
    decoding = _best(lambda: [orjson.loads(data) for data in entries])
    folding = _best(lambda: _analysed(entries))
    rate = len(entries) / folding
    yield Row("entries, only decoded", len(entries) / decoding, "entries/s", note=f"{len(entries):,} entries")
    yield Row("entries, analysed", rate, "entries/s", folding / decoding, "at least 20,000/s", "one pass, one report")


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


def _analysed(entries: list[bytes]) -> None:
    fold = Fold(Filter(), since=0, before=0, quick=10_000, bucket=3_600_000)
    fold.read(entries)
    until = _START + timedelta(days=30)
    scope = Scope(since=_START, until=until, first=0, end=len(entries), bucket_seconds=3600)
    report_of(fold, scope, Thresholds(), origin="benchmark", last=None)


def _operation(number: int) -> Iterator[bytes]:
    """The entries of one operation."""
    plan, warrant = f"{number:064x}", f"wr_{number}"
    expires = instant_text(_START + timedelta(days=60))
    step: JsonObject = {"warrant": warrant, "step": 1, "attempt": 1, "direction": "do"}
    fields: dict[str, JsonObject] = {
        "operation.requested": {
            "request": {"type": "maintenance", "systems": ["shop-logs"], "emergency": False},
            "requester": {"id": "ada", "person": "ada"},
        },
        "plan.proposed": {"plan": plan, "quorum": 1, "assent": False, "expires": expires},
        "approval.given": {"approval": f"ap_{number}", "person": "dana", "expires": expires},
        "step.intent": {**step, "playbook": "logs.rotate", "system": "shop-logs", "effect": "idempotent"},
        "step.done": {**step, "changed": True, "summary": "Rotated."},
        "execution.finished": {"outcome": "finished", "report": "All steps ran."},
        "verdict.given": {"passed": True, "checks_passed": True, "judged_passed": True},
        "ruling.given": {"ruling": "complete", "plan": plan},
    }
    for place, (kind, branch, before, after) in enumerate(_STORY):
        index = number * len(_STORY) + place
        entry: JsonObject = {
            "version": 1,
            "index": index,
            "time": instant_text(_START + timedelta(milliseconds=20 * index)),
            "origin": "triad.benchmark/ledger",
            "kind": kind,
            "operation": f"op_{number:026d}",
            "branch": branch,
            "principal": f"agent:{branch}",
            "key": "0" * 8,
            "constitution": _LAW,
            "model": "rules/offline-1",
            "after": after,
            "seq": place + 1,
            "event": {"kind": kind, **fields.get(kind, {})},
        }
        yield canonical(entry | ({"before": before} if before else {}))
