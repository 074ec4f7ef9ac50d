"""One spelling for each entry: what is written comes back, and nothing else is read."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from operations import events as e
from operations.canonical import SAFE_INTEGER, Json, sha256
from operations.model import Branch, Direction, Request, Tokens
from operations.stages import Stage
from storage.entry import MAX_ENTRY, Entry
from tests.logbook import ADA, KEY, LAW, ORIGIN, REQUEST, eventful, ident

DONE = e.StepDone(
    warrant="wr_0001",
    step=1,
    attempt=1,
    direction=Direction.DO,
    changed=True,
    summary="Rotated 12 files — compressed.",
    evidence=(sha256(b"outcome"),),
)


def fields(event: e.Event = DONE, **changes: Any) -> dict[str, Any]:
    moves = {"before": Stage.RUNNING, "after": Stage.RUNNING, "seq": 9} if event.moves else {}
    return {
        "index": 5,
        "time": datetime(2026, 11, 20, 18, 0, 0, 7000, UTC),
        "origin": ORIGIN,
        "kind": event.signal.partition(":")[0],
        "operation": ident(1),
        "branch": Branch.EXECUTIVE,
        "principal": "triad",
        "key": KEY.key_id.hex(),
        "constitution": LAW,
        "event": event,
        **moves,
        **changes,
    }


def entry(event: e.Event = DONE, **changes: Any) -> Entry:
    return Entry(**fields(event, **changes))


def respelled(**changes: Any) -> bytes:
    """An entry's JSON with fields replaced, spelled canonically."""
    return rfc8785.dumps(json.loads(entry().encode()) | changes)


def request_entry(**changes: Any) -> Entry:
    request = Request.model_validate(REQUEST.model_dump() | changes)
    event = e.OperationRequested(request=request, requester=ADA)
    return entry(event, before=None, after=Stage.REQUESTED, seq=1, branch=Branch.PEOPLE, principal="ada")


def test_every_entry_of_an_eventful_ledger_comes_back_as_its_own_rfc_8785_bytes() -> None:
    for data in eventful().entries:
        assert Entry.decode(data).encode() == data
        assert rfc8785.dumps(json.loads(data)) == data


def test_absent_fields_are_left_out_and_present_ones_are_there() -> None:
    spelled = json.loads(entry(model="rules/offline-1", tokens=Tokens(input=3, output=1)).encode())
    assert spelled["tokens"] == {"input": 3, "output": 1}
    assert spelled["time"] == "2026-11-20T18:00:00.007Z"
    assert "prompt" not in spelled
    assert "mission" not in spelled


def test_the_plans_body_stands_apart_from_the_entry() -> None:
    plans = [data for data in eventful().entries if b'"plan.proposed"' in data]
    assert plans
    assert all(b'"body"' not in data and b'"steps"' not in data for data in plans)


JSON_VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00")), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00")), JSON_VALUES, max_size=4),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=300).filter(
        str.strip
    ),
)
def test_free_form_parameters_and_words_come_back(parameters: dict[str, Json], words: str) -> None:
    made = request_entry(parameters=parameters, description=words)
    data = made.encode()
    assert Entry.decode(data) == made
    assert rfc8785.dumps(json.loads(data)) == data


