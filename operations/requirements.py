"""The constitution's numbers, typed and bounded, and what they demand of a plan.

The numbers stand in the document's `toml` blocks. The bounds stand here: an amendment may tighten, and it may loosen
only as far as they go.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, model_validator

from operations.articles import Block
from operations.canonical import JsonObject, Record, canonical
from operations.errors import ConstitutionInvalid
from operations.model import Authority, OperationType, RunMode
from operations.systems import Environment

HIGHEST_TIER: Final = 3
"""There are tiers 0 to 3."""

TierNumber = Annotated[int, Field(ge=0, le=HIGHEST_TIER)]
Quorum = Annotated[int, Field(ge=0, le=10)]
Minutes = Annotated[int, Field(ge=5, le=10_080)]
"""Five minutes to one week."""
Level = Annotated[int, Field(ge=1, le=10)]


class Tier(Record):
    """What a plan of one tier needs."""

    tier: TierNumber
    quorum: Quorum
    assent: bool
    plan_expiry_minutes: Minutes
    approval_expiry_minutes: Minutes

    @model_validator(mode="after")
    def _means_what_the_tier_means(self) -> Self:
        if self.quorum < max(0, self.tier - 1):
            raise ValueError(f"tier {self.tier} needs a quorum of at least {self.tier - 1}")
        if self.tier == HIGHEST_TIER and not self.assent:
            raise ValueError("the highest tier needs royal assent")
        if self.approval_expiry_minutes > self.plan_expiry_minutes:
            raise ValueError("an approval cannot outlast its plan")
        return self


class EnvironmentFloor(Record):
    """The lowest tier of a plan that changes something in an environment."""

    lowest_tier_for_changes: TierNumber


class Environments(Record):
    """A floor for each environment; production's is the highest."""

    development: EnvironmentFloor
    staging: EnvironmentFloor
    production: EnvironmentFloor

    @model_validator(mode="after")
    def _production_weighs_most(self) -> Self:
        floors = [getattr(self, each.value).lowest_tier_for_changes for each in Environment]
        if floors != sorted(floors):
            raise ValueError("development, staging and production must not have falling floors")
        return self

    def floor(self, environments: Iterable[Environment]) -> tuple[int, Environment | None]:
        """The highest floor among `environments`, and which of them sets it."""
        floors = [(int(getattr(self, each.value).lowest_tier_for_changes), each) for each in environments]
        return max(floors, key=lambda pair: pair[0], default=(0, None))


class Mode(Record):
    """What runs in a run mode, and how many people must approve tier 1 in it."""

    highest_tier: TierNumber
    standard_quorum: Quorum


class Modes(Record):
    """The three run modes, from the freest to the strictest."""

    autonomous: Mode
    review: Mode
    observe: Mode

    @model_validator(mode="after")
    def _each_is_stricter(self) -> Self:
        ordered = [self.autonomous, self.review, self.observe]
        tiers = [each.highest_tier for each in ordered]
        quorums = [each.standard_quorum for each in ordered]
        if tiers != sorted(tiers, reverse=True) or quorums != sorted(quorums):
            raise ValueError("autonomous, review and observe must not become freer")
        if self.observe.highest_tier > 0 or self.review.standard_quorum < 1:
            raise ValueError("observe runs tier 0 only, and review asks for at least one approver")
        return self

    def of(self, mode: RunMode) -> Mode:
        """The numbers of one mode."""
        found: Mode = getattr(self, mode.value)
        return found


class Addition(Record):
    """What asking for a branch's authority adds."""

    quorum: Quorum
    assent: bool


class Authorities(Record):
    """What each authority adds to the tier's demands."""

    legislative: Addition
    executive: Addition
    judicial: Addition
    crown: Addition

    def of(self, authority: Authority) -> Addition:
        """What one authority adds."""
        found: Addition = getattr(self, authority.value)
        return found


class Ceilings(Record):
    """The highest level that an agent of a branch can have."""

    crown: Level
    legislative: Level
    judicial: Level
    executive: Level
    observer: Level


