"""The constitution's Cedar policies: validated and parsed once, asked often.

Everything is closed. A request that fits no permit, a fact that a policy needs and was not given, and a policy that
cannot be evaluated are all a no. The schema `policy.cedarschema` says what policies may speak about.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import cedarpy
import orjson

from operations.articles import Block
from operations.errors import ConstitutionInvalid
from operations.model import Principal, PrincipalKind
from operations.policy import Action, Decision, Kind, Reason, Resource

_POLICY_ID: Final = re.compile(r"article-([1-9][0-9]*)-[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_UNEVALUATED: Final = re.compile(
    r"while evaluating policy `(?P<policy>[a-z0-9-]+)`(?:.*attribute `(?P<fact>[a-z_]+)`)?"
)
_NOT_FACTS: Final = {"kind", "id", "type", "authority", "environment"}


@dataclass(frozen=True, slots=True)
class Policy:
    """One Cedar policy with what it says to people."""

    id: str
    article: str
    reason: str
    effect: Literal["permit", "forbid"]


@cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(Path(__file__).with_name("policy.cedarschema").read_text(encoding="utf-8"))


@cache
def _fits() -> frozenset[tuple[str, str]]:
    """The pairs of action and kind of resource that the schema knows: asked of the schema itself, once."""
    return frozenset(
        (action.value, kind)
        for action in Action
        for kind in get_args(Kind)
        if cedarpy.validate_policies(
            f'permit (principal, action == Action::"{action.value}", resource is {kind.capitalize()});', _schema()
        ).validation_passed
    )


class _Docket:
    """The policies that can speak about one action, parsed, and the facts that they mention.

    Leaving out the others changes no decision, because their scope names other actions; leaving out facts that no
    policy mentions changes none either. Both halve what a decision costs.
    """

    def __init__(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        document = {"staticPolicies": bodies, "templates": {}, "templateLinks": []}
        self.parsed = cedarpy.PolicySet.from_json_str(orjson.dumps(document).decode())
        self._mentioned: dict[str, set[str]] = {"principal": set(), "resource": set(), "context": set()}
        self._everything = False
        for body in bodies.values():
            self._walk(body["conditions"])

    def _walk(self, node: object) -> None:
        match node:
            case {".": {"left": {"Var": str(variable)}, "attr": str(fact)}}:
                self._mentioned[variable].add(fact)
            case {"has": {"left": {"Var": str(variable)}, "attr": str(fact)}}:
                self._mentioned[variable].add(fact)
            case {"Var": "context"}:
                self._everything = True
            case dict():
                for each in node.values():
                    self._walk(each)
            case list():
                for each in node:
                    self._walk(each)
            case _:
                return

    def needed(self, variable: str, facts: Mapping[str, object]) -> dict[str, object]:
        """Those of the known facts about `variable` that a policy mentions."""
        if self._everything:
            return dict(facts)
        mentioned = self._mentioned[variable]
        return {fact: value for fact, value in facts.items() if fact in mentioned}


def _speaks_about(body: Mapping[str, Any], action: Action) -> bool:
    match body["action"]:
        case {"op": "==", "entity": {"id": named}}:
            return bool(named == action.value)
        case {"op": "in", "entities": list(entities)}:
            return any(entity["id"] == action.value for entity in entities)
        case _:
            return True


class Policies:
    """Validated policies, ready to be asked."""

    def __init__(self, policies: Mapping[str, Policy], bodies: Mapping[str, Mapping[str, Any]]) -> None:
        self._policies = policies
        self._order = {ident: place for place, ident in enumerate(policies)}
        self._dockets = {
            action: _Docket({ident: body for ident, body in bodies.items() if _speaks_about(body, action)})
            for action in Action
        }
        self._decisions: dict[tuple[str, ...], Decision] = {}

    def __len__(self) -> int:
        return len(self._policies)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._policies.values())

    @classmethod
    def parse(cls, blocks: Sequence[Block]) -> Self:
        """Validate the Cedar blocks against the schema and keep them parsed.

        Every policy carries `@id("article-N-slug")`, unique and of its own article, and `@reason("...")`, and no other
        annotation. A permit names its actions. Templates are refused.

        Raises:
            ConstitutionInvalid: with the article and the line.
        """
        policies: dict[str, Policy] = {}
        bodies: dict[str, dict[str, Any]] = {}
        for block in blocks:
            for ident, body in _bodies(block):
                if ident in policies:
                    raise _invalid(block, f"the id {ident} stands there twice", ident)
                policies[ident] = _policy(block, ident, body)
                bodies[ident] = body
            _validate(block)
        return cls(policies, bodies)

    def decide(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        situation: Mapping[str, object],
        facts: Mapping[str, object],
    ) -> Decision:
        """Ask Cedar. `situation` is the request's context; `facts` overrule the resource's own."""
        if (action.value, resource.kind) not in _fits():
            return _undecidable()
        docket = self._dockets[action]
        known = resource.model_dump(mode="json", exclude=_NOT_FACTS, exclude_none=True) | dict(facts)
        if resource.approvers is not None:
            known["approvals"] = len(resource.approvers)
        who: dict[str, object] = {"name": principal.id, "person": principal.person}
        if principal.kind is PrincipalKind.AGENT:
            who["branch"] = enum_value("Branch", branch_name(principal))
        one = {"type": principal.kind.value.capitalize(), "id": principal.id}
        other = {"type": resource.kind.capitalize(), "id": resource.id}
        roles = [{"type": "Role", "id": role.value} for role in principal.roles]
        entities = [
            {"uid": one, "attrs": docket.needed("principal", who), "parents": roles},
            {"uid": other, "attrs": docket.needed("resource", known), "parents": []},
        ]
        try:
            answer = cedarpy.is_authorized(
                {
                    "principal": one,
                    "action": {"type": "Action", "id": action.value},
                    "resource": other,
                    "context": orjson.dumps(docket.needed("context", situation)).decode(),
                },
                docket.parsed,
                orjson.dumps(entities).decode(),
            )
        except (ValueError, orjson.JSONEncodeError):
            return _undecidable()
        return self._decision(answer)

    def _decision(self, answer: cedarpy.AuthzResult) -> Decision:
        decided = tuple(answer.diagnostics.reasons)
        if answer.diagnostics.errors or answer.decision is cedarpy.Decision.NoDecision:
            forbids = tuple(ident for ident in decided if self._policies[ident].effect == "forbid")
            errors = tuple(self._unevaluated(error) for error in answer.diagnostics.errors)
            return Decision(
                allowed=False,
                code="forbidden" if forbids else "undecidable",
                reasons=self._reasons(forbids) + errors or _undecidable().reasons,
            )
        known = self._decisions.get(decided)
        if known is None or known.allowed is not answer.allowed:
            known = self._decisions[decided] = self._understood(decided, allowed=answer.allowed)
        return known

    def _understood(self, decided: tuple[str, ...], *, allowed: bool) -> Decision:
        if not decided:
            nothing = Reason(article=None, policy=None, text="No article permits this.")
            return Decision(allowed=False, code="not-permitted", reasons=(nothing,))
        return Decision(allowed=allowed, code="permitted" if allowed else "forbidden", reasons=self._reasons(decided))

    def _reasons(self, decided: tuple[str, ...]) -> tuple[Reason, ...]:
        found = [self._policies[ident] for ident in sorted(decided, key=self._order.__getitem__)]
        return tuple(Reason(article=policy.article, policy=policy.id, text=policy.reason) for policy in found)

    def _unevaluated(self, error: str) -> Reason:
        found = _UNEVALUATED.search(error)
        policy = self._policies.get(found["policy"]) if found else None
        if not found or not policy:
            return _undecidable().reasons[0]
        missing = f" It needs the fact `{found['fact']}`, which was not given." if found["fact"] else ""
        title = policy.article.replace("-", " ").capitalize()
        return Reason(article=policy.article, policy=policy.id, text=f"{title} could not be evaluated.{missing}")


def _undecidable() -> Decision:
    reason = Reason(article=None, policy=None, text="The rules do not fit this request, so it is refused.")
    return Decision(allowed=False, code="undecidable", reasons=(reason,))


def enum_value(kind: str, ident: str) -> dict[str, dict[str, str]]:
    """A value of one of the schema's enumerations, as it stands in a context or an attribute."""
    return {"__entity": {"type": kind, "id": ident}}


