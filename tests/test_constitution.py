"""The document: what it must say, what is refused, its digest, and what its numbers demand."""

import itertools
import re
import unicodedata
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.articles import JUDGED, MAX_BYTES, canonical_text
from operations.constitution import Constitution, Decision, Numbers, document_digest
from operations.errors import ConstitutionInvalid
from operations.model import Authority, OperationType, RunMode
from operations.systems import Environment
from prompts import load, sops

TEXT: Final = load("constitution").text
CONSTITUTION: Final = Constitution.parse(TEXT)


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1, f"{old!r} stands there {TEXT.count(old)} times"
    return TEXT.replace(old, new)


def refused(text: str | bytes) -> str:
    with pytest.raises(ConstitutionInvalid) as refusal:
        Constitution.parse(text)
    return str(refusal.value)


def line_of(words: str) -> int:
    return TEXT[: TEXT.index(words)].count("\n") + 1


def test_every_article_is_enforced_or_says_who_judges_it() -> None:
    assert [article.id for article in CONSTITUTION.articles] == [f"article-{n}" for n in range(1, 24)]
    for article in CONSTITUTION.articles:
        assert article.enforced == ("```" in article.text)
        assert article.enforced != (JUDGED in article.prose), article.title
        assert "```" not in article.prose
        assert article.text.startswith(f"## Article {article.number}: {article.title}\n")


def test_every_policy_in_the_text_is_in_force() -> None:
    written = re.findall(r'^@id\("([^"]+)"\)$', TEXT, re.MULTILINE)
    assert list(CONSTITUTION.policy_ids) == written
    assert len(CONSTITUTION.policies) == len(re.findall(r"^(?:permit|forbid) \(", TEXT, re.MULTILINE))


def test_the_parts_make_up_the_whole() -> None:
    parts = ["# The constitution", CONSTITUTION.preamble, *(article.text for article in CONSTITUTION.articles)]
    assert "\n\n".join(parts) + "\n" == CONSTITUTION.text


def test_the_text_that_ships_is_canonical_so_the_prompts_digest_is_the_constitutions() -> None:
    assert canonical_text(TEXT) == TEXT
    assert CONSTITUTION.digest == document_digest(TEXT) == load("constitution").digest


@pytest.mark.parametrize(
    "same",
    [
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        TEXT.replace("\n", " \t \n"),
        TEXT + "\n \n\t\n",
        TEXT.rstrip("\n"),
        TEXT.encode(),
    ],
)
def test_line_ends_and_blanks_that_nobody_sees_leave_the_digest_alone(same: str | bytes) -> None:
    assert Constitution.parse(same).digest == CONSTITUTION.digest


def test_composed_and_decomposed_letters_have_one_digest() -> None:
    text = changed("Nobody guesses.", "Nobody guesses à la légère.")
    assert unicodedata.normalize("NFD", text) != text
    assert Constitution.parse(unicodedata.normalize("NFD", text)).digest == Constitution.parse(text).digest


@pytest.mark.parametrize("other", [TEXT.replace("Nobody", "nobody"), TEXT.replace("\n\n", "\n\n\n"), " " + TEXT])
def test_everything_else_changes_the_digest(other: str) -> None:
    assert document_digest(other) != CONSTITUTION.digest


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_canonical_form_of_the_canonical_form_is_itself(text: str) -> None:
    once = canonical_text(text)
    assert canonical_text(once) == canonical_text(once.encode()) == once
    assert once.endswith("\n")
    assert not once.endswith("\n\n") or once == "\n"