class Needed(Record):
    """The level that an agent needs for an action. Other actions are not for agents at all."""

    read: Level
    start: Level
    execute: Level
    plan: Level
    evaluate: Level
    rule: Level
    halt: Level


class Levels(Record):
    """Agents' levels. They are limits and permit nothing."""

    ceiling: Ceilings
    needed: Needed

    def ceiling_of(self, branch: str) -> int:
        """The ceiling of a branch; 0, which suffices for nothing, when there is no such branch."""
        return int(getattr(self.ceiling, branch)) if branch in Ceilings.model_fields else 0

    def needed_for(self, action: str) -> int:
        """The level needed for an action; 0 for those that other rules keep from agents."""
        return int(getattr(self.needed, action)) if action in Needed.model_fields else 0


class Plans(Record):
    """How long a plan may be."""

    most_steps: Annotated[int, Field(ge=1, le=50)]


class RollbackPlans(Record):
    """Which requests must carry a rollback plan: those of these types, and all from this tier on."""

    types: tuple[OperationType, ...]
    from_tier: TierNumber

    @model_validator(mode="after")
    def _types_are_distinct(self) -> Self:
        if len(set(self.types)) != len(self.types):
            raise ValueError("a type stands there twice")
        return self


class Warrants(Record):
    """How long a warrant is valid."""

    expiry_seconds: Annotated[int, Field(ge=5, le=900)]


class Emergencies(Record):
    """What is waived beforehand and owed afterwards."""

    approvals_waived: Annotated[int, Field(ge=0, le=1)]
    time_limit_minutes: Annotated[int, Field(ge=5, le=480)]
    ratify_within_minutes: Minutes


class Numbers(Record):
    """All numbers of the constitution. Every table must be there, and no other."""

    tiers: tuple[Tier, ...]
    environments: Environments
    modes: Modes
    authorities: Authorities
    levels: Levels
    plans: Plans
    rollback_plans: RollbackPlans
    warrants: Warrants
    emergencies: Emergencies

    @model_validator(mode="after")
    def _tiers_rise(self) -> Self:
        if [each.tier for each in self.tiers] != list(range(HIGHEST_TIER + 1)):
            raise ValueError(f"the tiers must be 0 to {HIGHEST_TIER}, in this order")
        quorums = [each.quorum for each in self.tiers]
        if quorums != sorted(quorums):
            raise ValueError("a higher tier must not need fewer approvals")
        return self

    def tier(self, number: int) -> Tier:
        """What a plan of that tier needs.

        Raises:
            ValueError: there is no such tier.
        """
        if not 0 <= number <= HIGHEST_TIER:
            raise ValueError("there is no such tier")
        return self.tiers[number]

    @property
    def warrant_expiry_seconds(self) -> int:
        """How long a warrant is valid."""
        return self.warrants.expiry_seconds


def read_numbers(blocks: Iterable[Block]) -> tuple[Numbers, dict[str, str]]:
    """The numbers in `toml` blocks, and the id of the article in which each table stands.

    Raises:
        ConstitutionInvalid: with the article and the line.
    """
    tables: JsonObject = {}
    places: dict[str, str] = {}
    homes: dict[str, str] = {}
    for block in blocks:
        place = f"Article {block.article}, line {block.line}"
        try:
            parsed = tomllib.loads(block.text)
            canonical(parsed)
        except tomllib.TOMLDecodeError as error:
            raise ConstitutionInvalid(_toml_problem(block, str(error))) from error
        except ValueError as error:
            raise ConstitutionInvalid(f"{place}: TOML: {error}") from error
        if not parsed:
            raise ConstitutionInvalid(f"{place}: an empty block enforces nothing")
        for table, value in parsed.items():
            if table in tables:
                raise ConstitutionInvalid(f"{place}: the table {table} stands there twice")
            tables[table], places[table], homes[table] = value, place, f"article-{block.article}"
    try:
        return Numbers.model_validate_json(canonical(tables)), homes
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the numbers"
        place = places.get(str(first["loc"][0]) if first["loc"] else "", "The document")
        raise ConstitutionInvalid(f"{place}: {where}: {first['msg']}") from error


