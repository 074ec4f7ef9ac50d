"""The machine Triad runs on, observed in whole numbers."""

import asyncio
import os
from pathlib import Path
from typing import ClassVar, Final

import psutil
from pydantic import Field

from operations.canonical import Json, JsonObject
from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Arguments, Call, Playbook, Target
from operations.systems import Host, SystemKind

_CPU_WINDOW_SECONDS: Final = 0.2
_NAME_LIMIT: Final = 64
_BOOT_TOLERANCE_SECONDS: Final = 60
"""Linux counts the boot time back from the clock, which may be set meanwhile."""


class ObserveHostArguments(Arguments):
    """How much is listed, and limits that the checks compare with where given."""

    top: int = Field(default=5, ge=0, le=20, description="processes listed, those with the most resident memory first")
    max_memory_percent: int | None = Field(
        default=None, ge=1, le=100, description="percent of memory in use that the check allows; no check where absent"
    )
    max_disk_percent: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="percent of the home's disk in use that the check allows; none if absent",
    )


def _percent(part: int, whole: int) -> int:
    return -(-100 * part // whole) if whole > 0 else 0


def _processes(top: int) -> tuple[int, list[Json]]:
    found = []
    for process in psutil.process_iter(["pid", "name", "memory_info", "num_threads"]):
        about = process.info
        memory = about["memory_info"]
        found.append((memory.rss if memory else 0, about["pid"], about["name"] or "", about["num_threads"] or 0))
    found.sort(reverse=True)
    listed: list[Json] = [
        {"pid": pid, "name": "".join(c for c in name if c.isprintable())[:_NAME_LIMIT], "rss_bytes": rss, "threads": n}
        for rss, pid, name, n in found[:top]
    ]
    return len(found), listed


def _observe(home: Path, top: int) -> JsonObject:
    try:
        disk = psutil.disk_usage(str(home))
    except OSError as error:
        raise PlaybookFailed("home-unreadable", f"The home's disk cannot be observed: {error.strerror}") from error
    cpu = psutil.cpu_percent(interval=_CPU_WINDOW_SECONDS)
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    count, listed = _processes(top)
    one, five, fifteen = (round(load * 100) for load in os.getloadavg())
    return {
        "cpu_count": psutil.cpu_count() or 1,
        "cpu_busy_permille": round(cpu * 10),
        "load_1m_hundredths": one,
        "load_5m_hundredths": five,
        "load_15m_hundredths": fifteen,
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "memory_used_percent": _percent(memory.total - memory.available, memory.total),
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
        "disk_total_bytes": disk.total,
        "disk_free_bytes": disk.free,
        "disk_used_percent": _percent(disk.used, disk.used + disk.free),
        "process_count": count,
        "processes": listed,
        "boot_time_seconds": int(psutil.boot_time()),
    }


class ObserveHost(Playbook[ObserveHostArguments]):
    """Reports processor, memory, disk of the home path, load and the largest processes of the worker's machine.

    Everything is a whole number in the unit its name ends with; a load of 1.5 is 150 hundredths. Command lines and
    environments of processes are never read: they may hold secrets. The disk is the one that `home` lies on.

    An interruption leaves nothing behind.
    """

    name: ClassVar[str] = "observe.host"
    summary: ClassVar[str] = "Measure processor, memory, disk, load and processes of the machine."
    keywords: ClassVar[tuple[str, ...]] = (
        "host",
        "cpu",
        "memory",
        "disk",
        "load",
        "process",
        "observe",
        "performance",
        "machine",
    )
    arguments: ClassVar[type[Arguments]] = ObserveHostArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"host"})
    tier: ClassVar[int] = 0
    effect: ClassVar[Effect] = Effect.READ
    emergency: ClassVar[bool] = True

    def __init__(self, home: Path | None = None) -> None:
        self._home = home if home is not None else Path.home()

    async def preview(self, args: ObserveHostArguments, target: Target) -> Preview:
        """What is read; nothing measured stands in it, so that it stays the same."""
        target.expect(Host)
        return Preview(
            commands=(
                "read processor, memory, swap, load and boot time from the kernel",
                f"statvfs {self._home}",
                f"list the {args.top} processes with the most resident memory",
            ),
            blast_radius="Reads only; keeps one thread waiting for 0.2 s.",
            undo="Reads only; there is nothing to undo.",
        )

    async def before(self, args: ObserveHostArguments, target: Target) -> Snapshot:
        """Which run of the machine it is, told by its boot time."""
        target.expect(Host)
        del args
        return Snapshot(
            summary="The machine before it was observed.", facts={"boot_time_seconds": int(psutil.boot_time())}
        )

    async def run(self, args: ObserveHostArguments, target: Target, call: Call) -> Outcome:
        """Measure once.

        Raises:
            PlaybookFailed: `home-unreadable`.
        """
        target.expect(Host)
        facts = await asyncio.to_thread(_observe, self._home, args.top)
        await call.progress(1.0, "measured")
        return Outcome(
            summary=(
                f"Memory {facts['memory_used_percent']} %, disk {facts['disk_used_percent']} %, "
                f"{facts['process_count']} processes."
            ),
            changed=False,
            facts=facts,
        )

    async def checks(self, args: ObserveHostArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """It is still the machine that was observed, and within the limits that were given."""
        target.expect(Host)
        facts = await asyncio.to_thread(_observe, self._home, 0)
        noted, now = before.facts.get("boot_time_seconds"), int(psutil.boot_time())
        booted = noted if isinstance(noted, int) else 0
        found = [
            Check(
                name="same-machine",
                passed=abs(booted - now) <= _BOOT_TOLERANCE_SECONDS,
                expected=f"booted at {booted} s, give or take {_BOOT_TOLERANCE_SECONDS} s",
                observed=f"booted at {now} s",
            )
        ]
        for name, limit in (("memory", args.max_memory_percent), ("disk", args.max_disk_percent)):
            if limit is not None:
                used = facts[f"{name}_used_percent"]
                found.append(
                    Check(
                        name=f"{name}-within-limit",
                        passed=isinstance(used, int) and used <= limit,
                        expected=f"at most {limit} %",
                        observed=f"{used} %",
                    )
                )
        return tuple(found)
