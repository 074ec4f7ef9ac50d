"""The verifier's own copies of what the server knows: they agree, and neither accepts what the other refuses."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations import canonical as ours
from operations.articles import Reading
from operations.constitution import Constitution
from operations.errors import ConstitutionInvalid
from operations.events import AnyEvent
from operations.requirements import read_numbers
from operations.stages import TRANSITIONS as SERVER
from operations.stages import Stage
from storage.entry import MAX_ENTRY, Entry
from storage.schema import text
from storage.verifier import canonical, shapes, spelling, stages, tree
from storage.verifier.bounds import NumbersUnreadable
from storage.verifier.hashing import BLOCK, BlockHasher
from storage.verifier.kinds import DECISIONS
from storage.verifier.law import Numbers
from storage.verifier.rules import BRANCHES, BY_PEOPLE, Rule
from storage.verifier.shapes import Mismatch, SchemaUnknown, compile_schema
from storage.verifier.spelling import EntryMalformed
from tests.logbook import DOCUMENT, administered, eventful

ENTRIES = eventful().entries + administered().entries
KINDS = {event.model_fields["kind"].default: event for event in get_args(get_args(AnyEvent)[0])}


def test_the_schema_of_entries_is_the_one_that_the_records_make() -> None:
    written = (Path(shapes.__file__).parent / shapes.SCHEMA).read_text()
    assert written == text(), "run: python -m storage.schema > storage/verifier/entry.schema.json"


def test_the_transition_table_is_the_servers() -> None:
    assert {stage.value: {k: v.value for k, v in row.items()} for stage, row in SERVER.items()} == stages.TRANSITIONS
    assert {stage.value for stage in Stage if stage.terminal} == stages.TERMINAL


def test_the_kinds_are_the_servers() -> None:
    assert {kind for kind, event in KINDS.items() if event.moves} == stages.MOVES
    named = {each["properties"]["kind"]["const"] for each in _events()}
    assert named == set(KINDS)
    assert set(BRANCHES) | BY_PEOPLE | DECISIONS <= set(KINDS)


def _events() -> list[dict[str, Any]]:
    definitions = shapes.schema()["$defs"]
    union = definitions["Entry"]["properties"]["event"]["oneOf"]
    return [definitions[each["$ref"].removeprefix("#/$defs/")] for each in union]


def test_an_honest_entry_is_read_alike_by_both() -> None:
    reader = spelling.Reader()
    for data in ENTRIES * 2:
        assert spelling.read_entry(data) == reader.read(data) == json.loads(data)
        assert Entry.decode(data).encode() == data


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The entry with one field of it or of its event left out, repeated, or given another value."""
    entry = json.loads(data)
    place = chance.choice([entry, entry["event"], entry["event"].get("request", entry)])
    name = chance.choice(sorted(place))
    values: list[Any] = [
        None,
        True,
        0,
        -1,
        4,
        2**53,
        "",
        "a",
        "\x00",
        " x ",
        "x" * 2001,
        [],
        ["a"],
        {},
        "2026-02-30T00:00:00.000Z",
    ]
    match chance.randrange(3):
        case 0:
            del place[name]
        case 1:
            place[name] = chance.choice(values)
        case _:
            place[chance.choice(["zz", "aa", "before", "seq", "model"])] = chance.choice(values)
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_what_one_of_both_refuses_the_other_does_not_accept() -> None:
    chance = random.Random(8785)
    patterns = {kind: spelling.pattern_of(kind) for kind in {json.loads(data)["kind"] for data in ENTRIES}}
    refused = 0
    for _ in range(6000):
        data = mutated(chance.choice(ENTRIES), chance)
        try:
            Entry.decode(data)
            server = True
        except ValueError:
            server = False
            refused += 1
        try:
            entry = spelling.read_entry(data)
            verifier = True
        except EntryMalformed:
            verifier = False
            entry = {"kind": json.loads(data).get("kind")}
        assert verifier or not server, data
        if verifier and not server:
            assert _only_the_server_trims(data), data
        pattern = patterns.get(entry["kind"]) if isinstance(entry["kind"], str) else None
        assert pattern is None or verifier or not pattern.fullmatch(data.decode())
    assert refused > 1000


