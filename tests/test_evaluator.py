"""The evaluator: what contradicts the evidence goes back once; it may fail what passed its checks."""

import pytest
from pydantic_ai.messages import ModelMessage

from agents.evaluator import Evaluator, contradictions
from agents.facts import EvaluatorFacts
from agents.outputs import Judgement
from agents.thought import MindUnavailable
from operations.canonical import JsonObject
from tests.minds import Call, check, evaluator_facts, outcome, scripted

pytestmark = pytest.mark.anyio


def judgement(*, passed: bool, rollback: bool = False) -> Call:
    return ("judge", {"passed": passed, "rollback": rollback, "reasons": ["step 1 says so"]})


async def judge(facts: EvaluatorFacts, *turns: Call, seen: list[list[ModelMessage]] | None = None) -> Judgement:
    return (await Evaluator(scripted(*turns, seen=seen)).judge(facts)).output


async def test_a_pass_over_passed_checks_stands() -> None:
    assert (await judge(evaluator_facts(check()), judgement(passed=True))).passed


async def test_a_fail_over_passed_checks_stands_too() -> None:
    assert not (await judge(evaluator_facts(check()), judgement(passed=False))).passed


CONTRADICTIONS = [
    (evaluator_facts(check(passed=False)), judgement(passed=True), "did not pass its check no-dead-rows"),
    (evaluator_facts(check(), execution="stopped"), judgement(passed=True), "The execution stopped"),
    (evaluator_facts(check()), judgement(passed=True, rollback=True), "not rolled back"),
    (
        evaluator_facts(check(passed=False), steps=(outcome(1, changed=False),)),
        judgement(passed=False, rollback=True),
        "nothing to roll back",
    ),
]


@pytest.mark.parametrize(("facts", "wrong", "words"), CONTRADICTIONS)
async def test_what_the_evidence_speaks_against_is_sent_back(facts: EvaluatorFacts, wrong: Call, words: str) -> None:
    seen: list[list[ModelMessage]] = []
    output = await judge(facts, wrong, judgement(passed=False), seen=seen)
    assert words in str(seen[1][-1])
    assert not output.passed


async def test_a_model_that_insists_is_handed_on_and_overruled_by_code_with_the_same_words() -> None:
    facts = evaluator_facts(check(passed=False))
    seen: list[list[ModelMessage]] = []
    output = await judge(facts, judgement(passed=True), seen=seen)
    assert len(seen) == 2
    assert contradictions(facts, output) == (
        "Step 1 did not pass its check no-dead-rows; a run with a failed check cannot pass.",
    )


@pytest.mark.parametrize(
    "form",
    [
        {"passed": "true", "rollback": False, "reasons": ["a"]},
        {"passed": 1, "rollback": False, "reasons": ["a"]},
        {"passed": True, "rollback": False, "reasons": []},
        {"passed": True, "rollback": False, "reasons": "a"},
        {"passed": True, "rollback": False, "reasons": ["a"], "checks_passed": True},
        {"passed": True},
    ],
)
async def test_a_form_filled_in_wrongly_is_not_accepted(form: JsonObject) -> None:
    with pytest.raises(MindUnavailable, match="invalid-output"):
        await judge(evaluator_facts(check()), ("judge", form))


async def test_the_evaluator_has_no_tool_that_acts() -> None:
    with pytest.raises(MindUnavailable, match="invalid-output"):
        await judge(evaluator_facts(check()), ("step_1", {}))
