"""Canonical bytes are those of RFC 8785, and what has none is refused."""

import re
import time
from datetime import datetime

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from operations.canonical import MAX_DEPTH, SAFE_INTEGER, Instant, Json, canonical, digest_of, new_id, sha256

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
KEYS = st.text(st.characters(max_codepoint=127, exclude_characters="\x00"))
LEAVES = st.none() | st.booleans() | st.integers(-SAFE_INTEGER, SAFE_INTEGER) | TEXT
VALUES: st.SearchStrategy[Json] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=15
)


def nested(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


@given(VALUES)
def test_the_bytes_are_those_of_the_reference_library(value: Json) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.dictionaries(KEYS, LEAVES, min_size=2))
def test_the_order_of_keys_makes_no_difference(value: dict[str, Json]) -> None:
    turned = dict(reversed(value.items()))
    assert digest_of(value) == digest_of(turned) == sha256(canonical(value))


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        SAFE_INTEGER + 1,
        -SAFE_INTEGER - 1,
        "a\x00b",
        "\ud800",
        {"a\x00": 1},
        {"ä": 1},
        {"\ud800": 1},
        b"bytes",
        (1, 2),
        {"a": {1, 2}},
        nested(MAX_DEPTH + 1),
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused(value: Json) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical(value)


def test_the_deepest_nesting_is_accepted() -> None:
    assert canonical(nested(MAX_DEPTH)) == b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_cannot_say_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        TypeAdapter(Instant).validate_python(datetime.fromisoformat(text))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-00:00"])
def test_the_first_and_the_last_time_are_times(text: str) -> None:
    adapter = TypeAdapter[datetime](Instant)
    assert adapter.dump_python(adapter.validate_python(datetime.fromisoformat(text)), mode="json")[:19] == text[:19]


def test_ids_of_different_milliseconds_sort_by_time() -> None:
    first = new_id("op")
    start = time.time_ns()
    while time.time_ns() - start < 2_000_000:
        pass
    second = new_id("op")
    assert first < second
    assert re.fullmatch(r"op_[0-9A-HJKMNP-TV-Z]{26}", first)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_id("op") for _ in range(1000)}) == 1000
