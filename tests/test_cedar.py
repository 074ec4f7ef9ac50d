"""How Cedar blocks are read: what is not understood is refused with its place, and the schema has the code's words."""

from typing import Final

import cedarpy
import pytest

from operations import cedar
from operations.articles import Block, Reading
from operations.cedar import Policies
from operations.constitution import Action, Resource
from operations.errors import ConstitutionInvalid
from operations.model import Role, Ruling, RunMode
from tests.policy_cases import CONSTITUTION, KINDS, A, R, person


@pytest.mark.parametrize("action", Action)
def test_every_action_is_permitted_by_some_rule(action: Action) -> None:
    scopes = [f'Action::"{action.value}"' in block.text for block in Reading(CONSTITUTION.text).cedar]
    assert any(scopes)


def test_the_schema_knows_the_same_words_as_the_code() -> None:
    for enum, kind in ((Role, "Role"), (RunMode, "Mode"), (Ruling, "Ruling")):
        for member in enum:
            assert _valid(f'permit (principal, action, resource) when {{ {kind}::"{member.value}" == {_some(kind)} }};')
    assert {action for action, _ in cedar._fits()} == {action.value for action in Action}
    assert {kind for _, kind in cedar._fits()} == set(KINDS)


def _some(kind: str) -> str:
    return {"Role": 'Role::"admin"', "Mode": 'Mode::"review"', "Ruling": 'Ruling::"fail"'}[kind]


def _valid(policy: str) -> bool:
    return bool(cedarpy.validate_policies(policy, cedar._schema()).validation_passed)


def block(text: str) -> list[Block]:
    return [Block(article=1, line=10, text=text)]


GOOD: Final = '@id("article-1-read")\n@reason("Read.")\npermit (principal, action == Action::"read", resource);'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("permit (principal, action, resource", "Article 1, line 10: Cedar: "),
        ("// nothing", "an empty block enforces nothing"),
        (GOOD.replace('@id("article-1-read")\n', ""), "a policy needs @id"),
        (GOOD.replace("article-1-read", "article-2-read"), "a policy needs @id"),
        (GOOD.replace("article-1-read", "article-01-read"), "a policy needs @id"),
        (GOOD.replace("article-1-read", "article-1-"), "a policy needs @id"),
        (GOOD.replace("article-1-read", "Article-1-read"), "a policy needs @id"),
        (GOOD.replace('@reason("Read.")\n', ""), "needs @reason"),
        (GOOD.replace("Read.", " "), "needs @reason"),
        (GOOD.replace("@reason", '@hidden("x")\n@reason'), "no other annotation"),
        (GOOD + "\n" + GOOD, "line 10: the id article-1-read stands there twice"),
        (GOOD.replace('action == Action::"read"', "action"), "permits every action"),
        (GOOD.replace("(principal,", "(principal == ?principal,"), "a template decides nothing"),
        (GOOD.replace('"read"', '"raed"'), "Cedar: "),
        (GOOD.replace(";", ' when { context.mode == Mode::"obsrve" };'), "obsrve"),
        (GOOD.replace(";", ' when { principal in Role::"aprover" };'), "aprover"),
        (GOOD.replace(";", ' when { principal.nmae == "x" };'), "nmae"),
        (GOOD.replace(";", " when { context.level == true };"), "Cedar: "),
        (GOOD.replace(";", " when { context.ruling == context.mode };"), "Cedar: "),
    ],
)
def test_a_rule_that_is_not_understood_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(ConstitutionInvalid) as refusal:
        Policies.parse(block(text))
    assert why in str(refusal.value)
    assert str(refusal.value).startswith("Article 1, line 1")


def test_the_line_of_a_wrong_rule_is_its_own() -> None:
    second = GOOD.replace("article-1-read", "article-1-more").replace('"read"', '"raed"')
    with pytest.raises(ConstitutionInvalid, match="Article 1, line 14: Cedar"):
        Policies.parse(block(f"{GOOD}\n\n{second}"))


def test_a_rule_may_use_the_whole_context() -> None:
    policies = Policies.parse(block(GOOD.replace(";", " when { [context].contains(context) && context.level == 3 };")))
    reader, ledger = person("ann", R.AUDITOR), Resource(kind="ledger", id="ledger")
    assert policies.decide(reader, A.READ, ledger, {"level": 3, "other": 1}, {}).allowed
    assert not policies.decide(reader, A.READ, ledger, {"level": 4}, {}).allowed