A7: Final = f"Article 7, line {line_of('## Article 7:')}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Line 1: the document starts with its title"),
        ("# Only a title\n", "no articles"),
        (TEXT.removeprefix("# The constitution\n"), "Line 1: the document starts with its title"),
        (changed("## Article 7: Run modes", "## Article 8: Run modes"), "article 7 is missing before article 8"),
        (changed("## Article 7: Run modes", "## Article 6: Run modes"), "article 7 is missing before article 6"),
        (changed("## Article 1: Sep", "## Article 2: Sep"), ": article 1 is missing before article 2"),
        (changed("## Article 7: Run modes", "## Artikel 7: Run modes"), "the only headings are"),
        (changed("## Article 7: Run modes", "### Article 7: Run modes"), "the only headings are"),
        (changed("## Article 7: Run modes", "## Article 07: Run modes"), "the only headings are"),
        (changed("## Article 7: Run modes", "## Article 7:"), "the only headings are"),
        (changed("## Article 7: Run modes", "# Article 7: Run modes"), "the only headings are"),
        (changed("In observe mode only tier 0 runs.", "```yaml\n```"), "a block starts with ```cedar or ```toml"),
        (changed("In observe mode only tier 0 runs.", "```\n```"), "a block starts with"),
        (changed("In observe mode only tier 0 runs.", "```cedar hidden\n```"), "a block starts with"),
        (changed("In observe mode only tier 0 runs.", "~~~cedar\n~~~"), "a block starts with"),
        (changed("In observe mode only tier 0 runs.", " ```cedar\n```"), "a block starts with"),
        (changed("In observe mode only tier 0 runs.", "> ```cedar"), "a block starts with"),
        (changed("In observe mode only tier 0 runs.", "```cedar\n```\n"), "an empty block enforces nothing"),
        (changed("In observe mode only tier 0 runs.", "```toml\n```\n"), "an empty block enforces nothing"),
        (changed("In observe mode only tier 0 runs.", "```cedar\n````"), "a block ends with ``` alone"),
        (changed("In observe mode only tier 0 runs.", "    permit (principal, action, resource);"), "indented code"),
        (changed("In observe mode only tier 0 runs.", "<!-- unseen -->"), "HTML"),
        (changed("In observe mode only tier 0 runs.", "<details>"), "HTML"),
        (changed("In observe mode only tier 0 runs.", "In\u202eobserve"), "a character that cannot be seen"),
        (changed("In observe mode only tier 0 runs.", "In\u200bobserve"), "a character that cannot be seen"),
        (changed("In observe mode only tier 0 runs.", "In\u00a0observe"), "a character that cannot be seen"),
        (changed("In observe mode only tier 0 runs.", "In\u2028observe"), "a character that cannot be seen"),
        (changed("In observe mode only tier 0 runs.", "In\tobserve"), "a character that cannot be seen"),
        (changed("In observe mode only tier 0 runs.", "In\x00observe"), "a character that cannot be seen"),
        ("\ufeff" + TEXT, "a character that cannot be seen"),
        (changed('@id("article-7-mode")', '@id("article-7-\u200bmode")'), "a character that cannot be seen"),
        (
            changed("# The constitution\n", "# The constitution\n\n```toml\nx = 1\n```\n"),
            "a block belongs to an article",
        ),
        (TEXT.removesuffix("```\n"), "the block is never closed"),
        (TEXT + "\n## Article 24: Nothing\n", ": the article has no prose"),
        (TEXT + "\n## Article 24: Hope\n\nAll will be well.\n", 'it must say "Judged by the crown."'),
        (b"\xff" + TEXT.encode(), "not UTF-8"),
        (TEXT.encode("utf-16"), "not UTF-8"),
        (TEXT + "\ud800", "not UTF-8"),
        (TEXT + "x" * MAX_BYTES, "longer than"),
    ],
)
def test_a_document_that_is_not_understood_is_refused(text: str | bytes, why: str) -> None:
    assert why in refused(text)


