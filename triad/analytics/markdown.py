"""A report as a Markdown document: sentences first, then the tables they rest on."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from operations.canonical import instant_text
from triad.analytics.measures import Durations, Named
from triad.analytics.records import Report
from triad.analytics.spelling import percent, spell

WEIGHTS: Final = {4: "act now", 3: "look soon", 2: "worth knowing", 1: "for the record"}
"""What an insight's weight means."""
_MARKED: Final = re.compile(r"([\\`*_\[\]<>|#])")


def document(report: Report, digest: str) -> str:
    """The report for people. Text from the record is escaped, so that it cannot pass for the document's own."""
    scope, outcomes = report.scope, report.outcomes
    filters = {
        name: value
        for name in ("branch", "operation", "system", "playbook", "principal")
        if (value := getattr(scope, name)) is not None
    }
    only = "; only " + ", ".join(f"{name} {_plain(str(value))}" for name, value in filters.items()) if filters else ""
    counted = (
        f"Entries {scope.first} to {scope.end - 1}, {report.entries:,} of them counted{only}. "
        f"{outcomes.requested:,} operations were requested and {outcomes.ended:,} ended; {outcomes.open:,} were under "
        "way at the end."
    )
    parts = [
        f"# The log {_plain(report.origin)} from {instant_text(scope.since)} to {instant_text(scope.until)}",
        counted,
        f"Digest of the report: `{digest}`. `triad audit report {digest} --check` computes it again.",
        "## What it says",
        *_insights(report),
        "## How operations ended",
        _table(
            ("stage", "operations", "share"), [(n.name, n.n, percent(n.n, outcomes.ended)) for n in outcomes.by_stage]
        ),
        "## Time in each stage",
        _durations("stage", (*report.stays, report.whole)),
        "## Steps",
        _table(
            ("playbook", "done", "failed", "in doubt", "retries", "undone", "p50", "p95", "longest", "n"),
            [(r.name, r.done, r.failed, r.in_doubt, r.retries, r.undone, *_short(r.doing)) for r in report.playbooks],
        ),
        "## Refusals",
        _table(("kind", "code", "count", "newest entry"), [(r.kind, r.code, r.n, r.newest) for r in report.refusals]),
        "## People",
        _table(
            ("principal", "decisions", "p50 to decide", "p95", "longest", "n"),
            [(each.principal, _named(each.decisions), *_short(each.deciding)) for each in report.people],
        ),
        "## Models",
        _table(
            ("model", "branch", "calls", "tokens in", "tokens out"),
            [(each.model, each.branch, each.calls, each.input, each.output) for each in report.tokens],
        ),
        "## Silence of each part while work waited for it",
        _table(
            ("part", "waiting now", "silent now", "limit", "p50", "p99", "longest", "n"),
            [
                (s.name, s.waiting, spell(s.silent), spell(s.limit), spell(s.p50), spell(s.p99), spell(s.most), s.n)
                for s in report.silences
            ],
        ),
        "## Entries",
        f"By branch: {_named(report.branches) or 'none'}.",
        f"By kind: {_named(report.kinds) or 'none'}.",
    ]
    return "\n\n".join(parts) + "\n"


def _insights(report: Report) -> Iterable[str]:
    for weight, meaning in WEIGHTS.items():
        found = [each for each in report.insights if each.weight == weight]
        if found:
            lines = [f"- {_plain(each.sentence)}{_evidence(each.entries)} *({_plain(each.how)})*" for each in found]
            yield f"**{meaning.capitalize()}**\n\n" + "\n".join(lines)


def _evidence(entries: Sequence[int]) -> str:
    return f" Entries {', '.join(map(str, entries))}." if entries else ""


def _durations(title: str, lines: Iterable[Durations]) -> str:
    return _table((title, "p50", "p95", "longest", "n"), [(line.name, *_short(line)) for line in lines if line.n])


def _short(line: Durations) -> tuple[str, str, str, int]:
    return (spell(line.p50), spell(line.p95), spell(line.most), line.n) if line.n else ("-", "-", "-", 0)


def _named(lines: Iterable[Named]) -> str:
    return ", ".join(f"{line.n:,} {_plain(line.name)}" for line in lines)


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "Nothing."
    lines = [titles, ["---"] * len(titles), *([_plain(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    return _MARKED.sub(r"\\\1", " ".join(text.split()))
