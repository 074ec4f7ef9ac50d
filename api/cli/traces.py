"""`triad trace`: where an operation's time went, from the span files of the home folder; no service is needed."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.output import SHAPE, JsonObject, Shape, as_line, out, show_list
from api.cli.profile import REACH, HomeFolder, Reach

_TRACE: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_WIDTH: Final = 58


def trace(operation: str, /, *, home: HomeFolder = None, reach: Reach = REACH, shape: Shape = SHAPE) -> int:
    """Print the spans of an operation as a tree, with their durations.

    Args:
        operation: its id, or the id of its trace.
        home: the installation's folder.
        reach: the service; asked for the trace's id where the files do not tell.
        shape: of the output.
    """
    folder = _traces(home)
    path = _file_of(operation, folder, reach)
    spans = sorted(_spans(path), key=lambda span: span["start_ns"])
    if shape.form == "table":
        if spans:
            total = (max(span["end_ns"] for span in spans) - spans[0]["start_ns"]) / 1e6
            out(f"{'trace' if _TRACE.fullmatch(operation) else 'operation'} {operation}: {total:.1f} ms in all")
        for line in tree(spans):
            out(line)
    else:
        show_list(shape, spans, (), model="SpanLine", ident="span")
    return Exit.OK


def tree(spans: list[JsonObject]) -> Iterator[str]:
    """One line a span: name, duration, when it began after the first, and what it is about."""
    if not spans:
        return
    known = {span["span"] for span in spans}
    children: defaultdict[str | None, list[JsonObject]] = defaultdict(list)
    for span in spans:
        children[span["parent"] if span["parent"] in known else None].append(span)
    first = spans[0]["start_ns"]
    waiting = [(span, "", "") for span in reversed(children[None])]
    while waiting:
        span, lead, below = waiting.pop()
        yield _span_line(span, lead, first)
        inner = children[span["span"]]
        for number, child in reversed(list(enumerate(inner, start=1))):
            last = number == len(inner)
            waiting.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))


def _span_line(span: JsonObject, lead: str, first: int) -> str:
    duration = (span["end_ns"] - span["start_ns"]) / 1e6
    begin = (span["start_ns"] - first) / 1e6
    about = " ".join(f"{name}={value}" for name, value in span["attributes"].items())
    wrong = "  ERROR" if span["status"] == "ERROR" else ""
    return f"{(lead + span['name']):<{_WIDTH}} {duration:>10.1f} ms  at {begin:>10.1f} ms{wrong}  {about}".rstrip()


def _traces(home: Path | None) -> Path:
    if home is None:
        from api.settings import default_home  # noqa: PLC0415 - loads pydantic, which --home saves

        home = default_home()
    return home / "traces"


def _file_of(operation: str, folder: Path, reach: Reach) -> Path:
    ident = operation if _TRACE.fullmatch(operation) else _trace_of(operation, folder, reach)
    path = folder / f"{ident}.jsonl"
    if not path.exists():
        raise Stop(
            Exit.ERROR,
            f"{folder} holds no spans of {operation}.",
            following="Spans are kept where the work was done: name that home with --home, on that machine.",
        )
    return path


def _trace_of(operation: str, folder: Path, reach: Reach) -> str:
    """The trace of an operation: as the newest files tell, otherwise as the service does."""
    mark = as_line({"operation": operation})[1:-1].replace(":", ": ", 1)
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True):
        if mark in path.read_text(encoding="utf-8"):
            return path.stem
    try:
        with Client.of(reach) as client:
            found = client.get(f"{V1}/operations/{segment(operation)}").data
    except Stop as stop:
        raise Stop(
            Exit.ERROR,
            f"{folder} holds no spans of {operation}, and the service does not help: {stop.sentence}",
            following="Name the installation's folder with --home.",
        ) from stop
    return str(found["trace"])


def _spans(path: Path) -> Iterator[JsonObject]:
    """The spans of a file; a line that a crash cut short is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