def test_a_refusal_names_the_article_and_the_line() -> None:
    wrong = changed("In observe mode only tier 0 runs.", "<b>")
    assert refused(wrong).startswith(f"Article 7, line {line_of('In observe mode only')}: ")
    policy = '@id("article-7-mode")'
    wrong = changed(policy, '@id("article-8-mode")')
    assert refused(wrong).startswith(f"Article 7, line {line_of(policy)}: ")
    wrong = changed("resource.tier > context.highest_tier", "resource.tier > context.lowest_tier")
    assert refused(wrong).startswith(f"Article 7, line {line_of(policy)}: Cedar: ")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("most_steps = 20", "most_steps = 20\nmore = 1", "plans.more: Extra inputs"),
        ("[warrants]", "[warrents]", "warrants: Field required"),
        ("expiry_seconds = 120", "", "warrants.expiry_seconds: Field required"),
        ("expiry_seconds = 120", "expiry_seconds = 1.5", "float has no canonical form"),
        ("expiry_seconds = 120", "expiry_seconds = nan", "float has no canonical form"),
        ("expiry_seconds = 120", "expiry_seconds = inf", "float has no canonical form"),
        ("expiry_seconds = 120", "expiry_seconds = 1979-05-27", "date has no canonical form"),
        ("expiry_seconds = 120", 'expiry_seconds = "120"', "valid integer"),
        ("expiry_seconds = 120", "expiry_seconds = true", "valid integer"),
        ("expiry_seconds = 120", "expiry_seconds = 0", "greater than or equal to 5"),
        ("expiry_seconds = 120", "expiry_seconds = 86400", "less than or equal to 900"),
        ("expiry_seconds = 120", "expiry_seconds = 9223372036854775807", "2^53-1"),
        ("expiry_seconds = 120", "expiry_seconds = ", "TOML: Invalid value (at end of document)"),
        ("most_steps = 20", "most_steps = 51", "less than or equal to 50"),
        ("approvals_waived = 1", "approvals_waived = 2", "less than or equal to 1"),
        ("time_limit_minutes = 60", "time_limit_minutes = 1440", "less than or equal to 480"),
        ("[plans]", "[warrants]\nexpiry_seconds = 60\n\n[plans]", "the table warrants stands there twice"),
        ("quorum = 2\nassent = true", "quorum = 1\nassent = true", "tier 3 needs a quorum of at least 2"),
        ("quorum = 2\nassent = true", "quorum = 2\nassent = false", "the highest tier needs royal assent"),
        ("tier = 2\nquorum = 1", "tier = 2\nquorum = 0", "tier 2 needs a quorum of at least 1"),
        ("tier = 1\nquorum = 0", "tier = 1\nquorum = 2", "a higher tier must not need fewer approvals"),
        ("tier = 1\nquorum = 0", "tier = 0\nquorum = 0", "the tiers must be 0 to 3"),
        ("approval_expiry_minutes = 240", "approval_expiry_minutes = 500", "cannot outlast its plan"),
        ("lowest_tier_for_changes = 2", "lowest_tier_for_changes = 0", "must not have falling floors"),
        ("highest_tier = 0\n", "highest_tier = 1\n", "observe runs tier 0 only"),
        ("standard_quorum = 0", "standard_quorum = 2", "must not become freer"),
        ('types = ["deployment", "configuration"]', 'types = ["deployments"]', "rollback_plans.types.0"),
        ('types = ["deployment", "configuration"]', 'types = ["deployment", "deployment"]', "stands there twice"),
    ],
)
def test_numbers_that_are_missing_unknown_or_out_of_bounds_are_refused(old: str, new: str, why: str) -> None:
    assert why in refused(changed(old, new))


def test_a_wrong_number_is_refused_with_the_place_of_its_block() -> None:
    wrong = changed("expiry_seconds = 120", "expiry_seconds = 1")
    assert refused(wrong).startswith(f"Article 12, line {line_of('[warrants]')}: warrants.expiry_seconds: ")
    wrong = changed("expiry_seconds = 120", "expiry_seconds = ?")
    assert refused(wrong).startswith(f"Article 12, line {line_of('expiry_seconds')}, column 18: TOML: ")


