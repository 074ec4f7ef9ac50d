"""The crown: only the rulings that are open now, and no tool at all."""

import pytest
from pydantic_ai.messages import ModelMessage

from agents.crown import Crown
from agents.facts import CrownFacts, rulings
from agents.thought import MindUnavailable
from operations.canonical import JsonObject
from operations.model import Ruling
from tests.minds import Call, crown_facts, outcome, scripted, verdict

pytestmark = pytest.mark.anyio


def opinion(ruling: str) -> Call:
    return ("rule", {"ruling": ruling, "reasons": ["Article 9"]})


OPEN = [
    (crown_facts("assent"), {"assent", "veto", "escalate"}),
    (crown_facts(), {"complete", "rollback", "fail", "escalate"}),
    (crown_facts(verdict=verdict(passed=False)), {"rollback", "fail", "escalate"}),
    (crown_facts(verdict=None), {"rollback", "fail", "escalate"}),
    (crown_facts(outcomes=(outcome(1, changed=False),)), {"complete", "fail", "escalate"}),
    (crown_facts(verdict=verdict(passed=False), outcomes=(outcome(1, reversible=False),)), {"fail", "escalate"}),
]


@pytest.mark.parametrize(("facts", "expected"), OPEN)
def test_which_rulings_are_open(facts: CrownFacts, expected: set[str]) -> None:
    assert {ruling.value for ruling in rulings(facts)} == expected


@pytest.mark.parametrize(("facts", "expected"), OPEN)
@pytest.mark.parametrize("ruling", list(Ruling))
async def test_an_open_ruling_stands_and_any_other_is_never_accepted(
    facts: CrownFacts, expected: set[str], ruling: Ruling
) -> None:
    crown = Crown(scripted(opinion(ruling.value)))
    ask = crown.assent if facts.moment == "assent" else crown.rule
    if ruling.value in expected:
        assert (await ask(facts)).output.ruling is ruling
    else:
        with pytest.raises(MindUnavailable, match="invalid-output"):
            await ask(facts)


async def test_a_ruling_that_is_not_open_is_sent_back_with_those_that_are() -> None:
    seen: list[list[ModelMessage]] = []
    crown = Crown(scripted(opinion("complete"), opinion("fail"), seen=seen))
    thought = await crown.rule(crown_facts(verdict=verdict(passed=False)))
    assert "Open are: rollback, fail, escalate." in str(seen[1][-1])
    assert thought.output.ruling is Ruling.FAIL


@pytest.mark.parametrize("form", [{"ruling": "pardon", "reasons": ["a"]}, {"ruling": "veto"}, {"ruling": None}])
async def test_a_form_filled_in_wrongly_is_not_accepted(form: JsonObject) -> None:
    with pytest.raises(MindUnavailable, match="invalid-output"):
        await Crown(scripted(("rule", form))).assent(crown_facts("assent"))


async def test_facts_for_the_other_moment_are_refused() -> None:
    crown = Crown(scripted(opinion("escalate")))
    with pytest.raises(ValueError, match="facts for ruling were given for assent"):
        await crown.assent(crown_facts())
    with pytest.raises(ValueError, match="facts for assent were given for ruling"):
        await crown.rule(crown_facts("assent"))