def _toml_problem(block: Block, problem: str) -> str:
    """The parser's words, with the line counted in the document instead of in the block."""
    found = re.search(r" \(at line (\d+), column (\d+)\)$", problem)
    if not found:
        return f"Article {block.article}, line {block.line}: TOML: {problem}"
    line = block.line + int(found[1]) - 1
    return f"Article {block.article}, line {line}, column {found[2]}: TOML: {problem[: found.start()]}"


class Requirements(Record):
    """What must be there before a plan may start.

    Attributes:
        tier: the plan's tier, raised by the environments it changes.
        quorum: how many distinct people other than the requester must approve.
        assent: whether the crown must assent.
        plan_expiry_minutes: how long the plan waits for a decision.
        approval_expiry_minutes: how long an approval is valid before the start.
        executable: whether the run mode lets a plan of this tier run at all.
        reasons: why, in sentences for people.
        articles: ids of the articles that the requirements rest on.
    """

    tier: TierNumber
    quorum: Quorum
    assent: bool
    plan_expiry_minutes: int
    approval_expiry_minutes: int
    executable: bool
    reasons: tuple[str, ...]
    articles: tuple[str, ...]


def _approvers(count: int) -> str:
    return "no approver" if count == 0 else "1 approver" if count == 1 else f"{count} approvers"


def demands(
    numbers: Numbers,
    homes: Mapping[str, str],
    tier: int,
    *,
    mode: RunMode,
    emergency: bool,
    authority: Authority,
    environments: Iterable[Environment],
) -> Requirements:
    """What `numbers` demand of a plan. `homes` says in which article each table stands.

    Raises:
        ValueError: there is no such tier.
    """
    numbers.tier(tier)
    why: list[tuple[str, str]] = []
    floor, environment = numbers.environments.floor(environments)
    if environment and 0 < tier < floor:
        why.append(("environments", f"A change to {environment.value} is at least tier {floor}."))
        tier = floor
    own, run, added = numbers.tier(tier), numbers.modes.of(mode), numbers.authorities.of(authority)
    why.append(("tiers", f"Tier {tier} needs {_approvers(own.quorum)}{' and royal assent' if own.assent else ''}."))
    quorum, assent, expiry = own.quorum, own.assent or added.assent, own.plan_expiry_minutes
    if tier > 0 and run.standard_quorum > quorum:
        quorum = run.standard_quorum
        why.append(("modes", f"In {mode.value} mode a change needs {_approvers(quorum)}."))
    if emergency:
        waived = min(quorum, numbers.emergencies.approvals_waived)
        quorum, assent = quorum - waived, True
        expiry = min(expiry, numbers.emergencies.time_limit_minutes)
        owed = f" {_approvers(waived).capitalize()} is waived now and owed afterwards." if waived else ""
        why.append(("emergencies", f"An emergency always needs royal assent.{owed}"))
    if added.quorum > quorum or (added.assent and not own.assent):
        quorum = max(quorum, added.quorum)
        extra = " and ".join([_approvers(added.quorum)] * (added.quorum > 0) + ["royal assent"] * added.assent)
        why.append(("authorities", f"The {authority.value} authority that was asked for adds {extra}."))
    executable = tier <= run.highest_tier
    if not executable:
        why.append(("modes", f"In {mode.value} mode nothing above tier {run.highest_tier} runs."))
    return Requirements(
        tier=tier,
        quorum=quorum,
        assent=assent,
        plan_expiry_minutes=expiry,
        approval_expiry_minutes=min(own.approval_expiry_minutes, expiry),
        executable=executable,
        reasons=tuple(sentence for _, sentence in why),
        articles=tuple(dict.fromkeys(homes[table] for table, _ in why)),
    )