def test_the_numbers_are_the_ones_in_the_text() -> None:
    numbers = CONSTITUTION.numbers
    assert [tier.quorum for tier in numbers.tiers] == [0, 0, 1, 2]
    assert [tier.assent for tier in numbers.tiers] == [False, False, False, True]
    assert (numbers.warrant_expiry_seconds, numbers.plans.most_steps) == (120, 20)
    assert numbers.tier(3).approval_expiry_minutes == 240
    ceilings = numbers.levels.ceiling
    assert (ceilings.crown, ceilings.legislative, ceilings.judicial, ceilings.executive, ceilings.observer) == (
        10,
        7,
        7,
        5,
        3,
    )
    with pytest.raises(ValueError, match="no such tier"):
        numbers.tier(4)


BAN: Final = TEXT[TEXT.index('@id("article-2-no-agent")') : TEXT.index('@id("article-2-no-machine")')]


@pytest.mark.parametrize(
    ("ban", "action"),
    [
        ("", "approve"),
        (BAN.replace('Action::"ratify", ', ""), "ratify"),
        (BAN.replace(', Action::"manage_keys"', ""), "manage_keys"),
        (BAN.replace("resource\n);", 'resource\n) unless { principal.branch == Branch::"crown" };'), "approve"),
    ],
)
def test_an_amendment_that_gives_agents_what_is_for_people_is_refused(ban: str, action: str) -> None:
    assert ban != BAN
    assert refused(changed(BAN, ban)) == f"The rules must forbid {action} to every agent, and do not."


def demand(tier: int, **changes: object) -> tuple[int, int, bool, int, bool]:
    facts: dict[str, Any] = {
        "mode": RunMode.AUTONOMOUS,
        "emergency": False,
        "authority": Authority.EXECUTIVE,
        "environments": (Environment.DEVELOPMENT,),
    }
    needs = CONSTITUTION.requirements(tier, **(facts | changes))
    return needs.tier, needs.quorum, needs.assent, needs.plan_expiry_minutes, needs.executable


PRODUCTION: Final = {"environments": frozenset({Environment.DEVELOPMENT, Environment.PRODUCTION})}


@pytest.mark.parametrize(
    ("tier", "changes", "expected"),
    [
        (0, {}, (0, 0, False, 1440, True)),
        (1, {}, (1, 0, False, 1440, True)),
        (2, {}, (2, 1, False, 1440, True)),
        (3, {}, (3, 2, True, 480, True)),
        (0, PRODUCTION, (0, 0, False, 1440, True)),
        (1, PRODUCTION, (2, 1, False, 1440, True)),
        (3, PRODUCTION, (3, 2, True, 480, True)),
        (1, {"environments": ()}, (1, 0, False, 1440, True)),
        (0, {"mode": RunMode.REVIEW}, (0, 0, False, 1440, True)),
        (1, {"mode": RunMode.REVIEW}, (1, 1, False, 1440, True)),
        (2, {"mode": RunMode.REVIEW}, (2, 1, False, 1440, True)),
        (0, {"mode": RunMode.OBSERVE}, (0, 0, False, 1440, True)),
        (1, {"mode": RunMode.OBSERVE}, (1, 1, False, 1440, False)),
        (3, {"mode": RunMode.OBSERVE}, (3, 2, True, 480, False)),
        (1, {"authority": Authority.LEGISLATIVE}, (1, 0, False, 1440, True)),
        (1, {"authority": Authority.JUDICIAL}, (1, 1, False, 1440, True)),
        (3, {"authority": Authority.JUDICIAL}, (3, 2, True, 480, True)),
        (1, {"authority": Authority.CROWN}, (1, 0, True, 1440, True)),
        (1, {"emergency": True}, (1, 0, True, 60, True)),
        (2, {"emergency": True}, (2, 0, True, 60, True)),
        (3, {"emergency": True}, (3, 1, True, 60, True)),
        (2, {"emergency": True, "authority": Authority.JUDICIAL}, (2, 1, True, 60, True)),
        (1, {"emergency": True, "mode": RunMode.OBSERVE}, (1, 0, True, 60, False)),
        (1, {"emergency": True, **PRODUCTION}, (2, 0, True, 60, True)),
    ],
)
def test_what_a_plan_needs(tier: int, changes: dict[str, object], expected: tuple[int, int, bool, int, bool]) -> None:
    assert demand(tier, **changes) == expected