@given(st.data())
def test_one_flipped_bit_is_either_refused_or_another_entry(data: st.DataObject) -> None:
    original = entry().encode()
    bit = data.draw(st.integers(0, len(original) * 8 - 1))
    changed = bytearray(original)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        read = Entry.decode(bytes(changed))
    except ValueError:
        return
    assert read != entry()
    assert read.encode() == bytes(changed)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("not JSON", b"nonsense"),
        ("not an object", b"[]"),
        ("a null", b"null"),
        ("a byte order mark", b"\xef\xbb\xbf" + entry().encode()),
        ("bytes after it", entry().encode() + b"\n"),
        ("bytes before it", b" " + entry().encode()),
        ("spacing", entry().encode().replace(b'"index":5', b'"index": 5')),
        ("an escape without need", entry().encode().replace(b'"principal":"triad"', b'"principal":"\\u0074riad"')),
        (
            "another order",
            json.dumps(dict(reversed(json.loads(entry().encode()).items())), separators=(",", ":")).encode(),
        ),
        ("a duplicate field", entry().encode().replace(b'"index":5', b'"index":4,"index":5')),
        ("a duplicate field in the event", entry().encode().replace(b'"attempt":1', b'"attempt":1,"attempt":1')),
        ("an unknown field", respelled(extra=1)),
        ("an explicit null", respelled(mission=None)),
        ("an unknown field in the event", respelled(event=json.loads(DONE.model_dump_json()) | {"extra": 1})),
        ("a float", entry().encode().replace(b'"index":5', b'"index":5.0')),
        ("an exponent", entry().encode().replace(b'"index":5', b'"index":5e0')),
        ("a negative zero", entry().encode().replace(b'"index":5', b'"index":-0')),
        ("a negative index", respelled(index=-1)),
        ("an integer beyond 2^53-1", entry().encode().replace(b'"index":5', b'"index":9007199254740992')),
        ("a number as text", respelled(index="5")),
        ("a boolean as number", respelled(seq=True)),
        ("another version", respelled(version=2)),
        ("an unknown branch", respelled(branch="legislature")),
        ("an unknown stage", respelled(after="paused")),
        ("an unknown kind", respelled(kind="step.forgotten", event={"kind": "step.forgotten"})),
        ("a kind that is not the event's", respelled(kind="step.failed")),
        ("an upper-case digest", respelled(constitution=LAW.upper())),
        ("a short digest", respelled(constitution=LAW[:-1])),
        ("a time with another zone", respelled(time="2026-11-20T19:00:00.007+01:00")),
        ("a time without a zone", respelled(time="2026-11-20T18:00:00.007")),
        ("a time with microseconds", respelled(time="2026-11-20T18:00:00.007000Z")),
        ("a time as a number", respelled(time=1795197600)),
        ("a lone surrogate", entry().encode().replace(b"triad.example", b"\\ud800.example")),
        ("no UTF-8", entry().encode().replace(b"triad.example", b"\xff.example")),
        ("U+0000", entry().encode().replace(b"triad.example", b"\\u0000.example")),
        ("an event without its fields", respelled(event={"kind": "step.done"})),
        ("too long", entry().encode().replace(b"Rotated", b"R" * MAX_ENTRY)),
    ],
)
def test_anything_but_the_one_spelling_is_refused(name: str, data: bytes) -> None:
    assert data != entry().encode(), name
    with pytest.raises(ValueError, match=r"entry"):
        Entry.decode(data)


def test_a_refusal_never_repeats_what_was_in_the_entry() -> None:
    data = respelled(model="hunter2-secret", index="hunter2-secret")
    with pytest.raises(ValueError, match="not an entry") as refusal:
        Entry.decode(data)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("value", [1.5, SAFE_INTEGER + 1, float("nan"), "a\x00b", {"clé": 1}, {"a": {"b": 2.0}}])
def test_what_has_no_canonical_form_cannot_become_an_entry(value: Json) -> None:
    with pytest.raises(ValueError, match=r".+"):
        request_entry(parameters={"value": value}).encode()


def test_an_entry_of_16_kib_is_written_and_one_byte_more_is_not() -> None:
    pieces = tuple(sha256(bytes([number])) for number in range(225))

    def with_summary(length: int) -> Entry:
        return entry(DONE.model_copy(update={"summary": "x" * length, "evidence": pieces}))

    room = MAX_ENTRY - len(with_summary(0).encode())
    assert 0 < room < e.SENTENCE_BYTES
    data = with_summary(room).encode()
    assert len(data) == MAX_ENTRY
    assert Entry.decode(data).encode() == data
    with pytest.raises(ValueError, match="16385 bytes"):
        with_summary(room + 1).encode()
    with pytest.raises(ValueError, match="16385 bytes"):
        Entry.decode(data.replace(b"xx", b"xxx", 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "step.failed"},
        {"operation": None},
        {"after": None},
        {"seq": None},
        {"before": None},
        {"seq": 0},
        {"index": -1},
        {"origin": ""},
        {"key": "0A1B2C3D"},
        {"operation": "op_1"},
        {"principal": "Ada Lovelace"},
    ],
    ids=str,
)
def test_a_move_without_what_a_move_needs_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(**changes)


def test_a_request_has_no_stage_before_it() -> None:
    with pytest.raises(ValidationError, match="only an operation's first event"):
        entry(e.OperationRequested(request=REQUEST, requester=ADA), after=Stage.REQUESTED, seq=1)


@pytest.mark.parametrize("changes", [{"before": Stage.RUNNING}, {"after": Stage.RUNNING}, {"seq": 3}], ids=str)
def test_an_annotation_moves_nothing(changes: dict[str, Any]) -> None:
    halted = e.CrownHalted(by="cleo", reason="Drill.")
    assert entry(halted, operation=None).seq is None
    with pytest.raises(ValidationError, match="moves nothing"):
        entry(halted, **changes)


def test_every_kind_of_event_fits_into_an_entry() -> None:
    kinds = {Entry.decode(data).kind for data in eventful().entries}
    assert kinds >= {"genesis", "operation.requested", "step.done", "constitution.amended", "warrant.denied"}


def test_encoding_is_fast_enough_for_the_writer() -> None:
    """The aim is 30 us on a quiet machine; five times that is the floor on a busy one."""
    made = entry(model="rules/offline-1", prompt=LAW, tokens=Tokens(input=10, output=4), trace="c" * 32)
    started = time.process_time()
    for _ in range(2000):
        made.encode()
    assert (time.process_time() - started) / 2000 < 150e-6