def _only_the_server_trims(data: bytes) -> bool:
    """The server also strips spaces around people's words and cuts long texts, which no schema says."""
    return b'" x "' in data or b"x" * 2001 in data or b'"\\u0000"' in data


@given(st.data())
def test_no_flipped_bit_is_recognised_fast_that_is_refused_slowly(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(ENTRIES))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    pattern = spelling.pattern_of(json.loads(whole)["kind"]) if bit % 16 == 0 else None
    try:
        spelling.read_entry(bytes(flipped))
    except EntryMalformed:
        if pattern is not None:
            try:
                readable = bytes(flipped).decode()
            except UnicodeDecodeError:
                return
            assert not pattern.fullmatch(readable)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abc_", max_size=3), children, max_size=4)
    ),
)


@given(JSON_VALUES)
def test_canonical_bytes_are_the_servers(value: Any) -> None:
    try:
        expected = ours.canonical(value)
    except ValueError:
        with pytest.raises(canonical.NotCanonical):
            canonical.canonical(value)
        return
    assert canonical.canonical(value) == expected
    assert canonical.parse(expected) == value


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}', b'{"b":1,"a":1}', b'{"a": 1}', b'"\\u0061"', b'"\\u0000"', b'"\\ud800"', b'"\\/"',
        b"1.0", b"1e3", b"-0", b"01", b"9007199254740992", b"NaN", b"Infinity", b"1" * 5000, b"\xff", b"", b" 1", b"1 ",
        b"\xef\xbb\xbf1", b'{"\xc3\xa9":1}', b"[" * 17 + b"]" * 17, b"[" * 100_000, b'"\\u001F"', b'"\\u0008"',
    ],
)  # fmt: skip
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(canonical.NotCanonical):
        canonical.parse(data)


@pytest.mark.parametrize(
    "node",
    [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "string", "pattern": "abc"},
        {"type": "string", "pattern": r"^\w$"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "email", "pattern": "^a$"},
        {"type": "integer"},
        {"type": "integer", "minimum": 0, "maximum": 1, "multipleOf": 2},
        {"type": "number"},
        {"type": "boolean", "default": True},
        {"type": "array", "items": {"type": "boolean"}, "contains": {"type": "boolean"}},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {}, "required": ["a"], "additionalProperties": False},
        {"type": "object", "additionalProperties": False, "patternProperties": {}},
        {"const": 1.5, "type": "number"},
        {"allOf": []},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#/$defs/Shape", "minLength": 1},
    ],
)
def test_a_keyword_that_is_not_known_is_an_error_when_the_schema_is_compiled(node: dict[str, Any]) -> None:
    with pytest.raises(SchemaUnknown):
        compile_schema({"$defs": {"Shape": node}}, "Shape")


def test_a_mismatch_names_the_field_and_never_its_value() -> None:
    entry = json.loads(ENTRIES[1])
    entry["event"]["request"]["systems"] = ["Very Secret"]
    with pytest.raises(Mismatch, match=r"^event\.request\.systems\.0: is not in its form$"):
        shapes.entry_shape()(entry)
    del entry["event"]["request"]["systems"]
    with pytest.raises(Mismatch, match=r"^event\.request\.systems: is missing$"):
        shapes.entry_shape()(entry)


@pytest.mark.parametrize("day", ["2024-02-29", "2000-02-29", "2026-12-31", "0001-01-01", "9999-12-31"])
def test_a_day_that_exists_is_a_time(day: str) -> None:
    assert shapes.DATE_TIME.fullmatch(f"{day}T23:59:59.999Z")


@pytest.mark.parametrize("day", ["2026-02-29", "1900-02-29", "2026-04-31", "2026-13-01", "2026-00-01", "0000-01-01"])
def test_a_day_that_does_not_exist_is_no_time(day: str) -> None:
    assert not shapes.DATE_TIME.fullmatch(f"{day}T00:00:00.000Z")


