"""Draws one operation from the ledger: who did what, in order, as an SVG of lanes. The README's picture is made by it.

`python -m evals.picture FILE` plays the demonstration's bad configuration change in a home of its own and draws what
the ledger then says of it. Nothing in the picture comes from anywhere else.
"""

import asyncio
import itertools
import sys
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from evals.demo import Demo
from operations import events as e
from operations.model import Branch, Direction
from storage import migrate
from storage.embedded import Embedded
from storage.entry import Entry
from storage.roles import DatabaseRole
from triad.assembly import Blueprint, assembled
from triad.home import Home, inventory_of

LANES: Final = (Branch.PEOPLE, Branch.LEGISLATIVE, Branch.EXECUTIVE, Branch.JUDICIAL, Branch.CROWN)
_NAMES: Final = {
    Branch.PEOPLE: "people",
    Branch.LEGISLATIVE: "planner (legislative)",
    Branch.EXECUTIVE: "executor (executive)",
    Branch.JUDICIAL: "evaluator (judicial)",
    Branch.CROWN: "crown",
}
_LEFT, _TOP, _WIDE, _HIGH, _STEP = 180, 64, 156, 78, 166
_BAD: Final = {"auth.denied", "warrant.denied", "approval.refused"}


def _says(event: e.AnyEvent) -> str:  # noqa: C901, PLR0911 - one line a kind
    """What a box says below its title, from the entry alone."""
    match event:
        case e.OperationRequested():
            return f"{event.requester.id} asks"
        case e.PlanProposed():
            return f"tier {event.tier}, {event.quorum} approver"
        case e.AccessDenied():
            return f"{event.action}: refused"
        case e.ApprovalGiven():
            return f"{event.approver}: this plan only"
        case e.OperationApproved():
            return f"plan {event.plan[:8]}"
        case e.StepIntent():
            return f"{'undo' if event.direction is Direction.UNDO else 'do'} {event.playbook}"
        case e.StepDone():
            return event.summary[:24]
        case e.CheckEvaluated():
            return f"{event.name}: {'pass' if event.passed else 'FAIL'}"
        case e.VerdictGiven():
            return "pass" if event.passed else "fail, roll back"
        case e.RulingGiven():
            return event.ruling.value
        case e.RollbackDone():
            return "back byte for byte" if event.restored else "not restored"
        case _:
            return ""


def _shown(entries: Sequence[Entry]) -> list[Entry]:
    """The entries worth a box: of checks the failed ones and the first after an undo; of warrants what they led to."""
    hidden = {"warrant.issued", "operation.started", "execution.finished", "rollback.ordered"}
    shown, undone = [], False
    for entry in entries:
        event = entry.event
        if isinstance(event, e.CheckEvaluated) and event.passed:
            if event.direction is Direction.DO or undone:
                continue
            undone = True
        if entry.kind not in hidden:
            shown.append(entry)
    return shown


def draw(entries: Sequence[Entry], footer: str) -> str:
    """The lanes of one operation as SVG."""
    shown = _shown(entries)
    width, height = _LEFT + _STEP * len(shown) + 20, _TOP + _HIGH * len(LANES) + 50
    request = entries[0].event
    title = request.request.description if isinstance(request, e.OperationRequested) else "An operation"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(20, 34, title, 19, "#111827", weight=600),
    ]
    for number, lane in enumerate(LANES):
        y = _TOP + number * _HIGH
        parts.append(f'<rect x="10" y="{y}" width="{width - 20}" height="{_HIGH - 6}" rx="8" fill="#f3f4f6"/>')
        parts.append(_text(22, y + 41, _NAMES[lane], 13, "#374151", weight=600))
    centres = [
        (_LEFT + place * _STEP + _WIDE / 2, _TOP + LANES.index(entry.branch) * _HIGH + (_HIGH - 6) / 2)
        for place, entry in enumerate(shown)
    ]
    for (x1, y1), (x2, y2) in itertools.pairwise(centres):
        parts.append(f'<path d="M{x1} {y1} L{x2} {y2}" stroke="#9ca3af" stroke-width="1.5" fill="none"/>')
    parts.extend(_box(entry, centre) for entry, centre in zip(shown, centres, strict=True))
    parts.append(_text(20, height - 18, footer, 12, "#6b7280"))
    return "\n".join([*parts, "</svg>", ""])


def _box(entry: Entry, centre: tuple[float, float]) -> str:
    event = entry.event
    failed = isinstance(event, e.CheckEvaluated | e.VerdictGiven) and not event.passed
    stroke, fill = ("#b91c1c", "#fef2f2") if failed or entry.kind in _BAD else ("#1d4ed8", "#ffffff")
    x, y = centre[0] - _WIDE / 2, centre[1] - 25
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="50" rx="7" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'
        + _text(centre[0], y + 20, f"{entry.index}  {entry.kind}", 11, "#111827", weight=600, middle=True)
        + _text(centre[0], y + 37, _says(event), 11, "#374151", middle=True)
    )


def _text(x: float, y: float, text: str, size: int, colour: str, *, weight: int = 400, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}"{anchor}>{escape(text)}</text>'
    )


async def _operation(folder: Path) -> tuple[list[Entry], str]:
    """Play the bad configuration change and read it back from the ledger."""
    home = Home(folder / "home")
    home.prepare()
    server = await asyncio.to_thread(Embedded.start, home.path)
    try:
        await migrate.upgrade(server.dsn(DatabaseRole.OWNER))
        blueprint = Blueprint(
            home=home, dsn=server.dsn(DatabaseRole.APP), inventory=inventory_of(home, "http://127.0.0.1:8642")
        )
        async with assembled(blueprint) as triad:
            op = await Demo(triad, lambda _line: None, folder).bad_change()
            head = await triad.ledger.head()
            footer = (
                f"Drawn from the ledger: entries {head.size - 1} and before, under the signed checkpoint "
                f"{head.root[:24]}... The agents are rules, not an LLM."
            )
            return await triad.ledger.entries(operation=op.id), footer
    finally:
        await asyncio.to_thread(server.stop)


def main() -> None:
    """Write the picture to the file that the first argument names."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="triad-picture-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # the account that PostgreSQL runs as must pass through
        entries, footer = asyncio.run(_operation(Path(folder)))
    target.write_text(draw(entries, footer))


if __name__ == "__main__":
    main()