def branch_name(principal: Principal) -> str:
    """The branch in an agent's id; text that is no branch's name fits no rule."""
    return principal.id.removeprefix("agent:")


def _invalid(block: Block, why: str, ident: str = "") -> ConstitutionInvalid:
    before, found, _ = block.text.partition(f'@id("{ident}")')
    line = block.line + (before.count("\n") if ident and found else 0)
    return ConstitutionInvalid(f"Article {block.article}, line {line}: {why}")


def _bodies(block: Block) -> list[tuple[str, dict[str, Any]]]:
    try:
        parsed = orjson.loads(cedarpy.policies_to_json_str(block.text))
    except ValueError as error:
        raise _invalid(block, f"Cedar: {error}") from error
    if parsed["templates"] or parsed["templateLinks"]:
        raise _invalid(block, "a template decides nothing")
    if not parsed["staticPolicies"]:
        raise _invalid(block, "an empty block enforces nothing")
    ordered = sorted(parsed["staticPolicies"].items(), key=lambda item: int(item[0].removeprefix("policy")))
    return [(str((body.get("annotations") or {}).get("id") or ""), body) for _, body in ordered]


def _policy(block: Block, ident: str, body: Mapping[str, Any]) -> Policy:
    match = _POLICY_ID.fullmatch(ident)
    if not match or int(match[1]) != block.article:
        raise _invalid(block, f'a policy needs @id("article-{block.article}-...")', ident)
    annotations = body["annotations"]
    if set(annotations) != {"id", "reason"} or not (annotations["reason"] or "").strip():
        raise _invalid(block, f'{ident} needs @reason("..."), and no other annotation', ident)
    if body["effect"] == "permit" and body["action"]["op"] == "All":
        raise _invalid(block, f"{ident} permits every action; a permit names its actions", ident)
    return Policy(id=ident, article=f"article-{match[1]}", reason=annotations["reason"], effect=body["effect"])


def _validate(block: Block) -> None:
    result = cedarpy.validate_policies(block.text, _schema())
    if not result.validation_passed:
        first = result.errors[0]
        raise _invalid(block, f"Cedar: {first.error}", result.id_annotations_by_policy_id.get(first.policy_id, ""))
