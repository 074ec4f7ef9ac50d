"""Events carry text of people, models and systems; whatever it is, an entry must be able to hold it."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from operations.canonical import canonical_record
from operations.events import SENTENCE_BYTES, SENTENCES_BYTES, AnyEvent, PlanRefused, StepDone
from operations.model import Direction

ANY_TEXT = st.text(st.characters(), max_size=6000)


def done(summary: str) -> StepDone:
    return StepDone(
        warrant="wr_1", step=1, attempt=1, direction=Direction.DO, changed=True, summary=summary, evidence=()
    )


@given(ANY_TEXT)
def test_any_text_becomes_canonical_bytes_within_its_limit(text: str) -> None:
    event = done(text)
    assert len(canonical_record(event)) < SENTENCE_BYTES + 300


@given(st.lists(ANY_TEXT, max_size=30))
def test_any_reasons_stay_within_their_limit(texts: list[str]) -> None:
    event = PlanRefused(code="x", reasons=tuple(texts))
    assert len(canonical_record(event)) < SENTENCES_BYTES + 300


@given(st.one_of(ANY_TEXT, st.just("\x01" * 5000), st.just("ä\ud800\x00" * 900)))
def test_cutting_twice_cuts_no_more(text: str) -> None:
    event = done(text)
    assert TypeAdapter(AnyEvent).validate_json(canonical_record(event)) == event


def test_short_text_stays_as_it_is() -> None:
    assert done("All is well.").summary == "All is well."
