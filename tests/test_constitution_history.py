"""Each constitution that was ever in force can be named, read and compared, with who brought it and when."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from operations.canonical import sha256
from storage.embedded import Embedded
from tests.doors import World, world
from tests.terminal import Terminal

CONSTITUTION = "/api/v1/constitution"
HISTORY = f"{CONSTITUTION}/history"


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)  # commands of this process share its output
    structlog.configure(wrapper_class=silent)
    try:
        with world(cluster, tmp_path_factory.mktemp("annals")) as made:
            yield made
    finally:
        structlog.reset_defaults()


@pytest.fixture(scope="module")
def amended(doors: World) -> list[dict[str, Any]]:
    """The history after two amendments, the second of which brings the first text back."""
    first = doors.get(CONSTITUTION, doors.admin, Accept="text/markdown").text
    assert "expiry_seconds = 120" in first
    second = first.replace("expiry_seconds = 120", "expiry_seconds = 60")
    carl = doors.key("carl", "crown_officer")
    for text, reason in ((second, "Shorter."), (first, "Longer again.")):
        proposed = doors.post(f"{CONSTITUTION}/amendments", doors.admin, {"text": text, "reason": "Try."}).json()
        path = f"{CONSTITUTION}/amendments/{proposed['amendment']}/ratify"
        assert doors.post(path, carl, {"reason": reason}).status_code == 200
    found: list[dict[str, Any]] = doors.get(HISTORY, carl).json()["items"]
    return found


def test_the_history_says_from_where_to_where_each_was_in_force_and_by_whom(
    doors: World, amended: list[dict[str, Any]]
) -> None:
    first, second, third = amended
    assert first["digest"] == third["digest"] != second["digest"]
    assert (first["first"], first["amendment"], first["proposer"], first["ratifier"]) == (0, None, None, None)
    assert (second["first"], third["first"]) == (first["last"] + 1, second["last"] + 1)
    assert [term["last"] is None for term in amended] == [term["in_force"] for term in amended] == [False, False, True]
    assert [(term["proposer"], term["ratifier"], term["reason"]) for term in (second, third)] == [
        ("admin", "carl", "Shorter."),
        ("admin", "carl", "Longer again."),
    ]
    assert first["since"] < second["since"] <= third["since"]


def test_every_entry_names_the_constitution_that_the_history_says_was_in_force(
    doors: World, amended: list[dict[str, Any]]
) -> None:
    for entry in doors.get("/api/v1/audit?limit=1000", doors.admin).json()["items"]:
        (term,) = [
            term
            for term in amended
            if term["first"] <= entry["index"] and (term["last"] is None or entry["index"] <= term["last"])
        ]
        assert entry["constitution"] == term["digest"]


def test_a_past_text_is_given_by_its_digest_and_by_no_other(doors: World, amended: list[dict[str, Any]]) -> None:
    digest = amended[1]["digest"]
    nobody = doors.key("nobody")
    found = doors.get(f"{CONSTITUTION}/{digest}", nobody)
    assert sha256(found.json()["text"].encode()) == digest == found.json()["digest"]
    plain = doors.get(f"{CONSTITUTION}/{digest}", nobody, Accept="text/markdown")
    assert sha256(plain.content) == digest
    assert doors.get(f"{CONSTITUTION}/{digest}", nobody, If_None_Match=f'"{digest}"').status_code == 304
    other = doors.sql("SELECT digest FROM evidence WHERE digest NOT IN ($1, $2)", digest, amended[0]["digest"])
    for wrong in ("0" * 64, "nonsense", other or "x"):
        answer = doors.get(f"{CONSTITUTION}/{wrong}", nobody)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-constitution")


def test_the_command_line_lists_shows_and_compares_them(
    doors: World, amended: list[dict[str, Any]], tmp_path: Path
) -> None:
    admin = Terminal(tmp_path, url=doors.settings.url, token=doors.admin)
    first, second, _ = (term["digest"] for term in amended)
    listed = admin("constitution", "history").out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [first[:16], second[:16], first[:16]]
    assert "the genesis" in listed
    assert "carl" in listed
    assert "expiry_seconds = 60" in admin("constitution", "show", second[:8]).out
    assert admin("constitution", "show", second, "--json").json["digest"] == second
    compared = admin("constitution", "diff", first[:12], second).out.splitlines()
    assert [line for line in compared if line[:1] in {"+", "-"}] == [
        f"--- {first}",
        f"+++ {second}",
        "-expiry_seconds = 120",
        "+expiry_seconds = 60",
    ]
    unknown = admin("constitution", "show", "0" * 64)
    assert (unknown.code, unknown.out) == (1, "")
    assert "triad constitution history" in unknown.err