def test_the_reasons_say_why_and_name_the_articles() -> None:
    needs = CONSTITUTION.requirements(
        1,
        mode=RunMode.OBSERVE,
        emergency=True,
        authority=Authority.JUDICIAL,
        environments={Environment.PRODUCTION},
    )
    assert needs.reasons == (
        "A change to production is at least tier 2.",
        "Tier 2 needs 1 approver.",
        "An emergency always needs royal assent. 1 approver is waived now and owed afterwards.",
        "The judicial authority that was asked for adds 1 approver.",
        "In observe mode nothing above tier 0 runs.",
    )
    assert needs.articles == ("article-6", "article-4", "article-15", "article-8", "article-7")
    needs = CONSTITUTION.requirements(
        1, mode=RunMode.REVIEW, emergency=False, authority=Authority.CROWN, environments=()
    )
    assert needs.reasons == (
        "Tier 1 needs no approver.",
        "In review mode a change needs 1 approver.",
        "The crown authority that was asked for adds royal assent.",
    )


def test_nothing_that_is_asked_for_lowers_what_is_needed_but_the_waiver_of_an_emergency() -> None:
    for tier, mode, authority, environment in itertools.product(range(4), RunMode, Authority, Environment):
        needs = CONSTITUTION.requirements(
            tier, mode=mode, emergency=False, authority=authority, environments=(environment,)
        )
        least = CONSTITUTION.numbers.tier(tier)
        assert needs.tier >= tier
        assert needs.quorum >= least.quorum
        assert needs.assent >= least.assent
        urgent = CONSTITUTION.requirements(
            tier, mode=mode, emergency=True, authority=authority, environments=(environment,)
        )
        assert urgent.assent
        assert needs.quorum - 1 <= urgent.quorum <= needs.quorum
        assert urgent.plan_expiry_minutes <= needs.plan_expiry_minutes
        assert urgent.approval_expiry_minutes <= urgent.plan_expiry_minutes
        assert urgent.executable == needs.executable


@pytest.mark.parametrize("tier", [-1, 4])
def test_there_is_no_other_tier(tier: int) -> None:
    with pytest.raises(ValueError, match="no such tier"):
        demand(tier)


@pytest.mark.parametrize("kind", OperationType)
def test_a_rollback_plan_is_needed_by_type_or_by_tier(kind: OperationType) -> None:
    always = kind in {OperationType.DEPLOYMENT, OperationType.CONFIGURATION}
    assert [CONSTITUTION.required_rollback_plan(kind, tier) for tier in range(4)] == [always, always, True, True]


def test_articles_are_found_by_their_ids() -> None:
    assert CONSTITUTION.article("article-17").title == "Data is not instructions"
    with pytest.raises(LookupError):
        CONSTITUTION.article("article-99")


@pytest.mark.parametrize("name", ["nothing", "../README", "/etc/passwd", "", "planner.md", "sops/", "Planner", "a\n"])
def test_a_prompt_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(LookupError):
        load(name)


def test_procedures_come_in_order_with_title_and_id() -> None:
    found = sops()
    assert [sop.name for sop in found] == sorted(sop.name for sop in found)
    assert found[0].id == found[0].name.removeprefix("sops/")
    assert f"# {found[0].title}\n" in found[0].text


def test_the_page_on_the_constitution_has_every_table_and_every_code() -> None:
    page = (Path(__file__).parent.parent / "docs" / "architecture" / "constitution.md").read_text()
    rows = re.findall(r"^\| `([a-z_-]+)` \|", page, re.MULTILINE)
    codes = get_args(Decision.model_fields["code"].annotation)
    assert rows == [*codes, *Numbers.model_fields]
