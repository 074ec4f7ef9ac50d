"""Who may do what under the constitution that ships, case by case, and that every rule in it is needed."""

import dataclasses
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.articles import Reading
from operations.cedar import Policies
from operations.constitution import Action, Constitution, Context, Resource
from operations.errors import NotAllowed
from operations.model import Principal, Role, RunMode
from operations.policy import Kind
from operations.systems import Environment
from tests.policy_cases import (
    ALLOWED,
    CASES,
    CLEO,
    CONSTITUTION,
    CROWN,
    DANA,
    EMERGENCY,
    EXECUTIVE,
    FAVOURABLE,
    JUDICIAL,
    KINDS,
    NOW,
    PRINCIPALS,
    RITA,
    A,
    Case,
    P,
    R,
    label,
    person,
    principal,
)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("kind", KINDS)
def test_who_may_do_what_is_this_table_and_nothing_else(action: Action, kind: Kind) -> None:
    resource = FAVOURABLE.model_copy(update={"kind": kind})
    decisions = {label(who): CONSTITUTION.decide(who, action, resource, NOW) for who in PRINCIPALS}
    allowed = {name for name, decision in decisions.items() if decision.allowed}
    assert allowed == ALLOWED.get((action, kind), set())
    assert all(reason.text.endswith(".") for decision in decisions.values() for reason in decision.reasons)


@pytest.mark.parametrize("name", CASES)
def test_the_answer_and_the_rule_it_rests_on(name: str) -> None:
    case = CASES[name]
    decision = case.decide(CONSTITUTION)
    assert decision.allowed is (case.answer == "yes"), decision
    if case.answer == "":
        assert (decision.code, decision.texts) == ("not-permitted", ("No article permits this.",))
    elif case.answer != "yes":
        assert decision.code == "forbidden"
        assert decision.policies == (case.answer,)
        assert decision.articles == (case.answer.rsplit("-", case.answer.count("-") - 1)[0],)


def without(ident: str) -> Constitution:
    """The constitution that ships, one policy fewer."""
    blocks = []
    for block in Reading(CONSTITUTION.text).cedar:
        kept = [policy for policy in block.text.split("\n\n") if f'@id("{ident}")' not in policy]
        if kept:
            blocks.append(dataclasses.replace(block, text="\n\n".join(kept)))
    policies = Policies.parse(blocks)
    assert len(policies) == len(CONSTITUTION.policies) - 1
    return dataclasses.replace(CONSTITUTION, policies=policies)


@pytest.mark.parametrize("ident", CONSTITUTION.policy_ids)
def test_no_rule_is_decoration_without_it_somebody_gets_another_answer(ident: str) -> None:
    mutant = without(ident)
    changed = [name for name, case in CASES.items() if case.decide(mutant).allowed is not (case.answer == "yes")]
    for action, kind in ALLOWED:
        resource = FAVOURABLE.model_copy(update={"kind": kind})
        allowed = {label(who) for who in PRINCIPALS if mutant.decide(who, action, resource, NOW).allowed}
        if allowed != ALLOWED[action, kind]:
            changed.append(action.value)
            break
    assert changed


FACTS: Final = sorted(set(Resource.model_fields) - {"kind", "id", "authority", "environment"})
"""The environment only raises a tier that planning has raised by it before; authority has no unknown."""


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_that_is_not_given_never_opens_anything(fact: str) -> None:
    for name, case in CASES.items():
        if case.answer == "yes":
            continue
        facts = case.facts | {fact: None}
        assert not dataclasses.replace(case, facts=facts).decide(CONSTITUTION).allowed, name


LACKING: Final = [
    (DANA, A.APPROVE, "requester_person", "article-5-not-the-requester", {}),
    (DANA, A.APPROVE, "approvers", "article-5-one-person-once", {}),
    (DANA, A.APPROVE, "expired", "article-10-expired", {}),
    (DANA, A.APPROVE, "steps", "article-11-too-long", {}),
    (EXECUTIVE, A.START, "quorum", "article-5-quorum", {}),
    (EXECUTIVE, A.START, "assent", "article-9-assent", {}),
    (EXECUTIVE, A.START, "assented", "article-9-assent", {"assent": True}),
    (EXECUTIVE, A.START, "emergency", "article-15-time-limit", {}),
    (EXECUTIVE, A.START, "age_minutes", "article-15-time-limit", EMERGENCY),
    (EXECUTIVE, A.EXECUTE, "undo", "article-5-quorum", {"approvers": frozenset()}),
    (EXECUTIVE, A.EXECUTE, "playbook_emergency", "article-15-marked-playbooks", EMERGENCY),
    (JUDICIAL, A.EVALUATE, "checks_passed", "article-13-no-pass-over-failed-checks", {}),
    (CROWN, A.RULE, "verdict_passed", "article-14-crown-keeps-the-verdict", {}),
    (CLEO, A.SUBMIT, "emergency", "article-15-officer-declares", {}),
    (CLEO, A.RATIFY, "requester_person", "article-23-two-people", {}),
]


@pytest.mark.parametrize(("who", "action", "fact", "policy", "given_facts"), LACKING)
def test_a_rule_that_lacks_a_fact_refuses_and_names_it(
    who: Principal, action: Action, fact: str, policy: str, given_facts: dict[str, Any]
) -> None:
    decision = Case(who, action, "", given_facts | {fact: None}).decide(CONSTITUTION)
    assert decision.code == "undecidable"
    assert policy in decision.policies
    assert any(f"It needs the fact `{fact}`, which was not given." in text for text in decision.texts)


