"""The runner of the benchmarks: it finds them, takes rows in every form, and prints one table."""

import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType

import pytest

from evals.benchmarks import __main__ as runner
from evals.benchmarks.row import Row

FAST = Row("decide", 31.25, "us", ratio=0.5, target="at most 1 x", note="baseline: parsing each time")
MANY = Row("append", 83015.4, "entries/s")


def given() -> Iterator[Row]:
    yield FAST
    yield MANY


async def streamed(*, quick: bool) -> AsyncIterator[Row]:
    yield Row("quick" if quick else "slow", 1, "s")


async def awaited(*, quick: bool = False) -> list[Row]:
    return [Row("quick" if quick else "slow", 1, "s")]


def test_rows_may_be_yielded_streamed_or_awaited() -> None:
    assert runner.rows_of(given, quick=False) == [FAST, MANY]
    assert [row.name for row in runner.rows_of(streamed, quick=True)] == ["quick"]
    assert [row.name for row in runner.rows_of(awaited, quick=False)] == ["slow"]


def test_the_table_is_aligned_and_says_ratio_and_target() -> None:
    lines = runner.table([FAST, MANY]).splitlines()
    assert lines[0].split() == ["benchmark", "value", "unit", "ratio", "target", "note"]
    assert lines[1].split(maxsplit=4)[:4] == ["decide", "31.25", "us", "0.50"]
    assert lines[2].split() == ["append", "83,015", "entries/s"]
    assert lines[1].index("31.25") + len("31.25") == lines[2].index("83,015") + len("83,015")


def test_every_module_of_the_package_that_is_not_the_runner_measures_something() -> None:
    found = runner.modules()
    assert found
    assert "row" not in found
    assert all(callable(module.measure) for module in found.values())


def test_one_run_prints_the_machine_and_only_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ModuleType("first"), ModuleType("second")
    first.__dict__["measure"], second.__dict__["measure"] = given, awaited
    monkeypatch.setattr(runner, "modules", lambda: {"first": first, "second": second})
    assert runner.main(["--quick", "second"]) == 0
    printed = capsys.readouterr().out
    assert "cores" in printed
    assert "quick look" in printed
    assert "decide" not in printed
    assert runner.main([]) == 0
    assert "decide" in capsys.readouterr().out


def test_an_unknown_benchmark_is_an_error_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_the_package_is_run_by_its_name() -> None:
    assert runner.__name__ == "evals.benchmarks.__main__"
    assert "evals.benchmarks.row" in sys.modules
