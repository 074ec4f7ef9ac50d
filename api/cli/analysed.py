"""A report at a terminal: sentences first, then the tables that they rest on."""

from typing import TYPE_CHECKING, Final

from api.cli.output import Column, facts, plain
from triad.analytics.markdown import WEIGHTS
from triad.analytics.records import Live, Report
from triad.analytics.spelling import percent, spell

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES: Final = {4: "bold red", 3: "yellow", 2: "bold", 1: ""}
_PLAIN: Final = 2
"""Weight up to which a sentence has no colour of its own."""


def page(report: Report, digest: str, live: Live | None) -> "RenderableType":
    """Sentences first, then the tables that they rest on."""
    from rich.console import Group  # noqa: PLC0415 - only who prints a table pays for it

    parts: list[RenderableType] = [_head(report, digest, live), *_sentences(report)]
    ended = report.outcomes.ended
    parts += _table(
        "How operations ended",
        ("stage", "operations", "share"),
        [(line.name, line.n, percent(line.n, ended)) for line in report.outcomes.by_stage],
    )
    parts += _table(
        "Time in each stage",
        ("stage", "p50", "p95", "longest", "n"),
        [
            (line.name, spell(line.p50), spell(line.p95), spell(line.most), line.n)
            for line in (*report.stays, report.whole)
            if line.n
        ],
    )
    parts += _table(
        "Steps",
        ("playbook", "done", "failed", "in doubt", "retries", "undone", "p50", "p95", "longest"),
        [
            (
                *(line.name, line.done, line.failed, line.in_doubt, line.retries, line.undone),
                *(spell(line.doing.p50), spell(line.doing.p95), spell(line.doing.most)),
            )
            for line in report.playbooks
        ],
    )
    parts += _table(
        "Refusals",
        ("kind", "code", "count", "newest entry"),
        [(each.kind, each.code, each.n, each.newest) for each in report.refusals],
    )
    parts += _table(
        "People",
        ("principal", "decisions", "p50 to decide", "longest", "n"),
        [
            (
                each.principal,
                ", ".join(f"{line.n} {line.name}" for line in each.decisions),
                *((spell(each.deciding.p50), spell(each.deciding.most)) if each.deciding.n else ("-", "-")),
                each.deciding.n,
            )
            for each in report.people
        ],
    )
    parts += _table(
        "Models",
        ("model", "branch", "calls", "tokens in", "tokens out"),
        [(each.model, each.branch, each.calls, each.input, each.output) for each in report.tokens],
    )
    parts += _table(
        "Acts without a known outcome",
        ("operation", "step", "playbook", "system", "age", "state", "claim"),
        [
            (
                *(each.operation, each.step, each.playbook, each.system, spell(each.age)),
                "in doubt" if each.in_doubt else "running",
                _claims(live).get(each.operation, "-"),
            )
            for each in report.intents
        ],
    )
    parts += _table(
        "Over time",
        ("from", "entries", "requested", "ended", "completed", "refusals", "steps", "tokens"),
        [
            (
                *(each.start.strftime("%Y-%m-%d %H:%M"), each.entries, each.requested, each.ended),
                *(each.completed, each.refusals, each.steps, each.tokens),
            )
            for each in report.slices
        ],
    )
    return Group(*parts)


def _claims(live: Live | None) -> dict[str, str]:
    return {each.operation: each.state for each in live.leases} if live is not None else {}


def _head(report: Report, digest: str, live: Live | None) -> "RenderableType":
    scope, cosigned = report.scope, live.cosigned if live is not None else None
    lines = {
        "log": report.origin,
        "range": f"{scope.since:%Y-%m-%d %H:%M:%S} to {scope.until:%Y-%m-%d %H:%M:%S} UTC",
        "entries": f"{report.entries:,} of {scope.first} to {scope.end - 1}",
        "operations": f"{report.outcomes.requested:,} requested, {report.outcomes.ended:,} ended, "
        f"{report.outcomes.open:,} under way",
        "cosigned": f"up to {cosigned.size} by {cosigned.witness}, {cosigned.behind} entries behind"
        + (f", for {spell(cosigned.age)}: too long" if cosigned.late else "")
        if cosigned
        else None,
        "digest": digest,
    }
    return facts({}, [Column(title, lambda _, text=text: text) for title, text in lines.items()])  # type: ignore[misc] # a default binds it


def _sentences(report: Report) -> "list[RenderableType]":
    from rich.padding import Padding  # noqa: PLC0415 - see `page`
    from rich.text import Text as Styled  # noqa: PLC0415 - see `page`

    lines: list[RenderableType] = []
    for weight, meaning in WEIGHTS.items():
        found = [each for each in report.insights if each.weight == weight]
        if found:
            lines.append(Styled(f"\n{meaning.capitalize()}", style=_STYLES[weight] or "dim"))
        for each in found:
            lines.append(
                Padding(
                    Styled(plain(f"- {each.sentence}"), style=_STYLES[weight] if weight > _PLAIN else ""), (0, 0, 0, 2)
                )
            )
            evidence = f"; entries {', '.join(map(str, each.entries))}" if each.entries else ""
            lines.append(Padding(Styled(plain(f"{each.how}{evidence}"), style="dim"), (0, 0, 0, 4)))
    return lines


def _table(title: str, titles: tuple[str, ...], rows: list[tuple[object, ...]]) -> "list[RenderableType]":
    from rich.table import Table  # noqa: PLC0415 - see `page`
    from rich.text import Text as Styled  # noqa: PLC0415 - see `page`

    if not rows:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(titles):
        whole = all(isinstance(row[number], int) for row in rows)
        table.add_column(name, overflow="fold", justify="right" if whole else "left")
    for row in rows:
        table.add_row(*(Styled(plain(f"{cell:,}" if isinstance(cell, int) else str(cell))) for cell in row))
    return [Styled(f"\n{title}", style="bold"), table]
