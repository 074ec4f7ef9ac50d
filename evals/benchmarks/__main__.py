"""Runs the benchmark modules of this package and prints one table; `python -m evals.benchmarks [--quick] [MODULE ...]`.

A benchmark is a module here with `measure(*, quick: bool = False)` that yields or returns rows, or does so
asynchronously. Nothing is written anywhere: figures from another machine or another hour prove nothing, so keep ratios.
"""

import argparse
import asyncio
import importlib
import inspect
import os
import pkgutil
import platform
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import psutil

import evals.benchmarks
from evals.benchmarks.loop import new_loop
from evals.benchmarks.row import Row

COLUMNS = ("benchmark", "value", "unit", "ratio", "target", "note")


def modules() -> dict[str, ModuleType]:
    """The modules of this package that can measure something, by name."""
    names = (info.name for info in pkgutil.iter_modules(evals.benchmarks.__path__))
    found = {name: importlib.import_module(f"evals.benchmarks.{name}") for name in sorted(names) if name != "__main__"}
    return {name: module for name, module in found.items() if hasattr(module, "measure")}


def rows_of(measure: Callable[..., Any], *, quick: bool) -> list[Row]:
    """The rows that one `measure` gives, whether it is asynchronous or not."""
    result = measure(quick=quick) if "quick" in inspect.signature(measure).parameters else measure()
    if isinstance(result, AsyncIterable | Awaitable):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_gathered(result))
    return list(result)


async def _gathered(result: AsyncIterable[Row] | Awaitable[Iterable[Row]]) -> list[Row]:
    if isinstance(result, AsyncIterable):
        return [row async for row in result]
    return list(await result)


def machine() -> str:
    """The size of the machine and what runs on it, in one line."""
    memory = psutil.virtual_memory().total / 2**30
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, {python}"


def table(rows: Iterable[Row]) -> str:
    """The rows as aligned text, numbers to the right."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    numeric = {1, 3}
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in numeric else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    value = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:.4g}"  # noqa: PLR2004 - four digits are enough
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
    return (row.name, value, row.unit, ratio, row.target, row.note)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print.

    Returns:
        0, or 2 when there is no benchmark at all or none of a name that was asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m evals.benchmarks", description="Measure what things cost.")
    parser.add_argument("names", nargs="*", metavar="MODULE", help="only these; all when none is named")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: a look, not a figure")
    options = parser.parse_args(argv)
    known = modules()
    unknown = sorted(set(options.names) - set(known))
    if unknown or not known:
        print(f"No such benchmark: {', '.join(unknown)}. There are: {', '.join(known) or 'none'}.", file=sys.stderr)
        return 2
    print(machine() + (" (quick look)" if options.quick else ""), flush=True)
    rows: list[Row] = []
    for name in options.names or known:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows.extend(rows_of(known[name].measure, quick=options.quick))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