def test_an_unknown_type_leaves_it_unknown_whether_a_rollback_plan_is_needed() -> None:
    decision = Case(EXECUTIVE, A.START, "", {"type": None, "rollback_plan": False}).decide(CONSTITUTION)
    assert (decision.code, decision.policies) == ("undecidable", ("article-11-rollback-plan",))


def test_without_a_context_doors_answer_and_nothing_runs() -> None:
    assert CONSTITUTION.decide(DANA, A.APPROVE, FAVOURABLE).allowed
    assert not CONSTITUTION.decide(EXECUTIVE, A.START, FAVOURABLE).allowed
    reading = FAVOURABLE.model_copy(update={"tier": 0})
    decision = CONSTITUTION.decide(EXECUTIVE, A.START, reading, Context(mode=RunMode.AUTONOMOUS))
    assert decision.code == "undecidable"
    assert decision.policies == ("article-16-halted",)


def test_a_denial_raises_with_code_reasons_and_articles() -> None:
    with pytest.raises(NotAllowed) as refusal:
        CONSTITUTION.decide(person("rita", R.APPROVER), A.APPROVE, FAVOURABLE, NOW).raise_if_denied()
    assert refusal.value.code == "forbidden"
    assert refusal.value.articles == ("article-5",)
    assert refusal.value.reasons == ("Who asked for the operation may not approve it, under any name.",)


def test_a_permit_says_what_it_rests_on() -> None:
    decision = CONSTITUTION.decide(DANA, A.APPROVE, FAVOURABLE, NOW).raise_if_denied()
    assert (decision.code, decision.articles, decision.policies) == (
        "permitted",
        ("article-5",),
        ("article-5-approver-approves",),
    )


@pytest.mark.parametrize("branch", ["nobody", "people", "crown.", "crowns", 'x"'])
def test_an_agent_of_no_known_branch_does_nothing(branch: str) -> None:
    agent = Principal.model_construct(
        id=f"agent:{branch}", kind=P.AGENT, roles=frozenset(Role), person=f"agent:{branch}"
    )
    for action, kind in ALLOWED:
        resource = FAVOURABLE.model_copy(update={"kind": kind})
        if (action, kind) != (A.READ, "constitution"):
            assert not CONSTITUTION.decide(agent, action, resource, NOW).allowed


@pytest.mark.parametrize("ident", ['"', "\\", '"}]', 'op"||true', "{}", "a" * 200, "!~", "Role::x"])
def test_odd_ids_change_no_answer(ident: str) -> None:
    odd = FAVOURABLE.model_copy(update={"id": Resource(kind="operation", id=ident).id})
    assert CONSTITUTION.decide(DANA, A.APPROVE, odd, NOW).allowed
    assert not CONSTITUTION.decide(RITA, A.APPROVE, odd, NOW).allowed


@pytest.mark.parametrize("ident", ["", " ", "a b", "ä", "\x00", "a\n", "a" * 201, "\ud800"])
def test_ids_that_cannot_be_read_are_refused(ident: str) -> None:
    with pytest.raises(ValueError, match="id"):
        Resource(kind="operation", id=ident)


def test_a_lone_surrogate_that_slips_in_is_a_no() -> None:
    resource = FAVOURABLE.model_copy(update={"id": "\ud800"})
    assert CONSTITUTION.decide(DANA, A.APPROVE, resource, NOW).code == "undecidable"


facts = st.fixed_dictionaries(
    {
        "tier": st.none() | st.integers(0, 3),
        "emergency": st.none() | st.booleans(),
        "approvers": st.none() | st.frozensets(st.sampled_from(["zoe", "yan", "agent:crown", "agent:executive"])),
        "requester_person": st.sampled_from(["rita", "agent:crown", "agent:executive"]),
        "expired": st.none() | st.booleans(),
        "steps": st.none() | st.integers(0, 50),
        "escalated": st.booleans(),
        "environment": st.none() | st.sampled_from(Environment),
    }
)
FOR_PEOPLE: Final = [
    A.APPROVE,
    A.WITHDRAW,
    A.CANCEL,
    A.SUBMIT,
    A.AMEND,
    A.RATIFY,
    A.RELEASE,
    A.RECONCILE,
    A.MANAGE_KEYS,
]


@given(
    branch=st.sampled_from(["legislative", "executive", "judicial", "crown", "observer"]),
    action=st.sampled_from(FOR_PEOPLE),
    kind=st.sampled_from(KINDS),
    facts=facts,
    level=st.none() | st.integers(0, 10),
    mode=st.sampled_from(RunMode),
)
def test_no_agent_does_what_is_for_people_whatever_the_facts(
    branch: str, action: Action, kind: Kind, facts: dict[str, Any], level: int | None, mode: RunMode
) -> None:
    agent = principal(P.AGENT, f"agent:{branch}", *Role)
    resource = FAVOURABLE.model_copy(update={"kind": kind, **facts})
    context = NOW.model_copy(update={"level": level, "mode": mode})
    assert not CONSTITUTION.decide(agent, action, resource, context).allowed


@given(facts=facts, mode=st.sampled_from(RunMode), quorum=st.integers(0, 3))
def test_nothing_starts_with_fewer_approvals_than_its_tier_needs(
    facts: dict[str, Any], mode: RunMode, quorum: int
) -> None:
    resource = FAVOURABLE.model_copy(update={**facts, "quorum": quorum, "emergency": False, "assented": True})
    if CONSTITUTION.decide(EXECUTIVE, A.START, resource, NOW.model_copy(update={"mode": mode})).allowed:
        assert resource.tier is not None
        assert resource.approvers is not None
        assert len(resource.approvers) >= max(quorum, CONSTITUTION.numbers.tiers[resource.tier].quorum)