def test_roots_of_blocks_are_those_of_the_tree_at_every_size() -> None:
    leaves = [str(number).encode() for number in range(2 * BLOCK + 9)]
    hasher = BlockHasher(keep=True)
    for start in range(0, len(leaves), BLOCK):
        hasher.add(leaves[start : start + BLOCK])
    expected = tree.RootHasher()
    for size in range(len(leaves) + 1):
        assert hasher.root_at(size) == expected.root()
        if size < len(leaves):
            expected.add(leaves[size])
    assert hasher.root() == expected.root()
    with pytest.raises(LookupError):
        hasher.root_at(len(leaves) + 1)


def test_the_real_constitutions_numbers_are_understood_with_its_clauses_on_emergencies() -> None:
    numbers = Numbers(DOCUMENT)
    assert numbers.officer_declares
    assert numbers.time_limited
    assert not Numbers(DOCUMENT.replace('Role::"crown_officer" };', 'Role::"admin" };')).officer_declares
    assert numbers.most_steps == 20


def test_an_entry_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(EntryMalformed, match=str(MAX_ENTRY)):
        spelling.read_entry(b"[" * (MAX_ENTRY + 1))


def test_every_rule_is_explained_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "architecture" / "verification.md").read_text()
    explained = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert explained == {rule.value for rule in Rule} | {
        "input", "signature", "witnesses", "root", "tiles", "rollback", "fork"
    }  # fmt: skip


_REFUSED = [
    ("tier = 3\nquorum = 2", "tier = 3\nquorum = 1"),
    ("tier = 3\nquorum = 2", "tier = 3\nquorum = 11"),
    ("tier = 2\nquorum = 1", "tier = 2\nquorum = 0"),
    ("tier = 2\nquorum = 1", "tier = 1\nquorum = 1"),
    ("tier = 2\nquorum = 1", "tier = 2\nquorum = true"),
    ("tier = 2\nquorum = 1", "tier = 2\nquorum = 1.0"),
    ("assent = true", "assent = false"),
    ("plan_expiry_minutes = 1440", "plan_expiry_minutes = 10081"),
    ("plan_expiry_minutes = 1440", "plan_expiry_minutes = 6"),
    ("plan_expiry_minutes = 1440", "plan_expiry_minutes = 1440\nmore = 1"),
    ("expiry_seconds = 120", "expiry_seconds = 4"),
    ("expiry_seconds = 120", "expiry_seconds = 901"),
    ("expiry_seconds = 120", "expiry_seconds = 1979-05-27"),
    ("approvals_waived = 1", "approvals_waived = 2"),
    ("time_limit_minutes = 60", "time_limit_minutes = 481"),
    ("ratify_within_minutes = 480", "ratify_within_minutes = 4"),
    ("ratify_within_minutes = 480", ""),
    ("halt = 10", "halt = 11"),
    ("halt = 10", "halt = 0"),
    ("halt = 10", "halt = 10\nplay = 1"),
    ("[warrants]", "[warranties]"),
    ("[emergencies]", "[emergencies"),
]


@pytest.mark.parametrize(("old", "new"), _REFUSED)
def test_what_the_server_refuses_as_a_number_the_verifier_refuses(old: str, new: str) -> None:
    assert old in DOCUMENT
    with pytest.raises(ConstitutionInvalid):
        Constitution.parse(DOCUMENT.replace(old, new))
    with pytest.raises(NumbersUnreadable):
        Numbers(DOCUMENT.replace(old, new))


def test_no_number_alone_is_accepted_by_one_and_refused_by_the_other() -> None:
    places = [found.span() for found in re.finditer(r"(?<== )(?:\d+|true|false)$", DOCUMENT, re.MULTILINE)]
    assert len(places) > 40
    for first, end in places:
        for value in ("0", "1", "3", "11", "901", "true", "false"):
            text = DOCUMENT[:first] + value + DOCUMENT[end:]
            assert _accepts(_server, text) == _accepts(Numbers, text)


def _server(text: str) -> object:
    return read_numbers(Reading(text).toml)


def _accepts(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except (ConstitutionInvalid, NumbersUnreadable):
        return False
    return True
